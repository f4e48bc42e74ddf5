# SPDX-License-Identifier: Apache-2.0
"""`beffroi init`: five questions, and a configuration file that holds their answers and nothing else.

In: options, answers at a terminal, the engines that answer. Out: a file that `beffroi config check` finds no fault in, what was
written, and what to do next. Without a terminal nothing is asked: what no option says has its default.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from beffroi.cli.answers import OWN, Answers, address, document_of, price, split_models
from beffroi.cli.client import Failure
from beffroi.cli.data import USUAL, data_directory
from beffroi.cli.settings import count, tell
from beffroi.cli.show import Output, as_json, output_options
from beffroi.cli.welcome import program
from beffroi.config.compile import compile_all
from beffroi.config.load import Invalid, parse
from beffroi.config.secrets import Unreadable, look_up
from beffroi.config.write import to_yaml
from beffroi.supervisor import engines
from beffroi.supervisor.errors import StartError

T = TypeVar("T")
_HEAD = "Written by `beffroi init`. Every other setting: `beffroi config example`."
_LATER = "Or name its models with --model: then it need not run now."
_NO_ENGINE = "No engine here: Beffroi takes one that it finds on this machine, else its own small one."


@click.command()
@click.argument("file", default=USUAL[0], type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--engine", "urls", metavar="URL", multiple=True, help="An engine, or `embedded`; may be given several times."
)
@click.option("--engine-key", metavar="REFERENCE", help="Key that the engines want: env:NAME or file:PATH.")
@click.option(
    "--model",
    "models",
    metavar="NAME",
    multiple=True,
    help="A model to offer, NAME or NAME=THE-ENGINE'S-NAME; repeat for more. All that the engines list when left out.",
)
@click.option(
    "--price", metavar="AMOUNTS", help="Of a million tokens, input then output, such as '0.9 4'; free when left out."
)
@click.option("--listen", metavar="ADDRESS", help="Address of the API.  [default: 127.0.0.1:8400]")
@click.option("--data", metavar="DIRECTORY", help="Data directory; where every command looks when left out.")
@click.option("--force", is_flag=True, help="Write over a file that is there already.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing: what no option says has its default.")
@output_options(csv=False)
def init(file: Path, force: bool, yes: bool, out: Output, **given: Any) -> None:
    """Write a first configuration file.

    FILE is beffroi.yaml when left out. Five questions are asked: which engine, which models of it, what they cost, where
    to listen, where to keep the data. At a terminal those that no option answers; elsewhere, and with --yes or --json, none.
    """
    if file.suffix == ".toml":
        raise Failure("`init` writes YAML: give a name that ends in .yaml")
    if file.exists() and not force:
        raise Failure(f"{file} is there already and stays as it is; --force writes over it, or give another name")
    answers = Answers(
        urls=given["urls"] or None,
        key=given["engine_key"],
        models=given["models"] or None,
        price=None if given["price"] is None else price(given["price"]),
        listen=None if given["listen"] is None else address(given["listen"]),
        data=None if given["data"] is None else _from(file, given["data"]),
    )
    asking = sys.stdin.isatty() and not yes and out.kind == "people"
    try:
        _answer_engine(answers, asking=asking)
    except StartError as error:
        raise Failure(str(error)) from None
    if asking:
        _ask_rest(answers, file)
    document = document_of(answers)
    text = to_yaml(document, _HEAD if document["resources"] else f"{_HEAD}\n{_NO_ENGINE}")
    _check(text, file)
    _write(file, text, force=force)
    if out.kind == "json":
        as_json({"file": str(file), **document})
    else:
        _tell(file, document, answers)


def _answer_engine(answers: Answers, *, asking: bool) -> None:
    """The first question: until an engine answers, or models were named that need none to."""
    key = _key(answers.key)
    here = engines.on_loopback() if answers.urls is None else []
    if answers.urls is None and not asking:
        answers.found, answers.urls = here, tuple(one.url for one in here) or (OWN,)
        return
    while True:
        if answers.urls is None:
            said = "".join(f"  found: {one.kind} at {one.url}, {count(len(one.models), 'model')}\n" for one in here)
            click.echo(said or "  No engine was found on this machine.\n", nl=False)
            default = " ".join(one.url for one in here) or OWN
            answers.urls = tuple(click.prompt(f"1/5 Engine's URL, or `{OWN}` for our own small one", default).split())
        try:
            answers.found = engines.named(tuple(url for url in answers.urls if url != OWN), 0.0, key)
            return
        except StartError as error:
            if answers.models is not None and error.code != 2:
                return
            if not asking:
                if answers.models is not None:
                    raise
                raise StartError(f"{error}\n{_LATER}", error.code) from None
            click.echo(str(error).partition("\n")[0], err=True)
            click.echo(_LATER, err=True)
            answers.urls = None


def _key(reference: str | None) -> str | None:
    """The engines' key, if it is at hand now."""
    if reference is None:
        return None
    try:
        return look_up(reference, Path(), os.environ)
    except Unreadable as error:
        if not reference.startswith(("env:", "file:")):
            raise Failure(f"--engine-key {error}: {error.remedy}") from None
        click.echo(f"note: {error}; {error.remedy}", err=True)
        return None


