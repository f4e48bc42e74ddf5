# SPDX-License-Identifier: Apache-2.0
"""No leak between two organisations: every operation, every role, with look-alike data on both sides.

An operation, a verb of the command line or a job that `exercises` does not know makes this fail: a new one is added there.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, delete, insert, select

from beffroi.cli.main import main
from beffroi.control import process
from beffroi.control.api.operation import Operation
from beffroi.control.api.routes import OPERATIONS
from beffroi.control.litellm.verbs import VERBS
from beffroi.control.tenancy.permissions import Role, allowed
from beffroi.store.administration import tiers
from beffroi.store.engine import open_engine, reading
from beffroi.store.tables import keys, metadata, open_intents, organisations, projects
from tests.control.fakes import Answer, Control, WorkerThread, control
from tests.control.tenancy import exercises
from tests.control.tenancy.alike import fill
from tests.control.tenancy.exercises import ACME, ONLY, ZEBRA, Exercise
from tests.harness import wait_for
from tests.house.pages import commands

API = "/api/v1"
SYSTEM = {"name": "twice", "purpose": "p", "owner": "o"}
CONTROL = Path(__file__).resolve().parents[1]
ROLES = [(role, narrowed) for role in Role if role != Role.OPERATOR for narrowed in ("", "p")]
DECLARED = {f"{each.method} {each.path}": each for each in OPERATIONS if each.needs is not None}
BY_ROLE = pytest.mark.parametrize(("role", "project"), ROLES, ids=lambda value: str(value) or "all")


class Two:
    """A running control with both organisations, an admin key of each role in `ACME`, and what only `ZEBRA` has."""

    def __init__(self, running: Control, engine: Engine) -> None:
        self.running = running
        self.engine = engine
        self.words = _words(engine, ZEBRA) - _words(engine, ACME) - _words(engine, "default")
        self.before = rows(engine, ZEBRA)
        self.keys: dict[tuple[Role, str], str] = {}
        for role, project in ROLES:
            ask = {"name": "Same", "role": role, "project": project}
            answer = running.ask("POST", f"{API}/admin-keys?organisation={ACME}", ask)
            assert answer.status == 201, answer.text
            self.keys[role, project] = str(answer.json["key"])

    def ask(self, who: tuple[Role, str], each: Operation, path: str, body: Any = None) -> Answer:
        """An operation, by a role."""
        url = f"{API}{path}"
        if isinstance(body, dict) and "?" in body:
            url, body = f"{url}?{urlencode(body['?'])}", None
        return self.running.ask(each.method, url, body, key=self.keys[who])

    def leaks(self, answer: Answer, *said: str) -> list[str]:
        """Words of the other organisation in an answer, but for what was said in the question."""
        text = answer.text
        for word in sorted(said, key=len, reverse=True):
            text = text.replace(word, "")
        return [word for word in self.words if word in text]


def rows(engine: Engine, organisation: str) -> dict[str, list[Any]]:
    """All that an organisation has, table by table."""
    found = {}
    with reading(engine) as connection:
        for table in metadata.sorted_tables:
            column = table.c.id if table is organisations else table.c.get("organisation")
            if column is not None:
                query = select(table).where(column == organisation).order_by(*table.primary_key.columns)
                found[table.name] = [row._asdict() for row in connection.execute(query)]
    return found


def _words(engine: Engine, organisation: str) -> set[str]:
    found = {organisation}
    for those in rows(engine, organisation).values():
        for row in those:
            found |= {value for value in row.values() if isinstance(value, str) and len(value) > 4}
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """Started once so that there are tables, filled while it is down, and started again."""
    data = tmp_path_factory.mktemp("two")
    with control(data) as running:
        running.process.terminate()
        running.process.wait(15)
        engine = open_engine(data / "beffroi.db")
        with engine.begin() as connection:
            fill(connection, (ACME, ZEBRA))
            row = {"organisation": ZEBRA, "id": ONLY, "name": "Same", "created_at": 1}
            connection.execute(insert(projects).values(row))
            row = {"organisation": ZEBRA, "name": ONLY, "version": 1, "effective_at": 1, "created_at": 1, "limits": {}}
            connection.execute(insert(tiers).values(row))
            connection.execute(delete(open_intents))  # a start would settle them, as their workers are dead
        running.start()
        with WorkerThread(data):
            yield Two(running, engine)
        engine.dispose()


def test_every_operation_is_exercised() -> None:
    """A new one is not merged before somebody has said how it could leak."""
    assert set(exercises.OPERATIONS) == set(DECLARED)
    for name, exercise in exercises.OPERATIONS.items():
        assert ("{" in name) == (exercise.kind is not None), f"{name}: whose ids?"


def at(each: Operation, identifier: str) -> str:
    """The path of an operation with an id in it; where it has a version as well, that is the first."""
    return re.sub(r"\{\w+\}", quote(identifier), each.path.replace("{version}", "1"))


def ids(two: Two, exercise: Exercise, organisation: str) -> str:
    """An id that stands in a path: of an organisation, of its project, or something that nobody else has."""
    assert exercise.kind is not None
    if exercise.kind is organisations:
        return organisation
    if exercise.kind in (projects, tiers):
        return ONLY if organisation == ZEBRA else "p"
    return str(rows(two.engine, organisation)[exercise.kind.name][-1][exercise.column])


@BY_ROLE
def test_what_a_role_asks_for_is_its_own_alone(two: Two, role: Role, project: str) -> None:
    """Each operation as it is meant to be used, and once more with everything in it that names the other's things."""
    may = allowed(role, narrowed=bool(project))
    for name, each in DECLARED.items():
        exercise = exercises.OPERATIONS[name]
        path = at(each, "nothing-there")
        bodies = [exercise.ask, *exercise.reaching] if each.method == "GET" or exercise.kind is None else [exercise.ask]
        for body in bodies:
            answer = two.ask((role, project), each, path, body)
            assert answer.status != 500, f"{name}: {answer.text}"
            said = json.dumps(body)
            assert two.leaks(answer, *[word for word in two.words if word in said]) == [], f"{name}: {answer.text}"
            if each.needs not in may:
                assert (answer.status, answer.json["code"]) == (403, "permission_denied"), f"{name}: {answer.text}"
            elif body in exercise.reaching and each.method != "GET":
                assert answer.status in (400, 403, 404) or not _changed(answer), f"{name}: {answer.text}"
    assert rows(two.engine, ZEBRA) == two.before


