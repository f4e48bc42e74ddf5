# SPDX-License-Identifier: Apache-2.0
"""What may stand in `beffroi.yaml` or `beffroi.toml`: process settings, gateway settings, resources.

In: nothing. Out: the structs that `load` fills, and from which `reference` makes pages, JSON Schema and names of variables.
Each setting carries its own sentence, bounds and default; the `gateway` part is `core.snapshot.Settings` itself.
"""

import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from beffroi.core.snapshot import Settings

Port = Annotated[int, Meta(ge=0, le=65535)]
Amount = int | float | str
CURRENCY = "^[A-Z]{3}$"
# Kinds of text that are more than text: what a relative path counts from, and what is never shown, is known by them.
File = Annotated[str, Meta(extra={"kind": "path"})]
Secret = Annotated[
    str, Meta(extra={"kind": "secret"}, extra_json_schema={"pattern": "^(env|file):.+", "examples": ["env:NAME"]})
]
# As a secret, because a password stands in it; without one it may be written as it is.
DatabaseUrl = Annotated[
    str,
    Meta(
        extra={"kind": "secret"},
        extra_json_schema={"pattern": "^(env:|file:|postgres(ql)?://).+", "examples": ["env:BEFFROI_DATABASE"]},
    ),
]

# Without a password it may be written as it is.
ValkeyUrl = Annotated[
    str,
    Meta(
        extra={"kind": "secret"},
        extra_json_schema={
            "pattern": "^(env:|file:|rediss?://|valkeys?://|unix:/).+",
            "examples": ["env:BEFFROI_VALKEY"],
        },
    ),
]


def _about(sentence: str) -> Meta:
    return Meta(description=sentence)


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """TLS 1.3 on the API port; files are read again when they change."""

    certificate: Annotated[File, _about("PEM file with the certificate chain.")]
    key: Annotated[File, _about("PEM file with the private key.")]
    client_ca: Annotated[
        File | None, _about("PEM file with the CA that signs client certificates; none are asked for without it.")
    ] = None
    client_certificates: Annotated[
        Literal["optional", "required"], _about("Whether a client must show a certificate, once `client_ca` is set.")
    ] = "required"


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """A mail server that takes notices, of rotations of keys among others."""

    host: Annotated[str, _about("Name or address of the mail server.")]
    port: Annotated[int, Meta(ge=1, le=65535, description="Its port.")] = 587
    tls: Annotated[
        Literal["starttls", "tls", "none"],
        _about("How the connection is encrypted: asked for, from the start, or not."),
    ] = "starttls"
    sender: Annotated[str, _about("Address that notices come from.")] = "beffroi@localhost"
    user: Annotated[str | None, _about("Name to log in with; not at all when left out.")] = None
    password: Annotated[Secret | None, _about("Password to log in with.")] = None
    ca_file: Annotated[File | None, _about("PEM file with the CA of the server; the system's when left out.")] = None


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes need before the first request; a change takes effect at the next start."""

    host: Annotated[str, _about("Address the API listens on.")] = "127.0.0.1"
    port: Annotated[Port, _about("Port of the API; 0 takes a free one.")] = 8400
    control_host: Annotated[str, _about("Address of health, metrics and the admin API; loopback only.")] = "127.0.0.1"
    control_port: Annotated[Port, _about("Port of health, metrics and the admin API; 0 takes a free one.")] = 8401
    workers: Annotated[
        Annotated[int, Meta(ge=1, le=64)] | None,
        _about("Gateway workers, one core each; half the cores when left out."),
    ] = None
    data: Annotated[
        File | None,
        _about("Data directory; `.beffroi` here if there is one, else `~/.local/share/beffroi`, when left out."),
    ] = None
    tls: Annotated[Tls | None, _about("TLS on the API port.")] = None
    database: Annotated[
        DatabaseUrl | None,
        _about(
            "PostgreSQL that several Beffroi share, as `env:NAME` or `file:PATH` of a URL "
            "`postgresql://user:password@host:5432/name`; SQLite in the data directory when left out."
        ),
    ] = None
    fleet_secret: Annotated[
        Secret | None,
        _about(
            "Secret, the same on every machine of a fleet, that seals what they share in the database; 32 characters or more."
        ),
    ] = None
    trust_keys: Annotated[
        float, Meta(ge=1, le=86_400, description="Seconds for which keys are believed while the database is away.")
    ] = 3600.0
    hold_journal: Annotated[
        float, Meta(ge=1, le=604_800, description="Seconds for which requests are taken while the database is away.")
    ] = 3600.0
    hold_journal_bytes: Annotated[
        int, Meta(ge=1 << 20, le=1 << 40, description="Bytes that the journal may hold while the database is away.")
    ] = 1 << 30
    control_url: Annotated[
        str | None,
        _about("Where people reach the control port, for links in notices; its own address when left out."),
    ] = None
    mail: Annotated[Mail | None, _about("Mail server for notices; none are mailed when left out.")] = None
    webhook_networks: Annotated[
        tuple[str, ...],
        _about("Networks of the house where webhooks may be told, such as 10.2.0.0/16; else only over the internet."),
    ] = ()
    valkey: Annotated[
        ValkeyUrl | None,
        _about(
            "Valkey, or Redis 7, in which several machines share their limits: `env:NAME` or `file:PATH` of a URL "
            "`rediss://user:password@host:6379/0`; limits are this machine's own when left out."
        ),
    ] = None
    valkey_prefix: Annotated[
        str,
        _about("Name of this installation in that Valkey, the same on every machine and on no other installation's."),
    ] = "beffroi"


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """One inference engine."""

    name: Annotated[str, Meta(min_length=1, max_length=64, description="Name under which models refer to it.")]
    url: Annotated[
        str,
        _about(
            "`http://host:port`, `https://host:port` or `unix:/path`, then a prefix if it has one; `/v1` is left out."
        ),
    ]
    kind: Annotated[
        Literal["openai", "llamacpp", "vllm", "sglang", "ollama"],
        _about("Dialect the engine speaks; `openai` assumes nothing."),
    ] = "openai"
    machine: Annotated[
        str | None, _about("Shown to clients as `backend.machine_name`; the engine's name when left out.")
    ] = None
    api_key: Annotated[
        Secret | None, _about("Key sent to the engine: `env:NAME` or `file:PATH`, never the key itself.")
    ] = None
    ca_file: Annotated[File | None, _about("PEM file with the CA of an https engine; the system's when left out.")] = (
        None
    )


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One engine of a model's pool."""

    engine: Annotated[str, _about("Name of the engine.")]
    model: Annotated[str | None, _about("Name the engine knows the model by; the model's id when left out.")] = None


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a price list, per million tokens."""

    effective: Annotated[
        datetime.date | None, _about("First day it holds, in the configured zone; from the beginning when left out.")
    ] = None
    input: Annotated[Amount, _about("Price of a million input tokens.")] = 0
    output: Annotated[Amount, _about("Price of a million output tokens.")] = 0
    reasoning: Annotated[
        Amount | None, _about("Price of a million reasoning tokens; the output price when left out.")
    ] = None
    cached: Annotated[
        Amount | None, _about("Price of a million cached input tokens; the input price when left out.")
    ] = None
    currency: Annotated[str, Meta(pattern=CURRENCY, description="ISO 4217 currency.")] = "EUR"
    version: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None,
        _about("Name pinned in each record; made of model and day when left out."),
    ] = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One public model and its pool of equal engines."""

    id: Annotated[str, Meta(min_length=1, max_length=200, description="Name clients ask for.")]
    aliases: Annotated[tuple[str, ...], _about("Other names clients may ask for.")] = ()
    targets: Annotated[tuple[Target, ...], _about("Engines of its pool; the only engine there is when left out.")] = ()
    owned_by: Annotated[str, _about("Owner shown in the list of models.")] = "beffroi"
    created: Annotated[int, Meta(ge=0, description="Unix seconds shown in the list of models.")] = 0
    max_model_len: Annotated[Annotated[int, Meta(ge=1)] | None, _about("Context in tokens; unknown when left out.")] = (
        None
    )
    max_output: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        _about("Most tokens of one answer, larger requests are clamped; `max_model_len` when left out."),
    ] = None
    default_max_tokens: Annotated[
        int, Meta(ge=1, description="Bound that a hard budget reserves and injects when a request names none.")
    ] = 1024
    endpoints: Annotated[
        tuple[Literal["chat", "completions", "embeddings"], ...],
        Meta(min_length=1, description="What the model can be asked for."),
    ] = ("chat", "completions", "embeddings")
    prices: Annotated[tuple[Price, ...], _about("Dated price list; free when left out.")] = ()
    fallbacks: Annotated[
        tuple[str, ...],
        _about(
            "Ids of other models that take its requests, in this order, once its own engines have failed; four at most."
        ),
    ] = ()


