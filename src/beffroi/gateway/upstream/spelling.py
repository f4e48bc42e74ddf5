# SPDX-License-Identifier: Apache-2.0
"""Room 5, relay: how an engine spells what all events of a stream share, learned from the first of them.

In: the first event, as bytes and decoded. Out: a `Spelling`, or None where the engine needs the slow way.
"""

from typing import Any

import msgspec

CHOICES = b'"choices":[{'
_encode = msgspec.json.Encoder().encode


class Spelling(msgspec.Struct, frozen=True, gc=False):
    """What stands in each regular event, and what shall stand there for the client.

    Attributes:
        finish: how a finish_reason that is not null begins.
        stamp: what each regular event holds once.
        common, ours: the bytes up to the choices, before and after; empty where they are not the same in each event.
    """

    finish: bytes
    stamp: bytes
    created: int
    old_id: bytes
    new_id: bytes
    old_model: bytes
    new_model: bytes
    common: bytes

    @property
    def ours(self) -> bytes:
        """The common bytes as the client gets them."""
        return self.renamed(self.common)

    def renamed(self, data: bytes) -> bytes:
        """A block of events with our id and the public model name."""
        data = data.replace(self.old_id, self.new_id)
        return data.replace(self.old_model, self.new_model) if self.old_model else data


def learn(event: bytes, chunk: dict[str, Any], our_id: str, model: str) -> Spelling | None:
    """Find how this engine spells id, model, time and finish_reason."""
    try:
        old_id = b'"id":' + _encode(chunk["id"])
        old_model = b'"model":' + _encode(chunk["model"])
    except KeyError:
        return None
    at_id, at_model = event.find(old_id), event.find(old_model)
    finish = b'"finish_reason":"'
    if at_id < 0 or at_model < 0 or b'"finish_reason":null' not in event:
        old_id, old_model = old_id.replace(b'":', b'": ', 1), old_model.replace(b'":', b'": ', 1)
        at_id, at_model = event.find(old_id), event.find(old_model)
        finish = b'"finish_reason": "'
        if at_id < 0 or at_model < 0 or b'"finish_reason": null' not in event:
            return None
    created = chunk["created"]
    for stamp in (b'"created":%d' % created, b'"created": %d' % created):
        at_created = event.find(stamp)
        if at_created >= 0:
            break
    else:
        return None
    choices = event.find(CHOICES)
    regular = max(at_id, at_model, at_created) < choices
    return Spelling(
        finish,
        stamp,
        created,
        old_id,
        b'"id":' + _encode(our_id),
        b"" if chunk["model"] == model else old_model,
        b'"model":' + _encode(model),
        event[: choices + len(CHOICES)] if regular else b"",
    )
