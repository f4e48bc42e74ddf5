# SPDX-License-Identifier: Apache-2.0
"""`beffroi chat`: in a pipe and on a terminal, against the embedded engine and a scripted one."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from beffroi.cli.chat.command import Page, clean
from beffroi.cli.chat.talk import Talk
from beffroi.cli.client import Failure
from beffroi.cli.target import tidy
from beffroi.cli.web import Gateway
from beffroi.core.price import Price
from tests.engines.scripted import ScriptedEngine
from tests.harness import ROOT, Served, wait_for
from tests.tiny import LARGE, SMALL, client

CHAT = ("-m", "beffroi", "chat")
CTRL_C, CTRL_D = "\x03", "\x04"
PARIS = "What is the capital of France?"


class Terminal:
    """The chat on a terminal of its own, 80 columns wide."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        self.master, slave = pty.openpty()
        self.seen = ""
        told = {"PYTHONPATH": str(ROOT / "src"), "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        self.child = subprocess.Popen(
            [sys.executable, *CHAT, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | told | environ,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - so that Ctrl-C is a signal
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.master)

    def until(self, what: str, within: float = 15) -> str:
        """Wait until the pattern is seen; → all that came since the last time."""
        deadline = time.monotonic() + within
        while (found := re.search(what, self.seen)) is None:
            left = deadline - time.monotonic()
            assert left > 0, f"{what!r} is not in {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.master, 65_536).decode("utf-8", "replace")
        came, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return came

    def type(self, text: str) -> None:
        """Type a line."""
        self.press(f"{text}\n")

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self.master, keys.encode())


@pytest.fixture
def terminal(tiny: Served) -> Iterator[Terminal]:
    """A chat with the embedded engine."""
    with Terminal(BEFFROI_DATA=str(tiny.data), BEFFROI_API_KEY=tiny.key) as one:
        one.until("> ")
        yield one


def test_in_a_pipe_the_answer_alone_is_on_standard_output(tiny: Served) -> None:
    """What it took beside it: tokens, and the price of this machine's own price list."""
    done = client(tiny, *CHAT, stdin=PARIS)
    assert (done.returncode, done.stdout) == (0, "The capital of France is Paris.\n"), done.stderr
    assert re.match(r"16 tokens in, 10 out · 0\.0000544 EUR · first after .* tokens/s\n$", done.stderr), done.stderr


def test_json_says_all_of_it(tiny: Served) -> None:
    """Another model by its other name, a system prompt, and the same price as the ledger's."""
    done = client(tiny, *CHAT, "--model", "large", "--system", "Be short.", "--max-tokens", "3", "--json", stdin=PARIS)
    found = json.loads(done.stdout)
    assert found["model"] == "large" and found["answer"] and found["tokens"]["output"] == 3
    tokens = found["tokens"]
    cost = round((tokens["input"] + tokens["cached"]) * 0.9 + tokens["output"] * 4, 6)
    assert found["cost"] == [{"amount": f"{cost / 1_000_000:.7f}".rstrip("0"), "currency": "EUR"}]


def test_without_a_question_or_a_key_it_says_what_to_do(tiny: Served) -> None:
    """Status 1 and 2."""
    done = client(tiny, *CHAT)
    assert done.returncode == 1 and "echo hi | beffroi chat" in done.stderr
    done = client(tiny, *CHAT, stdin="hi", BEFFROI_API_KEY="", OPENAI_API_KEY="")
    assert done.returncode == 2 and "beffroi keys create" in done.stderr
    done = client(tiny, *CHAT, stdin=PARIS, BEFFROI_API_KEY="", OPENAI_API_KEY=tiny.key)
    assert done.returncode == 0, "the other library's variable does as well"


def test_a_conversation_on_a_terminal(terminal: Terminal) -> None:
    """An answer with its account, commands, a slip, and out."""
    terminal.type(PARIS)
    terminal.until(r"The capital of France is Paris\.")
    terminal.until(r"16 tokens in, 10 out · 0\.0000544 EUR")
    terminal.type("/model")
    terminal.until(rf"\* {SMALL}\r\n  {LARGE}")
    terminal.type("/model large")
    terminal.until("large answers from here on")
    terminal.type("/modle x")
    terminal.until("did you mean /model")
    terminal.type("/system You are short.")
    terminal.until("is set")
    terminal.type("/usage")
    terminal.until(r"one answer: 16 tokens in, 10 out")
    terminal.type("/clear")
    terminal.until("forgotten")
    terminal.type("/help")
    terminal.until("/quit")
    terminal.type("/quit")
    assert terminal.child.wait(5) == 0


