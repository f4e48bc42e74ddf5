# SPDX-License-Identifier: Apache-2.0
"""Keys and their limits: what LiteLLM's keys may do becomes a script of `beffroi keys create`, for the keys are new.

In: keys as `/key/generate` takes them or `/key/list` shows them, and the defaults of its file. Out: a shell script.
A key's text or hash is never read.
"""

import math
import re
import shlex
from datetime import UTC, datetime
from typing import Any

from beffroi.cli.importer.draft import Draft, amount
from beffroi.cli.importer.reading import Part
from beffroi.cli.importer.report import Report

_COUNTS = {
    "tpm_limit": "--tokens-per-minute",
    "rpm_limit": "--requests-per-minute",
    "max_parallel_requests": "--concurrency",
}
_PERIODS = {"1d": "day", "24h": "day", "30d": "month", "31d": "month", "1mo": "month", "month": "month", "daily": "day"}
_SPAN = re.compile(r"(\d{1,6})\s*(s|m|h|d|w|mo)")
_DAYS = {"s": 1 / 86_400, "m": 1 / 1440, "h": 1 / 24, "d": 1.0, "w": 7.0, "mo": 31.0}
_EVERY = {"all-proxy-models", "all-team-models", "*"}
_LIMITED = ("models", "max_budget", "budget_duration", "duration", *_COUNTS)
# What a listing shows besides: who it belongs to, when it was made, what it was.
_FACTS = frozenset(
    "key token token_id key_name key_alias user_id team_id org_id organization_id project_id created_at updated_at"
    " created_by updated_by created_by_user updated_by_user last_active budget_reset_at spend model_spend expires blocked"
    " budget_id metadata user team user_email team_alias litellm_budget_table object_permission object_permission_id"
    " rotation_count last_rotation_at key_rotation_at send_invite_email key_type agent_id".split()
)
_HEAD = """#!/bin/sh
# Keys of {source}, made anew for Beffroi: those of before are known as hashes only and cannot be carried over.
# Run it once, while `beffroi serve` runs; it prints a name and a key a line:   sh {script} > keys.txt
set -eu
umask 077
make() {{
  name=$1
  shift
  key=$(${{BEFFROI:-beffroi}} keys create "$@" -- "$name")
  printf '%s\\t%s\\n' "$name" "$key"
}}
"""
_EACH = """
# What new keys had by default. For more of them: sh {script} NAME...
for name in "$@"; do
  make "$name" {options}
done
"""


