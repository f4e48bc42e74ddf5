# SPDX-License-Identifier: Apache-2.0
"""LangChain as its users call it: a program, because it runs in an environment that has nothing of ours.

In: OPENAI_BASE_URL, OPENAI_API_KEY, the models in BEFFROI_WORDS (scripted) and BEFFROI_REAL (embedded). Out: one JSON
line per check, `{"check": …, "fault": …}`, the fault null where it holds.
"""

import asyncio
import json
import os
import traceback
from collections.abc import Callable
from typing import Any, Literal

from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openai import APIStatusError
from pydantic import BaseModel

WORDS, REAL = os.environ["BEFFROI_WORDS"], os.environ["BEFFROI_REAL"]


def llm(model: str = WORDS, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model=model, temperature=0, max_tokens=64, max_retries=0, timeout=30, **options)


@tool
def get_weather(city: Literal["Paris", "Lyon"]) -> str:
    """Weather of a city."""
    return f"18 C in {city}"


class Answer(BaseModel):
    """An answer."""

    city: Literal["Paris", "Lyon"]
    sunny: bool


def invoke_gives_text_usage_and_a_finish_reason() -> None:
    for model in (WORDS, REAL):
        answer = llm(model).invoke([SystemMessage("Be brief."), HumanMessage("Say hello.")])
        assert answer.text
        assert answer.usage_metadata["total_tokens"] > 0
        assert answer.response_metadata["finish_reason"] in {"stop", "length"}
        assert answer.response_metadata["model_name"] == model


def a_stream_adds_up_and_carries_usage_once() -> None:
    for model in (WORDS, REAL):
        parts = list(llm(model, stream_usage=True).stream("Say hello."))
        total = parts[0]
        for part in parts[1:]:
            total += part
        usage = total.usage_metadata
        assert len(parts) > 1 and total.text
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
    assert "".join(part.text for part in llm(stream_usage=False).stream("count to 5")) == "1 2 3 4 5"


def batches_and_coroutines_work() -> None:
    assert [a.text for a in llm().batch(["count to 1", "count to 2", "count to 3"])] == ["1", "1 2", "1 2 3"]

    async def both() -> None:
        assert (await llm().ainvoke("count to 2")).text == "1 2"
        assert "".join([part.text async for part in llm().astream("count to 4")]) == "1 2 3 4"

    asyncio.run(both())


def a_tool_call_goes_out_and_its_answer_comes_back() -> None:
    call = llm().bind_tools([get_weather], tool_choice="get_weather").invoke("Weather in Paris?")
    (made,) = call.tool_calls
    assert made["name"] == "get_weather" and made["args"]["city"] in {"Paris", "Lyon"} and made["id"]
    told = [HumanMessage("Weather in Paris?"), call, ToolMessage("18 C", tool_call_id=made["id"])]
    assert isinstance(llm().bind_tools([get_weather], tool_choice="none").invoke(told).content, str)


def a_streamed_tool_call_adds_up() -> None:
    total: Any = None
    for part in llm().bind_tools([get_weather], tool_choice="required").stream("Weather in Paris?"):
        total = part if total is None else total + part
    assert total.tool_calls[0]["args"]["city"]


def structured_output_works_in_all_three_ways() -> None:
    for method in ("json_schema", "function_calling", "json_mode"):
        if method == "json_mode":
            assert llm().with_structured_output(None, method=method).invoke("Answer in JSON.") is not None
        else:
            assert llm().with_structured_output(Answer, method=method).invoke("Weather?").city in {"Paris", "Lyon"}


def embeddings_of_texts() -> None:
    vectors = OpenAIEmbeddings(model=REAL, check_embedding_ctx_length=False).embed_documents(["the cat", "le chat"])
    assert len(vectors) == 2 and len(vectors[0]) == len(vectors[1]) > 8


def refusals_are_raised_as_they_are() -> None:
    assert refusal(llm(api_key="sk-wrong")) == (401, "invalid_api_key")
    limited = llm(api_key=os.environ["BEFFROI_LIMITED_KEY"])
    limited.invoke("Hello.")
    limited.invoke("Hello.")
    assert refusal(limited) == (429, "rate_limit_exceeded")


def refusal(model: ChatOpenAI) -> tuple[int, str | None] | None:
    try:
        model.invoke("Hello.")
    except APIStatusError as error:
        return error.status_code, error.code
    return None


CHECKS: tuple[Callable[[], None], ...] = (
    invoke_gives_text_usage_and_a_finish_reason,
    a_stream_adds_up_and_carries_usage_once,
    batches_and_coroutines_work,
    a_tool_call_goes_out_and_its_answer_comes_back,
    a_streamed_tool_call_adds_up,
    structured_output_works_in_all_three_ways,
    embeddings_of_texts,
    refusals_are_raised_as_they_are,
)


def main() -> None:
    for check in CHECKS:
        fault = None
        try:
            check()
        except Exception:
            fault = traceback.format_exc()[-1500:]
        print(json.dumps({"check": check.__name__, "fault": fault}), flush=True)


if __name__ == "__main__":
    main()
