/* SPDX-License-Identifier: Apache-2.0
 * The policed fields of a plain chat request, in one pass over its body: the twin of wire/openai/request.py.
 *
 * Plain is: an object with known fields in their exact spelling, none twice; messages whose content is text; no tools,
 * no parts, no response_format. All else is None, and the twin reads it (and says what is wrong with it, if anything is).
 */
#include "native.h"

enum Kind {
    MODEL, MESSAGES, STREAM, STREAM_OPTIONS, MAX_TOKENS, MAX_COMPLETION_TOKENS, N, TEMPERATURE, TOP_P, PRESENCE_PENALTY,
    FREQUENCY_PENALTY, STOP, USER, SKIPPED, /* fields from SKIPPED on pass unread */
};

static const struct {
    const char *name;
    int size;
    enum Kind kind;
} FIELDS[] = {
#define FIELD(name, kind) {name, (int)sizeof(name) - 1, kind}
    FIELD("model", MODEL), FIELD("messages", MESSAGES), FIELD("stream", STREAM), FIELD("stream_options", STREAM_OPTIONS),
    FIELD("max_tokens", MAX_TOKENS), FIELD("max_completion_tokens", MAX_COMPLETION_TOKENS), FIELD("n", N),
    FIELD("temperature", TEMPERATURE), FIELD("top_p", TOP_P), FIELD("presence_penalty", PRESENCE_PENALTY),
    FIELD("frequency_penalty", FREQUENCY_PENALTY), FIELD("stop", STOP), FIELD("user", USER), FIELD("seed", SKIPPED),
    FIELD("logit_bias", SKIPPED), FIELD("logprobs", SKIPPED), FIELD("top_logprobs", SKIPPED), FIELD("metadata", SKIPPED),
    FIELD("store", SKIPPED), FIELD("service_tier", SKIPPED), FIELD("reasoning_effort", SKIPPED), FIELD("verbosity", SKIPPED),
    FIELD("top_k", SKIPPED), FIELD("min_p", SKIPPED), FIELD("repetition_penalty", SKIPPED),
    FIELD("parallel_tool_calls", SKIPPED), FIELD("chat_template_kwargs", SKIPPED),
#undef FIELD
};
#define COUNT ((int)(sizeof FIELDS / sizeof *FIELDS))
static PyObject *NAMES[COUNT];

int chat_names(PyObject *module) {
    PyObject *all = PyTuple_New(COUNT);
    if (all == NULL) return -1;
    for (int i = 0; i < COUNT; i++) {
        NAMES[i] = PyUnicode_InternFromString(FIELDS[i].name);
        if (NAMES[i] == NULL) {
            Py_DECREF(all);
            return -1;
        }
        Py_INCREF(NAMES[i]);
        PyTuple_SET_ITEM(all, i, NAMES[i]);
    }
    return PyModule_AddObject(module, "CHAT_FIELDS", all);
}

static int field_of(Span name) {
    for (int i = 0; i < COUNT; i++)
        if (FIELDS[i].size == name.size && memcmp(FIELDS[i].name, name.at, (size_t)name.size) == 0) return i;
    return -1;
}

/* After a value: 1 another follows, 0 the object or list is over, -1 neither. Moves `p` behind it. */
static int follows(const unsigned char **p, const unsigned char *end, unsigned char close) {
    const unsigned char *q = json_blanks(*p, end);
    if (q >= end || (*q != ',' && *q != close)) return -1;
    *p = json_blanks(q + 1, end);
    return *q == ',';
}

static int is_role(Span role) {
    return IS(role, "user") || IS(role, "assistant") || IS(role, "system") || IS(role, "developer") || IS(role, "tool") ||
           IS(role, "function");
}

