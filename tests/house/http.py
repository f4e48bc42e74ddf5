# SPDX-License-Identifier: Apache-2.0
"""The HTTP reference: every route of both ports, with methods, headers and statuses.

In: the routes in the code, and what only people can say of them. Out: docs/reference/http.md. `test_http.py` holds what is
said here to a running Beffroi.
"""

from collections.abc import Iterator

from beffroi.control.api.app import DESCRIPTION
from beffroi.control.api.pages import OPEN as CONTROL_OPEN
from beffroi.control.api.routes import OPERATIONS, PREFIX
from beffroi.core.errors import BeffroiError
from beffroi.gateway import pages as api
from beffroi.wire.http import REASONS

ABOUT = {
    "/chat/completions": "Messages in, the next message out; whole, or as a stream with `stream: true`.",
    "/completions": "A prompt, or several, continued; whole or as a stream.",
    "/embeddings": "Texts to vectors.",
    "/models": "The models that the key may use.",
    "/models/{id}": "One of them, by id or alias; 404 `model_not_found` where the key may not use it.",
    "/livez": "The worker's process turns.",
    "/readyz": "The worker takes requests; 503 while it stops or cannot write its journal.",
}
SENT = {
    "host": "Required, once.",
    "authorization": "`Bearer` and the key, once; in no other place is a key looked for.",
    "content-type": "`application/json`, with or without `charset`; anything else is 415.",
    "content-length": "Digits, once; or `transfer-encoding`, never both.",
    "transfer-encoding": "Exactly `chunked`.",
    "content-encoding": "Only `identity`; a compressed body is 415.",
    "x-forwarded-for": "Believed of `gateway.trusted_proxies` only: the last address in it that is no proxy of yours.",
    "expect": "`100-continue` is answered once key and form are accepted.",
}
ANSWERED = {
    "content-type": "`application/json`, or `text/event-stream; charset=utf-8` for a stream.",
    "content-length": "Of every answer that is no stream.",
    "transfer-encoding": "`chunked`, of a stream.",
    "x-request-id": "The id of this exchange in logs, journal and ledger (`req_…`); on every answer.",
    "x-content-type-options": "`nosniff`.",
    "date": "When it was answered.",
    "cache-control": "`no-cache`, of a stream.",
    "x-accel-buffering": "`no`, of a stream: asks nginx not to hold it back.",
    "connection": "`close`, where no further request is read on this connection.",
    "retry-after": "Whole seconds, of 429 and 503.",
    "allow": "The methods that the path takes, of 405.",
    "www-authenticate": "`Bearer`, of 401.",
    "x-ratelimit-limit-requests": "For a key with `--requests-per-minute`: the limit.",
    "x-ratelimit-remaining-requests": "Requests that may follow at once.",
    "x-ratelimit-reset-requests": "Unix second at which the whole limit is free again if nothing more is sent.",
}
INTERIM = {
    100: "The body may be sent (after `Expect: 100-continue`).",
    102: "Written to a client that has closed its half, to learn whether it still reads.",
}


def routes() -> list[tuple[str, str, str]]:
    """(methods, path below the origin, what it does) of the API port, in the order of the page."""
    found = [("POST", path) for path in api.METERED]
    found += [("GET, HEAD", path) for listed in api.PAGES for path in (listed, f"{listed}/{{id}}")]
    rows = [(methods, f"/v1{path}", ABOUT[path]) for methods, path in found]
    return rows + [("GET, HEAD", path, ABOUT[path]) for path in api.OPEN]


