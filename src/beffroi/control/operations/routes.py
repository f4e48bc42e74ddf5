# SPDX-License-Identifier: Apache-2.0
"""Operations on long work, and on the key that seals secrets.

In: calls. Out: how far it is.
"""

from functools import partial

import msgspec

from beffroi.control.api.operation import Call, Listed, Operation
from beffroi.control.operations import service
from beffroi.control.operations.shapes import Work
from beffroi.control.tenancy.permissions import Permission
from beffroi.control.tenancy.scope import Scope
from beffroi.core.errors import Conflict
from beffroi.store.vault import VaultError


async def list_(call: Call) -> Listed[Work]:
    """A page of it."""
    rows = await call.read(lambda scope: service.listed(scope, call.page))
    return call.listed(rows, lambda row: call.house.operations.progress(service.shown(row)), "id")


async def show(call: Call) -> Work:
    """One."""
    row = await call.read(lambda scope: service.find(scope, call.path["id"]))
    return call.house.operations.progress(service.shown(row))


async def begin_backup(call: Call) -> Work:
    """Copy the data directory; the copy is in `result`."""
    backups = call.house.backups
    copy = await backups.begin(actor=call.actor.id, door=call.actor.door)
    follow = partial(backups.follow, copy["id"])
    return await call.house.operations.begin(call.actor, call.organisation, "backup", follow)


class VaultKey(msgspec.Struct, frozen=True):
    """The key that seals from now on, by its id; never the key."""

    id: str


async def rotate_vault(call: Call) -> VaultKey:
    """One act: the event is there if the key is, and the other way round but for a crash between the two."""

    def act(scope: Scope) -> VaultKey:
        try:
            made = call.house.vault.rotate()
        except VaultError as error:
            raise Conflict(str(error)) from None
        scope.record("vault:rotate", made)
        return VaultKey(made)

    return await call.act(act)


_READ = Permission.OPERATIONS_READ
OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/operations", list_, _READ, "Long work, done or under way.", answer=Work, paged=True),
    Operation("GET", "/operations/{id}", show, _READ, "One, and how far it is.", answer=Work),
    Operation(
        "POST",
        "/backups",
        begin_backup,
        Permission.INSTALLATION_WRITE,
        "Copy the data directory into a folder below it, as `beffroi backup create` does before it packs.",
        answer=Work,
        status=202,
    ),
    Operation(
        "POST",
        "/vault-keys",
        rotate_vault,
        Permission.INSTALLATION_WRITE,
        "Make a new key for `vault.key`; what is sealed from now on is sealed with it, what was sealed opens still.",
        answer=VaultKey,
        status=201,
    ),
)
