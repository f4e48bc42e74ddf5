# SPDX-License-Identifier: Apache-2.0
"""What the doctor's tests make: small file systems, certificates with any dates, a doctor to call."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ROOT, program

CA_CONFIG = """[ca]
default_ca = own
[own]
database = {folder}/index.txt
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = any
x509_extensions = extensions
unique_subject = no
[any]
commonName = supplied
[extensions]
{extensions}
"""


def doctor(*arguments: str | Path, before: Callable[[], None] | None = None, **environ: str) -> dict[str, Any]:
    """`beffroi doctor --json`; → its document, with `status` and the checks by name as `by`.

    Args:
        before: run in the child before it becomes the doctor.
    """
    done = subprocess.run(
        [sys.executable, "-m", "beffroi", "doctor", "--json", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")} | environ,
        preexec_fn=before,
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"status": done.returncode, "by": {check["check"]: check for check in found["checks"]}}


@contextmanager
def small_disk(at: Path, options: str) -> Iterator[Path]:
    """A tmpfs of its own, unmounted at the end; a skip where this user may not mount."""
    at.mkdir()
    done = subprocess.run(
        [program("mount"), "-t", "tmpfs", "-o", options, "tmpfs", str(at)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("only root may mount a file system")
    try:
        yield at
    finally:
        subprocess.run([program("umount"), str(at)], check=True)


@contextmanager
def control_group(memory: int, cores: float) -> Iterator[Callable[[], None]]:
    """Control groups with so many bytes and cores, of either version; → what a child calls to enter them."""
    root, name = Path("/sys/fs/cgroup"), f"bf-test-{os.getpid()}"
    limits = {"memory": {"memory.limit_in_bytes": f"{memory}"}, "cpu": {"cpu.cfs_quota_us": f"{int(cores * 100_000)}"}}
    places = {root / controller / name: files for controller, files in limits.items()}
    if (root / "cgroup.controllers").exists():
        places = {root / name: {"memory.max": f"{memory}", "cpu.max": f"{int(cores * 100_000)} 100000"}}
    made: list[Path] = []
    try:
        for place, files in places.items():
            place.mkdir()
            made.append(place)
            for file, text in files.items():
                (place / file).write_text(text)
    except OSError as error:
        for place in made:
            place.rmdir()
        pytest.skip(f"no control groups can be made here: {error}")

    def enter() -> None:
        for place in made:
            (place / "cgroup.procs").write_text(str(os.getpid()))

    yield enter
    for place in made:
        place.rmdir()


def certificate(
    folder: Path, name: str, *, start: str, end: str, extensions: str = "subjectAltName=DNS:api.example,IP:127.0.0.1"
) -> tuple[Path, Path]:
    """A self-signed certificate and its key; dates as `YYYYMMDD`."""
    cert, key, asked = (folder / f"{name}.{suffix}" for suffix in ("pem", "key", "csr"))
    (folder / "index.txt").write_text("")
    (folder / "serial").write_text("01\n")
    config = folder / "ca.cnf"
    config.write_text(CA_CONFIG.format(folder=folder, extensions=extensions))
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    _openssl("req", "-new", *curve, "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", asked)
    dates = ("-startdate", f"{start}000000Z", "-enddate", f"{end}000000Z")
    _openssl(
        "ca", "-batch", "-selfsign", "-config", config, "-keyfile", key, "-in", asked, "-out", cert, "-notext", *dates
    )
    key.chmod(0o600)
    return cert, key


def _openssl(*arguments: str | Path) -> None:
    subprocess.run([program("openssl"), *map(str, arguments)], check=True, capture_output=True)
