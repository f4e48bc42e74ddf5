# SPDX-License-Identifier: Apache-2.0
"""The first tables, with the organisation and the project `default` (decision D23).

In: an empty database. Out: tenants, keys, events, and the ledger that shipping fills.
Frozen: it spells its tables out instead of importing them, because a migration must mean tomorrow what it means today.
"""

import time

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=null)


def _int(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null, autoincrement=False)


def _small(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, autoincrement=False)


def upgrade() -> None:
    """Forward."""
    organisations = op.create_table(
        "organisations",
        _text("id"),
        _text("name"),
        _int("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_organisations"),
    )
    projects = op.create_table(
        "projects",
        _text("organisation"),
        _text("id"),
        _text("name"),
        _int("created_at"),
        sa.PrimaryKeyConstraint("organisation", "id", name="pk_projects"),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.id"], name="fk_projects_organisations"),
    )
    op.create_table(
        "keys",
        _text("id"),
        _text("public"),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        _small("pepper_id"),
        _int("slot"),
        _text("organisation"),
        _text("project"),
        _text("name"),
        sa.Column("models", sa.JSON, nullable=True),
        _int("expires_at", null=True),
        sa.Column("revoked", sa.Boolean, nullable=False),
        sa.Column("limits", sa.JSON, nullable=False),
        _int("created_at"),
        _text("created_by"),
        _int("revoked_at", null=True),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.ForeignKeyConstraint(
            ["organisation", "project"], ["projects.organisation", "projects.id"], name="fk_keys_projects"
        ),
        sa.UniqueConstraint("public", name="uq_keys_public"),
        sa.UniqueConstraint("slot", name="uq_keys_slot"),
    )
    op.create_table(
        "events",
        _text("id"),
        _int("at_ns"),
        _text("actor"),
        _text("action"),
        _text("subject"),
        sa.Column("before", sa.JSON, nullable=True),
        sa.Column("after", sa.JSON, nullable=True),
        _text("organisation"),
        _text("project"),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_at_ns", "events", ["at_ns"])
    op.create_table(
        "exchanges",
        _text("request_id"),
        _small("attempt"),
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
        sa.Column("stream", sa.Boolean, nullable=False),
        _text("engine"),
        _text("engine_kind"),
        _small("status"),
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
        _small("attempts"),
        _text("finish_reason", null=True),
        _text("verdict"),
        sa.Column("findings", sa.JSON, nullable=False),
        _int("bytes_in"),
        _int("bytes_out"),
        _int("first_us"),
        _int("total_us"),
        _text("address"),
        _text("end_user", null=True),
        _small("worker"),
        _text("boot"),
        sa.PrimaryKeyConstraint("request_id", "attempt", name="pk_exchanges"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "open_intents",
        _text("request_id"),
        _small("attempt"),
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
        _small("worker"),
        _text("boot"),
        sa.PrimaryKeyConstraint("request_id", "attempt", name="pk_open_intents"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "spool_offsets",
        _text("path"),
        _small("worker"),
        _text("boot"),
        _small("segment"),
        _int("position"),
        _int("next_sequence"),
        _int("intents"),
        _int("settlements"),
        sa.Column("finished", sa.Boolean, nullable=False),
        _text("damage", null=True),
        _int("updated_ns"),
        sa.PrimaryKeyConstraint("path", name="pk_spool_offsets"),
    )
    op.create_table(
        "refusals",
        _text("organisation"),
        _text("project"),
        _int("at_s"),
        _text("reason"),
        _text("prefix"),
        _int("count"),
        sa.PrimaryKeyConstraint("organisation", "project", "at_s", "reason", "prefix", name="pk_refusals"),
        sqlite_with_rowid=False,
    )
    now = int(time.time())
    op.bulk_insert(organisations, [{"id": "default", "name": "Default", "created_at": now}])
    op.bulk_insert(projects, [{"organisation": "default", "id": "default", "name": "Default", "created_at": now}])


def downgrade() -> None:
    """Back to nothing."""
    for table in (
        "refusals",
        "spool_offsets",
        "open_intents",
        "exchanges",
        "events",
        "keys",
        "projects",
        "organisations",
    ):
        op.drop_table(table)
