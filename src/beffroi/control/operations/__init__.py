# SPDX-License-Identifier: Apache-2.0
"""Long work that a call begins and does not wait for.

In: work. Out: `202`, and `/operations/{id}`, which says how far it is.
"""