static const unsigned char *message(const unsigned char *p, const unsigned char *end, int depth) {
    Span name, role = {NULL, 0}, content = {NULL, 0};
    int flags, more = 1, empty = 0;
    if (depth <= 0 || p >= end || *p != '{') return NULL;
    p = json_blanks(p + 1, end);
    while (more) {
        p = json_member(p, end, &name);
        if (p == NULL || p >= end) return NULL;
        if (IS(name, "role")) {
            if (role.at != NULL) return NULL;
            p = json_string(p, end, &role, &flags);
            if (p == NULL || flags || !is_role(role)) return NULL;
        } else if (IS(name, "content")) {
            if (content.at != NULL || empty) return NULL;
            if (*p == '"') {
                p = json_string(p, end, &content, &flags);
            } else {
                empty = 1;
                if (*p != 'n') return NULL;
                p = json_value(p, end, 0);
            }
        } else {
            p = json_value(p, end, depth - 1);
        }
        if (p == NULL) return NULL;
        more = follows(&p, end, '}');
        if (more < 0) return NULL;
    }
    if (role.at == NULL || (content.at == NULL && !IS(role, "assistant"))) return NULL;
    return p;
}

static const unsigned char *messages(const unsigned char *p, const unsigned char *end, int depth) {
    int more = 1;
    if (depth <= 0 || p >= end || *p != '[') return NULL;
    p = json_blanks(p + 1, end);
    while (more) {
        p = message(p, end, depth - 1);
        if (p == NULL) return NULL;
        more = follows(&p, end, ']');
        if (more < 0) return NULL;
    }
    return p;
}

/* true, false or null: 1, 0, 0; -1 is none of them. Moves `p` behind it. */
static int truth(const unsigned char **p, const unsigned char *end) {
    if (end - *p >= 4 && memcmp(*p, "true", 4) == 0) return *p += 4, 1;
    if (end - *p >= 5 && memcmp(*p, "false", 5) == 0) return *p += 5, 0;
    if (end - *p >= 4 && memcmp(*p, "null", 4) == 0) return *p += 4, 0;
    return -1;
}

static const unsigned char *stream_options(const unsigned char *p, const unsigned char *end, int depth, int *asked) {
    Span name;
    int more = 1, seen = 0;
    if (p < end && *p == 'n') return json_value(p, end, 0);
    if (depth <= 0 || p >= end || *p != '{') return NULL;
    p = json_blanks(p + 1, end);
    if (p < end && *p == '}') return p + 1;
    while (more) {
        p = json_member(p, end, &name);
        if (p == NULL) return NULL;
        if (IS(name, "include_usage")) {
            if (seen) return NULL;
            seen = 1;
            *asked = truth(&p, end);
            if (*asked < 0) return NULL;
        } else {
            p = json_value(p, end, depth - 1);
            if (p == NULL) return NULL;
        }
        more = follows(&p, end, '}');
        if (more < 0) return NULL;
    }
    /* follows() has stepped over blanks behind the brace, which do no harm */
    return p;
}

static const unsigned char *stops(const unsigned char *p, const unsigned char *end, int depth) {
    Span text;
    int flags, more = 1;
    if (p >= end) return NULL;
    if (*p == 'n') return json_value(p, end, 0);
    if (*p == '"') {
        return json_string(p, end, &text, &flags);
    }
    if (*p != '[' || depth <= 0) return NULL;
    p = json_blanks(p + 1, end);
    if (p < end && *p == ']') return p + 1;
    while (more) {
        p = json_string(p, end, &text, &flags);
        if (p == NULL) return NULL;
        more = follows(&p, end, ']');
        if (more < 0) return NULL;
    }
    return p;
}

static PyObject *text(Span span) { return PyUnicode_DecodeUTF8((const char *)span.at, span.size, "strict"); }

/* What one pass finds. */
typedef struct {
    Span model, user;
    int stream, asked, n;
    int64_t bound, completion_bound;
    int fields[COUNT];
    int count;
} Chat;

static int number(const unsigned char **p, const unsigned char *end, Span *digits) {
    int whole;
    digits->at = *p;
    const unsigned char *q = json_number(*p, end, &whole);
    if (q == NULL) return 0;
    digits->size = q - *p;
    *p = q;
    return 1;
}

