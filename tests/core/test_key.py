# SPDX-License-Identifier: Apache-2.0
"""A key has one form, a checksum that catches slips, and a public part that is safe to log."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beffroi.core import key as keys
from beffroi.core.key import ALPHABET, LENGTH, key_hash, new_key, public_id

PEPPER = b"p" * 32


def test_a_new_key_is_well_formed_and_never_the_same() -> None:
    """bf-<12>-<32><6>."""
    made = {new_key().text for _ in range(200)}
    assert len(made) == 200
    for text in made:
        assert len(text) == LENGTH == 54
        assert text.startswith("bf-") and text[15] == "-"
        assert set(text[3:15] + text[16:]) <= set(ALPHABET)


def test_the_public_part_comes_back_from_the_whole_key() -> None:
    """And only from a sound one."""
    made = new_key()
    assert public_id(made.text) == made.public == made.text[3:15]


def test_any_one_character_changed_is_noticed() -> None:
    """All positions, against a slip of the hand; CRC-32 finds every single change."""
    made, draw = new_key().text, random.Random(7)
    for position, right in enumerate(made):
        wrong = draw.choice([each for each in ALPHABET + "-_" if each != right])
        assert public_id(made[:position] + wrong + made[position + 1 :]) is None, position


def test_two_neighbours_swapped_are_noticed() -> None:
    """The other slip people make."""
    made = new_key().text
    for position in range(len(made) - 1):
        swapped = made[:position] + made[position + 1] + made[position] + made[position + 2 :]
        assert swapped == made or public_id(swapped) is None


@given(st.text(max_size=80) | st.text(min_size=LENGTH, max_size=LENGTH))
def test_no_text_makes_the_check_fail(text: str) -> None:
    """Any text from outside gets an answer, not an exception."""
    assert public_id(text) is None or set(text) <= set(ALPHABET + "-")


@pytest.mark.parametrize("public", ["\n" * 12, "a b c d e f ", "../../../etc", "é" * 12, "-" * 12])
def test_a_right_checksum_does_not_carry_odd_characters_into_the_logs(public: str) -> None:
    """Anyone can compute a CRC; the public part is written to logs before the key is known to be good."""
    head = f"bf-{public}-{'s' * 32}"
    text = head + keys._checksum(head)
    assert public_id(text) is None


def test_the_hash_depends_on_the_key_and_on_the_pepper() -> None:
    """32 bytes, stable."""
    assert key_hash("a", PEPPER) == key_hash("a", PEPPER)
    assert len(key_hash("a", PEPPER)) == 32
    assert len({key_hash("a", PEPPER), key_hash("b", PEPPER), key_hash("a", b"q" * 32)}) == 3
