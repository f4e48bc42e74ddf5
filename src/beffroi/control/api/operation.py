# SPDX-License-Identifier: Apache-2.0
"""What an operation of the admin API is, and what its handler is given; every domain declares its own in `routes.py`.

In: nothing. Out: `Operation`, `Call`, `Page`, `Listed`. A domain exports `OPERATIONS`; `api.routes` puts them together.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, literal, tuple_

from beffroi.control.tenancy.permissions import Permission
from beffroi.control.tenancy.scope import Actor, Scope, acting, looking

if TYPE_CHECKING:
    from beffroi.control.house import House

T = TypeVar("T")
MAX_BODY = 64 << 10
MOST = 200  # objects on one page of a list
PAGE = 50  # where nobody says how many
ORGANISATION = r"^(\*|[a-z0-9_-]{1,40})$"  # what may be named in `?organisation=`


class Listed(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list. `next`: the cursor of the page after it, null on the last."""

    data: list[T]
    next: str | None = None


class Page(msgspec.Struct, frozen=True):
    """Which part of a list is asked for. `after`: the key of the last object of the page before."""

    limit: int = PAGE
    after: tuple[Any, ...] | None = None

    def window(self, query: Select[Any], *key: ColumnElement[Any]) -> Select[Any]:
        """`query` from where the page begins, in the order of `key`, which must be unique; one row more than the page."""
        if self.after is not None:
            place = tuple_(*(literal(value, column.type) for value, column in zip(self.after, key, strict=True)))
            query = query.where(tuple_(*key) > place)
        return query.order_by(*key).limit(self.limit + 1)


class Call(msgspec.Struct, frozen=True):
    """One call, read and permitted.

    Attributes:
        path: the parts of the path in braces; query, ask: structs of the types that the operation declares.
        organisation: acted on: the actor's own, or the one that an operator names; `*`: all, to list them.
        if_match: the revision that the caller wants to change, if he says; `Scope.revise` takes it.
        page: of an operation that is `paged`.
        sign: makes the cursor of a key (`listed` does).
        keep: remembers the answer in the transaction of the act, for one who repeats it (`act` does).
    """

    house: "House"
    actor: Actor
    path: dict[str, str]
    organisation: str
    query: Any = None
    ask: Any = None
    if_match: int | None = None
    page: Page = Page()
    sign: Callable[[tuple[Any, ...]], str] = repr
    keep: Callable[[Connection, Any], None] | None = None

    def listed(self, rows: Sequence[Any], shown: Callable[[Any], T], *key: str) -> Listed[T]:
        """A page from the rows that `Page.window` selected.

        Args:
            shown: makes an object of a row; key: the names of the columns given to `window`.
        """
        more = len(rows) > self.page.limit
        rows = rows[: self.page.limit]
        cursor = self.sign(tuple(getattr(rows[-1], name) for name in key)) if more else None
        return Listed([shown(row) for row in rows], cursor)

    async def act(self, do: Callable[[Scope], T]) -> T:
        """Run the blocking part of a change: one transaction, all of it or nothing.

        Raises:
            ObjectNotFound: an operator named an organisation that there is not. What `do` raises undoes all.
        """

        def run() -> T:
            with acting(self.house.engine, self.actor, self.organisation) as scope:
                result = do(scope)
                if self.keep is not None:
                    self.keep(scope.connection, result)
                return result

        return await self.house.writing(run)

    async def read(self, ask: Callable[[Scope], T]) -> T:
        """Run the blocking part of a question, on one consistent view. Raises as `act`."""

        def run() -> T:
            with looking(self.house.engine, self.actor, self.organisation) as scope:
                return ask(scope)

        return await self.house.blocking(run)


class Operation(msgspec.Struct, frozen=True):
    """One method of one path. `summary` ends up in the reference.

    Attributes:
        path: below `/api/v1`, parts in braces: `/webhooks/{id}`.
        handler: gives the answer as plain data or a struct of the type `answer`; None with status 204.
        needs: the permission without which it is refused; None: on `control.sock` alone.
        ask: struct of the JSON body; query: struct of the query, beside `organisation` (and `limit`, `cursor` if `paged`).
        answer: type of the answer; if `paged`, of each object in it: the handler gives `call.listed(…)`.
        most: bytes that a body may have.
        repeats: doing it twice is as good as once, so that an Idempotency-Key has no use.
    """

    method: str
    path: str
    handler: Callable[[Call], Awaitable[Any]]
    needs: Permission | None
    summary: str
    ask: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    answer: Any = None
    status: int = 200
    paged: bool = False
    most: int = MAX_BODY
    repeats: bool = False
