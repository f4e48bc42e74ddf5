# SPDX-License-Identifier: Apache-2.0
"""The supervisor keeps real processes alive and leaves none behind."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.harness import ROOT, alive, wait_for
from tests.supervisor.conftest import Kept, ask

Keep = Callable[..., Kept]


def kill(pid: int) -> None:
    """Kill a child; it may accept one more connection until it is dead."""
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid), 5, "it is dead")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_whole_tree_with_status_0(keep: Keep, number: int) -> None:
    """Every child is asked to end, workers before control, and nothing is left."""
    kept = keep(workers=2)
    kept.ready()
    assert kept.stop(number) == 0
    ends = kept.notes("term")
    assert [end["told"]["role"] for end in ends] == ["worker", "worker", "control"]


def test_control_is_ready_before_any_worker_starts(keep: Keep) -> None:
    """Workers read what control has written."""
    kept = keep(workers=2)
    announced = kept.ready()
    assert announced["first_key"] == "a-key"
    assert announced["missing"] == {}
    starts = [(start["told"]["role"], start["told"].get("worker")) for start in kept.notes("start")]
    assert starts[0] == ("control", None)
    assert sorted(starts[1:]) == [("worker", 0), ("worker", 1)]


def test_where_the_data_directory_holds_the_configuration_workers_do_not_wait_for_control(keep: Keep) -> None:
    """They serve from what lies there, as they do while control is down; the start is announced when control is ready."""
    kept = keep("warm", "late", workers=2)
    wait_for(lambda: len(kept.notes("serve", "worker")) == 2, 10, "workers serve")
    assert kept.notes("serve", "control") == []
    (kept.data / "late").unlink()
    assert kept.ready()["missing"] == {}


def test_otherwise_no_worker_begins_before_control_has_written_what_they_read(keep: Keep) -> None:
    """However long it takes."""
    kept = keep("late", workers=2)
    wait_for(lambda: len(kept.notes("start", "control")) == 1, 10, "control begins")
    time.sleep(0.5)
    assert kept.notes("start", "worker") == []
    (kept.data / "late").unlink()
    kept.ready()


def test_a_killed_worker_is_replaced_at_once_in_its_slot_on_its_socket(keep: Keep) -> None:
    """Who connects while the place is empty waits in the socket's queue and is served by the successor."""
    kept = keep()
    port = kept.ready()["port"]
    before = ask(port)
    began = time.monotonic()
    kill(before["pid"])
    after = ask(port)
    assert time.monotonic() - began < 2
    assert (before["slot"], after["slot"]) == (0, 0)
    assert before["pid"] != after["pid"]
    boots = {start["told"]["boot"] for start in kept.notes("start", "worker")}
    assert len(boots) == 2


def test_a_killed_control_is_replaced_and_told_that_workers_live(keep: Keep) -> None:
    """Only the first control of a start may take every earlier worker for dead."""
    kept = keep()
    port = kept.ready()["control_port"]
    kill(ask(port)["pid"])
    ask(port)
    assert [start["told"]["fresh"] for start in kept.notes("start", "control")] == [True, False]
    assert len(kept.notes("start", "worker")) == 1


def test_a_child_that_keeps_dying_is_started_ever_less_often(keep: Keep) -> None:
    """The first restart is immediate, the next ones wait 0.1 s, 0.2 s, 0.4 s."""
    kept = keep("crash-worker")
    wait_for(lambda: len(kept.notes("start", "worker")) >= 5, 15, "five starts")
    times = [start["at"] for start in kept.notes("start", "worker")][:5]
    gaps = [after - before for before, after in pairwise(times)]
    starting = gaps[0]  # a restart without a wait: what starting costs
    waits = [gap - starting for gap in gaps[1:]]
    assert waits[0] > 0.03
    assert waits[2] > waits[1] + 0.08


def test_kill_9_of_the_supervisor_takes_every_child_with_it(keep: Keep) -> None:
    """The kernel ends children whose supervisor is gone."""
    kept = keep(workers=2)
    kept.ready()
    pids = kept.pids()
    assert len(pids) == 4
    os.kill(kept.process.pid, signal.SIGKILL)
    kept.process.wait(5)
    wait_for(lambda: not any(alive(pid) for pid in pids), 2, "all are gone")


