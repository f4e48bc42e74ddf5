# SPDX-License-Identifier: Apache-2.0
"""What a client should change before somebody else changes it: models that end, names that are none.

In: headers of an answer (`with_raw_response`), or an error of the SDK. Out: sentences; none when there is nothing to say.
"""

import difflib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any


def hints(told: Any, known: Iterable[str] = ()) -> list[str]:
    """Hints of an answer or an error.

    Args:
        told: a raw response (anything with `headers`), a mapping of headers, or an error of the SDK.
        known: names of models to choose from, for a name that is none: `[m.id for m in client.models.list()]`.
    """
    headers = told if isinstance(told, Mapping) else getattr(told, "headers", None)
    if headers is None:
        headers = getattr(getattr(told, "response", None), "headers", {})
    lower = {str(name).lower(): str(value) for name, value in headers.items()}
    found = []
    if (day := _deprecated(lower.get("deprecation", ""))) is not None:
        found.append(f"What was asked for is deprecated{day}: plan a move.")
    if sunset := _date(lower.get("sunset", "")):
        found.append(f"It ends on {sunset:%Y-%m-%d}: requests fail after that.")
    found += [f"Its successor: {target}" for target in _links(lower.get("link", ""), "successor-version")]
    found += [f"Read {target}" for target in _links(lower.get("link", ""), "deprecation", "sunset")]
    return found + _unknown_model(told, list(known))


def _deprecated(value: str) -> str | None:
    """RFC 9745: `@` and Unix seconds; drafts before it wrote `true` or a date."""
    if not value:
        return None
    if value.startswith("@") and value[1:].isdigit():
        return f" since {datetime.fromtimestamp(int(value[1:]), UTC):%Y-%m-%d}"
    day = _date(value)
    return "" if day is None else f" since {day:%Y-%m-%d}"


def _date(value: str) -> datetime | None:
    try:
        return parsedate_to_datetime(value)
    except ValueError:
        return None


def _links(value: str, *relations: str) -> list[str]:
    """Targets of a Link header (RFC 8288) with one of the relations."""
    found = []
    for part in value.split(","):
        target, _, parameters = part.strip().partition(">")
        names = [name.strip().removeprefix("rel=").strip('"') for name in parameters.split(";")]
        if target.startswith("<") and set(names) & set(relations):
            found.append(target[1:])
    return found


def _unknown_model(error: Any, known: list[str]) -> list[str]:
    if getattr(error, "code", None) not in {"model_not_found", "model_not_allowed"}:
        return []
    body = getattr(error, "body", None)
    said = [str(body["message"])] if isinstance(body, dict) and body.get("message") else [str(error)]
    name = said[0].split("'")[1] if said[0].count("'") > 1 else ""
    near = difflib.get_close_matches(name, known, 3, 0.4)
    return said + ([f"Near it: {', '.join(near)}"] if near else [])
