# SPDX-License-Identifier: Apache-2.0
"""A key is rotated under use: no limit and no budget is doubled by it, and the old one stops when it was told to."""

import re
import time

from tests.cli.conftest import Lived, beffroi, look, printed
from tests.harness import wait_for


def make(lived: Lived, name: str, *options: str) -> str:
    """A new key."""
    return printed(lived, "keys", "create", name, *options).split()[0]


def rotate(lived: Lived, name: str, *options: str) -> str:
    """Its successor."""
    done = beffroi(lived, "keys", "rotate", name, *options)
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def status(lived: Lived, key: str) -> int:
    """Of one small request."""
    return lived.served.chat("hello", key=key, model="small", max_tokens=2).status


def test_both_keys_together_get_what_one_got(lived: Lived) -> None:
    """Four requests a minute are four, whoever asks; the successor's successor counts with them."""
    old = make(lived, "limited", "--requests-per-minute", "4")
    assert [status(lived, old) for _ in range(2)] == [200, 200]
    new = rotate(lived, "limited")
    newest = rotate(lived, "limited")
    assert [status(lived, key) for key in (new, newest, old, new, newest)] == [200, 200, 429, 429, 429]
    used = look(printed(lived, "keys", "show", "limited"))
    assert "requests/min  4  4  0  ██████████ 100%" in used
    assert "Keys that were rotated from one another count together." in used


def test_a_budget_is_spent_by_both(lived: Lived) -> None:
    """What the old key spent is not there for the new one, nor after a restart of everything."""
    old = make(lived, "thrifty", "--soft-budget", "0.00004")
    assert [status(lived, old) for _ in range(2)] == [200, 200]  # 11.6 millionths each
    new = rotate(lived, "thrifty")
    assert (status(lived, new), status(lived, new), status(lived, old)) == (200, 429, 429)
    lived.rows()  # the ledger has all of it
    lived.served.stop()
    (lived.data / "counters.bin").unlink()  # all that is left is the ledger
    lived.served.start()
    wait_for(lambda: "0.0000348 EUR" in printed(lived, "keys", "show", "thrifty"), 15, "the budget follows the ledger")
    assert (status(lived, new), status(lived, old)) == (429, 429)


def test_the_old_key_stops_when_its_overlap_ends(lived: Lived) -> None:
    """Workers look at the clock themselves: nobody has to tell them."""
    old = make(lived, "brief")
    began = time.time()
    new = rotate(lived, "brief", "--overlap", "4s")
    assert (status(lived, old), status(lived, new)) == (200, 200)
    wait_for(lambda: status(lived, old) == 401, 8, "the old key is refused")
    assert time.time() - began > 2.9  # whole seconds
    assert status(lived, new) == 200
    states = [line.split()[2] for line in printed(lived, "keys", "list").splitlines() if line.startswith("brief")]
    assert states == ["expired", "active"]


def test_without_an_overlap_it_stops_at_once(lived: Lived) -> None:
    """When the command returns, every worker refuses the old key."""
    old = make(lived, "at-once")
    done = beffroi(lived, "keys", "rotate", "at-once", "--overlap", "0")
    new = done.stdout.strip()
    assert re.search(rf"follows {old[:15]}-…, which is refused from now on", done.stderr)
    assert {status(lived, old) for _ in range(4)} == {401} and status(lived, new) == 200


def test_revoking_by_name_ends_both(lived: Lived) -> None:
    """During the overlap."""
    old = make(lived, "both")
    new = rotate(lived, "both")
    assert "which it was rotated from: all 2 workers refuse it" in printed(lived, "keys", "revoke", "both")
    assert (status(lived, old), status(lived, new)) == (401, 401)


def test_an_overlap_is_a_span_of_time(lived: Lived) -> None:
    """With its unit; thirty days at most."""
    for wrong in ("5", "soon", "31d", "-1h"):
        done = beffroi(lived, "keys", "rotate", "billing", f"--overlap={wrong}")
        assert done.exit_code == 2 and done.stdout == "", wrong
