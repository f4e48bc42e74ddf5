# SPDX-License-Identifier: Apache-2.0
"""What tests of shared limits have in common."""

from collections.abc import Iterator

import pytest

from tests.servers import collected


@pytest.fixture(autouse=True)
def cut_connections() -> Iterator[None]:
    """See `collected`."""
    with collected():
        yield