def test_ctrl_d_leaves_and_ctrl_c_at_the_prompt_does_not(terminal: Terminal) -> None:
    """It says how to."""
    terminal.press("half a quest")
    terminal.until("half a quest")
    time.sleep(0.3)  # readline looks for signals only while it waits
    terminal.press(CTRL_C)
    terminal.until(r"Ctrl-D leaves\.\r\n> ")
    terminal.type("/usage")
    terminal.until(r"Nothing was answered yet.\r\n> ")
    time.sleep(0.3)  # until then the terminal may still hand over whole lines
    terminal.press(CTRL_D)
    assert terminal.child.wait(5) == 0


def test_ctrl_c_stops_an_answer_and_the_chat_goes_on(engine: ScriptedEngine) -> None:
    """A slow engine: what came stays, the engine sees the client leave; a question may have lines."""
    with Terminal("--url", f"{engine.url}/v1", BEFFROI_API_KEY="k") as terminal:
        terminal.until("> ")
        engine.script("gap=0.3")
        terminal.type("hello there you")
        terminal.until("libre sonne")
        terminal.press(CTRL_C)
        terminal.until("Stopped")
        terminal.type("/usage")
        terminal.until("Nothing was answered yet")
        wait_for(lambda: engine.stats["aborted"] == 1, 5, "the engine sees it")
        terminal.type("first line\\")
        terminal.until(r"\. ")
        terminal.type("second line")
        terminal.until("tokens in")
        assert engine.generations()[-1].json["messages"][-1]["content"] == "first line\nsecond line"


def test_an_engine_s_text_cannot_move_the_cursor() -> None:
    """Escape sequences are taken out; lines and tabs stay."""
    assert clean("a\x1b[2Jb\r\n\tc\x07é漢") == "a[2Jb\n\tcé漢"


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_lines_break_between_words_however_the_text_comes(size: int) -> None:
    """In pieces of any size the page looks the same."""
    text = "The bells of a free town rang at dawn.\n\nA second paragraph, with averyveryverylongword in it.\n"
    page = Page(20)
    shown = "".join(page.set(text[at : at + size]) for at in range(0, len(text), size)) + page.rest()
    assert all(len(line.rstrip()) <= 20 or " " not in line.strip() for line in shown.splitlines())
    assert shown.split() == text.split() and "\n\nA second" in shown
    assert shown.splitlines()[0].rstrip() == "The bells of a free"


def talk(engine: ScriptedEngine, **prices: tuple[Price, ...]) -> Talk:
    """A conversation straight with the scripted engine."""
    return Talk(Gateway(f"{engine.url}/v1", "k"), "words", prices)


def test_what_was_said_goes_along_and_what_failed_does_not(engine: ScriptedEngine) -> None:
    """The next request carries the conversation; a refused question leaves no trace in it."""
    one = talk(engine)
    assert "".join(piece for _, piece in one.ask("hello"))
    engine.script("status=503")
    with pytest.raises(Failure):
        list(one.ask("again"))
    list(one.ask("third"))
    sent = engine.generations()[-1].json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"] and sent[-1]["content"] == "third"
    one.clear()
    one.system = "Be kind."
    list(one.ask("fourth"))
    assert [message["role"] for message in engine.generations()[-1].json["messages"]] == ["system", "user"]


def test_an_unknown_price_is_not_a_price_of_nothing(engine: ScriptedEngine) -> None:
    """It is said, not counted as free."""
    unknown, known = talk(engine), talk(engine, words=(Price("v", input=10**9, output=10**9),))
    for one in (unknown, known):
        list(one.ask("hello there"))
    assert unknown.total.unpriced == 1 and unknown.total.cost == {} and "EUR" not in unknown.total.line()
    assert known.total.cost["EUR"] == (known.total.tokens.input + known.total.tokens.completion) * 1000


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("127.0.0.1:8400", "http://127.0.0.1:8400/v1"),
        ("https://llm.example/v1/", "https://llm.example/v1"),
        ("https://llm.example/api/v1", "https://llm.example/api/v1"),
        ("[::1]:8400", "http://[::1]:8400/v1"),
    ],
)
def test_urls_are_taken_as_people_write_them(given: str, url: str) -> None:
    """With and without scheme and path."""
    assert tidy(given) == url


def test_the_last_start_leaves_word_of_where_it_listens(tiny: Served) -> None:
    """So that a client on this machine needs no URL."""
    assert Path(tiny.data, "api-url").read_text() == f"http://127.0.0.1:{tiny.port}/v1\n"
