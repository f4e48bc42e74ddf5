# SPDX-License-Identifier: Apache-2.0
"""The tiers that come with Beffroi: those of the reference service, as its public documentation has them since 2025-06-05.

In: a database. Out: rows of the house (organisation `*`), put there once; whoever wants others makes another version.
Credit and monthly cap are amounts of the house's currency; the limits are on output tokens, per hour and per day.
"""

import time
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from sqlalchemy import Engine

from beffroi.control.tenancy.scope import CONTROL, EVERY, acting
from beffroi.core.money import NANO
from beffroi.core.snapshot import NO_LIMITS, Limits
from beffroi.store.administration import tiers
from beffroi.store.engine import serialise

SINCE = int(datetime(2025, 6, 5, tzinfo=UTC).timestamp())


class Shipped(NamedTuple):
    """One tier. `credit`: whole units of money."""

    name: str
    title: str
    credit: int | None
    limits: Limits


def _tier(number: int, title: str, credit: int, cap: int, hour: int, day: int) -> Shipped:
    limits = Limits(output_tokens_per_hour=hour, output_tokens_per_day=day, monthly_cap=cap * NANO)
    return Shipped(f"tier-{number}", title, credit, limits)


TIERS = (
    _tier(1, "Standard", 200, 1_000, 150_000, 3_600_000),
    _tier(2, "Professional", 500, 3_000, 300_000, 7_200_000),
    _tier(3, "High volume", 1_000, 5_000, 450_000, 10_800_000),
    _tier(4, "Enterprise", 4_000, 10_000, 600_000, 14_400_000),
    Shipped("monthly", "Monthly billing, no limits", None, NO_LIMITS),
)


def ship(engine: Engine) -> None:
    """Put in those that are not there."""
    with acting(engine, CONTROL, EVERY) as scope:
        serialise(scope.connection)  # of several machines that start at once, one does
        there = set(scope.connection.scalars(scope.select(tiers, tiers.c.name).where(tiers.c.organisation == EVERY)))
        for tier in TIERS:
            if tier.name in there:
                continue
            row = {
                "name": tier.name,
                "version": 1,
                "effective_at": SINCE,
                "title": tier.title,
                "limits": msgspec.to_builtins(tier.limits),
                "credit_nano": None if tier.credit is None else tier.credit * NANO,
                "created_at": int(time.time()),
            }
            scope.connection.execute(scope.insert(tiers, EVERY).values(row))
