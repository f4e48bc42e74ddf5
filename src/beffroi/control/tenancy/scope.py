# SPDX-License-Identifier: Apache-2.0
"""The only way to rows of tenants: every statement begins here and has its organisation in it already.

In: a connection, who acts, the organisation acted on. Out: statements that reach nothing of another organisation, nor of
another project where the role is narrowed to one; events of what was done.
A table is reached only if `statements.HOW` says how; on PostgreSQL row-level security says the same once more (0003).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Engine,
    Insert,
    Row,
    Select,
    Table,
    Update,
    and_,
    delete,
    or_,
    select,
    text,
    true,
)

from beffroi.control import events
from beffroi.control.tenancy.permissions import Permission, Role, allowed
from beffroi.control.tenancy.statements import HOW, How, TenantInsert, TenantUpdate
from beffroi.core.errors import BadRequest, Conflict, ObjectNotFound, PermissionDenied, PreconditionFailed
from beffroi.store import tables as t
from beffroi.store.engine import reading
from beffroi.store.tables import DEFAULT

_SAID = "beffroi.organisation"
_SAY = text(f"SELECT set_config('{_SAID}', :name, true)")
EVERY = events.HOUSE  # of an operator: all organisations; of a row: the house's own


class Actor(msgspec.Struct, frozen=True):
    """Who acts.

    Attributes:
        id: `adk_…`, `mem_…`, `cli`, `control`, `file`; name: for people who read events.
        organisation: the only one it may reach; `*`: every one (role operator).
        project: the only one it may reach; empty: all of the organisation's.
        door: the first word of its events: `cli`, `api`, `apply`, `file`, `control`.
        only: of an admin key with scopes: nothing but these.
    """

    id: str
    name: str
    role: Role
    organisation: str
    project: str = ""
    door: str = "api"
    only: frozenset[Permission] | None = None

    @property
    def permissions(self) -> frozenset[Permission]:
        """All that it may do in its organisation."""
        return allowed(self.role, narrowed=bool(self.project), only=self.only)

    def acts_in(self, asked: str | None) -> str:
        """The organisation acted on: its own; an operator's is the one that he names, or `default`.

        Raises:
            PermissionDenied: it may not act there.
        """
        if self.organisation == EVERY:
            return DEFAULT if asked is None else asked
        if asked not in (None, self.organisation):
            raise PermissionDenied(f"{self.name} may act in the organisation `{self.organisation}` alone")
        return self.organisation

    def may(self, permission: Permission) -> bool:
        """Whether it may do that."""
        return permission in self.permissions

    def need(self, permission: Permission) -> None:
        """Refuse what it may not.

        Raises:
            PermissionDenied: the sentence names the permission.
        """
        if not self.may(permission):
            narrowed = f" in the project `{self.project}`" if self.project else ""
            raise PermissionDenied(f"this needs the permission `{permission}`, which {self.role}{narrowed} has not")


SOCKET = Actor("cli", "cli", Role.OPERATOR, EVERY, door="cli")
CONTROL = Actor("control", "control", Role.OPERATOR, EVERY, door="control")


class Scope:
    """One transaction of one actor in one organisation.

    Args:
        connection: a transaction that has begun, or will with the first statement.
        organisation: the one acted on; `*`: every one, for operators only.
        keeper: whose things are changed: `file`, `apply`, or empty for what people keep by hand.

    Raises:
        PermissionDenied: the actor is of another organisation.
    """

    def __init__(self, connection: Connection, actor: Actor, organisation: str, *, keeper: str = "") -> None:
        self.connection = connection
        self.actor = actor
        self.organisation = actor.acts_in(organisation)
        self.keeper = keeper
        self._announce()

    def _announce(self) -> None:
        """Tell PostgreSQL which organisation its row-level security is to show until the transaction ends."""
        connection = self.connection
        if connection.dialect.name != "postgresql":
            return
        said = connection.info.get(_SAID)  # a transaction begins with all of them; see `store.server`
        now = EVERY if said is None or said[0] is not connection.get_transaction() else said[1]
        if now != self.organisation:
            connection.execute(_SAY, {"name": self.organisation})  # SET LOCAL, with the name as a parameter
            connection.info[_SAID] = (connection.get_transaction(), self.organisation)

    def need(self, permission: Permission) -> None:
        """As `Actor.need`."""
        self.actor.need(permission)

    def need_one(self, permission: Permission) -> None:
        """As `need`, for what is done in one organisation.

        Raises:
            BadRequest: the scope is one of all.
        """
        self.need(permission)
        if self.organisation == EVERY:
            raise BadRequest("this is done in one organisation; name it", param="organisation")

    @contextmanager
    def within(self, organisation: str) -> Iterator["Scope"]:
        """The same transaction and actor, in one organisation: how a job that looks at all acts on each."""
        try:
            yield Scope(self.connection, self.actor, organisation, keeper=self.keeper)
        finally:
            self._announce()

    def condition(self, table: Table, *, write: bool = False) -> ColumnElement[bool]:
        """What a row must fulfil; for joins, where `select` is not enough.

        Raises:
            PermissionDenied: the actor is narrowed to one project, and the table concerns all of them.
        """
        how = HOW[table]
        parts: list[ColumnElement[bool]] = [true()]
        if self.organisation != EVERY:
            column = table.c[how.organisation]
            own: ColumnElement[bool] = column == self.organisation
            parts.append(or_(own, column == EVERY) if how.house and not write else own)
        if how.own:
            parts.append(table.c[how.own] == self.actor.id)
        if self.actor.project:
            parts += self._narrowed(table, how, write)
        return and_(*parts)

    def _narrowed(self, table: Table, how: How, write: bool) -> Iterator[ColumnElement[bool]]:
        if how.project:
            yield table.c[how.project] == self.actor.project
        if how.maker:
            yield table.c[how.maker] == self.actor.id
        if how.through is not None:
            column, parent, there = how.through
            yield table.c[column].in_(select(parent.c[there]).where(self.condition(parent)))
        if how.closed and (write or not how.read):
            raise self._for_all()

    def _for_all(self) -> PermissionDenied:
        return PermissionDenied(f"this concerns the whole organisation, and {self.actor.name} acts in one project")

    def select(self, table: Table, *columns: ColumnElement[Any]) -> Select[Any]:
        """`select(*columns)`, or every column, from what may be seen of a table."""
        return select(*(columns or (table,))).select_from(table).where(self.condition(table))

    def insert(self, table: Table, organisation: str | None = None) -> Insert:
        """An insert with its organisation in it.

        Args:
            organisation: in a scope of all, whose row it is; `*`: the house's own.
        """
        how = HOW[table]
        every = self.organisation == EVERY
        mine = organisation if every else self.organisation
        if mine is None:
            raise BadRequest("this is done in one organisation; name it", param="organisation")
        if how.organisation == "id" and not every:
            raise TypeError(f"a row of {table.name} is not made like that: whose is it?")
        if self.actor.project and how.closed:
            raise self._for_all()
        statement = TenantInsert(table)
        statement.project = self.actor.project
        set_: dict[str, str] = {} if how.organisation == "id" else {how.organisation: mine}
        if self.actor.project and how.project not in ("", "id"):
            set_[how.project] = self.actor.project
        return Insert.values(statement, set_) if set_ else statement

    def update(self, table: Table) -> Update:
        """An update of what may be changed."""
        statement = TenantUpdate(table)
        statement.project = self.actor.project
        return statement.where(self.condition(table, write=True))

    def delete(self, table: Table) -> Delete:
        """A deletion of what may be changed."""
        return delete(table).where(self.condition(table, write=True))

    def project(self, wanted: str) -> str:
        """The project that a new thing gets: what was asked, or the only one that the actor reaches.

        Raises:
            PermissionDenied: it is another than the actor's. ObjectNotFound: there is none of that name.
        """
        if self.actor.project:
            if wanted not in ("", self.actor.project):
                raise PermissionDenied(f"{self.actor.name} may act in the project `{self.actor.project}` alone")
            return self.actor.project
        if wanted:
            self.find(t.projects, wanted, "project")
        return wanted

    def find(self, table: Table, identifier: str, called: str) -> Row[Any]:
        """One row by its id.

        Args:
            called: what it is, for the sentence.

        Raises:
            ObjectNotFound: there is none that this actor may see, whether there is one or not.
        """
        rows = self.connection.execute(self.select(table).where(table.c.id == identifier)).all()
        if not rows:
            raise ObjectNotFound(f"there is no {called} `{identifier}`", param="id")
        if len(rows) > 1:
            raise BadRequest(f"several organisations have a {called} `{identifier}`; name one", param="organisation")
        return rows[0]

    def revise(
        self, table: Table, row: Row[Any], *, if_match: int | None = None, anyone: bool = False, **values: Any
    ) -> Row[Any]:
        """Change a row that was found, and give it the next revision; what it is then.

        Args:
            if_match: the revision that must be there.
            anyone: what a file keeps may be changed too (an emergency does not wait for a file).

        Raises:
            PreconditionFailed: another revision is there. Conflict: a file keeps it.
        """
        self.may_change(row, if_match=if_match, anyone=anyone)
        statement = (
            self.update(table)
            .where(table.c.id == row.id, table.c.revision == row.revision, *self._same(table, row))
            .values({**values, "revision": row.revision + 1})
            .returning(table)
        )
        after = self.connection.execute(statement).one_or_none()
        if after is None:
            raise PreconditionFailed(
                f"`{row.id}` was changed by somebody else just now; read it again", param="if-match"
            )
        return after

    def _same(self, table: Table, row: Row[Any]) -> Iterator[ColumnElement[bool]]:
        if self.organisation == EVERY and "organisation" in table.c:
            yield table.c.organisation == row.organisation

    def may_change(self, row: Row[Any], *, if_match: int | None = None, anyone: bool = False) -> None:
        """Raises as `revise`, and changes nothing."""
        if if_match is not None and if_match != row.revision:
            raise PreconditionFailed(
                f"`{row.id}` is at revision {row.revision}, not {if_match}: somebody changed it; read it again",
                param="if-match",
            )
        keeper = row._asdict().get("managed_by", "")
        if keeper not in ("", self.keeper) and not anyone:
            where = "the configuration file" if keeper == "file" else "`beffroi apply`"
            raise Conflict(f"`{row.id}` is kept by {where}; change it there, or take it out there first")

    def record(self, action: str, subject: str, before: Any = None, after: Any = None, *, project: str = "") -> None:
        """An event in this transaction.

        Args:
            action: `<subject>:<verb>` of `events.ACTS`; the actor's door is put before it.
        """
        events.record(
            self.connection,
            actor=self.actor.id,
            action=f"{self.actor.door}:{action}",
            subject=subject,
            before=before,
            after=after,
            organisation=self.organisation,
            project=project,
        )


@contextmanager
def acting(engine: Engine, actor: Actor, organisation: str, *, keeper: str = "") -> Iterator[Scope]:
    """A transaction that may write, in one organisation that exists; committed at the end.

    Raises:
        ObjectNotFound: an operator named an organisation that there is not.
    """
    with engine.begin() as connection:
        yield _existing(Scope(connection, actor, organisation, keeper=keeper))


@contextmanager
def looking(engine: Engine, actor: Actor, organisation: str) -> Iterator[Scope]:
    """As `acting`, one consistent view that waits for no writer."""
    with reading(engine) as connection:
        yield _existing(Scope(connection, actor, organisation))


def _existing(scope: Scope) -> Scope:
    if scope.organisation != EVERY and scope.actor.organisation == EVERY:  # others are of one that there is
        scope.find(t.organisations, scope.organisation, "organisation")
    return scope
