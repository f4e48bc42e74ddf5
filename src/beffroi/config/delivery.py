# SPDX-License-Identifier: Apache-2.0
"""Faults of secret stores and of the mail server: what types cannot tell.

In: a `Source`. Out: its faults. Nothing is connected to: whether a store answers is seen when it is used.
"""

import re
from pathlib import Path

from beffroi.config.checks import Faults, check_authority
from beffroi.config.load import Place, Problem, Source
from beffroi.config.schema import SecretStore

_URL = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?(?:/[A-Za-z0-9._~/-]*)?")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_LOOPBACK = re.compile(r"http://(?:localhost|127\.[0-9.]+|\[::1\])(?::|/|$)")


def check_delivery(source: Source) -> list[Problem]:
    """Faults of all of it."""
    faults = Faults(source)
    _mail(source, faults)
    seen: set[str] = set()
    for index, store in enumerate(source.document.resources.secret_stores):
        place: Place = ("resources", "secret_stores", index)
        if store.name in seen:
            faults.note((*place, "name"), f"there is already a store `{store.name}`", "give each its own name")
        seen.add(store.name)
        if store.kind == "file":
            _file(source, store, place, faults)
        else:
            _remote(source, store, place, faults)
    return faults


def _mail(source: Source, faults: Faults) -> None:
    server = source.document.server
    if server.control_url is not None and not _URL.fullmatch(server.control_url):
        faults.note(
            ("server", "control_url"), "is no address of a server", "write one such as https://beffroi.example:8401"
        )
    mail = server.mail
    if mail is None:
        return
    if "@" not in mail.sender:
        faults.note(("server", "mail", "sender"), "is no mail address", "write one such as beffroi@example.org")
    if mail.user and mail.password is None:
        faults.note(("server", "mail", "user"), "has no password", "add `password: env:NAME`")
    if mail.user and mail.tls == "none":
        remedy = "write `tls: starttls` or `tls: tls`"
        faults.note(("server", "mail", "tls"), "would send a password that everybody on the way can read", remedy)
    if mail.ca_file is not None and (fault := check_authority(str(source.base / mail.ca_file))):
        faults.note(("server", "mail", "ca_file"), *fault)


def _file(source: Source, store: SecretStore, place: Place, faults: Faults) -> None:
    directory = (source.base / store.at).absolute()
    data = source.document.server.data
    if not store.at or "://" in store.at:
        faults.note((*place, "at"), "is no directory", "write the path of a directory of its own")
    elif data is not None and _inside(directory, (source.base / data).absolute()):
        remedy = "write a directory of its own: what is in the data directory is Beffroi's"
        faults.note((*place, "at"), "lies in the data directory", remedy)


def _inside(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _remote(source: Source, store: SecretStore, place: Place, faults: Faults) -> None:
    if not _URL.fullmatch(store.at):
        faults.note((*place, "at"), "is no address of an API", "write https://host:port, without a user or a query")
    elif store.at.startswith("http:") and not _LOOPBACK.match(store.at):
        remedy = "write https://…, or the address of a proxy on this machine"
        faults.note((*place, "at"), "would send keys that everybody on the way can read", remedy)
    if store.ca_file is not None and (fault := check_authority(str(source.base / store.ca_file))):
        faults.note((*place, "ca_file"), *fault)
    for name in ("namespace", "mount"):
        if not _NAME.fullmatch(getattr(store, name)):
            faults.note((*place, name), "is no name", "write letters, figures, `.`, `_` and `-`")
