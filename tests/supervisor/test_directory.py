# SPDX-License-Identifier: Apache-2.0
"""The data directory is private, of one format, and held by one at a time."""

import os
import stat
from pathlib import Path

import pytest

from beffroi.supervisor.directory import DataDirectory
from beffroi.supervisor.errors import StartError


def test_it_is_made_with_its_parents_for_its_owner_only(folder: Path) -> None:
    """0700, even if it was there and open to all."""
    path = folder / "a" / "b"
    DataDirectory(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    path.chmod(0o755)
    DataDirectory(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_second_holder_is_told_who_the_first_is(folder: Path) -> None:
    """And gets it once the first lets go."""
    with DataDirectory(folder), pytest.raises(StartError, match=f"process {os.getpid()} holds it"):
        DataDirectory(folder)
    DataDirectory(folder).close()


def test_a_newer_format_is_refused_and_left_alone(folder: Path) -> None:
    """The sentence names both formats."""
    (folder / "format").write_text("999\n")
    with pytest.raises(
        StartError, match=r"a newer Beffroi \(format 999\); this is Beffroi .*, which knows format \d+ at most"
    ):
        DataDirectory(folder)
    assert (folder / "format").read_text() == "999\n"


def test_a_folder_that_is_something_else_is_refused(folder: Path) -> None:
    """A file `format` of another program."""
    (folder / "format").write_text("A4 landscape")
    with pytest.raises(StartError, match="no data directory"):
        DataDirectory(folder)


def test_a_path_too_long_for_the_sockets_in_it_is_refused_at_once(folder: Path) -> None:
    """Rather than by a child that cannot bind."""
    path = folder / ("x" * 100)
    with pytest.raises(StartError, match="too long"):
        DataDirectory(path)
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_refused_with_its_reason(folder: Path) -> None:
    """A file where a folder should be."""
    (folder / "file").touch()
    with pytest.raises(StartError, match=r"Not a directory|File exists"):
        DataDirectory(folder / "file" / "data")
