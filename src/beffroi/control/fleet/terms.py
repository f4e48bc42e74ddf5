# SPDX-License-Identifier: Apache-2.0
"""What makes a data directory one of a fleet: the database it shares, the secret, its own name in it.

In: what the supervisor says, the data directory. Out: a URL, a vault, a replica's id; or why that cannot be.
A data directory belongs to one kind of database for good: served with another, its keys would be others without a word.
"""

import json
import os
from pathlib import Path

import msgspec

from beffroi.config.secrets import Unreadable, database_url, look_up
from beffroi.control.stage import LEDGER
from beffroi.core.ids import new_id
from beffroi.core.layout import REPLICA, belongs_to
from beffroi.store.files import replace_file
from beffroi.store.server import BadUrl, parse, shown
from beffroi.store.vault import Vault, VaultError


class Fleet(msgspec.Struct, frozen=True):
    """As the configuration has it; `database` and `secret` are references.

    Attributes:
        trust_keys, hold_journal: seconds; hold_journal_bytes: bytes. For how long the machine goes on by itself.
    """

    database: str
    secret: str
    trust_keys: float
    hold_journal: float
    hold_journal_bytes: int


class NotOfThis(Exception):
    """The data directory cannot be served with this database; the text says why and what to do."""


class Member(msgspec.Struct, frozen=True):
    """This machine in its fleet."""

    replica: str
    url: str
    vault: Vault
    fleet: Fleet

    @property
    def shown(self) -> str:
        """The database as people may see it."""
        return shown(self.url)


def member(data: Path, fleet: Fleet) -> Member:
    """Who this is, from now on if it is its first start.

    Raises:
        NotOfThis: a secret or the URL cannot be used, or the data directory has a ledger of its own.
    """
    try:
        url = database_url(fleet.database, os.environ)
        parse(url)
        vault = Vault.shared(look_up(fleet.secret, Path(), os.environ))
    except Unreadable as error:
        raise NotOfThis(f"`server.database` or `server.fleet_secret`: {error.message}; {error.remedy}") from None
    except BadUrl as error:
        raise NotOfThis(f"`server.database`: {error}") from None
    except VaultError as error:
        raise NotOfThis(f"`server.fleet_secret`: {error}") from None
    if (data / LEDGER).exists():
        raise NotOfThis(
            f"{data} has a ledger of its own ({LEDGER}), and `server.database` names a PostgreSQL. Serve the fleet from a new "
            "data directory, or take `server.database` out to go on with this one"
        )
    return Member(_replica(data, shown(url)), url, vault, fleet)


def require_alone(data: Path) -> None:
    """Refuse to make a ledger beside that of a fleet.

    Raises:
        NotOfThis: this data directory is one of a fleet.
    """
    if (database := belongs_to(data)) is not None:
        raise NotOfThis(
            f"{data} belongs to a fleet whose ledger is in {database}, and no `server.database` is set: its keys and its "
            "accounts are there. Set `server.database` again, or serve another data directory"
        )


def _replica(data: Path, database: str) -> str:
    path = data / REPLICA
    try:
        known = json.loads(path.read_text("utf-8"))
        if known["database"] == database:
            return str(known["replica"])
        replica = str(known["replica"])  # the same machine; the database has moved
    except FileNotFoundError:
        replica = new_id("rep")
    except (ValueError, KeyError):
        raise NotOfThis(
            f"{path} cannot be read: it names this machine in its fleet. Restore it from a backup, or remove it once the "
            "journal directory is empty"
        ) from None
    replace_file(path, json.dumps({"replica": replica, "database": database}).encode())
    return replica
