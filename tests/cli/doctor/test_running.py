# SPDX-License-Identifier: Apache-2.0
"""The doctor on what runs and what a start would meet: ports, versions, settings, engines, another Beffroi."""

import os
import signal
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from beffroi.cli.doctor import engines, running
from beffroi.cli.doctor.scene import OK, PROBLEM, WARNING, Finding, Scene, look
from beffroi.config.schema import Server
from beffroi.core.snapshot import Config, EngineSpec, ModelSpec, Settings, Target
from tests.cli.doctor.support import doctor
from tests.control.fakes import control
from tests.engines.scripted import ScriptedEngine
from tests.gateway.certificates import Authority
from tests.harness import Served, free_port


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield one.getsockname()[1]


def states(found: list[Finding]) -> list[str]:
    """Their states."""
    return [one.state for one in found]


# --- ports ------------------------------------------------------------------------------------------------------------


def test_a_taken_port_is_told_with_who_has_it(taken: int, tmp_path: Path) -> None:
    """Name and number of the process."""
    server = Server(port=taken, control_port=free_port())
    first, second = running.ports(Scene(tmp_path, server=server))
    assert (first.state, second.state) == (PROBLEM, OK)
    assert f"(process {os.getpid()})" in first.finding and "--port" in first.remedy


def test_an_address_of_another_machine_is_a_problem(tmp_path: Path) -> None:
    """So is a name that nobody knows, and a control port for everybody."""
    for host in ("192.0.2.1", "no-such-host.invalid"):
        first, _ = running.ports(Scene(tmp_path, server=Server(host=host, port=0, control_port=0)))
        assert first.state == PROBLEM and host in first.finding
    found = list(running.ports(Scene(tmp_path, server=Server(port=0, control_host="0.0.0.0", control_port=0))))
    assert states(found) == [OK, OK, PROBLEM]


# --- versions ---------------------------------------------------------------------------------------------------------


def test_data_of_a_newer_release_is_a_problem(tmp_path: Path) -> None:
    """By its layout, by its ledger; what is no number is none."""
    (found,) = running.version(Scene(tmp_path))
    assert found.state == OK
    (tmp_path / "format").write_text("99\n")
    (tmp_path / "version").write_text("7.1.0\n")
    (found,) = running.version(Scene(tmp_path))
    assert found.state == PROBLEM and "format 99" in found.finding and "Install 7.1.0 again" in found.remedy
    (tmp_path / "format").write_text("restoring")
    (found,) = running.version(Scene(tmp_path))
    assert found.state == PROBLEM and "was being restored" in found.finding
    (tmp_path / "format").write_text("one\n")
    assert states(list(running.version(Scene(tmp_path)))) == [PROBLEM]
    (tmp_path / "format").write_text("1\n")
    assert states(list(running.version(Scene(tmp_path)))) == [OK]
    with sqlite3.connect(tmp_path / "beffroi.db") as database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('9999')")
    database.close()
    (found,) = running.version(Scene(tmp_path))
    assert found.state == PROBLEM and "version 9999" in found.finding
    (tmp_path / "beffroi.db").write_bytes(b"this is no database, for sure" * 100)
    (found,) = running.version(Scene(tmp_path))
    assert found.state == PROBLEM and "cannot be read" in found.finding


def test_files_of_somebody_else_are_a_warning(tmp_path: Path) -> None:
    """A directory that is not empty and not ours."""
    (tmp_path / "photo.jpg").write_bytes(b"")
    assert states(list(running.version(Scene(tmp_path)))) == [WARNING]


# --- configuration ----------------------------------------------------------------------------------------------------


def test_faults_of_a_file_are_problems_with_place_and_remedy(tmp_path: Path) -> None:
    """All of them at once; engines are not asked then."""
    file = tmp_path / "beffroi.yaml"
    file.write_text("server: {prot: 1}\nresources:\n  models: [{id: m, max_output: many}]\n")
    scene = look(file, {("server", "data"): (str(tmp_path / "d"), "--data")})
    found = list(running.configuration(scene))
    assert states(found) == [PROBLEM, PROBLEM]
    assert "beffroi.yaml:1:" in found[0].finding and "`port`" in found[0].remedy
    assert states(list(engines.engines(scene))) == [WARNING]


def test_a_sound_file_is_well(tmp_path: Path) -> None:
    """And says what it holds."""
    file = tmp_path / "beffroi.yaml"
    file.write_text('resources:\n  engines: [{name: a, url: "http://127.0.0.1:9"}]\n  models: [{id: m}]\n')
    scene = look(file, {("server", "data"): (str(tmp_path / "d"), "--data")})
    (found,) = running.configuration(scene)
    assert found.state == OK and "1 model on 1 engine" in found.finding


