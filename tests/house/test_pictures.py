# SPDX-License-Identifier: Apache-2.0
"""The pictures and the paragraph of how-fast-and-why are those of the newest figures: `python -m benchmarks.pictures`."""

import xml.etree.ElementTree as ET

import pytest

from benchmarks import pictures

AGAIN = "the figures are newer: run `python -m benchmarks.pictures`"


@pytest.mark.parametrize("name", pictures.pictures(pictures.load()))
def test_a_picture_shows_the_newest_figures(name: str) -> None:
    """Whoever measured again draws again."""
    assert (pictures.PICTURES / name).read_text("utf-8") == pictures.pictures(pictures.load())[name], AGAIN


def test_no_picture_is_left_over() -> None:
    """Each file is one that is drawn."""
    assert {path.name for path in pictures.PICTURES.iterdir()} == set(pictures.pictures(pictures.load()))


@pytest.mark.parametrize("name", pictures.TEXTS)
def test_the_paragraph_says_the_newest_figures(name: str) -> None:
    """Machine, date, and every bound that was missed."""
    assert (pictures.PAGES / name).read_text("utf-8") == pictures.page(name, pictures.load()), AGAIN


def test_another_figure_is_another_picture() -> None:
    """A bar is as long as what it shows; a run without a load has no picture of it."""
    run = pictures.load()
    before = pictures.pictures(run)
    for one in run["measures"]["nginx"]["plain"]:
        one["cpu_us"] *= 2
    assert pictures.pictures(run)["cpu.svg"] != before["cpu.svg"]
    del run["measures"]["beffroi"]["half"]
    assert "latency.svg" not in pictures.pictures(run)
    run["verdicts"][0].update(kept=False, what="the thing")
    assert "| the thing |" in pictures.paragraph(run, "en") and "| the thing |" in pictures.paragraph(run, "fr")


def test_every_picture_is_well_formed_and_stands_within_its_frame() -> None:
    """No bar and no text beyond the edge."""
    for name, text in pictures.pictures(pictures.load()).items():
        root = ET.fromstring(text)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for one in root.iter():
            if one.tag.endswith("}rect"):
                assert float(one.get("x", 0)) + float(one.attrib["width"]) <= width, name
            if one.tag.endswith("}text"):
                wide = len(one.text or "") * 0.56 * float(one.attrib["font-size"])
                left = float(one.attrib["x"]) - (wide if one.attrib["text-anchor"] == "end" else 0)
                assert left >= 0 and left + wide <= width, (name, one.text)
                assert float(one.attrib["y"]) < height, name
