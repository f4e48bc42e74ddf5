# SPDX-License-Identifier: Apache-2.0
"""`beffroi keys`: make, change, list, show, rotate and revoke API keys.

In: the command line. Out: `keys`, and `reference`, which makes of a whole key the part that may be told.
"""

from beffroi.cli.keys.command import keys
from beffroi.cli.keys.common import reference

__all__ = ["keys", "reference"]
