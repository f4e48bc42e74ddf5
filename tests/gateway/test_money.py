# SPDX-License-Identifier: Apache-2.0
"""Money through the whole: a request over a socket, a bill in the ledger, for every way in which a request can end."""

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from beffroi.core.price import Price, Tokens, cost_of
from tests.client import Answer, call, chat, request
from tests.engines.scripted import ScriptedEngine
from tests.harness import Json, Served, wait_for

SOURCE = {"input": "0.9", "output": "4", "reasoning": "21"}
CACHED = SOURCE | {"cached": "0.45"}
PER_TOKEN = {"input": 0, "output": 1000}  # 0.001 € for each token made
NANO = 1_000_000


class Bank:
    """A running Beffroi with priced models, and the two engines behind it: one that counts, one that draws its counts."""

    def __init__(self, folder: Path, plain: ScriptedEngine, drawing: ScriptedEngine) -> None:
        self.plain, self.drawing = plain, drawing
        counts = [{"engine": "plain"}]
        self.served = Served(
            folder / "data",
            {"plain": plain.url, "drawing": drawing.url},
            workers=2,
            models=[
                {"id": "words", "targets": counts, "prices": [SOURCE]},
                {"id": "thinker", "targets": [{"engine": "plain", "model": "think"}], "prices": [SOURCE]},
                {"id": "drawn", "targets": [{"engine": "drawing", "model": "think"}], "prices": [CACHED]},
                {"id": "small", "targets": counts, "prices": [PER_TOKEN], "max_output": 50, "default_max_tokens": 20},
                {"id": "tomorrow", "targets": counts, "prices": [SOURCE | {"effective": "2199-01-01"}]},
                {
                    "id": "today",
                    "targets": counts,
                    "prices": [SOURCE, PER_TOKEN | {"effective": "2024-01-01", "version": "new"}],
                },
            ],
        ).start()

    def row(self, answer: Answer | str) -> Json:
        """The one row of an exchange that had one attempt."""
        request_id = answer if isinstance(answer, str) else answer.get("x-request-id") or ""
        rows = self.served.settled([request_id])[request_id]
        assert len(rows) == 1, rows
        return rows[0]


@pytest.fixture(scope="module")
def bank() -> Iterator[Bank]:
    """One for all tests of this file; each cleans up after its engine."""
    folder = Path(tempfile.mkdtemp(prefix="bf-"))
    with ScriptedEngine() as plain, ScriptedEngine(seed=7, tokens=(1, 60)) as drawing:
        bank = Bank(folder, plain, drawing)
        try:
            yield bank
        finally:
            bank.served.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _sound(bank: Bank) -> Iterator[None]:
    yield
    bank.plain.always()
    bank.plain.reset_script()


def nano(row: Json) -> tuple[int, int, int, int]:
    """The bill of a row, class by class."""
    return row["input_nano"], row["cached_nano"], row["output_nano"], row["reasoning_nano"]


def tokens(row: Json) -> Tokens:
    """The counts of a row."""
    return Tokens(row["input_tokens"], row["cached_tokens"], row["output_tokens"], row["reasoning_tokens"])


