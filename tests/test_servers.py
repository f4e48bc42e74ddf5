# SPDX-License-Identifier: Apache-2.0
"""The servers that tests of fleets stand on do what their names say."""

from sqlalchemy import text

from beffroi.store.engine import HEAD, current, open_engine, reading
from tests.servers import Postgres, Valkey


def test_a_database_is_fresh_up_to_date_and_its_role_is_no_superuser(postgres: Postgres) -> None:
    """What one test writes, another does not see; row-level security would hold."""
    one, two = open_engine(postgres.database()), open_engine(postgres.database())
    try:
        assert current(one) == current(two) == HEAD
        with one.begin() as connection:
            connection.execute(text("INSERT INTO revisions VALUES ('keys', 7)"))
        with reading(two) as connection:
            assert connection.execute(text("SELECT count(*) FROM revisions WHERE name = 'keys'")).scalar_one() == 0
            bypass = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
            assert connection.execute(text(bypass)).scalar_one() is False
            assert connection.execute(text("SHOW fsync")).scalar_one() == "on"
    finally:
        one.dispose()
        two.dispose()


def test_a_killed_cluster_comes_back_with_what_was_committed() -> None:
    """SIGKILL of the server, the way a failure test does it."""
    with Postgres() as server:
        url = server.empty()
        name = url.rpartition("/")[2]
        server.ask("CREATE TABLE kept (a int)", name)
        server.ask("INSERT INTO kept VALUES (5)", name)
        server.kill()
        server.start()
        assert server.ask("SELECT a FROM kept", name) == [[5]]


def test_valkey_answers_and_is_frozen_and_thawed() -> None:
    """It keeps what it holds while it is frozen."""
    with Valkey() as server:
        assert server.ask("SET", "a", "1") == b"+OK\r\n"
        server.freeze()
        server.thaw()
        assert server.ask("GET", "a") == b"$1\r\n1\r\n"
