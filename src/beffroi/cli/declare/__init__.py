# SPDX-License-Identifier: Apache-2.0
"""`beffroi plan`, `apply` and `export`: tenants as a file declares them.

In: a file of tenants, a running Beffroi. Out: what would change, what was changed, a file.
"""
