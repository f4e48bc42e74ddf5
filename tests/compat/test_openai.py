# SPDX-License-Identifier: Apache-2.0
"""The OpenAI library for Python: what its users rely on."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.compat.conftest import MODELS, Gateway
from tests.engines.scripted import ScriptedEngine
from tests.harness import wait_for

HELLO: Any = [{"role": "user", "content": "Say hello."}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Lyon"]}},
            "required": ["city"],
        },
    },
}


class Forecast(BaseModel):
    """What a model is asked to fill."""

    sunny: bool


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    """As a user makes it, but that an error is shown at once."""
    with OpenAI(base_url=gateway.url, api_key=gateway.key, max_retries=0, timeout=30) as client:
        yield client


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_and_what_it_used_stand_in_the_ledger_as_the_library_shows_them(
    gateway: Gateway, client: OpenAI, model: str
) -> None:
    """Plain and streamed: text, one reason to finish, usage that adds up, the id of the request."""
    raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, max_tokens=16)
    plain = raw.parse()
    assert plain.model == model
    assert plain.choices[0].message.content
    assert plain.choices[0].finish_reason in {"stop", "length"}
    stream = client.chat.completions.with_raw_response.create(
        model=model, messages=HELLO, max_tokens=16, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream.parse())
    assert [c.choices[0].finish_reason for c in chunks[:-1] if c.choices[0].finish_reason] in (["stop"], ["length"])
    assert chunks[-1].choices == []
    assert all(c.usage is None for c in chunks[:-1])
    assert {c.model for c in chunks} == {model}
    told = {str(raw.headers["x-request-id"]): plain.usage, str(stream.headers["x-request-id"]): chunks[-1].usage}
    rows = gateway.served.settled(told)
    for request_id, usage in told.items():
        assert usage is not None and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        (row,) = rows[request_id]
        assert row["input_tokens"] + row["cached_tokens"] == usage.prompt_tokens
        assert row["output_tokens"] + row["reasoning_tokens"] == usage.completion_tokens


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_that_did_not_ask_for_usage_has_a_choice_in_every_chunk(client: OpenAI, model: str) -> None:
    """`chunk.choices[0]` is what every tutorial writes."""
    stream = client.chat.completions.create(model=model, messages=HELLO, max_tokens=16, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_the_accumulating_helper_ends_with_the_whole_answer(client: OpenAI) -> None:
    """It throws where role, index or finish reason are missing."""
    with client.chat.completions.stream(model="words", messages=[{"role": "user", "content": "count to 5"}]) as stream:
        kinds = {event.type for event in stream}
        whole = stream.get_final_completion()
    assert "content.delta" in kinds
    assert whole.choices[0].message.content == "1 2 3 4 5"


def test_a_tool_call_goes_out_and_its_answer_comes_back(client: OpenAI) -> None:
    """Plain, and streamed in pieces that add up to JSON."""
    ask: Any = [{"role": "user", "content": "Weather in Paris?"}]
    create = client.chat.completions.create
    plain: Any = create(model="words", messages=ask, tools=[WEATHER], tool_choice="required").choices[0]
    assert plain.finish_reason == "tool_calls"
    call = plain.message.tool_calls[0]
    assert json.loads(call.function.arguments)["city"] in {"Paris", "Lyon"}
    back: Any = [*ask, plain.message, {"role": "tool", "tool_call_id": call.id, "content": "18 C"}]
    assert create(model="words", messages=back, tools=[WEATHER], tool_choice="none").choices[0].message.content
    named: Any = {"type": "function", "function": {"name": "get_weather"}}
    stream = create(model="words", messages=ask, tools=[WEATHER], tool_choice=named, stream=True)
    pieces = [piece for chunk in stream for piece in chunk.choices[0].delta.tool_calls or []]
    assert json.loads("".join(p.function.arguments or "" for p in pieces if p.function))["city"]


def test_an_answer_of_a_given_shape_fills_an_object(client: OpenAI) -> None:
    """`parse` with a Pydantic model."""
    answer = client.chat.completions.parse(model="words", messages=HELLO, response_format=Forecast)
    assert isinstance(answer.choices[0].message.parsed, Forecast)


@pytest.mark.parametrize("model", MODELS)
def test_embeddings_are_the_same_in_both_forms(client: OpenAI, model: str) -> None:
    """The library asks for base64 by itself."""
    packed = client.embeddings.create(model=model, input=["the cat", "le chat"])
    floats = client.embeddings.create(model=model, input=["the cat", "le chat"], encoding_format="float")
    assert [one.index for one in packed.data] == [0, 1]
    for one, other in zip(packed.data, floats.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert packed.usage.prompt_tokens == floats.usage.prompt_tokens > 0


def test_several_choices_of_the_embedded_engine_are_all_billed(gateway: Gateway, client: OpenAI) -> None:
    """llama.cpp itself counts one of them; the sum is what the choices list where they are asked to."""
    create = client.chat.completions.with_raw_response.create
    hot: Any = {"model": "beffroi-tiny", "n": 3, "temperature": 1.2, "max_tokens": 30}
    raw = create(messages=[{"role": "user", "content": "What is 1 + 1?"}], logprobs=True, **hot)
    listed = [choice.logprobs.content or [] for choice in raw.parse().choices if choice.logprobs]
    usage = raw.parse().usage
    assert len(listed) == 3 and usage is not None and usage.completion_tokens == sum(map(len, listed))
    quiet = create(messages=[{"role": "user", "content": "What is 1 + 1?"}], **hot)
    assert [choice.logprobs for choice in quiet.parse().choices] == [None] * 3
    for one in (raw, quiet):
        shown = one.parse().usage
        (row,) = gateway.served.settled([str(one.headers["x-request-id"])])[str(one.headers["x-request-id"])]
        assert shown is not None and row["output_tokens"] == shown.completion_tokens > usage.completion_tokens // 3
    many = client.completions.create(model="beffroi-tiny", prompt="Once", n=3, max_tokens=9)
    assert many.usage is not None and 9 < many.usage.completion_tokens <= 27
    assert [choice.logprobs for choice in many.choices] == [None] * 3


def test_completions_models_and_aliases(client: OpenAI) -> None:
    """The rest of the family."""
    assert client.completions.create(model="beffroi-tiny", prompt="Once", max_tokens=8).choices[0].text
    assert {model.id for model in client.models.list()} == set(MODELS)
    assert client.models.retrieve("words").object == "model"
    assert client.chat.completions.create(model="mots", messages=HELLO).choices[0].message.content


def test_each_refusal_is_the_librarys_own_class_with_its_code(gateway: Gateway, client: OpenAI) -> None:
    """Programs decide by class and code."""
    stranger = client.with_options(api_key="sk-wrong")
    with pytest.raises(openai.AuthenticationError) as wrong:
        stranger.models.list()
    assert (wrong.value.code, wrong.value.type) == ("invalid_api_key", "authentication_error")
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="no-such", messages=HELLO, stream=stream)
        assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
        assert unknown.value.request_id
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="words", messages=HELLO, temperature=9)
    assert (bad.value.type, bad.value.param) == ("invalid_request_error", "temperature")
    narrow = client.with_options(api_key=gateway.served.new_key(model="words"))
    with pytest.raises(openai.PermissionDeniedError) as closed:
        narrow.chat.completions.create(model="beffroi-tiny", messages=HELLO)
    assert closed.value.code == "model_not_allowed"


def test_a_limit_is_a_rate_limit_error_whose_wait_the_library_can_keep(gateway: Gateway, client: OpenAI) -> None:
    """`Retry-After` in whole seconds, and the three headers of the limit."""
    few = client.with_options(api_key=gateway.served.new_key(requests_per_minute=2))
    for _ in range(2):
        raw = few.chat.completions.with_raw_response.create(model="words", messages=HELLO)
        assert int(str(raw.headers["x-ratelimit-limit-requests"])) == 2
    with pytest.raises(openai.RateLimitError) as over:
        few.chat.completions.create(model="words", messages=HELLO)
    assert over.value.code == "rate_limit_exceeded"
    assert 0 < int(over.value.response.headers["retry-after"]) <= 60


def test_the_librarys_own_retry_gets_through_when_an_engine_is_back(
    gateway: Gateway, client: OpenAI, engine: ScriptedEngine
) -> None:
    """It takes the answer for a reason to come again, and finds the engine well."""
    engine.always("status=500")
    with pytest.raises(openai.InternalServerError) as down:
        client.chat.completions.create(model="words", messages=HELLO)
    assert down.value.status_code in {502, 503}
    well = threading.Timer(0.5, engine.always)
    well.start()
    assert client.with_options(max_retries=5).chat.completions.create(model="words", messages=HELLO).choices
    well.join()


def test_an_engine_that_dies_in_a_stream_is_an_error_and_not_a_short_answer(
    client: OpenAI, engine: ScriptedEngine
) -> None:
    """What came before is delivered; then the library raises."""
    engine.script("cut_after=3")
    text = ""
    with pytest.raises(openai.APIError):
        for chunk in client.chat.completions.create(
            model="words", messages=[{"role": "user", "content": "count to 9"}], stream=True
        ):
            text += chunk.choices[0].delta.content or ""
    assert text == "1 2 3"


def test_a_stream_that_is_closed_stops_the_engine(client: OpenAI, engine: ScriptedEngine) -> None:
    """Leaving a `for` loop is enough."""
    engine.always("gap=0.02")
    stream = client.chat.completions.create(
        model="words", messages=[{"role": "user", "content": "count to 400"}], stream=True
    )
    next(iter(stream))
    stream.close()
    wait_for(lambda: engine.stats["open"] == 0, 5, "the engine is idle")


def test_a_clients_time_out_is_its_own_and_the_next_call_works(client: OpenAI, engine: ScriptedEngine) -> None:
    """`APITimeoutError`, and nothing is left behind."""
    engine.script("first=3")
    began = time.monotonic()
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(model="words", messages=HELLO)
    assert time.monotonic() - began < 2
    assert client.chat.completions.create(model="words", messages=HELLO).choices


def test_unknown_fields_pass_and_a_base_url_without_v1_works(gateway: Gateway, client: OpenAI) -> None:
    """`extra_body` reaches the engine; clients of the service that Beffroi replaces leave /v1 out."""
    client.chat.completions.create(model="words", messages=HELLO, extra_body={"x_probe": 17}, user="u", seed=1)
    assert gateway.scripted.generations()[-1].json["x_probe"] == 17
    bare = client.with_options(base_url=gateway.url.removesuffix("/v1"))
    assert bare.chat.completions.create(model="words", messages=HELLO).choices


def test_many_calls_at_once_of_the_asynchronous_client(gateway: Gateway) -> None:
    """Thirty of them, half streamed; each has its own answer."""

    async def one(client: AsyncOpenAI, number: int) -> str:
        messages: Any = [{"role": "user", "content": f"count to {number}"}]
        if number % 2:
            stream = await client.chat.completions.create(model="words", messages=messages, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        answer = await client.chat.completions.create(model="words", messages=messages)
        return answer.choices[0].message.content or ""

    async def everyone() -> list[str]:
        async with AsyncOpenAI(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
            return await asyncio.gather(*(one(client, number) for number in range(1, 31)))

    assert asyncio.run(everyone()) == [" ".join(map(str, range(1, number + 1))) for number in range(1, 31)]
