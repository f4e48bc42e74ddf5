# SPDX-License-Identifier: Apache-2.0
"""What a person reads when Beffroi has started: where it is, how to call it, how to stop it; and when it stops.

In: a `Plan`, and what the start came to. Out: text on standard output, with a little colour on a terminal.
"""

import os
import shlex
import shutil
import sys
import textwrap
from pathlib import Path

import click

from beffroi.cli.data import data_directory
from beffroi.core.state import load_config
from beffroi.supervisor.plan import Plan, Ready

_QUESTION = "What is the capital of France?"
_MARGIN = 12  # columns before what a row says
_SHOWN = 12  # models that are named
_STORY = "Tell me a story."


class Welcome:
    """Prints the page. `engines` says in one line what stands behind."""

    def __init__(self, plan: Plan, engines: str) -> None:
        self._plan = plan
        self._engines = engines

    def __call__(self, ready: Ready) -> None:
        """Print it, once."""
        from beffroi.cli.target import reachable, tell  # noqa: PLC0415 - it speaks HTTP, and the start did without

        plan = self._plan
        scheme = "http" if plan.tls is None else "https"
        base = f"{scheme}://{reachable(plan.host)}:{ready.port}/v1"
        tell(plan.data, base)
        config = load_config(plan.data)
        models = [model.id for model in config.models]
        chat = next((model.id for model in config.models if "chat" in model.endpoints), None)
        _head("Beffroi has started, but not all of it is ready:" if ready.missing else "Beffroi is ready.")
        for part, reason in ready.missing.items():
            click.echo(f"  {part}: {reason}")
        _row("Base URL", base)
        if ready.first_key:
            _row("API key", ready.first_key)
            _row("", "shown this once: keep it")
        else:
            _row("API key", f"not shown again; for another: {_another_key(plan.data)}")
        _row(
            "Models",
            _some(models) or "none yet: name an engine with --engine, or write them in a configuration file",
        )
        _row("Engines", self._engines)
        _silent({engine.url: engine.name for engine in config.engines})
        _row("Health", f"http://{reachable(plan.control_host)}:{ready.control_port}/readyz  and  /metrics")
        _row("Data", str(plan.data))
        if plan.config is not None:
            _row("Settings", str(plan.config))
        if chat is not None:
            _examples(base, ready.first_key, chat)
        click.echo("\nCtrl-C stops: open answers are finished first, a second Ctrl-C cuts them.")

    def leave(self, over: bool) -> None:
        """Say that it stops, or that it has."""
        if not over:
            click.echo(
                ("\n" if sys.stdout.isatty() else "")  # after the ^C that a terminal shows
                + "Stopping: open answers are finished first, another Ctrl-C cuts them."
            )
        else:
            click.echo("Stopped.")


def _some(names: list[str]) -> str:
    left = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {left} more (beffroi models)" if left > 0 else "")


def _examples(base: str, key: str | None, model: str) -> None:
    if key is None:
        click.echo("\nThe examples take the key from the environment: export BEFFROI_API_KEY=bf-...")
    _head("\nTry it:")
    body = f'{{"model": "{model}",\n  "messages": [{{"role": "user", "content": "{_QUESTION}"}}]}}'
    click.echo(
        f"curl {base}/chat/completions \\\n"
        f'  -H "Authorization: Bearer {key or "$BEFFROI_API_KEY"}" \\\n'
        f"  -H 'Content-Type: application/json' -d '{body}'"
    )
    _head("\nIn Python (pip install openai), streaming:")
    arguments = (
        f'base_url="{base}", api_key="{key}"' if key else f'base_url="{base}", api_key=os.environ["BEFFROI_API_KEY"]'
    )
    click.echo(
        f"{'' if key else 'import os; '}from openai import OpenAI\n"
        f"client = OpenAI({arguments})\n"
        f'messages = [{{"role": "user", "content": "{_STORY}"}}]\n'
        f'for chunk in client.chat.completions.create(model="{model}", messages=messages, stream=True):\n'
        '    print(chunk.choices[0].delta.content or "", end="", flush=True)'
    )


def _silent(names: dict[str, str]) -> None:
    """Tell of engines that are configured and take no connection."""
    from beffroi.supervisor.engines import closed  # noqa: PLC0415 - the start did without

    for url, why in closed(names).items():
        told = f"{names[url]} does not answer at {url} ({why}): start it; Beffroi needs no restart"
        _row("", click.style(told, fg="yellow"))


def program() -> str:
    """This program as it is called in the directory this start was made from."""
    path = Path(sys.argv[0])
    found = shutil.which(path.name)
    if path.name == "__main__.py":
        return "python -m beffroi"
    return path.name if found and path.exists() and Path(found).samefile(path) else os.path.relpath(path)


def _another_key(data: Path) -> str:
    """The command that makes a key."""
    where = "" if data_directory(None) == data else f" --data {shlex.quote(str(data))}"
    return f"{program()} keys create NAME{where}"


def _head(text: str) -> None:
    click.echo(click.style(text, bold=True))


def _row(name: str, text: str) -> None:
    """One row; on a terminal, a long one is broken between words and goes on under its beginning."""
    if sys.stdout.isatty():
        room = max(shutil.get_terminal_size().columns - _MARGIN, 20)
        text = f"\n{' ' * _MARGIN}".join(textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False))
    click.echo(f"  {click.style(f'{name:<9}', dim=True)} {text}")
