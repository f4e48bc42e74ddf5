# SPDX-License-Identifier: Apache-2.0
"""What is asked of a secret store, what is told of it in the configuration, and what of its answers may be shown.

In: where in which store. Out: `read` and `write` of one text, or `StoreFault` with a sentence that holds no secret.
"""

import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import httpx
import msgspec

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
MAX_ANSWER = 2 << 20  # bytes of an answer; a Kubernetes Secret has one MiB at most
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_FIELD = re.compile(r"[A-Za-z0-9._-]{1,128}")


class StoreFault(Exception):
    """A store that does not take or give a key now. The text is for people, and holds no secret."""


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A store as the configuration names it.

    Attributes:
        kind: file, kubernetes or vault; name: how keys refer to it.
        url, ca_file: of its API; token: a reference, `env:NAME` or `file:PATH`, looked up at each use.
        directory: of kind file; namespace: of kind kubernetes; mount: of the KV v2 engine, of kind vault.
        organisations: whose keys may be put there; `*`: everybody's.
    """

    name: str
    kind: str
    url: str = ""
    ca_file: str | None = None
    token: str | None = None
    directory: str = ""
    namespace: str = "default"
    mount: str = "secret"
    organisations: tuple[str, ...] = ("default",)


class Place(msgspec.Struct, frozen=True):
    """Where in a store: a path of plain names, and the field of what lies there."""

    organisation: str
    path: str
    field: str


class Store(Protocol):
    """One place in one store."""

    async def read(self) -> str | None:
        """What is there now; None: nothing.

        Raises:
            StoreFault: it does not say.
        """
        ...

    async def write(self, text: str) -> None:
        """Put it there, in the place of what `read` found last; never over what somebody else wrote since.

        Raises:
            StoreFault: it may or may not be there; `read` tells.
        """
        ...


Lookup = Callable[[str], str]
"""From a reference to the secret it names; raises `StoreFault`."""


def check_place(path: str, field: str) -> str:
    """Why a place can be none; empty: it can. Plain names alone: no path leads out of what a store is for."""
    names = path.split("/")
    if len(names) > 8 or not all(_PART.fullmatch(name) and ".." not in name for name in names):
        return "a path is made of names of letters, figures, `.`, `_` and `-`, eight at most, with `/` between them"
    if not _FIELD.fullmatch(field):
        return "a field is a name of letters, figures, `.`, `_` and `-`"
    return ""


def client(settings: StoreSettings, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client for one exchange with a store: its CA alone where it has one, no proxy of the environment, no redirect.

    Raises:
        StoreFault: the CA file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise StoreFault(f"the CA file of the store {settings.name} cannot be used: {_reason(error)}") from None
    return httpx.AsyncClient(
        verify=context, timeout=TIMEOUT, trust_env=False, follow_redirects=False, transport=transport
    )


async def ask(
    settings: StoreSettings,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str],
    body: Any = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> tuple[int, Any]:
    """One request: status, and the JSON object that came with it.

    Raises:
        StoreFault: no answer, too long an answer, or one that is not JSON.
    """
    content = None if body is None else msgspec.json.encode(body)
    url = settings.url.rstrip("/") + path
    taken = bytearray()
    try:
        async with (
            client(settings, transport) as http,
            http.stream(method, url, content=content, headers=dict(headers)) as answer,
        ):
            async for piece in answer.aiter_bytes():
                taken += piece
                if len(taken) > MAX_ANSWER:
                    raise StoreFault(f"the store {settings.name} answers more than {MAX_ANSWER} bytes")
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StoreFault(f"the store {settings.name} does not answer: {_reason(error)}") from None
    try:
        decoded = msgspec.json.decode(bytes(taken)) if taken else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        if status < 400:
            raise StoreFault(f"the store {settings.name} answers {status} with something that is not JSON") from None
        decoded = {}
    return status, decoded if isinstance(decoded, dict) else {}


def refused(settings: StoreSettings, status: int, said: str) -> StoreFault:
    """A fault out of a status; `said` is what to do about the common ones."""
    return StoreFault(f"the store {settings.name} answers {status}{': ' + said if said else ''}")


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
