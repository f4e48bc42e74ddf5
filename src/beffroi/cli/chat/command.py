# SPDX-License-Identifier: Apache-2.0
"""`beffroi chat`: a small chat through the gateway, to feel it.

In: lines from a terminal, or one question from a pipe. Out: answers as they come, and what each took.
"""

import contextlib
import difflib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from beffroi.cli import show
from beffroi.cli.chat.talk import Talk
from beffroi.cli.client import Failure
from beffroi.cli.target import choose, find, gateway_options, models, prices

_COMMANDS = {
    "/model": "[NAME]  take another model; without a name, list them",
    "/system": "[TEXT]  set the system prompt; without a text, drop it",
    "/clear": "forget what was said",
    "/usage": "what this chat took until now",
    "/help": "these lines",
    "/quit": "leave; so does Ctrl-D",
    "\\": "at the end of a line: the question goes on in the next",
}
_PROMPT, _MORE = "> ", ". "


@click.command()
@gateway_options
@click.option("--model", help="The model to talk to; the first that can chat when left out.")
@click.option("--system", default="", help="A system prompt.")
@click.option("--max-tokens", type=click.IntRange(1), help="Most tokens of an answer.")
@show.output_options(csv=False)
def chat(
    url: str | None,
    key: str | None,
    ca: Path | None,
    data: Path | None,
    model: str | None,
    system: str,
    max_tokens: int | None,
    out: show.Output,
) -> None:
    """Chat with a model through the gateway.

    Ctrl-C stops an answer, Ctrl-D leaves, /help lists commands. In a pipe (`echo hi | beffroi chat`) all of the input is
    one question: its answer goes to standard output, what it took to standard error.
    """
    gateway = find(url, key, ca, data)
    talk = Talk(gateway, choose(model, models(gateway), gateway), prices(gateway), system, max_tokens)
    if not sys.stdin.isatty():
        _once(talk, out)
        return
    if out.kind != "people":
        raise click.UsageError("--json is for pipes: echo hi | beffroi chat --json")
    _conversation(talk)


def _once(talk: Talk, out: show.Output) -> None:
    question = sys.stdin.read().strip()
    if not question:
        raise Failure("there is no question on standard input: echo hi | beffroi chat")
    if out.kind == "json":
        text = "".join(piece for kind, piece in talk.ask(question) if kind == "text")
        show.as_json({"model": talk.model, "answer": text, **talk.last.document()})
        return
    for kind, piece in talk.ask(question):
        if kind == "text":
            click.echo(clean(piece) if sys.stdout.isatty() else piece, nl=False)
    click.echo()
    click.echo(talk.last.line(), err=True)


def _conversation(talk: Talk) -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - line editing in input()
    click.echo(f"{show.paint(talk.model, show.STRONG)} at {talk.gateway.url}. /help for more, Ctrl-D leaves.")
    while True:
        try:
            line = _read()
            if line == "/quit":
                return
            if line.startswith("/"):
                _command(talk, *line.split(maxsplit=1))
            elif line:
                _answer(talk, line)
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo("\nCtrl-D leaves.")
        except UnicodeDecodeError:
            click.echo("That was no UTF-8 text; set the terminal to it.", err=True)


def _read() -> str:
    """What is typed until a line that does not end in a backslash."""
    line = input(_PROMPT)
    while line.endswith("\\"):
        line = f"{line[:-1]}\n{input(_MORE)}"
    return line.strip()


def _answer(talk: Talk, question: str) -> None:
    """Print an answer as it comes; Ctrl-C ends it, and what there is of it stays."""
    try:
        page = Page(show.width())
        for kind, piece in _awaited(talk.ask(question), talk.model):
            click.echo(show.paint(page.set(clean(piece)), show.DIM if kind == "thought" else ""), nl=False)
        click.echo(f"{page.rest()}\n{show.paint(talk.last.line(), show.DIM)}")
    except KeyboardInterrupt:
        click.echo(f"\n{show.paint('Stopped. What was made until then is billed.', show.DIM)}")
    except Failure as failure:
        click.echo(f"\n{show.paint(f'Error: {show.safe(failure.message)}', show.BAD)}")


def _awaited(pieces: Iterator[tuple[str, str]], model: str) -> Iterator[tuple[str, str]]:
    """The pieces; until the first comes, the terminal shows that somebody is asked."""
    if show.coloured():
        from rich.console import Console  # noqa: PLC0415

        with Console(highlight=False).status(f"[dim]{model}"):
            first = next(pieces, None)
    else:
        first = next(pieces, None)
    if first is not None:
        yield first
        yield from pieces


def _command(talk: Talk, name: str, rest: str = "") -> None:
    if name == "/model":
        _model(talk, rest)
    elif name == "/system":
        talk.system = rest
        click.echo("The system prompt is set." if rest else "There is no system prompt now.")
    elif name == "/clear":
        talk.clear()
        click.echo("All that was said is forgotten.")
    elif name == "/usage":
        _usage(talk)
    elif name == "/help":
        for command, sentence in _COMMANDS.items():
            click.echo(f"{show.paint(command.ljust(8), show.STRONG)} {sentence}")
    else:
        near = difflib.get_close_matches(name, [known for known in _COMMANDS if known[0] == "/"], 1, 0.4)
        click.echo(
            f"There is no {show.safe(name)}; {f'did you mean {near[0]}?' if near else '/help lists what there is.'}"
        )


def _model(talk: Talk, name: str) -> None:
    try:
        known = models(talk.gateway)
        if name:
            talk.model = choose(name, known, talk.gateway)
            click.echo(f"{talk.model} answers from here on.")
            return
    except Failure as failure:
        click.echo(show.paint(f"Error: {show.safe(failure.message)}", show.BAD))
        return
    for each in known:
        click.echo(f"{'*' if each == talk.model else ' '} {show.safe(each)}")


def _usage(talk: Talk) -> None:
    total = talk.total
    count = "one answer" if total.answers == 1 else f"{total.answers} answers"
    click.echo(f"{count}: {total.line()}" if total.answers else "Nothing was answered yet.")
    if total.unpriced:
        click.echo(
            f"The price of {total.unpriced} of them is not known here: the gateway's ledger has it (beffroi usage)."
        )


class Page:
    """Breaks lines between words, on text that comes in pieces: the last word waits until it is whole."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0
        self._word = ""

    def set(self, text: str) -> str:
        """What can be printed now."""
        *whole, self._word = re.split(r"(?<=\s)", self._word + text)
        return "".join(self._place(word) for word in whole)

    def rest(self) -> str:
        """What is left at the end."""
        return self._place(self._word)

    def _place(self, word: str) -> str:
        room = len(word.rstrip())
        broken = self._column > 0 and room > 0 and self._column + room > self._width
        self._column = 0 if word.endswith("\n") else (0 if broken else self._column) + len(word)
        return f"\n{word}" if broken else word


def clean(text: str) -> str:
    """Text that a model made, without what would move the cursor or change colours; lines stay lines."""
    return "".join(char for char in text if char.isprintable() or char in "\n\t")
