# SPDX-License-Identifier: Apache-2.0
"""`/metrics` as text, in the exposition format of Prometheus.

In: a `Scrape`. Out: bytes. Loaded when `/metrics` is first asked for: the start does not wait for Prometheus's library.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from beffroi.control.metrics import LONG, METRICS, SHORT, Kind, Scrape
from beffroi.core.money import NANO
from beffroi.telemetry.metrics import BUCKETS, ROOMS, EngineMetrics, ModelMetrics, WorkerMetrics

MICRO = 1_000_000
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
        family = HistogramMetricFamily(kind.name, kind.sentence, labels=kind.labels)
        if kind.name == "beffroi_limits_answer_seconds":
            for number, metrics in sorted(self._scrape.answered.items()):
                if metrics.fleet is not None:
                    family.add_metric((str(number),), *_buckets(metrics.fleet.answer_us, SHORT))
            return family
        field, bounds = fields[kind.name]
        for slot, name, model in self._models():
            family.add_metric((slot, name), *_buckets(getattr(model, field), bounds))
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
        elif name.startswith("limits_"):
            if metrics.fleet is not None:
                yield (slot,), float(getattr(metrics.fleet, name.removeprefix("limits_").removesuffix("_total")))
        elif name == "loop_lag_seconds":
            yield (slot,), metrics.loop_lag_us / MICRO
        else:
            yield (slot,), float(getattr(metrics, name.removesuffix("_total")))


def _buckets(counts: list[int], bounds: range) -> tuple[list[tuple[str, float]], float]:
    """The buckets that are shown, and the sum in seconds."""
    shown = [(str((1 << bits) / MICRO), float(sum(counts[: bits + 1]))) for bits in bounds]
    return [*shown, ("+Inf", float(sum(counts[:BUCKETS])))], counts[BUCKETS] / MICRO
