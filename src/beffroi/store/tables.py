# SPDX-License-Identifier: Apache-2.0
"""The tables, as SQLAlchemy Core objects; the migrations build them, a test holds the two equal.

In: nothing. Out: `metadata` and one object per table. Wall times are Unix nanoseconds in columns named `…_ns` and Unix
seconds in columns named `…_at` or `…_s`; money is integer nano-units in columns named `…_nano`.
"""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from beffroi.store.columns import integer, kept, number, string, word

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

DEFAULT = "default"  # the organisation and the project that the first migration creates (decision D23)


organisations = Table(
    "organisations",
    metadata,
    string("id", key=True),
    string("name"),
    integer("created_at"),
    *kept(),
    Column(
        "policy", JSON, nullable=False, server_default="{}"
    ),  # what its keys must obey: control.tenancy.shapes.Policy
)

projects = Table(
    "projects",
    metadata,
    string("organisation", key=True),
    string("id", key=True),
    string("name"),
    integer("created_at"),
    *kept(),
    ForeignKeyConstraint(["organisation"], ["organisations.id"]),
)

# One API key, as core.snapshot.KeyRecord has it; never the key itself. `expires_at`, `created_at`, `revoked_at`: Unix
# seconds. `models`: JSON list of public model ids, JSON null for all. `limits`: core.snapshot.Limits as a JSON object.
# `rotated_from`: the key that this one succeeds, and whose slot it shares; every other key has a slot of its own.
_OWN = text("rotated_from IS NULL")
keys = Table(
    "keys",
    metadata,
    string("id", key=True),
    string("public"),
    Column("hash", LargeBinary, nullable=False),
    Column("pepper_id", Integer, nullable=False),
    integer("slot"),
    string("organisation"),
    string("project"),
    string("name"),
    Column("models", JSON, nullable=True),
    integer("expires_at", null=True),
    Column("revoked", Boolean, nullable=False),
    Column("limits", JSON, nullable=False),
    integer("created_at"),
    string("created_by"),
    integer("revoked_at", null=True),
    string("rotated_from", null=True),
    Column("endpoints", JSON, nullable=True),
    Column("addresses", JSON, nullable=False, server_default="[]"),
    word("system"),
    word("owner"),  # the member or service account whose key it is
    Column("rotation", JSON, nullable=True),  # its own schedule; JSON null: that of its organisation's policy
    word("revoked_why"),
    number("revision"),
    word("managed_by"),
    UniqueConstraint("public"),
    UniqueConstraint("rotated_from"),
    Index("ix_keys_slot_own", "slot", unique=True, sqlite_where=_OWN, postgresql_where=_OWN),
    ForeignKeyConstraint(["organisation", "project"], ["projects.organisation", "projects.id"]),
)

# Administrative acts, and what the house notices about itself. `action` follows the grammar `source:subject:action`
# (`cli:key:create`, `journal:segment:damaged`); `subject` is the id of what it was done to.
events = Table(
    "events",
    metadata,
    string("id", key=True),  # evt_…
    integer("at_ns"),
    string("actor"),
    string("action"),
    string("subject"),
    Column("before", JSON, nullable=True),
    Column("after", JSON, nullable=True),
    string("organisation"),
    string("project"),
    Index(None, "at_ns"),
)

# The ledger: one row per settled attempt, every field of core.record.Settlement. Only shipping writes it; rows are final.
# `state`: settled (intent and settlement both seen), refused (no engine was asked, so no intent), recovered (its
# worker died; closed from its last progress), unmatched (a settlement whose intent was never seen: verify reports it).
# No foreign keys: what was served is recorded whatever became of its key. A clustered primary key in SQLite, because
# request ids grow with time: rows land at the end of one tree instead of in two, and a range of time is a range of ids,
# so no other index is kept up to date at each request (one on `ended_ns` made shipping a row half as dear again).
exchanges = Table(
    "exchanges",
    metadata,
    string("request_id", key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    integer("intent_ns", null=True),
    integer("started_ns"),
    integer("ended_ns"),
    string("state"),
    string("key_id"),
    integer("key_slot"),
    string("organisation"),
    string("project"),
    string("model"),
    string("endpoint"),
    Column("stream", Boolean, nullable=False),
    string("engine"),
    string("engine_kind"),
    Column("status", Integer, nullable=False),
    string("code", null=True),
    string("outcome"),
    string("source"),
    integer("input_tokens"),
    integer("cached_tokens"),
    integer("output_tokens"),
    integer("reasoning_tokens"),
    string("price_version"),
    string("currency"),
    integer("input_nano"),
    integer("cached_nano"),
    integer("output_nano"),
    integer("reasoning_nano"),
    Column("attempts", Integer, nullable=False),
    string("finish_reason", null=True),
    string("verdict"),
    Column("findings", JSON, nullable=False),
    integer("bytes_in"),
    integer("bytes_out"),
    integer("first_us"),
    integer("total_us"),
    string("address"),
    string("end_user", null=True),
    Column("worker", Integer, nullable=False),
    string("boot"),
    word("system"),
    sqlite_with_rowid=False,
)

# Intents whose settlement is not shipped yet, with their last progress. A table of its own, and not rows of
# `exchanges` that are updated later: the ledger stays append-only, nearly every exchange begins and ends within one
# batch of shipping and then costs one insert, and what recovery must look at stays as small as what is in flight.
open_intents = Table(
    "open_intents",
    metadata,
    string("request_id", key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    integer("at_ns"),
    string("key_id"),
    integer("key_slot"),
    string("organisation"),
    string("project"),
    string("model"),
    string("endpoint"),
    string("engine"),
    string("price_version"),
    string("currency"),
    integer("input_estimate"),
    integer("progress_ns", null=True),
    integer("input_tokens"),
    integer("cached_tokens"),
    integer("output_tokens"),
    integer("reasoning_tokens"),
    integer("input_nano"),
    integer("cached_nano"),
    integer("output_nano"),
    integer("reasoning_nano"),
    Column("worker", Integer, nullable=False),
    string("boot"),
    word("system"),
    string("end_user", null=True),
    word("replica"),
    sqlite_with_rowid=False,
)

# How far each journal segment is shipped. Of a boot whose segments are gone the last row stays: its counts are what
# verify holds against the ledger. No organisation or project: a segment holds those of everybody. `replica`: whose
# journal directory it lies in; empty where there is one Beffroi to the database.
spool_offsets = Table(
    "spool_offsets",
    metadata,
    string("path", key=True),  # below the journal directory: w00/<boot>-00000001.seg
    Column("worker", Integer, nullable=False),
    string("boot"),
    Column("segment", Integer, nullable=False),
    integer("position"),
    integer("next_sequence"),
    integer("intents"),  # of this boot up to here
    integer("settlements"),  # of this boot up to here, those of attempts only
    Column("finished", Boolean, nullable=False),  # all of it is shipped, its file may go
    string("damage", null=True),  # why nothing after `position` was believed; the file is kept
    integer("updated_ns"),
    word("replica"),
)

# Refusals without a valid key, so without a tenant: both ids are the defaults until addresses belong to somebody.
refusals = Table(
    "refusals",
    metadata,
    string("organisation", key=True),
    string("project", key=True),
    integer("at_s", key=True),
    string("reason", key=True),
    string("prefix", key=True),
    integer("count"),
    sqlite_with_rowid=False,
)
