# SPDX-License-Identifier: Apache-2.0
"""Clean what people type, and serve them in spite of errors (002-98, 002-99, 002-100).

    export BEFFROI_API_KEY=bf-...
    echo "Tell me a story." | python examples/clean_input_and_errors.py

Taking quotes out is an option and off: apostrophes belong to French, and a prompt is no command line.
"""

import os
import sys
import unicodedata

from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError, OpenAI

from beffroi.client import hints, patiently

URL = os.environ.get("BEFFROI_URL", "http://127.0.0.1:8400/v1")
MODEL = os.environ.get("BEFFROI_MODEL", "beffroi-tiny")
LONGEST = 2000  # characters
SORRY = "The assistant is not available at the moment; your question was not lost, please send it again later."


def clean(text: str, *, quotes: bool = True) -> str:
    """What a person typed, without control characters, at most LONGEST characters; `quotes=False` takes those out too."""
    kept = "".join(char for char in text if char in "\n\t" or unicodedata.category(char)[0] != "C")
    if not quotes:
        kept = kept.translate(str.maketrans("", "", "\"'`"))
    return kept.strip()[:LONGEST]


def answer(client: OpenAI, question: str) -> str:
    """The model's answer, or a sentence that the person can do something with."""
    messages = [{"role": "user", "content": clean(question)}]
    try:
        said = patiently(
            lambda: client.chat.completions.create(model=MODEL, messages=messages, max_tokens=150), seconds=10
        )
        return said.choices[0].message.content or ""
    except APITimeoutError:
        print("no answer in time", file=sys.stderr)
    except APIConnectionError as error:
        print(f"nobody answers: {error.__cause__}", file=sys.stderr)
    except APIStatusError as error:  # 429 after some patience, 500, 404, …
        print(f"status {error.status_code}: {error.message}", file=sys.stderr)
        for hint in hints(error):
            print(f"hint: {hint}", file=sys.stderr)
    except APIError as error:  # a stream that broke off, an answer that is none
        print(f"error: {error.message}", file=sys.stderr)
    return SORRY


def main() -> None:
    """Answer standard input."""
    client = OpenAI(base_url=URL, api_key=os.environ["BEFFROI_API_KEY"], timeout=30, max_retries=0)
    print(answer(client, sys.stdin.read()))


if __name__ == "__main__":
    main()
