# SPDX-License-Identifier: Apache-2.0
"""The tables of administration: who may act, quotas and tiers, rotations, webhooks, long work, replicas.

In: the metadata of `tables`. Out: one object per table, in the same units and with the same kinds of names.
What belongs to a tenant has `organisation`, and is reached through `control.tenancy.scope` alone.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
)

from beffroi.store.tables import metadata


def _text(name: str, *, key: bool = False, null: bool = False) -> Column[str]:
    return Column(name, String, primary_key=key, nullable=null)


def _int(name: str, *, key: bool = False, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, primary_key=key, nullable=null, autoincrement=False)


def _word(name: str) -> Column[str]:
    return Column(name, String, nullable=False, server_default="")


def _kept() -> tuple[Column[Any], ...]:
    """As in `tables`: state, revision (the ETag), who keeps it."""
    return (
        Column("state", String, nullable=False, server_default="active"),
        Column("revision", BigInteger, nullable=False, server_default="0", autoincrement=False),
        _word("managed_by"),
    )


def _of_organisation() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["organisation"], ["organisations.id"])


# People of an organisation and what each may do there; `project` is empty for all of its projects.
members = Table(
    "members",
    metadata,
    _text("id", key=True),
    _text("organisation"),
    _word("project"),
    _text("email"),
    _word("name"),
    _text("role"),
    _int("created_at"),
    *_kept(),
    UniqueConstraint("organisation", "project", "email"),
    _of_organisation(),
)

service_accounts = Table(
    "service_accounts",
    metadata,
    _text("id", key=True),
    _text("organisation"),
    _word("project"),
    _text("name"),
    _text("role"),
    _int("created_at"),
    *_kept(),
    UniqueConstraint("organisation", "name"),
    _of_organisation(),
)

# An AI system: what an organisation does with models, for a purpose. `models`: JSON list of public ids.
ai_systems = Table(
    "ai_systems",
    metadata,
    _text("id", key=True),
    _text("organisation"),
    _word("project"),
    _text("name"),
    _text("purpose"),
    _text("owner"),
    Column("models", JSON, nullable=False),
    _int("created_at"),
    *_kept(),
    UniqueConstraint("organisation", "name"),
    _of_organisation(),
)

# Keys to the admin API; never the key itself. `principal`: the member or service account it acts as, empty for one of
# the installation (organisation `*`, role operator).
admin_keys = Table(
    "admin_keys",
    metadata,
    _text("id", key=True),
    _text("organisation"),
    _word("project"),
    _word("principal"),
    _text("role"),
    _text("name"),
    _text("public"),
    Column("hash", LargeBinary, nullable=False),
    Column("pepper_id", Integer, nullable=False),
    _int("expires_at"),
    _int("created_at"),
    _text("created_by"),
    _int("revoked_at", null=True),
    _int("used_at", null=True),
    Column("scopes", JSON, nullable=True),  # permissions; JSON null: all of its role
    Column("revision", BigInteger, nullable=False, server_default="0", autoincrement=False),
    UniqueConstraint("public"),
)

# A tier as of a day. House-wide tiers have the organisation `*`. `limits`: core.snapshot.Limits as a JSON object.
tiers = Table(
    "tiers",
    metadata,
    _text("organisation", key=True),
    _text("name", key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    _int("effective_at"),
    _word("title"),
    Column("limits", JSON, nullable=False),
    _int("credit_nano", null=True),
    _int("created_at"),
    _word("managed_by"),
)

# A scope that has counters of its own; `quota_terms` say what its limits are from when on. Empty: not narrowed by that.
quotas = Table(
    "quotas",
    metadata,
    _text("id", key=True),
    _int("slot"),
    _text("organisation"),
    _word("project"),
    _word("key_id"),
    _word("model"),
    Column("each_end_user", Boolean, nullable=False),
    _word("name"),
    _int("created_at"),
    *_kept(),
    UniqueConstraint("slot"),
    UniqueConstraint("organisation", "project", "key_id", "model", "each_end_user"),
)

quota_terms = Table(
    "quota_terms",
    metadata,
    _text("quota", key=True),
    _int("since", key=True),
    _text("organisation"),
    _word("tier"),
    Column("limits", JSON, nullable=False),
    ForeignKeyConstraint(["quota"], ["quotas.id"], ondelete="CASCADE"),
)

# Which alert of a budget was given, so that none is given twice. `period`: number of the money period.
budget_alerts = Table(
    "budget_alerts",
    metadata,
    _int("slot", key=True),
    _text("budget", key=True),
    _int("period", key=True),
    Column("percent", Integer, primary_key=True, autoincrement=False),
    _text("organisation"),
    _int("at_ns"),
)

# When a key was last seen in the ledger.
key_uses = Table("key_uses", metadata, _text("key_id", key=True), _text("organisation"), _int("used_at"))

# One rotation of one key, from its announcement to the end of the old key. `sealed`: the successor's text until it is
# fetched through a link, encrypted with a secret that stands in the link alone.
rotations = Table(
    "rotations",
    metadata,
    _text("id", key=True),
    _text("organisation"),
    _text("project"),
    _text("key_id"),
    _word("successor"),
    _text("state"),
    _int("due_at"),
    _int("ends_at", null=True),
    Column("plan", JSON, nullable=False),
    Column("told", JSON, nullable=False),
    _word("link_hash"),
    Column("sealed", LargeBinary, nullable=True),
    _int("sealed_until", null=True),
    _int("fetched_at", null=True),
    _int("attempts"),
    _int("next_at"),
    _word("fault"),
    _int("created_at"),
    Column("revision", BigInteger, nullable=False, server_default="0", autoincrement=False),
    Index(None, "next_at"),
)

# Answers already given to a POST with an Idempotency-Key; sealed, because one may hold a key just made.
idempotency = Table(
    "idempotency",
    metadata,
    _text("organisation", key=True),
    _text("actor", key=True),
    _text("idempotency_key", key=True),
    Column("asked", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    _int("created_at"),
    Index(None, "created_at"),
)

# Long work. `progress`: 0 to 100.
operations = Table(
    "operations",
    metadata,
    _text("id", key=True),
    _text("organisation"),
    _text("kind"),
    _text("state"),
    Column("progress", Integer, nullable=False),
    Column("result", JSON, nullable=True),
    Column("fault", JSON, nullable=True),
    _text("created_by"),
    _int("created_at"),
    _int("updated_at"),
)

# Who is told. `secret`: sealed by the vault. `failing_since`: when the first delivery failed of those since the last that did not.
webhooks = Table(
    "webhooks",
    metadata,
    _text("id", key=True),
    _text("organisation"),
    _text("url"),
    Column("events", JSON, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    _int("created_at"),
    *_kept(),
    _int("failing_since", null=True),
    _word("fault"),
)

# What is to be told, written in the transaction of the act; a row leaves when it was delivered or given up.
outbox = Table(
    "outbox",
    metadata,
    _text("id", key=True),
    _text("organisation"),
    _text("webhook"),
    _text("event"),
    Column("payload", JSON, nullable=False),
    Column("attempts", Integer, nullable=False),
    _int("next_at"),
    _int("created_at"),
    _word("fault"),
    Index(None, "next_at"),
    Index(None, "webhook"),
)

# Numbers of the whole installation: `keys`, how many acts changed what gateways know; `floor`, the oldest ledger
# revision whose release can still serve this database.
revisions = Table("revisions", metadata, _text("name", key=True), _int("number"))

# What gateways hold in memory, as the list of what changed; the database fills it (migration 0004). `kind`: key, quota,
# tier, closed, secret; `subject`: the id, or the name of a tier. Only the newest are kept.
changes = Table(
    "changes",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    _text("kind"),
    _text("subject"),
    sqlite_autoincrement=True,
)

# Every Beffroi over one database. `keys`: the newest of `changes` that all its workers hold; `seen_ns`: by the clock of
# the database. The row goes when it is stopped; one that is only silent is waited for.
replicas = Table(
    "replicas",
    metadata,
    _text("id", key=True),
    _text("boot"),
    _word("address"),
    _int("seen_ns"),
    _int("keys"),
    Column("workers", Integer, nullable=False),
)

# Secrets that all replicas share (peppers), sealed with the installation's own.
shared_secrets = Table(
    "shared_secrets",
    metadata,
    _text("kind", key=True),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
    _int("created_at"),
)
