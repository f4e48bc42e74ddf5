# SPDX-License-Identifier: Apache-2.0
"""Finds engines: what listens on loopback where engines usually do, and what the person at the terminal names.

In: ports and URLs. Out: `Found`, each engine with the models of its own list; only what answers that list counts (D4).
And of engines that a file names: which of them take no connection now.
"""

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from beffroi.supervisor.connection import connect, prefix
from beffroi.supervisor.errors import StartError

USUAL = {"Ollama": 11434, "vLLM": 8000, "llama.cpp": 8080, "SGLang": 30000, "LM Studio": 1234}
_LOOK = 0.8  # seconds for a whole look at one port; all ports are looked at together
_WAIT = 5.0  # seconds that an engine named on the command line gets to answer
_LONGEST = 4 << 20
_OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp", "library": "ollama"}
_SCHEMES = ("http", "https", "unix")
_NAME = re.compile(r"[!-~]{1,200}")


class NotAnEngine(Exception):
    """What answered, or did not, is no engine; the text says why."""


@dataclass(frozen=True)
class Served:
    """One model of an engine's list; `length` is its context in tokens, if the engine says."""

    id: str
    length: int | None


@dataclass(frozen=True)
class Found:
    """An engine that answered its model list. `kind` is the dialect that its answers show, `openai` when they show none."""

    name: str
    url: str
    kind: str
    models: tuple[Served, ...]


def on_loopback(ports: dict[str, int] = USUAL) -> list[Found]:
    """The engines that answer on 127.0.0.1 within a second."""
    answers: dict[str, Found] = {}

    def look(url: str) -> None:
        with suppress(NotAnEngine):
            answers[url] = ask(url, timeout=_LOOK)

    urls = [f"http://127.0.0.1:{port}" for port in ports.values()]
    looks = [threading.Thread(target=look, args=(url,), daemon=True) for url in urls]
    for one in looks:
        one.start()
    deadline = time.monotonic() + _LOOK
    for one in looks:  # what drips its answer is left behind
        one.join(max(0.0, deadline - time.monotonic()))
    return _distinct([answers[url] for url in urls if url in answers])


def closed(urls: Iterable[str]) -> dict[str, str]:
    """Those of `urls` that take no connection within a second, each with the reason."""
    reasons: dict[str, str] = {}

    def knock(url: str) -> None:
        try:
            _connect(url)
        except OSError as error:
            reasons[url] = error.strerror or str(error) or "no answer"

    knocks = {url: threading.Thread(target=knock, args=(url,), daemon=True) for url in urls}
    for one in knocks.values():
        one.start()
    deadline = time.monotonic() + _LOOK
    for url, one in knocks.items():
        one.join(max(0.0, deadline - time.monotonic()))
        if one.is_alive():
            reasons[url] = f"no answer within {_LOOK} s"
    return dict(reasons)


def _connect(url: str) -> None:
    if url.startswith("unix:"):
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(_LOOK)
            one.connect(url.removeprefix("unix:"))
        return
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    socket.create_connection((parts.hostname or "", port), timeout=_LOOK).close()


def named(urls: tuple[str, ...], wait: float = _WAIT, key: str | None = None) -> list[Found]:
    """The engines at `urls`, each asked until it answers; with `key`, if they want one.

    Raises:
        StartError: one does not answer its model list within `wait` seconds, or its URL is none.
    """
    found = []
    for text in urls:
        url = _tidy(text)
        deadline = time.monotonic() + wait
        while True:
            try:
                found.append(ask(url, timeout=5.0, key=key))
                break
            except NotAnEngine as reason:
                if time.monotonic() > deadline:
                    raise StartError(
                        f"No engine answers at {url}: {reason}.\n"
                        "An engine is one that answers GET /v1/models. Start it first, or leave --engine out for the embedded one."
                    ) from None
            time.sleep(0.25)
    return _distinct(found)


def resources(found: list[Found]) -> dict[str, Any]:
    """Engines and models in the shape of a configuration file; a model that several engines list has them all in its pool."""
    models: dict[str, dict[str, Any]] = {}
    for engine in found:
        for served in engine.models:
            model = models.setdefault(served.id, {"id": served.id, "targets": []})
            model["targets"].append({"engine": engine.name, "model": served.id})
            lengths = [length for length in (model.get("max_model_len"), served.length) if length]
            if lengths:
                model["max_model_len"] = min(lengths)
    return {
        "engines": [
            {"name": engine.name, "url": engine.url, "kind": engine.kind, "machine": _machine(engine.url)}
            for engine in found
        ],
        "models": list(models.values()),
    }


def ask(url: str, timeout: float, key: str | None = None) -> Found:
    """The engine at `url`; `key` goes with the question.

    Raises:
        NotAnEngine: it is none, or does not answer within `timeout` seconds (per read).
    """
    connection = connect(url, timeout)
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        connection.request("GET", f"{prefix(url)}/v1/models", headers=headers)
        answer = connection.getresponse()
        body = answer.read(_LONGEST)
    except (OSError, http.client.HTTPException) as error:
        raise NotAnEngine(str(error) or type(error).__name__) from None
    finally:
        connection.close()
    if answer.status in {401, 403}:
        raise NotAnEngine(
            f"it wants a key (status {answer.status}); give it one in a configuration file, resources.engines[].api_key"
        )
    if answer.status != 200:
        raise NotAnEngine(f"its model list answers with status {answer.status}")
    try:
        listed = json.loads(body)["data"]
        models = [entry for entry in listed if entry.get("object", "model") == "model" and _NAME.fullmatch(entry["id"])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NotAnEngine("what it answers is no model list") from None
    if not models:
        raise NotAnEngine("its model list is empty; load a model first")
    kind = _kind(models[0], answer.getheader("Server", ""))
    return Found(kind, url, kind, tuple(Served(entry["id"], _length(entry)) for entry in models))


def _kind(model: dict[str, Any], server: str) -> str:
    owner = str(model.get("owned_by", "")).lower()
    return "llamacpp" if server == "llama.cpp" else _OWNERS.get(owner, "openai")


def _length(model: dict[str, Any]) -> int | None:
    meta = model.get("meta")
    for length in (
        model.get("max_model_len"),
        *(meta.get(name) for name in ("n_ctx", "n_ctx_train") if isinstance(meta, dict)),
    ):
        if isinstance(length, int) and length > 0:
            return length
    return None


def _distinct(found: list[Found]) -> list[Found]:
    """The same engines under names that differ: `vllm`, `vllm-2`."""
    count: dict[str, int] = {}
    distinct = []
    for engine in found:
        number = count[engine.kind] = count.get(engine.kind, 0) + 1
        name = engine.kind if number == 1 else f"{engine.kind}-{number}"
        distinct.append(Found(name, engine.url, engine.kind, engine.models))
    return distinct


def _tidy(text: str) -> str:
    """A URL as engines are configured: with a scheme, without `/v1`."""
    url = (text if "://" in text or text.startswith("unix:/") else f"http://{text}").rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(url)
        host = parts.path.startswith("/") if parts.scheme == "unix" else bool(parts.hostname) and parts.port != 0
        sound = host and parts.scheme in _SCHEMES and not parts.query and not parts.fragment and "@" not in parts.netloc
    except ValueError:
        sound = False
    if not sound:
        raise StartError(
            f"{text!r} is no engine's URL: write http://host:port, https://host:port or unix:/path.", code=2
        )
    return url


def _machine(url: str) -> str:
    host = urlsplit(url).hostname
    return socket.gethostname() if host in {None, "localhost", "127.0.0.1", "::1"} else str(host)
