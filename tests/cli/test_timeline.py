# SPDX-License-Identifier: Apache-2.0
"""What is told of requests that did not end well, or whose price has changed since."""

from typing import Any

import pytest

from beffroi.cli import timeline

TOKENS = {"input": 1_000, "cached": 0, "output": 3, "reasoning": 0}
NANO = {"input": 900_000, "cached": 0, "output": 1, "reasoning": 0}
PRICE = {
    "version": "p1",
    "agrees": True,
    "per_million_nano": {"input": 900_000_000, "cached": 900_000_000, "output": 400_000, "reasoning": 400_000},
}
ATTEMPT: dict[str, Any] = {
    "arrived_at": "2026-03-01T10:00:00.000000Z",
    "ended_at": "2026-03-01T10:00:01.250000Z",
    "key_id": "key_1", "key_name": "app", "organisation": "default", "project": "default", "address": "10.0.0.1", "end_user": None,
    "attempt": 1, "state": "settled", "model": "m", "endpoint": "chat", "stream": True, "engine": "e1", "engine_kind": "vllm",
    "status": 200, "code": None, "outcome": "complete", "source": "engine", "price_version": "p1", "currency": "EUR",
    "finish_reason": "stop", "verdict": "allow", "findings": [], "bytes_in": 1_234, "bytes_out": 5, "first_us": 0,
    "total_us": 1_250_000, "worker": 3, "tokens": TOKENS, "nano": NANO, "cost_nano": 900_001, "price": PRICE,
}  # fmt: skip


def told(capsys: pytest.CaptureFixture[str], **values: Any) -> str:
    """What is printed of an attempt that differs in those."""
    timeline.tell({"id": "req_1", "attempts": [ATTEMPT | values], "running": None})
    return capsys.readouterr().out


def test_a_sum_is_written_out_with_its_rounding(capsys: pytest.CaptureFixture[str]) -> None:
    """3 tokens at 0.0004 EUR a million are 1.2 nano-units: half up, 1."""
    text = told(capsys)
    assert "input    1,000 × 0.9 EUR per million     = 0.000900000 EUR\n" in text.replace("input     ", "input    ")
    assert "output" in text and "× 0.0004 EUR per million  = 0.000000001 EUR\n" in text
    assert "= 0.000900001 EUR\n" in text and "each amount rounded half up once, to 0.000000001 EUR\n" in text


@pytest.mark.parametrize(
    ("price", "said"),
    [
        (
            {"version": "p1", "agrees": None, "per_million_nano": None},
            "the configuration has no price line p1 any more",
        ),
        (PRICE | {"agrees": False}, "the price line p1 was another when this was billed"),
    ],
)
def test_a_price_that_is_no_more_what_it_was_is_not_shown_as_the_reason(
    capsys: pytest.CaptureFixture[str], price: dict[str, Any], said: str
) -> None:
    """The amounts that were billed stand, without a rate that would not give them."""
    text = told(capsys, price=price)
    assert said in text and "per million" not in text and "= 0.000900001 EUR" in text


def test_a_request_whose_worker_died_says_how_it_was_closed(capsys: pytest.CaptureFixture[str]) -> None:
    """And on what its bill rests."""
    text = told(capsys, outcome="lost", state="recovered", status=0, source="recovered", engine_kind="")
    assert text.startswith("req_1  lost\n")
    assert " 7 record        w03 died; closed by control from what the journal had last\n" in text
    assert "as far as the journal had seen them when the worker died" in text


def test_what_the_guard_saw_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """And where it ended the request."""
    text = told(
        capsys, attempt=0, outcome="refused", status=403, code="prompt_blocked", verdict="block", findings=["hidden_text"],
        state="refused", engine="", engine_kind="", tokens=dict.fromkeys(TOKENS, 0), nano=dict.fromkeys(TOKENS, 0), cost_nano=0,
    )  # fmt: skip
    assert " 3 inspect       refused: 403 prompt_blocked (hidden_text)\n 4 route         not reached\n" in text
    assert "no tokens, nothing to pay" in text


def test_a_client_who_left_is_billed_for_what_passed(capsys: pytest.CaptureFixture[str]) -> None:
    """Its outcome has no code."""
    text = told(capsys, outcome="client_gone", status=200, source="relayed", finish_reason=None, first_us=20_000)
    assert text.startswith("req_1  client_gone, 200\n")
    assert " 5 relay         1 e1  client_gone, 200, first byte 20.0 ms, end 1.25 s\n" in text
    assert "because the engine's own count never came" in text
