# SPDX-License-Identifier: Apache-2.0
"""The port of the counters: what the flow and control ask of whatever keeps them (a mapped file, Valkey).

In: nothing. Out: `Counters` for a worker, `Books` for control. `tests/contract/test_counters.py` is one suite for all.

Everything here is called on the loop's thread and returns at once. A backend that must wait for somebody raises `Busy`,
does what it must in the background, and is asked again every millisecond; after 20 ms it is asked `reserve_alone`.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from beffroi.core.snapshot import KeyDelta, KeyRecord, QuotaRecord
from beffroi.gateway.quota.scopes import Account
from beffroi.gateway.quota.terms import Ask, LimitUse, Spent, Used


class Needs(NamedTuple):
    """What must be known of a request before it can be asked for.

    Attributes:
        hard: a hard budget or a monthly cap is among its limits: the ask has a `bound`, the request a `max_tokens`.
        soft: a soft budget is: the ask has an `estimate`.
    """

    hard: bool
    soft: bool


class Held(Protocol):
    """What one admitted request holds until it is settled; its backend's own. The properties are for the headers."""

    @property
    def requests_limit(self) -> int | None:
        """The tightest limit on requests; None: there is none, and the headers say nothing."""
        ...

    @property
    def requests_remaining(self) -> int:
        """What that limit still has room for after this request."""
        ...

    @property
    def requests_reset(self) -> int:
        """Seconds until it is whole again if nothing more is sent."""
        ...


class Counters(Protocol):
    """The counters of one worker.

    A request counts under its key and under every quota that matches key, model and end user; `end_user` is the request's
    `user`, None where it has none: those without one count as one end user.
    """

    def know(self, quotas: Iterable[QuotaRecord]) -> None:
        """All the quotas there are: at the start, and when the key table was loaded anew."""
        ...

    def learn(self, delta: KeyDelta) -> None:
        """What has changed of quotas."""
        ...

    def needs(self, key: KeyRecord, model: str) -> Needs:
        """What an ask for this key and this model must say."""
        ...

    def reserve(self, key: KeyRecord, model: str, end_user: str | None, ask: Ask) -> Held:
        """Admit a request under every limit it counts in, or under none.

        Raises:
            LimitExceeded, BudgetExceeded: the error names the scope, the limit, what is left, and when it returns: of
                several that refuse, the one that takes longest.
            Busy: not now; ask again.
            CountersUnavailable: they cannot be used.
        """
        ...

    def reserve_alone(self, key: KeyRecord, model: str, end_user: str | None, ask: Ask) -> Held:
        """The failure matrix, for a request that met `Busy` for 20 ms: this worker decides with its own share.

        Raises:
            CountersUnavailable: one of its limits is on money that must not be passed.
            LimitExceeded: this worker's share is used up.
        """
        ...

    def move(self, ticket: Any, key: KeyRecord, model: str, end_user: str | None, ask: Ask) -> Held:
        """Go on with another model (a fallback): what only the new one counts in is reserved.

        What only the old one counted in is settled as used for nothing. Returns the ticket to go on with; after an error
        the old one still holds all it held.

        Raises:
            As `reserve`.
        """
        ...

    def settle(self, ticket: Any, used: Used) -> None:
        """Put what was used in the place of what was held. Never raises; a ticket already settled is left alone."""
        ...

    def gather(self) -> Callable[[], None]:
        """From now on settlements may be written together; the caller calls what this returns at the end of each turn."""
        ...

    def pay(self) -> int:
        """Upkeep, a few times a second: write what had to be kept back; how much still waits."""
        ...

    def close(self) -> None:
        """Write what is owed and let go."""
        ...


class Books(Protocol):
    """The counters as control uses them. An account of an end user is one of `Account.end_user`."""

    def charge(self, account: Account, nano: int, *, at_ns: int | None = None) -> None:
        """Add a cost that no ticket covers (an orphan billed after a crash) to what is spent.

        Args:
            at_ns: Unix nanoseconds of the request; one before a period began changes nothing of that period.

        Raises:
            Busy: charge again later.
        """
        ...

    def restore(self, account: Account, nano: int, month_nano: int) -> None:
        """Raise what is spent in the current budget period, and in the calendar month, to the ledger's sums.

        Raises:
            Busy: as `charge`.
        """
        ...

    def clear(self, slot: int) -> None:
        """Make a slot as new, before it is given to a key or a quota for the first time.

        Raises:
            Busy: as `charge`.
        """
        ...

    def spent(self, account: Account) -> Spent:
        """The money of an account in its current period."""
        ...

    def usage(self, account: Account) -> tuple[LimitUse, ...]:
        """Every limit of an account, as it stands now."""
        ...

    def end_users(self, slot: int) -> int | None:
        """How many end users of a quota have counters of their own now; None: nobody counts them."""
        ...

    def flush(self) -> None:
        """Bring to the disk what is kept on this machine; may block."""
        ...

    def close(self) -> None:
        """Let go."""
        ...
