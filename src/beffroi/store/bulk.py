# SPDX-License-Identifier: Apache-2.0
"""Many rows into a PostgreSQL at once: one COPY, where the driver would otherwise ask and be answered once a row.

In: a connection with a transaction, rows in the order of their columns. Out: rows of a table; nothing when it fails.
The rows become CSV, which the standard library writes in C. A null is the number `nan` in it: numbers stand unquoted and all
texts quoted, so that no text of a client can be taken for one.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

_NULL = float("nan")


def copy(connection: Connection, target: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """COPY rows into a table.

    A NUL character, which PostgreSQL has no room for and JSON can bring, is stored as U+FFFD: one client must not hold
    up the ledger of all.

    Raises:
        DBAPIError: the transaction has failed; the connection is given up if it is broken.
    """
    out = io.StringIO()
    write = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerow
    for row in rows:
        write([_NULL if value is None else value for value in row] if None in row else row)
    text = out.getvalue()
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    sql = f"COPY {target} ({', '.join(columns)}) FROM STDIN (FORMAT csv, NULL 'nan')"
    raw = connection.connection
    driver = connection.dialect.loaded_dbapi
    cursor: Any = raw.cursor()
    try:
        cursor.execute(sql, stream=io.BytesIO(text.encode()))
    except (driver.Error, OSError) as error:
        broken = isinstance(error, driver.InterfaceError | OSError)
        if broken:
            connection.invalidate(error)
        raise DBAPIError(sql, None, error, hide_parameters=True, connection_invalidated=broken) from error
    finally:
        cursor.close()
