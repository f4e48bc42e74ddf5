# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL: how it is connected to, how long anything may wait for it, and which of its locks are ours.

In: a URL, `postgresql://user:password@host:port/name`. Out: an engine whose every wait has an end, so that no thread hangs on
a database that is gone: connecting 5 s, a lock 10 s, a statement 60 s, an answer on the wire 70 s, a free connection 5 s.
"""

import ipaddress
import ssl
import time
from functools import partial
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.pool import ConnectionPoolEntry

from beffroi.store.prepared import prepare_what_comes_again

CONNECT_S, LOCK_S, STATEMENT_S, ANSWER_S = 5.0, 10, 60, 70.0
IDLE_S = 2.0  # seconds after which a connection of the pool is asked whether it lives
POOL, MORE = 6, 6  # connections kept, and those that a rush may add; of each replica
_MIGRATING_S = 300  # how long a start waits for another one that migrates
# Numbers of advisory locks, of this program's own choosing: "BEFF" and a count.
_OWN = 0x42454646
MIGRATION, ACTS = (_OWN << 8) + 1, (_OWN << 8) + 2
SSL_MODES = ("disable", "require", "verify-full")


class BadUrl(ValueError):
    """A database URL that cannot be used; the text never shows it, as a password may stand in it."""


def is_server(place: Engine | Connection) -> bool:
    """Whether it is a PostgreSQL, which other machines may use as well."""
    return place.dialect.name == "postgresql"


def parse(text: str) -> URL:
    """The parts of a URL.

    Raises:
        BadUrl: it is none, or of another database than PostgreSQL.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise BadUrl("it is no URL such as postgresql://user:password@host:5432/name") from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+pg8000"):
        raise BadUrl(f"it begins with `{url.drivername}://`; the database of a fleet is a postgresql:// one")
    if not url.database:
        raise BadUrl("it names no database after the host: postgresql://user:password@host:5432/name")
    if not url.username:
        raise BadUrl("it names no user before the host: postgresql://user:password@host:5432/name")
    if unknown := sorted(set(url.query) - {"sslmode", "sslrootcert", "host"}):
        raise BadUrl(
            f"`{unknown[0]}` after the ? is not known; there are sslmode, sslrootcert, host (a socket's folder)"
        )
    if (mode := url.query.get("sslmode", "disable")) not in SSL_MODES:
        raise BadUrl(f"sslmode is {', '.join(SSL_MODES[:-1])} or {SSL_MODES[-1]}, not {mode!r}")
    return url


def shown(text: str) -> str:
    """A URL as people may see it, without its password."""
    try:
        return parse(text).set(query={}).render_as_string(hide_password=True)
    except BadUrl:
        return "(a URL that cannot be used)"


def open_server(text: str, *, read_only: bool = False) -> Engine:
    """An engine; nothing is connected to yet. A connection that broke while it waited in the pool is replaced unseen.

    Between two machines the connection is encrypted and the server's certificate is checked, unless `sslmode` says less.

    Raises:
        BadUrl: see `parse`; or its CA file cannot be read.
    """
    url = parse(text)
    socket = url.query.get("host")
    arguments: dict[str, Any] = {
        "timeout": CONNECT_S,
        "application_name": "beffroi",
        "startup_params": {
            "statement_timeout": f"{STATEMENT_S}s",
            "lock_timeout": f"{LOCK_S}s",
            "idle_in_transaction_session_timeout": f"{STATEMENT_S}s",
            "synchronous_commit": "on",  # a journal segment goes once its rows are committed
            "default_transaction_read_only": "on" if read_only else "off",
            "timezone": "UTC",
            "beffroi.organisation": "*",  # row-level security (0003): all, until a scope says of one organisation only
        },
    }
    if isinstance(socket, str):
        arguments["unix_sock"] = f"{socket}/.s.PGSQL.{url.port or 5432}"
    else:
        arguments["ssl_context"] = _ssl(url)
    try:
        engine = create_engine(
            url.set(drivername="postgresql+pg8000", query={}),
            connect_args=arguments,
            pool_size=POOL,
            max_overflow=MORE,
            pool_timeout=CONNECT_S,
            pool_recycle=1800,
            hide_parameters=True,  # no row of anybody's in an error's text
        )
    except ModuleNotFoundError:
        raise BadUrl("PostgreSQL needs what `pip install 'beffroi[fleet]'` adds to a plain install") from None
    prepare_what_comes_again(engine)
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "checkout", partial(_set_up, engine.dialect.loaded_dbapi.Error))
    event.listen(engine, "handle_error", _name_error, retval=True)
    return engine


