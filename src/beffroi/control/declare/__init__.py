# SPDX-License-Identifier: Apache-2.0
"""Tenants as a file declares them: what it takes to make them so, shown before, done in one transaction, written back.

In: documents. Out: plans, what was done, documents.
"""
