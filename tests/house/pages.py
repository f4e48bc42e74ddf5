# SPDX-License-Identifier: Apache-2.0
"""The pages that are written from the code: settings, metrics, commands, events, errors, HTTP, and the list of all pages.

In: the code. Out: Markdown. `python -m tests.house.pages` writes the files; a test holds them to the code.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from beffroi.cli.client import EXIT_STATUSES
from beffroi.cli.main import main
from beffroi.config.example import SCHEMA_FILE, example
from beffroi.control.events import ACTIONS, ACTS, DOORS
from beffroi.control.metrics import LONG, METRICS, SHORT
from beffroi.core.errors import BeffroiError
from tests.house import admin, contents, http, permissions, settings, tenants

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"
_WRITTEN = "\n_Written from the code by `python -m tests.house.pages`; edit there._\n"


def _table(headings: list[str], rows: list[list[str]]) -> list[str]:
    lines = [
        f"| {' | '.join(row)} |" for row in [headings, *[[cell.replace("|", "\\|") for cell in row] for row in rows]]
    ]
    return [lines[0], "|" + "---|" * len(headings), *lines[1:]]


def metrics() -> str:
    """Every metric."""
    rows = [
        [
            f"`{kind.name}`",
            kind.kind,
            ", ".join(f"`{label}`" for label in kind.labels) or "none",
            kind.unit,
            kind.sentence,
        ]
        for kind in METRICS
    ]
    lines = [
        "# Metrics",
        "",
        "`GET /metrics` on the control port (8401) and on `control.sock`, in Prometheus' text format. The workers count; control",
        "asks them when it is scraped, at most five times a second. Counters carry the worker's slot and begin again at zero",
        "when that worker is replaced, which `rate()` knows how to read; sum over `worker` for the whole.",
        "",
        "Labels are slots, configured models and engines, rooms, token classes, and codes of our own: their number is bounded",
        "by the configuration, and nothing that a client sends becomes a label.",
        "",
        f"Histogram buckets end at powers of two of a microsecond: 2^{LONG[0]} to 2^{LONG[-1]} µs (1 ms to 18 min), and for the time",
        f"between tokens 2^{SHORT[0]} to 2^{SHORT[-1]} µs (128 µs to 67 s).",
        "",
        *_table(["Metric", "Kind", "Labels", "Unit", "Meaning"], rows),
    ]
    return "\n".join(lines) + "\n" + _WRITTEN


def commands(group: click.Group = main, path: str = "beffroi") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name."""
    for name in group.list_commands(click.Context(group)):  # loads them
        command = group.commands[name]
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def cli() -> str:
    """Every command, its options, and the exit statuses."""
    lines = [
        "# Command line",
        "",
        "`serve` starts Beffroi; the other commands talk to the running one through `control.sock` in its data directory, which",
        "only the same user may open. While the control process restarts they wait for it, up to five seconds. `chat` and `bench`",
        "are clients of the API and need a key; `doctor` needs nothing that runs.",
        "",
        "The data directory is `--data`, else `$BEFFROI_DATA`, else `server.data` of the configuration file, else `./.beffroi` if it",
        "exists, else `~/.local/share/beffroi`. The configuration file is `--config`, else `$BEFFROI_CONFIG`, else `beffroi.yaml` or",
        "`beffroi.toml` in the working directory.",
    ]
    for name, command in commands():
        context = click.Context(command, info_name=name)
        lines += ["", f"## `{name}`", "", (command.help or "").strip().replace("\n    ", "\n"), "", "```"]
        lines += [" ".join(context.command.get_usage(context).removeprefix("Usage: ").split()), "```", ""]
        rows = []
        for parameter in command.params:
            record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
            if record is not None:
                rows.append([f"`{record[0]}`", " ".join(record[1].split())])
        lines = [*lines, *_table(["Option", "Meaning"], rows)] if rows else lines[:-1]
    lines += ["", "## Exit statuses", ""]
    lines += _table(["Status", "Meaning"], [[str(status), meaning] for status, meaning in EXIT_STATUSES.items()])
    return "\n".join(lines) + "\n" + _WRITTEN


def events() -> str:
    """Every administrative event."""
    rows = [[f"`{action}`", meaning] for action, meaning in sorted(ACTIONS.items())]
    lines = [
        "# Events",
        "",
        "What was done to Beffroi, and what it noticed about itself: one row of the table `events` each, written in the same",
        "transaction as the act. Names follow the grammar `door:subject:verb`.",
        "",
        *_table(["Event", "Meaning"], rows),
        "",
        "These are the same through every door; their first word says which it was:",
        "",
        *_table(["Door", "Who came"], [[f"`{door}:`", meaning] for door, meaning in DOORS.items()]),
        "",
        *_table(["Act", "Meaning"], [[f"`{act}`", meaning] for act, meaning in ACTS.items()]),
    ]
    return "\n".join(lines) + "\n" + _WRITTEN


def error_classes(root: type[BeffroiError] = BeffroiError) -> Iterator[type[BeffroiError]]:
    """The class and all below it, in the order of the source."""
    yield root
    for kind in root.__subclasses__():
        yield from error_classes(kind)


def errors() -> str:
    """Every error that a client can meet."""
    rows = [
        [
            f"`{kind.code}`",
            str(kind.status),
            f"`{kind.type}`",
            "yes" if kind.retryable else "no",
            " ".join((kind.__doc__ or "").partition("\n\n")[0].split()),
        ]
        for kind in error_classes()
        if kind.code is not None and "code" in vars(kind)
    ]
    lines = [
        "# Errors",
        "",
        'Each answer of the API that is no success has the body `{"error": {"message", "type", "param", "code"}, "detail"}`;',
        "`detail` is the message once more, as text, for clients that read only that. 429 and 503 carry `Retry-After`, 405",
        "`Allow`, 401 `WWW-Authenticate`, and every answer `x-request-id`. A fault in a field of the request is",
        "`invalid_request_error` with the field's name in `param` and no code.",
        "",
        "A stream that breaks after its first byte ends with one event that has `error` and the finish reason `error`; there is",
        "no `[DONE]` after it. What was delivered until then is billed.",
        "",
        *_table(["Code", "Status", "Type", "Try again", "What happened"], rows),
    ]
    return "\n".join(lines) + "\n" + _WRITTEN


PAGES = {
    "settings.md": settings.page,
    "beffroi.example.yaml": example,
    SCHEMA_FILE: settings.schema,
    "tenants.md": lambda: tenants.page() + _WRITTEN,
    "tenants.schema.json": tenants.schema,
    "litellm.md": lambda: tenants.litellm() + _WRITTEN,
    "metrics.md": metrics,
    "cli.md": cli,
    "events.md": events,
    "permissions.md": lambda: permissions.page() + _WRITTEN,
    "errors.md": errors,
    "http.md": http.page,
    "admin-api.md": admin.page,
    "openapi.json": admin.description,
    "../README.md": contents.english,  # last: they name the pages before them
    "../README.fr.md": contents.french,
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for page, write in PAGES.items():
        (FOLDER / page).write_text(write(), "utf-8")
