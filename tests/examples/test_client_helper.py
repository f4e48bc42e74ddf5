# SPDX-License-Identifier: Apache-2.0
"""`beffroi.client` beside the OpenAI SDK: bills to the nano-unit, hints, patience."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import httpx
import openai
import pytest

from beffroi.client import Tariff, bill, hints, patiently, patiently_async
from beffroi.core.money import to_decimal
from tests.harness import Served
from tests.tiny import LARGE, SMALL

MESSAGES = [{"role": "user", "content": "Tell me a story."}]
TARIFF = {SMALL: Tariff(input="0.9", output="4", reasoning="21", kwh="0.15"), LARGE: Tariff(input="0.9", output="4")}
CLASSES = ("input", "cached", "output", "reasoning")
USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 300,
    "prompt_tokens_details": {"cached_tokens": 400},
    "completion_tokens_details": {"reasoning_tokens": 100},
}


@pytest.fixture
def sdk(tiny: Served) -> Iterator[openai.OpenAI]:
    """The SDK on the embedded engine."""
    with openai.OpenAI(base_url=f"http://127.0.0.1:{tiny.port}/v1", api_key=tiny.key, max_retries=0) as client:
        yield client


def test_without_the_sdk_it_says_what_to_install() -> None:
    """And the commands that are clients work without it."""
    for module, said in (("beffroi.client", "pip install 'beffroi[client]'"), ("beffroi.cli.main", "")):
        program = f"import sys; sys.modules.update(openai=None, httpx=None); import {module}"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == bool(said) and said in done.stderr, done.stderr


# --- bills -------------------------------------------------------------------------------------------------------------


def test_a_bill_is_what_the_ledger_says(tiny: Served, sdk: openai.OpenAI) -> None:
    """Plain and streamed, to the nano-unit."""
    plain = sdk.chat.completions.with_raw_response.create(model=SMALL, messages=MESSAGES, max_tokens=30)
    stream = sdk.chat.completions.create(model=LARGE, messages=MESSAGES, stream=True)
    request_ids, billed = [plain.headers["x-request-id"]], [bill(plain.parse(), TARIFF)]
    last = [chunk for chunk in stream if chunk.usage is not None][-1]
    request_ids.append(stream.response.headers["x-request-id"])
    billed.append(bill(last, TARIFF))
    rows = tiny.settled(request_ids)
    for request_id, one in zip(request_ids, billed, strict=True):
        (row,) = rows[request_id]
        assert one.cost == to_decimal(sum(row[f"{part}_nano"] for part in CLASSES)) > 0 and one.currency == "EUR"
        assert one.machine, "the gateway says where it was made"


def test_each_class_has_its_price_and_energy_is_what_is_stated() -> None:
    """Cached and reasoning tokens at their own; kilowatt-hours for a million tokens, in watt-hours."""
    answer = {"model": SMALL, "usage": USAGE}
    tariff = Tariff(input="1", output="2", reasoning="10", cached="0.5", kwh="0.15")
    one = bill(answer, {SMALL: tariff})
    assert one.cost == Decimal(600 * 1 + 400 * Decimal("0.5") + 200 * 2 + 100 * 10) / 1_000_000
    assert one.energy_wh == Decimal("0.15") * 1300 / 1000
    assert answer["usage"] is USAGE and USAGE["completion_tokens"] == 300, "the answer is left as it was"


def test_what_is_not_known_is_none() -> None:
    """No tariff, no tokens, no energy: nothing is guessed."""
    assert bill({"model": SMALL, "usage": USAGE}).cost is None
    assert bill({"model": SMALL, "usage": None}, TARIFF).cost is None
    assert bill({"model": LARGE, "usage": USAGE}, TARIFF).energy_wh is None


def test_prices_left_out_are_those_of_their_neighbours() -> None:
    """Reasoning at the output price, cached at the input price."""
    one = bill({"model": "m", "usage": USAGE}, {"m": Tariff(input=1, output=2)})
    assert one.cost == Decimal(1000 * 1 + 300 * 2) / 1_000_000


# --- hints -------------------------------------------------------------------------------------------------------------


def test_an_unknown_model_has_near_ones(sdk: openai.OpenAI) -> None:
    """The gateway's own sentence, and the names nearest to it."""
    known = [model.id for model in sdk.models.list()]
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.chat.completions.create(model="granite3:2b", messages=MESSAGES)
    said = hints(caught.value, known)
    assert "does not exist" in said[0] and said[1].startswith(f"Near it: {SMALL}")


