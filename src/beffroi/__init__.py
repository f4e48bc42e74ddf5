# SPDX-License-Identifier: Apache-2.0
"""Beffroi, a gateway for language models.

In: nothing. Out: the version, in this one place: the package, `--version` and the data directory take it from here.
"""

__version__ = "0.3.0"
