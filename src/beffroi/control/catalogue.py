# SPDX-License-Identifier: Apache-2.0
"""What is served and by whom: models with their prices and state, engines with their health and latest latency.

In: the configuration in force, what the workers count, the last hour of the ledger. Out: plain data.
"""

import time
from collections.abc import Iterable
from datetime import datetime
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, select

from beffroi.control.ledger import id_at
from beffroi.core.clock import stamp
from beffroi.core.price import Price, price_at
from beffroi.core.snapshot import Config, EngineSpec, ModelSpec
from beffroi.store.engine import reading
from beffroi.store.tables import exchanges
from beffroi.telemetry.metrics import WorkerMetrics

HOUR = 3_600
LOOKED_AT = 10_000  # attempts of that hour, the newest, that latency is told from
FAULTS = ("engine_gone", "engine_timeout", "engine_refused")
Workers = dict[int, WorkerMetrics]
_t = exchanges.c


def models(config: Config, workers: Workers, *, pools: bool = True) -> list[dict[str, Any]]:
    """Every public model. `state`: ready, degraded (an engine of its pool is out), down (all are), unknown.

    Args:
        pools: show which engines serve it, which is for those who run the installation.
    """
    states = {engine.name: _state(engine.name, workers) for engine in config.engines}
    found = [_model(spec, states, config.settings.time_zone) for spec in config.models]
    return found if pools else [{name: each[name] for name in each if name != "engines"} for each in found]


def _model(spec: ModelSpec, states: dict[str, str], zone: str) -> dict[str, Any]:
    pool = [states.get(target.engine, "unknown") for target in spec.targets]
    now = int(time.time())
    ahead = [price for price in spec.prices if price.effective > now]
    return {
        "id": spec.id,
        "aliases": list(spec.aliases),
        "state": _together(pool),
        "engines": [
            {"name": target.engine, "model": target.model, "state": state}
            for target, state in zip(spec.targets, pool, strict=True)
        ],
        "endpoints": list(spec.endpoints),
        "owned_by": spec.owned_by,
        "max_model_len": spec.max_model_len,
        "max_output": spec.max_output,
        "price": _price(price_at(spec.prices, now), zone),
        "next_price": _price(min(ahead, key=lambda price: price.effective), zone) if ahead else None,
    }


def _together(pool: list[str]) -> str:
    states = set(pool)
    if states <= {"out"}:
        return "down"
    if states == {"unknown"}:
        return "unknown"
    return "ready" if states <= {"up", "untried"} else "degraded"


def _price(price: Price, zone: str) -> dict[str, Any]:
    """Nano-units per million tokens; the day from which they hold, as the configuration has it."""
    day = datetime.fromtimestamp(price.effective, ZoneInfo(zone)).date().isoformat()
    return {
        "version": price.version,
        "effective": day if price.effective else None,
        "currency": price.currency,
        "input_nano": price.input,
        "cached_nano": price.input if price.cached is None else price.cached,
        "output_nano": price.output,
        "reasoning_nano": price.reasoning,
    }


def _state(name: str, workers: Workers) -> str:
    """How the workers find an engine: up, untried, degraded (out of some workers' pools), out, unknown."""
    seen = [metrics.engines[name] for metrics in workers.values() if name in metrics.engines]
    if not seen:
        return "unknown"
    out = sum(each.ejected for each in seen)
    if out:
        return "out" if out == len(seen) else "degraded"
    return "up" if any(each.requests for each in seen) else "untried"


def engines(engine: Engine, config: Config, workers: Workers) -> list[dict[str, Any]]:
    """Every engine. Counts are the living workers', latency and last fault those of the last hour. Blocking."""
    lately = _lately(engine)
    return [_engine(spec, config, workers, lately.get(spec.name, [])) for spec in config.engines]


def _engine(spec: EngineSpec, config: Config, workers: Workers, rows: list[Any]) -> dict[str, Any]:
    seen = {slot: metrics.engines[spec.name] for slot, metrics in workers.items() if spec.name in metrics.engines}
    well = [row for row in rows if row.outcome == "complete"]
    fault = next((row for row in rows if row.outcome in FAULTS), None)
    return {
        "name": spec.name,
        "kind": spec.kind,
        "url": spec.url,
        "machine": spec.machine or spec.name,
        "state": _state(spec.name, workers),
        "ejected_by": sorted(slot for slot, each in seen.items() if each.ejected),
        "workers": len(seen),
        "models": [
            {"id": model.id, "model": target.model}
            for model in config.models
            for target in model.targets
            if target.engine == spec.name
        ],
        **{
            field: sum(getattr(each, field) for each in seen.values())
            for field in ("in_flight", "idle_connections", "requests", "failures", "retries")
        },
        "last_hour": {
            "attempts": len(rows),
            "first_byte_us": _middle(row.first_us for row in well if row.stream and row.first_us),
            "total_us": _middle(row.total_us for row in well),
        },
        "last_fault": fault
        and {
            "at": stamp(fault.ended_ns),
            "request": fault.request_id,
            "outcome": fault.outcome,
            "code": fault.code,
            "status": fault.status,
        },
    }


def _middle(values: Iterable[int]) -> int | None:
    found = list(values)
    return int(median(found)) if found else None


def _lately(engine: Engine) -> dict[str, list[Any]]:
    """Attempts of the last hour by engine, the newest first."""
    query = (
        select(
            _t.request_id, _t.engine, _t.outcome, _t.code, _t.status, _t.stream, _t.ended_ns, _t.first_us, _t.total_us
        )
        .where(_t.request_id >= id_at(int(time.time()) - HOUR), _t.attempt > 0)
        .order_by(_t.request_id.desc(), _t.attempt.desc())
        .limit(LOOKED_AT)
    )
    found: dict[str, list[Any]] = {}
    with reading(engine) as connection:
        for row in connection.execute(query):
            found.setdefault(row.engine, []).append(row)
    return found
