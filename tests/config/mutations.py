# SPDX-License-Identifier: Apache-2.0
"""The ways in which people break configuration files.

In: a seed. Out: `Mutation`s: the bytes of a broken file, the line that was broken, and what the report has to name.
Every break is one that no file survives: a kind that could leave a valid file would prove nothing.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.config.valid import CANARY, TOML, YAML

_REQUIRED = ("certificate", "key", "name", "url", "id", "engine")
# A value that each setting cannot have, as YAML; TOML writes text in quotes.
_WRONG_TYPES = {
    "host": ("5", "[a]"),
    "port": ("'8400'", "[8400]", "8400.5", "true"),
    "workers": ("many", "{a: 1}"),
    "max_body": ("1MiB", "1e400"),
    "head_timeout": ("5s", "false"),
    "trusted_proxies": ("10.0.0.1", "[5]", "{a: b}"),
    "webhook_networks": ("10.0.0.1", "[5]", "{a: b}"),
    "proxy_protocol": ("'true'", "1", "yes"),
    "guard": ("block", "[hidden_text]"),
    "url": ("[http://x]", "80"),
    "aliases": ("chat", "[1]"),
    "max_model_len": ("32k", "[1]"),
    "endpoints": ("chat", "[chatt]"),
    "input": ("[0.9]", "true", "cheap"),
    "currency": ("978", "[EUR]"),
    "targets": ("gpu1", "[gpu1]", "7"),
    "effective": ("tomorrow", "2026-02-30", "20260210"),
}
_OUT_OF_RANGE = {
    "port": ("70000", "-1", "8401"),
    "workers": ("0", "65"),
    "control_port": ("99999",),
    "max_body": ("10", "99999999999"),
    "max_headers": ("3",),
    "head_timeout": ("0", "-5.5", "inf", "nan"),
    "max_model_len": ("0", "-1"),
    "max_output": ("0", "65536"),
    "default_max_tokens": ("0",),
    "input": ("-0.9", "0.0000000001", "1000000000000000"),
    "currency": ("EURO", "eur", "''"),
    "kind": ("vlm", "triton"),
    "client_certificates": ("maybe",),
    "time_zone": ("Europe/Pariss", "../etc"),
    "name": ("''", "'two words'", "gpü"),
    "id": ("''", "'a b'", "modèle"),
    "trusted_proxies": ("[10.0.0.1/8]", "[proxy.example.org]", "[]"),
    "webhook_networks": ("[10.0.0.1/8]", "[intranet]"),
    "guard": ("{hiden_text: block}", "{hidden_text: blok}"),
}
_BAD_REFERENCES = {
    "engine": ("gpu3", "GPU1"),
    "api_key": (CANARY, "env:NOT_THERE", "file:not-there", "env:", "vault:x"),
    "ca_file": ("not-there.pem", "secret"),
    "certificate": ("not-there.pem", "key.pem"),
    "key": ("not-there.pem", "chain.pem", "other.pem"),
    "url": (
        "127.0.0.1:8000",
        "ftp://gpu1",
        "http://x:99999",
        f"http://user:{CANARY}@gpu1",
        "http://gpu1/v1",
        "http://gpu1?a=b",
        "unix:relative",
    ),
    "host": ("not an address", "999.1.1.1"),
}
_YAML_SYNTAX = (
    ("  port: 8400", "  port: [8400", 4),
    ("  host: 127.0.0.1", '  host: "127.0.0.1', 99),
    ("  workers: 2", "\tworkers: 2", 0),
    ("  workers: 2", "   workers: 2", 0),
    ("  max_headers: 50", "  max_headers 50", 1),
    ("  max_headers: 50", "  max_headers:50", 1),
    ("  time_zone: Europe/Paris", "  time_zone: Europe: Paris", 0),
    ("      url: http://127.0.0.1:8000", "      url: @http", 0),
    ("      url: http://127.0.0.1:8000", "      url: *gpu", 0),
    ("      kind: vllm", "      kind: vllm\x07", 0),
    ("      kind: vllm", '      kind: "vl\\lm"', 0),
    ("      kind: vllm", "      kind: !!python/name:os.system vllm", 0),
    ("    - id: embed", "   - id: embed", 0),
    ("gateway:", "---\ngateway:", 1),
    ("gateway:", "<<<<<<< HEAD\ngateway:", 1),
    ("  port: 8400", "  port: {{ port }}", 0),
    ("  port: 8400", "  {{ port }}: 8400", 0),
    ("  port: 8400", "  port: “8400”", 0),
    ("  port: 8400", "  port:\u00a08400", 1),
    ("  guard: {hidden_text: block, bidi_override: off}", "  guard: {hidden_text: block, bidi_override: off", 1),
)
_TOML_SYNTAX = (
    ("port = 8400", "port = [8400", 1),
    ('host = "127.0.0.1"', 'host = "127.0.0.1', 0),
    ('host = "127.0.0.1"', "host = 127.0.0.1", 0),
    ("workers = 2", "workers 2", 0),
    ("workers = 2", "workers: 2", 0),
    ("workers = 2", "workers =", 0),
    ("[gateway]", "[gateway", 0),
    ("[gateway]", "[server]", 0),
    ("[gateway]", "<<<<<<< HEAD\n[gateway]", 0),
    ("proxy_protocol = true", "proxy_protocol = True", 0),
    ('kind = "vllm"', 'kind = "vl\\lm"', 0),
    ('kind = "vllm"', "kind = vllm", 0),
    ("port = 8400", "port = {{ port }}", 0),
    ("port = 8400", "port = “8400”", 0),
    ("port = 8400", "pört = 8400", 0),
)


@dataclass(frozen=True)
class Mutation:
    """A broken file.

    Attributes:
        line: of the break, from 1; `slack` lines after it the report may stand, where a parser notices late.
        named: a text that the report has to hold, such as the right spelling.
    """

    kind: str
    content: bytes
    toml: bool
    line: int
    slack: int = 0
    named: str = ""


class _Base:
    def __init__(self, text: str, *, toml: bool) -> None:
        self.lines = text.splitlines()
        self.toml = toml
        self.sign = " = " if toml else ": "
        self.names = {number: match[2] for number, match in self._settings()}

    def _settings(self) -> Iterator[tuple[int, re.Match[str]]]:
        pattern = r"()(\w+) =" if self.toml else r"(\s*(?:- )?)(\w+):"
        for number, line in enumerate(self.lines):
            if match := re.match(pattern, line):
                yield number, match

    def of(self, *names: str) -> list[int]:
        """Numbers of the lines that set one of the names."""
        return [number for number, name in self.names.items() if name in names]

    def made(self, kind: str, lines: list[str], at: int, slack: int = 0, named: str = "") -> Mutation:
        return Mutation(kind, ("\n".join(lines) + "\n").encode(), self.toml, at + 1, slack, named)

    def replaced(self, kind: str, at: int, line: str, slack: int = 0, named: str = "") -> Mutation:
        return self.made(kind, [*self.lines[:at], line, *self.lines[at + 1 :]], at, slack, named)

    def valued(self, kind: str, at: int, value: str, slack: int = 0) -> Mutation:
        """The line with another value, written in YAML."""
        head = self.lines[at].partition(self.sign.rstrip() if not self.toml else "=")[0].rstrip()
        return self.replaced(kind, at, f"{head}{self.sign}{_toml_value(value) if self.toml else value}", slack)


def _toml_value(value: str) -> str:
    """A value of the tables above in TOML: text in quotes, the rest as it is."""
    if value[:1] in "[{":
        inner = re.sub(r"(\w+): ", r"\1 = ", value)
        return re.sub(
            r"(?<![\w.])(?!\d+\b)([\w./:-]*[a-z][\w./:-]*|\d+\.\d+\.[\d./]+)(?= *[\]},])(?! =)", r'"\1"', inner
        )
    if value in {"true", "false", "inf", "nan"} or re.fullmatch(r"-?\d+(\.\d+)?|1e400", value):
        return value
    return f"'{value.strip(chr(39))}'"


BASES = (_Base(YAML, toml=False), _Base(TOML, toml=True))


def _typo(rng: random.Random, base: _Base) -> Mutation:
    at = rng.choice(list(base.names))
    name = base.names[at]
    spot = rng.randrange(len(name))
    slips: list[Callable[[], str]] = [
        lambda: name[:spot] + name[spot + 1 :] if len(name) > 3 else name + "s",
        lambda: name[:spot] + name[spot] + name[spot:],
        name.upper,
        lambda: name.replace("_", "-") if "_" in name else f"{name}s",
        lambda: name[:-1] + {"e": "е", "o": "о", "s": "ѕ"}.get(name[-1], "ё"),  # Cyrillic
    ]
    wrong = rng.choice(slips)()
    if base.toml and not wrong.isascii():
        wrong = f'"{wrong}"'
    return base.replaced("typo", at, base.lines[at].replace(name, wrong, 1), named=f"`{name}`")


def _unknown(rng: random.Random, base: _Base) -> Mutation:
    at = rng.choice([number for number in base.names if base.toml or " - " not in base.lines[number]])
    indent = re.match(r"\s*", base.lines[at])[0]  # type: ignore[index]
    word = rng.choice(("debug", "log_level", "timeout", "replicas", "prénom", "x", "cors_origins"))
    word = f'"{word}"' if base.toml else word
    return base.made("unknown", [*base.lines[:at], f"{indent}{word}{base.sign}1", *base.lines[at:]], at)


def _from_table(kind: str, table: dict[str, tuple[str, ...]]) -> Callable[[random.Random, _Base], Mutation]:
    def mutate(rng: random.Random, base: _Base) -> Mutation:
        at = rng.choice(base.of(*table))
        while base.names[at] == "targets" and not base.lines[at].rstrip().endswith("]"):
            at = rng.choice(base.of(*table))
        value = rng.choice(table[base.names[at]])
        # What clashes with another setting is told there, or here.
        slack = 1 if (base.names[at], value) in {("port", "8401"), ("trusted_proxies", "[]")} else 0
        return base.valued(kind, at, value, slack)

    return mutate


def _missing(rng: random.Random, base: _Base) -> Mutation:
    alone = {
        number for number in base.of("engine") if number + 1 not in base.of("model")
    }  # nothing is left of its item
    at = rng.choice([number for number in base.of(*_REQUIRED) if number not in alone])
    name = base.names[at]
    lines = [*base.lines[:at], *base.lines[at + 1 :]]
    if base.toml:
        header = max(number for number in range(at) if base.lines[number].startswith("["))
        return base.made("missing", lines, header, named=f"`{name}`")
    if " - " in base.lines[at]:  # the next line begins the item
        lines[at] = base.lines[at][: base.lines[at].index("-") + 2] + lines[at].lstrip()
    above = (
        at
        if " - " in base.lines[at]
        else next(n for n in range(at, -1, -1) if n < at and (" - " in base.lines[n] or base.lines[n].endswith("tls:")))
    )
    return base.made("missing", lines, above, 0, f"`{name}`")


def _emptied(rng: random.Random, base: _Base) -> Mutation:
    at = rng.choice(base.of(*_REQUIRED))
    return base.valued("empty", at, "''")


def _syntax(rng: random.Random, base: _Base) -> Mutation:
    line, wrong, slack = rng.choice(_TOML_SYNTAX if base.toml else _YAML_SYNTAX)
    return base.replaced("syntax", base.lines.index(line), wrong, slack)


def _bytes(rng: random.Random, base: _Base) -> Mutation:
    at = rng.randrange(2, len(base.lines) - 2)
    whole = base.replaced("bytes", at, base.lines[at] + " # MARK")
    return Mutation(
        "bytes", whole.content.replace(b"MARK", rng.choice((b"caf\xe9", b"\x00", b"\xff\xfe"))), base.toml, at + 1
    )


def _twice(rng: random.Random, base: _Base) -> Mutation:
    at = rng.choice(list(base.names))
    again = base.lines[at].replace("- ", "  ", 1) if not base.toml else base.lines[at]
    end = next((n for n in range(at + 1, len(base.lines)) if n in base.names), len(base.lines))
    nested = not base.toml and base.lines[at].rstrip().endswith(":")
    end = at + 1 if nested or base.toml else end
    return base.made("twice", [*base.lines[:end], again, *base.lines[end:]], end, 1)


def _clash(rng: random.Random, base: _Base) -> Mutation:
    name, value = rng.choice((("name", "gpu1"), ("id", "chat"), ("id", "small")))
    at = base.of(name)[-1]
    return base.valued("clash", at, value)


def _nesting(rng: random.Random, base: _Base) -> Mutation:
    name = rng.choice(("port", "workers", "max_body", "time_zone", "head_timeout", "max_model_len", "aliases"))
    at = base.of(name)[0]
    if base.toml:  # before the first table, at the top
        rest = [*base.lines[:at], *base.lines[at + 1 :]]
        return base.made("nesting", [base.lines[at], *rest], 0, named="belongs elsewhere")
    rest = [*base.lines[:at], *base.lines[at + 1 :]]
    return base.made("nesting", [*rest, base.lines[at].strip()], len(rest), named="belongs elsewhere")


KINDS: dict[str, Callable[[random.Random, _Base], Mutation]] = {
    "typo": _typo,
    "unknown": _unknown,
    "type": _from_table("type", _WRONG_TYPES),
    "range": _from_table("range", _OUT_OF_RANGE),
    "reference": _from_table("reference", _BAD_REFERENCES),
    "missing": _missing,
    "empty": _emptied,
    "syntax": _syntax,
    "bytes": _bytes,
    "twice": _twice,
    "clash": _clash,
    "nesting": _nesting,
}


def mutations(count: int, seed: int) -> list[Mutation]:
    """So many different ones, of every kind in turn."""
    rng = random.Random(seed)
    found: dict[tuple[bytes, bool], Mutation] = {}
    kinds = list(KINDS.values())
    turn = 0
    while len(found) < count:
        made = kinds[turn % len(kinds)](rng, BASES[rng.random() < 0.4])
        found.setdefault((made.content, made.toml), made)
        turn += 1
        assert turn < count * 20, "there are not that many"
    return list(found.values())