/* One field's value; the place behind it, or NULL where it is not plain. */
static const unsigned char *value(Chat *chat, enum Kind kind, const unsigned char *p, const unsigned char *end, int depth) {
    Span digits;
    int flags;
    if (p >= end) return NULL;
    if (kind == SKIPPED) return json_value(p, end, depth);
    if (*p == 'n' && kind != MODEL && kind != MESSAGES) return json_value(p, end, 0); /* null is as if it were not there */
    switch (kind) {
        case MODEL:
            p = json_string(p, end, &chat->model, &flags);
            return p != NULL && !(flags & ESCAPED) && chat->model.size > 0 ? p : NULL;
        case USER:
            p = json_string(p, end, &chat->user, &flags);
            return p != NULL && !(flags & ESCAPED) ? p : NULL;
        case MESSAGES:
            return messages(p, end, depth);
        case STREAM:
            chat->stream = truth(&p, end);
            return chat->stream >= 0 ? p : NULL;
        case STREAM_OPTIONS:
            return stream_options(p, end, depth, &chat->asked);
        case STOP:
            return stops(p, end, depth);
        default:
            break;
    }
    if (!number(&p, end, &digits)) return NULL;
    switch (kind) {
        case MAX_TOKENS: case MAX_COMPLETION_TOKENS: {
            int64_t bound = json_count(digits);
            if (bound < 1 || bound > 1000000000) return NULL;
            if (kind == MAX_TOKENS) chat->bound = bound;
            else chat->completion_bound = bound;
            return p;
        }
        case N: {
            int64_t copies = json_count(digits);
            if (copies < 1 || copies > 128) return NULL;
            chat->n = (int)copies;
            return p;
        }
        case TEMPERATURE:
            return json_between(digits, 0, 2) ? p : NULL;
        case TOP_P:
            return json_between(digits, 0, 1) ? p : NULL;
        default:
            return json_between(digits, -2, 2) ? p : NULL;
    }
}

static int read_chat(Chat *chat, const unsigned char *p, const unsigned char *end, int depth) {
    uint64_t seen = 0;
    int more = 1;
    Span name;
    p = json_blanks(p, end);
    if (p >= end || *p != '{') return 0;
    p = json_blanks(p + 1, end);
    while (more) {
        p = json_member(p, end, &name);
        if (p == NULL) return 0;
        int field = field_of(name);
        if (field < 0 || (seen >> field & 1)) return 0;
        seen |= (uint64_t)1 << field;
        chat->fields[chat->count++] = field;
        p = value(chat, FIELDS[field].kind, p, end, depth - 1);
        if (p == NULL) return 0;
        more = follows(&p, end, '}');
        if (more < 0) return 0;
    }
    return p == end && chat->model.at != NULL && (seen >> MESSAGES & 1);
}

/* Whether nothing in a body could matter to the guard: ASCII, no \u, none of the signs that templates of chats begin with. */
static int is_bland(Span body) {
    static const Span escape = TEXT("\\u"), instruction = TEXT("INST]");
    return is_ascii(body.at, body.at + body.size) && !memchr(body.at, '<', (size_t)body.size) && !holds(body, escape, 0) && !holds(body, instruction, 4);
}

/* glance_chat(body, max_depth) -> (model, stream, asked_usage, n, max_tokens, user, names, bland) or None */
PyObject *glance_chat(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Span body;
    Chat chat = {.n = 1};
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "glance_chat(body, max_depth)");
        return NULL;
    }
    if (!span_of(args[0], &body)) return NULL;
    long depth = PyLong_AsLong(args[1]);
    if (depth == -1 && PyErr_Occurred()) return NULL;
    if (depth > 64) depth = 64;
    if (!read_chat(&chat, body.at, body.at + body.size, (int)depth)) Py_RETURN_NONE;
    if (chat.completion_bound) chat.bound = chat.bound > chat.completion_bound ? chat.bound : chat.completion_bound;
    PyObject *names = PyTuple_New(chat.count);
    if (names == NULL) return NULL;
    for (int i = 0; i < chat.count; i++) {
        Py_INCREF(NAMES[chat.fields[i]]);
        PyTuple_SET_ITEM(names, i, NAMES[chat.fields[i]]);
    }
    PyObject *found[8] = {
        text(chat.model),
        PyBool_FromLong(chat.stream),
        PyBool_FromLong(chat.asked),
        PyLong_FromLong(chat.n),
        chat.bound ? PyLong_FromLongLong(chat.bound) : Py_NewRef(Py_None),
        chat.user.at != NULL ? text(chat.user) : Py_NewRef(Py_None),
        names,
        PyBool_FromLong(is_bland(body)),
    };
    return packed(found, 8);
}
