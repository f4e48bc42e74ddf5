# SPDX-License-Identifier: Apache-2.0
"""Secrets stand elsewhere: a configuration holds references, `env:NAME` or `file:PATH`.

In: a reference. Out: the secret, or `Unreadable` with a sentence that does not show it.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

_ONE_LINE = re.compile(r"[!-~]+")
_LONGEST = 64 << 10
MASKED = "********"


class Unreadable(ValueError):
    """A reference that leads nowhere, or is none."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def look_up(reference: str, base: Path, environ: Mapping[str, str]) -> str:
    """The secret that a reference names, without white space around it.

    Args:
        base: where a relative path counts from.

    Raises:
        Unreadable: there is none, or it is not one line of visible ASCII characters.
    """
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        value = environ.get(name, "").strip()
        if not value:
            raise Unreadable(f"the environment has no {name}", f"set it for `beffroi serve`: export {name}=…")
    elif kind == "file" and name:
        path = base / name
        try:
            value = _content(path)
        except OSError as error:
            raise Unreadable(
                f"cannot read {path}: {error.strerror}", "put the secret there, alone, readable for this user"
            ) from None
    else:
        raise Unreadable(
            "must be a reference; secrets do not belong in this file",
            "write `env:NAME` for a variable or `file:PATH` for a file that holds it",
        )
    if not _ONE_LINE.fullmatch(value):
        raise Unreadable(
            "what it names is not one line of visible ASCII characters", "put the secret there alone, without quotes"
        )
    return value


def _content(path: Path) -> str:
    """The text of a file; empty when it is none, or too long for a secret. Waits for nobody: a pipe may never be written."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Unreadable(f"{path} is no regular file", "put the secret into a file of its own")
        raw = file.read(_LONGEST + 1)
    try:
        return raw.decode("utf-8").strip() if len(raw) <= _LONGEST else ""
    except UnicodeDecodeError:
        return ""


def anchored(reference: str, base: Path) -> str:
    """The same reference for a process that starts elsewhere: a relative path becomes an absolute one."""
    kind, _, name = reference.partition(":")
    return f"file:{(base / name).absolute()}" if kind == "file" else reference


def database_url(reference: str, environ: Mapping[str, str]) -> str:
    """The URL that an anchored reference names, or that stands there itself.

    Raises:
        Unreadable: as `look_up`.
    """
    if reference.startswith(("postgresql://", "postgres://")):
        return reference
    return look_up(reference, Path(), environ)


def masked(reference: str) -> str:
    """What may be shown of a secret setting: a reference, never a secret that somebody wrote in its place."""
    return reference if reference.startswith(("env:", "file:")) else MASKED
