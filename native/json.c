/* SPDX-License-Identifier: Apache-2.0
 * A reader of JSON that builds nothing: it tells where a value ends, and whether it is one. Stricter than RFC 8259 in
 * nothing, laxer in nothing; strings must be UTF-8 (RFC 3629), as Python decodes it.
 */
#include "native.h"

/* 0 ordinary, 1 ends a plain run: a quote, a backslash, a control character, a byte over 0x7f */
static inline int special(unsigned char c) { return c < 0x20 || c == '"' || c == '\\' || c >= 0x80; }

static inline uint64_t load8(const unsigned char *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

/* Whether one of eight bytes is special; exact as a yes or no, whatever the byte order. */
static inline uint64_t any_special(uint64_t word) {
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
    return ((word - ones * 0x20) | (quote - ones) | (slash - ones) | word) & high;
}

const unsigned char *json_blanks(const unsigned char *p, const unsigned char *end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')) p++;
    return p;
}

/* The place behind one character of more than one byte; NULL where it is not UTF-8. */
static const unsigned char *wide(const unsigned char *p, const unsigned char *end) {
    unsigned char first = *p;
    Py_ssize_t left = end - p;
    if (first >= 0xc2 && first <= 0xdf) return left >= 2 && (p[1] & 0xc0) == 0x80 ? p + 2 : NULL;
    if (first >= 0xe0 && first <= 0xef) {
        if (left < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80) return NULL;
        if ((first == 0xe0 && p[1] < 0xa0) || (first == 0xed && p[1] > 0x9f)) return NULL;
        return p + 3;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        if (left < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80) return NULL;
        if ((first == 0xf0 && p[1] < 0x90) || (first == 0xf4 && p[1] > 0x8f)) return NULL;
        return p + 4;
    }
    return NULL;
}

int is_ascii(const unsigned char *p, const unsigned char *end) {
    for (; end - p >= 8; p += 8)
        if (load8(p) & 0x8080808080808080u) return 0;
    for (; p < end; p++)
        if (*p >= 0x80) return 0;
    return 1;
}

int is_utf8(const unsigned char *p, const unsigned char *end) {
    while (p < end) {
        while (end - p >= 8 && !(load8(p) & 0x8080808080808080u)) p += 8;
        while (p < end && *p < 0x80) p++;
        if (p < end && (p = wide(p, end)) == NULL) return 0;
    }
    return 1;
}

/* The number that four hexadecimal digits spell; -1 where they are not there. */
static int four(const unsigned char *p, const unsigned char *end) {
    int value = 0;
    if (end - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        unsigned char c = p[i];
        if (c >= '0' && c <= '9') value = value * 16 + (c - '0');
        else if (c >= 'a' && c <= 'f') value = value * 16 + (c - 'a' + 10);
        else if (c >= 'A' && c <= 'F') value = value * 16 + (c - 'A' + 10);
        else return -1;
    }
    return value;
}

/* The place behind an escape; NULL where it is none. Half a pair of surrogates is none. */
static const unsigned char *escape(const unsigned char *p, const unsigned char *end) {
    if (end - p < 2) return NULL;
    switch (p[1]) {
        case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't': return p + 2;
        case 'u': break;
        default: return NULL;
    }
    int code = four(p + 2, end);
    if (code < 0xd800) return code < 0 ? NULL : p + 6;
    if (code > 0xdfff) return p + 6;
    if (code > 0xdbff || end - p < 12 || p[6] != '\\' || p[7] != 'u') return NULL;
    code = four(p + 8, end);
    return code >= 0xdc00 && code <= 0xdfff ? p + 12 : NULL;
}

const unsigned char *json_string(const unsigned char *p, const unsigned char *end, Span *inside, int *flags) {
    int seen = 0;
    if (p >= end || *p != '"') return NULL;
    p++;
    inside->at = p;
    for (;;) {
        while (end - p >= 8 && !any_special(load8(p))) p += 8;
        while (p < end && !special(*p)) p++;
        if (p >= end) return NULL;
        if (*p == '"') {
            inside->size = p - inside->at;
            *flags = seen;
            return p + 1;
        }
        if (*p == '\\') {
            seen |= ESCAPED;
            p = escape(p, end);
            if (p == NULL) return NULL;
        } else if (*p >= 0x80) {
            seen |= WIDE;
            p = wide(p, end);
            if (p == NULL) return NULL;
        } else {
            return NULL; /* a control character */
        }
    }
}

const unsigned char *json_number(const unsigned char *p, const unsigned char *end, int *whole) {
    *whole = 1;
    if (p < end && *p == '-') p++;
    if (p >= end) return NULL;
    if (*p == '0') p++;
    else if (*p >= '1' && *p <= '9') while (p < end && *p >= '0' && *p <= '9') p++;
    else return NULL;
    if (p < end && *p == '.') {
        *whole = 0;
        p++;
        if (p >= end || *p < '0' || *p > '9') return NULL;
        while (p < end && *p >= '0' && *p <= '9') p++;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        *whole = 0;
        p++;
        if (p < end && (*p == '+' || *p == '-')) p++;
        if (p >= end || *p < '0' || *p > '9') return NULL;
        while (p < end && *p >= '0' && *p <= '9') p++;
    }
    return p;
}

static const unsigned char *word(const unsigned char *p, const unsigned char *end, const char *text, Py_ssize_t size) {
    return end - p >= size && memcmp(p, text, (size_t)size) == 0 ? p + size : NULL;
}

const unsigned char *json_value(const unsigned char *p, const unsigned char *end, int depth) {
    Span inside;
    int flags;
    if (p >= end) return NULL;
    switch (*p) {
        case '"': return json_string(p, end, &inside, &flags);
        case 't': return word(p, end, "true", 4);
        case 'f': return word(p, end, "false", 5);
        case 'n': return word(p, end, "null", 4);
        case '[': case '{': break;
        default: return json_number(p, end, &flags);
    }
    if (depth <= 0) return NULL; /* so that the C stack is bounded, too */
    int object = *p == '{';
    unsigned char close = object ? '}' : ']';
    p = json_blanks(p + 1, end);
    if (p < end && *p == close) return p + 1;
    for (;;) {
        if (object) {
            p = json_string(p, end, &inside, &flags);
            if (p == NULL) return NULL;
            p = json_blanks(p, end);
            if (p >= end || *p != ':') return NULL;
            p = json_blanks(p + 1, end);
        }
        p = json_value(p, end, depth - 1);
        if (p == NULL) return NULL;
        p = json_blanks(p, end);
        if (p >= end) return NULL;
        if (*p == close) return p + 1;
        if (*p != ',') return NULL;
        p = json_blanks(p + 1, end);
    }
}

const unsigned char *json_member(const unsigned char *p, const unsigned char *end, Span *name) {
    int flags;
    p = json_string(p, end, name, &flags);
    if (p == NULL || flags) return NULL;
    p = json_blanks(p, end);
    if (p >= end || *p != ':') return NULL;
    return json_blanks(p + 1, end);
}

int64_t json_count(Span digits) {
    int64_t value = 0;
    if (digits.size < 1 || digits.size > 15) return -1;
    for (Py_ssize_t i = 0; i < digits.size; i++) {
        if (digits.at[i] < '0' || digits.at[i] > '9') return -1;
        value = value * 10 + (digits.at[i] - '0');
    }
    return value;
}

int json_between(Span digits, int low, int high) {
    /* In whole multiples of 10^-k, so that nothing is rounded: -12.345 is -12345 of k = 3. */
    int64_t value = 0, unit = 1;
    int negative = 0, places = 0, fraction = 0;
    Py_ssize_t i = 0;
    if (digits.size > 0 && digits.at[0] == '-') negative = 1, i = 1;
    if (digits.size - i < 1 || digits.size - i > 15) return 0;
    for (; i < digits.size; i++) {
        unsigned char c = digits.at[i];
        if (c == '.') {
            fraction = 1;
        } else if (c >= '0' && c <= '9') {
            value = value * 10 + (c - '0');
            places += fraction;
        } else {
            return 0;
        }
    }
    while (places-- > 0) unit *= 10;
    if (negative) value = -value;
    return value >= low * unit && value <= high * unit;
}
