# SPDX-License-Identifier: Apache-2.0
"""The administration of tenants: who may act, quotas and tiers, rotations, webhooks, long work, replicas.

In: the tables of 0002. Out: the same rows, all of them active and at revision 0, and the new tables empty.
On PostgreSQL every table of tenants gets a wall as well: row-level security, for the owner of the tables too. A row is seen
and written only by a transaction that has said `SET LOCAL beffroi.organisation` to that organisation (control.tenancy.scope
does), or by a session that says `*` (store.engine does, for the house itself); to whoever says nothing the tables are empty.
Going back drops what the older release has no room for: quotas, tiers, members, what keys are narrowed to. Such keys
are therefore revoked first: the older release would let them do more than they may.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=null)


def _word(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=False, server_default="")


def _int(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null, autoincrement=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0", autoincrement=False)


def _small(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, autoincrement=False)


def _kept() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("state", sa.String, nullable=False, server_default="active"),
        _number("revision"),
        _word("managed_by"),
    )


ADDED: dict[str, tuple[str, ...]] = {
    "organisations": ("state", "revision", "managed_by", "policy"),
    "projects": ("state", "revision", "managed_by"),
    "keys": ("endpoints", "addresses", "system", "owner", "rotation", "revoked_why", "revision", "managed_by"),
    "exchanges": ("system",),
    "open_intents": ("system", "end_user"),
}
TABLES = (
    "members",
    "service_accounts",
    "ai_systems",
    "admin_keys",
    "tiers",
    "quotas",
    "quota_terms",
    "budget_alerts",
    "key_uses",
    "rotations",
    "idempotency",
    "operations",
    "webhooks",
    "outbox",
    "revisions",
    "replicas",
    "shared_secrets",
)

WALLED = {
    "organisations": "id",
    **dict.fromkeys(
        (
            "projects", "keys", "events", "exchanges", "open_intents", "refusals", "members", "service_accounts",
            "ai_systems", "admin_keys", "tiers", "quotas", "quota_terms", "budget_alerts", "key_uses", "rotations",
            "idempotency", "operations", "webhooks", "outbox",
        ),
        "organisation",
    ),
}  # fmt: skip
_SAID = "current_setting('beffroi.organisation', true)"


def _walls() -> None:
    for table, column in WALLED.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} USING ({_SAID} IN ({column}, '*'))")
    # Everybody may read the tiers of the house, and only the house may change them.
    op.execute(f"CREATE POLICY house ON tiers FOR SELECT USING (organisation = '*' AND {_SAID} <> '')")


def upgrade() -> None:
    """Forward."""
    for table in ("organisations", "projects"):
        for column in _kept():
            op.add_column(table, column)
    op.add_column("organisations", sa.Column("policy", sa.JSON, nullable=False, server_default="{}"))
    for column in (
        sa.Column("endpoints", sa.JSON, nullable=True),
        sa.Column("addresses", sa.JSON, nullable=False, server_default="[]"),
        _word("system"),
        _word("owner"),
        sa.Column("rotation", sa.JSON, nullable=True),
        _word("revoked_why"),
        _number("revision"),
        _word("managed_by"),
    ):
        op.add_column("keys", column)
    for table in ("exchanges", "open_intents"):
        op.add_column(table, _word("system"))
    # What happened to the installation belongs to no tenant; until now all of it was written down as `default`'s.
    op.execute("UPDATE events SET organisation = '*', project = '' WHERE action NOT LIKE '%:key:%'")
    op.add_column("open_intents", sa.Column("end_user", sa.String, nullable=True))
    _administration()
    if op.get_bind().dialect.name == "postgresql":
        _walls()


def _administration() -> None:
    op.create_table(
        "members",
        _text("id"),
        _text("organisation"),
        _word("project"),
        _text("email"),
        _word("name"),
        _text("role"),
        _int("created_at"),
        *_kept(),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.id"], name="fk_members_organisations"),
        sa.PrimaryKeyConstraint("id", name="pk_members"),
        sa.UniqueConstraint("organisation", "project", "email", name="uq_members_organisation"),
    )
    op.create_table(
        "service_accounts",
        _text("id"),
        _text("organisation"),
        _word("project"),
        _text("name"),
        _text("role"),
        _int("created_at"),
        *_kept(),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.id"], name="fk_service_accounts_organisations"),
        sa.PrimaryKeyConstraint("id", name="pk_service_accounts"),
        sa.UniqueConstraint("organisation", "name", name="uq_service_accounts_organisation"),
    )
    op.create_table(
        "ai_systems",
        _text("id"),
        _text("organisation"),
        _word("project"),
        _text("name"),
        _text("purpose"),
        _text("owner"),
        sa.Column("models", sa.JSON, nullable=False),
        _int("created_at"),
        *_kept(),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.id"], name="fk_ai_systems_organisations"),
        sa.PrimaryKeyConstraint("id", name="pk_ai_systems"),
        sa.UniqueConstraint("organisation", "name", name="uq_ai_systems_organisation"),
    )
    op.create_table(
        "admin_keys",
        _text("id"),
        _text("organisation"),
        _word("project"),
        _word("principal"),
        _text("role"),
        _text("name"),
        _text("public"),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        _small("pepper_id"),
        _int("expires_at"),
        _int("created_at"),
        _text("created_by"),
        _int("revoked_at", null=True),
        _int("used_at", null=True),
        sa.Column("scopes", sa.JSON, nullable=True),
        _number("revision"),
        sa.PrimaryKeyConstraint("id", name="pk_admin_keys"),
        sa.UniqueConstraint("public", name="uq_admin_keys_public"),
    )
    op.create_table(
        "tiers",
        _text("organisation"),
        _text("name"),
        _small("version"),
        _int("effective_at"),
        _word("title"),
        sa.Column("limits", sa.JSON, nullable=False),
        _int("credit_nano", null=True),
        _int("created_at"),
        _word("managed_by"),
        sa.PrimaryKeyConstraint("organisation", "name", "version", name="pk_tiers"),
    )
    op.create_table(
        "quotas",
        _text("id"),
        _int("slot"),
        _text("organisation"),
        _word("project"),
        _word("key_id"),
        _word("model"),
        sa.Column("each_end_user", sa.Boolean, nullable=False),
        _word("name"),
        _int("created_at"),
        *_kept(),
        sa.PrimaryKeyConstraint("id", name="pk_quotas"),
        sa.UniqueConstraint(
            "organisation", "project", "key_id", "model", "each_end_user", name="uq_quotas_organisation"
        ),
        sa.UniqueConstraint("slot", name="uq_quotas_slot"),
    )
    op.create_table(
        "quota_terms",
        _text("quota"),
        _int("since"),
        _text("organisation"),
        _word("tier"),
        sa.Column("limits", sa.JSON, nullable=False),
        sa.ForeignKeyConstraint(["quota"], ["quotas.id"], name="fk_quota_terms_quotas", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("quota", "since", name="pk_quota_terms"),
    )
    op.create_table(
        "budget_alerts",
        _int("slot"),
        _text("budget"),
        _int("period"),
        _small("percent"),
        _text("organisation"),
        _int("at_ns"),
        sa.PrimaryKeyConstraint("slot", "budget", "period", "percent", name="pk_budget_alerts"),
    )
    op.create_table(
        "key_uses",
        _text("key_id"),
        _text("organisation"),
        _int("used_at"),
        sa.PrimaryKeyConstraint("key_id", name="pk_key_uses"),
    )
    op.create_table(
        "rotations",
        _text("id"),
        _text("organisation"),
        _text("project"),
        _text("key_id"),
        _word("successor"),
        _text("state"),
        _int("due_at"),
        _int("ends_at", null=True),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("told", sa.JSON, nullable=False),
        _word("link_hash"),
        sa.Column("sealed", sa.LargeBinary, nullable=True),
        _int("sealed_until", null=True),
        _int("fetched_at", null=True),
        _int("attempts"),
        _int("next_at"),
        _word("fault"),
        _int("created_at"),
        _number("revision"),
        sa.PrimaryKeyConstraint("id", name="pk_rotations"),
    )
    op.create_table(
        "idempotency",
        _text("organisation"),
        _text("actor"),
        _text("idempotency_key"),
        sa.Column("asked", sa.LargeBinary, nullable=False),
        _small("status"),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        _int("created_at"),
        sa.PrimaryKeyConstraint("organisation", "actor", "idempotency_key", name="pk_idempotency"),
    )
    op.create_table(
        "operations",
        _text("id"),
        _text("organisation"),
        _text("kind"),
        _text("state"),
        _small("progress"),
        sa.Column("result", sa.JSON, nullable=True),
        sa.Column("fault", sa.JSON, nullable=True),
        _text("created_by"),
        _int("created_at"),
        _int("updated_at"),
        sa.PrimaryKeyConstraint("id", name="pk_operations"),
    )
    op.create_table(
        "webhooks",
        _text("id"),
        _text("organisation"),
        _text("url"),
        sa.Column("events", sa.JSON, nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        _int("created_at"),
        *_kept(),
        _int("failing_since", null=True),
        _word("fault"),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    op.create_table(
        "outbox",
        _text("id"),
        _text("organisation"),
        _text("webhook"),
        _text("event"),
        sa.Column("payload", sa.JSON, nullable=False),
        _small("attempts"),
        _int("next_at"),
        _int("created_at"),
        _word("fault"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_table(
        "revisions",
        _text("name"),
        _int("number"),
        sa.PrimaryKeyConstraint("name", name="pk_revisions"),
    )
    op.create_table(
        "replicas",
        _text("id"),
        _text("boot"),
        _word("address"),
        _int("seen_ns"),
        _int("keys"),
        _small("workers"),
        sa.PrimaryKeyConstraint("id", name="pk_replicas"),
    )
    op.create_table(
        "shared_secrets",
        _text("kind"),
        _small("id"),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        _int("created_at"),
        sa.PrimaryKeyConstraint("kind", "id", name="pk_shared_secrets"),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"])
    op.create_index("ix_outbox_next_at", "outbox", ["next_at"])
    op.create_index("ix_outbox_webhook", "outbox", ["webhook"])
    op.create_index("ix_rotations_next_at", "rotations", ["next_at"])


def downgrade() -> None:
    """Back."""
    op.execute(
        "UPDATE keys SET revoked = true WHERE CAST(addresses AS TEXT) != '[]' "
        "OR (endpoints IS NOT NULL AND CAST(endpoints AS TEXT) != 'null')"
    )
    for table in reversed(TABLES):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        for table in WALLED.keys() - set(TABLES):
            op.execute(f"DROP POLICY tenant ON {table}")
            op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    for table, columns in ADDED.items():
        for column in columns:
            op.drop_column(table, column)
