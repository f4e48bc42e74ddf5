# SPDX-License-Identifier: Apache-2.0
"""The recipe of the image: its rules, its steps executed in a room of its own, and a real build where an engine answers.

The room is no container engine: its base is this machine's root instead of BASE, and its layers are not kept. What is shown
there is that the steps work, and that what they make serves as its user, without a privilege, on a root that cannot be written.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.harness import KEY, ROOT, free_port, get, wait_for
from tests.packaging import rooms
from tests.packaging.conftest import source

RECIPE = ROOT / "deploy" / "oci" / "Containerfile"
ENGINES = ("podman", "docker")
LOOPBACK = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 0x41))"  # SIOCSIFFLAGS
ASK = """
import json, sys, urllib.request as r
body = {"model": "beffroi-tiny", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
head = {"authorization": "Bearer " + sys.argv[1], "content-type": "application/json"}
asked = r.Request("http://127.0.0.1:8400/v1/chat/completions", json.dumps(body).encode(), head)
print(json.load(r.urlopen(asked, timeout=10))["choices"][0]["message"]["content"])
"""


class Step(NamedTuple):
    """One instruction."""

    word: str
    rest: str


def steps() -> list[Step]:
    """The instructions in order; comments left out, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", RECIPE.read_text(), flags=re.MULTILINE)
    lines = (line.strip() for line in re.sub(r"\\\n\s*", "", text).splitlines())
    return [Step(*line.split(maxsplit=1)) for line in lines if line]


def final() -> list[Step]:
    """Those of the last stage."""
    found = steps()
    last = max(place for place, step in enumerate(found) if step.word == "FROM")
    return found[last:]


def one(word: str) -> Any:
    """What the only instruction of its kind in the last stage says; lists are in the form of exec."""
    (rest,) = [step.rest for step in final() if step.word == word]
    return json.loads(rest) if rest.startswith("[") else rest


def test_the_image_does_not_run_as_root_and_starts_without_a_shell() -> None:
    """A numeric user, exec form throughout, a place for data, a health check."""
    user, group = one("USER").split(":")
    assert int(user) >= 10_000 and int(group) >= 10_000
    assert one("ENTRYPOINT") == ["/opt/beffroi/bin/beffroi"]
    assert isinstance(one("CMD"), list)
    assert one("VOLUME") == "/data"
    assert isinstance(json.loads(one("HEALTHCHECK").partition("CMD ")[2]), list)
    words = [step.word for step in final()]
    assert words.index("USER") > max(place for place, word in enumerate(words) if word in ("RUN", "COPY"))


def test_nothing_unpinned_enters_it_and_nothing_that_builds_stays() -> None:
    """Every package by its hash or from the source, named files of the repository alone, no secret, no ADD, no `latest`."""
    installs = re.findall(r"pip install[^&]*", " ".join(step.rest for step in steps() if step.word == "RUN"))
    assert installs
    assert all("--require-hashes" in one or "--no-index" in one for one in installs)
    copied = [step.rest.split()[:-1] for step in steps() if step.word == "COPY" and "--from" not in step.rest]
    assert all((ROOT / name).exists() and name != "." for those in copied for name in those)
    assert not [step for step in steps() if step.word == "ADD" or ":latest" in step.rest]
    assert not re.search(r"(?i)(key|token|secret|password)\s*=", RECIPE.read_text())
    assert any("pip uninstall" in step.rest and "setuptools" in step.rest for step in steps())


def script() -> str:
    """The steps as a shell script: those that build on the network of this machine, the program alone on one of its own."""
    lines, env, place = [], dict[str, str](), "/"
    for step in steps():
        match step.word:
            case "WORKDIR":
                place = step.rest
                lines.append(f"mkdir -p {place}; cd {place}")
            case "COPY" if "--from" not in step.rest:
                *names, target = step.rest.split()
                for name in names:
                    there = f"{target}/" if (ROOT / name).is_file() else target
                    lines.append(
                        f"mkdir -p {target}; cp -r /srv/test/context/{name}{'/.' if there == target else ''} {there}"
                    )
            case "RUN":
                lines.append(
                    f"cd {place}; ( {step.rest} ) >> /srv/test/build 2>&1 || {{ tail -3 /srv/test/build; exit 4; }}"
                )
            case "FROM":
                place = "/"
            case "ENV":
                env |= dict(part.split("=", 1) for part in shlex.split(step.rest))
    user, group = one("USER").split(":")
    settings = " ".join(f"{name}={value}" for name, value in env.items())
    drop = f"setpriv --reuid={user} --regid={group} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
    command = shlex.join([*one("ENTRYPOINT"), *one("CMD")])
    lines += [
        "cd /; rm -rf /source; mount -o remount,ro /; mount -t tmpfs tmpfs /tmp",
        "mount -t tmpfs -o mode=700,uid=10001,gid=10001 tmpfs /data",
        f"exec unshare --net sh -c '/opt/python/bin/python3 -c \"$LOOPBACK\"; exec env -i {settings} {drop} {command}'",
    ]
    return "\n".join(lines)


@pytest.fixture
def room(folder: Path) -> Iterator[rooms.Room]:
    """The program, started as the image starts it, in what the steps have made."""
    rooms.require(folder)
    source(folder / "context")
    folder.chmod(0o755)
    pip = {
        name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.lower().endswith("_proxy")
    }
    made = rooms.Room(folder, script(), **pip, HOME="/root", LOOPBACK=LOOPBACK)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_steps_make_what_serves_without_root_on_a_root_that_cannot_be_written(room: rooms.Room) -> None:
    """Each step executed; then the image's own command and health check, its user, and nothing written but in /data."""

    def ready() -> bool:
        assert room.process.poll() is None, room.printed[-3000:]
        return "Beffroi is ready" in room.printed

    wait_for(ready, 240, "the steps are done and it serves")
    status = room.run("cat", "/proc/1/status").stdout
    held = dict(re.findall(r"^(Uid|CapEff|CapBnd|NoNewPrivs):\s+(\S+)", status, re.MULTILINE))
    assert held == {"Uid": "10001", "CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1"}
    assert "Read-only file system" in room.run("touch", "/opt/beffroi/new").stderr
    (key,) = set(KEY.findall(room.printed))
    net = ["nsenter", "--target", "1", "--net", "--"]
    health = json.loads(one("HEALTHCHECK").partition("CMD ")[2])
    assert room.run(*net, *health).returncode == 0
    answer = room.run(*net, "/opt/beffroi/bin/python", "-c", ASK, key)
    assert answer.stdout == "The capital of France is Paris.\n", answer.stderr
    assert room.run("/opt/beffroi/bin/python", "-c", "import pip").returncode != 0
    assert room.run("stat", "-c", "%u %a", "/data/beffroi.db").stdout == "10001 600\n"
    room.run("kill", "-TERM", "1")
    assert room.process.wait(20) == 0


def engine() -> str:
    """A container engine that answers, or a skip that says which were asked."""
    for name in ENGINES:
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0:
            return name
    pytest.skip(f"no container engine answers here ({', '.join(ENGINES)}): the image was not built by one")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_engine_builds_the_image_and_runs_it_read_only() -> None:
    """By whichever engine is there; where it cannot have the base image, that is said."""
    program, tag, port = engine(), f"beffroi-test-{os.getpid()}", free_port()
    base = ["--build-arg", f"BASE={os.environ['BEFFROI_OCI_BASE']}"] if "BEFFROI_OCI_BASE" in os.environ else []
    form = ["--format", "docker"] if program == "podman" else []
    built = subprocess.run(
        [program, "build", *form, *base, "-f", str(RECIPE), "-t", tag, str(ROOT)],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    if built.returncode != 0 and re.search(r"(?i)pull|manifest|resolve|registry|short-name", built.stderr):
        pytest.skip(f"{program} cannot have the base image here: {built.stderr.strip().splitlines()[-1]}")
    assert built.returncode == 0, built.stderr[-3000:]
    tight = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
    publish = ["-p", f"127.0.0.1:{port}:8400", "-v", f"{tag}:/data"]
    started = subprocess.run(
        [program, "run", "-d", "--name", tag, *tight, *publish, tag], capture_output=True, check=False
    )
    try:
        assert started.returncode == 0, started.stderr
        wait_for(lambda: get(port, "/readyz")[0] == 200, 60, "the container serves")
        time.sleep(0.1)
        said = subprocess.run([program, "exec", tag, *one("ENTRYPOINT"), "--version"], capture_output=True, check=True)
        assert said.stdout.startswith(b"beffroi, version")
    finally:
        subprocess.run([program, "rm", "-f", tag], capture_output=True, check=False)
        subprocess.run([program, "volume", "rm", tag], capture_output=True, check=False)
        subprocess.run([program, "rmi", tag], capture_output=True, check=False)
