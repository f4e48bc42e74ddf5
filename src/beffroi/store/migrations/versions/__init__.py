# SPDX-License-Identifier: Apache-2.0
"""One file per step of the schema, oldest first; a released step is never edited.

In: the database as some release left it. Out: the database as this release wants it.
"""
