# SPDX-License-Identifier: Apache-2.0
"""Which releases can use a data directory: its format, who wrote it, and what to say to one that is too old.

In: a data directory. Out: the number in `format`, the release in `version`, sentences for the person who starts Beffroi.
A release that changes the ledger's tables raises FORMAT, so that every earlier one refuses at once, with words, instead of
failing over a table that it does not know.
"""

from pathlib import Path

from beffroi import __version__

FORMAT = 4
FORMAT_FILE, VERSION_FILE = "format", "version"
RESTORING = "restoring"  # stands in `format` while a restore is not finished
BACKUPS = "backups"  # a folder of the data directory: what upgrades put there before they change anything


def written_by(data: Path) -> str | None:
    """The release that last brought this data directory up; None: 0.1.0 or none, which did not say."""
    try:
        return (data / VERSION_FILE).read_text("ascii").strip()[:40] or None
    except (OSError, UnicodeDecodeError):
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
