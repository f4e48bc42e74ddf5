/* SPDX-License-Identifier: Apache-2.0
 * The compiled kernel: leaves of the hot path in C. Each has a twin in Python, which decides whatever is not plain.
 *
 * The rule of every function here: bytes in, Python objects out, nothing kept in between. What is not recognised as
 * wholly plain returns None, and the twin in Python reads the same bytes from the start; so strictness has one place,
 * and a mistake here can only be one of accepting too much, which the tests of equality look for.
 * Memory: input is read through pointers `p < end` that are compared before each read; sizes are Py_ssize_t and come
 * from the length of a bytes object; output is written into bytes objects of a size that was counted before.
 */
#ifndef BEFFROI_NATIVE_H
#define BEFFROI_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const unsigned char *at;
    Py_ssize_t size;
} Span;

/* json.c: a reader of JSON (RFC 8259) that builds nothing. Each function returns the place behind what it read, or NULL
 * where that is not there, is not JSON, or is nested deeper than `depth`. */
enum { ESCAPED = 1, WIDE = 2 }; /* in a string: a backslash, a byte over 0x7f */
const unsigned char *json_blanks(const unsigned char *p, const unsigned char *end);
const unsigned char *json_string(const unsigned char *p, const unsigned char *end, Span *inside, int *flags);
const unsigned char *json_number(const unsigned char *p, const unsigned char *end, int *whole);
const unsigned char *json_value(const unsigned char *p, const unsigned char *end, int depth);
const unsigned char *json_member(const unsigned char *p, const unsigned char *end, Span *name); /* `"name":` in plain ASCII; the place of its value */
int is_ascii(const unsigned char *p, const unsigned char *end);
int is_utf8(const unsigned char *p, const unsigned char *end);
int64_t json_count(Span digits); /* a whole number from 0 to 10^15, or -1 */
int json_between(Span digits, int low, int high); /* low <= number <= high, as long as it is spelt plainly */

PyObject *read_request(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *read_answer(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *plain_head(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *glance_chat(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *edit_answer(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *regular_events(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *frame_record(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *lockf_now(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *take_words(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *die_after(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *give_words(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *request_id(PyObject *module, PyObject *const *args, Py_ssize_t count);
int chat_names(PyObject *module);
void crc_table(void);

/* The argument `n` as bytes of a span; 0 and a TypeError where it is none. */
int span_of(PyObject *given, Span *out);
int text_of(PyObject *given, Span *out); /* the same of a str, as UTF-8 */

static inline int same(Span span, const char *text, Py_ssize_t size) {
    return span.size == size && memcmp(span.at, text, (size_t)size) == 0;
}
#define TEXT(text) {(const unsigned char *)(text), (Py_ssize_t)sizeof(text) - 1}
Span digits_of(int64_t number, unsigned char room[20]);
PyObject *packed(PyObject *const *found, int count); /* as a tuple, which takes them; NULL where one is */
PyObject *joined(const Span *pieces, int count); /* as one bytes object */

/* The place behind the first `word` in a text, or NULL; it is looked for by the sign at `anchor` in it: a rare one is quick. */
const unsigned char *behind(Span text, Span word, Py_ssize_t anchor);
static inline int holds(Span text, Span word, Py_ssize_t anchor) { return behind(text, word, anchor) != NULL; }

#define IS(span, text) same((span), (text), (Py_ssize_t)sizeof(text) - 1)

#endif
