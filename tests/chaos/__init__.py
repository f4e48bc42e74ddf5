# SPDX-License-Identifier: Apache-2.0
"""What must hold while everything else does not: kills, cuts, floods and engines that misbehave.

Each test runs in a short form with the others. `python -m tests.chaos` runs the long form and writes its figures down.
"""
