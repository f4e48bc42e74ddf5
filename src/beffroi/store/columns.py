# SPDX-License-Identifier: Apache-2.0
"""The kinds of columns that the tables are made of.

In: a name. Out: a column. Migrations have copies of their own, which stay as they were when they were released.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, String


def string(name: str, *, key: bool = False, null: bool = False) -> Column[str]:
    """A text."""
    return Column(name, String, primary_key=key, nullable=null)


def integer(name: str, *, key: bool = False, null: bool = False) -> Column[int]:
    """A number of 64 bits."""
    return Column(name, BigInteger, primary_key=key, nullable=null, autoincrement=False)


def word(name: str) -> Column[str]:
    """A text that is empty where nobody said anything."""
    return Column(name, String, nullable=False, server_default="")


def number(name: str) -> Column[int]:
    """A number that begins at 0."""
    return Column(name, BigInteger, nullable=False, server_default="0", autoincrement=False)


def kept() -> tuple[Column[Any], ...]:
    """Of everything that people administer: its state (active, suspended), its revision (the ETag), who keeps it."""
    return Column("state", String, nullable=False, server_default="active"), number("revision"), word("managed_by")