class Keys:
    """The keys to make."""

    def __init__(self, report: Report, draft: Draft) -> None:
        self._report, self._draft = report, draft
        self._defaults: dict[str, Any] = {}
        self._default_options: list[str] = []
        self.made: list[tuple[str, list[str]]] = []

    def defaults(self, settings: Part) -> None:
        """What keys get that say nothing themselves; in LiteLLM an upper bound is a default too."""
        for name in ("upperbound_key_generate_params", "default_key_generate_params"):
            part = settings.group(name)
            if not part.values:
                continue
            for field in _LIMITED:
                value = part.take(field)
                if value is not None:
                    self._defaults[field] = value
            if name.startswith("upper"):
                self._report.left(
                    settings,
                    name,
                    message="no upper bound is held when keys are made; those who make keys are administrators",
                    advice="it is the default in the script of keys",
                )
            self._others(part)
            self._default_options = self._options(part, {}) or []
            if self._default_options:
                shown = " ".join(self._default_options)
                self._report.converted(settings, name, message=f"default of new keys, in the script: {shown}")

    def listed(self, listing: Part) -> None:
        """All keys of a list; one that says itself that it is a page of several is told."""
        for part in listing.groups("keys"):
            self._add(part)
        pages = listing.take("total_pages")
        if isinstance(pages, int) and pages > 1:
            self._report.left(
                listing,
                "total_pages",
                message=f"this is page {listing.take('current_page')} of {pages}",
                advice="ask for the other pages (`&page=2`, …) and put all keys into one list",
            )

    def _add(self, part: Part) -> None:
        name = next((text for field in ("key_alias", "user_id", "team_id") if (text := part.text(field))), None)
        if name is None:
            self._report.left(
                part,
                message="a key without `key_alias`: its name in Beffroi is not known",
                advice="make it with `beffroi keys create NAME`",
            )
            return
        if part.take("blocked"):
            self._report.otherwise(part, message=f"{name}: it was blocked, so it is not made")
            return
        values = {field: part.take(field) for field in _LIMITED}
        if not values["duration"] and (expires := part.text("expires")):
            left = _days_until(expires)
            if left is not None and left <= 0:
                self._report.otherwise(part, message=f"{name}: it had expired, so it is not made")
                return
            values["duration"] = f"{left}d" if left else None
        options = self._options(part, values)
        if options is None:
            return
        name = self._unique(name)
        self.made.append((name, options))
        self._report.converted(part, message=f"key {name}: {' '.join(options) or 'no limits'}")
        self._others(part)

    def script(self, source: str, script: str) -> str | None:
        """The shell script; None when there is nothing to make."""
        if not self.made and not self._default_options:
            return None
        lines = [_HEAD.format(source=source, script=script)]
        lines += [f"make {shlex.join([name, *options])}\n" for name, options in self.made]
        if self._default_options:
            lines.append(_EACH.format(script=script, options=shlex.join(self._default_options)))
        return "".join(lines)

    def _unique(self, name: str) -> str:
        taken = {made for made, _ in self.made}
        found, number = name, 2
        while found in taken:
            found, number = f"{name}-{number}", number + 1
        return found

    def _options(self, part: Part, values: dict[str, Any]) -> Any:
        """Options of `beffroi keys create`; None when the key could use no model that there is."""
        merged = self._defaults | {field: value for field, value in values.items() if value is not None}
        options = self._models(part, merged.get("models") or [])
        if options is None:
            return None
        for field, option in _COUNTS.items():
            value = merged.get(field)
            if isinstance(value, int | float) and value >= 1:
                options += [option, str(int(value))]
            elif value is not None:
                self._report.left(
                    part, field, message=f"`{value}` is no limit", advice="leave the key out, or revoke it"
                )
        options += self._budget(part, merged)
        return options + self._life(part, merged.get("duration"))

    def _models(self, part: Part, names: Any) -> list[str] | None:
        if not isinstance(names, list) or not names or _EVERY & set(map(str, names)):
            return []
        known = list(dict.fromkeys(self._draft.names[str(name)] for name in names if str(name) in self._draft.names))
        gone = [str(name) for name in names if str(name) not in self._draft.names]
        if gone:
            self._report.left(part, "models", message=f"not converted, so not permitted: {', '.join(gone)}")
        if not known:
            self._report.left(part, message="a key without any model that was converted is not made")
            return None
        return [word for name in known for word in ("--model", name)]

    def _budget(self, part: Part, values: dict[str, Any]) -> list[str]:
        most, length = values.get("max_budget"), values.get("budget_duration")
        if most is None:
            return []
        period = "total" if not length else _PERIODS.get(str(length))
        try:
            text = f"{amount(most).normalize():f}"
        except ValueError as error:
            self._report.left(part, "max_budget", message=str(error))
            return []
        if period is None:
            self._report.left(
                part,
                "max_budget",
                message=f"a budget of {text} per {length}: Beffroi's periods are day, month and total",
                advice="choose one: `--soft-budget AMOUNT --budget-period day|month|total`",
            )
            return []
        if period != "total":
            self._report.note("Budgets follow the calendar (day, month) of `gateway.time_zone`, from zero on.")
        self._report.note(
            "`max_budget` became a soft budget, which refuses once it is spent, as LiteLLM's does; `--hard-budget` is"
            " never passed, and sends a bound with requests that name none."
        )
        return ["--soft-budget", text, "--budget-period", period]

    def _life(self, part: Part, duration: Any) -> list[str]:
        if duration is None:
            self._report.note("Keys without an end live a year in Beffroi; `--long-lived` makes them for ever.")
            return []
        match = _SPAN.fullmatch(str(duration))
        days = math.ceil(int(match[1]) * _DAYS[match[2]]) if match else 0
        if not 1 <= days <= 36_500:
            self._report.left(
                part, "duration", message=f"`{duration}` is no length of life", advice="`--expires-days DAYS`"
            )
            return []
        return ["--expires-days", str(days), *(["--long-lived"] if days > 365 else [])]

    def _others(self, part: Part) -> None:
        for name in list(part.rest()):
            if part.take(name) not in (None, "", False, [], {}, 0) and name not in _FACTS:
                self._report.left(part, name, message="a key of Beffroi has nothing like it")


def _days_until(expires: str) -> int | None:
    try:
        moment = datetime.fromisoformat(expires)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return math.ceil((moment - datetime.now(UTC)).total_seconds() / 86_400)
