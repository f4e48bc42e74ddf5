# SPDX-License-Identifier: Apache-2.0
"""Rotation: keys get successors by a schedule, and end once nobody uses them any more."""
