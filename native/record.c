/* SPDX-License-Identifier: Apache-2.0
 * Records of the journal as core/record.py frames them, and ids of requests as core/ids.py spells them.
 */
#include "native.h"

static uint32_t TABLE[8][256];

/* CRC-32C (RFC 3720, appendix B.4), eight bytes at a time. */
void crc_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
        TABLE[0][i] = crc;
    }
    for (int row = 1; row < 8; row++)
        for (int i = 0; i < 256; i++) TABLE[row][i] = TABLE[row - 1][i] >> 8 ^ TABLE[0][TABLE[row - 1][i] & 0xff];
}

static uint32_t crc32c(uint32_t crc, const unsigned char *p, Py_ssize_t size) {
    crc = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        crc = TABLE[7][crc & 0xff] ^ TABLE[6][crc >> 8 & 0xff] ^ TABLE[5][crc >> 16 & 0xff] ^ TABLE[4][crc >> 24] ^ TABLE[3][p[4]] ^ TABLE[2][p[5]] ^
              TABLE[1][p[6]] ^ TABLE[0][p[7]];
    }
    for (; size > 0; size--, p++) crc = TABLE[0][(crc ^ *p) & 0xff] ^ crc >> 8;
    return ~crc;
}

static void little(unsigned char *out, uint64_t value, int size) {
    for (int i = 0; i < size; i++) out[i] = (unsigned char)(value >> (8 * i));
}

/* frame_record(kind, sequence, payload) -> length u32, CRC-32C u32, kind u8, sequence u64 (little endian), payload */
PyObject *frame_record(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Span payload;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "frame_record(kind, sequence, payload)");
        return NULL;
    }
    long kind = PyLong_AsLong(args[0]);
    if (kind == -1 && PyErr_Occurred()) return NULL;
    unsigned long long sequence = PyLong_AsUnsignedLongLong(args[1]);
    if (sequence == (unsigned long long)-1 && PyErr_Occurred()) return NULL;
    if (!span_of(args[2], &payload)) return NULL;
    if (kind < 0 || kind > 255 || payload.size > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "no such kind, or a payload that is far too large");
        return NULL;
    }
    PyObject *record = PyBytes_FromStringAndSize(NULL, 17 + payload.size);
    if (record == NULL) return NULL;
    unsigned char *out = (unsigned char *)PyBytes_AS_STRING(record);
    little(out, (uint64_t)payload.size, 4);
    out[8] = (unsigned char)kind;
    little(out + 9, sequence, 8);
    memcpy(out + 17, payload.at, (size_t)payload.size);
    little(out + 4, crc32c(0, out + 8, 9 + payload.size), 4);
    return record;
}

/* request_id(high, low) -> "req_" and both as sixteen hexadecimal digits */
PyObject *request_id(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "request_id(high, low)");
        return NULL;
    }
    char text[36] = "req_";
    for (int half = 0; half < 2; half++) {
        unsigned long long value = PyLong_AsUnsignedLongLong(args[half]);
        if (value == (unsigned long long)-1 && PyErr_Occurred()) return NULL;
        for (int i = 0; i < 16; i++) text[4 + 16 * half + i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
    }
    return PyUnicode_FromStringAndSize(text, 36);
}
