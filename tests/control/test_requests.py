# SPDX-License-Identifier: Apache-2.0
"""Single requests: what is remembered of the last ones, how one is found, and its bill against the price that made it."""

from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import Engine

from beffroi.config.compile import compile_config
from beffroi.config.load import parse
from beffroi.control import catalogue, requests
from beffroi.control.requests import KEPT, Recent, Wanted
from beffroi.control.shipping import Shipper
from beffroi.control.tenancy.scope import EVERY, SOCKET, looking
from beffroi.core.errors import ModelNotFound, RequestNotFound
from beffroi.core.price import Cost, Tokens
from beffroi.core.snapshot import Config
from beffroi.store.tables import DEFAULT
from beffroi.telemetry.metrics import EngineMetrics, WorkerMetrics
from tests.control.journal_files import segment
from tests.control.test_ledger import add, ended
from tests.gateway.journal.support import intent, settlement

ALL = (EVERY, "")
FILE = """
resources:
  engines: [{name: e1, url: "http://127.0.0.1:1"}, {name: e2, url: "http://127.0.0.1:2"}]
  models:
    - id: m
      aliases: [n]
      targets: [{engine: e1}, {engine: e2}]
      prices:
        - {version: old, input: 1, output: 2}
        - {version: new, effective: 2999-01-31, input: 3, output: 4, cached: 0.5}
    - {id: bare, targets: [{engine: e1}]}
"""


def config(text: str = FILE) -> Config:
    """The configuration in force."""
    return compile_config([parse(text, "f.yaml")], 1)


def found(database: Engine, request: str, text: str = FILE) -> dict[str, Any]:
    """A request as a page shows it."""
    with looking(database, SOCKET, DEFAULT) as scope:
        return requests.find(scope, request, lambda key: f"name of {key}", config(text))


def test_what_has_ended_is_told_once_and_in_order() -> None:
    """From the place of the last answer on; what was forgotten meanwhile is counted."""
    recent, row = Recent(), requests._NAMES
    rows = [tuple("[]" if name == "findings" else n for name in row) for n in range(KEPT + 5)]
    _, place, _ = recent.since(ALL, None)
    assert place.endswith(".0")
    recent.add(rows[:2])
    told, place, missed = recent.since(ALL, place)
    assert ([one["worker"] for one in told], missed) == ([0, 1], 0)
    assert recent.since(ALL, place) == ([], place, 0)
    recent.add(rows)
    told, _, missed = recent.since(ALL, place)
    assert (len(told), missed, told[-1]["worker"]) == (KEPT, 5, KEPT + 4)
    # A place that the control process before this one gave says nothing of ours: all is new to whoever has it.
    assert len(recent.since(ALL, Recent().since(ALL, None)[1])[0]) == KEPT


def test_a_place_says_nothing_of_how_busy_others_are() -> None:
    """Counted by organisation and by project: rows, places and what is missed are of one's own alone."""
    recent = Recent()
    rows = {
        of: tuple({"organisation": of[0], "project": of[1], "findings": "[]"}.get(name, 1) for name in requests._NAMES)
        for of in (("a", "p"), ("a", "q"), ("b", "p"))
    }
    recent.add([rows["a", "p"], rows["b", "p"], rows["b", "p"], rows["a", "q"]])
    places = {of: recent.since(of, None)[1] for of in (("a", ""), ("a", "p"), ("b", "q"), ALL)}
    assert [place.partition(".")[2] for place in places.values()] == ["2", "1", "0", "4"]
    recent.add([rows["b", "p"]] * KEPT)
    assert recent.since(("a", ""), places["a", ""]) == ([], places["a", ""], 0)
    recent.add([rows["a", "q"], rows["b", "p"]])
    told, place, missed = recent.since(("a", ""), places["a", ""])
    assert ([row["project"] for row in told], place.partition(".")[2], missed) == (["q"], "3", 0)
    assert recent.since(("a", "p"), places["a", "p"])[0] == []
    assert len(recent.since(ALL, places[ALL])[0]) == KEPT
    assert [row["organisation"] for row in recent.since(("a", ""), "of another control")[0]] == ["a"]


def test_shipping_tells_what_it_has_committed(database: Engine, spool: Any) -> None:
    """Each settled exchange, once, as the ledger has it."""
    recent = Recent()
    shipper = Shipper(database, spool, settled=recent.add)
    segment(spool, [intent("req_1", 1), settlement("req_1"), settlement("req_2", attempt=0)])
    shipper.step()
    shipper.step()
    told, _, _ = recent.since(ALL, "")
    with looking(database, SOCKET, EVERY) as scope:
        assert told == requests.last(scope, 10, Wanted())
    assert [one["request_id"] for one in told] == ["req_1", "req_2"]


