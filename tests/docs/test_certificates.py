# SPDX-License-Identifier: Apache-2.0
"""docs/how-to/certificates.md: an authority, a server, its renewal and a client, with the commands of the page."""

import os
import sys
from pathlib import Path

import yaml

from beffroi.config.load import parse
from tests.docs.blocks import of
from tests.docs.terminal import Terminal, shows
from tests.docs.test_tutorial import commands
from tests.harness import KEY, program

PAGE = "docs/how-to/certificates.md"
HERE = str(Path(sys.executable).parent)


def test_every_command_of_the_page_does_what_it_says(folder: Path) -> None:
    """In the order in which they stand."""
    for wanted in ("curl", "openssl"):
        program(wanted)
    place = folder / "here"
    place.mkdir()
    key, serials = "", []
    with Terminal(place, {"PATH": f"{HERE}:{os.environ['PATH']}"}) as terminal:
        for block, expected in commands(PAGE):
            if block.text.startswith("beffroi serve"):
                shown = terminal.serve(block.text)
                assert "https://127.0.0.1:8400/v1" in shown
                found = KEY.search(shown)
                key = found[0] if found else key
            else:
                if "s_client" in block.text:  # before and after
                    serials.append(terminal.enter("openssl x509 -in server.pem -noout -serial").strip())
                printed = terminal.enter(block.text)
                shows(printed, expected)
                if "s_client" in block.text:
                    assert serials[0] in printed, "the renewed certificate is not the one that is shown"
        (example,) = [block.text for block in of(PAGE, "python")]
        (place / "example.py").write_text(example)
        assert "beffroi-tiny" in terminal.enter(f"OPENAI_API_KEY={key} {sys.executable} example.py")
        foreign = terminal.enter("curl -sS https://localhost:8400/livez", fails=True)
        assert "certificate" in foreign
        terminal.interrupt()


def test_the_configurations_of_the_page_are_whole() -> None:
    """Each is read as a configuration file is."""
    for block in of(PAGE, "yaml"):
        parse(block.text, "example.yaml")
        assert yaml.safe_load(block.text)
