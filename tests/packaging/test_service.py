# SPDX-License-Identifier: Apache-2.0
"""The unit for systemd: linted wherever systemd's tools are, and started under a real systemd where a room can be had.

It is put in place by the commands of docs/how-to/install.md.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client import call, chat, request
from tests.harness import ROOT, free_port, get, program, wait_for
from tests.packaging import rooms
from tests.packaging.pages import commands

UNIT = ROOT / "deploy" / "systemd" / "beffroi.service"
MOST_EXPOSED = 1.5  # of 10; what systemd calls OK ends at 5
# Process 1 is systemd with one unit of ours and none of the machine's: no generators, no timers, no cleaning of /tmp.
BOOT = """
test -x /lib/systemd/systemd || { echo "there is no systemd"; exit 3; }
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /srv/units
for unit in sysinit basic shutdown network-online multi-user; do cp /lib/systemd/system/$unit.target /srv/units/; done
mount -t tmpfs tmpfs /lib/systemd/system
cp /srv/units/* /lib/systemd/system/
mount -t tmpfs tmpfs /lib/systemd/system-generators
mount -t tmpfs tmpfs /etc/systemd
printf '[Manager]\\nDefaultStandardOutput=append:/srv/test/log\\nDefaultStandardError=append:/srv/test/log\\n' > /etc/systemd/system.conf
mkdir -p /etc/sysusers.d /etc/systemd/system
container=lxc exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=no
"""


def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify`, which needs no running systemd; for the program, which is not there yet, another stands in."""
    unit = tmp_path / "beffroi.service"
    unit.write_text(UNIT.read_text().replace("/opt/beffroi/bin/beffroi", "/bin/true"))
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_exposes_little() -> None:
    """By systemd's own measure, from 0 to 10."""
    command = [program("systemd-analyze"), "security", "--offline=true", "--no-pager", UNIT]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    found = re.search(r"Overall exposure level for beffroi\.service: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= MOST_EXPOSED, done.stdout


class Machine:
    """A machine whose systemd runs the unit."""

    def __init__(self, folder: Path, venv: Path) -> None:
        self.port, self.control_port = free_port(), free_port()
        shutil.copytree(ROOT / "deploy", folder / "deploy")
        server = {"port": self.port, "control_port": self.control_port, "workers": 1}
        (folder / "my-configuration.yaml").write_text(json.dumps({"server": server}))
        self.room = rooms.Room(folder, BOOT, venv)

    def install(self) -> None:
        """What the page says, from a checkout's root."""
        wait_for(self.up, 20, "systemd is up")
        block = commands("how-to/install.md", "cp deploy/systemd")
        done = self.room.run("sh", "-euc", f"cd /srv/test; {block}")
        assert done.returncode == 0, done.stderr

    def up(self) -> bool:
        """Whether systemd has come up."""
        if self.room.process.poll() is not None:
            pytest.skip(f"systemd cannot be started in a room here: {self.room.printed.strip().splitlines()[-1:]}")
        return self.room.run("systemctl", "is-active", "multi-user.target").stdout == "active\n"

    def ready(self) -> bool:
        """Whether the service serves."""
        assert self.room.process.poll() is None
        return get(self.control_port, "/readyz")[0] == 200

    def wait(self, within: float = 30) -> None:
        """Until it does."""
        try:
            wait_for(self.ready, within, "the service serves")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.room.printed[-3000:]}\n{self.show('ActiveState,Result')}") from None

    def show(self, properties: str) -> dict[str, str]:
        """What systemd says of the unit."""
        done = self.room.run("systemctl", "show", "beffroi", "-p", properties)
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    def cli(self, *arguments: str) -> str:
        """A command of ours, as the user of the service."""
        user = ["setpriv", "--reuid=beffroi", "--regid=beffroi", "--clear-groups"]
        done = self.room.run(*user, "/opt/beffroi/bin/beffroi", *arguments, "--data", "/var/lib/beffroi")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, key: str) -> int:
        """The status of one chat."""
        said = call(("127.0.0.1", self.port), request(key, chat("What is 1 + 1?", model="beffroi-tiny")))
        return said.status


@pytest.fixture
def machine(folder: Path, venv: Path) -> Iterator[Machine]:
    """One that has just been started."""
    program("systemctl")
    rooms.require(folder)
    made = Machine(folder, venv)
    try:
        made.install()
        yield made
    finally:
        made.room.close()


@pytest.mark.slow
def test_under_systemd_it_serves_in_its_sandbox_survives_its_death_and_stops_when_told(
    machine: Machine, folder: Path
) -> None:
    """The unit as it is shipped: user, directories, filters of system calls; embedded engine and all."""
    machine.wait()
    key = json.loads(machine.cli("keys", "create", "first one", "--json"))["key"]
    assert machine.ask(key) == 200

    main = machine.show("MainPID")["MainPID"]
    status = machine.room.run("cat", f"/proc/{main}/status").stdout
    held = dict(re.findall(r"^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):\s+(\S+)", status, re.MULTILINE))
    assert held.pop("Uid") != "0"
    assert held == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    mounts = machine.room.run("cat", f"/proc/{main}/mounts").stdout.splitlines()
    writable = {line.split()[1] for line in mounts if line.split()[3].startswith("rw")}
    assert "/" not in writable
    assert "/var/lib/beffroi" in writable
    assert machine.room.run("stat", "-c", "%a %U", "/var/lib/beffroi").stdout == "700 beffroi\n"

    machine.cli("backup", "create", "/tmp/b.tar.gz")  # by its user, to a place that the service itself cannot see
    assert machine.room.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGKILL", "beffroi").returncode == 0
    wait_for(lambda: machine.show("MainPID")["MainPID"] not in ("0", main), 15, "systemd starts it again")
    machine.wait()
    assert machine.ask(key) == 200

    assert machine.room.run("systemctl", "stop", "beffroi").returncode == 0
    assert machine.show("ActiveState,Result") == {"ActiveState": "inactive", "Result": "success"}
    assert machine.room.run("ls", "/var/lib/beffroi/control.sock").returncode != 0
    assert machine.room.run("systemctl", "start", "beffroi").returncode == 0
    machine.wait()
    assert machine.ask(key) == 200
