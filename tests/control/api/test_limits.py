# SPDX-License-Identifier: Apache-2.0
"""How often an address may call the control port, and be wrong about a key; and cursors that nobody else writes."""

import pytest

from beffroi.control.api import cursor, limits
from beffroi.control.api.limits import CALLS, KEPT, WRONG, Buckets, Limits, together
from beffroi.core.errors import BadRequest, LimitExceeded


class Clock:
    """Seconds, set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_address_may_call_so_often_and_another_as_often() -> None:
    """25 at once, then 25 a second; the refusal says when."""
    clock = Clock()
    both = Limits(clock)
    for _ in range(CALLS):
        both.call("192.0.2.1")
    with pytest.raises(LimitExceeded) as refused:
        both.call("192.0.2.1")
    assert 0 < (refused.value.retry_after or 0) <= 1 / CALLS
    both.call("192.0.2.2")
    clock.now += 1.0
    for _ in range(CALLS):
        both.call("192.0.2.1")
    with pytest.raises(LimitExceeded):
        both.call("192.0.2.1")


def test_after_five_wrong_keys_a_good_one_is_not_looked_at_either() -> None:
    """Else whoever guesses would learn it; five a second, in the long run too."""
    clock = Clock()
    both = Limits(clock)
    tried = 0
    for _ in range(100):  # ten seconds
        clock.now += 0.1
        try:
            both.call("192.0.2.1")
        except LimitExceeded:
            continue
        tried += 1
        both.wrong("192.0.2.1")
    assert tried <= WRONG * 11
    both.call("192.0.2.2")


def test_memory_has_an_end_and_who_was_seen_last_is_kept() -> None:
    """However many addresses come."""
    clock = Clock()
    buckets = Buckets(1, clock)
    assert buckets.take("first") == 0.0
    for index in range(KEPT):
        buckets.take(f"other {index}")
    assert len(buckets) == KEPT
    assert buckets.take(f"other {KEPT - 1}") == 1.0
    assert buckets.take("first") == 0.0


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_the_addresses_of_one_customer_count_as_one(address: str, counted: str) -> None:
    """A provider gives each a /64 of IPv6."""
    assert together(address) == counted
    limits.Limits().call(address)


def test_a_cursor_is_good_for_its_own_list_and_installation_and_unchanged() -> None:
    """Anything else is refused, whatever it is."""
    secret, place = b"s" * 32, ("org", 7, "id_1")
    text = cursor.sign(secret, "/keys a", place)
    assert cursor.read(secret, "/keys a", text) == place
    changed = ("A" if text[0] != "A" else "B") + text[1:]
    for wrong in (changed, text[:-1], text + "A", "", "é", "=", "A" * 601, "a b", text + "="):
        with pytest.raises(BadRequest, match="no `next`"):
            cursor.read(secret, "/keys a", wrong)
    for other in ((b"t" * 32, "/keys a"), (secret, "/keys b")):
        with pytest.raises(BadRequest):
            cursor.read(*other, text)
