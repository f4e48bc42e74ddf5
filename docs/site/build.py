# SPDX-License-Identifier: Apache-2.0
"""Builds the pages into a site of two trees, English and French, that works without a network.

In: the Markdown of the repository. Out: `python -m docs.site.build [FOLDER]` leaves `en/`, `fr/`, `files/` and `index.html`
there; every warning is an error.

A page in French is `page.fr.md` beside `page.md`. Each tree is a Sphinx build of copies of its pages, in which links are
turned to where their target will be: a page of the same tree, one of the other, or a file of the repository.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HERE = Path(__file__).resolve().parent
LANGUAGES = ("en", "fr")
PAPERS = {
    "README.md": "project/overview",
    "README.fr.md": "project/overview",
    "CHANGELOG.md": "project/changelog",
    "CONTRIBUTING.md": "project/contributing",
    "SECURITY.md": "project/security",
    "benchmarks/README.md": "project/benchmarks",
    "benchmarks/RESULTS.md": "project/results",
    "recipes/tiny-model/README.md": "project/tiny-model",
}
"""Pages that lie elsewhere in the repository, and where they stand in the site."""
SECTIONS = {
    "tutorial": {"en": "Learn", "fr": "Apprendre"},
    "how-to": {"en": "Do", "fr": "Faire"},
    "reference": {"en": "Look up", "fr": "Consulter"},
    "explanation": {"en": "Understand", "fr": "Comprendre"},
    "adr": {"en": "Decisions", "fr": "Décisions"},
    "project": {"en": "The project", "fr": "Le projet"},
}
LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\[\]]*\])*\])\(([^)\s]+)\)")
FENCE = re.compile(r"^(`{3,}|~{3,})")
SAME = re.compile(r"(?<=\*)((?:En|Lire en) français\s:|(?:In|Read in) English:)\s\[[^\]]*\]")
"""A file's name as the text of the link to the other language is for those who read the file; a site says it in words."""
FRONT = """<!doctype html><meta charset="utf-8"><title>Beffroi</title>
<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="0; url=en/index.html">
<p><a href="en/index.html" lang="en">Beffroi in English</a> · <a href="fr/index.html" lang="fr">Beffroi en français</a></p>
"""


def pages() -> dict[Path, tuple[str, str]]:
    """Source file → (language, name in its tree)."""
    found: dict[Path, tuple[str, str]] = {}
    for path in sorted(DOCS.rglob("*.md")):
        name = path.relative_to(DOCS).as_posix().removesuffix(".md")
        language = "fr" if name.endswith(".fr") else "en"
        name = name.removesuffix(".fr")
        found[path] = (language, "index" if name == "README" else name)
    for paper, name in PAPERS.items():
        if (ROOT / paper).exists():
            found[ROOT / paper] = ("fr" if paper.endswith(".fr.md") else "en", name)
    return found


