# SPDX-License-Identifier: Apache-2.0
"""A database with two organisations, on both backings, a vault, and a clock that is set by hand."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from beffroi.control.tenancy import organisations
from beffroi.control.tenancy.scope import EVERY, SOCKET, acting
from beffroi.control.tenancy.shapes import OrganisationAsk
from beffroi.control.webhooks.addresses import networks
from beffroi.control.webhooks.courier import Courier
from beffroi.store.vault import Vault
from tests.control.webhooks.receiver import Receiver, receiver


@pytest.fixture
def engine(emptied: Engine) -> Engine:
    """The organisations `a` and `b`, and nothing else."""
    with acting(emptied, SOCKET, EVERY) as scope:
        for organisation in ("a", "b"):
            organisations.create(scope, OrganisationAsk(name=organisation, id=organisation))
    return emptied


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """A vault."""
    return Vault.open(tmp_path)


@pytest.fixture
def told() -> Iterator[Receiver]:
    """A program that is told."""
    with receiver() as found:
        yield found


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = time.time() + 60  # acts note their own time: what they did is past by this clock

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands."""
    return Clock()


@pytest.fixture
def courier(engine: Engine, vault: Vault, clock: Clock) -> Callable[[], Courier]:
    """Makes couriers over one database, as replicas are."""

    async def run(call: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(call)

    def make() -> Courier:
        return Courier(engine, vault, networks(["127.0.0.0/8"]), run, run, clock)

    return make
