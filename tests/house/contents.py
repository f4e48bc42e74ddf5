# SPDX-License-Identifier: Apache-2.0
"""The first page of the documentation, in both languages: every page, by its own title.

In: the Markdown files below docs/. Out: the text of docs/README.md and docs/README.fr.md.
"""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
SECTIONS = {
    "tutorial": (
        "Learn",
        "Ten minutes from nothing to a revoked key and its bill.",
        "Apprendre",
        "Dix minutes, de rien à une clé révoquée et sa facture.",
    ),
    "how-to": (
        "Do",
        "One task each, with commands that were run.",
        "Faire",
        "Une tâche par page, avec des commandes essayées.",
    ),
    "reference": (
        "Look up",
        "What the code does, mostly written from it and held to it by tests.",
        "Consulter",
        "Ce que fait le programme.",
    ),
    "explanation": ("Understand", "Why it holds.", "Comprendre", "Pourquoi cela tient."),
    "adr": (
        "Why it is built so",
        "Decisions, each with its context and what it learned.",
        "Pourquoi ainsi",
        "Les décisions et leurs raisons.",
    ),
}
FIRST = {"how-to": ("install", "configure", "check-a-machine"), "adr": ()}
"""What opens a section; the rest follows by name."""
SAYS = {
    "en": "Beffroi is a gateway for an organisation's language models: the OpenAI API in front, engines of your own behind, and at any\n"
    "time the exact answer to who used what and what it cost. New here? [Getting started](tutorial/getting-started.md) takes ten minutes.",
    "fr": "Beffroi est une passerelle pour les modèles de langue d'une organisation : l'API d'OpenAI devant, vos propres moteurs derrière, et à\n"
    "tout moment la réponse exacte à qui a consommé quoi et à quel coût. Pour commencer : [premiers pas](tutorial/getting-started.fr.md), dix minutes.",
}
WRITTEN = {
    "en": "_Written from the pages' titles by `python -m tests.house.pages`._",
    "fr": "_Page écrite d'après les titres des pages par `python -m tests.house.pages`._",
}


def title(page: Path) -> str:
    """A page's first heading."""
    found = re.search(r"^# (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return found[1] if found else page.stem


def _pages(section: str) -> list[Path]:
    """The English pages of a section, in order."""
    first = FIRST.get(section, ())
    found = [page for page in (DOCS / section).glob("*.md") if not page.name.endswith(".fr.md")]
    return sorted(found, key=lambda page: (first.index(page.stem) if page.stem in first else len(first), page.stem))


def english() -> str:
    """docs/README.md."""
    lines = ["# Beffroi's pages", "", "*En français : [README.fr.md](README.fr.md).*", "", SAYS["en"]]
    for section, (head, says, _, _) in SECTIONS.items():
        if not _pages(section):
            continue
        lines += ["", f"## {head}", "", says, ""]
        for page in _pages(section):
            french = page.with_name(f"{page.stem}.fr.md")
            also = f" ([en français]({section}/{french.name}))" if french.exists() else ""
            lines.append(f"- [{title(page)}]({section}/{page.name}){also}")
    return "\n".join([*lines, "", WRITTEN["en"], ""])


def french() -> str:
    """docs/README.fr.md: pages in French by their French title, the others by their English one."""
    lines = ["# Les pages de Beffroi", "", "*In English: [README.md](README.md).*", "", SAYS["fr"]]
    for section, (_, _, head, says) in SECTIONS.items():
        if not _pages(section):
            continue
        lines += ["", f"## {head}", "", says, ""]
        for page in _pages(section):
            own = page.with_name(f"{page.stem}.fr.md")
            shown, note = (own, "") if own.exists() else (page, " (en anglais)")
            lines.append(f"- [{title(shown)}]({section}/{shown.name}){note}")
    return "\n".join([*lines, "", WRITTEN["fr"], ""])
