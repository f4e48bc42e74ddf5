# SPDX-License-Identifier: Apache-2.0
"""What runs, and what a start would meet: another Beffroi, ports that are taken, data of another release, settings.

In: a `Scene`. Out: findings.
"""

import contextlib
import errno
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beffroi.cli.client import Failure, call
from beffroi.cli.doctor.scene import OK, PROBLEM, WARNING, Finding, Scene, sentence
from beffroi.cli.settings import count
from beffroi.core.layout import FORMAT, FORMAT_FILE, RESTORING, written_by
from beffroi.supervisor.sockets import is_loopback

_LISTEN = "0A"  # state of a socket in /proc/net/tcp
_WAIT = 3.0


def configuration(scene: Scene) -> Iterator[Finding]:
    """Faults of the file and of the environment, or what stands in their place."""
    name = "configuration"
    for fault, remedy in scene.faults:
        yield Finding(name, PROBLEM, f"{fault}.", sentence(remedy))
    for note, remedy in scene.notes:
        yield Finding(name, WARNING, f"{note}.", sentence(remedy))
    if scene.faults or scene.notes:
        return
    config = scene.config
    what = "" if config is None else f"{count(len(config.models), 'model')} on {count(len(config.engines), 'engine')}"
    if scene.file is not None:
        yield Finding(name, OK, f"{scene.file} is sound{what and f': {what}'}.")
    elif config is not None:
        yield Finding(name, OK, f"As served last: {what}. Name a file with --config to have it examined.")
    else:
        yield Finding(name, OK, "There is no file: the defaults hold, and engines are looked for at the start.")


def version(scene: Scene) -> Iterator[Finding]:
    """Whether this release can open what is there."""
    name, file = "data version", scene.data / FORMAT_FILE
    try:
        text = file.read_text("ascii").strip()
    except FileNotFoundError:
        if scene.data.is_dir() and any(scene.data.iterdir()):
            yield Finding(
                name,
                WARNING,
                f"{scene.data} holds files, and none of Beffroi's.",
                "Choose an empty directory, or the right one.",
            )
        else:
            yield Finding(name, OK, "Nothing is there yet.")
        return
    except PermissionError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        yield Finding(name, PROBLEM, f"{file} cannot be read: {error}.", "Restore the data directory from a backup.")
        return
    newer = f"Install {written_by(scene.data) or 'the newer release'} again, or go back as the page Upgrade says: `beffroi backup restore`."
    if text == RESTORING:
        yield Finding(
            name, PROBLEM, f"A backup was being restored into {scene.data}, and part of it is missing.",
            "Empty the directory, and run `beffroi backup restore` again.",
        )  # fmt: skip
    elif not text.isdigit():
        yield Finding(
            name,
            PROBLEM,
            f"{file} holds {text[:40]!r} and no number.",
            "Restore it from a backup, or choose the right directory.",
        )
    elif int(text) > FORMAT:
        yield Finding(name, PROBLEM, f"A newer Beffroi wrote it: format {text}, and this one knows {FORMAT}.", newer)
    else:
        yield _judge_ledger(name, scene.data / "beffroi.db", text, newer)


def _judge_ledger(name: str, database: Path, layout: str, newer: str) -> Finding:
    if not database.is_file():
        return Finding(name, OK, f"Format {layout}; no ledger yet.")
    # Imported here: the database's library takes half a second to load.
    from sqlalchemy import text  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    from beffroi.store.engine import HEAD, knows, open_engine, reading  # noqa: PLC0415

    engine = open_engine(database, read_only=True)
    try:
        with reading(engine) as connection:
            found = str(connection.scalar(text("SELECT version_num FROM alembic_version")))
    except DBAPIError as error:
        return Finding(
            name, PROBLEM, f"The ledger {database} cannot be read: {error.orig}.",
            "Restore it from a backup; `beffroi journal verify` says more.",
        )  # fmt: skip
    finally:
        engine.dispose()
    if not knows(found):
        return Finding(
            name, PROBLEM, f"A newer Beffroi wrote the ledger: version {found}, and this one knows {HEAD}.", newer
        )
    more = "" if found == HEAD else f"; the next start takes it to {HEAD}"
    return Finding(name, OK, f"Format {layout}, ledger at {found}{more}.")


