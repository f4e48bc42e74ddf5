# SPDX-License-Identifier: Apache-2.0
"""Makes the commands over one kind of thing from its `Thing`: list, show, create, update, delete, suspend, resume.

In: `Thing`. Out: a click group. Things are named by their id or by what people call them; which of the two is found out here.
"""

import difflib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import click

from beffroi.cli import show
from beffroi.cli.client import Failure
from beffroi.cli.control import Control, control_options
from beffroi.cli.show import Column
from beffroi.cli.things.spec import Record, Said, Thing
from beffroi.core.ids import new_id

F = TypeVar("F", bound=Callable[..., Any])
EVERY, FORBIDDEN = "*", 403
_DONE = {
    "delete": ("deleted", "Remove"),
    "revoke": ("revoked", "Revoke"),
    "suspend": ("suspended", "Suspend"),
    "resume": ("served again", "Resume"),
}


def group(thing: Thing) -> click.Group:
    """The command with all its verbs."""
    made = click.Group(thing.plural, help=thing.about)
    made.add_command(_list(thing))
    made.add_command(_show(thing))
    for verb in ("create", "update"):
        if verb in thing.verbs:
            made.add_command(_write(thing, verb))
    for verb in _DONE:
        if verb in thing.verbs:
            made.add_command(_act(thing, verb))
    return made


def organisation_option(command: F) -> F:
    """Adds `--organisation`."""
    return click.option(
        "--organisation", "--org", "organisation", metavar="ID", help="Organisation; an admin key knows its own."
    )(command)


def _decorated(thing: Thing, command: Callable[..., None], *, csv: bool) -> Callable[..., None]:
    command = show.output_options(csv=csv)(control_options(command))
    if thing.organisation:
        command = organisation_option(command)
    return command


def _made(name: str, command: Callable[..., None], sentence: str) -> click.Command:
    return click.command(name, help=inspect.cleandoc(sentence))(command)


def _upper(thing: Thing) -> str:
    return thing.one.replace(" ", "_").upper()


def within(organisation: str | None) -> dict[str, str]:
    """The query that names an organisation."""
    return {"organisation": organisation} if organisation else {}


def _every(thing: Thing, control: Control, query: dict[str, str]) -> list[Record]:
    """All of them; organisations are of no organisation: those of all, for who may see them."""
    if thing.organisation:
        return control.pages(thing.path, query=query)
    try:
        return control.pages(thing.path, query={"organisation": EVERY})
    except Failure as error:
        if error.answered != FORBIDDEN:
            raise
        return control.pages(thing.path)


def _list(thing: Thing) -> click.Command:
    def command(control: Control, out: show.Output, organisation: str | None = None, **filters: str | None) -> None:
        query = within(organisation) | {name: value for name, value in filters.items() if value is not None}
        found = _every(thing, control, query)
        columns = [Column(one.title, one.field, shrinks=one.shrinks, drop=one.drop) for one in thing.columns]
        rows = [[one.cell(record) for one in thing.columns] for record in found]
        empty = (
            thing.empty or f"There is no {thing.one}; make one with `beffroi {thing.plural} create {thing.argument}`."
        )
        out.table(columns, rows, document=found, empty=empty)

    command = _decorated(thing, command, csv=True)
    for name, sentence in reversed(thing.filters):
        command = click.option(f"--{name.replace('_', '-')}", name, help=sentence)(command)
    every = " `--organisation '*'` lists those of all organisations, for the operator." if thing.organisation else ""
    return _made("list", command, thing.notes.get("list", f"List them.{every}"))


def _show(thing: Thing) -> click.Command:
    def command(reference: str, control: Control, out: show.Output, organisation: str | None = None) -> None:
        found = find(thing, control, reference, within(organisation), whole=True)
        out.record(
            [(one.field.replace("_", " "), one.cell(found)) for one in (*thing.columns, *thing.details)], document=found
        )

    named = " or ".join(f"`{name}`" for name in dict.fromkeys(("id", *thing.names)))
    command = click.argument("reference", metavar=_upper(thing))(_decorated(thing, command, csv=True))
    return _made("show", command, thing.notes.get("show", f"Show one, by its {named}."))


def _write(thing: Thing, verb: str) -> click.Command:
    creates = verb == "create"

    def command(
        reference: str, control: Control, out: show.Output, organisation: str | None = None, **said: Any
    ) -> None:
        body = _body(thing, said, creates=creates)
        query = within(organisation)
        if creates:
            body[thing.key] = reference
            if thing.key == "id":  # what people call it, until they say otherwise
                body.setdefault("name", reference)
            body = body if thing.shape is None else thing.shape(body, creates)
            made = control.call("POST", thing.path, body, query=query, once=new_id("op"))
            _print(thing, made, out, "made")
            return
        if not body:
            raise click.UsageError("say what is to change; --help lists it")
        body = body if thing.shape is None else thing.shape(body, creates)
        found = find(thing, control, reference, query)
        changed = control.call("PATCH", _place(thing, found), body, query=query, once=new_id("op"))
        _print(thing, changed, out, "changed")

    command = _decorated(thing, command, csv=False)
    for option in reversed(thing.options):
        if option.create if creates else option.update:
            command = _option(option, creates=creates)(command)
    name = thing.argument if creates else _upper(thing)
    command = click.argument("reference", metavar=name)(command)
    told = (
        f"Make the {thing.one} {name}. {thing.argument_help}" if creates else f"Change {name}: what is not said stays."
    )
    return _made(verb, command, thing.notes.get(verb, told))


