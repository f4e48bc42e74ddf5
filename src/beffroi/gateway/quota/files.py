# SPDX-License-Identifier: Apache-2.0
"""The counters files of one process: that of keys and quotas, and, once a quota counts end users apart, theirs.

In: a path. Out: grounds, one time line for both, and where an account's counters lie.
"""

from pathlib import Path

from beffroi.core.clock import Clock
from beffroi.gateway.quota import layout
from beffroi.gateway.quota.calendar import Calendar
from beffroi.gateway.quota.end_users import EndUsers
from beffroi.gateway.quota.ground import Ground
from beffroi.gateway.quota.memory import CounterFile, boot_identity
from beffroi.gateway.quota.scopes import Account
from beffroi.gateway.quota.timebase import Timebase

END_USERS = "end-users.bin"


class Files:
    """Both files; the second is opened when it is needed.

    Args:
        path: of the first; the second lies beside it.
        worker: below 0: this process admits nothing.
        boot: identity of this boot of the machine; None: the system's.

    Raises:
        CountersUnavailable: a file cannot be used.
    """

    def __init__(self, path: Path, worker: int, clock: Clock, zone: str, boot: tuple[int, int] | None) -> None:
        calendar = Calendar(zone)
        self._clock = clock
        self._boot = boot_identity() if boot is None else boot
        self._worker = worker
        file = CounterFile(path, clock, self._boot)
        self.time = Timebase(file.header, clock, calendar)
        self.keys = Ground(file, self.time, worker)
        self.users_path = path.with_name(END_USERS)
        self.users: Ground | None = None
        self._places: EndUsers | None = None
        self._mark(file)

    def places(self) -> EndUsers:
        """The places of end users; their file is made if it is not there."""
        if self._places is None:
            file = CounterFile(self.users_path, self._clock, self._boot, directory=True)
            self._mark(file)
            self.users = Ground(file, self.time, self._worker)
            self._places = EndUsers(self.users)
        return self._places

    def known_places(self) -> EndUsers | None:
        """As `places`; None where no end user was ever counted apart."""
        return self.places() if self._places is not None or self.users_path.exists() else None

    def grounds(self) -> tuple[Ground, ...]:
        """Those that are open."""
        return (self.keys,) if self.users is None else (self.keys, self.users)

    def region(self, account: Account) -> tuple[Ground, int | None]:
        """Where an account's counters lie: the ground, and the region, if there is one yet."""
        if account.end_user is not None:
            places = self.known_places()
            found = None if places is None else places.find(account.slot, account.end_user)
            if found is not None and self.users is not None:
                return self.users, self.users.known(found[0])
        return self.keys, self.keys.known(account.slot)

    def own_region(self, account: Account) -> tuple[Ground, int | None]:
        """As `region`, but nothing for an end user without a place of its own."""
        ground, base = self.region(account)
        return ground, None if account.end_user is not None and ground is self.keys else base

    def close(self) -> None:
        """Write what is owed and unmap."""
        for ground in self.grounds():
            ground.close()

    def _mark(self, file: CounterFile) -> None:
        if self._worker >= 0:
            file.header[layout.SEEN + self._worker] = 1
