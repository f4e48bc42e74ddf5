# SPDX-License-Identifier: Apache-2.0
"""The papers around the code: they name what is there, and nothing that is not."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import msgspec
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from beffroi import __version__
from beffroi.core.errors import BeffroiError, EngineRejected, LimitExceeded, MethodNotAllowed
from beffroi.wire import envelope
from tests.harness import ROOT
from tests.house.pages import error_classes
from tests.house.test_source import name, tracked

OLDER = {"async-timeout"}  # in the lock for an older patch release of Python alone, as Debian 12 has
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def packages(lock: str) -> dict[str, str]:
    """Package → version, of a lock file."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / lock).read_text("utf-8"), re.MULTILINE))


def name_of(requirement: str) -> str:
    """The package that a requirement is about."""
    return str(canonicalize_name(Requirement(requirement).name))


def rows(heading: str) -> list[list[str]]:
    """The table below a heading of dependencies.md."""
    page = (ROOT / "docs/reference/dependencies.md").read_text("utf-8")
    part = re.split(r"^## ", page, flags=re.MULTILINE)
    (text,) = [one for one in part if one.startswith(heading)]
    return [
        [cell.strip(" `") for cell in line.strip("| ").split(" | ")] for line in text.split("\n") if line[:3] == "| `"
    ]


def pulled_in(package: str) -> set[str]:
    """What a package installs on this machine beside itself, as its own metadata say."""
    found, todo = set[str](), [package]
    while todo:
        for text in metadata.requires(todo.pop()) or []:
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
            if name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                found.add(name)
                todo.append(name)
    return found


def licence(package: str) -> set[str]:
    """What an installed package says of its licence, in SPDX words."""
    told = metadata.metadata(package)
    if expression := told.get("License-Expression"):
        return set(expression.split())
    words = {"MIT License": "MIT", "Apache Software License": "Apache-2.0", "BSD License": "BSD-3-Clause"}
    words["Mozilla Public License 2.0 (MPL 2.0)"] = "MPL-2.0"
    known = {
        words.get(line.split(" :: ")[-1], "?") for line in told.get_all("Classifier") or [] if line[:7] == "License"
    }
    return known or set((told.get("License") or "").split("\n")[0].split())


def test_every_runtime_dependency_has_its_reason_and_licence() -> None:
    """What is declared and what the lock adds to it: each has a row in dependencies.md, and no row is left over."""
    named, brought = rows("What Beffroi names"), rows("What comes with them")
    assert sorted(row[0] for row in named + brought) == sorted(packages("requirements.lock"))
    declared = {name_of(one) for one in PROJECT["dependencies"]} | {"setuptools", "xllamacpp", "pg8000", "redis"}
    assert {row[0] for row in named} == declared
    assert all(cell for row in named + brought for cell in row)
    for package, by, _ in brought:
        if package not in OLDER:
            assert all(package in pulled_in(one) for one in by.split(", ")), f"{package} does not come with {by}"


def test_every_extra_has_its_row_and_what_it_brings() -> None:
    """One row for each package of each extra; below it what comes with those that the lock does not have."""
    table = rows("Extras")
    extras, brought = [row for row in table if len(row) == 4], [row for row in table if len(row) == 3]
    declared = {(extra, name_of(one)) for extra, those in PROJECT["optional-dependencies"].items() for one in those}
    assert {(row[0], row[1]) for row in extras} == declared
    locked = packages("requirements.lock").keys()
    added = set().union(*(pulled_in(package) for _, package in declared)) - locked
    assert {row[0] for row in brought} == added


def test_licences_are_what_the_packages_say() -> None:
    """In SPDX words; with several, all that are named."""
    told = {row[-3]: row[-1] for head in ("What Beffroi names", "What comes with them", "Extras") for row in rows(head)}
    wrong = {
        package: licence(package)
        for package, text in told.items()
        if package not in OLDER and licence(package) - {"OR", "AND"} != set(text.split()) - {"OR", "AND"}
    }
    assert wrong == {}


def test_both_lock_files_agree_and_every_package_has_hashes() -> None:
    """What is tested is what is served."""
    runtime, development = packages("requirements.lock"), packages("requirements-dev.lock")
    assert runtime.items() <= development.items()
    for lock in ("requirements.lock", "requirements-dev.lock"):
        for block in re.split(r"\n(?=[a-z0-9])", (ROOT / lock).read_text("utf-8").strip()):
            assert "--hash=sha256:" in block, block[:80]