def test_a_bill_is_compared_with_the_price_line_that_it_names(database: Engine) -> None:
    """As it is now: the same, another, or gone. What was billed is what the ledger says, in any case."""
    tokens, cost = Tokens(10, 20, 30, 0), Cost(10_000, 20_000, 60_000, 0)
    one = ended("2026-03-01T10:00:00", model="m", price_version="old", tokens=tokens, cost=cost)
    add(database, one)
    for text, agrees in (
        (FILE, True),
        (FILE.replace("input: 1, output: 2", "input: 1, output: 2.5"), False),
        (FILE.replace("input: 1,", "currency: USD, input: 1,").replace("input: 3,", "currency: USD, input: 3,"), False),
        (FILE.replace("version: old", "version: renamed"), None),
    ):
        attempt = found(database, one.request_id, text)["attempts"][-1]
        assert (attempt["price"]["agrees"], attempt["cost_nano"]) == (agrees, 90_000), text
    rates = found(database, one.request_id)["attempts"][-1]["price"]["per_million_nano"]
    assert rates == {"input": 10**9, "cached": 10**9, "output": 2 * 10**9, "reasoning": 2 * 10**9}


def test_a_request_has_all_its_attempts(database: Engine) -> None:
    """In order; the price with the last."""
    last = ended("2026-03-01T10:00:00", model="m", attempt=2, attempts=2)
    add(database, structs.replace(last, attempt=1, outcome="engine_gone", engine="e1"), last)
    attempts = found(database, last.request_id)["attempts"]
    assert [(one["attempt"], one["outcome"], "price" in one) for one in attempts] == [
        (1, "engine_gone", False),
        (2, "complete", True),
    ]
    assert attempts[0]["key_name"].startswith("name of key_")


def test_a_name_for_a_request_that_fits_none_or_several_is_refused(database: Engine) -> None:
    """With the sentence that helps."""
    one, two = ended("2026-03-01T10:00:00", 1), ended("2026-03-01T10:00:00", 2)
    add(database, one, two)
    assert found(database, one.request_id)["id"] == one.request_id
    for wrong, said in (
        (one.request_id[:20], f"{one.request_id}, {two.request_id}"),
        ("req_ffffffffffff", "has no request"),
        ("req_1", "at least eight"),
        ("x' OR 1=1", "no request id"),
    ):
        with pytest.raises(RequestNotFound, match=r".*") as refused:
            found(database, wrong)
        assert said in refused.value.message, wrong


def test_a_model_that_was_never_there_is_doubted(database: Engine) -> None:
    """One that is there and was not used is not; a name is looked for by its aliases."""
    requests.doubt_model(config(), "n")
    requests.doubt_model(config(), None)
    with pytest.raises(ModelNotFound, match="did you mean `bare`"):
        requests.doubt_model(config(), "bar")
    assert requests.wanted(config(), None, "n", None).model == "m"


def workers(*ejected: frozenset[str]) -> dict[int, WorkerMetrics]:
    """Workers that keep those engines out, and have asked `e1` before."""
    return {
        slot: WorkerMetrics(
            slot, "b", engines={n: EngineMetrics(ejected=n in those, requests=int(n == "e1")) for n in ("e1", "e2")}
        )
        for slot, those in enumerate(ejected)
    }


@pytest.mark.parametrize(
    ("ejected", "engines", "models"),
    [
        ((set(), set()), ["up", "untried"], ["ready", "ready"]),
        (({"e1"}, set()), ["degraded", "untried"], ["degraded", "degraded"]),
        (({"e1"}, {"e1"}), ["out", "untried"], ["degraded", "down"]),
        (({"e1", "e2"}, {"e1", "e2"}), ["out", "out"], ["down", "down"]),
        ((), ["unknown", "unknown"], ["unknown", "unknown"]),
    ],
)
def test_a_model_is_as_well_as_its_engines(
    database: Engine, ejected: tuple[set[str], ...], engines: list[str], models: list[str]
) -> None:
    """As the workers find them: `m` stands on both, `bare` on the first alone."""
    seen = workers(*(frozenset(those) for those in ejected))
    assert [one["state"] for one in catalogue.engines(database, config(), seen)] == engines
    assert [one["state"] for one in catalogue.models(config(), seen)] == models


def test_prices_are_those_of_today_and_the_next_to_come() -> None:
    """With the day as the configuration has it, in the zone that prices follow."""
    priced, bare = catalogue.models(config(), workers())
    assert (priced["price"]["version"], priced["price"]["cached_nano"]) == ("old", 10**9)
    assert (priced["next_price"]["version"], priced["next_price"]["effective"]) == ("new", "2999-01-31")
    assert (bare["price"]["version"], bare["next_price"]) == ("free", None)
