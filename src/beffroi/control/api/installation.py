# SPDX-License-Identifier: Apache-2.0
"""Operations on the installation: what runs, what was used, the last requests, models, engines, journal, backups.

In: calls. Out: what the services of `control` answer.
"""

from typing import Annotated, Any

import msgspec

from beffroi.control import catalogue, ledger, requests
from beffroi.control.api.operation import Call, Operation
from beffroi.control.tenancy.permissions import P
from beffroi.control.tenancy.scope import Scope


class UsageQuery(msgspec.Struct, frozen=True):
    """Which part of the ledger.

    Attributes:
        since, until: Unix seconds, or a day (YYYY-MM-DD) of the zone that budgets follow.
        by: what to group by, with commas between.
        key, model, project: of these alone.
    """

    since: str | None = None
    until: str | None = None
    by: str = "key,model"
    key: str | None = None
    model: str | None = None
    project: str | None = None


class RequestsQuery(msgspec.Struct, frozen=True):
    """Which requests. `after`: the `next` of an earlier answer."""

    limit: Annotated[int, msgspec.Meta(ge=0, le=requests.MOST)] = 20
    after: str | None = None
    key: str | None = None
    model: str | None = None
    outcome: str | None = None


async def status(call: Call) -> Any:
    """What runs: revisions, workers, models, engines, shipping."""
    house = call.house
    progress = house.shipper.progress()
    current = house.current()
    peers = sorted(house.bus.peers.items())
    return {
        "config_revision": house.bus.config_revision,
        "config_refused": house.refused or None,
        "key_revision": house.bus.key_revision,
        "workers": [
            {
                "worker": slot,
                "pid": peer.pid,
                "boot": peer.boot,
                "current": slot in current,
                "fault": peer.fault or None,
            }
            for slot, peer in peers
        ],
        "workers_wanted": house.bus.workers,
        "models": [model.id for model in house.config.models],
        "engines": [{"name": engine.name, "url": engine.url, "kind": engine.kind} for engine in house.config.engines],
        "shipping": {
            "lag_bytes": progress.lag_bytes,
            "lag_seconds": progress.lag_seconds,
            "records": progress.records,
        },
    }


async def usage(call: Call) -> Any:
    """Requests, tokens and money from the ledger."""
    house, query = call.house, call.query
    zone = house.config.settings.time_zone
    since, until = ledger.moment(query.since, "since", zone), ledger.moment(query.until, "until", zone)
    by = tuple(part for part in query.by.split(",") if part)
    await house.current_ledger()

    def read(scope: Scope) -> list[ledger.Row]:
        return ledger.usage(
            scope,
            since=since,
            until=until,
            by=by,
            zone=zone,
            keys=None if query.key is None else requests.key_ids(scope, query.key),
            model=requests.wanted(house.config, None, query.model, None).model,
            project=query.project,
        )

    rows = await call.read(read)
    if not rows:
        requests.doubt_model(house.config, query.model)
    if "key" in by:
        rows = [row | {"key_name": house.keys.name(str(row["key"]))} for row in rows]
    lag = house.shipper.progress().lag_bytes if call.actor.may(P.INSTALLATION_READ) else None
    return {"by": by, "zone": zone, "usage": rows, "shipping_lag_bytes": lag}


async def list_requests(call: Call) -> Any:
    """The last requests, or those since a place, and filters."""
    house, query = call.house, call.query
    keys = None
    if query.key is not None:
        keys = await call.read(lambda scope: requests.key_ids(scope, query.key))
    wanted = requests.wanted(house.config, keys, query.model, query.outcome)
    of = requests.of(call.actor, call.organisation)
    if query.after is not None:
        rows, place, missed = house.recent.since(of, query.after)
    else:
        await house.current_ledger()
        _, place, missed = house.recent.since(
            of, None
        )  # before the ledger is read: a row may come twice, none is missed
        rows = await call.read(lambda scope: requests.last(scope, query.limit, wanted))
        if not rows:
            requests.doubt_model(house.config, query.model)
    shown = [requests.shown(row, house.keys.name) for row in rows if wanted.fits(row)]
    return {"requests": shown, "next": place, "missed": missed}


async def show_request(call: Call) -> Any:
    """All that is known of one request."""
    house, reference = call.house, call.path["reference"]
    await house.current_ledger()
    return await call.read(lambda scope: requests.find(scope, reference, house.keys.name, house.config))


async def list_models(call: Call) -> Any:
    """What is served, for how much, and whether it can be."""
    pools = call.actor.may(P.INSTALLATION_READ)
    return {"models": catalogue.models(call.house.config, await call.house.metrics(), pools=pools)}


async def list_engines(call: Call) -> Any:
    """Engines as the workers find them, and their last hour."""
    house = call.house
    await house.current_ledger()
    workers = await house.metrics()
    return {"engines": await house.blocking(lambda: catalogue.engines(house.engine, house.config, workers))}


async def verify_journal(call: Call) -> Any:
    """Checksums and sequence of what is not shipped; one settlement for each intent."""
    house = call.house
    return await house.blocking(lambda: ledger.verify(house.engine, house.data / "journal", house.replica))


async def begin_backup(call: Call) -> Any:
    """Copy the data directory into a folder below it, for `beffroi backup create` to pack."""
    return await call.house.backups.begin(actor=call.actor.id)


async def backup(call: Call) -> Any:
    """How far the copy is."""
    return call.house.backups.state


async def discard_backup(call: Call) -> Any:
    """Remove the copy."""
    await call.house.backups.discard()
    return call.house.backups.state


_JOURNAL = "Checksums and sequence of what is not shipped; one settlement for each intent."
_COPY = "Copy the data directory into a folder below it, for `beffroi backup create` to pack."
OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET", "/status", status, P.INSTALLATION_READ, "What runs: revisions, workers, models, engines, shipping."
    ),
    Operation("GET", "/usage", usage, P.USAGE_READ, "Requests, tokens and money from the ledger.", query=UsageQuery),
    Operation(
        "GET",
        "/requests",
        list_requests,
        P.REQUESTS_READ,
        "The last requests, or those since a place.",
        query=RequestsQuery,
    ),
    Operation("GET", "/requests/{reference}", show_request, P.REQUESTS_READ, "All that is known of one request."),
    Operation("GET", "/models", list_models, P.MODELS_READ, "What is served, for how much, and whether it can be."),
    Operation(
        "GET", "/engines", list_engines, P.INSTALLATION_READ, "Engines as the workers find them, and their last hour."
    ),
    Operation("GET", "/journal/verify", verify_journal, P.INSTALLATION_READ, _JOURNAL),
    Operation("POST", "/backup", begin_backup, None, _COPY, status=202),
    Operation("GET", "/backup", backup, None, "How far the copy is."),
    Operation("DELETE", "/backup", discard_backup, None, "Remove the copy."),
)
