# SPDX-License-Identifier: Apache-2.0
"""The reference pages say what the code does, and everything in them has its sentence."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from beffroi.config.compile import compile_config
from beffroi.config.load import parse
from beffroi.config.reference import reference
from beffroi.control.events import ACTIONS, every
from beffroi.control.metrics import METRICS
from beffroi.telemetry.metrics import EngineMetrics, FleetMetrics, ModelMetrics, WorkerMetrics
from tests.house.pages import FOLDER, PAGES, commands

SOURCES = Path(__file__).resolve().parents[2] / "src" / "beffroi"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_the_code_would_write(page: str) -> None:
    """`python -m tests.house.pages` writes them again."""
    assert (FOLDER / page).read_text("utf-8") == PAGES[page]()


def test_the_example_on_the_settings_page_compiles() -> None:
    """Whoever copies it has a configuration."""
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGES["settings.md"](), re.DOTALL)
    config = compile_config([parse(example, "example.yaml")], 1, {"GPU1_KEY": "k"})
    assert [price.output for price in config.models[0].prices] == [4_000_000_000, 8_000_000_000]


def test_every_setting_has_a_sentence() -> None:
    """A setting without one is a setting that nobody can use."""
    assert [setting.name for setting in reference() if not setting.sentence.endswith(".")] == []


def test_every_command_and_option_has_a_sentence() -> None:
    """Arguments are told in the command's own."""
    bare = [
        f"{name} {parameter.name}"
        for name, command in commands()
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert bare == [] and all(command.help for _, command in commands())


def test_every_metric_is_named_as_prometheus_wants() -> None:
    """Base units in the name, `_total` on counters and on nothing else, a sentence each."""
    for kind in METRICS:
        assert re.fullmatch(r"beffroi_[a-z_]+", kind.name)
        assert kind.name.endswith("_total") == (kind.kind == "counter"), kind.name
        assert kind.sentence.endswith("."), kind.name
        if kind.unit in ("seconds", "bytes"):
            assert kind.unit in kind.name, kind.name


def test_nothing_that_workers_count_is_kept_from_the_page() -> None:
    """Each field of what they send has its metric."""
    shown = " ".join(kind.name for kind in METRICS)
    told = {
        "worker": "worker_up",
        "boot": "",
        "models": "",
        "engines": "",
        "room_ns": "room_seconds",
        "loop_lag_us": "loop_lag",
        "fleet": "limits_up",
    }
    told |= {f"{kind}_tokens": "tokens_total" for kind in ("input", "cached", "output", "reasoning")}
    told |= {
        "cost_nano": "cost_total",
        "first_us": "time_to_first",
        "between_us": "inter_token",
        "total_us": "duration",
    }
    told |= {field.name: f"limits_{field.name}" for field in msgspec.structs.fields(FleetMetrics)}
    told["answer_us"] = "limits_answer_seconds"
    for struct in (WorkerMetrics, ModelMetrics, EngineMetrics, FleetMetrics):
        for field in msgspec.structs.fields(struct):
            assert told.get(field.name, field.name) in shown, field.name


def written_actions() -> Iterator[str]:
    """Every action name that stands in the code."""
    for file in SOURCES.rglob("*.py"):
        if file.name != "events.py":
            yield from re.findall(r'"((?:cli|control|journal):[a-z]+:[a-z]+)"', file.read_text("utf-8"))


def test_every_event_that_the_code_names_is_listed() -> None:
    """And follows the grammar."""
    assert set(written_actions()) <= set(every())
    assert all(re.fullmatch(r"[a-z]+:[a-z]+:[a-z]+", action) for action in ACTIONS)