# --- engines ----------------------------------------------------------------------------------------------------------


def asked(*specs: EngineSpec, model: str = "words") -> list[Finding]:
    """The findings of a configuration with those engines, each to serve `model`."""
    pool = tuple(Target(spec.name, model) for spec in specs)
    config = Config(1, Settings(), specs, (ModelSpec("m", pool),))
    return list(engines.engines(Scene(Path("/"), config=config)))


def test_engines_are_asked_for_their_models(engine: ScriptedEngine) -> None:
    """One that has the model, one that has another, one that is not there, one that is no engine."""
    other = EngineSpec("gone", f"http://127.0.0.1:{free_port()}")
    assert states(asked(EngineSpec("a", engine.url), other)) == [OK, PROBLEM]
    (found,) = asked(EngineSpec("a", engine.url), model="letters")
    assert found.state == PROBLEM and "does not list letters; it has words" in found.finding
    (found,) = asked(EngineSpec("a", f"{engine.url}/elsewhere"))
    assert found.state == PROBLEM and "status 404" in found.finding


def test_an_engine_s_key_is_tried() -> None:
    """The right one, a wrong one, none."""
    with ScriptedEngine(api_key="secret-word") as locked:
        specs = [EngineSpec("a", locked.url, api_key=key) for key in ("secret-word", "wrong", None)]
        found = [asked(spec)[0] for spec in specs]
        assert states(found) == [OK, PROBLEM, PROBLEM]
        assert all("secret-word" not in one.finding for one in found)


def test_an_engine_s_certificate_is_checked(tmp_path: Path) -> None:
    """Trusted by its authority alone; it ends in two days."""
    authority = Authority(tmp_path)
    with ScriptedEngine(tls=authority.server(authority.sign("engine"))) as secure:
        (stranger,) = asked(EngineSpec("a", secure.url))
        assert stranger.state == PROBLEM and "not trusted" in stranger.finding
        (found,) = asked(EngineSpec("a", secure.url, ca_file=str(authority.cert)))
        assert found.state == WARNING and "ends on" in found.finding


def test_without_engines_it_says_what_a_start_would_do() -> None:
    """Serve what is found, bring its own, or nothing."""
    judge = engines.judge_found
    assert [judge(["vllm at x"], own=False).state, judge([], own=True).state, judge([], own=False).state] == [
        OK,
        OK,
        PROBLEM,
    ]


def test_a_slow_engine_is_a_warning() -> None:
    """A list of models is no work."""
    answer = engines.Answer("", 2.5, frozenset({"m"}))
    assert engines.judge_engine(EngineSpec("a", "http://x"), answer, frozenset({"m"}), 0).state == WARNING


# --- another Beffroi --------------------------------------------------------------------------------------------------


def test_a_running_beffroi_is_examined_with_it(tiny: Served) -> None:
    """Its ports are its own, all of it is ready; the exit status is 0."""
    found = doctor(
        "--config", tiny.config, "--data", tiny.data, "--port", str(tiny.port), "--control-port", str(tiny.control_port)
    )
    by = found["by"]
    assert found["status"] == 0 and found["ok"], found
    assert f"process {tiny.pid}" in by["beffroi"]["finding"] and "all of it is ready" in by["beffroi"]["finding"]
    assert "this Beffroi's own" in by["port"]["finding"] and "this Beffroi's own" in by["control port"]["finding"]
    assert by["engine embedded"]["state"] == OK


def test_a_running_beffroi_that_is_not_well_is_a_problem() -> None:
    """Parts that are not ready, a configuration that was refused, a worker with a fault: each in its words."""
    parts = {"engines": {"ready": False, "reason": "none answers"}, "ledger": {"ready": True, "reason": ""}}
    status = {"config_refused": "line 3", "workers": [{"worker": 0, "fault": "full"}]}
    (found,) = running.judge_status("process 7", parts, status)
    assert found.state == PROBLEM
    assert all(part in found.finding for part in ("engines: none answers", "line 3", "worker 0: full"))


def test_a_beffroi_whose_control_is_silent_is_a_problem(folder: Path) -> None:
    """Stopped, as by SIGSTOP; it holds the directory and answers nobody."""
    with control(folder) as process:
        assert process.process is not None
        process.process.send_signal(signal.SIGKILL)
        process.process.wait()
        (found,) = running.another(Scene(process.data, supervisor=os.getpid()))
        assert found.state == PROBLEM and "does not answer" in found.finding and str(os.getpid()) in found.remedy
