# SPDX-License-Identifier: Apache-2.0
"""Which gateway a client command (`chat`, `bench`) talks to, with which key, and what its answers cost.

In: options, the environment, the data directory of a Beffroi here. Out: a `Gateway`, model names, price lists.
"""

import difflib
import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from beffroi.cli.client import Failure
from beffroi.cli.data import data_directory, data_option
from beffroi.cli.web import Gateway
from beffroi.core.price import Price
from beffroi.core.snapshot import Damaged
from beffroi.core.state import load_config

F = TypeVar("F", bound=Callable[..., Any])
URL_FILE = "api-url"  # in the data directory: where the last start listened
USUAL = "http://127.0.0.1:8400/v1"
_KEYS = ("BEFFROI_API_KEY", "OPENAI_API_KEY")
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared, not bound


class Wrong(Failure):
    """The command line is wrong; status 2, as click has it."""

    exit_code = 2


def gateway_options(command: F) -> F:
    """Adds `--url`, `--key`, `--ca` and `--data`; `find` takes them."""
    options = (
        click.option("--url", help="The API to talk to; else $BEFFROI_URL, else the Beffroi that runs here."),
        click.option(
            "--key", help="API key; better in $BEFFROI_API_KEY (or $OPENAI_API_KEY), where `ps` does not show it."
        ),
        click.option(
            "--ca",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="PEM file of the authority that signed its certificate; the system's when left out.",
        ),
        data_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def find(url: str | None, key: str | None, ca: Path | None, data: Path | None) -> Gateway:
    """The gateway to talk to.

    Raises:
        Wrong: the URL is none, or there is no key.
    """
    directory = data_directory(data)
    here = told(directory)
    chosen = tidy(url or os.environ.get("BEFFROI_URL") or here or USUAL)
    key = key or next((value for name in _KEYS if (value := os.environ.get(name))), None)
    if key is None:
        raise Wrong("there is no API key: set BEFFROI_API_KEY, or give --key; `beffroi keys create NAME` makes one")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Wrong("the API key must be one line of visible characters")
    if ca is not None:
        try:
            ssl.create_default_context(cafile=ca)
        except (OSError, ValueError):
            raise Wrong(f"{ca} holds no certificate in PEM form: name the authority's own certificate") from None
    return Gateway(chosen, key, ca, directory if chosen == here else None)


def tell(data: Path, url: str) -> None:
    """Leave word of where the API listens, for commands on this machine."""
    (data / URL_FILE).write_text(f"{url}\n", "ascii")


def told(data: Path) -> str | None:
    """Where the Beffroi of a data directory listens, by its own last word."""
    try:
        return (data / URL_FILE).read_text("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def reachable(host: str) -> str:
    """A host as a client on this machine writes it: a listener on every address is reached on loopback."""
    host = _ANY.get(host, host)
    return f"[{host}]" if ":" in host else host


def tidy(text: str) -> str:
    """A base URL as clients write it: with a scheme, and `/v1` where no path is given.

    Raises:
        Wrong: it is none.
    """
    url = (text if "://" in text else f"http://{text}").rstrip("/")
    try:
        parts = urlsplit(url)
        path = parts.path
        sound = (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and parts.port != 0
            and not parts.query
            and "@" not in parts.netloc
        )
    except ValueError:
        sound, path = False, ""
    if not sound or not url.isascii() or not url.isprintable() or " " in url:
        raise Wrong(f"{text!r} is no URL of an API: write http://host:port/v1 or https://host/v1")
    return url if path else f"{url}/v1"


def models(gateway: Gateway) -> list[str]:
    """Names of the models that the key may use.

    Raises:
        Failure: the gateway refuses, or does not answer with a list.
    """
    listed = gateway.call("GET", "/models")
    try:
        return [str(model["id"]) for model in listed["data"]]
    except (TypeError, KeyError):
        raise Failure(f"{gateway.url} answers GET /models with something that is no list of models") from None


def choose(name: str | None, known: Sequence[str], gateway: Gateway) -> str:
    """The model asked for, else the first that can chat.

    Raises:
        Failure: there is none.
    """
    if name is None:
        if not known:
            raise Failure("the key may use no model; `beffroi keys list` shows its models")
        speakers = _speakers(gateway)
        return next((model for model in known if model in speakers), known[0])
    if name in known or name in _aliases(gateway):
        return name
    near = difflib.get_close_matches(name, known, 1, 0.4)
    there = f"did you mean {near[0]}?" if near else f"there are {', '.join(known[:8])}"
    raise Failure(f"there is no model {name!r} for this key; {there}")


def prices(gateway: Gateway) -> dict[str, tuple[Price, ...]]:
    """Price lists by model name, where the gateway is this machine's own and its data may be read; else nothing."""
    found: dict[str, tuple[Price, ...]] = {}
    for model in _specs(gateway):
        if model.prices:
            found |= dict.fromkeys((model.id, *model.aliases), model.prices)
    return found


def _speakers(gateway: Gateway) -> set[str]:
    return {model.id for model in _specs(gateway) if "chat" in model.endpoints}


def _aliases(gateway: Gateway) -> set[str]:
    """Other names, from the list itself where it tells them."""
    listed = gateway.call("GET", "/models")
    return {str(alias) for model in listed["data"] for alias in model.get("aliases") or ()}


def _specs(gateway: Gateway) -> Sequence[Any]:
    if gateway.data is None:
        return ()
    try:
        return load_config(gateway.data).models
    except (OSError, Damaged):
        return ()
