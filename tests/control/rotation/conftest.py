# SPDX-License-Identifier: Apache-2.0
"""Fixtures of rotations."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from beffroi.control.rotation.stores.port import StoreSettings
from tests.control.rotation.rig import Rig
from tests.gateway.certificates import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs certificates of stores and mail servers."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def rig(tmp_path: Path, place: Path | str) -> Iterator[Rig]:
    """A rig with a store of files, over either kind of database."""
    stores = (StoreSettings(name="s", kind="file", directory=str(tmp_path / "store")),)
    rig = Rig(tmp_path, stores=stores, place=place)
    yield rig
    rig.close()
