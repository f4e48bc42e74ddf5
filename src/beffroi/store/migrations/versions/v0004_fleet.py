# SPDX-License-Identifier: Apache-2.0
"""Several Beffroi over one database: whose journal a place is of, and what gateways know as a list of changes.

In: the tables of 0003. Out: the same rows, and a table `changes` that the database itself fills: a trigger of each table that
gateways hold in memory notes which row changed, whoever wrote it. On PostgreSQL the statement first takes the lock of
acts (store.server.ACTS), so that changes are committed in the order of their numbers and no follower misses one.
A later migration that builds one of these tables anew (SQLite, `batch_alter_table`) drops its triggers: call `watch` again.
"""

import sqlalchemy as sa
from alembic import op

from beffroi.store.server import ACTS

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Table → what changes when one of its rows does, and the column that says which.
WATCHED = {
    "keys": ("key", "id"),
    "quotas": ("quota", "id"),
    "quota_terms": ("quota", "quota"),
    "tiers": ("tier", "name"),
    "organisations": ("closed", "id"),
    "projects": ("closed", "id"),
    "shared_secrets": ("secret", "kind"),
}
# The next number of a counter (control.slots), whatever organisation row-level security shows to who asks. Its trigger comes
# first: what is read after the row was locked is what those who waited before left there.
_SLOT = """CREATE FUNCTION beffroi_slot() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE said text := current_setting('beffroi.organisation', true); drawn bigint;
BEGIN
  INSERT INTO revisions (name, number) VALUES ('slots', 0)
    ON CONFLICT (name) DO UPDATE SET number = revisions.number + 1 RETURNING number INTO drawn;
  PERFORM set_config('beffroi.organisation', '*', true);
  drawn := greatest(
    drawn,
    (SELECT max(slot) + 1 FROM keys WHERE rotated_from IS NULL),
    (SELECT max(slot) + 1 FROM quotas)
  );
  PERFORM set_config('beffroi.organisation', coalesce(said, ''), true);
  UPDATE revisions SET number = drawn WHERE name = 'slots' AND number <> drawn;
  RETURN drawn;
END $$"""
_ACTS = ("INSERT", "UPDATE", "DELETE")


def watch(tables: dict[str, tuple[str, str]]) -> None:
    """Have the database note every change of a row of these tables."""
    for table, (kind, column) in tables.items():
        if op.get_bind().dialect.name == "postgresql":
            op.execute(
                f"CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON {table} "
                f"FOR EACH ROW EXECUTE FUNCTION beffroi_changed('{kind}', '{column}')"
            )
            _alone(table)
        else:
            for act in _ACTS:
                row = "OLD" if act == "DELETE" else "NEW"
                op.execute(
                    f"CREATE TRIGGER changed_{table}_{act.lower()} AFTER {act} ON {table} BEGIN "
                    f"INSERT INTO changes (kind, subject) VALUES ('{kind}', {row}.{column}); END"
                )


def _alone(table: str) -> None:
    op.execute(
        f"CREATE TRIGGER alone BEFORE INSERT OR UPDATE OR DELETE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION beffroi_alone()"
    )


def upgrade() -> None:
    """Forward."""
    for table in ("spool_offsets", "open_intents"):
        op.add_column(table, sa.Column("replica", sa.String, nullable=False, server_default=""))
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "changes",
        sa.Column("number", number, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_changes"),
        sqlite_autoincrement=True,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION beffroi_alone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"PERFORM pg_advisory_xact_lock({ACTS}); RETURN NULL; END $$"
        )
        op.execute(
            "CREATE FUNCTION beffroi_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "INSERT INTO changes (kind, subject) VALUES (TG_ARGV[0], to_jsonb(COALESCE(NEW, OLD)) ->> TG_ARGV[1]); "
            "PERFORM pg_notify('beffroi', ''); RETURN NULL; END $$"
        )
        op.execute(_SLOT)
        _alone("revisions")  # it is written beside the others: the same lock first, or two acts wait for each other
    watch(WATCHED)
    op.execute("INSERT INTO revisions (name, number) VALUES ('floor', 4)")  # no release before this knew PostgreSQL


def downgrade() -> None:
    """Back."""
    server = op.get_bind().dialect.name == "postgresql"
    for table in WATCHED:
        if server:
            op.execute(f"DROP TRIGGER changed ON {table}")
            op.execute(f"DROP TRIGGER alone ON {table}")
        else:
            for act in _ACTS:
                op.execute(f"DROP TRIGGER changed_{table}_{act.lower()}")
    if server:
        op.execute("DROP TRIGGER alone ON revisions")
        op.execute("DROP FUNCTION beffroi_slot()")
        op.execute("DROP FUNCTION beffroi_changed()")
        op.execute("DROP FUNCTION beffroi_alone()")
    op.drop_table("changes")
    op.execute("DELETE FROM revisions WHERE name = 'floor'")
    for table in ("spool_offsets", "open_intents"):
        op.drop_column(table, "replica")
