# SPDX-License-Identifier: Apache-2.0
"""Admit and settle against counters that all processes of this machine share, exactly. `port.Counters` over mapped files.

In: keys, quotas, what requests ask and use. Out: tickets, and refusals.
Each operation holds a record lock on every slot that it concerns, taken in ascending order, for a few microseconds. No
lease: the last unit of a limit can be taken by any worker, and what a settlement returns can be taken by any worker at once
(docs/adr/0002-exact-counters.md).
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from beffroi.core.clock import Clock
from beffroi.core.kernel import lockf
from beffroi.core.snapshot import KeyDelta, KeyRecord, Limits, QuotaRecord
from beffroi.gateway.quota import layout
from beffroi.gateway.quota.books import ONLOOKER, MappedBooks
from beffroi.gateway.quota.courses import Course, Courses
from beffroi.gateway.quota.end_users import NAME_CHARS, EndUsers
from beffroi.gateway.quota.ground import PATIENCE
from beffroi.gateway.quota.local import LocalLimits
from beffroi.gateway.quota.memory import LOCK, UNLOCK
from beffroi.gateway.quota.port import Needs
from beffroi.gateway.quota.scopes import account_of, others_account, quota_account
from beffroi.gateway.quota.several import Moved, take_all
from beffroi.gateway.quota.terms import (
    MONEY_CAP,
    NO_TICKET,
    TOKEN_CAP,
    Ask,
    Busy,
    Plan,
    Ticket,
    Used,
    cap,
    capped,
    is_hard,
    limited,
)

KEPT = 1 << 16  # plans, of keys and of end users
PAY_EVERY_NS = 10_000_000
MOVES = 3  # times that an end user's place is looked up anew before the request waits
__all__ = ["ONLOOKER", "MappedCounters"]


class _Met(msgspec.Struct):
    """A key that has asked before. `plan`: of its own limits, where nothing else can concern it; else the courses count."""

    key: KeyRecord
    plan: Plan | None
    needs: Needs
    courses: dict[str, tuple[Course, tuple[Plan, ...]]]


class MappedCounters(MappedBooks):
    """The counters of one process.

    Args:
        path: the file, made if it is not there.
        worker: this worker's number, 0 to 63; `ONLOOKER` for control, which charges and looks but admits nothing.
        workers: how many workers there are.
        clock, zone, boot: as `MappedBooks`.

    Raises:
        CountersUnavailable: the file cannot be used.
        ValueError: an unknown zone, or a worker number out of range.
    """

    def __init__(
        self,
        path: Path,
        *,
        worker: int,
        workers: int,
        clock: Clock,
        zone: str = "Europe/Paris",
        boot: tuple[int, int] | None = None,
    ) -> None:
        if not ONLOOKER <= worker < layout.WORKERS or not 1 <= workers <= layout.WORKERS:
            raise ValueError(f"worker {worker} of {workers}: there can be {layout.WORKERS} at most")
        super().__init__(path, clock=clock, worker=worker, zone=zone, boot=boot)
        self._keys = keys = self._files.keys
        self._table, self._file, self._fd, self._arrears = keys.table, keys.file, keys.file.fd, keys.arrears
        self._worker = worker
        self._workers = workers
        self._courses = Courses(self._time)
        self._met: dict[str, _Met] = {}
        self._met_of: dict[str, set[str]] = {}  # key ids by organisation
        self._user_plans: dict[tuple[int, str], Plan] = {}
        self._gathers = False
        self._pay_at = 0
        self._local = LocalLimits(self._time, workers)

    # what there is -----------------------------------------------------------------------------------------------

    def know(self, quotas: Iterable[QuotaRecord]) -> None:
        """See `port.Counters`."""
        self._courses.know(quotas)
        self._forget({""})

    def learn(self, delta: KeyDelta) -> None:
        """See `port.Counters`."""
        if delta.quotas or delta.remove_quotas:
            self._forget(self._courses.learn(delta))

    def needs(self, key: KeyRecord, model: str) -> Needs:
        """See `port.Counters`."""
        met = self._met.get(key.id)
        if met is None or met.key is not key:
            met = self._meet(key)
        return met.needs if met.plan is not None else self._course(met, model)[0].needs

    # admit -------------------------------------------------------------------------------------------------------

    def reserve(self, key: KeyRecord, model: str, end_user: str | None, ask: Ask) -> Ticket:
        """See `port.Counters`; `Busy`: another process has held a lock for 50 µs."""
        met = self._met.get(key.id)
        if met is None or met.key is not key:
            met = self._meet(key)
        plan = met.plan
        if plan is not None and not plan.limited:
            return NO_TICKET
        if not 0 <= ask.tokens | ask.output <= TOKEN_CAP or not 0 <= ask.bound | ask.estimate <= MONEY_CAP:
            ask = capped(ask)
        if self._arrears:
            self._pay_some()
        if plan is None:
            course, plans = self._course(met, model)
            return self._take(course, plans, end_user, ask)
        fd, at = self._fd, plan.at
        try:
            lockf(fd, LOCK, 1, at)
        except OSError:
            self._file.wait(at)
        try:
            return self._table.take(plan, ask)
        finally:
            lockf(fd, UNLOCK, 1, at)

    def reserve_alone(self, key: KeyRecord, model: str, end_user: str | None, ask: Ask) -> Ticket:
        """The failure matrix, for a lock that stayed held for 20 ms: this process decides with its own share.

        Rates and concurrency are open at limit ÷ workers (at least one), a soft budget is open, a hard one closed.
        What is used reaches the shared counters when they can be reached again; those of end users it does not reach.

        Raises:
            CountersUnavailable: a hard budget or a monthly cap is among the limits.
            LimitExceeded: this process's share is used up.
        """
        course = self._courses.of(key, model)
        return self._local.reserve(course.all_accounts(_name(end_user)), ask)

    def move(self, ticket: Ticket, key: KeyRecord, model: str, end_user: str | None, ask: Ask) -> Ticket:
        """See `port.Counters`. A ticket of `reserve_alone` is left as it is."""
        met = self._met.get(key.id)
        if met is None or met.key is not key:
            met = self._meet(key)
        if met.plan is not None or ticket.local:
            return ticket
        course, plans = self._course(met, model)
        held = {(each.plan.table, each.plan.slot): each for each in (ticket, *ticket.rest) if each.plan is not None}
        plans = self._with_users(course, plans, end_user)
        fresh = tuple(plan for plan in plans if (plan.table, plan.slot) not in held)
        taken = self._lock_and_take(fresh, capped(ask)) if fresh else None
        wanted = {(plan.table, plan.slot) for plan in plans}
        members = [each for name, each in held.items() if name in wanted]
        tightest = ticket.tightest
        if taken is not None:
            members += [taken, *taken.rest]
            if taken.tightest is not None and (tightest is None or taken.tightest[1] < tightest[1]):
                tightest = taken.tightest
        members = [msgspec.structs.replace(each, rest=(), open=True) for each in members]
        ticket.open = False
        for name, each in held.items():
            if name not in wanted:
                self._gathered(each, 0, 0, 0)
        if not self._gathers:
            self.write_back()
        if not members:
            return NO_TICKET
        first = members[0]
        first.rest, first.tightest = tuple(members[1:]), tightest
        return first

    # settle ------------------------------------------------------------------------------------------------------

    def settle(self, ticket: Ticket, used: Used) -> None:
        """See `port.Counters`. What cannot be written because a lock is held is kept, added up, and written later."""
        plan = ticket.plan
        if plan is None or not ticket.open:
            return
        ticket.open = False
        tokens, output, cost = used.tokens, used.output, used.cost
        if not 0 <= tokens | output <= TOKEN_CAP or not 0 <= cost <= MONEY_CAP:
            tokens, output, cost = cap(tokens, TOKEN_CAP), cap(output, TOKEN_CAP), cap(cost, MONEY_CAP)
        if ticket.local:
            for each in (ticket, *ticket.rest):
                self._settle_alone(each, tokens, output, cost)
            return
        if ticket.rest or plan.tag:
            for each in (ticket, *ticket.rest):
                self._gathered(each, tokens, output, cost)
        else:
            self._keys.settled.setdefault(plan.slot, []).append((plan, ticket, tokens, output, cost))
        if not self._gathers:
            self.write_back()

    def gather(self) -> Callable[[], None]:
        """From now on write the settlements of one turn of a loop together, one lock per slot.

        Whoever asks for this calls what it returns at the end of each turn, before anybody can hear of a settlement.
        """
        self._gathers = True
        return self.write_back

    def write_back(self) -> None:
        """Write the settlements that were gathered."""
        if self._keys.settled:
            self._keys.write_back()
        users = self._files.users
        if users is not None and users.settled:
            users.write_back()

    def pay(self) -> int:
        """See `port.Counters`."""
        owed = 0
        for ground in self._files.grounds():
            ground.arrears.pay(0.0)
            owed += len(ground.arrears)
        return owed

    def reset_worker(self, worker: int) -> None:
        """At a worker's start: give back what its dead predecessor held.

        Concurrency is free at once. Money stays held for five seconds, in which control charges what the orphans cost
        (`charge`); then it is free too. Worker 0 also clears the columns of workers that no longer exist.
        """
        self._files.known_places()
        for ground in self._files.grounds():
            ground.remap()
            ground.arrears.find_orphans(worker)
            if worker == 0:
                seen = ground.file.header
                for gone in range(self._workers, layout.WORKERS):
                    if seen[layout.SEEN + gone]:
                        ground.arrears.find_orphans(gone)
                        seen[layout.SEEN + gone] = 0
            ground.arrears.pay(PATIENCE)  # where a frozen process holds a lock, the next `pay` tries again

    def clear(self, slot: int) -> None:
        """See `port.Books`."""
        self._forget({""})
        super().clear(slot)

    def close(self) -> None:
        """See `port.Counters`."""
        self.write_back()
        super().close()

    # inside ------------------------------------------------------------------------------------------------------

    def _take(self, course: Course, plans: tuple[Plan, ...], end_user: str | None, ask: Ask) -> Ticket:
        for _ in range(MOVES):
            try:
                those = self._with_users(course, plans, end_user) if course.users else plans
                return self._lock_and_take(those, ask) if those else NO_TICKET
            except Moved:
                self._user_plans.clear()
        raise Busy

    @staticmethod
    def _lock_and_take(plans: tuple[Plan, ...], ask: Ask) -> Ticket:
        locked = 0
        try:
            for plan in plans:
                file = plan.file
                try:
                    lockf(file.fd, LOCK, 1, plan.at)
                except OSError:
                    file.wait(plan.at)
                locked += 1
            return take_all(plans, ask)
        finally:
            for plan in plans[:locked]:
                lockf(plan.file.fd, UNLOCK, 1, plan.at)

    def _with_users(self, course: Course, plans: tuple[Plan, ...], end_user: str | None) -> tuple[Plan, ...]:
        """With the places of an end user, in the order of the locks: keys and quotas by slot, then places."""
        if not course.users:
            return plans
        name = _name(end_user)
        places = self._files.places()
        found = [*plans, *(self._user_plan(places, quota, limits, name) for quota, limits in course.users)]
        found.sort(key=lambda plan: (plan.tag != 0, plan.slot))
        return tuple(found)

    def _user_plan(self, places: EndUsers, quota: QuotaRecord, limits: Limits, name: str) -> Plan:
        plan = self._user_plans.get((quota.slot, name))
        if plan is not None and plan.account.limits is limits:
            return plan
        place = places.claim(quota.slot, name, 0.0)
        ground = self._files.users
        if place is None or ground is None:
            return self._keys.plan(others_account(quota, limits), quota.slot)
        if len(self._user_plans) >= KEPT:
            self._user_plans.clear()
        plan = ground.plan(quota_account(quota, limits, name), place[0], (places.word_of(place[0]), place[1]))
        self._user_plans[quota.slot, name] = plan
        return plan

    def _meet(self, key: KeyRecord) -> _Met:
        if len(self._met) >= KEPT:
            self._forget({""})
        limits, plan = key.limits, None
        if self._courses.alone(key):
            if not limited(limits):
                plan = self._keys.unlimited(account_of(key))
            elif (own := self._plan(key)).plain:
                plan = own
        met = self._met[key.id] = _Met(key, plan, Needs(is_hard(limits), limits.soft_budget is not None), {})
        self._met_of.setdefault(key.organisation, set()).add(key.id)
        return met

    def _course(self, met: _Met, model: str) -> tuple[Course, tuple[Plan, ...]]:
        known = met.courses.get(model)
        if known is None or self._time.tick() >= known[0].until:
            course = self._courses.of(met.key, model)
            if self._worker == ONLOOKER:
                raise ValueError("an onlooker admits nothing")
            ground = self._keys
            known = met.courses[model] = course, tuple(ground.plan(each, each.slot) for each in course.accounts)
        return known

    def _plan(self, key: KeyRecord) -> Plan:
        if self._worker == ONLOOKER:
            raise ValueError("an onlooker admits nothing")
        return self._keys.plan(account_of(key), key.slot)

    def _forget(self, organisations: set[str]) -> None:
        """Work out anew what keys of these organisations count in; of the empty text: all keys."""
        if "" in organisations:
            self._met.clear()
            self._met_of.clear()
            return
        for organisation in organisations:
            for key_id in self._met_of.pop(organisation, ()):
                self._met.pop(key_id, None)

    def _gathered(self, ticket: Ticket, tokens: int, output: int, cost: int) -> None:
        plan = ticket.plan
        assert plan is not None  # noqa: S101 - callers have seen it
        ground = self._files.users if plan.tag else self._keys
        assert ground is not None  # noqa: S101 - it has given the place
        ground.settled.setdefault(plan.slot, []).append((plan, ticket, tokens, output, cost))

    def _settle_alone(self, ticket: Ticket, tokens: int, output: int, cost: int) -> None:
        plan = ticket.plan
        assert plan is not None  # noqa: S101 - as above
        self._local.settle(plan, ticket, tokens, output)
        account = plan.account
        if account.end_user is None and self._keys.known(account.slot) is not None:
            self._arrears.add_local(account.slot, tokens, output, cost)

    def _pay_some(self) -> None:
        now = self._time.mono()
        if now >= self._pay_at:
            self._pay_at = now + PAY_EVERY_NS
            self.pay()


def _name(end_user: str | None) -> str:
    """Requests that name nobody count as one end user."""
    return (end_user or "")[:NAME_CHARS]