def _option(said: Said, *, creates: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    sentence = said.help if creates or said.many or said.kind is bool else f"{said.help} `none` takes it away."
    kind = said.kind if creates or said.many else _OrNone(said.kind)
    extra: dict[str, Any] = {"required": creates and said.required}
    if said.many:
        extra["multiple"] = True
    if said.kind is bool:
        return click.option(f"{said.name}/--no-{said.name[2:]}", said.field, default=None, help=sentence)
    return click.option(said.name, said.field, type=kind, metavar=said.metavar, help=sentence, **extra)


class _OrNone(click.ParamType[Any]):
    """A value, or `none`, which becomes the marker that a field is to be emptied."""

    def __init__(self, kind: Any) -> None:
        self._kind = click.types.convert_type(kind)
        self.name = self._kind.name

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """That of the value."""
        found: str | None = self._kind.get_metavar(param, ctx)
        return found

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, or `NOTHING`."""
        return NOTHING if value == "none" or value is NOTHING else self._kind.convert(value, param, ctx)


class _Nothing:
    """What `none` means on the command line: null in the body."""


NOTHING = _Nothing()


def _body(thing: Thing, said: Record, *, creates: bool) -> Record:
    body: Record = {}
    for option in thing.options:
        value = said.get(option.field)
        if value is None or value == ():
            continue
        value = None if value is NOTHING else list(value) if option.many else value
        if option.many and not creates and value == ["none"]:
            value = []
        if option.within:
            body.setdefault(option.within, {})[option.field] = value
        else:
            body[option.field] = value
    return body


def _act(thing: Thing, verb: str) -> click.Command:
    done, imperative = _DONE[verb]

    def command(reference: str, control: Control, out: show.Output, organisation: str | None = None) -> None:
        query = within(organisation)
        found = find(thing, control, reference, query)
        if verb == "delete":
            answer = control.call("DELETE", _place(thing, found), query=query, once=new_id("op"))
        else:
            answer = control.call("POST", f"{_place(thing, found)}/{verb}", {}, query=query, once=new_id("op"))
        if out.kind == "json":
            show.as_json({"id": found["id"], "done": verb} if answer is None else answer)
        else:
            click.echo(f"{_called(thing, found)}: {done}.")

    command = click.argument("reference", metavar=_upper(thing))(_decorated(thing, command, csv=False))
    return _made(verb, command, thing.notes.get(verb, f"{imperative} {_upper(thing)}."))


def _print(thing: Thing, record: Record, out: show.Output, done: str) -> None:
    if out.kind == "json":
        show.as_json(record)
        return
    secret = record.get(thing.secret) if thing.secret else None
    said = f"{_called(thing, record)}: {done}."
    if secret:
        click.echo(secret)
        click.echo(f"{said} The secret is not shown again.", err=True)
    else:
        click.echo(said)


def _called(thing: Thing, record: Record) -> str:
    """The id, and beside it what people call the thing."""
    name = next((str(record[name]) for name in thing.names if record.get(name)), "")
    identifier = str(record.get("id", ""))
    return show.safe(f"{identifier} ({name})" if name and identifier and name != identifier else identifier or name)


def _place(thing: Thing, record: Record) -> str:
    return f"{thing.path}/{quote(str(record['id']), safe='')}"


def find(thing: Thing, control: Control, reference: str, query: dict[str, str], *, whole: bool = False) -> Record:
    """One thing by its id, or by a name that only one has.

    Raises:
        Failure: there is none, or there are several.
    """
    every = _every(thing, control, query)
    those = [one for one in every if one.get("id") == reference]
    those = those or [one for one in every if reference in (one.get(name) for name in thing.names)]
    if not those:
        names = {str(one[name]) for one in every for name in ("id", *thing.names) if one.get(name)}
        near = difflib.get_close_matches(reference, names, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"`beffroi {thing.plural} list` shows those there are"
        raise Failure(f"there is no {thing.one} `{show.safe(reference)}`; {hint}")
    if len(those) > 1:
        ids = ", ".join(str(one["id"]) for one in those[:5])
        raise Failure(f"several are called `{show.safe(reference)}`; name one by its id: {ids}")
    if whole:
        found: Record = control.call("GET", _place(thing, those[0]), query=query)
        return found
    return dict(those[0])


__all__ = ["find", "group", "organisation_option", "within"]
