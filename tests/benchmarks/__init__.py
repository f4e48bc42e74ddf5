# SPDX-License-Identifier: Apache-2.0
"""Tests of the bench: a bound that is missed must be seen."""
