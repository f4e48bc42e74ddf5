# SPDX-License-Identifier: Apache-2.0
"""End users have places in a table of bounded size: idle ones are given to others, and who finds none shares."""

from pathlib import Path
from typing import Any

import pytest

from beffroi.core.errors import LimitExceeded
from beffroi.core.snapshot import Dated, KeyRecord, Limits, QuotaRecord
from beffroi.gateway.quota import Ask, Used
from beffroi.gateway.quota.end_users import EndUsers
from beffroi.gateway.quota.layout import MOST_OF_SET, PLACES, SET
from beffroi.gateway.quota.scopes import others_account, quota_account
from tests.gateway.quota.support import DAY, MINUTE, HandClock, counters

KEY = KeyRecord("key_0", "p", b"", 1, 0, "acme", "lab")
OTHER_KEY = KeyRecord("key_1", "q", b"", 1, 1, "other", "lab")
ONE = Ask(1, 1, 1, 1)


def each(slot: int, organisation: str = "acme", **limits: Any) -> QuotaRecord:
    """A quota that every end user has for himself."""
    return QuotaRecord(f"quo_{slot}", slot, organisation, each_end_user=True, terms=(Dated(0, Limits(**limits)),))


def of_one_set(quota: QuotaRecord, many: int, first: int | None = None) -> list[str]:
    """Names that hash to one set."""
    wanted = EndUsers.tag_of(quota.slot, "u0")[0] if first is None else first
    found, number = [], 0
    while len(found) < many:
        if EndUsers.tag_of(quota.slot, f"u{number}")[0] == wanted:
            found.append(f"u{number}")
        number += 1
    return found


@pytest.fixture
def few_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table whose names all hash to eight sets, so that one is soon full."""
    monkeypatch.setattr("beffroi.gateway.quota.end_users._SETS", 8)


@pytest.mark.usefixtures("few_sets")
def test_a_quota_has_half_of_a_set_and_its_further_users_share_one_account(path: Path, clock: HandClock) -> None:
    """None is refused for want of a place; together they get what one would. Another quota's users find room beside them."""
    quota, other = each(5, requests_per_minute=2), each(6, "other", requests_per_minute=2)
    shared = counters(path, clock)
    shared.know([quota, other])
    users = of_one_set(quota, MOST_OF_SET + 5)
    for user in users[:MOST_OF_SET]:
        shared.reserve(KEY, "m", user, ONE)
    assert shared.end_users(quota.slot) == MOST_OF_SET
    for user in users[MOST_OF_SET : MOST_OF_SET + 2]:
        shared.reserve(KEY, "m", user, ONE)
    for user in users[MOST_OF_SET:]:
        with pytest.raises(LimitExceeded, match="of all other end users in organisation acme"):
            shared.reserve(KEY, "m", user, ONE)
    shared.reserve(KEY, "m", users[0], ONE)
    assert shared.usage(others_account(quota, quota.terms[0].limits))[0].used == 2
    first = EndUsers.tag_of(quota.slot, users[0])[0]
    for user in of_one_set(other, SET - MOST_OF_SET, first):
        shared.reserve(OTHER_KEY, "m", user, ONE)
    assert shared.end_users(other.slot) == SET - MOST_OF_SET


@pytest.mark.usefixtures("few_sets")
@pytest.mark.parametrize(
    ("limits", "idle_after"),
    [
        ({"requests_per_minute": 9}, 2 * MINUTE),
        ({"requests_per_day": 9}, 2 * DAY),
        ({"input_tokens_per_hour": 9}, 3 * 3600 * MINUTE // 60),
        ({"hard_budget": 100, "budget_period": "day"}, DAY),
        ({"monthly_cap": 100}, 40 * DAY),
    ],
    ids=str,
)
def test_a_place_is_given_to_another_when_nothing_of_its_user_is_left(
    path: Path, clock: HandClock, limits: dict[str, Any], idle_after: int
) -> None:
    """Not while a request is in progress, nor while a window or a period remembers something."""
    quota = each(5, **limits)
    shared = counters(path, clock)
    shared.know([quota])
    *users, running, late = of_one_set(quota, MOST_OF_SET + 1)
    for user in users:
        shared.settle(shared.reserve(KEY, "m", user, Ask(2, 1, 1, 1)), Used(2, 1, 1))
    ticket = shared.reserve(KEY, "m", running, Ask(2, 1, 1, 1))
    clock.pass_(MINUTE // 2)
    shared.reserve(KEY, "m", late, ONE)  # finds no place, and none is taken
    assert [shared.usage(quota_account(quota, quota.terms[0].limits, user))[0].used for user in (users[0], late)] in (
        [[1, 0], [2, 0]] if "input" not in str(limits) else [[1, 0]]
    )
    clock.pass_(idle_after)
    later = counters(path, clock, 1)
    later.know([quota])
    later.reserve(KEY, "m", late, ONE)
    account = quota_account(quota, quota.terms[0].limits, late)
    assert later.usage(account)[0].used == (0 if "input" in str(limits) else 1)
    assert later.end_users(quota.slot) == MOST_OF_SET
    # Whose place it was is counted anew, by whichever process; the one in progress has kept his.
    shared.reserve(KEY, "m", users[1], ONE)
    shared.settle(ticket, Used(2, 1, 1))
    assert shared.end_users(quota.slot) == MOST_OF_SET


def test_places_are_found_again_by_every_process_and_after_a_restart(path: Path, clock: HandClock) -> None:
    """A hundred users, four workers, one limit each; a dead worker's are given back."""
    quota = each(5, requests_per_minute=4, concurrency=2)
    workers = [counters(path, clock, number) for number in range(4)]
    for shared in workers:
        shared.know([quota])
    for number in range(100):
        user = f"user {number}"
        workers[0].reserve(KEY, "m", user, ONE)
        workers[number % 3 + 1].reserve(KEY, "m", user, ONE)
        with pytest.raises(LimitExceeded, match="concurrency of this end user"):
            workers[2].reserve(KEY, "m", user, ONE)
    again = counters(path, clock, 0)
    again.reset_worker(0)
    again.know([quota])
    for number in range(100):
        again.reserve(KEY, "m", f"user {number}", ONE)
        with pytest.raises(LimitExceeded, match="concurrency of this end user"):
            again.reserve(KEY, "m", f"user {number}", ONE)
    assert (path.parent / "end-users.bin").stat().st_blocks * 512 < 8 << 20


def test_a_slot_that_is_given_anew_has_no_users(path: Path, clock: HandClock) -> None:
    """Those of the quota before are gone; a name of any length is one name."""
    quota = each(5, requests_per_minute=1)
    shared = counters(path, clock)
    shared.know([quota])
    shared.reserve(KEY, "m", "x" * 10_000, ONE)
    with pytest.raises(LimitExceeded):
        shared.reserve(KEY, "m", "x" * 128, ONE)
    shared.clear(5)
    assert shared.end_users(5) == 0
    shared.reserve(KEY, "m", "x" * 10_000, ONE)
    assert PLACES == 65_536