def _connect(dialect: Any, _record: object, words: Any, options: Any) -> Any:
    try:
        return dialect.connect(*words, **options)
    except OSError as error:  # as above, in the middle of saying hello
        raise dialect.loaded_dbapi.OperationalError(str(error)) from error


def _set_up(errors: type[Exception], connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
    """A connection that has lain for a while is asked whether it lives, so that no act is the one to find out."""
    now = time.monotonic()
    used = record.info.setdefault("used", now)
    record.info["used"] = now
    try:
        if now - used > IDLE_S:
            connection._usock.settimeout(CONNECT_S)  # noqa: SLF001 - the driver has one time-out, for connecting and answers
            cursor = connection.cursor()
            cursor.execute("SELECT 1")
            connection.rollback()
        connection._usock.settimeout(ANSWER_S)  # noqa: SLF001
    except (errors, OSError, AttributeError) as error:  # AttributeError: of one that was closed
        record.info.pop("used", None)
        raise DisconnectionError(str(error)) from error


def patiently(connection: Connection) -> None:
    """Until this transaction ends a statement may take as long as it takes."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    driver: Any = connection.connection.driver_connection
    driver._usock.settimeout(None)  # noqa: SLF001 - as above; keep-alives of TCP notice a server that is gone


def is_of_server(error: DBAPIError) -> bool:
    """Whether PostgreSQL, or the way to it, is what failed."""
    return isinstance(error.orig, OSError) or type(error.orig).__module__.startswith("pg8000")


def _name_error(context: ExceptionContext) -> BaseException | None:
    """The driver calls nearly all errors programming errors: give each the class that its SQLSTATE means.

    A server that shuts down, or that has become a standby (25006), is as good as gone: its connections are given up. So are
    those that have prepared what a migration has since made another statement (`store.prepared`).
    """
    if isinstance(context.original_exception, OSError):  # the driver lets some of the network's own through
        context.is_disconnect = True
        return OperationalError(context.statement, None, context.original_exception, True, True)
    told = context.original_exception.args[:1]
    said = told[0] if told and isinstance(told[0], dict) else {}
    state = str(said.get("C", ""))
    stale = state == "26000" or (state == "0A000" and said.get("R") == "RevalidateCachedQuery")
    if (state[:2] in ("08", "57") and state != "57014") or state == "25006" or stale:
        context.is_disconnect = True
    if not isinstance(context.sqlalchemy_exception, ProgrammingError):
        return None
    kind: type[DBAPIError] = OperationalError
    if state.startswith("23"):
        kind = IntegrityError
    elif state.startswith("22"):
        kind = DataError
    elif not stale and state[:2] not in ("08", "25", "40", "53", "55", "57", "58"):
        return None
    return kind(context.statement, None, context.original_exception, True, bool(context.is_disconnect))


def _ssl(url: URL) -> ssl.SSLContext | bool:
    mode = url.query.get("sslmode", "disable" if _near(url.host or "localhost") else "verify-full")
    if mode == "disable":
        return False
    try:
        ca = url.query.get("sslrootcert")
        context = ssl.create_default_context(cafile=ca if isinstance(ca, str) else None)
    except (OSError, ssl.SSLError) as error:
        raise BadUrl(f"the file that `sslrootcert` names cannot be used: {error}") from None
    if mode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _near(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def alone(connection: Connection) -> None:
    """Wait until no other start migrates this database, and keep others waiting; a long step is not cut short.

    A table that is in use is waited for `LOCK_S` seconds, so that whoever serves is not held up behind a migration.
    """
    if not is_server(connection):
        return
    run = connection.exec_driver_sql
    patiently(connection)
    run(f"SET LOCAL lock_timeout = '{_MIGRATING_S}s'")
    run(f"SELECT pg_advisory_xact_lock({MIGRATION})")
    run(f"SET LOCAL lock_timeout = '{LOCK_S}s'")


def passes_walls(connection: Connection) -> bool:
    """Whether row-level security does not hold for this database user: a superuser, or one with BYPASSRLS."""
    if not is_server(connection):
        return False
    found = connection.exec_driver_sql("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
    return bool(found.scalar())
