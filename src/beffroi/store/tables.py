# SPDX-License-Identifier: Apache-2.0
"""The tables, as SQLAlchemy Core objects; the migrations build them, a test holds the two equal.

In: nothing. Out: `metadata` and one object per table. Wall times are Unix nanoseconds in columns named `…_ns` and Unix
seconds in columns named `…_at` or `…_s`; money is integer nano-units in columns named `…_nano`.
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
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

DEFAULT = "default"  # the organisation and the project that the first migration creates (decision D23)


def _text(name: str, *, key: bool = False, null: bool = False) -> Column[str]:
    return Column(name, String, primary_key=key, nullable=null)


def _int(name: str, *, key: bool = False, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, primary_key=key, nullable=null, autoincrement=False)


def _word(name: str) -> Column[str]:
    """A text that is empty where nobody said anything."""
    return Column(name, String, nullable=False, server_default="")


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0", autoincrement=False)


def _kept() -> tuple[Column[Any], ...]:
    """Of everything that people administer: its state (active, suspended), its revision (the ETag), who keeps it."""
    return Column("state", String, nullable=False, server_default="active"), _number("revision"), _word("managed_by")


organisations = Table(
    "organisations",
    metadata,
    _text("id", key=True),
    _text("name"),
    _int("created_at"),
    *_kept(),
    Column(
        "policy", JSON, nullable=False, server_default="{}"
    ),  # what its keys must obey: control.tenancy.shapes.Policy
)

projects = Table(
    "projects",
    metadata,
    _text("organisation", key=True),
    _text("id", key=True),
    _text("name"),
    _int("created_at"),
    *_kept(),
    ForeignKeyConstraint(["organisation"], ["organisations.id"]),
)

# One API key, as core.snapshot.KeyRecord has it; never the key itself. `expires_at`, `created_at`, `revoked_at`: Unix
# seconds. `models`: JSON list of public model ids, JSON null for all. `limits`: core.snapshot.Limits as a JSON object.
# `rotated_from`: the key that this one succeeds, and whose slot it shares; every other key has a slot of its own.
_OWN = text("rotated_from IS NULL")
keys = Table(
    "keys",
    metadata,
    _text("id", key=True),
    _text("public"),
    Column("hash", LargeBinary, nullable=False),
    Column("pepper_id", Integer, nullable=False),
    _int("slot"),
    _text("organisation"),
    _text("project"),
    _text("name"),
    Column("models", JSON, nullable=True),
    _int("expires_at", null=True),
    Column("revoked", Boolean, nullable=False),
    Column("limits", JSON, nullable=False),
    _int("created_at"),
    _text("created_by"),
    _int("revoked_at", null=True),
    _text("rotated_from", null=True),
    Column("endpoints", JSON, nullable=True),
    Column("addresses", JSON, nullable=False, server_default="[]"),
    _word("system"),
    _word("owner"),  # the member or service account whose key it is
    Column("rotation", JSON, nullable=True),  # its own schedule; JSON null: that of its organisation's policy
    _word("revoked_why"),
    _number("revision"),
    _word("managed_by"),
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
    _text("id", key=True),  # evt_…
    _int("at_ns"),
    _text("actor"),
    _text("action"),
    _text("subject"),
    Column("before", JSON, nullable=True),
    Column("after", JSON, nullable=True),
    _text("organisation"),
    _text("project"),
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
    _text("request_id", key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    _int("intent_ns", null=True),
    _int("started_ns"),
    _int("ended_ns"),
    _text("state"),
    _text("key_id"),
    _int("key_slot"),
    _text("organisation"),
    _text("project"),
    _text("model"),
    _text("endpoint"),
    Column("stream", Boolean, nullable=False),
    _text("engine"),
    _text("engine_kind"),
    Column("status", Integer, nullable=False),
    _text("code", null=True),
    _text("outcome"),
    _text("source"),
    _int("input_tokens"),
    _int("cached_tokens"),
    _int("output_tokens"),
    _int("reasoning_tokens"),
    _text("price_version"),
    _text("currency"),
    _int("input_nano"),
    _int("cached_nano"),
    _int("output_nano"),
    _int("reasoning_nano"),
    Column("attempts", Integer, nullable=False),
    _text("finish_reason", null=True),
    _text("verdict"),
    Column("findings", JSON, nullable=False),
    _int("bytes_in"),
    _int("bytes_out"),
    _int("first_us"),
    _int("total_us"),
    _text("address"),
    _text("end_user", null=True),
    Column("worker", Integer, nullable=False),
    _text("boot"),
    _word("system"),
    sqlite_with_rowid=False,
)

# Intents whose settlement is not shipped yet, with their last progress. A table of its own, and not rows of
# `exchanges` that are updated later: the ledger stays append-only, nearly every exchange begins and ends within one
# batch of shipping and then costs one insert, and what recovery must look at stays as small as what is in flight.
open_intents = Table(
    "open_intents",
    metadata,
    _text("request_id", key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    _int("at_ns"),
    _text("key_id"),
    _int("key_slot"),
    _text("organisation"),
    _text("project"),
    _text("model"),
    _text("endpoint"),
    _text("engine"),
    _text("price_version"),
    _text("currency"),
    _int("input_estimate"),
    _int("progress_ns", null=True),
    _int("input_tokens"),
    _int("cached_tokens"),
    _int("output_tokens"),
    _int("reasoning_tokens"),
    _int("input_nano"),
    _int("cached_nano"),
    _int("output_nano"),
    _int("reasoning_nano"),
    Column("worker", Integer, nullable=False),
    _text("boot"),
    _word("system"),
    _text("end_user", null=True),
    _word("replica"),
    sqlite_with_rowid=False,
)

# How far each journal segment is shipped. Of a boot whose segments are gone the last row stays: its counts are what
# verify holds against the ledger. No organisation or project: a segment holds those of everybody. `replica`: whose
# journal directory it lies in; empty where there is one Beffroi to the database.
spool_offsets = Table(
    "spool_offsets",
    metadata,
    _text("path", key=True),  # below the journal directory: w00/<boot>-00000001.seg
    Column("worker", Integer, nullable=False),
    _text("boot"),
    Column("segment", Integer, nullable=False),
    _int("position"),
    _int("next_sequence"),
    _int("intents"),  # of this boot up to here
    _int("settlements"),  # of this boot up to here, those of attempts only
    Column("finished", Boolean, nullable=False),  # all of it is shipped, its file may go
    _text("damage", null=True),  # why nothing after `position` was believed; the file is kept
    _int("updated_ns"),
    _word("replica"),
)

# Refusals without a valid key, so without a tenant: both ids are the defaults until addresses belong to somebody.
refusals = Table(
    "refusals",
    metadata,
    _text("organisation", key=True),
    _text("project", key=True),
    _int("at_s", key=True),
    _text("reason", key=True),
    _text("prefix", key=True),
    _int("count"),
    sqlite_with_rowid=False,
)