def test_what_the_package_declares_is_locked() -> None:
    """Each direct dependency, and the extra."""
    extras = PROJECT["optional-dependencies"]
    declared = PROJECT["dependencies"] + extras["embedded"] + extras["fleet"]
    assert {name_of(one) for one in declared} <= packages("requirements.lock").keys()
    builds = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    assert builds == [f"setuptools=={packages('requirements.lock')['setuptools']}"]  # or two builds would differ


def test_the_changelog_begins_with_this_version() -> None:
    """Keep a Changelog: newest first, each with its date or Unreleased."""
    headings = re.findall(
        r"^## \[([^\]]+)\](?: - \d{4}-\d{2}-\d{2})?$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert __version__ in headings[:2]
    text = (ROOT / "CHANGELOG.md").read_text("utf-8").split(f"## [{__version__}]")[1]
    assert re.search(r"^- \S", text, re.MULTILINE), "an entry without a line"


@pytest.mark.parametrize("page", ["docs/reference/glossary.md", "docs/reference/glossary.fr.md"])
def test_the_glossary_has_every_word_of_the_house(page: str) -> None:
    """The French one carries the English words, since the code does."""
    text = (ROOT / page).read_text("utf-8").lower()
    words = (
        "principal project organisation key tier quota limit budget reservation guard verdict deployment engine model "
        "fallback usage price ledger journal segment intent settlement exchange snapshot worker control supervisor pepper"
    ).split()
    assert [word for word in words if f"**{word}**" not in text] == []


def test_every_link_of_every_page_leads_somewhere() -> None:
    """Links within the repository; others are not followed."""
    for path in tracked():
        if path.suffix == ".md":
            for target in LINK.findall(path.read_text("utf-8")):
                if "://" not in target and not target.startswith("mailto:"):
                    assert (path.parent / target).exists(), f"{name(path)} links to {target}"


def test_every_page_is_reached_from_the_index() -> None:
    """A page that nothing leads to is not read."""
    docs = ROOT / "docs"
    seen: set[Path] = set()
    todo = [docs / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        todo += [
            (page.parent / target).resolve() for target in LINK.findall(page.read_text("utf-8")) if "://" not in target
        ]
    written = {path for path in tracked() if path.suffix == ".md" and path.is_relative_to(docs)}
    assert {name(path) for path in written - seen} == set()


def test_every_page_for_users_that_is_in_french_is_there_in_english_too() -> None:
    """`page.fr.md` beside `page.md`, each linking to the other."""
    for path in tracked():
        if path.name.endswith(".fr.md"):
            english = path.with_name(path.name.replace(".fr.md", ".md"))
            assert path.name in english.read_text("utf-8"), f"{name(english)} does not link to {path.name}"
            assert english.name in path.read_text("utf-8"), f"{name(path)} does not link to {english.name}"


@pytest.mark.parametrize("kind", list(error_classes()), ids=lambda kind: kind.__name__)
def test_every_error_is_rendered_for_the_openai_family(kind: type[BeffroiError]) -> None:
    """A body with `error` and `detail`, a status of its own; a text that must stay inside does."""
    said = "what happened inside"
    if issubclass(kind, MethodNotAllowed):
        error: BeffroiError = kind(said, allow="POST")
    elif issubclass(kind, LimitExceeded):
        error = kind(said, limit="requests_per_minute", retry_after=1.5)
    else:
        error = kind(said)
    body = msgspec.json.decode(envelope.openai_body(error))
    assert set(body) == {"error", "detail"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["detail"] == body["error"]["message"]
    assert (body["detail"] == said) == kind.exposable
    assert 400 <= envelope.status_of(error) <= 599
    lines = envelope.header_lines(error)
    assert (b"retry-after: " in lines) == (error.retry_after is not None or kind.retryable)
    event = envelope.openai_event(error, "req_1", "chatcmpl-1", 0, "m")
    assert event.startswith(b"data: ")
    assert b'"finish_reason":"error"' in event
    assert (said.encode() in event) == kind.exposable


def test_an_engine_s_own_status_is_kept() -> None:
    """422 stays 422."""
    assert envelope.status_of(EngineRejected("no", status=422)) == 422
