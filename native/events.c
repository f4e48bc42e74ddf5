/* SPDX-License-Identifier: Apache-2.0
 * A block of a stream's events: the regular ones at its beginning, renamed; the twin of gateway/upstream/stream.py.
 *
 * Regular is: one line that begins as all regular events of this stream do, in UTF-8, without a word that makes it special.
 */
#include "native.h"

/* The place of a sign in a word that text seldom holds. */
static Py_ssize_t rare(Span word) {
    const unsigned char *line = memchr(word.at, '_', (size_t)word.size);
    return line != NULL ? line - word.at : 0;
}

/* regular_events(data, opening, ours, finish, tools) -> (the regular events with `ours` for `opening`, how many, bytes of data they took)
 * finish, tools: words that no regular event holds; empty: none. */
PyObject *regular_events(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Span data, opening, ours, finish, tools;
    if (count != 5) {
        PyErr_SetString(PyExc_TypeError, "regular_events(data, opening, ours, finish, tools)");
        return NULL;
    }
    if (!span_of(args[0], &data) || !span_of(args[1], &opening) || !span_of(args[2], &ours) || !span_of(args[3], &finish) || !span_of(args[4], &tools))
        return NULL;
    const unsigned char *p = data.at, *end = data.at + data.size;
    Py_ssize_t events = 0;
    while (opening.size > 0 && end - p >= opening.size && memcmp(p, opening.at, (size_t)opening.size) == 0) {
        const unsigned char *rest = p + opening.size;
        const unsigned char *line = memchr(rest, '\n', (size_t)(end - rest));
        if (line == NULL || end - line < 2 || line[1] != '\n') break;
        Span told = {rest, line - rest};
        if ((finish.size && holds(told, finish, rare(finish))) || (tools.size && holds(told, tools, rare(tools))) || !is_utf8(rest, line)) break;
        p = line + 2;
        events++;
    }
    Py_ssize_t taken = p - data.at;
    if (ours.size > opening.size && events > (PY_SSIZE_T_MAX - taken) / (ours.size - opening.size)) return PyErr_NoMemory();
    PyObject *renamed = PyBytes_FromStringAndSize(NULL, taken + events * (ours.size - opening.size));
    if (renamed == NULL) return NULL;
    char *out = PyBytes_AS_STRING(renamed);
    for (const unsigned char *from = data.at; from < p;) {
        const unsigned char *rest = from + opening.size;
        const unsigned char *next = (const unsigned char *)memchr(rest, '\n', (size_t)(p - rest)) + 2; /* found before */
        memcpy(out, ours.at, (size_t)ours.size);
        out += ours.size;
        memcpy(out, rest, (size_t)(next - rest));
        out += next - rest;
        from = next;
    }
    return Py_BuildValue("(Nnn)", renamed, events, taken);
}
