/* SPDX-License-Identifier: Apache-2.0
 * Record locks that wait for nobody, as fcntl.lockf takes them.
 */
#include "native.h"
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

/* lockf_now(fd, command, length, start): LOCK_EX | LOCK_NB or LOCK_UN, from the beginning of the file.
 * The interpreter's lock is kept: the call returns at once, and giving it up costs as much as the call. */
PyObject *lockf_now(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    long long given[4];
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "lockf_now(fd, command, length, start)");
        return NULL;
    }
    for (int i = 0; i < 4; i++) {
        given[i] = PyLong_AsLongLong(args[i]);
        if (given[i] == -1 && PyErr_Occurred()) return NULL;
    }
    if (given[0] < 0 || given[0] > INT32_MAX || (given[1] != (LOCK_EX | LOCK_NB) && given[1] != LOCK_UN) || given[2] < 0 || given[3] < 0) {
        PyErr_SetString(PyExc_ValueError, "no such lock");
        return NULL;
    }
    struct flock lock = {
        .l_type = given[1] == LOCK_UN ? F_UNLCK : F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)given[3], .l_len = (off_t)given[2],
    };
    int done;
    do done = fcntl((int)given[0], F_SETLK, &lock);
    while (done < 0 && errno == EINTR);
    if (done < 0) return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}