def another(scene: Scene) -> Iterator[Finding]:
    """The Beffroi on this data directory, and whether it is well."""
    name = "beffroi"
    if scene.data.is_dir() and not os.access(scene.data, os.R_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(scene.data))
    if not scene.supervisor:
        yield Finding(name, OK, f"None runs on {scene.data}: a start finds it free.")
        return
    who = f"process {scene.supervisor}" if scene.supervisor > 0 else "a process"
    try:
        parts = call(scene.data, "GET", "/readyz", patience=_WAIT)["parts"]
        status = call(scene.data, "GET", "/api/v1/status", patience=_WAIT)
    except Failure as failure:
        yield Finding(
            name, PROBLEM, f"One runs ({who}), and its control process does not answer: {failure.message}.",
            f"Look into its log; `kill {max(scene.supervisor, 0) or 'PID'}` stops it in order.",
        )  # fmt: skip
        return
    yield from judge_status(who, parts, status)


def judge_status(who: str, parts: dict[str, Any], status: dict[str, Any]) -> Iterator[Finding]:
    """`parts` of `/readyz` and `status`, as control answers them."""
    wrong = [f"{part}: {told['reason']}" for part, told in parts.items() if not told["ready"]]
    if status["config_refused"]:
        wrong.append(f"its configuration was refused: {status['config_refused']}")
    wrong += [f"worker {worker['worker']}: {worker['fault']}" for worker in status["workers"] if worker.get("fault")]
    if wrong:
        yield Finding(
            "beffroi",
            PROBLEM,
            f"One runs ({who}) and is not well: {'; '.join(wrong)}.",
            "Its log and the lines here say why.",
        )
    else:
        yield Finding(
            "beffroi",
            OK,
            f"One runs ({who}) with {count(len(status['workers']), 'worker')}, and all of it is ready.",
        )


def ports(scene: Scene) -> Iterator[Finding]:
    """Whether a start would get its ports; of a running one, that they are its own."""
    server = scene.server
    doors = [
        ("port", server.host, server.port, "--port"),
        ("control port", server.control_host, server.control_port, "--control-port"),
    ]
    for name, host, port, option in doors:
        yield judge_port(name, host, port, option, scene.supervisor)
    if not is_loopback(server.control_host):
        yield Finding(
            "control port",
            PROBLEM,
            f"It must stay on loopback, not on {server.control_host}.",
            "Leave server.control_host out.",
        )


def judge_port(name: str, host: str, port: int, option: str, supervisor: int) -> Finding:
    """Whether `host` and `port` can be bound, else who has them."""
    reason = bindable(host, port)
    if reason is None and supervisor and port:
        return Finding(name, OK, f"{port} on {host} is free: the Beffroi that runs listens elsewhere.")
    if reason is None:
        return Finding(name, OK, f"{port} on {host} is free." if port else f"The start takes any free one on {host}.")
    if "in use" not in reason:
        return Finding(
            name,
            PROBLEM,
            f"Nobody can listen on {host}, port {port}: {reason}.",
            "Set an address that is this machine's, and a port above 1023.",
        )
    pid, who = holder(port)
    if pid and supervisor > 0 and pid in family(supervisor):
        return Finding(name, OK, f"{port} on {host} is this Beffroi's own.")
    return Finding(
        name, PROBLEM, f"{port} on {host} is taken by {who}.", f"Stop that, or choose another port ({option})."
    )


def bindable(host: str, port: int) -> str | None:
    """None if a socket can be bound there; else the kernel's reason. Nothing ever listens on it."""
    try:
        family_, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family_, kind, protocol) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
    except (OSError, UnicodeError) as error:
        return str(getattr(error, "strerror", None) or error)
    return None


def holder(port: int) -> tuple[int, str]:
    """Process id and name of who listens on a TCP port; (0, words) where this user may not see it."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        if _held(pid) & wanted:
            return pid, f"{_called(pid)} (process {pid})"
    return 0, "a process of another user" if inodes else "somebody"


def _held(pid: int) -> set[str]:
    """What the process's descriptors are; nothing where it is another user's, or gone."""
    held = set()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile, as the one that lists them is
                held.add(str(link.readlink()))
    return held


def _called(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        said = b" ".join(words[:4]).decode("utf-8", "replace").strip()
        return (said[:60] if said.isprintable() else "") or Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "a process"


def family(pid: int) -> set[int]:
    """The process and its children."""
    found = {pid}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                status = Path(f"/proc/{name}/status").read_text()
            except OSError:
                continue
            if (parent := re.search(r"^PPid:\s*(\d+)", status, re.MULTILINE)) and int(parent[1]) == pid:
                found.add(int(name))
    return found
