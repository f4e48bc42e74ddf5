# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the gateway's tests on real sockets."""

from collections.abc import Iterator

import pytest

from tests.gateway.door import Door, opened


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    """One worker with every setting as it ships, for all tests of a module."""
    with opened() as door:
        yield door
