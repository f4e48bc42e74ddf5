# SPDX-License-Identifier: Apache-2.0
"""Every backend of the counters admits the same, refuses the same and says the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from beffroi.core.errors import BudgetExceeded, LimitExceeded
from beffroi.core.snapshot import Dated, KeyDelta, Limits, QuotaRecord
from beffroi.gateway.quota import Ask, Used
from beffroi.gateway.quota.fleet import centre
from beffroi.gateway.quota.scopes import Account, account_of, quota_account
from tests.contract.backends import BACKENDS, Backend, admitted, key, take
from tests.contract.fleet import Fleet
from tests.gateway.quota.support import NOON, SECOND, at_paris
from tests.servers import collected

NOTHING = Used(0, 0, 0)


@pytest.fixture(params=[*BACKENDS, "fleet"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """Each backend in its turn. A busy machine is no failure of the centre here: that has tests of its own."""
    monkeypatch.setattr(centre, "PATIENCE_S", 2.0)
    if request.param == "fleet":
        made: Backend = Fleet(request.getfixturevalue("valkey").url)
    else:
        made = BACKENDS[request.param](tmp_path)
    with collected():
        yield made
        made.close()


def quota(slot: int = 100, *, since: int = 0, each_end_user: bool = False, model: str = "", project: str = "",
          organisation: str = "acme", key_slot: int | None = None, **limits: object) -> QuotaRecord:  # fmt: skip
    """A quota with one term."""
    terms = (Dated(since, Limits(**limits)),)  # type: ignore[arg-type]
    return QuotaRecord(f"quo_{slot}", slot, organisation, project, key_slot, model, each_end_user, terms)


def account(of: QuotaRecord, end_user: str | None = None) -> Account:
    """As control sees it."""
    return quota_account(of, of.terms[-1].limits, end_user)


@pytest.mark.parametrize(
    "limits", [{"requests_per_minute": 10}, {"requests_per_hour": 10}, {"requests_per_day": 10}, {"concurrency": 10}]
)
def test_a_limit_of_ten_with_four_workers_admits_ten_and_all_ten(backend: Backend, limits: dict[str, int]) -> None:
    """Nobody keeps what another could use."""
    assert len(admitted(backend, 60, key(**limits))) == 10


def test_keys_of_one_organisation_share_its_limit_exactly(backend: Backend) -> None:
    """Forty tries by four workers and eight keys: ten."""
    backend.know(quota(requests_per_minute=10))
    assert len(admitted(backend, 60, *(key(slot) for slot in range(8)))) == 10
    take(backend, 0, key(50, organisation="other"))


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        ({"organisation": ""}, key(1), None),
        ({"organisation": "acme"}, key(1), key(2, organisation="else")),
        ({"project": "lab"}, key(1), key(2, project="office")),
        ({"key_slot": 1}, key(1), key(2)),
    ],
    ids=["house", "organisation", "project", "key"],
)
def test_a_quota_counts_what_it_matches_and_nothing_else(
    backend: Backend, scope: dict[str, object], inside: object, outside: object
) -> None:
    """Each field that is set must match."""
    backend.know(quota(requests_per_minute=1, **scope))  # type: ignore[arg-type]
    take(backend, 0, inside)  # type: ignore[arg-type]
    with pytest.raises(LimitExceeded):
        take(backend, 1, inside)  # type: ignore[arg-type]
    if outside is not None:
        take(backend, 1, outside)  # type: ignore[arg-type]


def test_a_quota_of_a_model_leaves_other_models_alone(backend: Backend) -> None:
    """The model that is asked for decides."""
    backend.know(quota(requests_per_minute=1, model="large"))
    take(backend, 0, key(), "large")
    take(backend, 0, key(), "small")
    with pytest.raises(LimitExceeded, match="of model large in organisation acme"):
        take(backend, 1, key(), "large")


def test_all_limits_or_none(backend: Backend) -> None:
    """A refusal by the last leaves the first as it was."""
    wide, narrow = quota(100, requests_per_minute=10), quota(101, project="lab", requests_per_minute=2)
    backend.know(wide, narrow)
    assert len(admitted(backend, 20, key())) == 2
    backend.rest()
    assert [use.used for use in backend.books().usage(account(wide))] == [2]
    assert len(admitted(backend, 20, key(5, project="office"))) == 8


def test_a_hard_budget_of_an_organisation_is_not_passed_and_what_is_returned_can_be_taken_by_any(
    backend: Backend,
) -> None:
    """Bounds are held, costs are kept."""
    shared = quota(hard_budget=100)
    backend.know(shared)
    got = admitted(backend, 60, key(1), key(2), key(3), ask=Ask(0, 0, 10, 10))
    assert len(got) == 10
    for worker, ticket in got:
        backend.worker(worker).settle(ticket, Used(0, 0, 4))
    backend.rest()
    assert (backend.books().spent(account(shared)).spent, backend.books().spent(account(shared)).reserved) == (40, 0)
    assert len(admitted(backend, 60, key(4), ask=Ask(0, 0, 10, 10))) == 6


def test_a_monthly_cap_holds_beside_a_budget_of_the_day(backend: Backend) -> None:
    """The day renews, the month does not."""
    shared = quota(hard_budget=30, budget_period="day", monthly_cap=50)
    backend.know(shared)
    assert backend.worker(0).needs(key(), "m") == (True, False)
    for _ in range(3):
        backend.worker(0).settle(take(backend, 0, key(), ask=Ask(0, 0, 10, 0)), Used(0, 0, 10))
    backend.rest()
    with pytest.raises(BudgetExceeded, match="hard_budget"):
        take(backend, 1, key(), ask=Ask(0, 0, 10, 0))
    backend.pass_(86_400)
    for _ in range(2):
        backend.worker(0).settle(take(backend, 0, key(), ask=Ask(0, 0, 10, 0)), Used(0, 0, 10))
    backend.rest()
    with pytest.raises(BudgetExceeded, match="monthly_cap"):
        take(backend, 1, key(), ask=Ask(0, 0, 10, 0))


@pytest.mark.parametrize(
    ("limit", "ask"),
    [
        ("input_tokens_per_minute", Ask(10, 0, 0, 0)),
        ("input_tokens_per_hour", Ask(10, 0, 0, 0)),
        ("input_tokens_per_day", Ask(10, 0, 0, 0)),
        ("output_tokens_per_minute", Ask(10, 10, 0, 0)),
        ("output_tokens_per_hour", Ask(10, 10, 0, 0)),
        ("output_tokens_per_day", Ask(10, 10, 0, 0)),
        ("tokens_per_minute", Ask(10, 5, 0, 0)),
    ],
)
def test_tokens_count_by_their_kind_and_an_estimate_that_was_too_high_is_given_back(
    backend: Backend, limit: str, ask: Ask
) -> None:
    """Ten of a hundred each; nothing used, nothing counted."""
    shared = quota(**{limit: 100})
    backend.know(shared)
    got = admitted(backend, 40, key(), ask=ask)
    assert len(got) == 10
    for worker, ticket in got:
        backend.worker(worker).settle(ticket, NOTHING)
    backend.rest()
    assert [use.used for use in backend.books().usage(account(shared))] == [0]
    assert len(admitted(backend, 40, key(), ask=ask)) == 10


def test_an_error_names_scope_limit_what_is_left_and_when_it_returns(backend: Backend) -> None:
    """Of several limits, the one that takes longest."""
    backend.know(quota(100, requests_per_minute=1), quota(101, project="lab", requests_per_hour=1))
    take(backend, 0, key())
    with pytest.raises(LimitExceeded) as caught:
        take(backend, 1, key())
    error = caught.value
    assert error.limit == "requests_per_hour"
    assert "of project lab in organisation acme" in error.message
    assert "0 of 1 requests per hour are left" in error.message
    assert error.retry_after is not None
    assert 3500 < error.retry_after <= 3660


def test_headers_show_the_tightest_limit_on_requests(backend: Backend) -> None:
    """Whichever scope has it."""
    backend.know(quota(100, requests_per_minute=50), quota(101, project="lab", requests_per_minute=7))
    ticket = take(backend, 0, key(requests_per_minute=20))
    assert (ticket.requests_limit, ticket.requests_remaining) == (7, 6)


def test_a_term_that_begins_at_midnight_needs_nobody_to_tell_it(backend: Backend) -> None:
    """Two terms known since noon."""
    midnight = at_paris(2025, 11, 13) // SECOND
    terms = (Dated(0, Limits(concurrency=1)), Dated(midnight, Limits(concurrency=3)))
    backend.know(QuotaRecord("quo_1", 100, "acme", terms=terms))
    assert len(admitted(backend, 20, key())) == 1
    backend.pass_(midnight - NOON / SECOND - 1)
    assert admitted(backend, 20, key()) == []
    backend.pass_(2)
    assert len(admitted(backend, 20, key())) == 2


def test_no_term_is_in_force_before_the_first(backend: Backend) -> None:
    """Nothing is limited, and nothing need be asked for."""
    backend.know(quota(since=NOON // SECOND + 3600, hard_budget=0))
    assert backend.worker(0).needs(key(), "m") == (False, False)
    take(backend, 0, key(), ask=Ask(5, 5, 0, 0))


def test_quotas_come_change_and_go_by_deltas(backend: Backend) -> None:
    """A change counts on from where it was."""
    worker, record = backend.worker(0), key()
    worker.learn(KeyDelta(1, quotas=(quota(requests_per_minute=1),)))
    take(backend, 0, record)
    with pytest.raises(LimitExceeded):
        take(backend, 0, record)
    worker.learn(KeyDelta(2, quotas=(quota(requests_per_minute=2),)))
    take(backend, 0, record)
    with pytest.raises(LimitExceeded):
        take(backend, 0, record)
    worker.learn(KeyDelta(3, remove_quotas=("quo_100",)))
    take(backend, 0, record)


def test_each_end_user_has_counters_of_its_own_and_those_without_a_name_share_one(backend: Backend) -> None:
    """Over all workers."""
    shared = quota(each_end_user=True, requests_per_minute=2)
    backend.know(shared)
    for user in ("ann", "bob", None):
        assert len(admitted(backend, 12, key(), key(1), user=user)) == 2
    with pytest.raises(LimitExceeded, match="of this end user in organisation acme"):
        take(backend, 0, key(), user="ann")
    backend.rest()
    assert [use.used for use in backend.books().usage(account(shared, "ann"))] == [2]
    assert [use.used for use in backend.books().usage(account(shared, "eve"))] == [0]


def test_a_fallback_counts_under_its_own_quotas_and_no_longer_under_those_of_the_first(backend: Backend) -> None:
    """What both share is held on."""
    wide, first, second = (
        quota(100, concurrency=5),
        quota(101, model="first", concurrency=1),
        quota(102, model="second", tokens_per_minute=10),
    )
    backend.know(wide, first, second)
    worker = backend.worker(0)
    ticket = worker.move(take(backend, 0, key(), "first", ask=Ask(6, 3, 0, 0)), key(), "second", None, Ask(6, 3, 0, 0))
    backend.rest()
    uses = {each.slot: [use.used for use in backend.books().usage(account(each))] for each in (wide, first, second)}
    assert uses == {100: [1], 101: [0], 102: [6]}
    other = take(backend, 1, key(), "first", ask=Ask(6, 3, 0, 0))
    with pytest.raises(LimitExceeded, match="of model second"):
        backend.worker(1).move(other, key(), "second", None, Ask(6, 3, 0, 0))
    worker.settle(ticket, Used(4, 2, 0))
    backend.worker(1).settle(other, NOTHING)
    backend.rest()
    uses = {each.slot: [use.used for use in backend.books().usage(account(each))] for each in (wide, first, second)}
    assert uses == {100: [0], 101: [0], 102: [4]}


def test_what_a_dead_worker_held_comes_back_in_every_scope(backend: Backend) -> None:
    """Concurrency and money, of key, project and organisation."""
    scopes = [quota(100, concurrency=3, hard_budget=30), quota(101, project="lab", concurrency=3, soft_budget=30)]
    backend.know(*scopes)
    record = key(concurrency=3, hard_budget=30)
    for _ in range(3):
        take(backend, 1, record, ask=Ask(0, 0, 10, 10))
    with pytest.raises(LimitExceeded):
        take(backend, 2, record, ask=Ask(0, 0, 10, 10))
    backend.kill(1)
    assert len(admitted(backend, 20, record, ask=Ask(0, 0, 10, 10))) == 3


def test_control_charges_restores_and_clears(backend: Backend) -> None:
    """An orphan is charged once, a lost sum is raised and never lowered, a new scope begins at nothing."""
    shared = quota(hard_budget=100, budget_period="day", monthly_cap=500)
    backend.know(shared)
    books, of = backend.books(), account(shared)
    backend.worker(0).settle(take(backend, 0, key(), ask=Ask(0, 0, 10, 0)), Used(0, 0, 5))
    backend.rest()
    books.charge(of, 7, at_ns=NOON)
    assert books.spent(of).spent == 12
    books.restore(of, 50, 400)
    books.restore(of, 20, 30)
    assert books.spent(of).spent == 50
    assert {use.name: use.used for use in books.usage(of)} == {"hard_budget": 50, "monthly_cap": 400}
    with pytest.raises(BudgetExceeded, match="hard_budget"):
        take(backend, 0, key(), ask=Ask(0, 0, 51, 0))
    books.clear(shared.slot)
    assert books.spent(of).spent == 0


@pytest.mark.parametrize("step", [3600, -3600], ids=["an hour on", "an hour back"])
def test_a_clock_that_steps_neither_opens_nor_stops_a_limit(backend: Backend, step: int) -> None:
    """Rates slide by the monotonic clock; the calendar waits ten minutes before it believes."""
    backend.know(quota(requests_per_minute=3, hard_budget=30, budget_period="day"))
    backend.pass_(11 * 3600 + 1800)  # half past eleven at night
    worker, record, ask = backend.worker(0), key(), Ask(0, 0, 10, 0)
    for _ in range(3):
        worker.settle(take(backend, 0, record, ask=ask), Used(0, 0, 10))
    backend.rest()
    backend.set_wall(step)
    for _ in range(5):
        backend.pass_(60)
        with pytest.raises(BudgetExceeded):
            take(backend, 1, record, ask=ask)
    backend.set_wall(-step)
    backend.pass_(1800)
    assert len(admitted(backend, 8, record, ask=ask)) == 3


def test_the_key_s_own_limits_count_with_no_quota_about(backend: Backend) -> None:
    """As ever."""
    record = key(requests_per_minute=3, soft_budget=10)
    assert backend.worker(0).needs(record, "m") == (False, True)
    got = admitted(backend, 12, record)
    assert len(got) == 3
    for worker, ticket in got:
        backend.worker(worker).settle(ticket, Used(5, 3, 4))
        backend.worker(worker).settle(ticket, Used(5, 3, 4))
    backend.rest()
    assert backend.books().spent(account_of(record)).spent == 12
