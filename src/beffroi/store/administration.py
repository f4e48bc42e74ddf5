# SPDX-License-Identifier: Apache-2.0
"""The tables of administration: who may act, quotas and tiers, rotations, webhooks, long work, replicas.

In: the metadata of `tables`. Out: one object per table, in the same units and with the same kinds of names.
What belongs to a tenant has `organisation`, and is reached through `control.tenancy.scope` alone.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    UniqueConstraint,
)

from beffroi.store.columns import integer, kept, number, string, word
from beffroi.store.tables import metadata


def _of_organisation() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["organisation"], ["organisations.id"])


# People of an organisation and what each may do there; `project` is empty for all of its projects.
members = Table(
    "members",
    metadata,
    string("id", key=True),
    string("organisation"),
    word("project"),
    string("email"),
    word("name"),
    string("role"),
    integer("created_at"),
    *kept(),
    UniqueConstraint("organisation", "project", "email"),
    _of_organisation(),
)

service_accounts = Table(
    "service_accounts",
    metadata,
    string("id", key=True),
    string("organisation"),
    word("project"),
    string("name"),
    string("role"),
    integer("created_at"),
    *kept(),
    UniqueConstraint("organisation", "name"),
    _of_organisation(),
)

# An AI system: what an organisation does with models, for a purpose. `models`: JSON list of public ids.
ai_systems = Table(
    "ai_systems",
    metadata,
    string("id", key=True),
    string("organisation"),
    word("project"),
    string("name"),
    string("purpose"),
    string("owner"),
    Column("models", JSON, nullable=False),
    integer("created_at"),
    *kept(),
    UniqueConstraint("organisation", "name"),
    _of_organisation(),
)

# Keys to the admin API; never the key itself. `principal`: the member or service account it acts as, empty for one of
# the installation (organisation `*`, role operator).
admin_keys = Table(
    "admin_keys",
    metadata,
    string("id", key=True),
    string("organisation"),
    word("project"),
    word("principal"),
    string("role"),
    string("name"),
    string("public"),
    Column("hash", LargeBinary, nullable=False),
    Column("pepper_id", Integer, nullable=False),
    integer("expires_at"),
    integer("created_at"),
    string("created_by"),
    integer("revoked_at", null=True),
    integer("used_at", null=True),
    Column("scopes", JSON, nullable=True),  # permissions; JSON null: all of its role
    number("revision"),
    UniqueConstraint("public"),
)

# A tier as of a day. House-wide tiers have the organisation `*`. `limits`: core.snapshot.Limits as a JSON object.
tiers = Table(
    "tiers",
    metadata,
    string("organisation", key=True),
    string("name", key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    integer("effective_at"),
    word("title"),
    Column("limits", JSON, nullable=False),
    integer("credit_nano", null=True),
    integer("created_at"),
    word("managed_by"),
)

# A scope that has counters of its own; `quota_terms` say what its limits are from when on. Empty: not narrowed by that.
quotas = Table(
    "quotas",
    metadata,
    string("id", key=True),
    integer("slot"),
    string("organisation"),
    word("project"),
    word("key_id"),
    word("model"),
    Column("each_end_user", Boolean, nullable=False),
    word("name"),
    integer("created_at"),
    *kept(),
    UniqueConstraint("slot"),
    UniqueConstraint("organisation", "project", "key_id", "model", "each_end_user"),
)

quota_terms = Table(
    "quota_terms",
    metadata,
    string("quota", key=True),
    integer("since", key=True),
    string("organisation"),
    word("tier"),
    Column("limits", JSON, nullable=False),
    ForeignKeyConstraint(["quota"], ["quotas.id"], ondelete="CASCADE"),
)

# Which alert of a budget was given, so that none is given twice. `period`: number of the money period.
budget_alerts = Table(
    "budget_alerts",
    metadata,
    integer("slot", key=True),
    string("budget", key=True),
    integer("period", key=True),
    Column("percent", Integer, primary_key=True, autoincrement=False),
    string("organisation"),
    integer("at_ns"),
)

# When a key was last seen in the ledger.
key_uses = Table("key_uses", metadata, string("key_id", key=True), string("organisation"), integer("used_at"))

# One rotation of one key, from its announcement to the end of the old key. `sealed`: the successor's text until it is
# fetched through a link, encrypted with a secret that stands in the link alone.
rotations = Table(
    "rotations",
    metadata,
    string("id", key=True),
    string("organisation"),
    string("project"),
    string("key_id"),
    word("successor"),
    string("state"),
    integer("due_at"),
    integer("ends_at", null=True),
    Column("plan", JSON, nullable=False),
    Column("told", JSON, nullable=False),
    word("link_hash"),
    Column("sealed", LargeBinary, nullable=True),
    integer("sealed_until", null=True),
    integer("fetched_at", null=True),
    integer("attempts"),
    integer("next_at"),
    word("fault"),
    integer("created_at"),
    number("revision"),
    Index(None, "next_at"),
)

# Answers already given to a POST with an Idempotency-Key; sealed, because one may hold a key just made.
idempotency = Table(
    "idempotency",
    metadata,
    string("organisation", key=True),
    string("actor", key=True),
    string("idempotency_key", key=True),
    Column("asked", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    integer("created_at"),
    Index(None, "created_at"),
)

# Long work. `progress`: 0 to 100.
operations = Table(
    "operations",
    metadata,
    string("id", key=True),
    string("organisation"),
    string("kind"),
    string("state"),
    Column("progress", Integer, nullable=False),
    Column("result", JSON, nullable=True),
    Column("fault", JSON, nullable=True),
    string("created_by"),
    integer("created_at"),
    integer("updated_at"),
)

# Who is told. `secret`: sealed by the vault. `failing_since`: when the first delivery failed of those since the last that did not.
webhooks = Table(
    "webhooks",
    metadata,
    string("id", key=True),
    string("organisation"),
    string("url"),
    Column("events", JSON, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    integer("created_at"),
    *kept(),
    integer("failing_since", null=True),
    word("fault"),
)

# What is to be told, written in the transaction of the act; a row leaves when it was delivered or given up.
outbox = Table(
    "outbox",
    metadata,
    string("id", key=True),
    string("organisation"),
    string("webhook"),
    string("event"),
    Column("payload", JSON, nullable=False),
    Column("attempts", Integer, nullable=False),
    integer("next_at"),
    integer("created_at"),
    word("fault"),
    Index(None, "next_at"),
    Index(None, "webhook"),
)

# Numbers of the whole installation: `keys`, how many acts changed what gateways know; `floor`, the oldest ledger
# revision whose release can still serve this database.
revisions = Table("revisions", metadata, string("name", key=True), integer("number"))

# What gateways hold in memory, as the list of what changed; the database fills it (migration 0004). `kind`: key, quota,
# tier, closed, secret; `subject`: the id, or the name of a tier. Only the newest are kept.
changes = Table(
    "changes",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    string("kind"),
    string("subject"),
    sqlite_autoincrement=True,
)

# Every Beffroi over one database. `keys`: the newest of `changes` that all its workers hold; `seen_ns`: by the clock of
# the database. The row goes when it is stopped; one that is only silent is waited for.
replicas = Table(
    "replicas",
    metadata,
    string("id", key=True),
    string("boot"),
    word("address"),
    integer("seen_ns"),
    integer("keys"),
    Column("workers", Integer, nullable=False),
)

# Secrets that all replicas share (peppers), sealed with the installation's own.
shared_secrets = Table(
    "shared_secrets",
    metadata,
    string("kind", key=True),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
    integer("created_at"),
)
