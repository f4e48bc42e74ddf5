# SPDX-License-Identifier: Apache-2.0
"""Where the limits that several machines share are kept: the address of a Valkey or Redis, looked up and checked.

In: `server.valkey`, `server.valkey_prefix`. Out: what workers and control are told, or the faults. A password is never shown.
"""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from beffroi.config.load import Place, Problem, Source, dotted
from beffroi.config.secrets import Unreadable, look_up

_SCHEMES = {"redis": "redis", "valkey": "redis", "rediss": "rediss", "valkeys": "rediss", "unix": "unix"}
_PREFIX = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_WRITE = "write redis://host:6379/0, rediss://user:password@host:6379/0 (TLS) or unix:///path?db=0"


def valkey_of(source: Source, environ: Mapping[str, str]) -> dict[str, str] | None:
    """What a process needs to find the shared limits: `url`, `prefix`; None: limits are this machine's own.

    Raises:
        Unreadable: a reference leads nowhere, or to no address.
    """
    server = source.document.server
    return None if server.valkey is None else {
        "url": address(server.valkey, source.base, environ),
        "prefix": server.valkey_prefix,
    }  # fmt: skip


def address(reference: str, base: Path, environ: Mapping[str, str]) -> str:
    """The address that a setting gives or refers to, as the client library wants it.

    Raises:
        Unreadable: there is none.
    """
    direct = not reference.startswith(("env:", "file:"))
    text = reference if direct else look_up(reference, base, environ)
    try:
        parts = urlsplit(text)
        host, password = parts.hostname, parts.password
        fault = parts.scheme not in _SCHEMES or not (parts.path if parts.scheme == "unix" else host)
        fault = fault or (parts.scheme != "unix" and parts.port == 0)
    except ValueError:
        fault, password = True, None
    if fault:
        raise Unreadable("is no address of a Valkey or Redis", _WRITE)
    if direct and (password or "password=" in text):
        raise Unreadable(
            "holds a password; secrets do not belong in this file",
            "write `env:NAME` for a variable or `file:PATH` for a file that holds the whole address",
        )
    scheme, rest = text.split(":", 1)
    return f"{_SCHEMES[scheme]}:{rest}"


def check_valkey(source: Source, environ: Mapping[str, str]) -> list[Problem]:
    """Faults of both settings."""
    server = source.document.server
    faults: list[Problem] = []

    def note(place: Place, message: str, remedy: str) -> None:
        if source.broken.sound(*place):
            faults.append(Problem(source.marks.value(place), dotted(place), message, remedy))

    if not _PREFIX.fullmatch(server.valkey_prefix):
        note(
            ("server", "valkey_prefix"),
            "must be up to 40 lower-case letters, figures and hyphens",
            "name the installation, such as `beffroi` or `town-hall`",
        )
    if server.valkey is not None:
        try:
            address(server.valkey, source.base, environ)
        except Unreadable as error:
            note(("server", "valkey"), error.message, error.remedy)
        if importlib.util.find_spec("redis") is None:
            note(
                ("server", "valkey"),
                "needs the Python package `redis`, which is not installed",
                "install Beffroi with its extra: beffroi[fleet]",
            )
    return faults
