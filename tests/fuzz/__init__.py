# SPDX-License-Identifier: Apache-2.0
"""Bytes that nobody would write, read by us and by others."""
