# SPDX-License-Identifier: Apache-2.0
"""Which control process a command of administration speaks to: the one of a data directory, or one far away.

In: `--data`, or `--control URL` with `$BEFFROI_ADMIN_KEY`. Out: answers of its admin API, `Failure` where it refuses.
On the socket of a data directory whoever may open it is the operator; over HTTP the admin key says who asks.
"""

import http.client
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlencode, urlsplit

import click

from beffroi.cli import client
from beffroi.cli.client import ANSWER, PATIENCE, Absent, Failure, Unknown
from beffroi.cli.data import data_directory

F = TypeVar("F", bound=Callable[..., Any])
KEY = "BEFFROI_ADMIN_KEY"
CONTROL = "BEFFROI_CONTROL"
_MOST = 64 << 20  # bytes of one answer
_REPEATED = (502, 503, 504)


@dataclass(frozen=True)
class Control:
    """Where to ask. `url` is empty for the socket of the data directory `data`."""

    data: Path | None
    url: str = ""

    def call(
        self, method: str, path: str, body: Any = None, *, query: dict[str, str] | None = None, once: str = ""
    ) -> Any:
        """One request, and what it answers.

        Args:
            path: from `/api/v1` on; query: added to it.
            once: an Idempotency-Key, with which it may be sent again though it makes something.

        Raises:
            Failure: it was refused, or nobody is there, or nobody knows.
        """
        target = path + (f"?{urlencode(query)}" if query else "")
        repeatable = method in ("GET", "PUT") or bool(once)
        headers = {"idempotency-key": once} if once else {}
        if not self.url:
            return client.call(data_directory(self.data), method, target, body, repeatable=repeatable, headers=headers)
        return _remote(urlsplit(self.url), method, target, body, repeatable=repeatable, headers=headers)

    def pages(self, path: str, *, query: dict[str, str] | None = None) -> list[Any]:
        """Every object of a list, page after page."""
        found: list[Any] = []
        cursor: str | None = None
        while True:
            asked = {**(query or {}), "limit": "200", **({"cursor": cursor} if cursor else {})}
            page = self.call("GET", path, query=asked)
            found += page["data"]
            cursor = page.get("next")
            if not cursor:
                return found


def control_options(command: F) -> F:
    """Adds `--data` and `--control`; the command is given `control`, a `Control`."""

    def chosen(context: click.Context, _parameter: click.Parameter, value: str | None) -> Control:
        data = context.params.pop("data", None)
        if value and data:
            raise click.UsageError("name a data directory or a control port, not both")
        return Control(data, "" if data else _checked(value or os.environ.get(CONTROL, "")))

    command = click.option(
        "--control",
        metavar="URL",
        callback=chosen,
        help=f"Control port of a Beffroi elsewhere (or ${CONTROL}), with an admin key in ${KEY}; else the one of --data.",
    )(command)
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False, readable=False),
        default=None,
        is_eager=True,
        help="Data directory; else $BEFFROI_DATA, server.data of the configuration, ./.beffroi, ~/.local/share/beffroi.",
    )(command)


def _checked(url: str) -> str:
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        parts, sound = SplitResult("", "", "", "", ""), False
    if not sound:
        raise click.BadParameter(f"`{url}` is no address; write one such as https://beffroi.example.org:8401")
    if not os.environ.get(KEY):
        raise click.UsageError(f"put an admin key (bfa-…) into ${KEY}; `beffroi admin-keys create` makes one")
    if parts.scheme == "http" and not _near(parts.hostname or ""):
        click.echo("warning: the admin key goes over the network in clear; use https, or a tunnel", err=True)
    return url.rstrip("/")


def _near(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _remote(
    where: SplitResult, method: str, target: str, body: Any, *, repeatable: bool, headers: dict[str, str]
) -> Any:
    deadline = time.monotonic() + PATIENCE
    content = None if body is None else json.dumps(body).encode()
    headers = {**headers, "authorization": f"Bearer {os.environ.get(KEY, '')}"}
    if content is not None:
        headers["content-type"] = "application/json"
    while True:
        kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
        connection = kind(where.hostname or "", where.port, timeout=ANSWER)
        sent = False
        try:
            connection.connect()
            sent = True
            connection.request(method, where.path.rstrip("/") + target, content, headers)
            response = connection.getresponse()
            found = response.read(_MOST)
            if response.status in _REPEATED and repeatable and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            return client.read(response.status, found)
        except TimeoutError:
            raise Unknown(f"{where.netloc} has not answered for {ANSWER:.0f} s") from None
        except (OSError, http.client.HTTPException) as error:
            if sent and not repeatable:
                raise Unknown(f"{where.netloc} closed while it worked on this; look whether it was done") from None
            if time.monotonic() >= deadline:
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                raise Absent(f"nobody answers at {where.geturl()}: {reason}") from None
            time.sleep(0.1)
        finally:
            connection.close()


__all__ = ["CONTROL", "KEY", "Control", "Failure", "control_options"]
