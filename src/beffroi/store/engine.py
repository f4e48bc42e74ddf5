# SPDX-License-Identifier: Apache-2.0
"""Opens the database: SQLite beside the journal on one machine, PostgreSQL at scale; the only place that does.

In: a path, or a database URL. Out: an engine whose schema is up to date. All calls block: not for an event loop.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from beffroi.store import server
from beffroi.store.prepared import ONE_VIEW
from beffroi.store.server import is_server

_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_MS = 10_000
HEAD = "0004"  # the newest migration; a test holds it to the folder


def open_engine(database: Path | str, *, read_only: bool = False) -> Engine:
    """An engine for a SQLite file (a `Path`) or for a PostgreSQL (a `str`: its URL). Nothing is connected to yet.

    SQLite runs in WAL mode with `synchronous=FULL`: shipping deletes a journal segment once its rows are committed, so
    a commit must be on disk. Each transaction takes the write lock at its start, unless opened by `reading`: one that
    reads first and writes later would otherwise fail, without waiting, when somebody wrote in between.

    Args:
        read_only: refuse writes; a SQLite file must exist.

    Raises:
        BadUrl: the text is no URL of a PostgreSQL.
    """
    if isinstance(database, str):
        return server.open_server(database, read_only=read_only)
    query = {"mode": "ro", "uri": "true"} if read_only else {}
    engine = create_engine(
        URL.create("sqlite", database=f"file:{database}" if read_only else str(database), query=query)
    )
    event.listen(engine, "connect", _set_up_read_only if read_only else _set_up)
    event.listen(engine, "begin", _begin_deferred if read_only else _begin)
    return engine


def _set_up_read_only(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")


def _set_up(connection: Any, record: object) -> None:
    _set_up_read_only(connection, record)
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "wal_autocheckpoint=4000",
        "journal_size_limit=67108864",
        "cache_size=-16384",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_deferred(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin(connection: Connection) -> None:
    deferred = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if deferred else "BEGIN IMMEDIATE")


@contextmanager
def reading(engine: Engine, *, patient: bool = False) -> Iterator[Connection]:
    """A connection with one consistent view of the database; it neither waits for a writer nor holds one up.

    Args:
        patient: a statement may take as long as it takes.
    """
    with engine.connect().execution_options(reading=True) as connection:
        if is_server(engine):
            connection.exec_driver_sql(ONE_VIEW)
            if patient:
                server.patiently(connection)
        yield connection


@contextmanager
def glancing(engine: Engine) -> Iterator[Connection]:
    """As `reading`, for one statement, which is a consistent view by itself."""
    with engine.connect().execution_options(reading=True) as connection:
        yield connection


def serialise(connection: Connection) -> None:
    """From here to its end this transaction is the only one that changes what people administer.

    SQLite has one writer at a time anyway. On PostgreSQL it is what an act calls before it reads what it will change:
    the next free slot, whether a name is taken. Shipping never waits for it.
    """
    if is_server(connection):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({server.ACTS})")


def _alembic(connection: Connection) -> Any:
    # Imported only where a step is to be made: it takes a third of the second in which control must be back.
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the schema forward, in one transaction: all steps or none.

    Raises:
        alembic.util.CommandError: a newer release made this database (`knows`).
    """
    if revision == "head" and current(engine) == HEAD:
        return
    from alembic import command

    with engine.begin() as connection:
        server.alone(connection)  # of several that start at once, one migrates and the others find it done
        command.upgrade(_alembic(connection), revision)


def knows(revision: str) -> bool:
    """Whether a database of this revision can be brought forward: not if a newer release made it."""
    if revision == HEAD:
        return True
    from alembic.script import ScriptDirectory

    return revision in {script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}


def current(engine: Engine) -> str | None:
    """The revision of the schema; None: there are no tables yet.

    Raises:
        SQLAlchemyError: a PostgreSQL does not answer.
    """
    try:
        with reading(engine) as connection:
            if is_server(engine) and connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
                return None
            found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return found
    except DBAPIError:
        if is_server(engine):
            raise
        return None  # a file without tables


def lowest(engine: Engine) -> int:
    """The oldest revision whose release can still serve this database; a migration that takes something away raises it."""
    with reading(engine) as connection:
        return connection.scalar(text("SELECT number FROM revisions WHERE name = 'floor'")) or 0


def downgrade(engine: Engine, revision: str) -> None:
    """Take the schema back to `revision` (`base`: nothing is left), in one transaction."""
    from alembic import command

    with engine.begin() as connection:
        server.alone(connection)
        command.downgrade(_alembic(connection), revision)
