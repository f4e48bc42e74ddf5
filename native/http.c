/* SPDX-License-Identifier: Apache-2.0
 * HTTP/1.1 messages that came whole in one read, and the head of an answer: the twin of llhttp with our rules on top.
 *
 * Plain is: one message, nothing before or after it; names and values of printable ASCII; one length and no other
 * framing (answers: or chunks without extensions and trailers); no header that changes what the connection is. All
 * else is None, and llhttp reads the same bytes.
 */
#include "native.h"

static inline unsigned char lower(unsigned char c) { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; }

static int like(Span span, const char *text, Py_ssize_t size) {
    if (span.size != size) return 0;
    for (Py_ssize_t i = 0; i < size; i++)
        if (lower(span.at[i]) != (unsigned char)text[i]) return 0;
    return 1;
}
#define LIKE(span, text) like((span), (text), (Py_ssize_t)sizeof(text) - 1)

static int is_token(unsigned char c) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return 1;
    switch (c) {
        case '!': case '#': case '$': case '%': case '&': case '\'': case '*': case '+': case '-': case '.': case '^':
        case '_': case '`': case '|': case '~':
            return 1;
        default:
            return 0;
    }
}

/* One line `Name: value CRLF`; the place behind it, or NULL. The value is without the blanks before it, and has none behind. */
static const unsigned char *header(const unsigned char *p, const unsigned char *end, Span *name, Span *value) {
    name->at = p;
    while (p < end && is_token(*p)) p++;
    name->size = p - name->at;
    if (name->size == 0 || p >= end || *p != ':') return NULL;
    p++;
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    value->at = p;
    while (p < end && *p >= 0x20 && *p <= 0x7e) p++;
    value->size = p - value->at;
    if (end - p < 2 || p[0] != '\r' || p[1] != '\n') return NULL;
    if (value->size == 0 || value->at[value->size - 1] == ' ') return NULL;
    return p + 2;
}

static int64_t length_of(Span digits) {
    if (digits.size > 1 && digits.at[0] == '0') return -1;
    return json_count(digits);
}

/* What a header means in requests and answers alike: 1 nothing that matters, 0 it makes the message one that is not plain.
 * Takes the media type and the length where it is one of those. */
static int is_plain(Span name, Span value, Span *type, int64_t *length) {
    switch (name.size) {
        case 7:
            return !(LIKE(name, "upgrade") || LIKE(name, "trailer"));
        case 10:
            return !LIKE(name, "connection") || LIKE(value, "keep-alive");
        case 12:
            if (!LIKE(name, "content-type")) return 1;
            if (type->at != NULL) return 0;
            *type = value;
            return 1;
        case 14:
            if (!LIKE(name, "content-length")) return 1;
            if (*length >= 0) return 0;
            *length = length_of(value);
            return *length >= 0;
        case 16:
            return !LIKE(name, "proxy-connection");
        default:
            return 1;
    }
}

static PyObject *bytes_of(Span span) { return PyBytes_FromStringAndSize((const char *)span.at, span.size); }

static int expect(Py_ssize_t count, Py_ssize_t wanted, const char *usage) {
    if (count == wanted) return 1;
    PyErr_SetString(PyExc_TypeError, usage);
    return 0;
}

/* read_request(data, max_head, max_headers, max_target, max_body)
 * -> (target, authorization or None, content type, body) or None */
