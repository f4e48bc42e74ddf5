# SPDX-License-Identifier: Apache-2.0
"""Administrative acts, each a row in `events` in the same transaction as the act itself (decision D20).

In: who did what to what. Out: one row. Actions follow the grammar `source:subject:action`; `ACTIONS` lists them all.
"""

import time
from typing import Any

from sqlalchemy import Connection, insert

from beffroi.core.ids import new_id
from beffroi.store.tables import DEFAULT, events

ACTIONS = {
    "cli:key:create": "An API key was made from the command line.",
    "cli:key:revoke": "An API key was revoked from the command line.",
    "cli:key:rotate": "An API key got a successor from the command line, and an end of its own.",
    "cli:pepper:rotate": "A new pepper was made from the command line; keys made from then on are hashed with it.",
    "cli:key:end": "A key of a restored backup was made to end when it ended in the directory that was served since.",
    "cli:backup:create": "A copy of the data directory was made for a backup.",
    "control:data:upgrade": "The ledger was brought to the revision of a newer release; the event names the backup made before.",
    "control:key:create": "The first API key was made, because there was none.",
    "control:config:apply": "A configuration was compiled and handed to the workers.",
    "journal:exchange:recover": "Exchanges that a dead worker left open were settled from their last progress.",
    "journal:segment:torn": "The last record of a dead worker was cut short and ignored; nobody was told it was written.",
    "journal:segment:damaged": "A journal segment is damaged and kept; what follows the damage in it is not in the ledger.",
    "journal:segment:missing": "A worker's records go on after a gap: a journal segment was lost before it was shipped.",
    "journal:settlement:duplicate": "A second settlement of the same attempt was left out of the ledger.",
    "control:config:refuse": "A configuration had faults and was refused; the one before stays.",
}


def record(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    before: Any = None,
    after: Any = None,
    organisation: str = DEFAULT,
    project: str = DEFAULT,
) -> None:
    """Add one event. `before` and `after` are plain data without secrets.

    Raises:
        KeyError: an action that `ACTIONS` does not list.
    """
    ACTIONS[action]
    connection.execute(
        insert(events).values(
            id=new_id("evt"),
            at_ns=time.time_ns(),
            actor=actor,
            action=action,
            subject=subject,
            before=before,
            after=after,
            organisation=organisation,
            project=project,
        )
    )
