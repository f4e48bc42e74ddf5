# SPDX-License-Identifier: Apache-2.0
"""Heads, records and ids, with the kernel and without."""

import os
import random

import google_crc32c
import pytest

from beffroi.core import kernel as loading
from beffroi.core.kernel import Kernel
from beffroi.core.record import frame_slowly
from beffroi.wire import http


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
