/* SPDX-License-Identifier: Apache-2.0
 * A plain answer of an engine, with our id, the public model name, usage that adds up and backend: the twin of
 * wire/openai/answer.py for an object whose top-level keys do not repeat and whose usage holds plain counts.
 */
#include "native.h"

enum { MODEL, ID, OBJECT, USAGE, BACKEND, SET }; /* the fields that are set, in the order in which missing ones are added */
static const Span NAMES[SET] = {TEXT("model"), TEXT("id"), TEXT("object"), TEXT("usage"), TEXT("backend")};

enum { PROMPT, COMPLETION, TOTAL, REASONING, PROMPT_DETAILS, COMPLETION_DETAILS, COUNTS };
static const Span COUNT_NAMES[COUNTS] = {
    TEXT("prompt_tokens"), TEXT("completion_tokens"), TEXT("total_tokens"), TEXT("reasoning_tokens"),
    TEXT("prompt_tokens_details"), TEXT("completion_tokens_details"),
};
#define MOST ((int64_t)1 << 40)
#define MAX_FIELDS 32
#define ID_ROOM 128

static int equal(Span one, Span other) { return same(one, (const char *)other.at, other.size); }

static int which(Span name, const Span *names, int count) {
    for (int i = 0; i < count; i++)
        if (equal(name, names[i])) return i;
    return -1;
}

static const unsigned char *counted(const unsigned char *p, const unsigned char *end, int64_t *value) {
    Span digits = {p, 0};
    int whole;
    const unsigned char *q = json_number(p, end, &whole);
    if (q == NULL || !whole) return NULL;
    digits.size = q - p;
    *value = json_count(digits);
    return *value >= 0 && *value <= MOST ? q : NULL;
}

/* null, or an object that holds one count of this name */
static const unsigned char *detail(const unsigned char *p, const unsigned char *end, const char *name, Py_ssize_t size, int64_t *value) {
    Span found;
    if (p < end && *p == 'n') return json_value(p, end, 0);
    if (p >= end || *p != '{') return NULL;
    p = json_member(json_blanks(p + 1, end), end, &found);
    if (p == NULL || !same(found, name, size)) return NULL;
    p = counted(p, end, value);
    if (p == NULL) return NULL;
    p = json_blanks(p, end);
    return p < end && *p == '}' ? p + 1 : NULL;
}

typedef struct {
    int64_t prompt, cached, completion, reasoning;
    int order[COUNTS], count;
} Usage;

static const unsigned char *usage_of(const unsigned char *p, const unsigned char *end, Usage *usage) {
    int64_t unread, at_top = 0;
    int seen = 0;
    Span name;
    if (p >= end || *p != '{') return NULL;
    p = json_blanks(p + 1, end);
    for (;;) {
        p = json_member(p, end, &name);
        if (p == NULL) return NULL;
        int place = which(name, COUNT_NAMES, COUNTS);
        if (place < 0 || (seen >> place & 1)) return NULL;
        seen |= 1 << place;
        usage->order[usage->count++] = place;
        switch (place) {
            case PROMPT: p = counted(p, end, &usage->prompt); break;
            case COMPLETION: p = counted(p, end, &usage->completion); break;
            case TOTAL: p = counted(p, end, &unread); break;
            case REASONING: p = counted(p, end, &at_top); break;
            case PROMPT_DETAILS: p = detail(p, end, "cached_tokens", 13, &usage->cached); break;
            default: p = detail(p, end, "reasoning_tokens", 16, &usage->reasoning); break;
        }
        if (p == NULL) return NULL;
        p = json_blanks(p, end);
        if (p >= end || (*p != ',' && *p != '}')) return NULL;
        if (*p++ == '}') break;
        p = json_blanks(p, end);
    }
    if (!(seen & (1 << PROMPT | 1 << COMPLETION))) return NULL;
    if (!usage->reasoning) usage->reasoning = at_top;
    if (usage->cached > usage->prompt) usage->cached = usage->prompt;
    if (usage->reasoning > usage->completion) usage->reasoning = usage->completion;
    for (int place = 0; place < COUNTS; place++)
        if (!(seen >> place & 1)) usage->order[usage->count++] = place;
    return p;
}

#define USAGE_ROOM 512 /* six names of at most 25 bytes, six numbers of at most 14, two names inside, and signs */

static Span shown(const Usage *usage, char room[USAGE_ROOM]) {
    Py_ssize_t size = 0;
    static const Span next = TEXT(",\""), first = TEXT("{\""), colon = TEXT("\":");
    static const Span cached = TEXT("\":{\"cached_tokens\":"), reasoning = TEXT("\":{\"reasoning_tokens\":"), close = TEXT("}");
    for (int i = 0; i < COUNTS; i++) {
        int place = usage->order[i], inside = place >= PROMPT_DETAILS;
        int64_t value = place == PROMPT ? usage->prompt : place == COMPLETION ? usage->completion : place == TOTAL ? usage->prompt + usage->completion
                      : place == PROMPT_DETAILS ? usage->cached : usage->reasoning;
        unsigned char digits[20];
        const Span pieces[] = {i ? next : first, COUNT_NAMES[place], !inside ? colon : place == PROMPT_DETAILS ? cached : reasoning, digits_of(value, digits), close};
        for (int piece = 0; piece < (inside ? 5 : 4); piece++) {
            if (pieces[piece].size >= USAGE_ROOM - size) return (Span){NULL, 0};
            memcpy(room + size, pieces[piece].at, (size_t)pieces[piece].size);
            size += pieces[piece].size;
        }
    }
    room[size++] = '}'; /* there is room: the comparison above leaves one */
    return (Span){(const unsigned char *)room, size};
}

