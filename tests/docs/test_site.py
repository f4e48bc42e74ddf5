# SPDX-License-Identifier: Apache-2.0
"""The site: built without a warning, whole without a network, each page reached and linked to its other language."""

import re
import tempfile
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from docs.site import build

from tests.harness import ROOT

LOADS = {
    "script": "src",
    "img": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "use": "href",
    "object": "data",
}


class Page(HTMLParser):
    """What a built page loads, where it links to, and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.language = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "html":
            self.language = told.get("lang") or ""
        if told.get("id"):
            self.anchors.add(told["id"] or "")
        if tag in LOADS and told.get(LOADS[tag]):
            self.loads.append(told[LOADS[tag]] or "")
        if tag == "a" and told.get("href"):
            self.links.append(told["href"] or "")


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    """Built once; every warning of Sphinx is a fault."""
    with tempfile.TemporaryDirectory(prefix="bf-") as folder:
        out = Path(folder) / "site"
        assert build.build(out) == []
        yield out


@cache
def read(path: Path) -> Page:
    """A page, parsed once."""
    return Page(path)


def built(site: Path) -> list[Path]:
    """Every HTML file of the site."""
    return sorted(site.rglob("*.html"))


def test_every_page_of_the_repository_is_in_the_site(site: Path) -> None:
    """In its language, and says which that is."""
    for language, place in build.pages().values():
        assert read(site / language / f"{place}.html").language == language


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    """No font, script, style or picture: the site is whole on a machine without a network."""
    foreign = re.compile(r"^(?:[a-z]+:)?//", re.IGNORECASE)
    for page in built(site):
        assert [load for load in read(page).loads if foreign.match(load)] == [], page
    for style in [*site.rglob("*.css"), *site.rglob("*.js")]:
        text = style.read_text("utf-8")
        assert re.findall(r"(?:url\(|@import\s+)['\"]?(?:https?:)?//[^)\s]+", text) == [], style
        assert re.findall(r"(?:fetch|import|importScripts)\(['\"]https?://[^'\"]+", text) == [], style


def test_every_link_within_the_site_leads_somewhere(site: Path) -> None:
    """Pages, files and places in a page, across both languages."""
    for page in built(site):
        for link in read(page).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            goal = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert goal.is_file(), f"{page.relative_to(site)} links to {link}"
            if parts.fragment and goal.suffix == ".html":
                assert unquote(parts.fragment) in read(goal).anchors, f"{page.relative_to(site)} links to {link}"


def test_links_to_other_hosts_are_those_that_the_pages_write(site: Path) -> None:
    """The theme adds none of its own."""
    written = "".join(path.read_text("utf-8") for path in build.pages())
    for page in built(site):
        for link in read(page).links:
            if urlsplit(link).scheme in {"http", "https"}:
                assert link.rstrip("/") in written, f"{page.relative_to(site)} links to {link}"


def test_every_page_is_reached_from_the_first_one(site: Path) -> None:
    """Following links, in either language."""
    seen: set[Path] = set()
    todo = [site / "index.html"]
    while todo:
        page = todo.pop()
        if page not in seen and page.suffix == ".html":
            seen.add(page)
            links = [urlsplit(link) for link in read(page).links]
            todo += [(page.parent / unquote(p.path)).resolve() for p in links if p.path and not p.scheme]
    unreached = {page.relative_to(site).as_posix() for page in built(site)} - {
        page.relative_to(site).as_posix() for page in seen
    }
    assert unreached <= {f"{one}/{page}.html" for one in build.LANGUAGES for page in ("search", "genindex")}


def test_a_page_leads_to_itself_in_the_other_language(site: Path) -> None:
    """From both sides; one that is not translated leads to the other tree's first page."""
    names = {one: {name for mine, name in build.pages().values() if mine == one} for one in build.LANGUAGES}
    assert len(names["fr"]) >= 8
    for one, other in (("en", "fr"), ("fr", "en")):
        for name in names[one]:
            goal = f"{'../' * (name.count('/') + 1)}{other}/{name if name in names[other] else 'index'}.html"
            assert goal in read(site / one / f"{name}.html").links, f"{one}/{name}"


def test_a_link_that_leads_nowhere_is_a_fault(tmp_path: Path) -> None:
    """Sphinx says so, for a page and for a place in one."""
    tree = build.Tree()
    build.stage(tree, "fr", tmp_path / "fr")
    with (tmp_path / "fr" / "index.md").open("a", encoding="utf-8") as page:
        page.write("\n[nowhere](reference/nowhere.md) [no heading](reference/glossary.md#nowhere)\n")
    fault = build.sphinx("fr", tmp_path / "fr", tmp_path / "out")
    assert fault.count("[myst.xref_missing]") == 2, fault


def test_links_are_turned_to_where_their_target_will_be() -> None:
    """A page of the tree, of the other one, a file of the repository, a folder; code is left alone."""
    tree = build.Tree()
    page = ROOT / "docs/tutorial/getting-started.fr.md"
    told = {
        "[a](../reference/glossary.fr.md#x)": "[a](../reference/glossary.md#x)",
        "[a](getting-started.md)": "[a](site:../../en/tutorial/getting-started.html)",
        "[a](getting-started.md#x)": "[a](site-at:../../en/tutorial/getting-started.html#x)",
        "[a](../../SECURITY.md)": "[a](site:../../en/project/security.html)",
        "[a](../../Makefile)": "[a](site:../../files/Makefile.txt)",
        "[a](../../src)": "`src`",
        "[a](https://example.org/)": "[a](https://example.org/)",
        "[two\nlines](getting-started.fr.md)": "[two\nlines](../tutorial/getting-started.md)",
        "```\n[a](../../src)\n```": "```\n[a](../../src)\n```",
    }
    assert {text: tree.turned(page, text) for text in told} == told
