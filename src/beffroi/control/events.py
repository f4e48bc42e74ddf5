# SPDX-License-Identifier: Apache-2.0
"""Administrative acts, each a row in `events` in the same transaction as the act itself (decision D20).

In: who did what to what. Out: one row. Actions follow the grammar `door:subject:verb`; `ACTIONS` lists those of one door
alone, `ACTS` the acts that are the same through every door of `DOORS`.
"""

import time
from typing import Any

from sqlalchemy import Connection, insert

from beffroi.control.webhooks import outbox
from beffroi.core.ids import new_id
from beffroi.store.tables import events

HOUSE = "*"
ACTIONS = {
    "cli:key:end": "A key of a restored backup was made to end when it ended in the directory that was served since.",
    "control:data:upgrade": "The ledger was brought to the revision of a newer release; the event names the backup made before.",
    "control:webhook:test": "A webhook was tried: told to it alone, and kept nowhere.",
    "control:config:apply": "A configuration was compiled and handed to the workers.",
    "journal:exchange:recover": "Exchanges that a dead worker left open were settled from their last progress.",
    "journal:segment:torn": "The last record of a dead worker was cut short and ignored; nobody was told it was written.",
    "journal:segment:damaged": "A journal segment is damaged and kept; what follows the damage in it is not in the ledger.",
    "journal:segment:missing": "A worker's records go on after a gap: a journal segment was lost before it was shipped.",
    "journal:settlement:duplicate": "A second settlement of the same attempt was left out of the ledger.",
    "control:config:refuse": "A configuration had faults and was refused; the one before stays.",
}

DOORS = {
    "cli": "Somebody on this machine, with the command line.",
    "api": "Somebody with an admin key, through the admin API.",
    "apply": "`beffroi apply`, with a file.",
    "file": "The configuration file that the server was started with.",
    "control": "Beffroi itself.",
}

ACTS = {
    "organisation:create": "An organisation was made.",
    "organisation:update": "An organisation was renamed, or its policy changed.",
    "organisation:suspend": "An organisation was suspended: the gateway refuses its keys.",
    "organisation:resume": "A suspended organisation is served again.",
    "project:create": "A project was made.",
    "project:update": "A project was renamed.",
    "project:delete": "A project without anything in it was removed.",
    "project:suspend": "A project was suspended: the gateway refuses its keys.",
    "project:resume": "A suspended project is served again.",
    "member:create": "A member was added, with a role.",
    "member:update": "A member was renamed or has another role.",
    "member:delete": "A member was removed.",
    "service-account:create": "A service account was made.",
    "service-account:update": "A service account was changed.",
    "service-account:delete": "A service account was removed.",
    "system:create": "An AI system was registered.",
    "system:update": "What is said of an AI system was changed.",
    "system:delete": "An AI system was removed; keys and records keep its id.",
    "key:create": "An API key was made; the first one by Beffroi itself, because there was none.",
    "key:update": "What an API key may do, its limits, its end or its schedule were changed.",
    "key:revoke": "An API key was revoked.",
    "key:rotate": "An API key has a successor, and got an end of its own.",
    "key:fetch": "The successor of a rotated key was fetched through its one-time link.",
    "rotation:announce": "The rotation of an API key was announced.",
    "rotation:make": "The successor of a key that is being rotated was made, or got another secret because the first was lost.",
    "rotation:deliver": "The successor of a rotated key was delivered; the old key has an end from now on.",
    "rotation:end": "A rotated key ended: nobody used it any more, or its overlap was over.",
    "rotation:cancel": "A rotation was given up.",
    "rotation:fail": "A step of a rotation failed; it is tried again.",
    "admin-key:create": "A key to the administration was made.",
    "admin-key:revoke": "A key to the administration was revoked.",
    "webhook:create": "A webhook was made.",
    "webhook:update": "A webhook was changed, disabled, or enabled again.",
    "webhook:renew": "A webhook got another secret.",
    "webhook:delete": "A webhook was removed, and what waited for it.",
    "webhook:disable": "A webhook was disabled because it took nothing for a day, said that it is gone, or had too much waiting.",
    "replica:forget": "A machine of the fleet that will not come back was taken off; what it had open was closed.",
    "pepper:rotate": "A new pepper was made; keys made from then on are hashed with it.",
    "tier:create": "A tier was made, or its next version.",
    "tier:delete": "A version of a tier was taken back.",
    "quota:create": "A scope was limited.",
    "quota:update": "A quota has other terms, or another name.",
    "quota:delete": "A quota was removed.",
    "budget:alert": "50, 80 or 100 % of a budget or a monthly cap is spent; once per period and level.",
    "vault:rotate": "A new key was made for what is sealed from then on.",
    "backup:create": "A copy of the data directory was made for a backup.",
}


_INSERT = insert(events).returning(outbox.ANYBODY)  # one statement where no webhook is: nearly everywhere


def every() -> list[str]:
    """Every action that there is."""
    return [*ACTIONS, *(f"{door}:{act}" for door in DOORS for act in ACTS)]


def known(action: str) -> str:
    """What an action means.

    Raises:
        KeyError: neither `ACTIONS` nor `ACTS` lists it.
    """
    door, _, act = action.partition(":")
    return ACTIONS[action] if action in ACTIONS or door not in DOORS else ACTS[act]


def record(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    before: Any = None,
    after: Any = None,
    organisation: str = HOUSE,
    project: str = "",
    tell: bool = True,
) -> None:
    """Add one event, and what webhooks are to be told of it. `before` and `after` are plain data without secrets.

    Args:
        organisation: to whom it happened, and who may therefore read it; `*`: to the installation.
        project: empty: to all of the organisation.
        tell: whether webhooks hear of it; not from a ledger that is not in use, which may be older than they are.

    Raises:
        KeyError: an action that is not listed.
    """
    known(action)
    row = {
        "id": new_id("evt"),
        "at_ns": time.time_ns(),
        "actor": actor,
        "action": action,
        "subject": subject,
        "before": before,
        "after": after,
        "organisation": organisation,
        "project": project,
    }
    if not tell:
        connection.execute(insert(events).values(row))
        return
    if not connection.execute(_INSERT, {**row, "whose": organisation}).scalar_one():
        return
    for full in outbox.post(connection, organisation, action, outbox.described(row)):
        record(
            connection,
            actor="control",
            action="control:webhook:disable",
            subject=full,
            before={"state": "active"},
            after={"state": "disabled", "fault": outbox.FULL},
            organisation=organisation,
        )
