/* SPDX-License-Identifier: Apache-2.0
 * The arithmetic of limits over mapped words, where it is plain: the twin of gateway/quota/table.py. Whoever calls holds the
 * lock of the slot and has brought its region to the present tick. Stores are of one aligned word each, in the twin's order:
 * a process killed between two of them leaves a sound file.
 */
#include "native.h"

/* The words of a region from SPENT on, and the one before: the order of layout.TICKET_FIELDS and ALL_FIELDS. */
enum { MONTH_SPENT = -1, SPENT, REQUESTS, TOKENS, OUTPUT, FLOOR_REQUESTS, FLOOR_TOKENS, FLOOR_HOUR, FLOOR_DAY, BOUND, ESTIMATE, RUNNING, MASK };
enum { COLUMN_BOUND, COLUMN_ESTIMATE, COLUMN_RUNNING };
#define MOST ((int64_t)1 << 62) /* terms of at most so much, one of them negative or both half as large, cannot overflow */

#ifdef BEFFROI_MORTAL /* for tests: it dies before its nth store, as under kill -9 */
static long stores_left = -1;
#define STORE(word, value) \
    do { \
        if (stores_left == 0) { \
            PyBuffer_Release(&place.view); \
            PyErr_SetString(PyExc_KeyboardInterrupt, "killed"); \
            return NULL; \
        } \
        stores_left--; \
        (word) = (value); \
    } while (0)

/* die_after(stores) -> how many there were left to the one before */
PyObject *die_after(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    long before = stores_left, stores = count == 1 ? PyLong_AsLong(args[0]) : -1;
    if (stores == -1 && PyErr_Occurred()) return NULL;
    stores_left = stores;
    return PyLong_FromLong(before);
}
#else
#define STORE(word, value) (word) = (value)
#endif

typedef struct {
    Py_buffer view;
    volatile int64_t *region, *column;
} Place;

/* The words of `spent` (the region's SPENT) and `column` in a mapping; 0 with an exception where they are not in it. */
static int open_place(PyObject *buffer, PyObject *spent, PyObject *column, Place *place) {
    Py_ssize_t region_at = PyLong_AsSsize_t(spent), column_at = PyLong_AsSsize_t(column);
    if ((region_at == -1 || column_at == -1) && PyErr_Occurred()) return 0;
    if (PyObject_GetBuffer(buffer, &place->view, PyBUF_WRITABLE) < 0) return 0;
    Py_ssize_t words = place->view.len / 8;
    if (region_at < 1 || region_at + MASK >= words || column_at < 0 || column_at + COLUMN_RUNNING >= words || (uintptr_t)place->view.buf % 8) {
        PyBuffer_Release(&place->view);
        PyErr_SetString(PyExc_IndexError, "these words are not in the mapping");
        return 0;
    }
    place->region = (volatile int64_t *)place->view.buf + region_at;
    place->column = (volatile int64_t *)place->view.buf + column_at;
    return 1;
}

static int counts(PyObject *const *args, int count, int64_t *out) {
    for (int i = 0; i < count; i++) {
        out[i] = PyLong_AsLongLong(args[i]);
        if (out[i] == -1 && PyErr_Occurred()) return 0;
    }
    return 1;
}

static int is_small(int64_t value) { return value > -MOST / 2 && value < MOST / 2; }

/* take_words(buffer, spent, column, parts, tokens, output, bound, estimate) -> requests left, or None: not plain, or over a limit
 * parts: as Plan.parts, whose last seven are the limits; one that is not set is 2^62. */
