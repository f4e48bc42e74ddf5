# SPDX-License-Identifier: Apache-2.0
"""The counters of a fleet, over a real Valkey or Redis that is killed, slowed and emptied."""
