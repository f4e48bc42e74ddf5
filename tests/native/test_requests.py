# SPDX-License-Identifier: Apache-2.0
"""A whole request in one read, with the kernel and without."""

import fcntl
import random
from typing import Any

import pytest

from beffroi.core.kernel import Kernel
from tests.fuzz.readers import Reading, Watched, ours
from tests.fuzz.requests import SOUND, connection, pieces, post, sized
from tests.native.conftest import CASES, Without


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """One worker for all cases, whose rooms take notes."""
    rig = Watched(max_head=4096, max_headers=20, max_target=256, max_body=100_000)
    monkeypatch.setattr("beffroi.gateway.server.show", rig.note)
    return rig


def whole(rig: Watched, parts: list[bytes]) -> tuple[Reading, list[Any]]:
    """What was read, and every slot of each exchange that the wire side fills, but for times and the id."""
    slots: list[Any] = []
    rig.watch = lambda x: slots.append(
        (
            (x.method, x.path, x.http10, x.keep, x.expect, x.complete, x.head_only, x.authorization, x.content_type),
            (x.content_encoding, x.content_length, x.size, x.address, x.endpoint, x.view is rig.house.view, b"".join(x.parts)),
        )
    )  # fmt: skip
    return ours(rig, parts), slots


def test_sound_requests_are_the_same_exchange(rig: Watched, kernel: Kernel, without: Without) -> None:
    """Whole, and one behind another on one connection."""
    taken = 0
    for data in SOUND:
        for parts in ([data], [data, data], [data, data[:50], data[50:], data]):
            found = whole(rig, parts)
            with without():
                assert whole(rig, parts) == found
        taken += kernel.read_request(data, 4096, 20, 256, 100_000) is not None
    assert taken >= 2, "the kernel takes none of them, so nothing was compared"


@pytest.mark.parametrize(
    ("data", "bounds"),
    [
        (post(sized()), (100, 20, 256, 1000)),
        (post(sized()), (4096, 3, 256, 1000)),
        (post(sized(), path=b"/v1/" + b"a" * 300), (4096, 20, 256, 1000)),
        (post(sized()), (4096, 20, 256, 10)),
    ],
)
def test_the_bounds_of_the_settings_are_kept(kernel: Kernel, data: bytes, bounds: tuple[int, int, int, int]) -> None:
    """What is over one of them is left to the twin, which refuses it."""
    assert kernel.read_request(data, 4096, 20, 512, 1000) is not None
    assert kernel.read_request(data, *bounds) is None


@pytest.mark.timeout(0)
def test_changed_requests_are_the_same_exchange_or_the_same_refusal(
    rig: Watched, kernel: Kernel, without: Without
) -> None:
    """Thousands of almost right requests in one read or in several; most of the first kind."""
    taken = 0
    for case in range(CASES):
        rng = random.Random(7 * 10**9 + case)
        data = connection(rng)
        parts = [data] if case % 4 else pieces(data, rng)
        found = whole(rig, parts)
        with without():
            assert whole(rig, parts) == found, (case, parts)
        taken += kernel.read_request(parts[0], 4096, 20, 256, 100_000) is not None
    assert taken > CASES // 100


def test_only_bytes_are_read(kernel: Kernel) -> None:
    """And only as many arguments as there are."""
    odd: Any = kernel
    for call in (
        lambda: odd.read_request("POST /", 1, 1, 1, 1),
        lambda: odd.read_request(b"POST /", 1, 1, 1),
        lambda: odd.read_request(b"POST /", 1, 1, 1, "1"),
        lambda: odd.read_answer(bytearray(b"HTTP/1.1 200 OK")),
        lambda: odd.glance_chat(b"{}"),
        lambda: odd.glance_chat(None, 64),
        lambda: odd.edit_answer(b"{}", b"", b"", b"", b"", b""),
        lambda: odd.edit_answer(b"{}", b"", "", b"", b"", None),
        lambda: odd.lockf_now(1, 2, 3),
        lambda: odd.lockf_now("1", 2, 3, 4),
        lambda: odd.regular_events(b"", b"", b"", b"", ""),
        lambda: odd.frame_record(1, 1, "x"),
        lambda: odd.request_id(1),
        lambda: odd.plain_head(200, b"OK", b"", 1, b"id", b"", b""),
    ):
        with pytest.raises(TypeError):
            call()
    for call in (
        lambda: odd.frame_record(256, 1, b""),
        lambda: odd.plain_head(-1, b"OK", b"", 1, "id", b"", b""),
        lambda: odd.lockf_now(1, 1, 1, 1),
        lambda: odd.lockf_now(-1, fcntl.LOCK_UN, 1, 1),
        lambda: odd.lockf_now(1, fcntl.LOCK_UN, 1, -5),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - the message is for whoever changes the kernel
            call()
    for call in (
        lambda: odd.request_id(-1, 1),
        lambda: odd.frame_record(1, 1 << 64, b""),
        lambda: odd.read_request(b"POST /", 1, 1, 1, 1 << 64),
    ):
        with pytest.raises(OverflowError):
            call()