PyObject *take_words(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Place place;
    int64_t ask[4], limits[7];
    if (count != 8 || !PyTuple_Check(args[3]) || PyTuple_GET_SIZE(args[3]) != 9) {
        PyErr_SetString(PyExc_TypeError, "take_words(buffer, spent, column, parts, tokens, output, bound, estimate)");
        return NULL;
    }
    PyObject *given[7]; /* the limits: held by the tuple */
    for (int i = 0; i < 7; i++) given[i] = PyTuple_GET_ITEM(args[3], i + 2);
    if (!counts(args + 4, 4, ask) || !counts(given, 7, limits) || !open_place(args[0], args[1], args[2], &place)) return NULL;
    int64_t words[MASK], own[3];
    int plain = 1;
    for (int i = 0; i < MASK; i++) plain &= is_small(words[i] = place.region[i]);
    for (int i = 0; i < 3; i++) plain &= is_small(own[i] = place.column[i]);
    for (int i = 0; i < 4; i++) plain &= ask[i] >= 0 && ask[i] < MOST / 4;
    for (int i = 0; i < 7; i++) plain &= limits[i] >= 0 && limits[i] <= MOST;
    if (plain) {
        int64_t requests = words[REQUESTS] + 1, tokens = words[TOKENS] + ask[0], output = words[OUTPUT] + ask[1];
        int64_t bound = words[BOUND] + ask[2], estimate = words[ESTIMATE] + ask[3], running = words[RUNNING] + 1;
        int64_t left = limits[0] - (requests - words[FLOOR_REQUESTS]);
        plain = left >= 0 && tokens - words[FLOOR_TOKENS] <= limits[1] && output - words[FLOOR_HOUR] <= limits[2] && output - words[FLOOR_DAY] <= limits[3] &&
                running <= limits[4] && words[SPENT] <= limits[5] - bound && words[SPENT] <= limits[6] - estimate;
        if (plain) {
            STORE(place.column[COLUMN_BOUND], own[0] + ask[2]);
            STORE(place.column[COLUMN_ESTIMATE], own[1] + ask[3]);
            STORE(place.column[COLUMN_RUNNING], own[2] + 1);
            STORE(place.region[BOUND], bound);
            STORE(place.region[ESTIMATE], estimate);
            STORE(place.region[RUNNING], running);
            STORE(place.region[REQUESTS], requests);
            STORE(place.region[TOKENS], tokens);
            STORE(place.region[OUTPUT], output);
            PyBuffer_Release(&place.view);
            return PyLong_FromLongLong(left);
        }
    }
    PyBuffer_Release(&place.view);
    Py_RETURN_NONE;
}

/* give_words(buffer, spent, column, moved, tokens, output, bound, estimate, cost) -> whether it is done
 * tokens, output: what was used less what was held; moved: the tick is not that of the admission; False: not plain, nothing was changed. */
PyObject *give_words(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Place place;
    int64_t given[5];
    if (count != 9) {
        PyErr_SetString(PyExc_TypeError, "give_words(buffer, spent, column, moved, tokens, output, bound, estimate, cost)");
        return NULL;
    }
    int moved = PyObject_IsTrue(args[3]);
    if (moved < 0 || !counts(args + 4, 5, given) || !open_place(args[0], args[1], args[2], &place)) return NULL;
    int64_t tokens = given[0], output = given[1], bound = given[2], estimate = given[3], cost = given[4];
    volatile int64_t *region = place.region, *column = place.column;
    int plain = !(moved && (region[MASK] || tokens < 0 || output < 0));
    for (int i = MONTH_SPENT; i <= RUNNING; i++) plain &= is_small(region[i]);
    for (int i = 0; i < 3; i++) plain &= is_small(column[i]);
    for (int i = 0; i < 5; i++) plain &= is_small(given[i]);
    if (plain) {
        int64_t all_tokens = region[TOKENS], all_output = region[OUTPUT];
        STORE(region[SPENT], region[SPENT] + cost);
        STORE(region[MONTH_SPENT], region[MONTH_SPENT] + cost);
        STORE(region[BOUND], region[BOUND] - bound);
        STORE(region[ESTIMATE], region[ESTIMATE] - estimate);
        STORE(region[RUNNING], region[RUNNING] - 1);
        STORE(column[COLUMN_BOUND], column[COLUMN_BOUND] - bound);
        STORE(column[COLUMN_ESTIMATE], column[COLUMN_ESTIMATE] - estimate);
        STORE(column[COLUMN_RUNNING], column[COLUMN_RUNNING] - 1);
        /* The input is the difference of the two: in this order it never looks smaller than it is. */
        if (output < 0) STORE(region[OUTPUT], all_output + output);
        if (tokens) STORE(region[TOKENS], all_tokens + tokens);
        if (output > 0) STORE(region[OUTPUT], all_output + output);
    }
    PyBuffer_Release(&place.view);
    return PyBool_FromLong(plain);
}
