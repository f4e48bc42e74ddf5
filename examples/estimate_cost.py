# SPDX-License-Identifier: Apache-2.0
"""Estimate what a request will cost before it is sent, then compare with what it did cost (002-20, 002-21).

    export BEFFROI_API_KEY=bf-...
    python examples/estimate_cost.py

The rule of thumb, one token for four characters, is for a first idea: the answer's own count is what is billed.
"""

import os

from openai import OpenAI

from beffroi.client import Tariff, bill

URL = os.environ.get("BEFFROI_URL", "http://127.0.0.1:8400/v1")
MODEL = os.environ.get("BEFFROI_MODEL", "beffroi-tiny")
TARIFF = Tariff(input="0.9", output="4", reasoning="21")  # euros for a million tokens
PROMPT = "Que sonnaient les cloches?"
ANSWER_TOKENS = 200


def estimate_tokens(text: str) -> int:
    """One token for four characters."""
    return len(text) // 4


def main() -> None:
    """Print the estimate, then the bill."""
    estimated = estimate_tokens(PROMPT)
    cost = (estimated * float(TARIFF.input) + ANSWER_TOKENS * float(TARIFF.output)) / 1_000_000
    print(f"estimated: {estimated} tokens in, {ANSWER_TOKENS} out, {cost:.6f} EUR")

    client = OpenAI(base_url=URL, api_key=os.environ["BEFFROI_API_KEY"])
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": PROMPT}], max_tokens=ANSWER_TOKENS
    )
    billed = bill(answer, {answer.model: TARIFF})
    if billed.tokens is not None:
        tokens = billed.tokens
        print(
            f"billed: {tokens.input + tokens.cached} tokens in, {tokens.completion} out, {billed.cost:f} {billed.currency}"
        )


if __name__ == "__main__":
    main()
