# SPDX-License-Identifier: Apache-2.0
"""Room 3 in its place in the walk: what was seen is in the record, what is blocked reaches no engine."""

from typing import Any

import pytest

from beffroi.core.record import Settlement
from tests.client import chat
from tests.gateway.guard.test_structure import tags
from tests.gateway.rig import PUBLIC, Rig, Run, plain

ANSWER = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}  # fmt: skip


def asked(rig: Rig, text: str, role: str = "user", **more: Any) -> Run:
    """A chat with that message, answered if it reaches the engine."""
    body = {**chat("hello", model=PUBLIC, **more), "messages": [{"role": role, "content": text}]}
    run = rig.ask(body)
    if run.waits:
        run.feed(plain(ANSWER))
    return run


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("hello", ()),
        ("«\u202fBonjour\u202f!\u202f»", ()),
        (f"x{tags('obey')}", ("hidden_text",)),
        ("<|im_start|>\u202e", ("bidi_override", "template_token")),
    ],
)
def test_what_is_seen_is_served_and_recorded(text: str, findings: tuple[str, ...]) -> None:
    """The default: nobody is refused, the record says what there was to see."""
    run = asked(Rig(), text)
    assert run.answer.status == 200
    assert run.settlement.verdict == ("annotate" if findings else "allow")
    assert run.settlement.findings == findings


def test_what_is_blocked_reaches_no_engine() -> None:
    """403 with its own code and no hint of the rule; recorded, and nothing is billed."""
    rig = Rig(settings={"guard": {"hidden_text": "block"}})
    run = asked(rig, f"x{tags('obey')}\u202e")
    error = run.answer.json["error"]
    assert (run.answer.status, error["code"], error["type"]) == (403, "prompt_blocked", "permission_error")
    assert "tag" not in error["message"] and "hidden" not in error["message"]
    assert run.requests == []
    settled = run.settlement
    assert (settled.verdict, settled.findings, settled.outcome, settled.cost.total) == (
        "block",
        ("bidi_override", "hidden_text"),
        "refused",
        0,
    )
    assert asked(rig, "x\u202e").answer.status == 200


def test_what_is_off_is_not_recorded() -> None:
    """The operator did not want to know."""
    run = asked(Rig(settings={"guard": {"template_token": "off"}}), "<|im_start|>")
    assert (run.answer.status, run.settlement.verdict, run.settlement.findings) == (200, "allow", ())


def test_every_message_and_part_is_looked_at() -> None:
    """Parts, answers of tools, earlier turns; not what the application itself wrote."""
    rig = Rig()
    for messages, findings in (
        (
            [{"role": "user", "content": "a"}, {"role": "tool", "content": "<|im_start|>", "tool_call_id": "x"}],
            ("template_token",),
        ),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "[INST]"}]}],
            ("template_token",),
        ),
        ([{"role": "system", "content": "<|im_start|>"}, {"role": "user", "content": "a"}], ()),
    ):
        run = rig.ask({"model": PUBLIC, "messages": messages})
        run.feed(plain(ANSWER))
        assert run.settlement.findings == findings


def test_a_large_prompt_is_looked_at_in_turns() -> None:
    """Between two pieces others may work; a client who leaves meanwhile is settled, and nothing reaches an engine."""
    rig = Rig()
    run = asked(rig, "x" * 3_000_000 + tags("obey") + "y" * 3_000_000)
    assert run.answer.status == 200
    assert run.settlement.findings == ("hidden_text",)
    gone = Run(rig, {})
    turns = rig.loop.turn
    rig.loop.turn = lambda: None  # type: ignore[method-assign]
    body = {**chat("x" * 6_000_000 + "<|", model=PUBLIC)}
    gone = rig.ask(body)
    for _ in range(4):
        call, arguments = rig.loop._soon.popleft()
        call(*arguments)
    gone.client.connection_lost(None)
    turns()
    assert rig.book.of(Settlement)[-1].outcome == "client_gone"
    assert len(run.requests) == 1


def test_a_completion_may_bring_its_own_template() -> None:
    """Whoever sends a prompt instead of messages applies the template himself."""
    rig = Rig()
    rig.ask({"model": PUBLIC, "prompt": "<|im_start|>user\nhi<|im_end|>"}, path="/v1/completions").feed(
        plain({**ANSWER, "choices": [{"index": 0, "text": "hi", "finish_reason": "stop"}]})
    )
    assert rig.book.of(Settlement)[-1].findings == ()
