# SPDX-License-Identifier: Apache-2.0
"""Ask many questions at once with the asynchronous client (002-95).

    export BEFFROI_API_KEY=bf-...
    python examples/many_at_once.py

`patiently_async` waits as long as the gateway says when the key's limit is reached.
"""

import asyncio
import os

from openai import AsyncOpenAI

from beffroi.client import patiently_async

URL = os.environ.get("BEFFROI_URL", "http://127.0.0.1:8400/v1")
MODEL = os.environ.get("BEFFROI_MODEL", "beffroi-tiny")
QUESTIONS = ("What is the capital of France?", "Tell me a story.", "Who are you?")


async def ask(client: AsyncOpenAI, question: str) -> str:
    """One question, with patience."""
    answer = await patiently_async(
        lambda: client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": question}], max_tokens=150
        )
    )
    return answer.choices[0].message.content or ""


async def main() -> None:
    """All of them, together."""
    async with AsyncOpenAI(base_url=URL, api_key=os.environ["BEFFROI_API_KEY"], max_retries=0) as client:
        tasks = [ask(client, question) for question in QUESTIONS]
        for question, answer in zip(QUESTIONS, await asyncio.gather(*tasks), strict=True):
            print(f"{question}\n  {answer}")


if __name__ == "__main__":
    asyncio.run(main())
