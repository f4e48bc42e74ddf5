# SPDX-License-Identifier: Apache-2.0
"""How screens look, in a pipe and on terminals of 80 and 120 columns. What is another at each run is left out (`look`)."""

import csv
import io
import json
import re
from datetime import datetime

import click
import pytest

from beffroi.cli import cells, tables
from beffroi.cli.cells import Column
from beffroi.cli.main import main
from tests.cli.conftest import SECRET, Lived, beffroi, look, on_terminal, printed

PIPES = {
    ("keys", "list"): """\
NAME  KEY  STATE  EXPIRES  MODELS  LIMITS
first  bf-KEY-…  active  DATE  all  none
billing  bf-KEY-…  active  DATE  all  60 requests/min, hard 10.5 EUR/month
intranet chat  bf-KEY-…  active  DATE  small  4 at once
ci  bf-KEY-…  active  DATE  all  2 requests/min, soft 1 EUR/day
""",
    ("models",): """\
MODEL  STATE  INPUT  OUTPUT  CACHED  REASONING  CONTEXT  ENGINES  ALIASES  ENDPOINTS
small  ready  0.90 EUR  4.00 EUR  0.90 EUR  21.00 EUR  32768  gpu1  chat  chat, completions, embeddings
large  ready  2.50 EUR  10.00 EUR  0.25 EUR  10.00 EUR  -  gpu1, gpu2  -  chat, completions, embeddings
small: from DATE on input 1.90 EUR, output 8.00 EUR
""",
    ("usage", "--key", "billing"): """\
KEY  MODEL  REQUESTS  INPUT  CACHED  OUTPUT  REASONING  COST
billing  small  3  27  0  36  0  0.0001683 EUR
""",
    ("usage", "--by", "class", "--model", "chat"): """\
CLASS  REQUESTS  TOKENS  COST
input  7  54  0.0000486 EUR
output  7  52  0.0002080 EUR
TOTAL  106  0.0002566 EUR
""",
    ("requests", "tail", "--key", "intranet chat"): """\
TIME  KEY  MODEL  OUTCOME  ENGINE  TRY  IN  OUT  FIRST  TOOK  COST  REQUEST
TIME  intranet chat  small  complete  gpu1  1  9  12  SPAN  SPAN  0.0000561 EUR  req_ID
TIME  intranet chat  large  403 model_not_allowed  -  0  -  -  -  SPAN  -  req_ID
""",
}


@pytest.mark.parametrize("command", PIPES, ids=" ".join)
def test_a_listing_in_a_pipe(lived: Lived, command: tuple[str, ...]) -> None:
    """Plain, whole, no colour codes."""
    assert look(printed(lived, *command)) == PIPES[command]


def test_columns_stand_below_their_headings_in_a_pipe(lived: Lived) -> None:
    """Text to the left, figures to the right."""
    head, *rows = printed(lived, "usage").splitlines()
    for name in ("REQUESTS", "INPUT", "COST"):
        end = head.index(name) + len(name)
        assert all(row[:end][-1] != " " and row[end : end + 2].strip() == "" for row in rows), name
    assert all(row[head.index("MODEL") - 1] == " " for row in rows)


def test_a_key_with_what_is_used_of_it(lived: Lived) -> None:
    """Who it is, what it may do, and each limit with a bar."""
    text = look(printed(lived, "keys", "show", "billing"))
    assert text.startswith("name  billing\nid  key_ID\nkey  bf-KEY-…\nstate  active\nmade  DATE TIME by cli\n")
    assert "LIMIT  USED  OF  LEFT  SHARE  MORE\n" in text
    # The window may have slid on since, or may not.
    assert re.search(r"^requests/min  [0-3]  60  (57|58|59|60)  ░{10}  \d%", text, re.MULTILINE)
    assert re.search(r"^hard budget/month  0.0001683 EUR  10.5 EUR  10.4998317 EUR  ░{10}  0%  in ", text, re.MULTILINE)


