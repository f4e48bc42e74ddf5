# SPDX-License-Identifier: Apache-2.0
"""Room 7, record: the durable spool that every exchange passes through twice, before an engine and before the last byte.

In: intents, progress, settlements, refusals. Out: segments in the data directory, which the control plane ships.
"""

from beffroi.gateway.journal.spool import Journal, Then

__all__ = ["Journal", "Then"]
