# SPDX-License-Identifier: Apache-2.0
"""The control process as a process: start, kill -9, reload, stop."""

import asyncio
import contextlib
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from beffroi.core.key import key_hash, public_id
from beffroi.core.state import load_config, load_keys
from tests.control.fakes import Control, Worker, control, until

pytestmark = pytest.mark.anyio

FILE = """\
resources:
  engines:
    - {name: a, url: 'http://127.0.0.1:9'}
  models:
    - {id: m}
"""


def actions(data: Path) -> list[str]:
    """The events so far."""
    with contextlib.closing(sqlite3.connect(data / "beffroi.db")) as database:
        return [action for (action,) in database.execute("select action from events order by at_ns")]


def test_the_first_start_makes_one_key_and_says_it_once(tmp_path: Path) -> None:
    """It works with what is on disk; the second start says nothing."""
    with control(tmp_path) as running:
        assert running.ready is not None
        text = running.ready["first_key"]
        table = load_keys(tmp_path)
        (key,) = table.keys
        assert (key.name, key.public, key.models) == ("first", public_id(text), None)
        assert key.hash == key_hash(text, table.peppers[key.pepper_id])
        assert text not in running.log()
    assert actions(tmp_path) == ["control:config:apply", "control:key:create"]
    with control(tmp_path) as again:
        assert again.ready == {"ready": True, "first_key": None, "port": again.port}


def test_the_snapshot_is_on_disk_before_it_says_ready(tmp_path: Path) -> None:
    """A worker that starts on that word finds both parts."""
    with control(tmp_path):
        assert [model.id for model in load_config(tmp_path).models] == ["m"]
        assert load_keys(tmp_path).revision == 1


def test_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    """Status 0, and no socket left that leads nowhere."""
    running = Control(tmp_path)
    assert running.close() == 0
    assert not list(tmp_path.glob("*.sock"))


def test_what_it_leaves_is_readable_by_this_user_alone(tmp_path: Path) -> None:
    """Sockets too."""
    with control(tmp_path):
        found = {file.name: file.stat().st_mode & 0o077 for file in tmp_path.iterdir() if not file.is_dir()}
    assert {"control.sock", "bus.sock", "beffroi.db", "keys.bin", "peppers.bin", "snapshot.bin"} <= set(found)
    assert set(found.values()) == {0}, found


def test_another_address_than_loopback_is_refused_with_the_reason(tmp_path: Path) -> None:
    """Nobody could prove to be its administrator."""
    running = Control(tmp_path, host="0.0.0.0")
    assert running.ready is None
    assert running.process.wait(10) == 2
    assert "there is no administrator yet" in running.log()
    running.close()


def test_a_faulty_file_at_the_first_start_is_told_with_its_line(tmp_path: Path) -> None:
    """On standard error, without a traceback, status 2."""
    file = tmp_path / "beffroi.yaml"
    file.write_text("server:\n  prot: 1\n")
    running = Control(tmp_path, config=file)
    assert running.ready is None
    assert running.process.wait(10) == 2
    assert f"{file}:2:3: server.prot: there is no such setting; did you mean `port`?" in running.log()
    assert "Traceback" not in running.log()
    running.close()


async def test_a_changed_file_is_taken_and_a_faulty_one_refused(tmp_path: Path) -> None:
    """By watching, without a signal; the old stays, with every fault and its place in log, event and readiness."""
    file = tmp_path / "beffroi.yaml"
    file.write_text(FILE)
    with control(tmp_path, config=file) as running, Worker(tmp_path) as worker:
        file.write_text(FILE + "    - {id: second}\n")
        await until(lambda: len(worker.config.models) == 2)
        file.write_text(FILE + "    - {id: m}\ngateway: {max_bdy: 1}\n")
        places = f"{file}:6:12: resources.models[1].id", f"{file}:7:11: gateway.max_bdy"
        await until(lambda: all(place in running.log() for place in places))
        assert len(worker.config.models) == len(load_config(tmp_path).models) == 2
        refused = running.get("/api/v1/status").json["config_refused"]
        assert all(place in refused for place in places)
        file.write_text(FILE)
        await until(lambda: len(worker.config.models) == 1)
        assert running.get("/api/v1/status").json["config_refused"] is None
    assert actions(tmp_path).count("control:config:apply") == 3
    assert actions(tmp_path).count("control:config:refuse") == 1


