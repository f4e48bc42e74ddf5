# SPDX-License-Identifier: Apache-2.0
"""Which control process a command of administration speaks to: the one of a data directory, or one far away.

In: `--data`, or `--control URL` with `$BEFFROI_ADMIN_KEY`. Out: answers of its admin API, `Failure` where it refuses.
On the socket of a data directory whoever may open it is the operator; over HTTP the admin key says who asks.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlencode, urlsplit

import click

from beffroi.cli.client import Where, call
from beffroi.cli.data import data_directory
from beffroi.cli.web import reason

F = TypeVar("F", bound=Callable[..., Any])
KEY = "BEFFROI_ADMIN_KEY"
CONTROL = "BEFFROI_CONTROL"
_PASSING = frozenset({502, 503, 504})


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
        if self.url:
            headers["authorization"] = f"Bearer {os.environ.get(KEY, '')}"
        return call(self._where(), method, target, body, repeatable=repeatable, headers=headers)

    def _where(self) -> Where | Path:
        if not self.url:
            return data_directory(self.data)
        return Where(self.url, urlsplit(self.url).netloc, lambda error: f"{self.url} {reason(error)}", _PASSING)

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
