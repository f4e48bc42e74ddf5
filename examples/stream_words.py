# SPDX-License-Identifier: Apache-2.0
"""Show an answer word by word, as the model makes it (002-96, 002-97).

    export BEFFROI_API_KEY=bf-...
    python examples/stream_words.py

Beffroi sends the usage of a stream in its last chunk, asked for or not.
"""

import os

from openai import OpenAI

URL = os.environ.get("BEFFROI_URL", "http://127.0.0.1:8400/v1")
MODEL = os.environ.get("BEFFROI_MODEL", "beffroi-tiny")


def main() -> None:
    """Print the pieces as they come, then what they were."""
    client = OpenAI(base_url=URL, api_key=os.environ["BEFFROI_API_KEY"])
    messages = [{"role": "user", "content": "Tell me a story."}]
    usage = None
    for chunk in client.chat.completions.create(model=MODEL, messages=messages, stream=True):
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        usage = chunk.usage or usage
    print()
    if usage is not None:
        print(f"[{usage.prompt_tokens} tokens in, {usage.completion_tokens} out]")


if __name__ == "__main__":
    main()