PyObject *read_request(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Span data, name, value, target, authorization = {NULL, 0}, type = {NULL, 0}, host = {NULL, 0};
    Py_ssize_t limits[4], headers = 0;
    int64_t length = -1;
    if (!expect(count, 5, "read_request(data, max_head, max_headers, max_target, max_body)") || !span_of(args[0], &data)) return NULL;
    for (int i = 0; i < 4; i++) {
        limits[i] = PyLong_AsSsize_t(args[i + 1]);
        if (limits[i] == -1 && PyErr_Occurred()) return NULL;
    }
    const unsigned char *p = data.at, *end = data.at + data.size;
    if (data.size < 16 || memcmp(p, "POST /", 6) != 0) Py_RETURN_NONE;
    target.at = p += 5;
    while (p < end && (*p == '/' || *p == '_' || *p == '-' || *p == '.' || (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9'))) p++;
    target.size = p - target.at;
    if (target.size > limits[2] || end - p < 11 || memcmp(p, " HTTP/1.1\r\n", 11) != 0) Py_RETURN_NONE;
    p += 11;
    for (;;) {
        if (end - p < 2) Py_RETURN_NONE;
        if (p[0] == '\r' && p[1] == '\n') break;
        p = header(p, end, &name, &value);
        if (p == NULL || ++headers > limits[1] || !is_plain(name, value, &type, &length)) Py_RETURN_NONE;
        switch (name.size) {
            case 2:
                if (LIKE(name, "te")) Py_RETURN_NONE;
                break;
            case 4:
                if (LIKE(name, "host")) {
                    if (host.at != NULL) Py_RETURN_NONE;
                    host = value;
                }
                break;
            case 6:
                if (LIKE(name, "expect")) Py_RETURN_NONE;
                break;
            case 13:
                if (LIKE(name, "authorization")) {
                    if (authorization.at != NULL) Py_RETURN_NONE;
                    authorization = value;
                }
                break;
            case 15:
                if (LIKE(name, "x-forwarded-for")) Py_RETURN_NONE;
                break;
            case 16:
                if (LIKE(name, "content-encoding")) Py_RETURN_NONE;
                break;
            case 17:
                if (LIKE(name, "transfer-encoding")) Py_RETURN_NONE;
                break;
            default:
                break;
        }
    }
    p += 2;
    if (host.at == NULL || length <= 0 || length > limits[3] || p - data.at > limits[0] || end - p != length) Py_RETURN_NONE;
    Span body = {p, end - p};
    PyObject *found[4] = {
        bytes_of(target), authorization.at != NULL ? bytes_of(authorization) : Py_NewRef(Py_None), bytes_of(type), bytes_of(body),
    };
    return packed(found, 4);
}

/* The size that a line of a chunk tells, at most 2^28; -1 where it is not plain. Moves `p` behind the line. */
static int64_t chunk_size(const unsigned char **p, const unsigned char *end) {
    int64_t size = 0;
    int digits = 0;
    const unsigned char *q = *p;
    for (; q < end && digits < 8; q++, digits++) {
        unsigned char c = *q;
        if (c >= '0' && c <= '9') size = size * 16 + (c - '0');
        else if (c >= 'a' && c <= 'f') size = size * 16 + (c - 'a' + 10);
        else if (c >= 'A' && c <= 'F') size = size * 16 + (c - 'A' + 10);
        else break;
    }
    if (digits == 0 || digits > 7 || end - q < 2 || q[0] != '\r' || q[1] != '\n') return -1;
    *p = q + 2;
    return size;
}

/* The body out of its chunks, the last of which ends at `end`; None where they are not plain, or not all there. */
static PyObject *unchunked(const unsigned char *p, const unsigned char *end) {
    Py_ssize_t total = 0;
    const unsigned char *q = p;
    for (;;) {
        int64_t size = chunk_size(&q, end);
        if (size < 0) Py_RETURN_NONE;
        if (size == 0) break;
        if (end - q < size + 2 || q[size] != '\r' || q[size + 1] != '\n') Py_RETURN_NONE;
        total += (Py_ssize_t)size;
        q += size + 2;
    }
    if (end - q != 2 || q[0] != '\r' || q[1] != '\n') Py_RETURN_NONE;
    PyObject *body = PyBytes_FromStringAndSize(NULL, total);
    if (body == NULL) return NULL;
    char *out = PyBytes_AS_STRING(body), *last = out + total;
    for (;;) { /* the same steps again, over the same bytes */
        int64_t size = chunk_size(&p, end);
        if (size <= 0 || last - out < size) break;
        memcpy(out, p, (size_t)size);
        out += size;
        p += size + 2;
    }
    return body;
}

/* read_answer(data) -> (content type, body) or None: an answer of status 200, whole */
PyObject *read_answer(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Span data, name, value, type = {NULL, 0};
    int64_t length = -1;
    int chunked = 0;
    if (!expect(count, 1, "read_answer(data)") || !span_of(args[0], &data)) return NULL;
    const unsigned char *p = data.at, *end = data.at + data.size;
    if (data.size < 17 || memcmp(p, "HTTP/1.1 200 ", 13) != 0) Py_RETURN_NONE;
    p += 13;
    while (p < end && *p >= 0x20 && *p <= 0x7e) p++;
    if (end - p < 2 || p[0] != '\r' || p[1] != '\n') Py_RETURN_NONE;
    p += 2;
    const unsigned char *most = end - p > 16384 ? p + 16384 : end; /* of a head */
    for (;;) {
        if (most - p < 2) Py_RETURN_NONE;
        if (p[0] == '\r' && p[1] == '\n') break;
        p = header(p, most, &name, &value);
        if (p == NULL || !is_plain(name, value, &type, &length)) Py_RETURN_NONE;
        if (LIKE(name, "transfer-encoding")) {
            if (chunked || !LIKE(value, "chunked")) Py_RETURN_NONE;
            chunked = 1;
        }
    }
    p += 2;
    PyObject *body;
    if (chunked) {
        if (length >= 0) Py_RETURN_NONE; /* told twice, and perhaps differently */
        body = unchunked(p, end);
    } else {
        if (length <= 0 || end - p != length) Py_RETURN_NONE;
        body = PyBytes_FromStringAndSize((const char *)p, end - p);
    }
    if (body == NULL || body == Py_None) return body;
    PyObject *found[2] = {bytes_of(type), body};
    return packed(found, 2);
}

/* The digits of a number that is not negative; at most 20 of them, `room` ends behind them. */
Span digits_of(int64_t number, unsigned char room[20]) {
    int at = 20;
    do room[--at] = (unsigned char)('0' + number % 10);
    while (number /= 10);
    return (Span){room + at, 20 - at};
}

/* plain_head(status, reason, kind, length, request_id, extra, body) -> head and body in one, as wire/http.py spells them */
PyObject *plain_head(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Span reason, kind, id, extra, body;
    if (!expect(count, 7, "plain_head(status, reason, kind, length, request_id, extra, body)")) return NULL;
    long status = PyLong_AsLong(args[0]);
    long long length = PyLong_AsLongLong(args[3]);
    if ((status == -1 || length == -1) && PyErr_Occurred()) return NULL;
    if (status < 0 || length < 0) {
        PyErr_SetString(PyExc_ValueError, "no such status or length");
        return NULL;
    }
    if (!text_of(args[4], &id) || !span_of(args[1], &reason) || !span_of(args[2], &kind) || !span_of(args[5], &extra) || !span_of(args[6], &body)) return NULL;
    unsigned char room[2][20];
    const Span pieces[] = {
        TEXT("HTTP/1.1 "), digits_of(status, room[0]), TEXT(" "), reason,
        TEXT("\r\ncontent-type: "), kind,
        TEXT("\r\ncontent-length: "), digits_of(length, room[1]),
        TEXT("\r\nx-request-id: "), id,
        TEXT("\r\nx-content-type-options: nosniff\r\n"), extra, TEXT("\r\n"), body,
    };
    return joined(pieces, (int)(sizeof pieces / sizeof *pieces));
}
