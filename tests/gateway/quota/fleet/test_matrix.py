# SPDX-License-Identifier: Apache-2.0
"""The failure matrix, each cell: rates, soft and hard budgets while the centre is killed, slow or emptied.

One run for each fault. The long form (`make chaos`) keeps the fault for a minute and holds the waits to their bound.
"""

import pytest

from tests.gateway.quota.fleet.faults import (
    AFTER,
    BEFORE,
    COST,
    FILLED,
    HARD_KEY,
    LIMIT,
    RATE,
    RATED,
    REPLICAS,
    SOFT,
    Run,
    run_fault,
)

pytestmark = pytest.mark.alone  # waits are measured

FAULT = 1.8


@pytest.fixture(scope="module", params=["killed", "slow", "emptied"])
def run(request: pytest.FixtureRequest) -> Run:
    """One run for each fault."""
    return run_fault(request.param, FAULT)


def test_rates_stay_open_at_their_part_and_are_not_passed(run: Run) -> None:
    """In the minute of the fault the limit holds over all, and some of it was given while nobody answered.

    Each goes on from what it last heard of the others, which is up to half a second old: hence the tenth.
    """
    assert LIMIT * 0.9 <= run.count(RATED, until=BEFORE + min(FAULT, 3.0) + AFTER) <= LIMIT * 1.1
    if run.fault != "emptied":
        assert run.count(RATED, BEFORE + 0.1, BEFORE + FAULT) > 0
        assert run.alone > 0
        assert run.opened >= REPLICAS


def test_soft_budgets_stay_open_and_nothing_spent_is_forgotten_or_counted_twice(run: Run) -> None:
    """All are admitted; the centre knows the cost of each once."""
    asked = int((BEFORE + FAULT + AFTER) * RATE) * REPLICAS
    assert asked * 0.97 <= run.count(SOFT) <= asked * 1.03
    assert run.spent[SOFT] == run.count(SOFT) * COST
    assert run.owed == 0


def test_hard_budgets_close_after_what_was_lent_and_open_again(run: Run) -> None:
    """Never passed; closed with a reason, not with a wrong refusal; what was spent is known once."""
    assert run.spent[HARD_KEY] == run.count(HARD_KEY) * COST <= run.hard
    assert run.reserved == 0
    assert run.count(HARD_KEY, until=BEFORE) > 0.9 * BEFORE * RATE * REPLICAS
    closed = run.count(HARD_KEY, BEFORE + 1.2, BEFORE + FAULT)
    if run.fault == "emptied":
        assert closed == 0, "until the ledger has been heard, a hard budget is closed"
    else:
        assert closed <= 0.15 * (FAULT - 1.2) * RATE * REPLICAS
    assert run.refused["limits_unavailable"] > 0
    assert run.count(HARD_KEY, BEFORE + FAULT + FILLED + 0.3) > 0


def test_what_was_lost_is_noticed_by_all_and_a_slow_centre_loses_nothing(run: Run) -> None:
    """By the epoch."""
    assert run.lost == (0 if run.fault == "slow" else REPLICAS)


def test_nobody_waits_long(run: Run) -> None:
    """While nobody answers, hardly anybody waits: three answers missed in a row are enough to know.

    One that has lost all answers still; at the edge of a limit its word is waited for, 20 ms at most.
    """
    waits = sorted(wait for at, wait in run.waits if BEFORE <= at < BEFORE + FAULT)
    long = 22.0 if run.fault == "emptied" else 10.0
    assert waits[len(waits) // 2] <= long / 2
    assert sum(wait > long for wait in waits) <= max(0.01 * len(waits), 8 * REPLICAS)
    assert max(waits) <= 100.0  # a busy machine; the long form bounds the 99th percentile
