# SPDX-License-Identifier: Apache-2.0
"""Who may ask for what: keys, their expiry and their models; and bodies that two readers could read differently."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from beffroi.core.key import _checksum, key_hash, new_key
from beffroi.core.snapshot import KeyDelta, KeyRecord
from tests.client import chat, request
from tests.gateway.rig import PEPPER, PUBLIC, Rig, Run


def reached(rig: Rig, key: str | None, body: Any = None) -> int | None:
    """A request with that key: the status of its refusal, or None where it reached an engine."""
    run = Run(rig, {})
    run.client.data_received(request(key, body if body is not None else chat("hi", model=PUBLIC)))
    rig.loop.turn()
    if not run.over:
        run.leave()
        return None
    return run.answer.status


def record_of(rig: Rig) -> KeyRecord:
    """The only key."""
    (record,) = rig.house.keys.by_public.values()
    return record


def change(rig: Rig, **fields: Any) -> None:
    """The key as control would change it: by the next delta."""
    keys = rig.house.keys
    assert keys.apply(KeyDelta(keys.revision + 1, (replace(record_of(rig), **fields),)))


def test_a_good_key_is_let_in() -> None:
    """The yardstick of what follows."""
    rig = Rig()
    assert reached(rig, rig.key) is None


@pytest.mark.parametrize("place", [3, 14, 16, 47, 50, 53])
def test_a_key_with_one_other_character_is_not(place: int) -> None:
    """In its public part, its secret or its checksum."""
    rig = Rig()
    other = "A" if rig.key[place] != "A" else "B"
    assert reached(rig, rig.key[:place] + other + rig.key[place + 1 :]) == 401


def test_neither_is_one_whose_public_part_is_right_and_whose_secret_is_not() -> None:
    """It is well formed, its checksum holds: only the hash tells."""
    rig = Rig()
    forged = rig.key[:16] + new_key().text[16:48]
    forged += _checksum(forged)
    assert len(forged) == len(rig.key)
    assert reached(rig, forged) == 401
    assert reached(rig, None) == 401


def test_a_key_lives_until_the_second_it_expires() -> None:
    """By the clock on the wall."""
    rig = Rig()
    now = rig.clock.wall // 10**9
    change(rig, expires_at=now + 10)
    assert reached(rig, rig.key) is None
    rig.clock.pass_(10e9)
    assert reached(rig, rig.key) == 401


def test_a_revoked_key_is_refused_with_the_next_request() -> None:
    """Nothing is remembered of the time before."""
    rig = Rig()
    assert reached(rig, rig.key) is None
    change(rig, revoked=True)
    assert reached(rig, rig.key) == 401
    change(rig, revoked=False)
    keys = rig.house.keys
    assert keys.apply(KeyDelta(keys.revision + 1, (), (record_of(rig).id,)))
    assert reached(rig, rig.key) == 401


def test_a_delta_that_does_not_follow_is_not_applied() -> None:
    """A revocation may lie in the gap: the table must be read again. One that is known already is no gap."""
    rig = Rig()
    keys = rig.house.keys
    later = replace(record_of(rig), models=frozenset(("nothing",)))
    assert not keys.apply(KeyDelta(keys.revision + 2, (later,)))
    assert record_of(rig).models is None
    assert keys.apply(KeyDelta(keys.revision, (later,)))
    assert record_of(rig).models is None
    assert keys.apply(KeyDelta(keys.revision + 1, (later,)))
    assert record_of(rig).models == frozenset(("nothing",))


def test_a_key_is_let_in_to_its_models_alone() -> None:
    """By alias as by name; 403 says that the model exists, 404 that it does not (decision D11)."""
    rig = Rig(aliases=("nick",))
    for name in (PUBLIC, "nick"):
        change(rig, models=frozenset((PUBLIC,)))
        assert reached(rig, rig.key, chat("hi", model=name)) is None
        change(rig, models=frozenset(("another",)))
        assert reached(rig, rig.key, chat("hi", model=name)) == 403
    assert reached(rig, rig.key, chat("hi", model="nobody")) == 404
    change(rig, models=frozenset())
    assert reached(rig, rig.key) == 403


def test_a_pepper_that_is_gone_lets_nobody_in() -> None:
    """And a new one lets in the keys that were hashed with it."""
    rig = Rig()
    keys = rig.house.keys
    fresh = b"q" * 32
    change(rig, pepper_id=2)
    assert reached(rig, rig.key) == 401
    hashed = replace(record_of(rig), hash=key_hash(rig.key, fresh))
    assert keys.apply(KeyDelta(keys.revision + 1, (hashed,), peppers={2: fresh}))
    assert reached(rig, rig.key) is None
    assert fresh != PEPPER


def doubled(first: Any, second: Any, name: str = "model") -> bytes:
    """A body whose `name` stands twice."""
    one, two = json.dumps({name: first})[1:-1], json.dumps({name: second})[1:-1]
    rest = json.dumps({k: v for k, v in chat("hi", model=PUBLIC).items() if k != name})[1:-1]
    return f"{{{one}, {rest}, {two}}}".encode()


@pytest.mark.parametrize(
    "body",
    [
        doubled(PUBLIC, "another"),
        doubled("another", PUBLIC),
        doubled(1, 100_000, "max_tokens"),
        doubled(False, True, "stream"),
        doubled(PUBLIC, "another").replace(b'"model"', b'"mod\\u0065l"', 1),
        json.dumps(chat("hi", model=PUBLIC) | {"Model": "another"}).encode(),
        json.dumps(chat("hi", model=PUBLIC) | {"MAX_TOKENS": 100_000}).encode(),
    ],
)
def test_a_body_that_two_readers_could_read_differently_reaches_no_engine(body: bytes) -> None:
    """One of them checks, the other is the engine (decision D9)."""
    rig = Rig()
    assert reached(rig, rig.key, body) == 400