class SecretStore(msgspec.Struct, frozen=True, kw_only=True):
    """A place where the successors of rotated keys are put."""

    name: Annotated[str, Meta(min_length=1, max_length=64, description="Name under which schedules refer to it.")]
    kind: Annotated[
        Literal["file", "kubernetes", "vault"],
        _about("Files below a directory, Kubernetes Secrets, or a Vault KV engine of version 2."),
    ]
    at: Annotated[str, _about("A directory (kind file; each organisation has a folder in it), or `https://host:port`.")]
    token: Annotated[Secret | None, _about("Token for that API, looked up at each use.")] = None
    ca_file: Annotated[File | None, _about("PEM file with the CA of that API; the system's when left out.")] = None
    namespace: Annotated[str, _about("Of kind kubernetes: the namespace of the Secrets.")] = "default"
    mount: Annotated[str, _about("Of kind vault: the mount of the KV engine.")] = "secret"
    organisations: Annotated[tuple[str, ...], _about("Organisations whose keys may be put there; `*` for all.")] = (
        "default",
    )


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What is served."""

    engines: Annotated[tuple[Engine, ...], _about("Inference engines.")] = ()
    models: Annotated[tuple[Model, ...], _about("Public models.")] = ()
    secret_stores: Annotated[
        tuple[SecretStore, ...], _about("Places where the successors of rotated keys are put.")
    ] = ()


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration file."""

    server: Annotated[Server, _about("Process settings.")] = Server()
    gateway: Annotated[Settings, _about("What the gateway's rooms read.")] = Settings()
    resources: Annotated[Resources, _about("Engines and models.")] = Resources()
