# SPDX-License-Identifier: Apache-2.0
"""The same changed requests against a whole running Beffroi: what the engine hears is what a strict reader would have read."""

import random
import socket
from collections.abc import Iterator

import pytest

from tests.fuzz.readers import theirs
from tests.fuzz.requests import KEY, connection, pieces
from tests.gateway.door import Door, drain, opened, statuses
from tests.harness import scaled

CASES = max(300, scaled("fuzz", 0) // 100)
SEED = scaled("fuzz_seed", 2026)


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    """One worker for all cases; its process must outlive them."""
    with opened() as door:
        yield door


@pytest.mark.timeout(0)
def test_the_engine_hears_only_what_everybody_reads(door: Door) -> None:
    """Each connection: at most one answer for each request and one refusal; a request at the engine is one that h11 read."""
    workers = door.served.worker_pids
    heard = answered = 0
    for case in range(CASES):
        rng = random.Random(SEED * 10**9 + 10**8 + case)
        data = connection(rng)
        parts = [part.replace(KEY, door.key.encode()) for part in ([data] if rng.random() < 0.5 else pieces(data, rng))]
        data = b"".join(parts)
        them = theirs(data)
        door.engine.requests.clear()
        with door.connect(5) as conn:
            try:
                for part in parts:
                    conn.send(part)
                conn.sock.shutdown(socket.SHUT_WR)
            except OSError:  # refused already
                pass
            got, closed = drain(conn.sock, 5)
        label = f"case {case} of seed {SEED}: {parts!r}\n{got[:300]!r}"
        finals = [status for status in statuses(got) if status >= 200]
        assert closed, label
        assert len(finals) <= len(them.requests) + 1, label
        assert all(status < 500 for status in finals), label
        reached = [received.body for received in door.engine.generations()]
        for body in reached:
            assert body in [seen.body for seen in them.requests], label
        heard += len(reached)
        answered += len(finals)
    assert heard > CASES // 20
    assert answered > CASES // 2
    assert door.served.worker_pids == workers
    door.serves()
