# SPDX-License-Identifier: Apache-2.0
"""Counters that many machines share over Valkey or Redis: lent to workers ahead of need, one by one near the edge.

In: keys, quotas, asks; the address of a Valkey. Out: the same port as the mapped file's (`quota.port`).
"""

from beffroi.gateway.quota.fleet.books import FleetBooks
from beffroi.gateway.quota.fleet.counters import FleetCounters

__all__ = ["FleetBooks", "FleetCounters"]
