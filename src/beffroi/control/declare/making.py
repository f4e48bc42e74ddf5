# SPDX-License-Identifier: Apache-2.0
"""Makes one change, through the service of its kind: what the admin API refuses, a file is refused as well.

In: a change and the scope of its organisation. Out: rows as wanted, kept by `apply`; keys just made. Blocking.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Row, Table

from beffroi.control.declare.diff import APPLY, APPLY_HOUSE, HOUSE_KEPT, Change
from beffroi.control.declare.shapes import Secret
from beffroi.control.declare.state import Fields, Thing, under
from beffroi.control.keyring import Pepper
from beffroi.control.tenancy import members, organisations, projects, systems
from beffroi.control.tenancy.permissions import Permission
from beffroi.control.tenancy.scope import Scope
from beffroi.control.tenancy.shapes import (
    AccountAsk,
    AccountChange,
    MemberAsk,
    MemberChange,
    OrganisationAsk,
    OrganisationChange,
    Policy,
    ProjectAsk,
    ProjectChange,
    SystemAsk,
    SystemChange,
)
from beffroi.control.webhooks import service as webhooks
from beffroi.control.webhooks.shapes import WebhookAsk, WebhookChange
from beffroi.core.errors import BadRequest
from beffroi.core.snapshot import Config
from beffroi.store import administration as a
from beffroi.store import tables as t
from beffroi.store.vault import Vault

ACTIVE, SUSPENDED = "active", "suspended"
_ADOPTS = {  # to have something kept by a file is to keep everybody else from changing it
    "organisation": Permission.ORGANISATION_WRITE,
    "project": Permission.PROJECTS_WRITE,
    "member": Permission.MEMBERS_WRITE,
    "service account": Permission.SERVICE_ACCOUNTS_WRITE,
    "AI system": Permission.SYSTEMS_WRITE,
    "key": Permission.KEYS_WRITE,
    "quota": Permission.QUOTAS_WRITE,
    "webhook": Permission.WEBHOOKS_WRITE,
}


class Work:
    """What the changes of one `apply` share.

    Args:
        known: from names of models to their ids; begin: opens the counters of a slot.

    Attributes:
        secrets_to: where the keys of things go, by what they are called.
        secrets: keys made; rows: rows of `keys` that gateways must be told; quotas: ids of those.
    """

    def __init__(
        self,
        *,
        config: Config,
        pepper: Pepper,
        known: Callable[[list[str] | None], list[str] | None],
        begin: Callable[[int], None],
        vault: Vault,
        now: int,
    ) -> None:
        self.config = config
        self.pepper = pepper
        self.known = known
        self.begin = begin
        self.vault = vault
        self.now = now
        self.secrets_to: dict[str, str] = {}
        self.secrets: list[Secret] = []
        self.rows: list[Row[Any]] = []
        self.quotas: list[str] = []

    def made(self, thing: Thing, identifier: str, text: str) -> None:
        """A secret to be told once."""
        to = self.secrets_to.get(thing.label)
        self.secrets.append(Secret(thing.ref.kind, str(thing.ref), identifier, text, to))


class Kind(NamedTuple):
    """How things of one kind are made. `update` gets the fields that change; `adopt`: whether `apply` keeps it then."""

    create: Callable[[Work, Scope, Thing], str]
    update: Callable[[Work, Scope, Change, Fields], None]
    delete: Callable[[Work, Scope, Thing], None]
    table: Table | None


def make(work: Work, scope: Scope, change: Change, kinds: dict[str, Kind]) -> None:
    """Make one change. Raises what the service of its kind does."""
    kind = kinds[change.thing.ref.kind]
    if change.wanted is None:
        kind.delete(work, scope, change.thing)
        return
    if change.held is None:
        kind.create(work, scope, change.wanted)
        return
    fields = {field.name: field.after for field in change.fields}
    if change.adopted and kind.table is not None:
        scope.need(_ADOPTS[change.thing.ref.kind])
        row = scope.find(kind.table, change.held.id, change.held.ref.kind)
        mine = APPLY_HOUSE if change.held.managed_by == HOUSE_KEPT else APPLY
        scope.revise(kind.table, row, anyone=True, managed_by=mine)
    if fields:
        kind.update(work, scope, change, fields)


# --- organisations and projects ----------------------------------------------------------------------------------------


def _policy(fields: Fields) -> Policy:
    return msgspec.convert(under("policy", fields), Policy)


def _new_organisation(_: Work, scope: Scope, thing: Thing) -> str:
    identifier, fields = thing.ref.organisation, thing.fields
    organisations.create(
        scope, OrganisationAsk(name=fields.get("name", identifier), id=identifier, policy=_policy(fields))
    )
    if fields["state"] == SUSPENDED:
        with scope.within(identifier) as inner:
            organisations.suspend(inner, identifier)
    return identifier


def _organisation(_: Work, scope: Scope, change: Change, fields: Fields) -> None:
    identifier = change.thing.ref.organisation
    said: dict[str, Any] = {"name": fields["name"]} if "name" in fields else {}
    if change.wanted is not None and any(name.startswith("policy.") for name in fields):
        said["policy"] = _policy(change.wanted.fields)
    if said:
        organisations.change(scope, identifier, OrganisationChange(**said))
    if "state" in fields:
        turn = organisations.suspend if fields["state"] == SUSPENDED else organisations.resume
        turn(scope, identifier)


def _new_project(_: Work, scope: Scope, thing: Thing) -> str:
    identifier = thing.ref.name[0]
    projects.create(scope, ProjectAsk(name=thing.fields.get("name", identifier), id=identifier))
    if thing.fields["state"] == SUSPENDED:
        projects.suspend(scope, identifier)
    return identifier


def _project(_: Work, scope: Scope, change: Change, fields: Fields) -> None:
    identifier = change.thing.ref.name[0]
    if "name" in fields:
        projects.change(scope, identifier, ProjectChange(name=fields["name"]))
    if "state" in fields:
        turn = projects.suspend if fields["state"] == SUSPENDED else projects.resume
        turn(scope, identifier)


def _never(_: Work, __: Scope, thing: Thing) -> None:
    raise BadRequest(f"the {thing.ref.kind} {thing.ref} is not taken away by a file; suspend it")


# --- members, service accounts, AI systems ------------------------------------------------------------------------------


def _new_member(_: Work, scope: Scope, thing: Thing) -> str:
    project, email = thing.ref.name
    fields = thing.fields
    made = members.create(
        scope, as_ask(MemberAsk, email=email, role=fields["role"], name=fields["name"], project=project)
    )
    if fields["state"] == SUSPENDED:
        members.change(scope, made.id, MemberChange(state=SUSPENDED))
    return str(made.id)


def _member(_: Work, scope: Scope, change: Change, fields: Fields) -> None:
    members.change(scope, _id(change), as_ask(MemberChange, **fields))


def _no_member(_: Work, scope: Scope, thing: Thing) -> None:
    members.remove(scope, members.MEMBER, thing.id)


def _new_account(_: Work, scope: Scope, thing: Thing) -> str:
    fields = thing.fields
    ask = as_ask(AccountAsk, name=thing.ref.name[0], role=fields["role"], project=fields["project"])
    made = members.create(scope, ask)
    if fields["state"] == SUSPENDED:
        members.change(scope, made.id, AccountChange(state=SUSPENDED))
    return str(made.id)


def _account(_: Work, scope: Scope, change: Change, fields: Fields) -> None:
    _must_stay(change, fields)
    members.change(scope, _id(change), as_ask(AccountChange, **fields))


def _no_account(_: Work, scope: Scope, thing: Thing) -> None:
    members.remove(scope, members.ACCOUNT, thing.id)


def _new_system(work: Work, scope: Scope, thing: Thing) -> str:
    said = {name: value for name, value in thing.fields.items() if name != "state"}
    made = systems.create(scope, as_ask(SystemAsk, name=thing.ref.name[0], **said), work.config)
    if thing.fields["state"] == SUSPENDED:
        systems.change(scope, made.id, SystemChange(state=SUSPENDED), work.config)
    return made.id


def _system(work: Work, scope: Scope, change: Change, fields: Fields) -> None:
    _must_stay(change, fields)
    systems.change(scope, _id(change), as_ask(SystemChange, **fields), work.config)


def _no_system(_: Work, scope: Scope, thing: Thing) -> None:
    systems.remove(scope, thing.id)


# --- webhooks ----------------------------------------------------------------------------------------------------------


def _new_webhook(work: Work, scope: Scope, thing: Thing) -> str:
    scope.need(Permission.WEBHOOKS_WRITE)
    ask = as_ask(WebhookAsk, url=thing.ref.name[0], events=thing.fields["events"])
    made = webhooks.create(scope, ask, work.vault)
    if thing.fields["state"] != ACTIVE:
        webhooks.change(scope, made.id, WebhookChange(state=thing.fields["state"]))
    work.made(thing, made.id, made.secret)
    return made.id


def _webhook(_: Work, scope: Scope, change: Change, fields: Fields) -> None:
    scope.need(Permission.WEBHOOKS_WRITE)
    webhooks.change(scope, _id(change), as_ask(WebhookChange, **fields))


def _no_webhook(_: Work, scope: Scope, thing: Thing) -> None:
    scope.need(Permission.WEBHOOKS_WRITE)
    webhooks.remove(scope, thing.id)


def _must_stay(change: Change, fields: Fields) -> None:
    if "project" in fields:
        said = f"the {change.thing.ref.kind} {change.thing.ref} stays in the project that it was made in"
        raise BadRequest(f"{said}; give the new one another name", param="project")


def _id(change: Change) -> str:
    return "" if change.held is None else change.held.id


def as_ask(kind: type[Any], **said: Any) -> Any:
    """What is said as the struct that a service takes, with its own bounds.

    Raises:
        BadRequest: it does not fit.
    """
    try:
        return msgspec.convert(said, kind)
    except msgspec.ValidationError as error:
        raise BadRequest(f"what the file says cannot be kept: {error}") from None


TENANTS: dict[str, Kind] = {
    "organisation": Kind(_new_organisation, _organisation, _never, t.organisations),
    "project": Kind(_new_project, _project, _never, t.projects),
    "member": Kind(_new_member, _member, _no_member, a.members),
    "service account": Kind(_new_account, _account, _no_account, a.service_accounts),
    "AI system": Kind(_new_system, _system, _no_system, a.ai_systems),
    "webhook": Kind(_new_webhook, _webhook, _no_webhook, a.webhooks),
}
