# SPDX-License-Identifier: Apache-2.0
"""The metrics that `/metrics` shows, and what one answer of it is made from (`control.exposition` writes it).

In: `WorkerMetrics` of each worker that answered, and what control itself knows. Out: a `Scrape`.
Each series carries the worker's slot, so that a restart of one worker is a reset of its own counters and of no others.
Labels are slots, models, engines, rooms and codes of our own: as many as are configured, never what a client sends.
"""

from typing import NamedTuple

from beffroi.telemetry.metrics import WorkerMetrics


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
    Kind(
        "beffroi_limits_up",
        "gauge",
        _W,
        "1 or 0",
        "Whether the centre of the shared limits answers this worker; at 0 the worker decides alone.",
    ),
    Kind(
        "beffroi_limits_workers", "gauge", _W, "workers", "Workers of the whole fleet, as the centre last counted them."
    ),
    Kind("beffroi_limits_calls_total", "counter", _W, "calls", "Script calls that the centre of the limits answered."),
    Kind("beffroi_limits_leases_total", "counter", _W, "leases", "Leases asked for, returned or told of."),
    Kind(
        "beffroi_limits_missed_total", "counter", _W, "answers", "Answers of the centre that did not come within 20 ms."
    ),
    Kind("beffroi_limits_opened_total", "counter", _W, "times", "How often the worker gave the centre up."),
    Kind(
        "beffroi_limits_alone_total",
        "counter",
        _W,
        "requests",
        "Requests admitted by the worker's own part of a limit.",
    ),
    Kind("beffroi_limits_lost_total", "counter", _W, "times", "How often the centre had lost what it knew."),
    Kind(
        "beffroi_limits_answer_seconds", "histogram", _W, "seconds", "How long the centre of the limits took to answer."
    ),
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
