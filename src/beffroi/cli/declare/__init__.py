# SPDX-License-Identifier: Apache-2.0
"""`beffroi plan`, `apply` and `export`: tenants as a file declares them."""
