# SPDX-License-Identifier: Apache-2.0
"""What an organisation's policy means for its keys: how long they live, whence they are used, when they are rotated.

In: `organisations.policy`. Out: answers for one key. The operator may make keys that live longer; nobody else may.
"""

from ipaddress import IPv4Network, IPv6Network, ip_network

import msgspec
from sqlalchemy import Row

from beffroi.control.keyshapes import DAY
from beffroi.control.rotation.shapes import MONTH, Schedule
from beffroi.control.tenancy.permissions import Role
from beffroi.control.tenancy.scope import Scope
from beffroi.control.tenancy.shapes import Policy
from beffroi.core.errors import BadRequest, PermissionDenied
from beffroi.store.tables import organisations

GRACE = 1  # day that twelve months may be longer than 365 of them


def policy_of(scope: Scope) -> Policy:
    """The policy of the scope's organisation."""
    kept = scope.connection.scalar(scope.select(organisations, organisations.c.policy))
    return msgspec.convert(kept or {}, Policy)


def end_of(scope: Scope, policy: Policy, since: int, now: int, days: int | None, *, long_lived: bool) -> int | None:
    """When a key ends.

    Args:
        policy: of the scope's organisation.
        since: when it was made, from which its longest life counts; days: from now on; None: as long as may be.

    Raises:
        BadRequest: longer than the policy allows. PermissionDenied: long-lived, and not by the operator.
    """
    if long_lived:
        if scope.actor.role is not Role.OPERATOR:
            raise PermissionDenied(
                "only the operator makes long-lived keys; an owner can change `max_key_days` of the organisation's policy",
                param="long_lived",
            )
        return None if days is None else now + days * DAY
    most = policy.max_key_days
    if days is None:
        return since + most * DAY
    if now + days * DAY > since + (most + GRACE) * DAY:
        span = "twelve months" if most == 365 else f"{most} days"
        raise BadRequest(
            f"a key of this organisation lives {span} at most, unless the operator makes it as long-lived",
            param="expires_in_days",
        )
    return now + days * DAY


def addresses_of(policy: Policy, asked: list[str]) -> list[str]:
    """The networks of a key: what was asked, within those of the policy; those where nothing was asked.

    Args:
        asked: in their one spelling.

    Raises:
        BadRequest: one lies outside.
    """
    allowed = policy.addresses
    if not allowed or not asked:
        return asked or list(allowed)
    around = [ip_network(text) for text in allowed]
    for text in asked:
        network = ip_network(text)
        if not any(_within(network, each) for each in around):
            raise BadRequest(
                f"the policy of this organisation allows {', '.join(allowed)}, and {text} lies outside",
                param="addresses",
            )
    return asked


def _within(inner: IPv4Network | IPv6Network, outer: IPv4Network | IPv6Network) -> bool:
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network):
        return inner.subnet_of(outer)
    return False


def schedule_of(scope: Scope, key: Row[object]) -> Schedule | None:
    """The schedule of a key: its own, else that of its organisation's policy."""
    if key.rotation is not None:
        return msgspec.convert(key.rotation, Schedule)
    return schedule_by(policy_of(scope))


def schedule_by(policy: Policy) -> Schedule | None:
    """What a policy says of every key without a schedule of its own."""
    if policy.rotate_every_days is None:
        return None
    overlap = min(policy.rotation_overlap_hours * 3600, MONTH)
    return Schedule(every_days=policy.rotate_every_days, overlap_seconds=overlap)
