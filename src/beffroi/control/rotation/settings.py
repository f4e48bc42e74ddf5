# SPDX-License-Identifier: Apache-2.0
"""From the configuration in force to stores and mail, as rotations use them; a change of the file is a change here.

In: a `Source`. Out: `StoreSettings`, `MailSettings`, with absolute paths.
"""

from pathlib import Path

from beffroi.config.load import Source
from beffroi.control.rotation.mail import MailSettings
from beffroi.control.rotation.stores.port import StoreSettings


def stores_of(source: Source) -> tuple[StoreSettings, ...]:
    """The secret stores."""
    return tuple(
        StoreSettings(
            name=store.name,
            kind=store.kind,
            url="" if store.kind == "file" else store.at,
            ca_file=_path(source.base, store.ca_file),
            token=store.token,
            directory=str((source.base / store.at).absolute()) if store.kind == "file" else "",
            namespace=store.namespace,
            mount=store.mount,
            organisations=store.organisations,
        )
        for store in source.document.resources.secret_stores
    )


def mail_of(source: Source) -> MailSettings | None:
    """The mail server, if there is one."""
    mail = source.document.server.mail
    if mail is None:
        return None
    return MailSettings(
        host=mail.host,
        port=mail.port,
        tls=mail.tls,
        sender=mail.sender,
        user=mail.user or "",
        password=mail.password,
        ca_file=_path(source.base, mail.ca_file),
    )


def _path(base: Path, path: str | None) -> str | None:
    return None if path is None else str((base / path).absolute())