def test_a_request_on_its_way_through_the_rooms(lived: Lived) -> None:
    """With its fallback, its bill worked out, and not a word of what was said."""
    found = [row for row in lived.rows() if row["attempts"] == 2]
    text = printed(lived, "requests", "show", str(found[-1]["request_id"]))
    assert (
        look(text)
        == """\
req_ID  complete, 200
DATE TIME to DATE TIME, SPAN
large, chat, plain

 1 authenticate  first (key_ID)
  of default/default, from 127.0.0.1
 2 admit  price line large@start
 3 inspect  allow
 4 route  gpu2 (openai), then gpu1 (openai)
 5 relay  1 gpu2  engine_gone, 502 engine_broken, end SPAN
  2 gpu1  complete, 200, first byte SPAN, end SPAN
  87 bytes in, 566 bytes out, finished by stop
 6 settle  input  9 × 2.5 EUR per million  = 0.0000225 EUR
  output  12 × 10 EUR per million  = 0.0001200 EUR
  total  = 0.0001425 EUR
  tokens counted by the engine
 7 record  by WORKER: intent before the engine, settlement before the end
"""
    )
    assert SECRET not in text and max(map(len, text.splitlines())) <= 80


def test_a_refusal_says_in_which_room(lived: Lived) -> None:
    """What comes after it was not reached."""
    (row,) = (row for row in lived.rows() if row["code"] == "rate_limit_exceeded")
    text = look(printed(lived, "requests", "show", str(row["request_id"])))
    assert " 2 admit  refused: 429 rate_limit_exceeded\n 3 inspect  not reached\n 4 route  not reached\n" in text
    (row,) = (row for row in lived.rows() if row["code"] == "model_not_allowed")
    text = look(printed(lived, "requests", "show", str(row["request_id"])))
    assert "\n  read  refused: 403 model_not_allowed\n 2 admit  not reached\n" in text


SCREENS = {
    80: """\
\x1b[1mTIME\x1b[0m  \x1b[1mKEY\x1b[0m  \x1b[1mMODEL\x1b[0m  \x1b[1mOUTCOME\x1b[0m  \x1b[1mIN\x1b[0m  \
\x1b[1mOUT\x1b[0m  \x1b[1mTOOK\x1b[0m  \x1b[1mREQUEST\x1b[0m
TIME  intranet chat  small  \x1b[32mcomplete\x1b[0m  9  12  SPAN  req_ID
TIME  intranet chat  large  \x1b[31m403 model_no…\x1b[0m  -  -  SPAN  req_ID
\x1b[2mA wider terminal also shows FIRST, TRY, ENGINE, COST.\x1b[0m
""",
    160: """\
\x1b[1mTIME\x1b[0m  \x1b[1mKEY\x1b[0m  \x1b[1mMODEL\x1b[0m  \x1b[1mOUTCOME\x1b[0m  \x1b[1mENGINE\x1b[0m  \
\x1b[1mTRY\x1b[0m  \x1b[1mIN\x1b[0m  \x1b[1mOUT\x1b[0m  \x1b[1mFIRST\x1b[0m  \x1b[1mTOOK\x1b[0m  \x1b[1mCOST\x1b[0m  \
\x1b[1mREQUEST\x1b[0m
TIME  intranet chat  small  \x1b[32mcomplete\x1b[0m  gpu1  1  9  12  SPAN  SPAN  0.0000561 EUR  req_ID
TIME  intranet chat  large  \x1b[31m403 model_not_allowed\x1b[0m  -  0  -  -  -  SPAN  -  req_ID
""",
}


@pytest.mark.parametrize("columns", SCREENS)
def test_a_listing_on_a_terminal(lived: Lived, columns: int) -> None:
    """Coloured, and what does not fit is left out by name."""
    screen = on_terminal(lived, "requests", "tail", "--key", "intranet chat", columns=columns)
    assert look(screen) == SCREENS[columns]


@pytest.mark.parametrize(
    "command", [("keys", "list"), ("models",), ("engines",), ("usage",), ("requests", "tail")], ids=" ".join
)
def test_no_line_is_wider_than_the_terminal(lived: Lived, command: tuple[str, ...]) -> None:
    """At 80 columns; colours take no place."""
    screen = on_terminal(lived, *command, columns=80)
    assert "\x1b[1m" in screen
    bare = re.sub(r"\x1b\[\d+m", "", screen)
    assert max(map(len, bare.splitlines())) <= 80


def test_no_color_is_heard(lived: Lived) -> None:
    """https://no-color.org: the same screen without codes."""
    screen = on_terminal(lived, "models", columns=120, NO_COLOR="1")
    assert "\x1b" not in screen and "small  ready" in screen