def _kinds(root: type[BeffroiError] = BeffroiError) -> Iterator[type[BeffroiError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _kinds(kind)


def statuses() -> list[tuple[int, str, str]]:
    """(status, reason, codes that come with it) of the API port."""
    codes: dict[int, list[str]] = {200: [], 400: ["none, with the field's name in `param`"]}
    for kind in _kinds():
        if kind.code is not None and "code" in vars(kind):
            codes.setdefault(kind.status, []).append(f"`{kind.code}`")
    return [(status, REASONS[status].decode(), ", ".join(codes[status]) or "–") for status in sorted(codes)]


def _rows(head: str, rows: list[list[str]]) -> list[str]:
    return [head, "|---" * head.count(" | ") + "|---|", *(f"| {' | '.join(row)} |" for row in rows)]


def page() -> str:
    """The page."""
    open_rows = [["`GET`", f"`{path}`", _sentence(handler)] for path, handler in CONTROL_OPEN.items()]
    control = [
        [f"`{each.method}`", f"`{PREFIX}{each.path}`", each.summary] for each in OPERATIONS if each.needs is None
    ]
    open_rows.append(["`GET`", f"`{DESCRIPTION}`", "The admin API, as OpenAPI 3.1."])
    lines = [
        "# HTTP",
        "",
        "Two ports and a socket. The **API port** (8400) is for clients. The **control port** (8401, loopback only) has health,",
        "metrics and the [admin API](admin-api.md), which wants an admin key. **`control.sock`** in the data directory has all of that and needs",
        "no key, because only the user that Beffroi runs as may open it; `beffroi` on the command line speaks to it.",
        "",
        "## API port",
        "",
        "HTTP/1.0 and 1.1, with TLS 1.3 where [certificates](../how-to/certificates.md) are configured. Every path under `/v1` is",
        "there without `/v1` too. All but the health pages need a key. A query is ignored; what is not listed is 404, after the key was accepted.",
        "",
        *_rows("| Methods | Path | What it does |", [[f"`{m}`", f"`{p}`", a] for m, p, a in routes()]),
        "",
        "Fields of a request that Beffroi does not know go to the engine as they came. A field that decides something (`model`,",
        "`stream`, `max_tokens`, …) may stand there once and in one spelling. `model` in the answer is the public name, `usage` has",
        "the engine's count, and `backend` says which machine answered.",
        "",
        "A **stream** is `data: {…}` and an empty line per event, ended by `data: [DONE]`. A chunk with `usage` and no choices comes",
        "only where `stream_options.include_usage` asked for it. A comment (`: …`) fills a silence of `gateway.comment_interval`.",
        "",
        "### Headers of a request",
        "",
        "Others are accepted and go nowhere: neither they nor cookies reach an engine.",
        "",
        *_rows("| Header | Rule |", [[f"`{name}`", says] for name, says in SENT.items()]),
        "",
        "### Headers of an answer",
        "",
        *_rows("| Header | Meaning |", [[f"`{name}`", says] for name, says in ANSWERED.items()]),
        "",
        "### Statuses",
        "",
        "What each code means is on the page [errors](errors.md). An engine's own 4xx keeps its status.",
        "",
        *_rows("| Status | Reason | `error.code` |", [[str(s), r, c] for s, r, c in statuses()]),
        "",
        "Interim answers: " + " ".join(f"**{status}** {says}" for status, says in INTERIM.items()),
        "",
        "## Control port",
        "",
        "Without a key:",
        "",
        *_rows("| Method | Path | What it answers |", open_rows),
        "",
        "With an admin key: the [admin API](admin-api.md). Connections that send no whole head within 10 seconds are closed, and where there are",
        "more than 256, the longest silent one makes room; more than 256 calls at once are answered 503.",
        "",
        "## `control.sock`",
        "",
        "The same, without a key and without limits of rate, and besides what needs the rights of the owner of the machine. That is the command",
        "line's own interface and may change with any version: programs should use `beffroi … --json`, or the admin API.",
        "",
        *_rows("| Method | Path | What it does |", control),
        "",
        "<!-- run by tests/house/test_http.py -->",
        "```sh",
        "curl --unix-socket .beffroi/control.sock http://beffroi/api/v1/status",
        "```",
    ]
    return "\n".join(lines) + "\n\n_Written from the code by `python -m tests.house.pages`; edit there._\n"


def _sentence(handler: object) -> str:
    return " ".join((handler.__doc__ or "").split("\n\n")[0].split())
