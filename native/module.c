/* SPDX-License-Identifier: Apache-2.0
 * The module `beffroi._native`, which core/kernel.py loads where it was built.
 */
#include "native.h"

#define INTERFACE 2 /* core/kernel.py takes no other: sources and build may have parted */

int span_of(PyObject *given, Span *out) {
    if (!PyBytes_Check(given)) {
        PyErr_Format(PyExc_TypeError, "bytes are expected, not %.80s", Py_TYPE(given)->tp_name);
        return 0;
    }
    out->at = (const unsigned char *)PyBytes_AS_STRING(given);
    out->size = PyBytes_GET_SIZE(given);
    return 1;
}

const unsigned char *behind(Span text, Span word, Py_ssize_t anchor) {
    if (text.size < word.size) return NULL;
    const unsigned char *p = text.at + anchor, *last = text.at + (text.size - word.size) + anchor;
    while (p <= last && (p = memchr(p, word.at[anchor], (size_t)(last - p) + 1)) != NULL) {
        if (memcmp(p - anchor, word.at, (size_t)word.size) == 0) return p - anchor + word.size;
        p++;
    }
    return NULL;
}

int text_of(PyObject *given, Span *out) {
    if (!PyUnicode_Check(given)) {
        PyErr_Format(PyExc_TypeError, "str is expected, not %.80s", Py_TYPE(given)->tp_name);
        return 0;
    }
    out->at = (const unsigned char *)PyUnicode_AsUTF8AndSize(given, &out->size);
    return out->at != NULL;
}

PyObject *packed(PyObject *const *found, int count) {
    PyObject *result = PyTuple_New(count);
    int whole = result != NULL;
    for (int i = 0; i < count; i++) {
        if (found[i] == NULL) whole = 0;
        if (result != NULL) PyTuple_SET_ITEM(result, i, found[i]); /* a tuple may hold NULL until it is seen */
        else Py_XDECREF(found[i]);
    }
    if (whole) return result;
    Py_XDECREF(result);
    return NULL;
}

PyObject *joined(const Span *pieces, int count) {
    Py_ssize_t size = 0;
    for (int i = 0; i < count; i++) {
        if (pieces[i].size > PY_SSIZE_T_MAX - size) return PyErr_NoMemory();
        size += pieces[i].size;
    }
    PyObject *result = PyBytes_FromStringAndSize(NULL, size);
    if (result == NULL) return NULL;
    char *out = PyBytes_AS_STRING(result);
    for (int i = 0; i < count; i++) {
        memcpy(out, pieces[i].at, (size_t)pieces[i].size);
        out += pieces[i].size;
    }
    return result;
}

#define FUNCTION(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}
static PyMethodDef methods[] = {
#ifdef BEFFROI_MORTAL
    FUNCTION(die_after),
#endif
    FUNCTION(read_request), FUNCTION(read_answer), FUNCTION(plain_head), FUNCTION(glance_chat),
    FUNCTION(edit_answer),  FUNCTION(regular_events), FUNCTION(frame_record), FUNCTION(request_id), FUNCTION(lockf_now), FUNCTION(take_words), FUNCTION(give_words), {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module) {
    crc_table();
    return chat_names(module) < 0 ? -1 : PyModule_AddIntConstant(module, "INTERFACE", INTERFACE);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)fill}, {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
