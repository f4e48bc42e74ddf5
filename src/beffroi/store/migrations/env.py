# SPDX-License-Identifier: Apache-2.0
"""Runs the migrations on the connection that `store.engine.upgrade` hands over; Alembic executes this file.

In: a connection with an open transaction. Out: the same, migrated; the caller commits.
"""

from alembic import context

from beffroi.store import administration
from beffroi.store.tables import metadata

assert administration.members.metadata is metadata  # noqa: S101 - imported for its tables
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter most of a table in place
)
context.run_migrations()
