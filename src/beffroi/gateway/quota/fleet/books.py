# SPDX-License-Identifier: Apache-2.0
"""The counters of a fleet as control uses them: charges orphans, shows what is used, fills in what the centre has lost.

In: accounts, the ledger's sums. Out: `Spent`, `LimitUse`; and whether the centre's budgets are whole. Blocks for a second at
most; control calls it off its loop.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import redis
from redis import RedisError

from beffroi.core.clock import Clock
from beffroi.core.errors import CountersUnavailable
from beffroi.core.snapshot import NO_LIMITS
from beffroi.gateway.quota.calendar import KINDS, MONTH, TOTAL
from beffroi.gateway.quota.fleet.centre import said
from beffroi.gateway.quota.fleet.house_time import HouseTime
from beffroi.gateway.quota.fleet.wire import KEPT_MS, Names, Rule, encode, script
from beffroi.gateway.quota.refusal import LEAST_RETRY
from beffroi.gateway.quota.scopes import Account
from beffroi.gateway.quota.terms import LimitUse, Spent

WAIT_S = 1.0
STEP_MS = 1000
HEARD_NS = 500_000_000  # house time heard so long ago is carried on
DEAD_MS = 45_000  # as `lease.lua` has it: what they hold who were not heard of for so long is nobody's
AWAY_NS = 1_000_000_000  # for so long nobody waits again for a centre that did not answer
_WHOLE = "if redis.call('HGET', KEYS[1], 'epoch') == ARGV[1] then return redis.call('HSET', KEYS[1], 'whole', 1) end return -1"
UNREACHED = "the shared counters (`server.valkey`) cannot be reached"
Fields = dict[str, int]


class FleetBooks:
    """See `port.Books`. Where the centre does not answer, all raise `CountersUnavailable`, without waiting twice in a second."""

    def __init__(self, url: str, *, prefix: str, clock: Clock, zone: str) -> None:
        self._redis: redis.Redis = redis.Redis.from_url(
            url, socket_connect_timeout=WAIT_S, socket_timeout=WAIT_S, protocol=2, client_name="beffroi"
        )
        self._names = Names(prefix)
        self._time = HouseTime(clock, zone)
        self._clock = clock
        self._heard_ns = self._away_ns = -HEARD_NS

    def missing(self) -> str | None:
        """The epoch whose budgets are not yet filled in from the ledger; None: they are, or nobody has begun it.

        Raises:
            CountersUnavailable: the centre does not answer.
        """
        epoch, whole = self._try(lambda: self._redis.hmget(self._names.house, ["epoch", "whole"]))
        return None if epoch is None or whole == b"1" else epoch.decode()

    def filled(self, epoch: str) -> None:
        """Every budget of this epoch has been raised to the ledger's sum: hard budgets may open.

        Raises:
            CountersUnavailable: as `missing`.
        """
        self._try(lambda: self._redis.eval(_WHOLE, 1, self._names.house, epoch))

    def charge(self, account: Account, nano: int, *, at_ns: int | None = None) -> None:
        """See `port.Books`."""
        self._hear()
        periods = [self._time.period(kind) for kind in KINDS.values()]  # those that the scope keeps are charged
        amounts = [[period.number, nano] for period in periods if at_ns is None or at_ns >= period.start_ns]
        self._write("charge", account, amounts)

    def restore(self, account: Account, nano: int, month_nano: int) -> None:
        """See `port.Books`."""
        self._hear()
        sums = {KINDS[account.limits.budget_period]: nano}
        if account.limits.monthly_cap is not None:
            sums[MONTH] = max(month_nano, sums.get(MONTH, 0))
        self._write("raise", account, [[self._time.period(kind).number, each] for kind, each in sums.items()])

    def clear(self, slot: int) -> None:
        """See `port.Books`. Counters of single end users are left to expire: slots of quotas are not used twice."""
        scope = self._names.scope(Account(slot, NO_LIMITS))
        self._try(lambda: self._redis.delete(scope, self._names.holders(scope)))

    def spent(self, account: Account) -> Spent:
        """See `port.Books`."""
        fields = self._read(account)
        kind = KINDS[account.limits.budget_period]
        period, spent = self._time.period(kind), self._account(fields, kind)
        month, begun = self._account(fields, MONTH), self._time.period(MONTH).start_ns
        starts, ends = (None, None) if kind == TOTAL else (period.start_ns, period.end_ns)
        return Spent(spent, fields.get("h2", 0), account.limits.budget_period, starts, ends, month, begun)

    def usage(self, account: Account) -> tuple[LimitUse, ...]:
        """See `port.Books`. What is lent and not used counts as used."""
        fields, limits, now = self._read(account), account.limits, self._time.now()
        shown: list[LimitUse] = []
        for window, limit in Rule(limits).windows:
            width = window.length_ms // window.slots
            first = now // width - window.slots
            cells = sorted(
                (int(name[2:]), amount)
                for name, amount in fields.items()
                if name.startswith(window.code) and name[2:].isdigit() and amount > 0 and int(name[2:]) >= first
            )
            used = sum(amount for _, amount in cells)
            resets = max(LEAST_RETRY, ((cells[0][0] + window.slots + 1) * width - now) / 1000) if cells else 0.0
            shown.append(_use(window.limit, limit, used, resets))
        if limits.concurrency is not None:
            shown.append(_use("concurrency", limits.concurrency, fields.get("h1", 0), 0.0))
        kind = KINDS[limits.budget_period]
        for name, budget, each, held in (
            ("hard_budget", limits.hard_budget, kind, "h2"),
            ("soft_budget", limits.soft_budget, kind, "h3"),
            ("monthly_cap", limits.monthly_cap, MONTH, "h2"),
        ):
            if budget is not None:
                ends = self._time.period(each).end_ns
                resets = 0.0 if each == TOTAL else max(0.0, (ends - self._time.wall_ns()) / 1e9)
                shown.append(_use(name, budget, self._account(fields, each) + fields.get(held, 0), resets))
        return tuple(shown)

    def end_users(self, slot: int) -> None:
        """See `port.Books`: nobody counts them here, there is no table that fills."""

    def flush(self) -> None:
        """Nothing is kept here."""

    def close(self) -> None:
        """Let go."""
        self._redis.close()

    def _account(self, fields: Fields, kind: int) -> int:
        if fields.get(f"n{kind}", 0) < self._time.period(kind).number:
            return 0
        return fields.get(f"b{kind}", 0) + fields.get(f"c{kind}", 0)

    def _read(self, account: Account) -> Fields:
        self._hear()
        scope = self._names.scope(account)
        raw = self._try(lambda: self._redis.hgetall(scope))
        fields = {name.decode(): int(float(value)) for name, value in raw.items()}
        if any(fields.get(f"h{pool}", 0) for pool in (1, 2, 3)):
            fields |= self._held(scope)
        return fields

    def _held(self, scope: str) -> Fields:
        """What living workers hold: a dead one's part stands in the sums until somebody uses the scope again."""

        def ask() -> Any:
            pipe = self._redis.pipeline(transaction=False)
            pipe.hgetall(self._names.holders(scope))
            pipe.hgetall(self._names.alive)
            return pipe.execute()

        holders, beats = self._try(ask)
        since = self._time.now() - DEAD_MS
        living = [
            msgspec.msgpack.decode(held, type=list[float])
            for holder, held in holders.items()
            if holder in beats and float(beats[holder]) >= since
        ]
        return {f"h{pool}": int(sum(held[3 + pool] for held in living)) for pool in (1, 2, 3)}

    def _write(self, what: str, account: Account, amounts: list[list[int]]) -> None:
        if not amounts:
            return
        text, sha = script("books")
        argument = encode([what, KEPT_MS, amounts])

        def run() -> None:
            try:
                self._redis.evalsha(sha, 1, self._names.scope(account), argument)
            except redis.exceptions.NoScriptError:
                self._redis.eval(text, 1, self._names.scope(account), argument)

        self._try(run)

    def _hear(self) -> None:
        """House time, as the lease script reckons it; read only."""
        mono = self._clock.mono_ns()
        if mono - self._heard_ns < HEARD_NS:
            return

        def ask() -> Any:
            pipe = self._redis.pipeline(transaction=False)
            pipe.time()
            pipe.hmget(self._names.house, ["last", "off", "drift"])
            return pipe.execute()

        (seconds, micros), (last, off, drift) = self._try(ask)
        wall = seconds * 1000 + micros // 1000
        self._heard_ns = mono
        if last is None:
            self._time.hear(wall, 0)
            return
        now, estimate = max(int(float(last)), wall + int(float(off))), self._time.estimate()
        if estimate and abs(wall + int(float(off)) - estimate) > STEP_MS:
            now = max(int(float(last)), estimate)
        self._time.hear(now, int(float(drift)))

    def _try(self, act: Callable[[], Any]) -> Any:
        now = self._clock.mono_ns()
        if now - self._away_ns < AWAY_NS:
            raise CountersUnavailable(UNREACHED, retry_after=1.0)
        try:
            return act()
        except (RedisError, OSError) as error:
            self._away_ns = self._clock.mono_ns()
            raise CountersUnavailable(f"{UNREACHED}: {said(error)}", retry_after=1.0) from None


def _use(name: Any, limit: int, used: int, resets: float) -> LimitUse:
    return LimitUse(name, limit, used, max(0, limit - used), resets)