def _changed(answer: Answer) -> bool:
    """Whether an answer to a search says that it found something."""
    return any(value for value in answer.json.values() if isinstance(value, list))


@BY_ROLE
def test_what_belongs_to_another_is_as_if_it_did_not_exist(two: Two, role: Role, project: str) -> None:
    """An id of the other organisation gets the answer that an invented id gets, word for word."""
    for name, each in DECLARED.items():
        exercise = exercises.OPERATIONS[name]
        if exercise.kind is None or exercise.leaves:
            continue
        theirs = ids(two, exercise, ZEBRA)
        invented = "".join("x" if char.isalpha() else char for char in theirs)
        if theirs.startswith("req_"):
            invented = "req_" + "f" * (len(theirs) - 4)
        answers = []
        for identifier in (theirs, invented):
            path = at(each, identifier)
            answer = two.ask((role, project), each, path, exercise.ask)
            answers.append((answer.status, answer.text.replace(identifier, "…")))
        assert answers[0] == answers[1], name
        wanted = 404 if each.needs in allowed(role, narrowed=bool(project)) else 403
        assert answers[0][0] == wanted, f"{name}: {answers[0]}"
    assert rows(two.engine, ZEBRA) == two.before


@pytest.mark.parametrize(("role", "project"), [(Role.OWNER, ""), (Role.VIEWER, "p")], ids=["most", "least"])
def test_naming_another_organisation_is_refused_whether_there_is_one_or_not(two: Two, role: Role, project: str) -> None:
    """In the query of every operation."""
    for name, each in DECLARED.items():
        exercise = exercises.OPERATIONS[name]
        answers = []
        for organisation in (ZEBRA, "nowhere", "*"):
            path = at(each, "x") + f"?organisation={quote(organisation)}"
            answer = two.ask((role, project), each, path, exercise.ask)
            answers.append((answer.status, answer.text))
        assert answers[0] == answers[1] == answers[2], name
        assert answers[0][0] == 403, f"{name}: {answers[0]}"
    assert rows(two.engine, ZEBRA) == two.before


def test_every_verb_of_litellm_is_exercised() -> None:
    """They are operations as well, by other names."""
    assert set(exercises.LITELLM) == {f"{verb.method} {verb.path}" for verb in VERBS}


