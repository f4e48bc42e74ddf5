# SPDX-License-Identifier: Apache-2.0
"""One suite per port, run over every backend of it."""
