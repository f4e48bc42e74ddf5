# SPDX-License-Identifier: Apache-2.0
"""`beffroi import` as an operator meets it: what it prints, what it writes and does not write, and how it fails."""

import random

import pytest

from tests.cli.importer.conftest import SAMPLES, Importer
from tests.harness import scaled

SMALL = "model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/x, api_base: 'http://g:1/v1', api_key: sk-abc}\n"


def test_people_read_what_happened_and_what_to_do_next(importer: Importer) -> None:
    """Three lists with lines, then what cannot be seen in the file, then the commands."""
    done = importer("litellm", importer.sample("litellm-campus.yaml"), json=False)
    lines = done.output.splitlines()
    assert lines[0].endswith("beffroi.yaml: 2 models, 3 engines, 2 aliases")
    headings = [line for line in lines if line and not line.startswith(" ")]
    assert [heading.split(" (")[0] for heading in headings[1:]] == [
        "Converted",
        "Not needed: Beffroi does this itself, or in its own way",
        "Not converted",
        "To know",
        "Next",
    ]
    assert any(line.startswith("  beffroi serve --config ") for line in lines)
    assert "\x1b" not in done.output
    assert done.status == 3


def test_what_is_there_is_not_written_over(importer: Importer) -> None:
    """Neither the configuration nor its secrets, unless told to; then nothing of before is left."""
    file = importer.text(SMALL)
    assert importer("litellm", file).status == 0
    before = (importer.folder / "beffroi.yaml").read_text()
    again = importer("litellm", importer.text(SMALL.replace("g:1", "h:2")))
    assert again.status == 1
    assert "there already" in again.error and "--force" in again.error
    assert again.config.read_text() == before
    assert importer("litellm", file, "--force").status == 0
    assert [path.name for path in (importer.folder / "beffroi.secrets").iterdir()] == ["h-2"]


def test_a_dry_run_writes_nothing(importer: Importer) -> None:
    """The same report."""
    done = importer("litellm", importer.text(SMALL), "--dry-run")
    assert done.status == 0
    assert done.report["models"] == ["m"]
    assert [path.name for path in importer.folder.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("model_list: [\n", "config.yaml:2: is not YAML"),
        ("- a\n- b\n", "must be a group of settings"),
        ("model_list: many\n", "config.yaml:1: model_list: must be a list"),
        ("model_list:\n  - model_name: m\n    litellm_params: x\n", "config.yaml:3: model_list[0].litellm_params: must be a group"),
        ("model_list:\n  - model_name: [m]\n", "config.yaml:2: model_list[0].model_name: must be text"),
        ("a: &a [*a]\n", "config.yaml"),
        ("a: 2020-99-99\n", "config.yaml"),
        ("- " * 200_000, "config.yaml:1: is nested too deep"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_ends_with_its_line(importer: Importer, text: str, where: str) -> None:
    """Status 2, one sentence, nothing written."""
    done = importer("litellm", importer.text(text))
    assert done.status == 2, done.output
    assert where in done.error
    assert not done.config.exists()


def test_a_file_that_is_not_there_is_said_so(importer: Importer) -> None:
    """Status 2 as for every wrong command line."""
    done = importer("opengatellm", importer.folder / "nothing.yml")
    assert (done.status, "nothing.yml: cannot be read" in done.error) == (2, True)


@pytest.mark.parametrize("sample", ["litellm-agency.yaml", "litellm-campus.yaml", "opengatellm-ministry.yml"])
def test_damaged_files_never_end_in_a_traceback(importer: Importer, sample: str) -> None:
    """Lines dropped, doubled, cut, and words of YAML thrown in: a report or one sentence, never anything else."""
    lines = (SAMPLES / sample).read_text().splitlines()
    chance = random.Random(11)
    kind = sample.partition("-")[0]
    for round_ in range(scaled("damaged", 70)):
        hurt = list(lines)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(hurt))
            match chance.randrange(5):
                case 0:
                    del hurt[place]
                case 1:
                    hurt.insert(place, chance.choice(lines))
                case 2:
                    hurt[place] = hurt[place][: chance.randrange(len(hurt[place]) + 1)]
                case 3:
                    hurt[place] = (
                        hurt[place].partition(":")[0]
                        + ": "
                        + chance.choice(["[]", "{}", "~", "[1, {a: b}]", "-1", "é", "'", "1e999", ".nan", "2020-01-01"])
                    )
                case _:
                    hurt[place] = " " * chance.randrange(9) + hurt[place].strip()
        done = importer(
            kind, importer.text("\n".join(hurt)), "--dry-run", env={"QWEN_BASE": "http://q:1", "VLLM_KEY": "k"}
        )
        assert done.status in (0, 1, 2, 3), f"round {round_}"
        assert "cannot be served" not in done.error, done.error
        assert done.error == "" or done.error.startswith(("Error: ", "Usage: "))