def test_after_kill_9_of_the_tree_the_next_start_is_ready_within_two_seconds(keep: Keep) -> None:
    """No lock, socket or file of the dead one is in the way."""
    kept = keep()
    kept.ready()
    os.kill(kept.process.pid, signal.SIGKILL)
    kept.process.wait(5)
    began = time.monotonic()
    keep().ready()
    assert time.monotonic() - began < 2


def test_sighup_goes_to_control_and_ends_nobody(keep: Keep) -> None:
    """A reload is control's affair."""
    kept = keep()
    kept.ready()
    kept.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(kept.notes("hup", "control")) == 1, 5, "control heard it")
    assert kept.notes("hup", "worker") == []
    assert kept.stop() == 0


def test_a_second_signal_asks_again_and_then_kills(keep: Keep) -> None:
    """A worker that takes its time is asked twice, and killed five seconds later."""
    kept = keep("stubborn")
    kept.ready()
    pids = kept.pids()
    kept.process.send_signal(signal.SIGINT)
    wait_for(lambda: len(kept.notes("term", "worker")) == 1, 5, "asked once")
    with pytest.raises(subprocess.TimeoutExpired):
        kept.process.wait(1)
    kept.process.send_signal(signal.SIGINT)
    wait_for(lambda: len(kept.notes("term", "worker")) == 2, 5, "asked twice")
    (kept.data / "stubborn").unlink()  # control is to end when asked
    assert kept.process.wait(8) == 0
    assert [pid for pid in pids if alive(pid)] == []


def test_while_workers_drain_the_port_is_closed(keep: Keep) -> None:
    """Nobody waits in the queue of a socket that no one will accept from."""
    kept = keep("stubborn")
    port = kept.ready()["port"]
    worker = kept.notes("start", "worker")[0]["pid"]
    kept.process.send_signal(signal.SIGTERM)
    wait_for(lambda: len(kept.notes("term", "worker")) == 1, 5, "asked")
    (kept.data / "stubborn").unlink()  # control is to end when asked
    os.kill(worker, signal.SIGKILL)  # with it goes the last copy of the socket
    assert kept.process.wait(8) == 0
    assert len(kept.notes("start", "worker")) == 1
    with pytest.raises(AssertionError):
        ask(port)


def test_a_control_that_refuses_to_start_gives_its_status_and_leaves_nothing(keep: Keep) -> None:
    """A configuration that is refused ends the start with control's own status."""
    kept = keep("refuse")
    assert kept.process.wait(10) == 2
    assert kept.notes("start", "worker") == []


def test_a_second_start_on_the_same_data_says_who_holds_it(keep: Keep, folder: Path) -> None:
    """Two supervisors never share a data directory."""
    first = keep()
    first.ready()
    second = keep()
    assert second.process.wait(10) == 1
    assert f"process {first.process.pid} holds it" in (folder / "log").read_text()


def test_closing_the_terminal_stops_it(folder: Path) -> None:
    """A hang-up with the terminal gone is no reload: nothing may run on unseen."""
    data = folder / "data"
    data.mkdir()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.environ["PYTHONPATH"] = str(ROOT / "src")
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it, as nohup(1) does
        os.execv(sys.executable, [sys.executable, "-m", "tests.supervisor.run", str(data), "1"])
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(os.read(terminal, 4096)))
    reader.start()
    reader.join(15)
    assert b"a-key" in heard[0]
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_it_serves_on_when_nobody_reads_what_it_prints(keep: Keep) -> None:
    """`beffroi serve | head -1`."""
    kept = keep()
    assert kept.process.stdout
    kept.process.stdout.close()
    wait_for(lambda: len(kept.notes("serve", "worker")) == 1, 10, "a worker serves")
    door = kept.notes("serve", "control")[0]["told"]["port"]
    wait_for(lambda: "could not be shown" in (kept.data.parent / "log").read_text(), 5, "it is told in the log")
    assert ask(door)["pid"] in kept.pids()
    assert kept.stop() == 0
