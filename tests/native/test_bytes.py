# SPDX-License-Identifier: Apache-2.0
"""Heads, records and ids, with the kernel and without."""

import errno
import os
import random
import subprocess
import sys
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN
from pathlib import Path

import google_crc32c
import pytest

from beffroi.core import kernel as loading
from beffroi.core.kernel import Kernel
from beffroi.core.record import frame_slowly
from beffroi.wire import http

LOCK = LOCK_EX | LOCK_NB


def test_records_are_framed_alike(kernel: Kernel) -> None:
    """Length, CRC-32C, type and sequence, for payloads of every length modulo eight."""
    rng = random.Random(1)
    for size in (*range(80), 255, 256, 4095, 70_000):
        payload = rng.randbytes(size)
        for kind, sequence in ((0, 0), (3, 1), (255, (1 << 64) - 1), (2, 1 << 40)):
            assert kernel.frame_record(kind, sequence, payload) == frame_slowly(kind, sequence, payload)
    assert google_crc32c.value(b"123456789") == 0xE3069283  # RFC 3720, so that both are not wrong


def test_ids_are_spelt_alike(kernel: Kernel) -> None:
    """Sixteen digits each, whatever the numbers."""
    for high, low in ((0, 0), (1, 1 << 63), ((1 << 64) - 1, 0xABCDEF0123456789)):
        assert kernel.request_id(high, low) == f"req_{high:016x}{low:016x}"


@pytest.mark.parametrize("status", [200, 404, 299])
def test_heads_are_spelt_alike(kernel: Kernel, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte."""
    for body in (b"", b"{}", b"x" * 10_000, bytes(range(256))):
        for extra in (b"", b"date: now\r\n"):
            found = http.answer(status, b"application/json", "req_é", extra, body)
            with monkeypatch.context() as patch:
                patch.setattr(http, "KERNEL", None)
                assert http.answer(status, b"application/json", "req_é", extra, body) == found
    assert kernel.plain_head(1, b"", b"", 0, "", b"", b"").startswith(b"HTTP/1.1 1 \r\n")


def test_a_record_lock_is_the_one_that_python_takes(kernel: Kernel, tmp_path: Path) -> None:
    """What one process holds another does not get, whichever of the two takes it; each byte apart."""
    path = tmp_path / "locks"
    path.write_bytes(bytes(64))
    ask = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "for at in (8, 16):\n"
        "    try:\n"
        "        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)\n"
        "        print('free')\n"
        "    except OSError:\n"
        "        print('held')\n"
    )
    with path.open("r+b") as file:
        fd, other = file.fileno(), [sys.executable, "-c", ask, str(path)]
        kernel.lockf_now(fd, LOCK, 1, 8)
        assert subprocess.run(other, check=True, capture_output=True, text=True).stdout == "held\nfree\n"
        kernel.lockf_now(fd, LOCK_UN, 1, 8)
        assert subprocess.run(other, check=True, capture_output=True, text=True).stdout == "free\nfree\n"
        holder = subprocess.Popen(
            [sys.executable, "-c", ask + "input()", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout
        assert holder.stdout.readline() + holder.stdout.readline() == b"free\nfree\n"
        with pytest.raises(OSError, match=r"unavailable|denied") as why:
            kernel.lockf_now(fd, LOCK, 1, 8)
        assert why.value.errno in (errno.EAGAIN, errno.EACCES)
        holder.kill()
        holder.communicate()
        kernel.lockf_now(fd, LOCK, 1, 8)
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernel.lockf_now(1 << 20, LOCK, 1, 8)


def test_it_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the environment; and one that was built from other sources is not taken."""
    monkeypatch.setenv("BEFFROI_NATIVE", "0")
    assert loading.load() is None
    monkeypatch.delenv("BEFFROI_NATIVE")
    monkeypatch.setattr(loading, "INTERFACE", -1)
    assert loading.load() is None


def test_what_is_tested_is_what_was_asked_for() -> None:
    """With the kernel there, all other tests run on it unless they are told not to."""
    assert loading.KERNEL is None or os.environ.get("BEFFROI_NATIVE") != "0"