async def test_a_file_that_is_being_written_is_not_taken_by_halves(tmp_path: Path) -> None:
    """An editor empties it first; a copy grows. Only what stays is read, and nothing at all is no configuration."""
    file = tmp_path / "beffroi.yaml"
    file.write_text(FILE)
    with control(tmp_path, config=file) as running, Worker(tmp_path) as worker:
        for count in range(20):
            file.write_text(FILE + "".join(f"    - {{id: m{n}}}\n" for n in range(count)))
            await asyncio.sleep(0.1)
            assert len(worker.config.models) == 1
        await until(lambda: len(worker.config.models) == 20)
        file.write_text("")
        running.process.send_signal(signal.SIGHUP)
        await until(lambda: f"{file}: is empty" in running.log())
        assert len(worker.config.models) == 20
        running.process.kill()
        running.process.wait()
        running.start()
        assert len(load_config(tmp_path).models) == 20


async def test_sighup_reloads_at_once(tmp_path: Path) -> None:
    """What the watch would not see: a secret that changed in another file."""
    file = tmp_path / "beffroi.yaml"
    (tmp_path / "secret").write_text("one")
    file.write_text("resources: {engines: [{name: a, url: 'http://127.0.0.1:9', api_key: 'file:secret'}]}")
    with control(tmp_path, config=file) as running, Worker(tmp_path) as worker:
        assert worker.config.engines[0].api_key == "one"
        (tmp_path / "secret").write_text("two")
        running.process.send_signal(signal.SIGHUP)
        await until(lambda: worker.config.engines[0].api_key == "two")
        assert "two" not in running.get("/api/v1/status").text


async def test_after_kill_9_a_revocation_works_within_two_seconds(tmp_path: Path) -> None:
    """The new process takes up where the old one was; the worker never noticed."""
    with control(tmp_path) as running, Worker(tmp_path) as worker:
        key = running.get("/api/v1/keys").json["data"][0]["id"]
        await until(lambda: worker.link.connected)
        running.process.kill()
        running.process.wait()
        began = time.monotonic()
        running.ready = running.start()
        answer = await asyncio.to_thread(running.ask, "POST", f"/api/v1/keys/{key}/revoke", {})
        assert (answer.status, answer.json["workers"]) == (200, 1)
        assert worker.keys[key].revoked and worker.loads == 0
        assert time.monotonic() - began < 4.0  # two seconds on a machine that does nothing else


async def test_a_faulty_file_after_kill_9_does_not_keep_it_down(tmp_path: Path) -> None:
    """It serves with the snapshot that the workers have, and says what is wrong."""
    file = tmp_path / "beffroi.yaml"
    file.write_text(FILE)
    with control(tmp_path, config=file) as running, Worker(tmp_path):
        running.process.kill()
        running.process.wait()
        file.write_text("resources: 3")
        assert running.start() is not None
        assert "resources" in running.get("/api/v1/status").json["config_refused"]
        assert running.get("/api/v1/status").json["models"] == ["m"]


async def test_an_act_that_reached_only_the_database_is_made_good_at_the_next_start(tmp_path: Path) -> None:
    """Kill -9 between commit and log: the revocation holds all the same."""
    with control(tmp_path) as running, Worker(tmp_path) as worker:
        (key,) = worker.keys
        running.process.kill()
        running.process.wait()
        with contextlib.closing(sqlite3.connect(tmp_path / "beffroi.db")) as database, database:
            database.execute("update keys set revoked = 1")
        running.start()
        await until(lambda: worker.keys[key].revoked)


def test_a_lost_pepper_stops_the_start_and_says_so(tmp_path: Path) -> None:
    """Without it every key would be refused without a word."""
    with control(tmp_path):
        pass
    (tmp_path / "peppers.bin").unlink()
    running = Control(tmp_path)
    assert running.ready is None
    assert "peppers.bin" in running.log() and "Traceback" not in running.log()
    running.close()