def test_deprecation_and_sunset_are_read() -> None:
    """RFC 9745 and RFC 8594, and links to what follows."""
    headers = {
        "Deprecation": "@1790000000",
        "Sunset": "Thu, 31 Dec 2026 23:59:59 GMT",
        "Link": '<https://llm.example/models/new>; rel="successor-version", <https://llm.example/notice>; rel="deprecation"',
    }
    said = hints(headers)
    assert said == [
        "What was asked for is deprecated since 2026-09-21: plan a move.",
        "It ends on 2026-12-31: requests fail after that.",
        "Its successor: https://llm.example/models/new",
        "Read https://llm.example/notice",
    ]
    assert hints({"Deprecation": "true"}) == ["What was asked for is deprecated: plan a move."]


def test_an_answer_of_today_needs_no_hint(sdk: openai.OpenAI) -> None:
    """Nor do headers that make no sense."""
    raw = sdk.chat.completions.with_raw_response.create(model=SMALL, messages=MESSAGES, max_tokens=2)
    assert hints(raw) == []
    assert hints({"Sunset": "soon", "Link": "<x>; rel=next"}) == []


# --- patience ----------------------------------------------------------------------------------------------------------


class Refusing(BaseHTTPRequestHandler):
    """Answers 429 until the waits of the script are used up."""

    waits: ClassVar[list[str]] = []
    seen: ClassVar[list[float]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.seen.append(time.monotonic())
        body = b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}'
        wait = self.waits.pop(0) if self.waits else None
        if wait is None:
            body = b'{"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": []}'
        self.send_response(200 if wait is None else 429)
        if wait:
            self.send_header("retry-after", wait)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[tuple[type[Refusing], str]]:
    """A gateway that refuses by a script."""
    Refusing.waits, Refusing.seen = [], []
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Refusing, f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def test_retry_after_is_waited_for(refusing: tuple[type[Refusing], str]) -> None:
    """A second as told, then half a second where nothing is told; then the answer."""
    script, url = refusing
    script.waits += ["1", ""]
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        patiently(lambda: client.chat.completions.create(model="m", messages=MESSAGES))
    first, second, third = script.seen
    assert 1 <= second - first < 5 and 0.5 <= third - second < 5


def test_a_wait_longer_than_one_s_patience_is_not_begun(refusing: tuple[type[Refusing], str]) -> None:
    """As of a budget that is used up until the month's end."""
    script, url = refusing
    script.waits += ["86400"]
    began = time.monotonic()
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client, pytest.raises(openai.RateLimitError):
        patiently(lambda: client.chat.completions.create(model="m", messages=MESSAGES), seconds=30)
    assert time.monotonic() - began < 10 and len(script.seen) == 1


def test_the_asynchronous_client_waits_too_and_other_errors_pass(refusing: tuple[type[Refusing], str]) -> None:
    """Only a 429 is waited for."""
    script, url = refusing
    script.waits += ["1"]

    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
            await patiently_async(lambda: client.chat.completions.create(model="m", messages=MESSAGES))

    asyncio.run(ask())
    assert len(script.seen) == 2

    def fail() -> None:
        raise openai.InternalServerError(
            "x", response=httpx.Response(500, request=httpx.Request("POST", url)), body=None
        )

    with pytest.raises(openai.InternalServerError):
        patiently(fail)


def test_a_real_limit_of_the_gateway_is_waited_out(tiny: Served) -> None:
    """A key for one request at a time; two threads share it."""
    key = tiny.new_key(concurrency=1)
    answers: list[str] = []

    def ask() -> None:
        with openai.OpenAI(base_url=f"http://127.0.0.1:{tiny.port}/v1", api_key=key, max_retries=0) as client:
            said = patiently(lambda: client.chat.completions.create(model=SMALL, messages=MESSAGES))
            answers.append(said.choices[0].message.content or "")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(answers) == 4 and all(answers)