@pytest.mark.parametrize("streamed", [True, False])
def test_the_source_s_worked_example_costs_0_0008054_euro(bank: Bank, streamed: bool) -> None:
    """6 tokens in at 0.90 €, 200 out at 4.00 €: in the ledger, and in what `usage` sums."""
    bank.plain.script("tokens=200")
    answer = bank.served.chat("un deux trois", stream=streamed)
    usage = answer.chunks[-1]["usage"] if streamed else answer.json["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (6, 200)
    row = bank.row(answer)
    assert nano(row) == (5_400, 0, 800_000, 0)
    assert sum(nano(row)) == 805_400
    assert (row["outcome"], row["source"], row["currency"]) == ("complete", "engine", "EUR")


def test_every_class_of_tokens_has_its_price(bank: Bank) -> None:
    """The engine draws prompt, cached, completion and reasoning; the bill is what the price list makes of them."""
    price = Price("x", input=900_000_000, cached=450_000_000, output=4_000_000_000, reasoning=21_000_000_000)
    classes = [0] * 4
    for number in range(12):
        answer = bank.served.chat(f"number {number}", model="drawn", stream=bool(number % 2))
        assert answer.status == 200, answer.body
        row, entry = bank.row(answer), bank.drawing.entries[-1]
        counted = Tokens(entry.prompt - entry.cached, entry.cached, entry.completion - entry.reasoning, entry.reasoning)
        assert tokens(row) == counted
        cost = cost_of(counted, price)
        assert nano(row) == (cost.input, cost.cached, cost.output, cost.reasoning)
        classes = [a + b for a, b in zip(classes, nano(row), strict=True)]
    assert all(classes), "each class was met"
    row = bank.row(bank.served.chat("hm", model="thinker"))
    assert row["reasoning_tokens"] == 4 and row["reasoning_nano"] == 4 * 21_000


def test_the_price_is_that_of_the_day(bank: Bank) -> None:
    """A price of the far future costs nothing now; the newest that has begun holds, and its version is pinned."""
    assert nano(bank.row(bank.served.chat("hi", model="tomorrow"))) == (0, 0, 0, 0)
    row = bank.row(bank.served.chat("count to 3", model="today"))
    assert nano(row) == (0, 0, 3 * NANO, 0)
    assert row["price_version"] == "new"


def test_usage_sums_what_the_ledger_holds(bank: Bank) -> None:
    """To the nano-unit, for one key alone."""
    key = bank.served.new_key()
    answers = [bank.served.chat(f"count to {n}", key=key, model="small") for n in (3, 5, 8)]
    rows = [bank.row(answer) for answer in answers]
    assert sum(sum(nano(row)) for row in rows) == 16 * NANO
    mine = [line for line in bank.served.cli("usage", "--by", "key,model")["usage"] if line["cost_nano"] == 16 * NANO]
    assert [(line["model"], line["requests"], line["output_tokens"]) for line in mine] == [("small", 3, 16)]


# ends that are none -------------------------------------------------------------------------------------------------


def test_a_cut_stream_is_billed_by_what_was_relayed(bank: Bank) -> None:
    """Five tokens came; the source says who counted."""
    bank.plain.script(*["cut_after=5;rst"] * 3)
    answer = bank.served.chat("count to 20", model="small", stream=True)
    assert answer.text == "1 2 3 4 5"
    row = bank.row(answer)
    assert (row["outcome"], row["source"], row["output_tokens"], row["output_nano"]) == (
        "engine_gone",
        "relayed",
        5,
        5 * NANO,
    )
    assert (row["status"], row["code"]) == (200, "engine_broken")


def test_a_client_who_leaves_pays_for_what_it_was_sent_and_nothing_before_the_first_token(bank: Bank) -> None:
    """And the rest of its reservation is free at once."""
    key = bank.served.new_key(hard_budget="0.051", budget_period="total")  # one bound of 50 tokens, and a little
    for standing, least, most in (("hang", 0, 0), ("gap=0.02", 2, 30)):
        bank.plain.always(standing)
        before = len(bank.plain.entries)
        with bank.served.connect() as conn:
            conn.send(
                request(key, chat("count to 40", model="small", stream=True, max_tokens=48 if least == 0 else 40))
            )
            if least:
                conn.answer(until=lambda a: len(a.pieces) >= 4)
            else:
                wait_for(lambda before=before: len(bank.plain.entries) > before, 5, "the engine is asked")  # type: ignore[misc]
        wait_for(lambda: bank.plain.stats["open"] == 0, 5, "the engine is let go")
        row = bank.row(bank.plain.entries[-1].request_id)
        assert row["outcome"] == "client_gone"
        assert least <= row["output_tokens"] <= most
        assert row["output_nano"] == row["output_tokens"] * NANO
        assert row["source"] == ("relayed" if least else "none")
    bank.plain.always()
    spent = bank.row(bank.plain.entries[-1].request_id)["output_tokens"]
    answer = bank.served.chat("count to 3", key=key, model="small", max_tokens=50 - spent)
    assert answer.status == 200, "what was not used came back"


def test_a_failed_attempt_costs_nothing_and_stands_in_the_ledger(bank: Bank) -> None:
    """One row for each attempt; only the one that answered is billed."""
    bank.plain.script("status=500")
    answer = bank.served.chat("count to 4", model="small")
    assert answer.status == 200
    request_id = answer.get("x-request-id") or ""
    wait_for(lambda: len(bank.served.settled([request_id])[request_id]) == 2, 5, "both attempts")
    first, second = bank.served.settled([request_id])[request_id]
    assert (first["attempt"], sum(nano(first)), first["outcome"]) == (1, 0, "engine_gone")
    assert (second["attempt"], sum(nano(second)), second["outcome"]) == (2, 4 * NANO, "complete")


def test_refusals_of_a_known_key_are_recorded_and_cost_nothing(bank: Bank) -> None:
    """Each with its status and code, as attempt 0; of strangers only counts are kept."""
    key = bank.served.new_key(model="words", requests_per_minute=1)
    assert bank.served.chat("hi", key=key).status == 200
    refused = {
        "rate_limit_exceeded": bank.served.chat("hi", key=key),
        "model_not_allowed": bank.served.chat("hi", key=key, model="small"),
        "model_not_found": bank.served.chat("hi", key=key, model="nobody"),
        None: call(bank.served.address, request(key, {"model": "words", "messages": []})),
    }
    for code, answer in refused.items():
        row = bank.row(answer)
        assert (row["outcome"], row["attempt"], row["code"], sum(nano(row))) == ("refused", 0, code, 0)
        assert row["status"] == answer.status >= 400
    stranger = call(bank.served.address, request("bf-" + "0" * 12 + "-" + "0" * 38, chat()))
    assert stranger.status == 401
    time.sleep(0.3)
    assert not bank.served.ledger(f"SELECT 1 FROM exchanges WHERE request_id = '{stranger.get('x-request-id')}'")


# budgets ------------------------------------------------------------------------------------------------------------


def bound(body: Json) -> int:
    """What the page on limits says that a request to `words` holds: no output price is dearer than reasoning."""
    size, made = len(json.dumps(body).encode()), body["max_tokens"] * body.get("n", 1)
    return -(-(size + 512) * 900 // 1) + made * 21_000 + 2


@pytest.mark.parametrize("copies", [1, 3])
def test_a_hard_budget_admits_a_request_whose_bound_it_holds_and_not_one_nano_unit_less(
    bank: Bank, copies: int
) -> None:
    """The formula is exact; `n` answers hold n bounds."""
    body = chat("count to 2", max_tokens=10, n=copies)
    held = bound(body)
    enough = bank.served.new_key(hard_budget=f"{held / 1e9:.9f}", budget_period="total")
    short = bank.served.new_key(hard_budget=f"{(held - 1) / 1e9:.9f}", budget_period="total")
    refused = call(bank.served.address, request(short, body))
    assert refused.status == 429 and refused.json["error"]["code"] == "insufficient_quota"
    assert "more than the whole budget" in refused.json["error"]["message"]
    answer = call(bank.served.address, request(enough, body))
    assert answer.status == 200
    assert sum(nano(bank.row(answer))) <= held
    assert sum(nano(bank.row(refused))) == 0


def test_a_hard_budget_sends_the_engine_a_bound_and_clamps_what_is_above_the_model(bank: Bank) -> None:
    """Without a bound of the client the model's default; 60,000 becomes what the model can give, and is no error."""
    key = bank.served.new_key(hard_budget="10", budget_period="total")
    for asked, sent in ((None, 20), (7, 7), (60_000, 50)):
        more = {} if asked is None else {"max_tokens": asked}
        answer = bank.served.chat("count to 100", key=key, model="small", **more)
        assert answer.status == 200
        assert bank.plain.generations()[-1].json["max_tokens"] == sent
        assert answer.json["usage"]["completion_tokens"] == sent
    answer = bank.served.chat("count to 60", model="small")
    assert "max_tokens" not in bank.plain.generations()[-1].json, "without a hard budget nothing is added"
    assert answer.json["usage"]["completion_tokens"] == 60


def test_a_budget_that_is_spent_refuses_until_its_period_ends(bank: Bank) -> None:
    """The message says what is left and when it renews; nothing is spent beyond it."""
    key = bank.served.new_key(hard_budget="0.1", budget_period="day")
    spent = 0
    while (answer := bank.served.chat("count to 30", key=key, model="small", max_tokens=30)).status == 200:
        spent += answer.json["usage"]["completion_tokens"]
        assert spent <= 100
    assert spent == 90
    error = answer.json["error"]
    assert (answer.status, error["code"]) == (429, "insufficient_quota")
    assert "0.01 EUR of 0.1 EUR are left" in error["message"] and "renews at" in error["message"]
    assert 0 < int(answer.get("retry-after") or 0) <= 86_400
    assert bank.served.chat("count to 3", key=key, model="small", max_tokens=9).status == 200


# headers ------------------------------------------------------------------------------------------------------------


def test_the_rate_limit_headers_count_down_on_every_kind_of_answer(bank: Bank) -> None:
    """Whole, streamed and refused; a key without such a limit sees none."""
    key = bank.served.new_key(requests_per_minute=4)
    left = []
    for number in range(6):
        answer = bank.served.chat("hi", key=key, stream=number == 1)
        assert answer.get("x-ratelimit-limit-requests") == "4"
        left.append(int(answer.get("x-ratelimit-remaining-requests") or -1))
        reset = int(answer.get("x-ratelimit-reset-requests") or 0)
        assert time.time() <= reset <= time.time() + 63
    assert left == [3, 2, 1, 0, 0, 0]
    assert answer.status == 429
    assert re.fullmatch(r"[1-9]\d?", answer.get("retry-after") or "")
    assert answer.json["error"]["type"] == "rate_limit_error"
    assert bank.served.chat("hi").get("x-ratelimit-limit-requests") is None


def test_a_limit_on_tokens_counts_what_was_used_and_names_itself(bank: Bank) -> None:
    """Estimates at first, the truth afterwards."""
    key = bank.served.new_key(output_tokens_per_hour=60)
    answers = [bank.served.chat("count to 20", key=key, model="small", max_tokens=20) for _ in range(4)]
    assert [a.status for a in answers] == [200, 200, 200, 429]
    assert "output_tokens_per_hour" in answers[-1].json["error"]["message"]
