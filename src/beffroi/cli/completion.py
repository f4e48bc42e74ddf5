# SPDX-License-Identifier: Apache-2.0
"""`beffroi completion`: the script that makes a shell complete commands, options, and names of keys and models.

In: a shell's name; while completing, what is typed so far. Out: a script; words. Names come from the control process,
which is asked without patience: where it does not answer at once there is nothing to complete, and no delay.
"""

import re
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from beffroi.cli.client import Failure, call
from beffroi.cli.data import data_directory
from beffroi.core.key import PREFIX

AT_ONCE = 0.5  # seconds a name may take
_WORD = re.compile(r"[\w.@+-]+")
SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete beffroi's commands, options, and the names of keys and models.

    In ~/.bashrc: eval "$(beffroi completion bash)". In ~/.zshrc, after compinit: eval "$(beffroi completion zsh)".
    For fish: beffroi completion fish > ~/.config/fish/completions/beffroi.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise Failure(f"there is no completion for {shell}")
    click.echo(kind(context.find_root().command, {}, "beffroi", "_BEFFROI_COMPLETE").source())


def key_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of keys that are accepted now; a name that a shell would take apart is offered as the key's first part."""
    found = _ask(context, "/api/v1/keys?organisation=*&limit=200").get("data", [])
    words: dict[str, str] = {}
    for key in found:
        if key["state"] in ("active", "rotated"):
            first = f"{PREFIX}{key['public']}"
            word, told = (key["name"], first) if _WORD.fullmatch(key["name"]) else (first, key["name"])
            words[word] = told
    return [CompletionItem(word, help=told) for word, told in words.items() if word.startswith(incomplete)]


def model_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids and aliases of models."""
    found = _ask(context, "/api/v1/models").get("models", [])
    names = [name for model in found for name in (model["id"], *model["aliases"])]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _ask(context: click.Context, path: str) -> dict[str, Any]:
    given = context.params.get("data")
    try:
        found: dict[str, Any] = call(
            data_directory(given if isinstance(given, Path) else None), "GET", path, patience=0.0, answer=AT_ONCE
        )
    except Failure:
        return {}
    return found
