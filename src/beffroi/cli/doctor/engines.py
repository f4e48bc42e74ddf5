# SPDX-License-Identifier: Apache-2.0
"""Engines: reachable, answering their model list, serving what the configuration says they serve.

In: a `Scene`. Out: findings, one an engine.
"""

import importlib.util
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any, NamedTuple

from beffroi.cli import web
from beffroi.cli.doctor.certificates import SOON
from beffroi.cli.doctor.scene import OK, PROBLEM, WARNING, Finding, Scene
from beffroi.core.snapshot import Config, EngineSpec
from beffroi.embedded.settings import ENGINE
from beffroi.supervisor.connection import connect, prefix
from beffroi.supervisor.engines import USUAL, on_loopback

_WAIT = 5.0
_SLOW = 1.0
_AT_ONCE = 16


class Answer(NamedTuple):
    """What an engine said to `GET /v1/models`.

    Attributes:
        fault: why there is no list; empty: there is.
        certificate_ends: Unix seconds; None: it has none.
    """

    fault: str
    seconds: float = 0.0
    models: frozenset[str] = frozenset()
    certificate_ends: float | None = None


def engines(scene: Scene) -> Iterator[Finding]:
    """Each engine of the configuration, or those found on this machine."""
    config = scene.config
    if scene.faults:
        yield Finding("engines", WARNING, "They are not asked: the configuration has faults.", "Mend those first.")
        return
    if config is None or not config.engines:
        yield judge_found([f"{engine.kind} at {engine.url}" for engine in on_loopback()], own=_has_own())
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for engine, answer in zip(config.engines, pool.map(ask, config.engines), strict=True):
            if engine.name == ENGINE and not scene.supervisor:
                yield Finding(f"engine {engine.name}", OK, "Our own; it runs while Beffroi runs.")
            else:
                yield judge_engine(engine, answer, _wanted(config, engine.name), time.time())


def judge_found(found: list[str], *, own: bool) -> Finding:
    """`found`: engines that answer on the usual ports; `own`: whether the embedded one can be started."""
    if found:
        return Finding("engines", OK, f"None is configured; a start serves what is found here: {', '.join(found)}.")
    looked = ", ".join(f"{port} ({name})" for name, port in USUAL.items())
    if own:
        return Finding(
            "engines", OK, f"None is configured and none is found on {looked}: a start brings its own small one."
        )
    return Finding(
        "engines", PROBLEM, f"None is configured, none is found on {looked}, and our own is not installed.",
        "Start an engine, name one with --engine or resources.engines, or install `beffroi[embedded]`.",
    )  # fmt: skip


def judge_engine(engine: EngineSpec, answer: Answer, wanted: frozenset[str], now: float) -> Finding:
    """`wanted`: the names under which the configuration asks it for models."""
    name = f"engine {engine.name}"
    if answer.fault:
        return Finding(
            name, PROBLEM, f"{engine.url} {answer.fault}.", "Start it, or mend its url, api_key or ca_file in resources.engines."
        )  # fmt: skip
    missing = sorted(model for model in wanted if not {model, f"{model}:latest"} & answer.models)
    if missing:
        has = ", ".join(sorted(answer.models)[:5]) or "nothing"
        return Finding(
            name, PROBLEM, f"{engine.url} does not list {', '.join(missing)}; it has {has}.",
            "Load the model there, or write the engine's own name in targets[].model.",
        )  # fmt: skip
    if answer.certificate_ends is not None and answer.certificate_ends < now + SOON * 86_400:
        day = time.strftime("%Y-%m-%d", time.gmtime(answer.certificate_ends))
        return Finding(name, WARNING, f"The certificate of {engine.url} ends on {day}.", "Have it renewed there.")
    said = f"{engine.url} answers in {answer.seconds * 1000:.0f} ms and has {_all(len(wanted))} asked of it"
    if answer.seconds > _SLOW:
        return Finding(
            name, WARNING, f"{said}: that is slow for a list.", "Look at its load and at the network between."
        )
    return Finding(name, OK, f"{said}.")


def _all(models: int) -> str:
    return "the one model" if models == 1 else f"all {models} models"


def ask(engine: EngineSpec) -> Answer:
    """The model list of one engine, asked with its own key and authority."""
    began = time.monotonic()
    try:
        connection = connect(engine.url, _WAIT, engine.ca_file)
        try:
            connection.connect()
            ends = _certificate_ends(connection.sock)
            headers = {"accept": "application/json"}
            if engine.api_key is not None:
                headers["authorization"] = f"Bearer {engine.api_key}"
            connection.request("GET", f"{prefix(engine.url)}/v1/models", headers=headers)
            answer = connection.getresponse()
            status, content = answer.status, web.parsed(answer.read(web.LONGEST))
        finally:
            connection.close()
    except (OSError, HTTPException, ValueError) as error:
        return Answer(web.reason(error))
    if status in {401, 403}:
        return Answer(
            f"refuses {'the key that it is given' if engine.api_key else 'to answer without a key'} (status {status})"
        )
    listed = content.get("data") if isinstance(content, dict) else None
    if status != 200 or not isinstance(listed, list):
        return Answer(f"answers its model list with status {status} and something else")
    names = frozenset(str(one["id"]) for one in listed if isinstance(one, dict) and "id" in one)
    return Answer("", time.monotonic() - began, names, ends)


def _certificate_ends(sock: Any) -> float | None:
    told = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
    return ssl.cert_time_to_seconds(str(told["notAfter"])) if told else None


def _wanted(config: Config, engine: str) -> frozenset[str]:
    return frozenset(target.model for model in config.models for target in model.targets if target.engine == engine)


def _has_own() -> bool:
    return importlib.util.find_spec("xllamacpp") is not None
