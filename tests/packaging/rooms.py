# SPDX-License-Identifier: Apache-2.0
"""A machine within the machine, for what is meant to run as a system service or in a container, where neither is at hand.

In: a script, and an installed environment. Out: a `Room`: the script is process 1 in namespaces of its own, on a root that
is this machine's with a layer of memory above it: whatever it writes, installs or breaks is gone when it ends. The network is
this machine's. It needs root and an overlay; where it cannot be had, tests skip and say which part was missing.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness import program, wait_for

_ENTER = """
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$STAGE"
mkdir "$STAGE/up" "$STAGE/work" "$STAGE/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$STAGE/up,workdir=$STAGE/work" "$STAGE/root"
cd "$STAGE/root"
mkdir -p ./proc ./dev ./sys ./run ./tmp ./srv/test ./opt/python ./old
mount -t proc proc ./proc
mount --rbind /dev ./dev
mount -t sysfs sysfs ./sys
mount -t tmpfs -o mode=755 tmpfs ./run
mount -t tmpfs -o mode=1777 tmpfs ./tmp
mount --bind "$SHARED" ./srv/test
mount --bind "$BASE" ./opt/python
if [ -n "$PACKAGES" ]; then
    mkdir -p ./opt/beffroi/bin "./opt/beffroi/lib/$NAME/site-packages"
    mount --bind "$PACKAGES" "./opt/beffroi/lib/$NAME/site-packages"
    printf 'home = /opt/python/bin\\ninclude-system-site-packages = false\\n' > ./opt/beffroi/pyvenv.cfg
    ln -sf "/opt/python/bin/$NAME" ./opt/beffroi/bin/python
    printf '#!/opt/beffroi/bin/python\\nfrom beffroi.cli.main import main\\nmain()\\n' > ./opt/beffroi/bin/beffroi
    chmod 755 ./opt/beffroi/bin/beffroi
fi
pivot_root . old
umount -l /old
cd /
echo /opt/python/lib > /etc/ld.so.conf.d/000-room.conf # a shared libpython is looked for where it was built, then here
ldconfig
touch /srv/test/entered
"""


class Room:
    """A running room; process 1 in it is the script, or what that became by `exec`. Ends with `close`.

    Args:
        venv: an environment, which appears at /opt/beffroi; None: there is none.
        shared: a folder that is /srv/test inside; what the script prints goes to `log` in it.
    """

    def __init__(self, shared: Path, script: str, venv: Path | None = None, **env: str) -> None:
        if os.geteuid() != 0:
            pytest.skip("a room of its own needs root, for namespaces and an overlay")
        self.shared = shared
        self.log = shared / "log"
        self._group = _control_group()
        (shared / "stage").mkdir(exist_ok=True)
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        env |= {
            "PATH": "/opt/python/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "STAGE": str(shared / "stage"),
            "SHARED": str(shared),
            "BASE": sys.base_prefix,
            "NAME": name,
            "PACKAGES": "" if venv is None else str(venv / "lib" / name / "site-packages"),
        }
        namespaces = ["--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child=SIGKILL"]
        into = f'echo $$ > "{self._group}/cgroup.procs"; exec "$@"' if self._group else 'exec "$@"'
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["sh", "-c", into, "sh", program("unshare"), *namespaces, "sh", "-c", _ENTER + script],
                env=env,
                umask=0o022,  # a machine's own, whatever a test before this one has left
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def printed(self) -> str:
        """What the script has printed."""
        return self.log.read_text(errors="replace")

    def run(self, *command: str, within: float = 30) -> "subprocess.CompletedProcess[str]":
        """A command in the room, as root; waits until it is one."""
        wait_for(lambda: self._entered() or self.process.poll() is not None, 20, "the room is entered")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        assert children, f"the room has ended:\n{self.printed[-2000:]}"
        return subprocess.run(
            [program("nsenter"), "--target", children[0], "--all", "--", *command],
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
            env={"PATH": "/opt/beffroi/bin:/opt/python/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        )

    def _entered(self) -> bool:
        return (self.shared / "entered").exists()

    def close(self) -> None:
        """Kill all that is in it."""
        self.process.kill()
        self.process.wait()
        if self._group is not None:
            for folder, _, _ in os.walk(self._group, topdown=False):
                for _try in range(100):
                    with contextlib.suppress(OSError):
                        Path(folder).rmdir()
                        break
                    time.sleep(0.02)


def _control_group() -> Path | None:
    """A control group of its own, so that a service manager inside moves nobody else; None where there can be none."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            group = Path(fields[1]) / f"beffroi-test-{os.getpid()}-{time.monotonic_ns()}"
            with contextlib.suppress(OSError):
                group.mkdir()
                return group
    return None


def require(shared: Path) -> None:
    """Skip unless such a room can be entered here."""
    (shared / "try").mkdir()
    room = Room(shared / "try", "echo entered")
    try:
        if room.process.wait(30) != 0:
            pytest.skip(f"a room of its own cannot be had here: {room.printed.strip().splitlines()[-1:]}")
        assert room.printed.endswith("entered\n")
    finally:
        room.close()
