# SPDX-License-Identifier: Apache-2.0
"""Every command on every page is run by a test, or the page says why it is not."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks
from tests.harness import ROOT
from tests.house.test_source import name, python, tracked

ELSEWHERE = {
    "make serve": ".ci/newcomer.py",
    "make test": ".ci/run",
    "make check": ".ci/run",
    "make format": "not run: writes the source; make check looks at what it would write",
    "make docs": "not run: calls what tests/docs/test_site.py calls",
    'make serve ARGS="--engine http://127.0.0.1:8000"': "not run: names an engine of the reader's; tests/supervisor/test_engines.py names others",
}
"""Commands that papers without marks name (README, …), with the file that runs them or the reason why none does."""


NOT_RUN = {
    "benchmarks/README.md": "wants a quiet machine for minutes; tests/benchmarks runs its parts",
    "recipes/tiny-model/README.md": "forty minutes of training, the record of a run",
}
"""Papers whose commands are not run, and why."""


def shell_blocks() -> list[Block]:
    """Every block of commands of every page."""
    return [block for page in tracked() if page.suffix == ".md" for block in blocks(page) if block.is_shell]


@cache
def claimed() -> frozenset[str]:
    """Pages that a test module says it runs: those that its first words name."""
    said = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "" for path in python("tests"))
    return frozenset(page for text in said for page in re.findall(r"[\w-]+\.md", text.replace(".fr.md", ".md")))


def unclaimed(block: Block) -> str:
    """What a block lacks; "" if nothing."""
    if name(block.page) in NOT_RUN:
        return ""
    if block.reason:
        return "" if len(block.reason) > 8 else f"{block}: `{block.reason}` is no reason"
    if block.run_by:
        test = ROOT / block.run_by
        if not test.is_file():
            return f"{block}: there is no {block.run_by}"
        page = block.page.name.replace(".fr.md", ".md")  # a French page has the blocks of the English one
        if page not in test.read_text("utf-8"):
            return f"{block}: {block.run_by} does not name {page}"
        return ""
    if block.page.name.replace(".fr.md", ".md") in claimed():
        return ""
    lines = [line.partition("  #")[0].strip() for line in block.text.splitlines()]
    left = [line for line in lines if line and line not in ELSEWHERE]
    return f"{block}: no test runs `{left[0]}`" if left else ""


def test_every_block_of_commands_is_run_or_says_why_not() -> None:
    """Name the page in the docstring of the test that runs it, or write `<!-- run by tests/… -->` or `<!-- not run: REASON -->` over it (tests/docs/blocks.py has the forms)."""
    found = shell_blocks()
    assert len(found) > 10
    assert [fault for block in found if (fault := unclaimed(block))] == []


def test_every_file_that_is_said_to_run_something_is_there() -> None:
    """And the papers' commands stand in it."""
    for command, place in ELSEWHERE.items():
        if not place.startswith("not run: "):
            text = (ROOT / place).read_text("utf-8")
            assert command in text or '"make", "serve"' in text, f"{place} does not run {command}"


def test_a_page_in_french_has_the_commands_and_files_of_the_english_one() -> None:
    """What was tried in one language holds in the other; comments, and what is shown, may be translated."""
    for page in tracked():
        if page.name.endswith(".fr.md"):
            english = page.with_name(page.name.replace(".fr.md", ".md"))
            mine, theirs = (
                [re.sub(r"(?m)\s+# .*$", "", b.text) for b in blocks(one) if b.language not in {"", "text"}]
                for one in (page, english)
            )
            assert mine == theirs, f"{name(page)} differs from {name(english)}"


PAGE = """# Page
<!-- commands: run by tests/docs/test_blocks.py -->

```sh
one
```

<!-- not run: needs a graphics card -->
```sh
two
```

<!-- run by tests/docs/nowhere.py -->

- a list:

  ```sh
  three
  four
  ```

```yaml
five: 5
```
"""


@pytest.fixture
def page() -> Path:
    """A page whose name stands in this file: example.md."""
    place = ROOT / "build" / "example.md"
    place.parent.mkdir(exist_ok=True)
    return place


def test_marks_are_read_as_they_are_meant(page: Path) -> None:
    """A mark holds for the block under it, that of the page for all that have none; text between ends it."""
    page.write_text(PAGE, "utf-8")
    one, two, three, five = blocks(page)
    page.unlink()
    assert (one.text, one.run_by, one.reason) == ("one\n", "tests/docs/test_blocks.py", "")
    assert (two.run_by, two.reason) == ("", "needs a graphics card")
    assert (three.text, three.run_by) == ("three\nfour\n", "tests/docs/test_blocks.py")
    assert five.language == "yaml" and not five.is_shell
    assert unclaimed(one) == unclaimed(two) == ""


def test_a_block_without_a_test_is_noticed(page: Path) -> None:
    """One that nobody claims, one whose test is not there, one whose test does not know the page, one with a poor reason."""
    for mark, fault in {
        "": "no test runs `two`",
        "<!-- run by tests/docs/nowhere.py -->": "there is no tests/docs/nowhere.py",
        "<!-- run by tests/docs/blocks.py -->": "does not name example.md",
        "<!-- not run: no -->": "is no reason",
    }.items():
        page.write_text(f"{mark}\n```sh\nmake serve\ntwo\n```\n", "utf-8")
        (block,) = blocks(page)
        assert fault in unclaimed(block)
    page.unlink()
