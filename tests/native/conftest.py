# SPDX-License-Identifier: Apache-2.0
"""The kernel, if it was built here, and a way to do without it."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from beffroi.core.kernel import KERNEL, Kernel
from tests.harness import scaled, skip

# Where a leaf stands: a module, and the name that is None where nothing is compiled.
LEAVES = (
    ("beffroi.gateway.reader", "read_request"),
    ("beffroi.gateway.upstream.connection", "read_answer"),
    ("beffroi.gateway.upstream.plain", "edit_answer"),
    ("beffroi.gateway.upstream.stream", "regular_events"),
    ("beffroi.gateway.quota.table", "take_words"),
    ("beffroi.gateway.quota.table", "give_words"),
    ("beffroi.wire.http", "KERNEL"),
    ("beffroi.wire.openai.request", "KERNEL"),
)
CASES = scaled("twins", 3000)
"""Changed inputs per test; BEFFROI_TWINS asks for more."""


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """The compiled kernel, or a skip that says what makes it."""
    if KERNEL is None:
        if os.environ.get("BEFFROI_NATIVE") == "0":
            pytest.skip("BEFFROI_NATIVE=0 leaves the compiled kernel out")
        skip("the compiled kernel, which a C compiler and Python.h make,")
    return KERNEL


Without = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def without(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Without:
    """A stretch of code in which the twins do all."""

    @contextmanager
    def stretch() -> Iterator[None]:
        with monkeypatch.context() as patch:
            for module, name in LEAVES:
                patch.setattr(f"{module}.{name}", None)
            yield

    return stretch
