# SPDX-License-Identifier: Apache-2.0
"""Rotation: keys get successors by a schedule, and end once nobody uses them any more.

In: schedules of keys and policies, what people ask. Out: successors where they belong; `runner` keeps it going.
"""
