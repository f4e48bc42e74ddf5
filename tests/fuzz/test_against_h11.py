# SPDX-License-Identifier: Apache-2.0
"""Whatever we accept, another strict reader reads the same way; whatever it refuses for a reason that matters, so do we."""

import random

import pytest

from tests.fuzz.readers import Reading, Watched, ours, theirs
from tests.fuzz.requests import HIDDEN, SOUND, connection, pieces
from tests.harness import scaled

CASES = scaled("fuzz", 10_000)
SEED = scaled("fuzz_seed", 2026)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """One worker for all cases: nothing of one may be left for the next."""
    rig = Watched()
    monkeypatch.setattr("beffroi.gateway.server.show", rig.note)
    return rig


def compare(data: bytes, us: Reading, them: Reading) -> None:
    """The three rules."""
    assert us.requests == them.requests[: len(us.requests)], "read differently"
    assert len(us.answers) <= len(us.requests) + 1, "more answers than requests"
    assert us.answers[: len(us.requests)] == [200] * len(us.requests)
    if us.refused:
        assert us.closed, "refused, but not closed"
        assert 400 <= us.answers[-1] < 500


@pytest.mark.parametrize("place", range(len(SOUND)))
def test_sound_requests_are_read_as_h11_reads_them(rig: Watched, place: int) -> None:
    """The seeds of the fuzz are accepted by both, whole and byte by byte."""
    data = SOUND[place]
    for cut in ([data], [data[at : at + 1] for at in range(len(data))]):
        us = ours(rig, cut)
        assert len(us.requests) == 1
        assert us.requests == theirs(data).requests
        assert not us.refused


@pytest.mark.timeout(0)
def test_changed_requests_are_read_as_h11_reads_them_or_refused(rig: Watched) -> None:
    """Thousands of almost right requests, the same ones each time; BEFFROI_FUZZ asks for more."""
    accepted = refused = hidden = 0
    for case in range(CASES):
        rng = random.Random(SEED * 10**9 + case)
        data = connection(rng)
        parts = pieces(data, rng)
        try:
            us, them = ours(rig, parts), theirs(data)
            compare(data, us, them)
        except Exception as why:
            raise AssertionError(f"case {case} of seed {SEED}: {why}\n{parts!r}") from why
        accepted += len(us.requests)
        refused += us.refused
        hidden += any("hidden" in seen.path for seen in us.requests) and HIDDEN in data
    assert accepted > CASES // 3, "the changes are too wild: hardly anything is read"
    assert refused > CASES // 5, "the changes are too tame: hardly anything is refused"