@pytest.mark.parametrize(
    ("role", "project"), [(Role.OWNER, ""), (Role.ADMIN, "p"), (Role.VIEWER, "")], ids=["owner", "lead", "viewer"]
)
def test_verbs_of_litellm_find_nothing_of_another(two: Two, role: Role, project: str) -> None:
    """A thing of the other organisation gets the answer that an invented one gets, and nothing is shown or changed."""
    may = allowed(role, narrowed=bool(project))
    for verb in VERBS:
        for given in exercises.LITELLM[f"{verb.method} {verb.path}"]:
            answers = []
            for theirs in (True, False):
                text = json.dumps(given)
                names = [word for word in (*exercises.Z.values(), ONLY) if word in text]
                for word in names:
                    text = text if theirs else text.replace(word, "".join("x" if c.isalpha() else c for c in word))
                asked = json.loads(text)
                path = verb.path.replace("{key}", asked["key"]) if "{key}" in verb.path else verb.path
                if verb.method == "GET":
                    answer = two.running.ask("GET", f"{path}?{urlencode(asked)}", key=two.keys[role, project])
                else:
                    answer = two.running.ask("POST", path, asked, key=two.keys[role, project])
                assert answer.status < 500, f"{verb.path} {asked}: {answer.text}"
                assert (answer.status == 403) >= (verb.needs not in may), f"{verb.path}: {answer.text}"
                assert two.leaks(answer, *names) == [], f"{verb.path} {asked}: {answer.text}"
                answers.append(answer.status)
            assert answers[0] == answers[1] or "budget_id" in given, f"{verb.path} {given}: {answers}"
    assert rows(two.engine, ZEBRA) == two.before


def test_the_test_would_see_a_leak(two: Two) -> None:
    """An operator who asks for the other organisation does see its words, in every list and every object."""
    seen = []
    for name, each in DECLARED.items():
        exercise = exercises.OPERATIONS[name]
        if each.method != "GET" or exercise.leaves:
            continue
        path = each.path if exercise.kind is None else at(each, ids(two, exercise, ZEBRA))
        answer = two.running.ask("GET", f"{API}{path}?organisation={ZEBRA}")
        assert answer.status == 200, f"{name}: {answer.text}"
        if two.leaks(answer):
            seen.append(name)
    blind = {f"GET {each.path}" for each in OPERATIONS if each.method == "GET" and each.needs is not None} - set(seen)
    assert blind == {"GET /status", "GET /engines", "GET /replicas", "GET /journal/verify", "GET /models", "GET /me"}


def test_an_owner_who_does_all_that_he_may_leaves_the_other_as_it_was(two: Two) -> None:
    """With ids of his own: everything that can be changed is, and the other organisation's rows are what they were."""
    who = (Role.OWNER, "")
    done = set()
    for name, each in sorted(DECLARED.items(), key=lambda item: item[1].method == "DELETE"):
        exercise = exercises.OPERATIONS[name]
        if exercise.leaves:
            continue
        path = each.path if exercise.kind is None else at(each, ids(two, exercise, ACME))
        answer = two.ask(who, each, path, exercise.ask)
        assert answer.status != 500 and two.leaks(answer) == [], f"{name}: {answer.text}"
        if answer.status < 300:
            done.add(name)
    assert {name for name in DECLARED if name.startswith("GET") and not exercises.OPERATIONS[name].leaves} <= done
    assert rows(two.engine, ZEBRA) == two.before


def test_every_verb_of_the_command_line_is_exercised() -> None:
    """A new one is not merged before somebody has said how it could leak, or why it cannot."""
    assert set(exercises.VERBS) == {name.removeprefix("beffroi ") for name, _ in commands()}


@pytest.mark.parametrize("verb", [verb for verb, how in exercises.VERBS.items() if not isinstance(how, str)])
def test_a_verb_in_one_organisation_shows_and_changes_nothing_of_another(two: Two, verb: str) -> None:
    """Even for the operator on this machine: a verb acts in the organisation that it names, and in no other."""
    named = {"{request}": "exchanges.request_id", "{rotation}": "rotations.id"}
    for arguments in exercises.VERBS[verb]:
        words = list(arguments)
        for place, source in named.items():
            table, _, column = source.partition(".")
            words = [str(two.before[table][-1][column]) if word == place else word for word in words]
        done = CliRunner().invoke(main, [*verb.split(), *words, "--data", str(two.running.data)])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        said = [word for word in two.words if any(word in argument for argument in words)]
        text = done.output
        for word in sorted(said, key=len, reverse=True):
            text = text.replace(word, "")
        assert [word for word in two.words if word in text] == [], f"{verb} {words}: {done.output}"
        if said:
            assert done.exit_code != 0 or not said_to_be_there(done.output, said), f"{verb} {words}: {done.output}"
        assert done.exit_code != 2, f"{verb} {words} is not how it is used: {done.output}"
    assert rows(two.engine, ZEBRA) == two.before


