# SPDX-License-Identifier: Apache-2.0
"""Whether somebody holds a lock of the kernel's (flock), which the dead never do.

In: a file or a folder. Out: yes or no; nothing is locked afterwards that was not before.
"""

import fcntl
import os
from pathlib import Path


def is_locked(fd: int, how: int = fcntl.LOCK_SH) -> bool:
    """Whether somebody else holds a lock on an open file, on which we hold none.

    Args:
        how: LOCK_SH: a lock that keeps all others out; LOCK_EX: one that lets others look on, too.
    """
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def is_held(path: Path, how: int = fcntl.LOCK_SH) -> bool:
    """As `is_locked`, of a path; what is not there is held by nobody."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return is_locked(fd, how)
    finally:
        os.close(fd)
