# SPDX-License-Identifier: Apache-2.0
"""The doctor on the key that seals secrets: there, whole, its owner's alone; or in the hands of the fleet."""

from pathlib import Path

from beffroi.cli.doctor import secrets
from beffroi.cli.doctor.scene import OK, PROBLEM, WARNING, Scene
from beffroi.config.schema import Server
from beffroi.core.layout import REPLICA, VERSION_FILE
from beffroi.store.vault import FILE, Vault


def test_a_directory_that_was_never_served_needs_none(tmp_path: Path) -> None:
    """Nothing to say."""
    assert list(secrets.vault(Scene(tmp_path))) == []


def test_the_key_of_a_served_directory_is_looked_at(tmp_path: Path) -> None:
    """Missing, well, open to others, and no key at all."""
    (tmp_path / VERSION_FILE).write_text("0.3.0\n")
    (found,) = secrets.vault(Scene(tmp_path))
    assert found.state == WARNING and "opens nothing that was sealed before" in found.finding
    Vault.open(tmp_path)
    (found,) = secrets.vault(Scene(tmp_path))
    assert found.state == OK and "1 key," in found.finding
    Vault.open(tmp_path).rotate()
    (found,) = secrets.vault(Scene(tmp_path))
    assert found.state == OK and "2 keys," in found.finding
    (tmp_path / FILE).chmod(0o644)
    (found,) = secrets.vault(Scene(tmp_path))
    assert found.state == WARNING and "chmod 600" in found.remedy
    (tmp_path / FILE).write_text("x")
    (found,) = secrets.vault(Scene(tmp_path))
    assert found.state == PROBLEM and "Restore" in found.remedy
    assert list(secrets.vault(Scene(tmp_path, server=Server(fleet_secret="env:S", database="env:D")))) == []
    (tmp_path / FILE).unlink()
    (tmp_path / REPLICA).write_text('{"replica": "rep_1", "database": "postgresql://db/beffroi"}')
    assert list(secrets.vault(Scene(tmp_path))) == []  # without a configuration: the directory says whose it is
