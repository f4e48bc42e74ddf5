# SPDX-License-Identifier: Apache-2.0
"""How often one address may call the control port, and how often it may be wrong about a key.

In: an address, a moment. Out: nothing, or a refusal that says when to come back. Bounded memory: what was seen longest ago
is forgotten first. An IPv6 address stands for its /64, which one customer of a provider has.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from beffroi.core.errors import LimitExceeded

CALLS = 25  # a second, and at once
WRONG = 5  # keys a second that are not known, and at once
KEPT = 10_000  # addresses


class Buckets:
    """A token bucket per address: `rate` a second, `rate` at once."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._seen: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address → tokens left, as of when

    def __len__(self) -> int:
        return len(self._seen)

    def take(self, address: str) -> float:
        """Take one; 0, or the seconds after which there is one."""
        left = self.left(address)
        if left < 1:
            return (1 - left) / self._rate
        self._seen[address] = (left - 1, self._clock())
        self._seen.move_to_end(address)
        if len(self._seen) > KEPT:
            self._seen.popitem(last=False)
        return 0.0

    def wait(self, address: str) -> float:
        """As `take`, without taking."""
        left = self.left(address)
        return 0.0 if left >= 1 else (1 - left) / self._rate

    def left(self, address: str) -> float:
        """What an address has now."""
        tokens, at = self._seen.get(address, (float(self._rate), 0.0))
        return min(float(self._rate), tokens + (self._clock() - at) * self._rate)


class Limits:
    """Both limits of the control port."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls = Buckets(CALLS, clock)
        self._wrong = Buckets(WRONG, clock)

    def call(self, address: str) -> None:
        """One call.

        Raises:
            LimitExceeded: too many, or too many wrong keys before: a good one is not looked at either, then.
        """
        address = together(address)
        if wait := self._calls.take(address):
            raise LimitExceeded(
                f"an address may call {CALLS} times a second here; come back in a second",
                limit="calls",
                retry_after=wait,
            )
        if wait := self._wrong.wait(address):
            raise LimitExceeded(
                f"too many keys that are not known came from this address ({WRONG} a second are looked at); "
                "come back in a second",
                limit="authentication",
                retry_after=wait,
            )

    def wrong(self, address: str) -> None:
        """A key from there was not good."""
        self._wrong.take(together(address))


def together(address: str) -> str:
    """The name under which an address is counted."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
