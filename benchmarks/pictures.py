# SPDX-License-Identifier: Apache-2.0
"""Draws what was measured: pictures and a paragraph for docs/explanation/how-fast-and-why.md, in both languages.

In: the newest file of benchmarks/results. Out: `python -m benchmarks.pictures` writes SVG files and the paragraph between
the page's marks; tests/house/test_pictures.py says when they are older than the figures.
"""

import json
import re
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
PAGES = HERE.parent / "docs" / "explanation"
PICTURES = PAGES / "pictures"
GATEWAYS = {"beffroi": "#8a2f1d", "nginx": "#3f6f8f", "vllm-router": "#8a7a2c"}
TREE = "#d09a86"
INK, FAINT, PAPER = "#2b2420", "#6b625c", "#fdfaf6"
MARK = re.compile(r"(<!-- figures[^>]*-->\n).*?(<!-- end of figures -->)", re.DOTALL)
WORDS = {
    "en": {
        "plain": "A plain request",
        "burst": "A stream of 64 chunks at once",
        "paced": "A stream of 64 chunks, one each 5 ms",
        "cpu": "CPU time of one request, in microseconds",
        "half": "Added to a request, median, in microseconds",
        "idle": "Memory of an open stream that waits, in KiB",
        "tree": "and the control process, which ships the journal",
        "spread": "Line: from the lowest round to the highest; with an arrow, it goes on.",
        "workers": "workers",
    },
    "fr": {
        "plain": "Une requête simple",
        "burst": "Un flux de 64 morceaux d'un coup",
        "paced": "Un flux de 64 morceaux, un toutes les 5 ms",
        "cpu": "Temps de processeur d'une requête, en microsecondes",
        "half": "Ajouté à une requête, médiane, en microsecondes",
        "idle": "Mémoire d'un flux ouvert qui attend, en Kio",
        "tree": "et le processus de contrôle, qui verse le journal",
        "spread": "Trait : de la manche la plus basse à la plus haute ; flèche : il continue.",
        "workers": "workers",
    },
}


def newest() -> Path:
    """The last run that was kept."""
    return max((HERE / "results").glob("*.json"))


def load(path: Path | None = None) -> dict[str, Any]:
    """A run."""
    found: dict[str, Any] = json.loads((path or newest()).read_text("utf-8"))
    return found


def series(run: dict[str, Any], gateway: str, workload: str, key: str) -> list[float]:
    """One figure of every round; empty where it was not measured."""
    return [one[key] for one in run["measures"].get(gateway, {}).get(workload, []) if key in one]


def number(value: float, language: str) -> str:
    """As people of that language write it."""
    text = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return text.replace(",", "\u202f").replace(".", ",") if language == "fr" else text


