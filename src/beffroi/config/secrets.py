# SPDX-License-Identifier: Apache-2.0
"""Secrets stand elsewhere: a configuration holds references, `env:NAME` or `file:PATH`.

In: a reference. Out: the secret, or `Unreadable` with a sentence that does not show it.
"""

import re
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
            with path.open("rb") as file:
                value = file.read(_LONGEST).decode("utf-8").strip()
        except OSError as error:
            raise Unreadable(
                f"cannot read {path}: {error.strerror}", "put the secret there, alone, readable for this user"
            ) from None
        except UnicodeDecodeError:
            value = ""
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


def masked(reference: str) -> str:
    """What may be shown of a secret setting: a reference, never a secret that somebody wrote in its place."""
    return reference if reference.startswith(("env:", "file:")) else MASKED
