# SPDX-License-Identifier: Apache-2.0
"""Puts a backup where it can be served again, and looks into one without serving it.

In: an archive, an empty directory. Out: a data directory as it was when the backup was begun, which the release that made
it can serve; keys that have been revoked since revoked again, where that is known. Nobody else uses the directory.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, select, update

from beffroi.control import archive, events, ledger
from beffroi.control.archive import Manifest, NotWhole, Told
from beffroi.control.stage import JOURNAL, LEDGER
from beffroi.control.verify import Report
from beffroi.core.layout import FORMAT, FORMAT_FILE, RESTORING
from beffroi.core.locks import is_held
from beffroi.core.snapshot import KeyRecord
from beffroi.core.state import load_keys
from beffroi.store.copy import faults
from beffroi.store.engine import knows, open_engine, upgrade
from beffroi.store.files import replace_file
from beffroi.store.tables import keys

_NOT_OURS = ("lost+found",)  # at the top of a volume of its own


class NotEmpty(Exception):
    """There is something where the backup should go; the text says what to do."""


class Key(msgspec.Struct, frozen=True):
    """A key that the restored directory honours."""

    id: str
    public: str
    name: str
    created_at: int


class Restored(msgspec.Struct, frozen=True):
    """What was put there.

    Attributes:
        active: keys that are honoured from the next start on; revoked: those that were revoked again on the way.
    """

    directory: str
    manifest: Manifest
    active: list[Key]
    revoked: list[Key]


def restore(source: Path, directory: Path, *, revoked_in: tuple[Path, ...] = (), told: Told | None = None) -> Restored:
    """Write the files of an archive to `directory`, check them, revoke.

    Args:
        revoked_in: data directories that were served since; what is revoked in them is revoked here too, and what was
            made to end earlier, as a rotation does, ends then.

    Raises:
        NotEmpty: the directory holds something, or is in use.
        NotWhole: the archive does not hold, or a newer release made it. The directory is left empty.
        Damaged, OSError: a directory of `revoked_in` has no readable key table. The directory is left empty.
    """
    known = [key for other in revoked_in for key in load_keys(other).keys]
    with _taken(directory):
        replace_file(directory / FORMAT_FILE, f"{RESTORING}\n".encode())
        staged = directory / "restoring"
        staged.mkdir(mode=0o700)
        manifest = archive.read(source, staged, told)
        _require_known(manifest, staged)
        again, active = _revoke(staged, known)
        for path in sorted(staged.iterdir()):
            if path.name not in (FORMAT_FILE, archive.MANIFEST):
                path.rename(directory / path.name)
        replace_file(directory / FORMAT_FILE, (staged / FORMAT_FILE).read_bytes())  # from here on it can be served
        shutil.rmtree(staged)
    return Restored(str(directory), manifest, active, again)


def look(source: Path, told: Told | None = None) -> tuple[Manifest, Report]:
    """Unpack an archive into a temporary folder, check ledger and journal there, remove it.

    An archive of an earlier release is brought to this one first, in the temporary folder: its migration is tried as well.

    Raises:
        NotWhole: something does not hold.
    """
    with tempfile.TemporaryDirectory(prefix="beffroi-verify-") as name:
        folder = Path(name)
        manifest = archive.read(source, folder, told)
        _require_known(manifest, folder)
        engine = open_engine(folder / LEDGER)
        try:
            # This copy alone, which goes afterwards: an earlier release's tables lack what is asked for.
            upgrade(engine)
            return manifest, ledger.verify(engine, folder / JOURNAL)
        finally:
            engine.dispose()


def _require_known(manifest: Manifest, folder: Path) -> None:
    wrong = faults(folder / LEDGER)
    if wrong:
        raise NotWhole(f"the ledger in it does not hold: {'; '.join(wrong)}")
    if manifest.format > FORMAT or not knows(manifest.revision):
        raise NotWhole(
            f"Beffroi {manifest.made_by} made it, which is newer than this release (format {manifest.format}, ledger "
            f"revision {manifest.revision}); use that release"
        )


@contextmanager
def _taken(directory: Path) -> Iterator[None]:
    """An empty directory that nobody else can begin to use; left as empty as it was if anything fails."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = sorted(name for name in os.listdir(directory) if name not in _NOT_OURS)
    if held:
        if is_held(directory / "lock"):
            raise NotEmpty(f"Beffroi is running on {directory}: stop it, or restore into another directory")
        raise NotEmpty(
            f"{directory} is not empty (it holds {', '.join(held[:3])}{', …' if held[3:] else ''}): "
            "restore into a new directory, or move what is there away"
        )
    directory.chmod(0o700)
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BaseException:
        for name in os.listdir(directory):
            if name not in _NOT_OURS:
                path = directory / name
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
    finally:
        os.close(lock)


def _revoke(data: Path, known: list[KeyRecord]) -> tuple[list[Key], list[Key]]:
    """Revoke what is revoked among `known`, end what ends earlier there; those revoked, and those that stay active."""
    engine = open_engine(data / LEDGER)
    now = int(time.time())
    gone = {key.id for key in known if key.revoked}
    ends = {key.id: key.expires_at for key in known if key.expires_at is not None}
    columns = (keys.c.id, keys.c.public, keys.c.name, keys.c.created_at, keys.c.expires_at)
    try:
        with engine.begin() as connection:
            rows = connection.execute(select(*columns).where(keys.c.revoked.is_(False)).order_by(keys.c.slot)).all()
            again, active = [], []
            for row in rows:
                key, end = Key(*row[:4]), row.expires_at
                if key.id in gone:
                    again.append(key)
                    _change(connection, key.id, "cli:key:revoke", {"revoked": True, "revoked_at": now})
                    continue
                if key.id in ends and (end is None or ends[key.id] < end):
                    end = ends[key.id]
                    _change(connection, key.id, "cli:key:end", {"expires_at": end})
                if end is None or end > now:
                    active.append(key)
        return again, active
    finally:
        engine.dispose()


def _change(connection: Connection, key_id: str, action: str, values: dict[str, Any]) -> None:
    statement = update(keys).where(keys.c.id == key_id).values(values).returning(keys.c.organisation, keys.c.project)
    row = connection.execute(statement).one()
    events.record(
        connection,
        actor="cli",
        action=action,
        subject=key_id,
        after=values,
        organisation=row.organisation,
        project=row.project,
        tell=False,
    )
