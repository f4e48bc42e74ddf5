# SPDX-License-Identifier: Apache-2.0
"""The words of every page are in Debian's dictionaries (hunspell), or in our own list beside this file.

`python -m tests.docs.test_spelling` prints what is in neither, one word a line with its pages.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs.site.build import prose

from tests.harness import program, skip
from tests.house.test_source import name, tracked

DICTIONARIES = {"en": "en_GB,en_US", "fr": "fr"}
LISTS = {language: Path(__file__).with_name(f"words.{language}.txt") for language in DICTIONARIES}
_NOT_PROSE = re.compile(
    r"`+[^`]+`+|<!--.*?-->|\]\([^)]*\)|https?://\S+|\b[\w.+-]+@[\w.-]+|^    .*$", re.MULTILINE | re.DOTALL
)
_IN_OTHER = re.compile(  # what stands on a page in the other language, or is made of figures
    r"\*(?:In English|En français|Lire en français|Read in English)\s?:.*?\*|\[en français\]|^- .*\(en anglais\)$|^\| \*\*[\w ]+\*\*"
    r"|<!-- figures.*?end of figures -->",
    re.MULTILINE | re.DOTALL,
)
_CODE = re.compile(r"\S*[\d_/=<>{}@\\]\S*|\b[A-Z]+[a-z]+[A-Z]\w*|\S*\w\.\w\S*")


def words(page: Path) -> str:
    """What a page says in words: no code, no addresses, no names with digits or signs in them."""
    text = "".join(line for line, outside in prose(page.read_text("utf-8")) if outside)
    text = _NOT_PROSE.sub(" ", _IN_OTHER.sub(" ", text))
    return _CODE.sub(" ", text.replace("’", "'").replace("*", " "))


def language_of(page: Path) -> str:
    """A page in French says so in its name."""
    return "fr" if page.name.endswith(".fr.md") else "en"


def unknown(text: str, language: str) -> list[str]:
    """Words of a text that stand nowhere."""
    known = set(LISTS[language].read_text("utf-8").split())
    done = subprocess.run(
        [program("hunspell"), "-l", "-i", "utf-8", "-d", DICTIONARIES[language]],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        skip(f"hunspell's dictionary {DICTIONARIES[language]} (hunspell-en-gb, hunspell-en-us, hunspell-fr)")
    return sorted({bare for word in done.stdout.split() if (bare := word.strip("'-.")) and bare not in known})


def pages() -> Iterator[Path]:
    """Every page of the repository."""
    yield from (page for page in tracked() if page.suffix == ".md")


@pytest.mark.parametrize("language", DICTIONARIES)
def test_every_word_is_spelt_right(language: str) -> None:
    """One that is right and in no dictionary goes into words.en.txt or words.fr.txt."""
    told = {name(page): words(page) for page in pages() if language_of(page) == language}
    wrong = unknown("\n".join(told.values()), language)
    places = {
        word: [page for page, text in told.items() if re.search(rf"\b{re.escape(word)}\b", text)] for word in wrong
    }
    assert places == {}


@pytest.mark.parametrize(("language", "text"), [("en", "the gatewey is here"), ("fr", "la passerele est là")])
def test_a_wrong_word_is_noticed(language: str, text: str) -> None:
    """In either language; and what is code is not looked at."""
    assert unknown(text, language) == [word for word in text.split() if word in {"gatewey", "passerele"}]
    assert _NOT_PROSE.sub(" ", "a `gatewey` b").split() == ["a", "b"]


@pytest.mark.parametrize("language", DICTIONARIES)
def test_the_list_is_in_order_and_has_no_word_twice(language: str) -> None:
    """So that two people who add words do not meet."""
    listed = LISTS[language].read_text("utf-8").split()
    assert listed == sorted(set(listed), key=lambda word: (word.lower(), word))


if __name__ == "__main__":
    for one in DICTIONARIES:
        for page in pages():
            if language_of(page) == one and (found := unknown(words(page), one)):
                print(f"{name(page)}: {' '.join(found)}")
