# SPDX-License-Identifier: Apache-2.0
"""Secret stores that successors are put into, one module each.

In: the configuration, a place. Out: `read` and `write`; `choose` opens the one that is meant.
"""
