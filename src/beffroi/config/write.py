# SPDX-License-Identifier: Apache-2.0
"""Writes a configuration as a person would: block by block, values of one line on one line, text unquoted where it can be.

In: plain data in the shape of a configuration file. Out: YAML that reads back as the same data.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

# Text that is no other scalar, begins no YAML construct, and holds no `: ` or ` #`.
_BARE = re.compile(
    r"(?!(?:true|false|null|yes|no|on|off|y|n)$)[A-Za-z/][A-Za-z0-9_./@+-]*(?::[A-Za-z0-9_./@+-]+)*", re.IGNORECASE
)


def to_yaml(document: dict[str, Any], head: str) -> str:
    """The document under a comment; groups without content are left out."""
    lines = [f"# {line}" for line in head.splitlines()]
    for name, group in document.items():
        if group:
            lines += ["", f"{name}:", *_block(group, 1)]
    return "\n".join(lines) + "\n"


def scalar(value: Any) -> str:
    """A value on one line; what is not bare is JSON, which YAML takes as it is."""
    if isinstance(value, str) and _BARE.fullmatch(value):
        return value
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(scalar, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {scalar(part)}' for name, part in value.items())}}}"
    quoted = json.dumps(value, ensure_ascii=False)
    # JSON lets pass what YAML does not, or folds: control characters beyond ASCII, line separators.
    return "".join(sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in quoted)


def _block(group: dict[str, Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, value in group.items():
        if isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from _block(value, depth + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict) and not _short(value):
            yield f"{indent}{name}:"
            for item in value:
                first, *rest = _block(item, depth + 2)
                yield f"{indent}  - {first.lstrip()}"
                yield from rest
        else:
            yield f"{indent}{name}: {scalar(value)}"


def _short(items: list[dict[str, Any]]) -> bool:
    """Whether a list of groups reads well on one line: one item of at most two names."""
    return (
        len(items) == 1 and len(items[0]) <= 2 and all(not isinstance(part, dict | list) for part in items[0].values())
    )
