# SPDX-License-Identifier: Apache-2.0
"""When a key was last used, as shipping sees it: once a minute, whatever became of the request, thieves left out."""

from typing import Any

from sqlalchemy import Engine, event

from beffroi.control.uses import APART, TOGETHER, Uses
from beffroi.store.administration import key_uses
from beffroi.store.engine import reading
from beffroi.store.tables import exchanges

_NAMES = exchanges.columns.keys()


def row(key: str, at: float, code: str | None = None) -> tuple[Any, ...]:
    """What shipping settles."""
    values = dict.fromkeys(_NAMES) | {
        "key_id": key,
        "organisation": "default",
        "started_ns": int(at * 1e9),
        "code": code,
    }
    return tuple(values.values())


def write(database: Engine, uses: Uses, *rows: tuple[Any, ...]) -> int:
    """One batch; how many statements it took."""
    ran: list[str] = []
    note = lambda *arguments: ran.append(arguments[2]) if "INSERT" in arguments[2] else None  # noqa: E731
    event.listen(database, "before_cursor_execute", note)
    with database.begin() as connection:
        uses.write(connection, rows)
    event.remove(database, "before_cursor_execute", note)
    return len(ran)


def used(database: Engine) -> dict[str, int]:
    """What the table says."""
    with reading(database) as connection:
        return {each.key_id: each.used_at for each in connection.execute(key_uses.select())}


def test_the_last_use_is_kept_and_never_goes_back(database: Engine) -> None:
    """Batches come in the order of their boots, not of time."""
    uses = Uses(database)
    write(database, uses, row("a", 1000), row("b", 5), row("a", 900))
    assert used(database) == {"a": 1000, "b": 5}
    write(database, uses, row("a", 500))
    write(database, Uses(database), row("a", 700), row("b", 6))
    assert used(database) == {"a": 1000, "b": 6}
    write(database, uses, row("a", 1000 + APART, "rate_limit_exceeded"))
    assert used(database)["a"] == 1000 + APART


def test_it_is_written_once_a_minute_and_together(database: Engine) -> None:
    """A statement for hundreds of keys; none at all for what is known."""
    uses = Uses(database)
    many = [row(f"k{n}", 1000) for n in range(TOGETHER + 1)]
    assert write(database, uses, *many) == 2
    assert write(database, uses, *(row(f"k{n}", 1000 + APART - 1) for n in range(TOGETHER))) == 0
    assert write(database, uses, row("k0", 1000 + APART)) == 1
    uses.forget()
    assert write(database, uses, *many) == 2
    assert used(database)["k0"] == 1000 + APART


def test_a_thief_who_knocks_keeps_no_key_alive(database: Engine) -> None:
    """A request from an address that the key is not for is no use of it; one over its limits is."""
    uses = Uses(database)
    assert write(database, uses, row("a", 1000, "address_not_allowed")) == 0
    write(database, uses, row("b", 1000, "insufficient_quota"))
    assert used(database) == {"b": 1000}
