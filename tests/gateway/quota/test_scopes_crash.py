# SPDX-License-Identifier: Apache-2.0
"""A worker may die between any two stores of a reservation over several scopes: each scope is sound by itself afterwards."""

from collections.abc import Callable
from pathlib import Path

import pytest

from beffroi.core.snapshot import Dated, KeyRecord, Limits, QuotaRecord
from beffroi.gateway.quota import Ask, MappedCounters, Ticket, Used
from beffroi.gateway.quota.memory import ASIDE
from beffroi.gateway.quota.scopes import account_of, quota_account
from tests.gateway.quota.support import SECOND, HandClock, counters, key
from tests.gateway.quota.test_crash import KILLS, Fragile, Killed

MANY = Limits(
    requests_per_minute=1000, requests_per_hour=1000, input_tokens_per_minute=10_000, output_tokens_per_day=10_000,
    concurrency=50, hard_budget=100_000, soft_budget=100_000, monthly_cap=100_000,
)  # fmt: skip
KEY = KeyRecord("key_0", "p", b"", 1, 0, "acme", "lab", limits=MANY)
QUOTAS = (
    QuotaRecord("quo_5", 5, "acme", terms=(Dated(0, MANY),)),
    QuotaRecord("quo_6", 6, "acme", "lab", terms=(Dated(0, MANY),)),
    QuotaRecord("quo_7", 7, "acme", each_end_user=True, terms=(Dated(0, MANY),)),
)
ACCOUNTS = (account_of(KEY), *(quota_account(q, MANY, "ann" if q.each_end_user else None) for q in QUOTAS))
ASK, USED = Ask(100, 60, 50, 40), Used(70, 30, 20)
STEP = 7 if KILLS <= 12 else 1  # of the stores: some in the suite, each in the long form
ACTS: dict[str, Callable[[MappedCounters, Ticket], object]] = {
    "reserve": lambda shared, _: shared.reserve(KEY, "m", "ann", ASK),
    "settle": lambda shared, ticket: shared.settle(ticket, USED),
    "settle, with a debt": lambda shared, ticket: shared.settle(ticket, Used(500, 300, 50)),
}


def worker(path: Path, clock: HandClock, number: int) -> MappedCounters:
    """One that knows the quotas."""
    made = counters(path, clock, number)
    made.know(QUOTAS)
    return made


def die_in(act: Callable[[], object], victim: MappedCounters, stores: int) -> bool:
    """Whether `act` got as far as its `stores`th store, in whichever file, where it died."""
    victim._files.places()
    fragile = Fragile(victim._table.words, stores)
    victim._table.words = fragile  # type: ignore[assignment]
    users = victim._files.users
    assert users is not None
    theirs = Fragile(users.table.words, stores)
    users.table.words = theirs  # type: ignore[assignment]
    try:
        act()
    except Killed:
        return True
    return False


def state(shared: MappedCounters) -> list[dict[str, int]]:
    """What every account shows."""
    return [{use.name: use.used for use in shared.usage(account)} for account in ACCOUNTS]


@pytest.fixture(autouse=True)
def in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arithmetic whose stores can be counted here; how the kernel dies is in `test_crash`."""
    for name in ("take_words", "give_words"):
        monkeypatch.setattr(f"beffroi.gateway.quota.table.{name}", None)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("pause", [0, 50 * SECOND] if KILLS <= 12 else [0, SECOND, 50 * SECOND, 7200 * SECOND], ids=str)
def test_a_worker_killed_before_any_store_leaves_every_scope_sound(
    path: Path, clock: HandClock, act: str, pause: int
) -> None:
    """Concurrency is free at once, money after five seconds; until then nothing looks freer than it is."""
    stores, died = 0, True
    while died:
        for file in (path, path.with_name("end-users.bin")):
            file.unlink(missing_ok=True)
        clock = HandClock()
        victim, other = worker(path, clock, 0), worker(path, clock, 1)
        kept, ticket = other.reserve(KEY, "m", "ann", ASK), victim.reserve(KEY, "m", "ann", ASK)
        clock.pass_(pause)
        before = state(other)
        died = die_in(lambda v=victim, t=ticket: ACTS[act](v, t), victim, stores)  # type: ignore[misc]
        if died:
            for was, now in zip(before, state(other), strict=True):
                for name, given in (("requests_per_minute", 0), ("requests_per_hour", 0), ("input_tokens_per_minute", 40),
                                    ("output_tokens_per_day", 30)):  # fmt: skip
                    assert now[name] >= max(0, was[name] - given * (act != "reserve")), (stores, name)
                assert now["hard_budget"] >= was["hard_budget"] - 30 * (act != "reserve"), stores
        again = worker(path, clock, 0)
        again.reset_worker(0)
        clock.pass_(5 * SECOND)
        for account in ACCOUNTS:
            again.charge(account, 0)
            spent = again.spent(account)
            assert spent.reserved == 50, (stores, account.of)
            assert spent.spent in ((0,) if act == "reserve" else (0, 20, 50)), stores
            # The month's sum is stored after the period's: a kill in between is made good from the ledger.
            assert spent.month in (0, spent.spent), stores
            assert {use.name: use.used for use in again.usage(account)}["concurrency"] == 1
        other.settle(kept, USED)
        for account in ACCOUNTS:
            assert other.spent(account).reserved == 0
        stores += STEP
    assert stores > 20


def test_the_file_of_an_older_release_is_set_aside_and_a_new_one_begins(path: Path, clock: HandClock) -> None:
    """Whoever opens it first does that; the others find the new one."""
    path.write_bytes(b"BFCOUNT1" + bytes(100_000))
    workers = [counters(path, clock, number) for number in range(3)]
    record = key(requests_per_minute=2)
    assert workers[0].reserve(record, "m", None, ASK)
    assert workers[1].reserve(record, "m", None, ASK).requests_remaining == 0
    assert path.with_name(path.name + ASIDE).read_bytes()[:8] == b"BFCOUNT1"
    assert path.read_bytes()[:8] == b"BFCOUNT2"
