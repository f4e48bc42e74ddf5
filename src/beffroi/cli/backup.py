# SPDX-License-Identifier: Apache-2.0
"""`beffroi backup`: all that lasts of a data directory as one file, while it is served; and back.

In: a data directory, or an archive. Out: an archive (0600), a report, or a data directory. What is heavy is imported where
it is used: the database's library takes half a second to load, which every other command is spared.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec

from beffroi.cli import show
from beffroi.cli.client import Absent, Failure, call
from beffroi.cli.data import data_directory, data_option
from beffroi.cli.progress import bar
from beffroi.core.layout import belongs_to

_PAGE = "/api/v1/backup"
_POLL = 0.1
_OUT = "-"


@click.group()
def backup() -> None:
    """Make, check and restore backups."""


@backup.command()
@click.argument("archive", required=False)
@data_option
@show.output_options(csv=False)
def create(archive: str | None, data: Path | None, out: show.Output) -> None:
    """Write ARCHIVE, while requests are served. It has all that lasts of the data directory.

    Everything that was answered before is in it. Without ARCHIVE: beffroi-DATE-TIME.tar.gz here; with `-`: to standard
    output, for a program that encrypts. The archive holds secrets: the hashes of keys, the peppers they are made with,
    the keys of your engines.
    """
    directory, quiet = data_directory(data), out.kind == "json"
    if archive == _OUT and sys.stdout.isatty():
        raise click.UsageError(
            "an archive is no text for a terminal; write `beffroi backup create - | age -r … > FILE`"
        )
    begun = time.monotonic()
    os.nice(10)  # summing and compressing may wait, requests may not
    target = Path(f"beffroi-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz" if archive is None else archive)
    with _copied(directory, quiet) as copied:
        if archive == _OUT:
            manifest = _pack(copied, sys.stdout.buffer, quiet)
            sys.stdout.buffer.flush()
            size = 0
        else:
            manifest = _pack_into(copied, target, quiet)
            size = target.stat().st_size
    found = {
        "archive": None if archive == _OUT else str(target.absolute()),
        "bytes": size or None,
        "began_at": manifest.began_at,
        "files": len(manifest.files),
        "bytes_unpacked": sum(held.bytes for held in manifest.files.values()),
        "seconds": round(time.monotonic() - begun, 3),
    }
    if quiet:
        click.echo(json.dumps(found, indent=2), err=archive == _OUT)
        return
    what = "standard output" if archive == _OUT else f"{target} ({_size(size)})"
    click.echo(
        f"Wrote {what}: {found['files']} files, {_size(found['bytes_unpacked'])} unpacked, all that was answered before "
        f"{_moment(manifest.began_at)}. {found['seconds']:.1f} s.\n"
        "It holds secrets (hashes of keys, peppers, keys of engines): keep it as safe as the data directory.",
        err=archive == _OUT,
    )


@backup.command()
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--quick", is_flag=True, help="Checksums only: unpack nothing, do not look into the ledger.")
@show.output_options(csv=False)
def verify(archive: Path, quick: bool, out: show.Output) -> None:
    """Check ARCHIVE without any Beffroi running. Every checksum, the ledger's database, journal against ledger.

    Unpacks it into a folder of $TMPDIR (else /tmp) that only this user can read, and removes that.
    """
    from beffroi.control import archive as form  # noqa: PLC0415
    from beffroi.control import restore as service  # noqa: PLC0415

    findings: list[str] = []
    counts: dict[str, Any] = {}
    manifest = None
    try:
        with bar("Reading", archive.stat().st_size, quiet=out.kind == "json") as shown:
            if quick:
                manifest = form.read(archive, told=shown.add)
            else:
                manifest, report = service.look(archive, shown.add)
                findings, counts = report.findings, {"exchanges": report.exchanges, "unshipped": report.unshipped}
    except form.NotWhole as error:
        findings = [str(error)]
    except OSError as error:
        raise Failure(f"{archive} cannot be read: {error.strerror or error}") from None
    found = {"ok": not findings, "findings": findings, **counts}
    if manifest is not None:
        found |= {
            "made_by": manifest.made_by,
            "began_at": manifest.began_at,
            "format": manifest.format,
            "revision": manifest.revision,
            "files": len(manifest.files),
        }
    if out.kind == "json":
        show.as_json(found)
    else:
        _print(archive, found, quick)
    sys.exit(0 if found["ok"] else 1)


def _print(archive: Path, found: dict[str, Any], quick: bool) -> None:
    for finding in found["findings"]:
        click.echo(f"- {finding}")
    if not found["ok"]:
        click.echo(f"{archive} does not hold: do not count on it.")
        return
    held = "" if quick else f", {found['exchanges']} exchanges in the ledger, {found['unshipped']} records beside it"
    click.echo(
        f"{archive} is whole: {found['files']} files{held}. Made by Beffroi {found['made_by']}; it has all that was answered "
        f"before {_moment(found['began_at'])}."
    )


@backup.command()
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--revoked-in",
    "revoked_in",
    metavar="DIRECTORY",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A data directory that was served since: what is revoked there is revoked here too.",
)
@data_option
@show.output_options(csv=False)
def restore(archive: Path, revoked_in: tuple[Path, ...], data: Path | None, out: show.Output) -> None:
    """Put ARCHIVE into a data directory. It must be empty or not there.

    What was served, made or revoked after the backup began is not in it: keys revoked since work again, unless
    --revoked-in names a directory that knows of them. Those that work are listed.
    """
    from beffroi.control import restore as service  # noqa: PLC0415
    from beffroi.control.archive import NotWhole  # noqa: PLC0415
    from beffroi.core.snapshot import Damaged  # noqa: PLC0415

    directory = data_directory(data)
    try:
        with bar("Restoring", archive.stat().st_size, quiet=out.kind == "json") as shown:
            done = service.restore(archive, directory, revoked_in=revoked_in, told=shown.add)
    except NotWhole as error:
        raise Failure(f"{archive} was not restored: {error}") from None
    except service.NotEmpty as error:
        raise Failure(str(error)) from None
    except (OSError, Damaged) as error:
        raise Failure(f"{archive} was not restored: {error}") from None
    if out.kind == "json":
        show.as_json(msgspec.to_builtins(done))
        return
    click.echo(f"Restored {directory}, as it was at {_moment(done.manifest.began_at)}. Nothing runs on it yet.")
    for key in done.revoked:
        click.echo(f"revoked again: {key.id}  bf-{key.public}-…  {show.safe(key.name)}")
    click.echo("These keys work from the next start on. Revoke again what was revoked since the backup:")
    columns = [show.Column("ID"), show.Column("KEY"), show.Column("MADE"), show.Column("NAME", shrinks=True)]
    rows = [(key.id, f"bf-{key.public}-…", show.day(key.created_at), key.name) for key in done.active]
    out.table(columns, rows, document=None)


# --- making one -----------------------------------------------------------------------------------------------------


class _Copied(msgspec.Struct):
    folder: Path
    began_ns: int
    revision: str


@contextmanager
def _copied(directory: Path, quiet: bool) -> Iterator[_Copied]:
    """The copy of the data directory, made by the control process, or here while nothing runs; removed at the end."""
    try:
        state = call(directory, "POST", _PAGE, repeatable=False, patience=0.0)
    except Absent as absent:
        with _unused(directory, absent) as copied:
            if copied is not None:
                yield copied
                return
        state = call(directory, "POST", _PAGE, repeatable=False)  # it runs: control is being restarted
    state = _await(directory, state, quiet)
    from beffroi.control.backups import reading  # noqa: PLC0415

    try:
        with reading(Path(state["folder"])):
            yield _Copied(Path(state["folder"]), state["began_ns"], state["revision"])
    except FileNotFoundError as error:
        raise Failure(f"the copy that was being packed is gone ({error.filename}); make the backup again") from None
    finally:
        with suppress(Failure):  # a control process that was replaced meanwhile has removed it
            call(directory, "DELETE", _PAGE)


def _await(directory: Path, state: dict[str, Any], quiet: bool) -> dict[str, Any]:
    job = state["id"]
    with bar("Copying the ledger", None, quiet=quiet) as shown:
        while state["state"] == "copying":
            time.sleep(_POLL)
            state = call(directory, "GET", _PAGE)
            shown.set(state.get("done", 0), state.get("total", 0))
    if state.get("id") != job:
        raise Failure("the control process was restarted while it made the copy; make the backup again")
    if state["state"] != "ready":
        raise Failure(f"the backup could not be made: {state['reason']}")
    return state


@contextmanager
def _unused(directory: Path, absent: Absent) -> Iterator[_Copied | None]:
    """A copy made here, under the directory's lock; None: somebody runs on it."""
    from beffroi.control import stage  # noqa: PLC0415
    from beffroi.control.backups import SHARED  # noqa: PLC0415
    from beffroi.store.copy import NotSound  # noqa: PLC0415
    from beffroi.store.engine import current, open_engine  # noqa: PLC0415
    from beffroi.supervisor.directory import DataDirectory, InUse  # noqa: PLC0415
    from beffroi.supervisor.errors import StartError  # noqa: PLC0415

    if belongs_to(directory) is not None:
        raise Failure(SHARED)
    if not (directory / stage.LEDGER).is_file():
        raise absent
    try:
        with DataDirectory(directory):
            engine = open_engine(directory / stage.LEDGER, read_only=True)
            revision = current(engine) or ""
            engine.dispose()
            moment = stage.Moment(directory)
            try:
                yield _Copied(moment.write(), moment.began_ns, revision)
            finally:
                moment.close()
                stage.discard(directory)
    except InUse:
        yield None
    except (StartError, NotSound, stage.NoSpace) as error:
        raise Failure(str(error)) from None


def _pack_into(copied: _Copied, target: Path, quiet: bool) -> Any:
    """Write the archive beside its place, sync it, read it back, put it there."""
    from beffroi.control import archive as form  # noqa: PLC0415

    if target.exists():
        raise Failure(f"{target} is there already; name another file")
    partial = target.with_name(f".{target.name}.partial")
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as out:
                manifest = _pack(copied, out, quiet)
                out.flush()
                os.fsync(out.fileno())
            form.read(partial)
            partial.rename(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except FileNotFoundError as error:
        if error.filename and str(copied.folder) in str(error.filename):
            raise
        raise Failure(f"{target} cannot be written: there is no such folder") from None
    except (OSError, form.NotWhole) as error:
        raise Failure(f"{target} cannot be written: {error}") from None
    return manifest


def _pack(copied: _Copied, out: BinaryIO, quiet: bool) -> Any:
    from beffroi.control import archive as form  # noqa: PLC0415

    with bar("Packing", form.size_of(copied.folder), quiet=quiet) as shown:
        return form.write(copied.folder, out, revision=copied.revision, began_ns=copied.began_ns, told=shown.add)


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count / 1024:.0f} KiB"


def _moment(iso: str) -> str:
    return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M:%S UTC")
