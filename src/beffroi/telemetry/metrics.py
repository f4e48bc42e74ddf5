# SPDX-License-Identifier: Apache-2.0
"""What a gateway worker counts: plain integers and bucket lists, added to on the hot path, summed and rendered by control.

In: one call per event. Out: a msgspec struct that travels to the control process, which alone knows Prometheus.
Buckets are powers of two of microseconds: bucket n counts values of bit length n, so that finding one is a shift.
Cardinality is bounded: labels are models, engines and error codes of our own, never keys, users or text of a client.
"""

import msgspec

ROOMS = ("authenticate", "read", "admit", "inspect", "route", "relay", "settle", "record")
BUCKETS = 40


def buckets() -> list[int]:
    """An empty histogram: `BUCKETS` counts, then the sum in microseconds."""
    return [0] * (BUCKETS + 1)


def observe(histogram: list[int], micros: int) -> None:
    """Add one value, in microseconds."""
    histogram[micros.bit_length()] += 1
    histogram[BUCKETS] += micros


class ModelMetrics(msgspec.Struct, gc=False):
    """Counts of one model on one worker."""

    requests: dict[str, int] = {}  # outcome → how many
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano: int = 0
    first_us: list[int] = msgspec.field(default_factory=buckets)
    between_us: list[int] = msgspec.field(default_factory=buckets)
    total_us: list[int] = msgspec.field(default_factory=buckets)


class EngineMetrics(msgspec.Struct, gc=False):
    """Counts of one engine as one worker sees it."""

    in_flight: int = 0
    idle_connections: int = 0
    requests: int = 0
    failures: int = 0
    retries: int = 0
    ejected: bool = False


class FleetMetrics(msgspec.Struct, gc=False):
    """What one worker counts of the limits that it shares with other machines.

    Attributes:
        up: the centre answers; `opened`: how often it was given up.
        calls, missed: script calls answered, batches not answered in time; `answer_us`: how long a batch took.
        leases: scopes told of; `alone`: requests admitted by this worker's own part; `lost`: times the centre forgot.
        workers: of the whole fleet, as the centre last counted them.
    """

    up: bool = False
    calls: int = 0
    missed: int = 0
    opened: int = 0
    leases: int = 0
    alone: int = 0
    lost: int = 0
    workers: int = 0
    answer_us: list[int] = msgspec.field(default_factory=buckets)


class WorkerMetrics(msgspec.Struct, gc=False):
    """Everything one worker counts; `room_ns` is its own time in each room of the exchanges that are timed, `room_calls` how often it was entered."""

    worker: int
    boot: str
    in_flight: int = 0
    connections: int = 0
    journal_lag_bytes: int = 0
    journal_healthy: bool = True
    journal_records: int = 0
    journal_syncs: int = 0
    refusals: dict[str, int] = {}  # error code → how many
    models: dict[str, ModelMetrics] = {}
    engines: dict[str, EngineMetrics] = {}
    room_ns: list[int] = msgspec.field(default_factory=lambda: [0] * len(ROOMS))
    room_calls: list[int] = msgspec.field(default_factory=lambda: [0] * len(ROOMS))
    loop_lag_us: int = 0
    fleet: FleetMetrics | None = None