/* Whether clients can do with the choices as they are: numbered, with a reason, without tool calls: each of those is looked at. */
static int is_sound(Span choices) {
    static const Span calls = TEXT("\"tool_calls\":"), index = TEXT("\"index\":"), reason = TEXT("\"finish_reason\":");
    const unsigned char *end = choices.at + choices.size, *p;
    for (Span rest = choices; (p = behind(rest, calls, 5)) != NULL; rest = (Span){p, end - p}) {
        p = json_blanks(p, end);
        if (!(end - p >= 2 && memcmp(p, "[]", 2) == 0) && !(end - p >= 4 && memcmp(p, "null", 4) == 0)) return 0;
    }
    return holds(choices, index, 5) && holds(choices, reason, 7);
}

/* edit_answer(body, prefix, request_id, model, object, backend)
 * -> (answer, prompt, cached, completion, reasoning, stops, thinks) or None
 * Model, object and backend are JSON as it will stand there; the id is the prefix and the request's without `req_`. The counts
 * are the engine's, cached at most prompt, reasoning at most completion. stops: a choice's finish_reason is "stop"; thinks:
 * thoughts may stand in the answer. */
PyObject *edit_answer(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Span body, given[SET], names[MAX_FIELDS], values[MAX_FIELDS], pieces[4 * (MAX_FIELDS + SET) + 1];
    Usage usage = {.count = 0};
    char room[USAGE_ROOM];
    Span choices = {NULL, 0};
    int fields = 0, seen = 0, created = 0, piece = 0;
    if (count != 6) {
        PyErr_SetString(PyExc_TypeError, "edit_answer(body, prefix, request_id, model, object, backend)");
        return NULL;
    }
    Span prefix, id;
    if (!span_of(args[0], &body) || !span_of(args[1], &prefix) || !text_of(args[2], &id) || !span_of(args[3], &given[MODEL]) ||
        !span_of(args[4], &given[OBJECT]) || !span_of(args[5], &given[BACKEND]))
        return NULL;
    char quoted[ID_ROOM];
    if (id.size < 4 || prefix.size + id.size - 4 + 2 > ID_ROOM) Py_RETURN_NONE;
    for (Py_ssize_t i = 4; i < id.size; i++)
        if (!((id.at[i] >= '0' && id.at[i] <= '9') || (id.at[i] >= 'a' && id.at[i] <= 'z'))) Py_RETURN_NONE;
    given[ID] = (Span){(unsigned char *)quoted, prefix.size + id.size - 4 + 2};
    quoted[0] = quoted[given[ID].size - 1] = '"';
    memcpy(quoted + 1, prefix.at, (size_t)prefix.size);
    memcpy(quoted + 1 + prefix.size, id.at + 4, (size_t)(id.size - 4));
    const unsigned char *p = json_blanks(body.at, body.at + body.size), *end = body.at + body.size;
    if (p >= end || *p != '{') Py_RETURN_NONE;
    p = json_blanks(p + 1, end);
    for (;;) {
        if (fields == MAX_FIELDS) Py_RETURN_NONE;
        Span name;
        p = json_member(p, end, &name);
        if (p == NULL || which(name, names, fields) >= 0) Py_RETURN_NONE;
        const unsigned char *value = p;
        int place = which(name, NAMES, SET);
        p = place == USAGE ? usage_of(p, end, &usage) : json_value(p, end, 64);
        if (p == NULL) Py_RETURN_NONE;
        if (place >= 0) seen |= 1 << place;
        if (IS(name, "choices")) choices = (Span){value, p - value};
        created |= IS(name, "created");
        names[fields] = name;
        values[fields] = place >= 0 ? (Span){NULL, place} : (Span){value, p - value};
        fields++;
        p = json_blanks(p, end);
        if (p >= end || (*p != ',' && *p != '}')) Py_RETURN_NONE;
        if (*p++ == '}') break;
        p = json_blanks(p, end);
    }
    if (json_blanks(p, end) != end || choices.at == NULL || !created || !(seen >> USAGE & 1)) Py_RETURN_NONE;
    if (!is_sound(choices)) Py_RETURN_NONE;
    given[USAGE] = shown(&usage, room);
    if (given[USAGE].at == NULL) Py_RETURN_NONE;
    static const Span first = TEXT("{\""), next = TEXT(",\""), colon = TEXT("\":"), last = TEXT("}");
    for (int i = 0; i < fields; i++) {
        pieces[piece++] = i ? next : first;
        pieces[piece++] = names[i];
        pieces[piece++] = colon;
        pieces[piece++] = values[i].at != NULL ? values[i] : given[values[i].size];
    }
    for (int place = 0; place < SET; place++) {
        if (seen >> place & 1) continue;
        pieces[piece++] = next;
        pieces[piece++] = NAMES[place];
        pieces[piece++] = colon;
        pieces[piece++] = given[place];
    }
    pieces[piece++] = last;
    PyObject *answer = joined(pieces, piece);
    if (answer == NULL) return NULL;
    static const Span stop = TEXT("\"finish_reason\":\"stop\""), thought = TEXT("\"reasoning");
    PyObject *found[] = {
        answer, PyLong_FromLongLong(usage.prompt), PyLong_FromLongLong(usage.cached), PyLong_FromLongLong(usage.completion),
        PyLong_FromLongLong(usage.reasoning), PyBool_FromLong(holds(choices, stop, 7)), PyBool_FromLong(holds(body, thought, 9)),
    };
    return packed(found, 7);
}
