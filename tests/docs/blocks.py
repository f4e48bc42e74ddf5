# SPDX-License-Identifier: Apache-2.0
"""The fenced blocks of Markdown pages, and what a page says of how each is tested.

In: a page. Out: its blocks. The docstring of a test module names the page whose commands it runs; what differs from that a
page says in comments, which readers do not see:

    <!-- commands: run by tests/docs/test_tutorial.py -->   all blocks of the page that say nothing else
    <!-- run by tests/docs/test_proxies.py -->              the block that follows
    <!-- not run: needs a GPU -->                           the block that follows, with the reason
"""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.harness import ROOT

SHELL = {"sh", "bash", "shell", "console", "zsh"}
_MARK = re.compile(r"<!--\s*(commands: )?(run by|not run:)\s*(.+?)\s*-->")
_FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})\s*([\w+-]*)")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        line: number of its first line of content.
        language: the word behind the fence, lower case; empty without one.
        text: its content, with a line end after each line.
        run_by: the test file that runs it, as the page says; or "".
        reason: why it is not run, as the page says; or "".
        heading: the heading it stands under.
    """

    page: Path
    line: int
    language: str
    text: str
    run_by: str
    reason: str
    heading: str

    @property
    def is_shell(self) -> bool:
        return self.language in SHELL

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All of a page's fenced blocks, in order."""
    text = page.read_text("utf-8")
    whole = {found[2]: found[3] for found in _MARK.finditer(text) if found[1]}
    found: list[Block] = []
    own: dict[str, str] = {}
    heading, fence, indent, language, begin, content = "", "", "", "", 0, ""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        opened = _FENCE.match(line)
        if fence:
            if opened and opened[2].startswith(fence) and not opened[3]:
                marks = own or whole
                found.append(
                    Block(page, begin, language, content, marks.get("run by", ""), marks.get("not run:", ""), heading)
                )
                fence, own = "", {}
            else:
                content += line.removeprefix(indent)
        elif opened:
            indent, fence, language = opened[1], opened[2], opened[3].lower()
            begin, content = number + 1, ""
        elif line.startswith("#"):
            heading, own = line.lstrip("# ").strip(), {}
        elif (mark := _MARK.search(line)) and not mark[1]:
            own = {mark[2]: mark[3]}
        elif line.strip():
            own = {}
    return found


def of(name: str, language: str | None = None) -> list[Block]:
    """Blocks of the page `name` (from the repository's root), of one language if given."""
    return [block for block in blocks(ROOT / name) if language is None or block.language == language]
