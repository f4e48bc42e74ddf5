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

static int equal(Span one, Span other) { return same(one, (const char *)other.at, other.size); }

static int which(Span name, const Span *names, int count) {
    for (int i = 0; i < count; i++)
        if (equal(name, names[i])) return i;
    return -1;
}

/* Reads `"name" :`; the place of its value, or NULL. */
static const unsigned char *member(const unsigned char *p, const unsigned char *end, Span *name) {
    int flags;
    p = json_string(p, end, name, &flags);
    if (p == NULL || flags) return NULL;
    p = json_blanks(p, end);
    if (p >= end || *p != ':') return NULL;
    return json_blanks(p + 1, end);
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
    p = member(json_blanks(p + 1, end), end, &found);
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
        p = member(p, end, &name);
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
    int size = 0;
    for (int i = 0; i < COUNTS; i++) {
        int place = usage->order[i];
        int64_t value = place == PROMPT ? usage->prompt : place == COMPLETION ? usage->completion : place == TOTAL ? usage->prompt + usage->completion
                      : place == PROMPT_DETAILS ? usage->cached : usage->reasoning;
        const char *form = place == PROMPT_DETAILS ? "%c\"%s\":{\"cached_tokens\":%lld}" : place == COMPLETION_DETAILS ? "%c\"%s\":{\"reasoning_tokens\":%lld}" : "%c\"%s\":%lld";
        int wrote = snprintf(room + size, (size_t)(USAGE_ROOM - size - 1), form, i ? ',' : '{', (const char *)COUNT_NAMES[place].at, (long long)value);
        if (wrote < 0 || wrote >= USAGE_ROOM - size - 1) return (Span){NULL, 0};
        size += wrote;
    }
    room[size++] = '}';
    return (Span){(const unsigned char *)room, size};
}

/* edit_answer(body, id, model, object, backend) -> (answer, prompt, cached, completion, reasoning) or None
 * The four are JSON as it will stand there; the counts are the engine's, cached at most prompt, reasoning at most completion. */
PyObject *edit_answer(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Span body, given[SET], names[MAX_FIELDS], values[MAX_FIELDS], pieces[4 * (MAX_FIELDS + SET) + 1];
    Usage usage = {.count = 0};
    char room[USAGE_ROOM];
    int fields = 0, seen = 0, choices = 0, created = 0, piece = 0;
    if (count != 5) {
        PyErr_SetString(PyExc_TypeError, "edit_answer(body, id, model, object, backend)");
        return NULL;
    }
    if (!span_of(args[0], &body) || !span_of(args[1], &given[ID]) || !span_of(args[2], &given[MODEL]) || !span_of(args[3], &given[OBJECT]) ||
        !span_of(args[4], &given[BACKEND]))
        return NULL;
    const unsigned char *p = json_blanks(body.at, body.at + body.size), *end = body.at + body.size;
    if (p >= end || *p != '{') Py_RETURN_NONE;
    p = json_blanks(p + 1, end);
    for (;;) {
        if (fields == MAX_FIELDS) Py_RETURN_NONE;
        Span name;
        p = member(p, end, &name);
        if (p == NULL || which(name, names, fields) >= 0) Py_RETURN_NONE;
        const unsigned char *value = p;
        int place = which(name, NAMES, SET);
        p = place == USAGE ? usage_of(p, end, &usage) : json_value(p, end, 64);
        if (p == NULL) Py_RETURN_NONE;
        if (place >= 0) seen |= 1 << place;
        choices |= IS(name, "choices");
        created |= IS(name, "created");
        names[fields] = name;
        values[fields] = place >= 0 ? (Span){NULL, place} : (Span){value, p - value};
        fields++;
        p = json_blanks(p, end);
        if (p >= end || (*p != ',' && *p != '}')) Py_RETURN_NONE;
        if (*p++ == '}') break;
        p = json_blanks(p, end);
    }
    if (json_blanks(p, end) != end || !choices || !created || !(seen >> USAGE & 1)) Py_RETURN_NONE;
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
    return Py_BuildValue("(NLLLL)", answer, (long long)usage.prompt, (long long)usage.cached, (long long)usage.completion, (long long)usage.reasoning);
}
