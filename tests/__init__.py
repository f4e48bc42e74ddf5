# SPDX-License-Identifier: Apache-2.0
"""Tests: sentences about behaviour, over real sockets, files and processes."""