def test_every_listing_speaks_csv(lived: Lived) -> None:
    """Exact decimals, times in UTC, ids in full; every row as long as the head."""
    for command in (
        ("keys", "list"),
        ("models",),
        ("engines",),
        ("usage",),
        ("requests", "tail"),
        ("keys", "show", "ci"),
    ):
        text = printed(lived, *command, "--csv")
        head, *rows = csv.reader(io.StringIO(text))
        assert rows and all(len(row) == len(head) for row in rows), command
        assert len(set(head)) == len(head) and "" not in head and "…" not in text, command
    rows = list(csv.DictReader(io.StringIO(printed(lived, "requests", "tail", "--key", "billing", "--csv"))))
    assert [row["cost"] for row in rows] == ["0.0000561"] * 3
    assert all(row["ended_at"].endswith("Z") and datetime.fromisoformat(row["ended_at"]) for row in rows)


def test_every_listing_speaks_json(lived: Lived) -> None:
    """Money in integers of nano-units, times in UTC."""
    billing = next(key for key in json.loads(printed(lived, "keys", "list", "--json")) if key["name"] == "billing")
    assert billing["created_at"].endswith("Z") and billing["limits"]["hard_budget"] == 10_500_000_000
    usage = json.loads(printed(lived, "usage", "--key", "billing", "--json"))["usage"]
    assert [row["cost_nano"] for row in usage] == [168_300]
    assert json.loads(printed(lived, "models", "--json"))[0]["price"]["reasoning_nano"] == 21_000_000_000
    assert json.loads(printed(lived, "engines", "--json"))[1]["last_fault"]["code"] == "engine_broken"


def test_what_a_client_chose_moves_no_cursor_and_runs_no_formula(lived: Lived) -> None:
    """The end user's name is a client's; it had an escape, a control character beyond ASCII, and a formula."""
    for kind in ((), ("--csv",), ("--json",)):
        text = printed(lived, "usage", "--by", "user", *kind)
        assert "bad" in text and all(char.isprintable() or char == "\n" for char in text), kind
    assert "'=bad" in printed(lived, "usage", "--by", "user", "--csv")
    (row,) = (row for row in lived.rows() if row["end_user"])
    text = printed(lived, "requests", "show", str(row["request_id"]))
    assert "for the end user =bad�[31m�1m" in text


def test_a_slip_of_the_pen_gets_the_nearest_name(lived: Lived) -> None:
    """Commands, options, keys, models, groups, outcomes: the sentence ends with what may have been meant."""
    for command, near in {
        ("keyz", "list"): "'keys'",
        ("keys", "lst"): "'list'",
        ("keys", "list", "--jsn"): "'--json'",
        ("keys", "show", "biling"): "`billing`",
        ("keys", "revoke", "intranet-chat"): "`intranet chat`",
        ("usage", "--model", "smal"): "`small`",
        ("requests", "tail", "--model", "larg"): "`large`",
        ("usage", "--by", "modell"): "model?",
        ("requests", "tail", "--outcome", "complet"): "`complete`",
    }.items():
        done = beffroi(lived, *command)
        assert done.exit_code in (1, 2) and done.stdout == "", command
        assert "id you mean" in done.stderr and near in done.stderr.rpartition("id you mean")[2], command


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0004, "0.4 ms"), (0.9, "900.0 ms"), (1.25, "1.25 s"), (12.34, "12.3 s"), (3, "3 s"), (59.97, "60.0 s"),
     (200, "3 min 20 s"), (3600, "1 h"), (5400, "1 h 30 min"), (90_000, "1 d 1 h")],
)  # fmt: skip
def test_a_duration_has_as_many_digits_as_one_reads(seconds: float, said: str) -> None:
    """No more."""
    assert cells.duration(seconds) == said


def test_scripts_that_take_two_places_stay_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """A key may be called anything."""
    tables.people([Column("NAME"), Column("N")], [["東京", 1], ["ab", 22]], ())
    assert capsys.readouterr().out == "NAME   N\n東京   1\nab    22\n"


def test_no_line_of_help_is_cut_on_80_columns() -> None:
    """Each command says what it does in a sentence that a list of commands has room for."""
    groups: list[tuple[str, click.Group]] = [("beffroi", main)]
    for name, group in groups:
        with click.Context(group, info_name=name, terminal_width=80) as context:
            names = group.list_commands(context)
            assert names
            assert "...\n" not in group.get_help(context).partition("Commands:")[2] + "\n", name
            children = [(f"{name} {child}", group.get_command(context, child)) for child in names]
        groups += [(path, child) for path, child in children if isinstance(child, click.Group)]
    assert len(groups) > 5
