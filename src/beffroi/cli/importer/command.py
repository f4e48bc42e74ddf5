# SPDX-License-Identifier: Apache-2.0
"""`beffroi import`: a configuration made from the file of another gateway, with a report of what was left.

In: the other gateway's file. Out: `beffroi.yaml`, files of secrets beside it, a script of keys, and the report.
Nothing of the other gateway is run, and nobody is called.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import click

from beffroi.cli.client import Failure
from beffroi.cli.importer import litellm, opengatellm
from beffroi.cli.importer.draft import Draft
from beffroi.cli.importer.keys import Keys
from beffroi.cli.importer.pools import Pools
from beffroi.cli.importer.reading import Unreadable, read
from beffroi.config.compile import compile_config
from beffroi.config.load import Invalid, parse
from beffroi.config.write import to_yaml

LEFT_OUT = 3
_FILE = click.Path(dir_okay=False, path_type=Path)
_output = click.option(
    "-o", "--output", type=_FILE, default=Path("beffroi.yaml"), show_default=True, help="The configuration to write."
)
_force = click.option("--force", is_flag=True, help="Write over what is there.")
_dry = click.option("--dry-run", is_flag=True, help="Report only, and write nothing.")
_json = click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, for programs.")


@click.group("import")
def import_() -> None:
    """Make a configuration from the file of another gateway.

    Exit status 3 when something in the file could not be converted; the report names each such thing with its line.
    """


@import_.command("litellm")
@click.argument("file", type=_FILE)
@_output
@click.option(
    "--keys",
    "keys_file",
    type=_FILE,
    metavar="FILE",
    help="Keys, as JSON: what LiteLLM's /key/list?return_full_object=true answers.",
)
@_force
@_dry
@_json
def from_litellm(file: Path, output: Path, keys_file: Path | None, force: bool, dry_run: bool, as_json: bool) -> None:
    """Make a configuration from LiteLLM's proxy FILE (config.yaml)."""
    try:
        root = read(file)
        keys = None if keys_file is None else read(keys_file, listed="keys")
        pools, made = litellm.convert(root, os.environ, keys)
    except Unreadable as error:
        raise click.UsageError(str(error)) from None
    _finish(file, pools, made, _Files(output, force), dry_run, as_json)


@import_.command("opengatellm")
@click.argument("file", type=_FILE)
@_output
@_force
@_dry
@_json
def from_opengatellm(file: Path, output: Path, force: bool, dry_run: bool, as_json: bool) -> None:
    """Make a configuration from OpenGateLLM's FILE (config.yml)."""
    try:
        pools = opengatellm.convert(read(file), os.environ)
    except Unreadable as error:
        raise click.UsageError(str(error)) from None
    _finish(file, pools, None, _Files(output, force), dry_run, as_json)


class _Files:
    """What is written, and where: the configuration, a folder of secrets, a script of keys."""

    def __init__(self, output: Path, force: bool) -> None:
        self.output, self._force = output, force
        self.folder = output.with_name(f"{output.stem}.secrets")
        self.script = output.with_name(f"{output.stem}-keys.sh")

    def write(self, text: str, secrets: dict[str, str], script: str | None) -> None:
        """All of them, or none when one is there already."""
        wanted = [self.output, *([self.folder] if secrets else []), *([self.script] if script else [])]
        there = [str(path) for path in wanted if path.exists()]
        if there and not self._force:
            raise Failure(
                f"{', '.join(there)}: there already; choose another place with -o, or write over it with --force"
            )
        try:
            if secrets:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir(mode=0o700)
            for name, secret in secrets.items():
                _create(self.folder / name, f"{secret}\n", 0o600)
            if script:
                _create(self.script, script, 0o700)
            _create(self.output, text, 0o644)
        except OSError as error:
            raise Failure(f"{error.filename}: cannot be written: {error.strerror}") from None


def _create(path: Path, text: str, mode: int) -> None:
    """A file that nobody else may have opened before its mode was set."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)


def _finish(file: Path, pools: Pools, made: Keys | None, files: _Files, dry_run: bool, as_json: bool) -> None:
    draft, report = pools.draft, pools.report
    script = made.script(file.name, files.script.name) if made else None
    text = to_yaml(
        draft.document(files.folder.name),
        f"Made from {file.name} by `beffroi import`. Run it with: beffroi serve --config {files.output.name}",
    )
    if draft.models:
        _check(draft)
        if not dry_run:
            files.write(text, draft.secrets(), script)
    written = bool(draft.models) and not dry_run
    if as_json:
        data = {
            "file": str(file),
            "output": str(files.output) if written else None,
            "secrets": str(files.folder) if written and draft.secrets() else None,
            "keys_script": str(files.script) if written and script else None,
            "environment": draft.variables(),
            "models": list(draft.models),
            "engines": [engine.name for engine in draft.engines.values()],
        }
        click.echo(json.dumps(data | report.as_data(), indent=2, ensure_ascii=False))
    else:
        _tell(file, pools, files, script, written=written)
    if not draft.models:
        raise Failure("nothing in it is a model on an engine of yours; no file was written")
    if not report.complete:
        raise click.exceptions.Exit(LEFT_OUT)


def _tell(file: Path, pools: Pools, files: _Files, script: str | None, *, written: bool) -> None:
    draft, report = pools.draft, pools.report
    aliases = sum(len(model.aliases) for model in draft.models.values())
    counts = (
        (len(draft.models), "model"), (len(draft.engines), "engine"), (aliases, "alias"), (len(draft.secrets()), "secret")
    )  # fmt: skip
    shown = ", ".join(
        f"{count} {word}{'' if count == 1 else 'es' if word.endswith('s') else 's'}" for count, word in counts if count
    )
    click.echo(f"{file} → {files.output if written else 'nothing written'}{': ' if shown else ''}{shown}")
    width = max(60, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 10_000  # pipes are not wrapped
    for line in report.as_text(width):
        click.echo(line)
    if written:
        click.echo("")
        click.echo(click.style("Next", bold=True))
        for variable in draft.variables():
            click.echo(f"  export {variable}=…")
        click.echo(f"  beffroi serve --config {files.output}")
        if script:
            click.echo(f"  sh {files.script} > keys.txt     # while it serves: makes the keys, prints each once")


def _check(draft: Draft) -> None:
    """What was made is read as `serve` will read it, with stand-ins for secrets."""
    document = draft.document("")
    for engine in document["resources"]["engines"]:
        if "api_key" in engine:
            engine["api_key"] = "env:SECRET"
    try:
        compile_config([parse(to_yaml(document, ""), "what was made of it")], 1, {"SECRET": "x"})
    except Invalid as error:
        raise Failure(f"{error}\nThis cannot be served; change the file so that these do not come up.") from None
