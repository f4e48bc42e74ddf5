# SPDX-License-Identifier: Apache-2.0
"""Reading configuration files: strict, every fault at once, each with its line."""

import subprocess
import sys
from pathlib import Path

import pytest

from beffroi.config.load import Invalid, Problem, load, parse, resources


def faults(text: str, *, toml: bool = False) -> list[Problem]:
    """The faults of a file that must have some."""
    with pytest.raises(Invalid) as caught:
        parse(text, "beffroi.toml" if toml else "beffroi.yaml", toml=toml)
    return caught.value.problems


def test_an_empty_file_means_every_default() -> None:
    """Nothing has to be written down."""
    assert parse("", "b.yaml").document.server.port == 8400
    assert parse("server:\ngateway:\n", "b.yaml").document.gateway.max_headers == 100


def test_yaml_and_toml_say_the_same() -> None:
    """Both languages fill the same structs."""
    yaml = "server: {port: 9000}\nresources:\n  engines:\n    - {name: a, url: 'http://127.0.0.1:1'}\n"
    toml = '[server]\nport = 9000\n[[resources.engines]]\nname = "a"\nurl = "http://127.0.0.1:1"\n'
    assert parse(yaml, "b.yaml").document == parse(toml, "b.toml", toml=True).document


def test_every_fault_is_told_at_once_with_its_line() -> None:
    """Three faults, three lines, in the order of the file."""
    found = faults("server:\n  prot: 1\n  workers: 0\nresources:\n  models:\n    - id: m\n      max_output: many\n")
    assert [(problem.spot.line, problem.name) for problem in found] == [
        (2, "server.prot"),
        (3, "server.workers"),
        (7, "resources.models[0].max_output"),
    ]


def test_an_unknown_name_gets_the_nearest_valid_one() -> None:
    """A slip of the finger is named with its repair."""
    assert faults("server: {prot: 1}")[0].remedy == "did you mean `port`?"
    assert faults("resource: {}")[0].remedy == "did you mean `resources`?"


def test_a_choice_names_what_there_is() -> None:
    """Whoever writes another dialect learns which there are."""
    text = "resources: {engines: [{name: a, url: 'http://x', kind: triton}]}"
    assert "`vllm`" in faults(text)[0].message


def test_a_name_set_twice_is_refused() -> None:
    """YAML would silently take the last."""
    found = faults("server:\n  port: 1\n  host: x\n  port: 2\n")
    assert (found[0].spot.line, found[0].message) == (4, "is set twice")


def test_what_is_not_yaml_or_toml_is_told_with_its_line() -> None:
    """The parser's own place is passed on."""
    assert faults("server:\n  - a\n b: [\n")[0].spot.line == 3
    assert faults("[server]\nport = \n", toml=True)[0].spot.line == 2


def test_lines_are_found_in_toml_too() -> None:
    """Also inside arrays of tables."""
    text = '[server]\nport = "x"\n\n[[resources.models]]\nid = "a"\n\n[[resources.models]]\nid = "b"\nmax_len = 3\n'
    assert [problem.spot.line for problem in faults(text, toml=True)] == [2, 9]


def test_a_date_that_no_calendar_has_is_a_fault_of_its_line() -> None:
    """And not a crash of the parser."""
    found = faults("resources:\n  models:\n    - id: m\n      prices:\n        - effective: 2025-13-01\n")
    assert found[0].spot.line == 5


def test_a_file_that_grows_by_aliases_is_refused() -> None:
    """Ten lines that name each other ten times would be ten thousand million values."""
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "too large" in faults("\n".join(rows))[0].message


@pytest.mark.parametrize("text", ["a: " + "[" * 5000, "[" * 5000, "a: &x [*x]", "!!python/object/apply:os.system [ls]"])
def test_hostile_yaml_is_refused_and_nothing_runs(text: str) -> None:
    """Depth, recursion and tags of other programs."""
    assert faults(text)


@pytest.mark.parametrize("text", ["a: " + "[" * 200_000, "a: " + "[" * 100_000 + "]" * 100_000, "- " * 200_000])
def test_depth_without_end_is_a_fault_and_ends_no_process(text: str) -> None:
    """In a process of its own: what makes the nodes has no guard of its stack."""
    script = "import sys; from beffroi.config.load import parse; parse(sys.stdin.read(), 'f.yaml')"
    done = subprocess.run([sys.executable, "-c", script], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, "f.yaml:1:" in done.stderr, "nested too deep" in done.stderr) == (1, True, True)


def test_what_was_found_at_start_has_the_same_shape() -> None:
    """Discovery hands over plain data; a fault in it is told like any other."""
    found = resources({"engines": [{"name": "a", "url": "http://127.0.0.1:1"}]}, "(found)")
    assert found.document.resources.engines[0].name == "a"
    with pytest.raises(Invalid, match="uri"):
        resources({"engines": [{"name": "a", "uri": "x"}]}, "(found)")


def test_a_file_that_cannot_be_read_is_told_without_a_traceback(tmp_path: Path) -> None:
    """Missing, a folder, nothing in it, not text."""
    with pytest.raises(Invalid, match="cannot be read"):
        load(tmp_path / "none.yaml")
    with pytest.raises(Invalid, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "half.yaml").touch()
    with pytest.raises(Invalid, match="is empty"):
        load(tmp_path / "half.yaml")
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(Invalid, match=r"b\.yaml:2:4: is not UTF-8"):
        load(binary)
