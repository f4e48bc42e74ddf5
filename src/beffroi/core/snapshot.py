# SPDX-License-Identifier: Apache-2.0
"""The snapshot: all the gateway knows, compiled by control, immutable, swapped whole.

In: msgpack files in the data directory (see `encode`, `decode`) and deltas. Out: the structs below.
Two parts (decision D13): the *config* part (settings, engines, models, prices) and the *key table*, fed by numbered deltas.
"""

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta

from beffroi.core.price import Price


class Limits(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What may be used; None means no limit. Money is nano-units.

    Attributes:
        tokens_per_minute: input and output together.
        hard_budget: never passed, per `budget_period`; `soft_budget` may be overrun by what was in flight.
        monthly_cap: a hard budget per calendar month beside the other one: what a tier allows to spend at most.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    output_tokens_per_hour: int | None = None
    output_tokens_per_day: int | None = None
    concurrency: int | None = None
    hard_budget: int | None = None
    soft_budget: int | None = None
    budget_period: str = "month"  # "day", "month" (calendar, in the configured zone) or "total"
    requests_per_hour: int | None = None
    requests_per_day: int | None = None
    input_tokens_per_minute: int | None = None
    input_tokens_per_hour: int | None = None
    input_tokens_per_day: int | None = None
    output_tokens_per_minute: int | None = None
    monthly_cap: int | None = None


NO_LIMITS = Limits()


class KeyRecord(msgspec.Struct, frozen=True, gc=False):
    """One API key as a worker knows it: never the key itself.

    Attributes:
        public: the part of the key between the dashes.
        hash: `core.key.key_hash` of the key with the pepper `pepper_id`.
        slot: where its counters live in the shared file; no other key has it but those it was rotated from or to.
        models: public model ids it may use; None: all.
        expires_at: Unix seconds; None: never.
        endpoints: any of chat, completions, embeddings, models; None: all.
        addresses: networks it may be used from, as `10.0.0.0/8`; none: from everywhere.
        system: the AI system that it belongs to; empty: none.
    """

    id: str
    public: str
    hash: bytes
    pepper_id: int
    slot: int
    organisation: str = "default"
    project: str = "default"
    name: str = ""
    models: frozenset[str] | None = None
    expires_at: int | None = None
    revoked: bool = False
    limits: Limits = NO_LIMITS
    endpoints: frozenset[str] | None = None
    addresses: tuple[str, ...] = ()
    system: str = ""


class Dated(msgspec.Struct, frozen=True, gc=False):
    """Limits from a moment on (Unix seconds), and the tier that they come from, as `name@version`; empty: none."""

    since: int
    limits: Limits
    tier: str = ""


class QuotaRecord(msgspec.Struct, frozen=True, gc=False):
    """Limits on a scope. A request counts in it when every field that is set matches; an empty one matches all.

    Attributes:
        slot: where its counters live; key slots and quota slots are one space of numbers.
        key_slot: of one key, and of those it was rotated from or to.
        each_end_user: every end user of the scope has counters of its own.
        terms: by date; the last whose `since` has come is in force, and none is before the first.
    """

    id: str
    slot: int
    organisation: str = ""
    project: str = ""
    key_slot: int | None = None
    model: str = ""
    each_end_user: bool = False
    terms: tuple[Dated, ...] = ()


class EngineSpec(msgspec.Struct, frozen=True):
    """One inference engine.

    Attributes:
        url: `http://host:port`, `https://host:port` or `unix:/path`; a path prefix such as `/api` may follow (not `/v1`).
        kind: the dialect: llamacpp, vllm, sglang, ollama, or openai (nothing assumed).
        machine: shown to clients as `backend.machine_name`.
        api_key: sent to the engine as a bearer token; never shown.
        ca_file: PEM file with the CA of an https engine; None: the system's.
    """

    name: str
    url: str
    kind: str = "openai"
    machine: str = ""
    api_key: str | None = None
    ca_file: str | None = None


class Target(msgspec.Struct, frozen=True):
    """One engine of a model's pool, and the name under which that engine knows the model."""

    engine: str
    model: str


class ModelSpec(msgspec.Struct, frozen=True):
    """One public model and its pool of equal engines.

    Attributes:
        max_model_len: context in tokens; None: unknown.
        max_output: most tokens one answer may have; larger `max_tokens` are clamped. None: `max_model_len`.
        default_max_tokens: what a hard budget reserves and injects when the request names no bound.
        endpoints: any of chat, completions, embeddings.
        fallbacks: models that take its requests, in this order, when its own engines have failed.
    """

    id: str
    targets: tuple[Target, ...]
    aliases: tuple[str, ...] = ()
    owned_by: str = "beffroi"
    created: int = 0
    max_model_len: int | None = None
    max_output: int | None = None
    default_max_tokens: int = 1024
    endpoints: tuple[str, ...] = ("chat", "completions", "embeddings")
    prices: tuple[Price, ...] = ()
    fallbacks: tuple[str, ...] = ()


GUARD_FEATURES = ("hidden_text", "bidi_override", "template_token", "control_character")
GUARD_ACTS = ("off", "annotate", "block")


class Settings(msgspec.Struct, frozen=True):
    """What the gateway's rooms read; sizes in bytes, times in seconds."""

    max_head: Annotated[int, Meta(ge=1024, le=1 << 20, description="Bytes of a request head.")] = 32 << 10
    max_headers: Annotated[int, Meta(ge=10, le=10_000, description="Headers of a request.")] = 100
    max_target: Annotated[int, Meta(ge=64, le=1 << 20, description="Bytes of a request target.")] = 8 << 10
    max_body: Annotated[int, Meta(ge=1024, le=1 << 30, description="Bytes of a request body.")] = 32 << 20
    max_json_depth: Annotated[int, Meta(ge=8, le=512, description="Nesting depth of a JSON body.")] = 64
    max_json_tokens: Annotated[
        int, Meta(ge=100, le=5_000_000, description="Structural tokens of a JSON body, counted before it is parsed.")
    ] = 200_000
    max_pipelined: Annotated[
        int, Meta(ge=1, le=1000, description="Requests of one connection that may wait while reading is paused.")
    ] = 8
    max_answer: Annotated[int, Meta(ge=1024, le=1 << 30, description="Bytes of one plain engine answer.")] = 64 << 20
    max_held: Annotated[
        int, Meta(ge=4096, le=1 << 24, description="Unsent bytes to a client above which its engine is no longer read.")
    ] = 64 << 10
    head_timeout: Annotated[float, Meta(gt=0, description="Seconds in which a request head must be complete.")] = 10.0
    body_timeout: Annotated[float, Meta(gt=0, description="Seconds a request body may make no progress.")] = 30.0
    connect_timeout: Annotated[float, Meta(gt=0, description="Seconds to connect to an engine.")] = 2.0
    first_token_timeout: Annotated[float, Meta(gt=0, description="Seconds to the first token of a stream.")] = 120.0
    between_tokens_timeout: Annotated[float, Meta(gt=0, description="Seconds between two tokens of a stream.")] = 60.0
    answer_timeout: Annotated[float, Meta(gt=0, description="Seconds a plain answer may take in all.")] = 600.0
    write_timeout: Annotated[float, Meta(gt=0, description="Seconds a client may read nothing before it is cut.")] = (
        60.0
    )
    keep_alive: Annotated[float, Meta(gt=0, description="Seconds an idle client connection stays open.")] = 75.0
    comment_interval: Annotated[
        float, Meta(gt=0, description="Seconds of silence after which a stream gets a comment.")
    ] = 15.0
    drain_timeout: Annotated[float, Meta(gt=0, description="Seconds that open exchanges get when a process stops.")] = (
        300.0
    )
    trusted_proxies: Annotated[
        tuple[str, ...], Meta(description="Addresses or networks whose X-Forwarded-For and PROXY v2 are believed.")
    ] = ()
    proxy_protocol: Annotated[bool, Meta(description="Whether trusted proxies open each connection with PROXY v2.")] = (
        False
    )
    guard: Annotated[
        dict[str, Annotated[str, Meta(extra_json_schema={"enum": [*GUARD_ACTS]})]],
        Meta(
            description="What each structure check does with a finding: off, annotate or block; annotate when left out.",
            extra_json_schema={"propertyNames": {"enum": [*GUARD_FEATURES]}},
        ),
    ] = {}
    time_zone: Annotated[str, Meta(description="IANA zone of the calendar that budgets and price dates follow.")] = (
        "Europe/Paris"
    )


class Config(msgspec.Struct, frozen=True):
    """The config part: everything but keys. `revision` grows by one at each swap."""

    revision: int
    settings: Settings
    engines: tuple[EngineSpec, ...]
    models: tuple[ModelSpec, ...]


class KeyBase(msgspec.Struct, frozen=True):
    """The key table as of a revision, with the peppers by id.

    Attributes:
        closed: tenants whose keys are refused: `organisation`, or `organisation/project`.
    """

    revision: int
    peppers: dict[int, bytes]
    keys: tuple[KeyRecord, ...]
    quotas: tuple[QuotaRecord, ...] = ()
    closed: frozenset[str] = frozenset()


class KeyDelta(msgspec.Struct, frozen=True):
    """One change of the key table; `revision` is its predecessor's plus one, a gap means reload.

    Attributes:
        closed: all tenants that are closed now; None: those that were.
    """

    revision: int
    upsert: tuple[KeyRecord, ...] = ()
    remove: tuple[str, ...] = ()  # key ids
    peppers: dict[int, bytes] = {}
    quotas: tuple[QuotaRecord, ...] = ()
    remove_quotas: tuple[str, ...] = ()  # quota ids
    closed: frozenset[str] | None = None


class Damaged(ValueError):
    """A snapshot file whose checksum does not hold."""


_encoder = msgspec.msgpack.Encoder()


def encode(part: Config | KeyBase | KeyDelta) -> bytes:
    """Bytes for a file or a frame: 32 bytes SHA-256, then msgpack."""
    body = _encoder.encode(part)
    return hashlib.sha256(body).digest() + body


def unseal(data: bytes) -> memoryview:
    """The msgpack part, once the checksum holds.

    Raises:
        Damaged: it does not.
    """
    body = memoryview(data)[32:]
    if hashlib.sha256(body).digest() != data[:32]:
        raise Damaged("the snapshot file is damaged: its checksum does not hold")
    return body
