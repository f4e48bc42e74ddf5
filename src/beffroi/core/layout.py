# SPDX-License-Identifier: Apache-2.0
"""What a data directory says of itself: its format, who wrote it, whose fleet it is of, what to say to a release too old for it.

In: a data directory. Out: the number in `format`, the release in `version`, the database in `replica`, sentences for people.
A release that changes the ledger's tables raises FORMAT, so that every earlier one refuses at once, with words, instead of
failing over a table that it does not know.
"""

import json
from pathlib import Path

from beffroi import __version__

FORMAT = 4
FORMAT_FILE, VERSION_FILE = "format", "version"
RESTORING = "restoring"  # stands in `format` while a restore is not finished
REPLICA = "replica"  # in a fleet: the machine's name there, and which database that is
BACKUPS = "backups"  # a folder of the data directory: what upgrades put there before they change anything


def written_by(data: Path) -> str | None:
    """The release that last brought this data directory up; None: 0.1.0 or none, which did not say."""
    try:
        return (data / VERSION_FILE).read_text("ascii").strip()[:40] or None
    except (OSError, UnicodeDecodeError):
        return None


def belongs_to(data: Path) -> str | None:
    """The database of the fleet, as people may see it; None: the ledger is in the data directory."""
    try:
        return str(json.loads((data / REPLICA).read_text("utf-8"))["database"])
    except (OSError, ValueError, KeyError):
        return None


def too_new(data: Path, found: str, known: str) -> str:
    """Why this release cannot use `data`, and what to do. `found`, `known`: of what kind the data is, and the newest known."""
    release = written_by(data)
    newer = "a newer Beffroi" if release in (None, __version__) else f"Beffroi {release}"
    return (
        f"The data in {data} was written by {newer} ({found}); this is Beffroi {__version__}, which knows {known} at most.\n"
        f"Nothing was changed. Either install {newer} again; or go back to what was there before the upgrade:\n"
        f"  beffroi backup restore {data / BACKUPS}/before-….tar.gz --data NEW_DIRECTORY\n"
        "with the newer release's `beffroi`, then serve NEW_DIRECTORY with this one. What was served since is in the newer\n"
        'data alone: keep it for the accounts. The page "Upgrade" (docs/how-to/upgrade.md) has the steps.'
    )
