# SPDX-License-Identifier: Apache-2.0
"""Limits of teams and budgets: quotas on a project or a key, tiers.

In: fields of asks. Out: quotas and tiers, in the transaction of the ask.
"""
