# SPDX-License-Identifier: Apache-2.0
"""Fills a data directory with API keys before Beffroi starts on it: thousands without limits, one with every limit set.

In: a folder and a count. Out: the database and the peppers, as the control process makes them; the key with the limits
is printed. The limits are too high to refuse anything: what is measured is the keeping of them.
"""

import argparse
from pathlib import Path

from beffroi.control.keyring import KeyAsk, LimitsAsk, make
from beffroi.control.snapshots import load_peppers
from beffroi.store.engine import open_engine, upgrade

MANY = 1_000_000_000
EVERY = LimitsAsk(
    requests_per_minute=MANY,
    tokens_per_minute=MANY * 1000,
    output_tokens_per_hour=MANY * 1000,
    output_tokens_per_day=MANY * 1000,
    concurrency=100_000,
    hard_budget="1000000",
    soft_budget="1000000",
)


def seed(data: Path, count: int) -> str:
    """Make `count` keys; → the one with every limit set, the last of them."""
    data.mkdir(mode=0o700, parents=True)
    database = data / "beffroi.db"
    database.touch(mode=0o600)
    engine = open_engine(database)
    upgrade(engine)
    peppers = load_peppers(data, create=True)
    newest = max(peppers)
    text = ""
    with engine.begin() as connection:
        for place in range(count):
            limits = EVERY if place == count - 1 else LimitsAsk()
            ask = KeyAsk(name=f"bench {place}", limits=limits)
            text = make(connection, ask, None, (newest, peppers[newest]), actor="control")[1]
    engine.dispose()
    return text


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keys", type=int, default=10_000)
    arguments = parser.parse_args()
    print(seed(arguments.data, arguments.keys))


if __name__ == "__main__":
    main()
