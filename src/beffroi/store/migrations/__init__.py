# SPDX-License-Identifier: Apache-2.0
"""The schema's history, shipped in the wheel and applied at start.

In: the database as some release left it. Out: the database as this release wants it.
"""
