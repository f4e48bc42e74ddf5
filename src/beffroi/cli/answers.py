# SPDX-License-Identifier: Apache-2.0
"""What the answers to the questions of `beffroi init` become.

In: answers as they were typed. Out: a document in the shape of a configuration file, with nothing in it that is a default.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from beffroi.cli.client import Failure
from beffroi.supervisor import engines

OWN = "embedded"
_HOST, _PORT = "127.0.0.1", 8400
_AMOUNT = re.compile(r"(?:0|[1-9]\d{0,11})(?:\.\d{1,9})?")


@dataclass
class Answers:
    """What the file is made of; None: not said yet. `found` are the engines of `urls` that answered."""

    urls: tuple[str, ...] | None
    key: str | None
    models: tuple[str, ...] | None
    price: dict[str, Any] | None
    listen: dict[str, Any] | None
    data: str | None
    found: list[engines.Found] = field(default_factory=list)


def price(text: str) -> dict[str, Any]:
    """One line of a price list, of `0.9 4`; empty when it costs nothing.

    Raises:
        Failure: these are not two amounts.
    """
    parts = text.replace("/", " ").split()
    if set(parts) <= {"0"}:
        return {}
    if len(parts) != 2 or not all(map(_AMOUNT.fullmatch, parts)):
        raise Failure(f"`{text}` is no price: write two amounts, input then output, such as '0.9 4'")
    return dict(zip(("input", "output"), map(json.loads, parts), strict=True))


def address(text: str) -> dict[str, Any]:
    """`server.host` and `server.port` of `HOST:PORT`, or of a port alone; defaults are left out.

    Raises:
        Failure: it has no port.
    """
    host, _, port = text.strip().rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise Failure(f"`{text}` is no address: write HOST:PORT, such as {_HOST}:{_PORT}")
    said = {"host": host.strip("[]") or _HOST, "port": int(port)}
    return {name: value for name, value in said.items() if value not in (_HOST, _PORT)}


def split_models(text: str, listed: Sequence[str]) -> tuple[str, ...]:
    """Models of a list with commas, each one that an engine lists.

    Raises:
        Failure: one is not listed.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        _require(name.partition("=")[2] or name, listed)
    return names


def _require(name: str, listed: Sequence[str]) -> None:
    if name not in listed:
        raise Failure(f"no engine lists the model {name}; there are {', '.join(listed)}")


def document_of(answers: Answers) -> dict[str, Any]:
    """The whole file as plain data.

    Raises:
        Failure: the answers do not go together.
    """
    server = dict(answers.listen or {})
    if answers.data:
        server["data"] = answers.data
    urls = [url for url in answers.urls or () if url != OWN]
    if urls and OWN in (answers.urls or ()):
        raise Failure(
            f"a file cannot name the embedded engine beside others; use `beffroi serve --engine {OWN} --engine …`"
        )
    return {"server": server, "resources": _resources(answers, urls) if urls else {}}


def _resources(answers: Answers, urls: list[str]) -> dict[str, Any]:
    if answers.found:
        listed = engines.resources(answers.found)
    else:
        names = ["engine", *(f"engine-{number}" for number in range(2, len(urls) + 1))]
        tidy = [url.rstrip("/").removesuffix("/v1") for url in urls]
        rows = [{"name": name, "url": url, "kind": "openai"} for name, url in zip(names, tidy, strict=True)]
        listed = {"engines": rows, "models": []}
    for engine in listed["engines"]:
        engine.pop("machine", None)  # the engine's name is as good
        if answers.key:
            engine["api_key"] = answers.key
    known = {model["id"]: model for model in listed["models"]}
    models = [_model(name, known, listed["engines"]) for name in answers.models or known]
    if answers.price:
        models = [{**model, "prices": [answers.price]} for model in models]
    return {"engines": listed["engines"], "models": models}


def _model(name: str, known: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A model as it was asked for: `NAME`, or `NAME=THE-ENGINE'S-NAME`."""
    public, _, inner = name.partition("=")
    inner = inner or public
    if known:
        _require(inner, tuple(known))
    targets = known[inner]["targets"] if known else [{"engine": row["name"], "model": inner} for row in rows]
    shown = [{"engine": one["engine"]} if one["model"] == public else one for one in targets]
    length = known.get(inner, {}).get("max_model_len")
    return {"id": public, "targets": shown, **({"max_model_len": length} if length else {})}
