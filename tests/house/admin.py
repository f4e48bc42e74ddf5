# SPDX-License-Identifier: Apache-2.0
"""The page of the admin API: how it is spoken to, and every operation with the permission that it needs.

In: the table of operations, and what only people can say. Out: docs/reference/admin-api.md, docs/reference/openapi.json.
"""

import json
from itertools import groupby

from beffroi.control.api.idempotency import KEPT
from beffroi.control.api.limits import CALLS, WRONG
from beffroi.control.api.openapi import document
from beffroi.control.api.operation import MAX_BODY, MOST, PAGE, Operation
from beffroi.control.api.reading import BODY_SECONDS, MAX_DEPTH
from beffroi.control.api.routes import OPERATIONS, PREFIX


def description() -> str:
    """The OpenAPI document, as it is served but for the release that serves it."""
    found = document(OPERATIONS, PREFIX)
    found["info"]["version"] = "1"
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def page() -> str:
    """The page."""
    lines = [
        "# Admin API",
        "",
        f"REST over the control port (8401), below `{PREFIX}`; described as OpenAPI 3.1 by",
        f"[openapi.json](openapi.json), which every Beffroi serves at `{PREFIX}/openapi.json`. `beffroi` on the command line uses the same",
        "operations over `control.sock`, as the operator of the installation.",
        "",
        "<!-- run by tests/control/api/test_page.py -->",
        "```sh",
        'curl -sS -H "Authorization: Bearer $BEFFROI_ADMIN_KEY" http://127.0.0.1:8401/api/v1/me',
        "```",
        "",
        "## Who calls",
        "",
        "An **admin key** (`bfa-…`) in `Authorization: Bearer`; `beffroi admin-keys create` makes the first one. It has a role in one organisation,",
        "or in one project of it, and may do what [roles and permissions](permissions.md) say; a key of the organisation `*` is the operator's.",
        "An operation that names no permission is not on the port at all. The organisation acted on is the key's own; the operator names one with",
        "`?organisation=` (`default` when left out), and lists those of all with `?organisation=*`.",
        "",
        f"From one address {CALLS} calls a second are answered, and {WRONG} keys a second that are not known are looked at: beyond that 429 with",
        "`Retry-After`, for a good key too. The port stays on loopback and has no TLS: reach it through a tunnel, or through a proxy that",
        "has, and name that in `gateway.trusted_proxies`, so that the address of the caller counts and not the proxy's.",
        "",
        "## What every operation does alike",
        "",
        f"- **Bodies** are JSON, of {MAX_BODY >> 10} KiB (more where the description says so), nested {MAX_DEPTH} deep at most, and arrive within",
        f"  {BODY_SECONDS:.0f} s. A field or a name in the query that an operation does not know is an error, not a typing mistake that passes.",
        "- **One call is one transaction**: what fails in the middle has changed nothing.",
        f'- **Lists** come as `{{"data": […], "next": …}}`, `?limit=` {PAGE} unless told, {MOST} at most. `next` goes into `?cursor=` as it is; null: that was',
        "  the last page. What is made meanwhile is not counted twice and not skipped.",
        "- **ETag**: what has a `revision` comes with it as `ETag`. With `If-Match`, a change is made only to what you have seen; else 412, and nothing is done.",
        f"- **Idempotency-Key** (1 to 200 visible characters, on any `POST`): the same call under the same key is done once; for {KEPT // 3600} hours its",
        "  answer comes again, over restarts too, with `Idempotency-Replayed: true`. Another call under that key is 422 `idempotency_key_reused`. While the",
        "  first is under way, or when a crash left it unknown, 409 `not_answered`. What was refused may be sent again. Answers are kept sealed.",
        "- **Long work** answers 202 with an operation: `Location` says where, `GET /operations/{id}` how far it is.",
        "- **Refusals** are problem details (RFC 9457): `code` is stable and listed under [errors](errors.md), `detail` says what to do, `param` names the field.",
        "- A **secret** is in the answer that makes it and in no other.",
        "- Each change is an [event](events.md), and can be [told](../how-to/webhooks.md).",
        "",
        "## Operations",
    ]
    shown = [each for each in OPERATIONS if each.needs is not None]
    shown.sort(key=_kind)
    for kind, those in groupby(shown, _kind):
        lines += [
            "",
            f"### {kind.replace('-', ' ').capitalize()}",
            "",
            "| Method | Path | Needs | What it does |",
            "|---|---|---|---|",
        ]
        lines += [f"| `{each.method}` | `{each.path}` | `{each.needs}` | {each.summary} |" for each in those]
    return "\n".join(lines) + "\n\n_Written from the code by `python -m tests.house.pages`; edit there._\n"


def _kind(operation: Operation) -> str:
    return operation.path.split("/")[1]
