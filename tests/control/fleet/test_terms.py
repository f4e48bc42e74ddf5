# SPDX-License-Identifier: Apache-2.0
"""A data directory and its database belong together: what would change keys without a word is refused in words."""

from pathlib import Path

import pytest

from beffroi.control.fleet.terms import Fleet, NotOfThis, member, require_alone
from beffroi.core.layout import belongs_to

URL = "postgresql://ada:s3cret@127.0.0.1:5432/beffroi"


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("FLEET_DATABASE", URL)
    monkeypatch.setenv("FLEET_SECRET", "x" * 32)
    return Fleet("env:FLEET_DATABASE", "env:FLEET_SECRET", 60.0, 60.0, 1 << 20)


def test_a_machine_keeps_its_name_and_no_password_is_written(tmp_path: Path, fleet: Fleet) -> None:
    """Over every start; the directory says where its ledger is."""
    first = member(tmp_path, fleet)
    assert member(tmp_path, fleet).replica == first.replica
    assert first.replica.startswith("rep_")
    assert "s3cret" not in (tmp_path / "replica").read_text() + (belongs_to(tmp_path) or "") + first.shown
    assert "127.0.0.1" in (belongs_to(tmp_path) or "")


def test_a_directory_of_a_fleet_is_not_served_alone(tmp_path: Path, fleet: Fleet) -> None:
    """It would make a ledger and a first key of its own."""
    require_alone(tmp_path)
    member(tmp_path, fleet)
    with pytest.raises(NotOfThis, match=r"server\.database"):
        require_alone(tmp_path)


def test_a_directory_with_a_ledger_does_not_become_one_of_a_fleet(tmp_path: Path, fleet: Fleet) -> None:
    """Its keys would be gone."""
    (tmp_path / "beffroi.db").touch()
    with pytest.raises(NotOfThis, match="new data directory"):
        member(tmp_path, fleet)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("FLEET_DATABASE", "", "FLEET_DATABASE"),
        ("FLEET_DATABASE", "mysql://a:b@c/d", "mysql"),
        ("FLEET_SECRET", "short", "32 characters"),
    ],
)
def test_what_cannot_be_used_is_named_by_its_setting(
    tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    """And nothing is written."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(NotOfThis, match=says) as caught:
        member(tmp_path, fleet)
    assert "server." in str(caught.value)
    assert belongs_to(tmp_path) is None