def _text(
    x: float, y: float, text: str, *, size: int = 13, fill: str = INK, anchor: str = "start", bold: bool = False
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{weight}>{text}</text>'


def _panel(
    run: dict[str, Any], workload: str, key: str, top: float, title: str, language: str, tree: str = ""
) -> tuple[list[str], float]:
    """A group of bars, one a gateway, on a scale of its own; → lines, and where it ends."""
    rows = [(name, series(run, name, workload, key)) for name in GATEWAYS]
    rows = [(name, values) for name, values in rows if values]
    whole = series(run, "beffroi", workload, tree) if tree else []
    full = max(min(max(values), 1.6 * median(values)) for _, values in rows + ([("", whole)] if whole else []))
    scale = 380 / full
    lines = [_text(20, top, title, bold=True, size=14)]
    y = top + 14
    for name, values in rows:
        middle = median(values)
        lines.append(_text(112, y + 15, name, anchor="end"))
        end = middle
        if name == "beffroi" and whole:
            end = median(whole)
            lines.append(f'<rect x="120" y="{y:g}" width="{end * scale:.1f}" height="20" fill="{TREE}"/>')
        lines.append(f'<rect x="120" y="{y:g}" width="{middle * scale:.1f}" height="20" fill="{GATEWAYS[name]}"/>')
        if len(values) > 1:
            low, high = 120 + min(values) * scale, 120 + min(max(values), full) * scale
            tip = f"M{high - 5:.1f} {y + 6:g}l5 4l-5 4" if max(values) > full else f"M{high:.1f} {y + 6:g}v8"
            line = f"M{low:.1f} {y + 10:g}H{high:.1f}M{low:.1f} {y + 6:g}v8{tip}"
            lines.append(f'<path d="{line}" stroke="{INK}" fill="none"/>')
        lines.append(_text(120 + min(max(end, *values), full) * scale + 8, y + 15, number(middle, language)))
        y += 28
    return lines, y + 18


def _svg(lines: list[str], height: float, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 {height:g}" role="img" aria-label="{title}" '
        f'font-family="system-ui, sans-serif">\n<rect width="600" height="{height:g}" rx="8" fill="{PAPER}"/>\n'
        + "\n".join(lines)
        + "\n</svg>\n"
    )


def cpu(run: dict[str, Any], language: str) -> str:
    """CPU time per request of three loads."""
    words = WORDS[language]
    lines, y = [_text(20, 30, words["cpu"], size=16, bold=True)], 62.0
    for workload in ("plain", "burst", "paced"):
        if series(run, "beffroi", workload, "cpu_us"):
            drawn, y = _panel(run, workload, "cpu_us", y, words[workload], language, "tree_us")
            lines += drawn
    lines.append(f'<rect x="20" y="{y - 10:g}" width="12" height="12" fill="{GATEWAYS["beffroi"]}"/>')
    lines.append(_text(38, y, words["workers"], fill=FAINT))
    lines.append(f'<rect x="110" y="{y - 10:g}" width="12" height="12" fill="{TREE}"/>')
    lines += [_text(128, y, words["tree"], fill=FAINT), _text(20, y + 20, words["spread"], fill=FAINT)]
    return _svg(lines, y + 36, words["cpu"])


def _single(run: dict[str, Any], workload: str, key: str, language: str) -> str:
    lines, y = _panel(run, workload, key, 30, WORDS[language][workload], language)
    if len(series(run, "beffroi", workload, key)) > 1:
        lines.append(_text(20, y, WORDS[language]["spread"], fill=FAINT))
        y += 16
    return _svg(lines, y, WORDS[language][workload])


def pictures(run: dict[str, Any]) -> dict[str, str]:
    """File name → SVG."""
    found: dict[str, str] = {}
    for language, end in (("en", ""), ("fr", ".fr")):
        found[f"cpu{end}.svg"] = cpu(run, language)
        if series(run, "beffroi", "half", "added_p50"):
            found[f"latency{end}.svg"] = _single(run, "half", "added_p50", language)
        if series(run, "beffroi", "idle", "kib_per_stream"):
            found[f"memory{end}.svg"] = _single(run, "idle", "kib_per_stream", language)
    return found


def paragraph(run: dict[str, Any], language: str) -> str:
    """What the pictures show, and which bounds we set ourselves were missed."""
    about, where = run["about"], run["about"]["machine"]
    kept = sum(one["kept"] is True for one in run["verdicts"])
    judged = [one for one in run["verdicts"] if one["kept"] is not None]
    missed = [one for one in judged if not one["kept"]]
    peers = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    rows = [
        f"| {one['what']} | {one['figure']:.{one['digits']}f} {one['unit']} | {one['bound']:.{one['digits']}f} {one['unit']} |"
        for one in missed
    ]
    if language == "fr":
        said = f"Mesuré le {about['date']} sur {where['cores']} cœurs de {where['cpu']}, Linux {where['kernel']}, {where['python'].split(',')[0]} ; {peers}. "
        said += f"Des {len(judged)} bornes que nous nous sommes fixées, {kept} sont tenues."
        head = ["", "Manquées :", "", "| quoi | mesuré | borne |", "|---|--:|--:|"]
    else:
        said = f"Measured on {about['date']} on {where['cores']} cores of {where['cpu']}, Linux {where['kernel']}, {where['python'].split(',')[0]}; {peers}. "
        said += f"Of the {len(judged)} bounds that we set ourselves, {kept} are kept."
        head = ["", "Missed:", "", "| what | measured | bound |", "|---|--:|--:|"]
    return "\n".join([said, *(head + rows if missed else [])])


def page(name: str, run: dict[str, Any]) -> str:
    """A page with its paragraph as it should be.

    Raises:
        ValueError: the page has no place for it.
    """
    text = (PAGES / name).read_text("utf-8")
    if not MARK.search(text):
        raise ValueError(f"{name} has no marks for the figures")
    told = paragraph(run, "fr" if name.endswith(".fr.md") else "en")
    return MARK.sub(lambda found: f"{found[1]}\n{told}\n\n{found[2]}", text)


TEXTS = ("how-fast-and-why.md", "how-fast-and-why.fr.md")


def main() -> None:
    """Write them all."""
    run = load()
    PICTURES.mkdir(exist_ok=True)
    for name, svg in pictures(run).items():
        (PICTURES / name).write_text(svg, "utf-8")
    for name in TEXTS:
        (PAGES / name).write_text(page(name, run), "utf-8")


if __name__ == "__main__":
    main()
