# SPDX-License-Identifier: Apache-2.0
"""The store: engines, tables, migrations; the only place that opens a database.

In: a path or a URL. Out: SQLAlchemy Core tables on an engine whose schema is up to date.
"""