def said_to_be_there(output: str, said: list[str]) -> bool:
    """Whether a search that succeeded shows what was looked for."""
    return any(word in output for word in said)


def test_what_one_tenant_was_answered_is_never_another_s_answer(two: Two) -> None:
    """The same Idempotency-Key from two organisations makes two things; a cursor of one's list opens no other's."""
    theirs = two.running.ask("POST", f"{API}/admin-keys?organisation={ZEBRA}", {"name": "o", "role": "owner"}).json[
        "key"
    ]
    mine = two.keys[Role.OWNER, ""]
    made = [
        two.running.ask("POST", f"{API}/systems", SYSTEM, key=key, headers={"idempotency-key": "the-same"}).json
        for key in (theirs, mine, mine)
    ]
    assert [each["organisation"] for each in made] == [ZEBRA, ACME, ACME]
    assert made[1]["id"] == made[2]["id"] != made[0]["id"]
    cursor = two.running.ask("GET", f"{API}/members?limit=1", key=theirs).json["next"]
    answer = two.running.ask("GET", f"{API}/members?cursor={cursor}", key=mine)
    assert (answer.status, answer.json["param"]) == (400, "cursor")
    two.before = rows(two.engine, ZEBRA)


def test_nothing_opens_the_database_without_a_scope_but_what_says_why() -> None:
    """A page that reached for the engine would stand outside of both walls."""
    folder = Path(process.__file__).parent
    opens = re.compile(r"\breading\(|ngine\.(?:begin|connect)\(")
    found = {str(file.relative_to(folder)) for file in folder.rglob("*.py") if opens.search(file.read_text("utf-8"))}
    assert found == set(exercises.WITHOUT_SCOPE)


def test_every_job_is_known() -> None:
    """Each task that control begins; a new one is not merged before somebody has said whose rows it touches."""
    tree = ast.parse(inspect.getsource(process))
    begun = {
        word.value.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "asyncio.create_task"
        for word in call.keywords
        if word.arg == "name" and isinstance(word.value, ast.Constant)
    }
    for loop in ast.walk(tree):  # `for name, work in (("shipping", …), …)`
        if isinstance(loop, ast.For) and ast.unparse(loop.target) == "(name, work)":
            begun |= set(re.findall(r"\('([\w ]+)', ", ast.unparse(loop.iter)))
    assert begun == set(exercises.JOBS)
    for name, how in exercises.JOBS.items():
        for test in re.findall(r"test_\w+", how):
            assert test in globals() or list(CONTROL.rglob(f"{test}.py")), f"{name}: where is {test}?"


def test_jobs_tell_and_change_one_organisation_at_a_time(two: Two) -> None:
    """A rotation that goes on by itself and webhooks that are told: of the one organisation, and not of the other."""
    webhook = {"url": "https://hooks.invalid/", "events": ["key:*"]}
    for organisation in (ACME, ZEBRA):
        answer = two.running.ask("POST", f"{API}/webhooks?organisation={organisation}", webhook)
        assert answer.status == 201, answer.text
    before = rows(two.engine, ZEBRA)
    ask = {"name": "turned", "project": "p", "rotation": {"every_days": 30}}
    made = two.running.ask("POST", f"{API}/keys?organisation={ACME}", ask).json
    begun = two.running.ask("POST", f"{API}/rotations?organisation={ACME}", {"key": made["id"]})
    assert begun.status == 201, begun.text
    wait_for(lambda: _successor(two, made["id"]) is not None, 15, "the rotation makes a successor by itself")
    assert _successor(two, made["id"]).organisation == ACME
    assert rows(two.engine, ZEBRA) == before
    two.before = before
    told = [row["payload"]["organisation"] for row in rows(two.engine, ACME)["outbox"] if row["payload"]]
    assert told and set(told) == {ACME}


def _successor(two: Two, key: str) -> Any:
    with reading(two.engine) as connection:
        return connection.execute(select(keys).where(keys.c.rotated_from == key)).one_or_none()
