# SPDX-License-Identifier: Apache-2.0
"""`beffroi keys`: make, change, list, show, rotate and revoke API keys."""

from beffroi.cli.keys.command import keys
from beffroi.cli.keys.common import reference

__all__ = ["keys", "reference"]