def prose(text: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is outside of fenced blocks."""
    fence = ""
    for line in text.splitlines(keepends=True):
        mark = FENCE.match(line.lstrip())
        if fence:
            yield line, False
            if mark and mark[1].startswith(fence):
                fence = ""
        elif mark:
            fence = mark[1]
            yield line, False
        else:
            yield line, True


class Tree:
    """Where everything goes."""

    def __init__(self) -> None:
        self.pages = pages()
        self.files: set[Path] = set()

    def turned(self, page: Path, text: str) -> str:
        """The page's text with its links turned."""

        def link(found: re.Match[str]) -> str:
            return self._link(page, found[1], found[2])

        parts = (
            (outside, "".join(line for line, _ in lines)) for outside, lines in groupby(prose(text), itemgetter(1))
        )
        return "".join(LINK.sub(link, part) if outside else part for outside, part in parts)

    def _link(self, page: Path, label: str, target: str) -> str:
        if "://" in target or target.startswith(("#", "mailto:")):
            return f"{label}({target})"
        path, _, anchor = target.partition("#")
        goal = Path(os.path.normpath(page.parent / path))
        language, name = self.pages[page]
        up = "../" * name.count("/")
        end = f"#{anchor}" if anchor else ""
        if goal in self.pages:
            other, goal_name = self.pages[goal]
            if other == language:
                return f"{label}({up}{goal_name}.md{end})"
            return f"{label}({'site-at' if end else 'site'}:{up}../{other}/{goal_name}.html{end})"
        if not goal.is_relative_to(ROOT) or not goal.exists():
            return f"{label}({target})"  # Sphinx says that it leads nowhere
        if goal.is_dir():
            return f"`{goal.relative_to(ROOT)}`"
        place = goal.relative_to(ROOT).as_posix()
        self.files.add(goal)
        if label.startswith("!"):
            return f"{label}({up}files/{place})"
        return f"{label}(site:{up}../files/{self.served(goal)})"

    @staticmethod
    def served(file: Path) -> str:
        """The name of a file of the repository in the site: one that a browser shows."""
        place = file.relative_to(ROOT).as_posix()
        return place if file.suffix in {".svg", ".png", ".json"} else f"{place}.txt"

    def contents(self, language: str) -> str:
        """The navigation: every page of a tree, section by section."""
        names = sorted(name for mine, name in self.pages.values() if mine == language)
        parts = []
        for section, title in SECTIONS.items():
            listed = [name for name in names if name.startswith(f"{section}/")]
            if listed:
                parts.append(
                    "\n".join(["", "```{toctree}", ":hidden:", f":caption: {title[language]}", *listed, "```"])
                )
        return "\n".join(parts) + "\n"


def _same(found: re.Match[str]) -> str:
    """The link to the other language, in words."""
    return f"{found[1]} [{'cette page' if 'français' in found[1] else 'this page'}]"


def stage(tree: Tree, language: str, folder: Path) -> None:
    """Copies of one language's pages, ready for Sphinx."""
    for path, (mine, name) in tree.pages.items():
        if mine == language:
            text = SAME.sub(_same, path.read_text("utf-8"), count=1)
            text = tree.turned(path, text)
            place = folder / f"{name}.md"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text + (tree.contents(language) if name == "index" else ""), "utf-8")
    for file in tree.files:
        place = folder / "files" / file.relative_to(ROOT)
        if file.suffix in {".svg", ".png"}:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    names = {one: sorted(name for mine, name in tree.pages.values() if mine == one) for one in LANGUAGES}
    (folder / "languages.json").write_text(json.dumps(names))


def sphinx(language: str, source: Path, out: Path) -> str:
    """Build one tree; → what went wrong."""
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-n", "-q", "-E", "-T",
         "-c", str(HERE), "-d", str(source.parent / f"doctrees-{language}"), str(source), str(out)],
        env=os.environ | {"BEFFROI_DOCS_LANGUAGE": language},
        check=False,
        capture_output=True,
        text=True,
    )  # fmt: skip
    return (
        "" if done.returncode == 0 else f"{language}: sphinx ended with {done.returncode}\n{done.stdout}{done.stderr}"
    )


def build(out: Path) -> list[str]:
    """The whole site below `out`, made anew; → faults, each in words."""
    shutil.rmtree(out, ignore_errors=True)
    work = out / "work"
    tree = Tree()
    for language in LANGUAGES:
        stage(tree, language, work / language)
    with ThreadPoolExecutor() as pool:
        faults = [fault for fault in pool.map(lambda one: sphinx(one, work / one, out / one), LANGUAGES) if fault]
    for file in tree.files:
        place = out / "files" / tree.served(file)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    (out / "index.html").write_text(FRONT, "utf-8")
    shutil.rmtree(work)
    return faults


def main() -> int:
    """The command."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/site").absolute()
    faults = build(out)
    print("\n".join(faults) or f"The site is in {out}: open {out / 'index.html'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
