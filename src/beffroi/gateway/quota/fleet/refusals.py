# SPDX-License-Identifier: Apache-2.0
"""The words of a refusal: which limit of which scope, what is left of it, when more returns.

In: what the centre (or this worker's own part) said of each scope. Out: the error, for the limit that takes longest.
"""

from beffroi.core.errors import BeffroiError, BudgetExceeded, CountersUnavailable, LimitExceeded
from beffroi.core.money import show
from beffroi.gateway.quota.calendar import KINDS, MONTH, NAMES, TOTAL
from beffroi.gateway.quota.fleet.house_time import HouseTime
from beffroi.gateway.quota.fleet.lease import Lease
from beffroi.gateway.quota.fleet.wire import BY_CODE
from beffroi.gateway.quota.refusal import HELD_RETRY, LEAST_RETRY, NEVER_RETRY
from beffroi.gateway.quota.windows import REQUESTS_RESET

MONEY = ("hard_budget", "soft_budget", "monthly_cap")
Found = tuple[str, int, int, int, int, int]


def refusal(found: list[tuple[Lease, Found]], time: HouseTime) -> BeffroiError:
    """The error to raise; `found` is not empty."""
    if any(each[0] == "rebuilding" for _, each in found):
        return CountersUnavailable(
            "the budgets are being compared with the ledger after the shared counters were lost; try again",
            retry_after=1.0,
        )
    wait, limit, why, lease = max((_words(lease, each, time) for lease, each in found), key=lambda each: each[0])
    requests = None
    if lease.most is not None:
        requests = (lease.most, max(0, lease.most - lease.sums.get("rm", 0)), REQUESTS_RESET)
    error = BudgetExceeded if limit in MONEY else LimitExceeded
    return error(f"{limit} {lease.account.of}: {why}", limit=limit, retry_after=wait, requests=requests)


def _words(lease: Lease, each: Found, time: HouseTime) -> tuple[float, str, str, Lease]:
    code, used, _, needs, most, wait_ms = each
    if code == "concurrency":
        why = f"{used} requests are in progress, the limit is {most}; wait for one to end"
        return HELD_RETRY, code, why, lease
    if code in MONEY:
        wait, why = _money(lease, each, time)
        return wait, code, why, lease
    window = BY_CODE[code]
    left = max(0, most - used)
    if wait_ms < 0:
        why = f"this request needs about {needs} {window.unit}, more than the limit of {most} per {window.span}"
        return NEVER_RETRY, window.limit, why, lease
    wait = max(LEAST_RETRY, wait_ms / 1000)
    need = "" if needs == 1 else f" and this request needs about {needs}"
    why = f"{left} of {most} {window.unit} per {window.span} are left{need}; room returns in {wait:.1f} s"
    return wait, window.limit, why, lease


def _money(lease: Lease, each: Found, time: HouseTime) -> tuple[float, str]:
    code, spent, held, needs, budget, _ = each
    kind = MONTH if code == "monthly_cap" else KINDS[lease.rule.limits.budget_period]
    left = f"{show(max(0, budget - spent - held))} of {show(budget)} are left ({NAMES[kind]})"
    cost = f"this request may cost {show(needs)}"
    if needs > budget:
        return NEVER_RETRY, f"{left} and {cost}, more than the whole budget; lower max_tokens"
    if spent + needs <= budget:
        return HELD_RETRY, f"{left} and {cost}; {show(held)} is held by requests in progress and may return"
    if kind == TOTAL:
        return NEVER_RETRY, f"{left} and {cost}; this budget does not renew"
    ends = time.period(kind).end_ns
    wait = max(LEAST_RETRY, (ends - time.wall_ns()) / 1e9)
    return wait, f"{left} and {cost}; the {NAMES[kind]}'s budget renews at {time.calendar.show(ends)}"
