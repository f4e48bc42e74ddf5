# SPDX-License-Identifier: Apache-2.0
"""What a mail says at each step of a rotation.

In: a rotation and its key. Out: subject and text, in plain words, with times in UTC.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row


def letter(name: str, rotation: Row[Any], key: Row[Any], link: str) -> tuple[str, str]:
    """Subject and text. `name`: announced, link, overlap or ended."""
    what = f"the API key {key.name} (bf-{key.public}-...)"
    plan = rotation.plan
    if name == "announced":
        subject = f"API key {key.name}: a successor is made on {_day(rotation.due_at)}"
        where = plan.get("delivery", {}).get("store")
        how = f"It will be put into the secret store {where}." if where else "You will get a link to fetch it, once."
        text = f"On {_moment(rotation.due_at)} {what} gets a successor. {how}\nUntil then nothing changes."
    elif name == "link":
        subject = f"API key {key.name}: fetch its successor"
        text = (
            f"The successor of {what} can be fetched here, once, until {_moment(rotation.sealed_until)}:\n\n{link}\n\n"
            f"    curl {link}\n\nPut it where the old key is used now. The old key stays as it is until you have fetched "
            f"the new one, and is accepted for {_span(plan['overlap_seconds'])} after that.\n"
            "If the link says that it was used already and it was not you: revoke the key."
        )
    elif name == "overlap":
        subject = f"API key {key.name}: the old key ends on {_day(rotation.ends_at)}"
        idle = plan.get("idle_seconds")
        sooner = f", or sooner, once nobody has used it for {_span(idle)}" if idle else ""
        text = f"The successor of {what} was delivered. The old key ends on {_moment(rotation.ends_at)}{sooner}."
    else:
        subject = f"API key {key.name}: the old key has ended"
        text = f"{what[0].upper()}{what[1:]} is refused since {_moment(rotation.ends_at)}. Its successor goes on."
    return (
        subject,
        f"{text}\n\nRotation {rotation.id}, organisation {rotation.organisation}, project {rotation.project}.\n",
    )


def _day(at: int | None) -> str:
    return datetime.fromtimestamp(at or 0, UTC).strftime("%Y-%m-%d")


def _moment(at: int | None) -> str:
    return datetime.fromtimestamp(at or 0, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _span(seconds: int) -> str:
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= unit and seconds % unit == 0:
            count = seconds // unit
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{seconds} seconds"
