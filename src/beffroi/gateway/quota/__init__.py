# SPDX-License-Identifier: Apache-2.0
"""Admit: limits and budgets, reserved before a request goes out and settled when it is over.

In: a key's record, what a request asks, what it used. Out: a ticket, or the refusal that names the limit.
"""

from beffroi.gateway.quota.counters import ONLOOKER, MappedCounters
from beffroi.gateway.quota.estimate import Estimator, InputRatio
from beffroi.gateway.quota.terms import NO_TICKET, Ask, Busy, LimitUse, Spent, Ticket, Used

__all__ = [
    "NO_TICKET",
    "ONLOOKER",
    "Ask",
    "Busy",
    "Estimator",
    "InputRatio",
    "LimitUse",
    "MappedCounters",
    "Spent",
    "Ticket",
    "Used",
]
