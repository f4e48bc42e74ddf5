# SPDX-License-Identifier: Apache-2.0
"""What a plan says: nothing where nothing is to do, each field that differs, and only what may be taken away."""

from typing import Any

import msgspec

from beffroi.config import tenants
from beffroi.control.declare.diff import compare, fingerprint
from beffroi.control.declare.state import Ref, Thing, wanted

ZONE = "Europe/Paris"


def things(**organisation: Any) -> list[Thing]:
    """What a file with one organisation wants."""
    return wanted(tenants.take({"organisations": [{"id": "acme", **organisation}]}).sound(), ZONE)


def there(those: list[Thing], **values: Any) -> list[Thing]:
    """The same as if they were there."""
    return [
        msgspec.structs.replace(one, **{"id": "x", "revision": 1, "managed_by": "apply", **values}) for one in those
    ]


def test_what_is_as_it_is_wanted_is_not_to_be_changed() -> None:
    those = things(projects=[{"id": "chat"}], keys=[{"name": "a", "limits": {"hard_budget": "10.50"}}])
    assert compare(those, there(those)).changes == ()
    assert compare(those, there(those)).unchanged == 3


def test_an_amount_is_the_same_however_it_is_written() -> None:
    one, other = (things(keys=[{"name": "a", "limits": {"hard_budget": text}}]) for text in ("10.50", 10.5))
    assert compare(one, there(other)).changes == ()


def test_each_field_that_differs_is_named_and_limits_one_by_one() -> None:
    before = things(keys=[{"name": "a", "models": ["x"], "limits": {"concurrency": 2, "requests_per_minute": 9}}])
    after = things(keys=[{"name": "a", "limits": {"concurrency": 3}}])
    (change,) = compare(after, there(before)).changes
    assert [(one.name, one.before, one.after) for one in change.fields] == [
        ("models", ["x"], None),
        ("limits.concurrency", 2, 3),
        ("limits.requests_per_minute", 9, None),
    ]


def test_the_end_of_a_key_stays_where_the_file_does_not_say_it() -> None:
    after = things(keys=[{"name": "a"}])
    held = [
        msgspec.structs.replace(one, fields={**one.fields, "expires": 5}) if one.ref.kind == "key" else one
        for one in there(after)
    ]
    assert compare(after, held).changes == ()
    assert len(compare(things(keys=[{"name": "a", "expires": "2030-01-01"}]), held).changes) == 1


def test_what_nobody_keeps_is_adopted_when_told_and_what_the_configuration_keeps_never() -> None:
    those = things()
    assert compare(those, there(those, managed_by="")).changes == ()
    (change,) = compare(those, there(those, managed_by=""), adopt=True).changes
    assert change.act == "update" and change.adopted and not change.fields
    renamed = things(name="Other")
    assert compare(those, there(those, managed_by="file")).changes == ()
    difference = compare(renamed, there(those, managed_by="file"))
    assert difference.changes == () and "kept by the configuration file" in difference.obstacles[0].message


def test_what_the_operator_set_is_changed_by_the_operator_alone() -> None:
    those = things(quotas=[{"limits": {"concurrency": 1}}])
    held = there(things(quotas=[{"limits": {"concurrency": 2}}]), managed_by="house")
    assert "by the operator" in compare(those, held).obstacles[0].message
    assert len(compare(those, held, operator=True).changes) == 1
    applied = there(things(quotas=[{"limits": {"concurrency": 2}}]), managed_by="apply:house")
    assert compare(things(), applied, prune=True).changes == ()
    assert len(compare(things(), applied, prune=True, operator=True).changes) == 1


def test_only_prune_takes_away_and_only_what_apply_made_where_the_file_speaks() -> None:
    held = there(things(members=[{"email": "a@b", "role": "viewer"}], projects=[{"id": "old"}]))
    by_hand = msgspec.structs.replace(held[0], ref=Ref("member", "acme", ("", "c@d")), managed_by="")
    elsewhere = msgspec.structs.replace(held[0], ref=Ref("member", "other", ("", "e@f")))
    everything = [*held, by_hand, elsewhere]
    assert compare(things(), everything).changes == () and compare(things(), everything).left == 2
    changes = compare(things(), everything, prune=True).changes
    assert [(one.act, one.thing.ref.kind) for one in changes] == [("delete", "member"), ("update", "project")]
    assert changes[1].fields[0].after == "suspended"


def test_a_project_that_was_pruned_is_not_pruned_again() -> None:
    held = there(things(projects=[{"id": "old", "state": "suspended"}]))
    assert compare(things(), held, prune=True).changes == ()


def test_what_others_need_is_made_first_and_taken_away_last() -> None:
    those = things(
        quotas=[{"project": "p", "limits": {"concurrency": 1}}], projects=[{"id": "p"}], keys=[{"name": "k"}]
    )
    assert [one.thing.ref.kind for one in compare(those, []).changes] == ["organisation", "project", "key", "quota"]
    gone = compare(things(), there(those), prune=True).changes
    assert [one.thing.ref.kind for one in gone] == ["quota", "key", "project"]


def test_the_sum_over_what_is_there_tells_any_change() -> None:
    held = there(things(projects=[{"id": "p"}]))
    assert fingerprint(held) == fingerprint(reversed(held))
    changed = [msgspec.structs.replace(held[0], revision=2), *held[1:]]
    assert fingerprint(held) != fingerprint(changed)
