# SPDX-License-Identifier: Apache-2.0
"""Tiers and quotas: what tenants may use, by date, and who is told when a budget nears its end.

In: calls of the admin API, rows. Out: quota records for the gateways, alerts.
"""
