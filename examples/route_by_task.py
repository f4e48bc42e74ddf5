# SPDX-License-Identifier: Apache-2.0
"""Choose a model by the task: a small one for what is simple, a large one for what is hard (002-92).

    export BEFFROI_API_KEY=bf-...
    python examples/route_by_task.py

A larger model is slower and takes more energy: most tasks do without. The models are those of MODELS, which must be
served; set BEFFROI_MODEL to send everything to one that is.
"""

import os

from openai import OpenAI

URL = os.environ.get("BEFFROI_URL", "http://127.0.0.1:8400/v1")
MODELS = {"sentiment_analysis": "granite3.3:2b", "legal_analysis": "deepseek-r1:70b"}
GENERAL = "granite3.3:8b"
TASKS = {
    "sentiment_analysis": "Is this review glad or angry? 'The bells woke me, and I did not mind.'",
    "legal_analysis": "Which duties does a lease lay on the tenant of a belfry?",
}


def model_for(task: str) -> str:
    """The model that a task is sent to."""
    return os.environ.get("BEFFROI_MODEL") or MODELS.get(task, GENERAL)


def main() -> None:
    """Ask each task of its model."""
    client = OpenAI(base_url=URL, api_key=os.environ["BEFFROI_API_KEY"])
    for task, question in TASKS.items():
        answer = client.chat.completions.create(
            model=model_for(task), messages=[{"role": "user", "content": question}], max_tokens=150
        )
        print(f"{task} by {answer.model}: {answer.choices[0].message.content}")


if __name__ == "__main__":
    main()
