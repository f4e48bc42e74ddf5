# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL: a text that comes again is prepared once per connection, and takes one journey from then on instead of two.

In: what SQLAlchemy is about to execute. Out: the same rows, from the driver's own prepared statements. The driver alone would
look through every text letter by letter, and have the server parse and plan it, each time. A connection keeps `MOST` texts;
one that comes once is left to the driver. A pooler that shares one connection among clients by the transaction cannot stand in
between; it never could: that row-level security shows all until a scope says otherwise is a setting of the connection's.
"""

from collections import OrderedDict
from typing import Any

from sqlalchemy import Engine, event

MOST = 200  # texts that a connection keeps
ONE_VIEW = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"  # without values, and yet prepared: every look begins so
_INFO = "beffroi.prepared"


def prepare_what_comes_again(engine: Engine) -> None:
    """For every connection of an engine over pg8000."""
    event.listen(engine, "do_execute", _execute)


def _execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """In place of the driver's own `execute`, where the text has come before on this connection; else not at all."""
    if context is None or (not parameters and statement != ONE_VIEW):
        return False  # plain text: the driver sends it as it is, in one journey
    kept: _Kept = context.root_connection.info.setdefault(_INFO, _Kept())
    if statement not in kept.prepared and not kept.comes_again(statement):
        return False
    errors = context.dialect.loaded_dbapi
    driver = context.root_connection.connection.driver_connection
    try:
        cursor._context = kept.run(driver, statement, parameters)  # noqa: SLF001
    except AttributeError:
        if driver._sock is not None:  # noqa: SLF001
            raise
        # It was closed: the driver has let go of its socket.
        raise errors.InterfaceError("connection is closed") from None
    except errors.DatabaseError as error:  # under the name that the cursor's own `execute` gives it; see `store.server`
        raise errors.ProgrammingError(*error.args) from None
    cursor._row_iter = iter(cursor._context.rows or ())  # noqa: SLF001
    return True


class _Kept:
    """What one connection has seen, and what it has prepared: name, columns, their readers, text."""

    def __init__(self) -> None:
        self.begin = b""
        self.seen: OrderedDict[str, None] = OrderedDict()
        self.prepared: OrderedDict[str, tuple[bytes, Any, Any, str]] = OrderedDict()

    def comes_again(self, text: str) -> bool:
        """Whether it was seen before."""
        if text in self.seen:
            del self.seen[text]
            return True
        self.seen[text] = None
        if len(self.seen) > MOST:
            self.seen.popitem(last=False)
        return False

    def run(self, driver: Any, text: str, parameters: Any) -> Any:
        """Execute it, prepared now or before."""
        from pg8000.core import make_params  # type: ignore[import-untyped]  # noqa: PLC0415 - of the extra `fleet`
        from pg8000.dbapi import convert_paramstyle  # type: ignore[import-untyped]  # noqa: PLC0415

        prepare = driver.prepare_statement
        begin = not driver.autocommit and not driver._in_transaction  # noqa: SLF001 - as the cursor's own `execute` does
        if begin and not self.begin:
            self.begin = prepare("begin transaction", ())[0]
        if text not in self.prepared:
            numbered, _ = convert_paramstyle("format", text, parameters)
            if len(self.prepared) >= MOST:
                driver.close_prepared_statement(self.prepared.popitem(last=False)[1][0])
            self.prepared[text] = (*prepare(numbered, ()), numbered)
        self.prepared.move_to_end(text)
        name, columns, readers, numbered = self.prepared[text]
        values = make_params(driver.py_types, parameters)
        if begin:  # travels with the statement: should it fail, the server leaves out what came with it
            driver.send_BIND(self.begin, ())
            driver.send_EXECUTE()
        return driver.execute_named(name, values, columns, readers, numbered)
