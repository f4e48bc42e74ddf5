# SPDX-License-Identifier: Apache-2.0
"""`/metrics`: what the workers counted, in the exposition format of Prometheus.

In: `WorkerMetrics` of each worker that answered, and what control itself knows. Out: text.
Each series carries the worker's slot, so that a restart of one worker is a reset of its own counters and of no others.
Labels are slots, models, engines, rooms and codes of our own: as many as are configured, never what a client sends.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from beffroi.core.money import NANO
from beffroi.telemetry.metrics import BUCKETS, ROOMS, EngineMetrics, ModelMetrics, WorkerMetrics

MICRO = 1_000_000


class Kind(NamedTuple):
    """One metric: its name as scraped, its kind, labels, unit, and what it says."""

    name: str
    kind: str
    labels: tuple[str, ...]
    unit: str
    sentence: str


_W, _M, _E = ("worker",), ("worker", "model"), ("worker", "engine")
METRICS = (
    Kind("beffroi_worker_up", "gauge", _W, "1 or 0", "Whether the worker answered this scrape."),
    Kind("beffroi_worker_current", "gauge", _W, "1 or 0", "Whether the worker holds the newest config and key table."),
    Kind("beffroi_config_revision", "gauge", (), "revision", "Revision of the config in force."),
    Kind("beffroi_key_revision", "gauge", (), "revision", "Revision of the key table."),
    Kind("beffroi_requests_total", "counter", (*_M, "outcome"), "requests", "Requests by model and how they ended."),
    Kind(
        "beffroi_tokens_total",
        "counter",
        (*_M, "class"),
        "tokens",
        "Tokens by model and class: input, cached, output, reasoning.",
    ),
    Kind(
        "beffroi_cost_total",
        "counter",
        (*_M, "currency"),
        "currency units",
        "What the requests of a model cost, for graphs; the ledger has it exactly.",
    ),
    Kind(
        "beffroi_time_to_first_token_seconds",
        "histogram",
        _M,
        "seconds",
        "From the request to the first byte of the answer.",
    ),
    Kind("beffroi_inter_token_seconds", "histogram", _M, "seconds", "Between two events of a stream."),
    Kind("beffroi_request_duration_seconds", "histogram", _M, "seconds", "From the request to the end of its answer."),
    Kind("beffroi_in_flight", "gauge", _W, "requests", "Requests in progress."),
    Kind("beffroi_connections", "gauge", _W, "connections", "Open connections of clients."),
    Kind("beffroi_refusals_total", "counter", (*_W, "code"), "requests", "Requests refused, by error code."),
    Kind("beffroi_room_seconds_total", "counter", (*_W, "room"), "seconds", "The gateway's own time in each room."),
    Kind("beffroi_room_calls_total", "counter", (*_W, "room"), "calls", "How often each room was entered."),
    Kind("beffroi_loop_lag_seconds", "gauge", _W, "seconds", "How late the worker's event loop last was."),
    Kind(
        "beffroi_journal_healthy",
        "gauge",
        _W,
        "1 or 0",
        "Whether the journal takes records; metered traffic is refused while it does not.",
    ),
    Kind("beffroi_journal_lag_bytes", "gauge", _W, "bytes", "Written to the journal and not synced yet."),
    Kind("beffroi_journal_records_total", "counter", _W, "records", "Records written to the journal."),
    Kind("beffroi_journal_syncs_total", "counter", _W, "syncs", "Syncs of the journal."),
    Kind("beffroi_shipping_lag_bytes", "gauge", (), "bytes", "Journal not yet in the ledger."),
    Kind(
        "beffroi_shipping_lag_seconds",
        "gauge",
        (),
        "seconds",
        "For how long shipping has not caught up with the journal.",
    ),
    Kind(
        "beffroi_shipped_records_total",
        "counter",
        (),
        "records",
        "Journal records taken into the ledger since control started.",
    ),
    Kind("beffroi_engine_in_flight", "gauge", _E, "requests", "Requests in progress on an engine."),
    Kind(
        "beffroi_engine_idle_connections",
        "gauge",
        _E,
        "connections",
        "Open connections to an engine that wait for a request.",
    ),
    Kind("beffroi_engine_requests_total", "counter", _E, "requests", "Attempts sent to an engine."),
    Kind("beffroi_engine_failures_total", "counter", _E, "requests", "Attempts that an engine failed."),
    Kind(
        "beffroi_engine_retries_total",
        "counter",
        _E,
        "requests",
        "Attempts on an engine that were not the first of their request.",
    ),
    Kind(
        "beffroi_engine_ejected",
        "gauge",
        _E,
        "1 or 0",
        "Whether the worker keeps an engine out of its pool after failures.",
    ),
    Kind("beffroi_data_free_bytes", "gauge", (), "bytes", "Free space where the data directory is."),
)

# Powers of two of microseconds that are shown as bucket bounds: about 1 ms to 18 min, and 128 µs to 67 s.
LONG, SHORT = range(10, 31), range(7, 27)


class Shipping(NamedTuple):
    """How far the ledger is behind the journal."""

    lag_bytes: int = 0
    lag_seconds: float = 0.0
    records: int = 0


class Scrape(NamedTuple):
    """All that one answer shows. `current`: slots whose worker holds both revisions; `currencies`: by model."""

    workers: int
    answered: dict[int, WorkerMetrics]
    current: frozenset[int]
    config_revision: int
    key_revision: int
    currencies: dict[str, str]
    shipping: Shipping
    free_bytes: int


Sample = tuple[tuple[str, ...], float]


def render(scrape: Scrape) -> bytes:
    """The exposition text (version 0.0.4)."""
    registry = CollectorRegistry()
    registry.register(_Collector(scrape))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape

    def collect(self) -> Iterable[Metric]:
        for kind in METRICS:
            if kind.kind == "histogram":
                yield self._histogram(kind)
                continue
            family: CounterMetricFamily | GaugeMetricFamily
            make = CounterMetricFamily if kind.kind == "counter" else GaugeMetricFamily
            family = make(kind.name, kind.sentence, labels=kind.labels)
            for labels, value in self._samples(kind.name.removeprefix("beffroi_")):
                family.add_metric(labels, value)
            yield family

    def _histogram(self, kind: Kind) -> HistogramMetricFamily:
        fields = {
            "beffroi_time_to_first_token_seconds": ("first_us", LONG),
            "beffroi_inter_token_seconds": ("between_us", SHORT),
            "beffroi_request_duration_seconds": ("total_us", LONG),
        }
        field, bounds = fields[kind.name]
        family = HistogramMetricFamily(kind.name, kind.sentence, labels=kind.labels)
        for slot, name, model in self._models():
            counts = getattr(model, field)
            shown = [(str((1 << bits) / MICRO), float(sum(counts[: bits + 1]))) for bits in bounds]
            buckets = [*shown, ("+Inf", float(sum(counts[:BUCKETS])))]
            family.add_metric((slot, name), buckets, counts[BUCKETS] / MICRO)
        return family

    def _models(self) -> Iterator[tuple[str, str, ModelMetrics]]:
        for slot, metrics in sorted(self._scrape.answered.items()):
            for name, model in metrics.models.items():
                yield str(slot), name, model

    def _engines(self) -> Iterator[tuple[tuple[str, str], EngineMetrics]]:
        for slot, metrics in sorted(self._scrape.answered.items()):
            for name, engine in metrics.engines.items():
                yield (str(slot), name), engine

    def _samples(self, name: str) -> Iterator[Sample]:
        scrape = self._scrape
        shipping = scrape.shipping
        own: dict[str, float] = {
            "config_revision": scrape.config_revision,
            "key_revision": scrape.key_revision,
            "shipping_lag_bytes": shipping.lag_bytes,
            "shipping_lag_seconds": shipping.lag_seconds,
            "shipped_records_total": shipping.records,
            "data_free_bytes": scrape.free_bytes,
        }
        if name in own:
            yield (), own[name]
        elif name in ("worker_up", "worker_current"):
            there = scrape.answered if name == "worker_up" else scrape.current
            yield from (((str(slot),), float(slot in there)) for slot in range(scrape.workers))
        elif name in ("requests_total", "tokens_total", "cost_total"):
            yield from self._by_model(name)
        elif name.startswith("engine_"):
            field = name.removeprefix("engine_").removesuffix("_total")
            yield from ((labels, float(getattr(engine, field))) for labels, engine in self._engines())
        else:
            for slot, metrics in sorted(scrape.answered.items()):
                yield from self._by_worker(name, str(slot), metrics)

    def _by_model(self, name: str) -> Iterator[Sample]:
        for slot, model, counts in self._models():
            if name == "requests_total":
                yield from (((slot, model, outcome), float(count)) for outcome, count in counts.requests.items())
            elif name == "tokens_total":
                for kind in ("input", "cached", "output", "reasoning"):
                    yield (slot, model, kind), float(getattr(counts, f"{kind}_tokens"))
            else:
                yield (slot, model, self._scrape.currencies.get(model, "EUR")), counts.cost_nano / NANO

    @staticmethod
    def _by_worker(name: str, slot: str, metrics: WorkerMetrics) -> Iterator[Sample]:
        if name == "refusals_total":
            yield from (((slot, code), float(count)) for code, count in metrics.refusals.items())
        elif name == "room_seconds_total":
            yield from (((slot, room), ns / 1e9) for room, ns in zip(ROOMS, metrics.room_ns, strict=True))
        elif name == "room_calls_total":
            yield from (((slot, room), float(calls)) for room, calls in zip(ROOMS, metrics.room_calls, strict=True))
        elif name == "loop_lag_seconds":
            yield (slot,), metrics.loop_lag_us / MICRO
        else:
            yield (slot,), float(getattr(metrics, name.removesuffix("_total")))
