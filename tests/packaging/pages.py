# SPDX-License-Identifier: Apache-2.0
"""Commands as pages give them, so that what a test runs is what a reader types.

In: a page below docs/. Out: its blocks of commands; a test puts other places for those of the page.
"""

import re

from tests.harness import ROOT


def commands(page: str, beginning: str) -> str:
    """The one block of a page that begins so."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    found = [
        block
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        if block.startswith(beginning)
    ]
    assert len(found) == 1, f"{page} has {len(found)} blocks that begin with {beginning!r}"
    return str(found[0])


def elsewhere(block: str, places: dict[str, str]) -> str:
    """A block with other places for its own, each of which must stand in it."""
    for there, here in places.items():
        assert there in block, f"{there} does not stand in\n{block}"
        block = block.replace(there, here)
    return block
