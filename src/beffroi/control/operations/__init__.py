# SPDX-License-Identifier: Apache-2.0
"""Long work that a call begins and does not wait for: `202`, then `/operations/{id}` says how far it is."""
