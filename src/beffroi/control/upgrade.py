# SPDX-License-Identifier: Apache-2.0
"""Brings a data directory to this release: nothing is changed before all that is in it lies in a backup.

In: a data directory whose lock the supervisor holds, its database. Out: the schema of this release, `format` and `version`
raised, an event that names the backup; or a refusal that says what to do, and leaves the ledger as it was.
"""

import re
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from beffroi import __version__
from beffroi.control import archive, stage
from beffroi.control.events import record as record_event
from beffroi.control.stage import Moment
from beffroi.core.layout import BACKUPS, FORMAT, FORMAT_FILE, VERSION_FILE, too_new, written_by
from beffroi.store.engine import HEAD, current, knows, lowest, upgrade
from beffroi.store.files import replace_file
from beffroi.telemetry import logs

log = logs.Logger("control.upgrade")
_KEPT = 3  # of the backups that upgrades make
_NAME = re.compile(r"before-.*\.tar\.gz")


class Refused(Exception):
    """This release cannot use the data directory; the text is for the person who starts it."""


def bring_up(data: Path, engine: Engine) -> None:
    """Migrate if need be.

    Raises:
        Refused: a newer release wrote it, or a step failed.
        OSError, NotSound: the backup could not be made; nothing was changed.
    """
    found, before = current(engine), written_by(data)
    if found is not None and not knows(found):
        raise Refused(too_new(data, f"ledger revision {found}", f"revision {HEAD}"))
    if found is None:
        upgrade(engine)
    elif found != HEAD:
        made = _back_up(data, found)
        log.info("migrating the ledger", before=found, after=HEAD, backup=str(made))
        with _Guarded(engine, found, made):
            upgrade(engine)
            _note(engine, {"release": before, "revision": found}, made)
    _raise_to(data / FORMAT_FILE, FORMAT)
    if before != __version__:
        replace_file(data / VERSION_FILE, f"{__version__}\n".encode())


def bring_up_shared(data: Path, engine: Engine) -> None:
    """Migrate the database of a fleet if need be; of several that start at once, one does.

    Releases overlap while machines are upgraded one by one: a newer one has migrated, and this one serves on beside it as
    long as what it needs is still there (`floor`). No backup is made here: pg_dump makes one, and the fleet serves on.

    Raises:
        Refused: the release is too old for the database, or a step failed, which leaves all as it was.
        SQLAlchemyError: the database is away.
    """
    found = current(engine)
    if found is not None and not knows(found) and (floor := lowest(engine)) > int(HEAD):
        raise Refused(
            f"The database was migrated by a newer Beffroi (ledger revision {found}) that leaves nothing to releases below "
            f"revision {floor:04d}; this is Beffroi {__version__}, which knows {HEAD}. Install the newer release here too."
        )
    if found is None or knows(found):
        try:
            upgrade(engine)
        except (InterfaceError, OperationalError):
            raise  # it went away, or a table stayed in use: the next try
        except (SQLAlchemyError, ArithmeticError, LookupError, ValueError) as error:
            log.error("migrating the database failed", exc_info=error)
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise Refused(
                f"The database could not be brought from revision {found} to {HEAD}: {why}\nIt was left as it was, and the "
                "machines that run the release before serve on. Go on with that release."
            ) from error
        if found not in (None, HEAD):
            log.info("the database was migrated", before=found, after=HEAD)
    _raise_to(data / FORMAT_FILE, FORMAT)
    if written_by(data) != __version__:
        replace_file(data / VERSION_FILE, f"{__version__}\n".encode())


def _back_up(data: Path, revision: str) -> Path:
    folder = data / BACKUPS
    folder.mkdir(mode=0o700, exist_ok=True)
    for left in folder.glob("*.new"):  # of one that did not get to its end
        left.unlink()
    made = folder / f"before-{__version__}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.tar.gz"
    log.info("making a backup before the ledger is migrated", archive=str(made))
    moment = Moment(data)
    try:
        staged = moment.write()
        partial = made.with_name(made.name + ".new")
        with partial.open("wb") as out:
            archive.write(staged, out, revision=revision, began_ns=moment.began_ns)
        archive.read(partial)  # one that cannot be read is none
        partial.rename(made)
    finally:
        moment.close()
        stage.discard(data)
    older = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    for path in older[:-_KEPT]:
        path.unlink()
    return made


def _note(engine: Engine, before: dict[str, Any], made: Path) -> None:
    after = {"release": __version__, "revision": HEAD, "backup": f"{BACKUPS}/{made.name}"}
    with engine.begin() as connection:
        record_event(
            connection, actor="control", action="control:data:upgrade", subject=HEAD, before=before, after=after
        )


def _raise_to(file: Path, number: int) -> None:
    try:
        known = int(file.read_text("ascii"))
    except (OSError, ValueError):  # a control process started by hand: the supervisor has looked at it already
        known = 0
    if known < number:
        replace_file(file, f"{number}\n".encode())


class _Guarded:
    """Turns whatever a migration fails with into what the person at the terminal must know."""

    def __init__(self, engine: Engine, before: str, made: Path) -> None:
        self._engine, self._before, self._made = engine, before, made

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception):
            return
        log.error("migrating the ledger failed", exc_info=error)
        whole = current(self._engine) == self._before
        state = "The ledger was left as it was." if whole else "The ledger may be between the two: do not serve it."
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise Refused(
            f"The ledger could not be brought from revision {self._before} to {HEAD}: {why}\n{state} "
            f"All that was there before is in {self._made}.\n"
            + ("To go on, start the release that served it before on this directory again.\n" if whole else "")
            + "To go back by the backup:\n"
            f"  beffroi backup restore {self._made} --data NEW_DIRECTORY\n"
            'and serve NEW_DIRECTORY with the release before. The page "Upgrade" (docs/how-to/upgrade.md) has the steps.'
        ) from error
