# SPDX-License-Identifier: Apache-2.0
"""How long a child that died waits for its next start: not at all the first time, then ever longer.

In: how long it lived. Out: seconds to wait.
"""

HEALTHY = 60.0
LONGEST = 5.0
_FIRST = 0.1


class Backoff:
    """The waits of one child: 0, then 0.1 s doubling up to 5 s; a minute of health begins again at 0."""

    def __init__(self) -> None:
        self._next = 0.0

    def after(self, lived: float) -> float:
        """Seconds to wait before the start that follows a life of `lived` seconds."""
        if lived >= HEALTHY:
            self._next = 0.0
        wait = self._next
        self._next = min(LONGEST, wait * 2 or _FIRST)
        return wait
