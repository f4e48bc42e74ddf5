# SPDX-License-Identifier: Apache-2.0
"""A key may succeed another and share its slot: `keys.rotated_from`, and a slot that is unique among the others only.

In: the tables of 0001. Out: the same rows, none of them a successor.
Going back keeps of keys that share a slot the newest alone, as the older table has no room for both: the old ones are
refused from then on, which is what their rotation was for.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    with op.batch_alter_table("keys") as table:
        table.add_column(sa.Column("rotated_from", sa.String, nullable=True))
        table.drop_constraint("uq_keys_slot", type_="unique")
        table.create_unique_constraint("uq_keys_rotated_from", ["rotated_from"])
    own = sa.text("rotated_from IS NULL")
    op.create_index("ix_keys_slot_own", "keys", ["slot"], unique=True, sqlite_where=own, postgresql_where=own)


def downgrade() -> None:
    """Back."""
    op.execute("DELETE FROM keys WHERE id IN (SELECT rotated_from FROM keys WHERE rotated_from IS NOT NULL)")
    op.drop_index("ix_keys_slot_own", "keys")
    with op.batch_alter_table("keys") as table:
        table.drop_constraint("uq_keys_rotated_from", type_="unique")
        table.drop_column("rotated_from")
        table.create_unique_constraint("uq_keys_slot", ["slot"])
