# SPDX-License-Identifier: Apache-2.0
"""Who may ask for what: keys, their expiry and their models; and bodies that two readers could read differently."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from beffroi.core.key import _checksum, key_hash, new_key
from beffroi.core.record import Settlement
from beffroi.core.snapshot import KeyDelta, KeyRecord
from tests.client import chat, request
from tests.gateway.rig import PEPPER, PUBLIC, Rig, Run


def reached(rig: Rig, key: str | None, body: Any = None, *, path: str = "/v1/chat/completions") -> int | None:
    """A request with that key: the status of its refusal, or None where it reached an engine."""
    run = Run(rig, {})
    run.client.data_received(request(key, body if body is not None else chat("hi", model=PUBLIC), path=path))
    rig.loop.turn()
    if not run.over:
        run.leave()
        return None
    return run.answer.status


def refused(rig: Rig, *, path: str = "/v1/chat/completions", body: Any = None, method: str = "POST") -> tuple[int, str]:
    """A request with the rig's key that is answered at once: status, and the code of its error; empty: none."""
    run = Run(rig, {})
    sent = None if method == "GET" else body if body is not None else chat("hi", model=PUBLIC)
    run.client.data_received(request(rig.key, sent, path=path, method=method))
    rig.loop.turn()
    assert run.over
    error = json.loads(run.answer.body).get("error")
    return run.answer.status, "" if error is None else error["code"]


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


def test_a_key_is_let_in_to_its_endpoints_alone() -> None:
    """The list of models counts as one; 403 says which the key is for, and a path that does not exist stays 404."""
    rig = Rig()
    change(rig, endpoints=frozenset(("embeddings", "models")))
    assert refused(rig) == (403, "endpoint_not_allowed")
    assert reached(rig, rig.key, {"model": PUBLIC, "input": "x"}, path="/v1/embeddings") is None
    assert refused(rig, path="/v1/models", method="GET") == (200, "")
    change(rig, endpoints=frozenset(("chat",)))
    assert reached(rig, rig.key) is None
    assert refused(rig, path="/v1/models", method="GET") == (403, "endpoint_not_allowed")
    assert refused(rig, path=f"/v1/models/{PUBLIC}", method="GET") == (403, "endpoint_not_allowed")
    assert refused(rig, path="/v1/nowhere", method="GET") == (404, "not_found")
    change(rig, endpoints=frozenset())
    assert refused(rig) == (403, "endpoint_not_allowed")


def test_a_body_that_makes_an_endpoint_another_does_not_get_around_the_list() -> None:
    """`completions` with messages is answered as chat: a key for completions alone may not chat by that door."""
    rig = Rig()
    change(rig, endpoints=frozenset(("completions",)))
    assert reached(rig, rig.key, {"model": PUBLIC, "prompt": "x"}, path="/v1/completions") is None
    assert refused(rig, path="/v1/completions") == (403, "endpoint_not_allowed")
    change(rig, endpoints=frozenset(("chat",)))
    assert refused(rig, path="/v1/completions") == (403, "endpoint_not_allowed")


def test_a_key_is_used_from_its_networks_alone() -> None:
    """The rig's client comes from 127.0.0.1; a change of the list holds from the next request on."""
    rig = Rig()
    change(rig, addresses=("10.0.0.0/8", "192.0.2.1/32"))
    assert refused(rig) == (403, "address_not_allowed")
    assert refused(rig, path="/v1/models", method="GET") == (403, "address_not_allowed")
    change(rig, addresses=("10.0.0.0/8", "127.0.0.0/8"))
    assert reached(rig, rig.key) is None
    change(rig, addresses=("10.0.0.0/8",))
    assert reached(rig, rig.key) == 403
    change(rig, addresses=())
    assert reached(rig, rig.key) is None
    assert rig.book.of(Settlement)[0].code == "address_not_allowed"  # and it is recorded as this key's


def test_behind_a_proxy_of_ours_the_client_counts_and_not_the_proxy() -> None:
    """And what a client wrote into the header itself does not."""
    for proxies, inside in (({"127.0.0.1"}, True), (set(), False)):
        rig = Rig()
        rig.is_proxy = proxies.__contains__  # type: ignore[assignment, method-assign]
        change(rig, addresses=("192.0.2.0/24",))
        run = Run(rig, {})
        said = ("X-Forwarded-For: 10.9.9.9, 192.0.2.44",)
        run.client.data_received(request(rig.key, chat("hi", model=PUBLIC), headers=said))
        rig.loop.turn()
        assert run.over is not inside
        if not run.over:
            run.leave()


def test_a_suspended_tenant_is_refused_and_let_in_again() -> None:
    """The whole organisation, or one project; keys of others go on."""
    rig = Rig()
    keys = rig.house.keys
    for closed in ({"default"}, {"default/default"}):
        assert keys.apply(KeyDelta(keys.revision + 1, closed=frozenset(closed)))
        assert refused(rig) == (403, "tenant_suspended")
        assert refused(rig, path="/v1/models", method="GET") == (403, "tenant_suspended")
    assert keys.apply(KeyDelta(keys.revision + 1, closed=frozenset({"other", "default/other", "other/default"})))
    assert reached(rig, rig.key) is None
    assert keys.apply(KeyDelta(keys.revision + 1, closed=frozenset()))
    assert reached(rig, rig.key) is None


def test_a_key_that_is_not_valid_learns_nothing_of_its_lists() -> None:
    """401 goes before 403: whoever guesses is not told what the key may do."""
    rig = Rig()
    change(rig, endpoints=frozenset(("embeddings",)), addresses=("10.0.0.0/8",), revoked=True)
    keys = rig.house.keys
    assert keys.apply(KeyDelta(keys.revision + 1, closed=frozenset({"default"})))
    assert refused(rig) == (401, "invalid_api_key")


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
