# SPDX-License-Identifier: Apache-2.0
"""How PostgreSQL is reached: URLs that are understood or refused in words, waits that end, errors under their right names."""

import socket
import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from tests.servers import Postgres

from beffroi.store.engine import open_engine, reading, serialise, upgrade
from beffroi.store.prepared import MOST
from beffroi.store.server import CONNECT_S, BadUrl, parse, shown


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "no URL"),
        ("mysql://a:b@host/name", "mysql://"),
        ("postgresql://a:b@host", "names no database"),
        ("postgresql://host/name", "names no user"),
        ("postgresql://a:b@host/name?ssl=1", "`ssl`"),
        ("postgresql://a:b@host/name?sslmode=prefer", "verify-full"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_in_words_without_its_password(url: str, says: str) -> None:
    """The person who wrote it learns what is missing; a log learns nothing."""
    with pytest.raises(BadUrl, match=says.replace("?", r"\?")) as caught:
        parse(url)
    assert "b@" not in str(caught.value)


def test_a_password_is_never_shown() -> None:
    """Neither by the engine nor in the words for people."""
    url = "postgresql://ada:s3cret@db.example.org:5433/beffroi?sslmode=disable"
    assert "s3cret" not in shown(url) + str(open_engine(url).url) + repr(open_engine(url))
    assert "db.example.org" in shown(url)


def test_a_server_that_takes_a_connection_and_says_nothing_is_given_up() -> None:
    """A thread that waits for ever would be one less for everybody else."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        engine = open_engine(f"postgresql://a:b@127.0.0.1:{deaf.getsockname()[1]}/name")
        begun = time.monotonic()
        with pytest.raises(DBAPIError), engine.connect():
            pass
        assert time.monotonic() - begun < CONNECT_S + 3


def test_a_connection_that_was_cut_while_it_lay_in_the_pool_is_replaced_unseen(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's act is the one to find out."""
    monkeypatch.setattr("beffroi.store.server.IDLE_S", -1.0)
    url = postgres.empty()
    engine = open_engine(url)
    for _ in range(2):
        with engine.connect() as connection:
            assert connection.execute(text("SELECT 1")).scalar_one() == 1
        assert postgres.cut(url) == 1
    engine.dispose()


def test_errors_have_the_class_that_their_state_means(postgres: Postgres) -> None:
    """The driver calls them all programming errors; a fail-over must not look like a bug, nor a duplicate like a fail-over."""
    url = postgres.empty()
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (a int PRIMARY KEY, b int REFERENCES t)"))
    for statement in ("INSERT INTO t VALUES (1, 2)", "INSERT INTO t VALUES (1, 1), (1, 1)"):
        with pytest.raises(IntegrityError), engine.begin() as connection:
            connection.execute(text(statement))
    with pytest.raises(OperationalError), engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 50"))
        connection.execute(text("SELECT pg_sleep(5)"))
    with pytest.raises(OperationalError) as caught, engine.begin() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))  # as a standby answers after a fail-over
        connection.execute(text("INSERT INTO t VALUES (3, 3)"))
    assert caught.value.connection_invalidated
    with pytest.raises(DBAPIError) as caught_again, engine.begin() as connection:
        postgres.cut(url)
        connection.execute(text("SELECT 1"))
    assert caught_again.value.connection_invalidated
    engine.dispose()


def test_an_act_that_serialises_waits_for_the_one_before_and_shipping_for_none(postgres: Postgres) -> None:
    """Two machines cannot both take the next free number."""
    engine = open_engine(postgres.database())
    with engine.begin() as first:
        serialise(first)
        with pytest.raises(OperationalError), engine.begin() as second:
            second.execute(text("SET LOCAL lock_timeout = 100"))
            serialise(second)
        with engine.begin() as shipping:
            shipping.execute(text("INSERT INTO refusals VALUES ('default', 'default', 1, 'r', 'p', 1)"))
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM refusals")).scalar_one() == 1
    engine.dispose()


def test_a_migration_gives_up_on_a_table_that_stays_in_use(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever serves must not queue behind it; nothing of it is left, and the next start tries again."""
    monkeypatch.setattr("beffroi.store.server.LOCK_S", 1)
    engine = open_engine(postgres.empty())
    upgrade(engine, "0003")
    with engine.begin() as user:
        user.execute(text("SELECT count(*) FROM open_intents"))
        with pytest.raises(OperationalError):
            upgrade(engine)
    upgrade(engine)
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM changes")).scalar_one() == 0
    engine.dispose()


def test_a_text_that_comes_again_is_prepared_and_says_what_it_said_before(postgres: Postgres) -> None:
    """With other values, nulls, and rows that come back; the server holds `MOST` of them at most for a connection."""
    engine = open_engine(postgres.empty())
    held = text("SELECT count(*) FROM pg_prepared_statements")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (number int, word text)"))
        add = text("INSERT INTO notes VALUES (:number, :word)")
        for number, word in ((1, "é 100 %"), (2, None), (3, "it's :here")):
            assert connection.execute(add, {"number": number, "word": word}).rowcount == 1
        assert connection.scalar(held) == 1
        change = text("UPDATE notes SET word = word || :more WHERE number >= :number RETURNING number, word")
        for more in ("a", "ab", "abc"):
            row = connection.execute(change, {"more": more[-1], "number": 3}).one()
            assert row._asdict() == {"number": 3, "word": f"it's :here{more}"}
        for number in range(MOST + 5):
            for value in (number, number + 1):
                assert connection.scalar(text(f"SELECT {number} + :value"), {"value": value}) == number + value
        assert connection.scalar(held) == MOST
    engine.dispose()


def test_a_prepared_text_fails_as_any_other_and_serves_again_afterwards(postgres: Postgres) -> None:
    """Under its right name; what was prepared outlives a transaction that was rolled back."""
    engine = open_engine(postgres.empty())
    add = text("INSERT INTO notes VALUES (:number)")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (number int PRIMARY KEY)"))
        connection.execute(add, {"number": 1})
        connection.execute(add, {"number": 2})
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(add, {"number": 2})
    with engine.begin() as connection:
        connection.execute(add, {"number": 3})
        assert connection.scalar(text("SELECT count(*) FROM notes")) == 3
    with pytest.raises(DBAPIError) as caught, engine.begin() as connection:
        postgres.cut(engine.url.render_as_string(hide_password=False))
        connection.execute(add, {"number": 4})
    assert caught.value.connection_invalidated
    with engine.begin() as connection:
        connection.execute(add, {"number": 4})
    engine.dispose()


def test_what_a_migration_made_another_statement_is_prepared_anew(postgres: Postgres) -> None:
    """Whoever meets it first is told to come again, and the connection is given up: nobody meets it twice."""
    engine = open_engine(postgres.empty())
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (number int)"))
    look = text("SELECT number FROM notes WHERE number > :number")
    for _ in range(3):
        with engine.begin() as connection:
            connection.execute(look, {"number": 0})
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE notes ALTER number TYPE bigint"))
    with pytest.raises(OperationalError), engine.begin() as connection:
        connection.execute(look, {"number": 0})
    with engine.begin() as connection:
        assert connection.execute(look, {"number": 0}).all() == []
    engine.dispose()


def test_every_look_is_one_view_that_writes_nothing(postgres: Postgres) -> None:
    """The first of a connection, and those for which its beginning is prepared."""
    engine = open_engine(postgres.empty())
    for _ in range(3):
        with reading(engine) as connection:
            assert connection.scalar(text("SHOW transaction_isolation")) == "repeatable read"
            assert connection.scalar(text("SHOW transaction_read_only")) == "on"
    engine.dispose()
