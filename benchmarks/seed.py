# SPDX-License-Identifier: Apache-2.0
"""Fills a data directory with tenants and API keys before Beffroi starts on it; one key has every limit set.

In: a folder, a number of keys and of organisations. Out: the database and the peppers, as the control process makes
them; the key with the limits is printed. Every organisation has a project and two quotas, one on each. The limits are
too high to refuse anything: what is measured is the keeping of them.
"""

import argparse
import time
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, insert

from beffroi.control.keyring import make
from beffroi.control.keyshapes import KeyAsk, LimitsAsk
from beffroi.control.snapshots import load_peppers
from beffroi.control.tenancy.scope import CONTROL, Scope
from beffroi.core.ids import new_id
from beffroi.core.key import key_hash, new_key
from beffroi.store.administration import quota_terms, quotas
from beffroi.store.engine import open_engine, upgrade
from beffroi.store.tables import keys, organisations, projects

MANY = 1_000_000_000
MONEY = ("hard_budget", "soft_budget", "monthly_cap")
EVERY = LimitsAsk(
    **{name: MANY * 1000 for name in LimitsAsk.__struct_fields__ if "_per_" in name and name not in MONEY},  # type: ignore[arg-type]
    **dict.fromkeys(MONEY, "1000000"),  # type: ignore[arg-type]
    concurrency=100_000,
)
Row = dict[str, Any]


def seed(data: Path, count: int, tenants: int = 0) -> str:
    """Make `count` keys, in `tenants` organisations if any; → the one with every limit set, in the first of them."""
    data.mkdir(mode=0o700, parents=True)
    database = data / "beffroi.db"
    database.touch(mode=0o600)
    engine = open_engine(database)
    upgrade(engine)
    peppers = load_peppers(data, create=True)
    newest = max(peppers)
    names = [f"org-{number}" for number in range(tenants)]
    with engine.begin() as connection:
        _tenants(connection, names, first_slot=count)
        homes = [(name, "main") for name in names] or [("default", "default")]
        rows = (_key(place, *homes[place % len(homes)], newest, peppers[newest]) for place in range(count - 1))
        while those := list(islice(rows, 5000)):
            connection.execute(insert(keys), those)
        scope = Scope(connection, CONTROL, homes[0][0])
        text = make(scope, KeyAsk(name="bench", limits=EVERY, project=homes[0][1]), None, (newest, peppers[newest]))[1]
    engine.dispose()
    return text


def _key(place: int, organisation: str, project: str, pepper_id: int, pepper: bytes) -> Row:
    made, now = new_key(), int(time.time())
    return {
        "id": new_id("key"), "public": made.public, "hash": key_hash(made.text, pepper), "pepper_id": pepper_id, "slot": place,
        "organisation": organisation, "project": project, "name": f"bench {place}", "models": None, "expires_at": now + 86_400 * 300,
        "revoked": False, "limits": {}, "created_at": now, "created_by": "control", "addresses": [],
    }  # fmt: skip


def _tenants(connection: Connection, names: list[str], first_slot: int) -> None:
    if not names:
        return
    now, limits = int(time.time()), msgspec.to_builtins(EVERY.limits())
    connection.execute(insert(organisations), [{"id": name, "name": name, "created_at": now} for name in names])
    homes = [{"organisation": name, "id": "main", "name": "Main", "created_at": now} for name in names]
    connection.execute(insert(projects), homes)
    scopes = [{"organisation": name, "project": project} for name in names for project in ("", "main")]
    made = [
        scope | {"id": new_id("quo"), "slot": first_slot + 1 + place, "each_end_user": False, "created_at": now}
        for place, scope in enumerate(scopes)
    ]
    connection.execute(insert(quotas), made)
    terms = [{"quota": row["id"], "since": 0, "organisation": row["organisation"], "limits": limits} for row in made]
    connection.execute(insert(quota_terms), terms)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument(
        "--tenants", type=int, default=0, help="organisations that share the keys (default: none but the first)"
    )
    arguments = parser.parse_args()
    print(seed(arguments.data, arguments.keys, arguments.tenants))


if __name__ == "__main__":
    main()