def _ask_rest(answers: Answers, file: Path) -> None:
    listed = list(dict.fromkeys(served.id for one in answers.found for served in one.models))
    if answers.models is None and listed:
        answers.models = _ask("2/5 Models to offer", ", ".join(listed), lambda text: split_models(text, listed))
    if answers.price is None and (listed or answers.models):
        answers.price = _ask("3/5 Price of a million tokens, input then output, such as 0.9 4", "0 0", price)
    if answers.listen is None:
        answers.listen = _ask("4/5 Address of the API", "127.0.0.1:8400", address)
    if answers.data is None:
        usual = str(data_directory(None))
        said = click.prompt("5/5 Data directory", usual)
        answers.data = None if said == usual else _from(file, said)


def _from(file: Path, data: str) -> str:
    """A path as the file has to say it: there, relative ones count from its folder, and here from the working directory."""
    path = Path(data).expanduser()
    return str(path if path.is_absolute() or file.parent == Path() else path.absolute())


def _ask(question: str, default: str, read: Callable[[str], T]) -> T:
    """An answer that can be used: one that cannot is told, and the question asked again."""

    def attempt(text: str) -> T:
        try:
            return read(text)
        except Failure as error:
            raise click.UsageError(error.message) from None

    answer: T = click.prompt(question, default, value_proc=attempt)
    return answer


def _check(text: str, file: Path) -> None:
    """Write nothing that would be refused; keys may be set later."""
    try:
        problems = compile_all([parse(text, str(file), base=file.parent)], 0, os.environ, more=True).problems
    except Invalid as error:
        problems = error.problems
    faults = [problem for problem in problems if not problem.name.endswith(".api_key")]
    if faults:
        tell(faults)
        raise Failure("nothing was written")


def _write(file: Path, text: str, *, force: bool) -> None:
    try:
        if force:
            fresh = file.with_name(f".{file.name}.new")
            fresh.write_text(text, "utf-8")
            fresh.replace(file)
        else:
            with file.open("x", encoding="utf-8") as out:
                out.write(text)
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror}") from None


def _tell(file: Path, document: dict[str, Any], answers: Answers) -> None:
    served, server = document["resources"], document["server"]
    what = "no engine: one found on this machine, else our own small one"
    if served:
        what = f"{count(len(served['engines']), 'engine')}, {count(len(served['models']), 'model')}"
    click.echo(f"Wrote {file}: {what}.")
    if answers.urls and answers.urls != (OWN,) and not answers.found:
        click.echo("note: the engine does not answer now; start it before Beffroi, or any time later.", err=True)
    host = server.get("host", "127.0.0.1")
    if not host.startswith("127.") and host not in {"::1", "localhost"}:
        click.echo(
            "note: other machines reach this address without TLS; set server.tls, or put a proxy before it.", err=True
        )
    name = program()
    usual = str(file) in USUAL
    where = "" if usual else f" {file}"
    click.echo("Next:")
    click.echo(f"  {name} config check{where}")
    click.echo(f"  {name} serve{'' if usual else f' --config {file}'}")
    if "data" in server and not usual:
        click.echo(f"  export BEFFROI_DATA={server['data']}   # for the commands that talk to it")
