# SPDX-License-Identifier: Apache-2.0
"""What the tests of configurations share: a folder with certificates and secrets, made once."""

from pathlib import Path

import pytest

from tests.config.valid import house


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates and secrets that the valid files name."""
    return house(tmp_path_factory.mktemp("house"))
