# SPDX-License-Identifier: Apache-2.0
"""Keys on the command line, as an operator sees them: permissions, schedules, rotations, leaks."""

import json
from pathlib import Path
from typing import Any

import httpx

from tests.cli.conftest import Lived, beffroi, look, printed
from tests.cli.test_rotation import make, status
from tests.harness import wait_for


def told(lived: Lived, *arguments: str) -> Any:
    """What a command says in JSON."""
    return json.loads(printed(lived, *arguments, "--json"))


def refused(lived: Lived, *arguments: str) -> str:
    """What a command that fails says."""
    done = beffroi(lived, *arguments)
    assert done.exit_code != 0
    return done.stderr


def test_what_a_key_may_is_said_when_it_is_made_and_changed_while_it_is_used(lived: Lived) -> None:
    """Endpoints and addresses; the change holds from the next request on."""
    key = make(lived, "narrow", "--endpoint", "embeddings", "--address", "10.0.0.0/8", "--owner", "team-a")
    assert status(lived, key) == 403
    assert look(printed(lived, "keys", "update", "narrow", "--address", "all", "--endpoint", "chat")).startswith("key_")
    assert status(lived, key) == 200
    printed(lived, "keys", "update", "narrow", "--concurrency", "3", "--monthly-cap", "5", "--address", "127.0.0.1")
    shown = look(printed(lived, "keys", "show", "narrow"))
    for part in ("endpoints  chat", "addresses  127.0.0.1/32", "owner", "team-a", "at once", "monthly cap"):
        assert part in shown, shown
    printed(lived, "keys", "update", "narrow", "--monthly-cap", "none", "--concurrency", "none")
    assert "It has no limits." in printed(lived, "keys", "show", "narrow")
    assert status(lived, key) == 200
    assert "did you mean 10.0.0.0/8?" in refused(lived, "keys", "update", "narrow", "--address", "10.0.0.1/8")
    assert "say what is to change" in refused(lived, "keys", "update", "narrow")


def test_a_key_is_rotated_by_its_schedule_through_a_link(lived: Lived) -> None:
    """How-to 'rotate keys automatically': schedule, begin, link, fetch."""
    old = make(lived, "scheduled")
    said = printed(lived, "keys", "schedule", "scheduled", "--every", "90d", "--overlap", "1h", "--no-idle")
    assert "is rotated every 90 days; its successor is offered by a link." in said
    assert "no schedule" in refused(lived, "keys", "rotate", "first", "--auto")
    rotation = printed(lived, "keys", "rotate", "scheduled", "--auto").partition(":")[0]
    wait_for(lambda: told(lived, "keys", "rotations", "show", rotation)["state"] == "made", 10, "the successor is made")
    link = printed(lived, "keys", "rotations", "link", rotation).split()[0]
    listed = look(printed(lived, "keys", "rotations", "list"))
    assert rotation in listed and "made" in listed
    fetched = httpx.get(link, trust_env=False)
    assert fetched.status_code == 200 and httpx.get(link, trust_env=False).status_code == 404
    assert (status(lived, old), status(lived, fetched.json()["key"])) == (200, 200)
    shown = look(printed(lived, "keys", "rotations", "show", rotation))
    assert "overlap" in shown and "fetched" in shown
    printed(lived, "keys", "schedule", "scheduled", "--off")


def test_a_rotation_is_given_up(lived: Lived) -> None:
    """Before its successor is delivered; the key goes on."""
    key = make(lived, "hesitant")
    printed(lived, "keys", "schedule", "hesitant", "--every", "30d")
    rotation = printed(lived, "keys", "rotate", "hesitant", "--auto", "--in", "2d").partition(":")[0]
    assert "is given up" in printed(lived, "keys", "rotations", "cancel", rotation)
    assert told(lived, "keys", "rotations", "list", "--state", "cancelled")[-1]["id"] == rotation
    assert status(lived, key) == 200


def test_leaked_keys_are_revoked_wherever_they_stand(lived: Lived, tmp_path: Path) -> None:
    """How-to 'a key has leaked': a dump, standard input, a dry run first; a key of others stays a key of others."""
    leaked, kept = make(lived, "leaked"), make(lived, "kept")
    dump = tmp_path / "dump"
    dump.write_bytes(b"\x00\xff" * 3_000_000 + f'{{"KEY": "{leaked}"}}'.encode("utf-16") + b"\xfe" * 3_000_000)
    said = printed(lived, "keys", "revoke", "--leaked", str(dump), "--dry-run")
    assert "1 found; none was revoked (--dry-run)." in said and "leaked" in said
    assert status(lived, leaked) == 200
    said = printed(lived, "keys", "revoke", "--leaked", str(dump))
    assert "1 revoked: " in said and leaked not in said
    assert (status(lived, leaked), status(lived, kept)) == (401, 200)
    dump.write_text(kept[:-1] + "x")
    assert printed(lived, "keys", "revoke", "--leaked", str(dump)).strip() == "No key of ours was found."


def test_keys_are_revoked_by_what_they_are(lived: Lived) -> None:
    """A dry run shows a table; one key and criteria together make no sense."""
    first, second = (make(lived, name, "--owner", "leaver") for name in ("one", "two"))
    assert "2 found; none was revoked" in printed(lived, "keys", "revoke", "--owner", "leaver", "--dry-run")
    assert "No key of ours was found" in printed(lived, "keys", "revoke", "--owner", "leaver", "--unused", "1d")
    assert "2 revoked" in printed(lived, "keys", "revoke", "--owner", "leaver", "--why", "left the house")
    assert (status(lived, first), status(lived, second)) == (401, 401)
    assert told(lived, "keys", "show", "one")["revoked_why"] == "left the house"
    assert "name one key" in refused(lived, "keys", "revoke")
    assert "name one key" in refused(lived, "keys", "revoke", "one", "--owner", "x")
