# SPDX-License-Identifier: Apache-2.0
"""What keeps rotations going: announces those that are due, takes each to its next step, tries again what failed.

In: the service of keys, secret stores, a mail server, how far the ledger is. Out: successors where they belong, old keys
ended. It may be killed anywhere: what is in the table, in the store and in the key table is enough to go on from.
Where something does not answer, the old key stays as it is: nobody is locked out by a rotation that does not get on.
"""

import asyncio
import hmac
import time
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Row, exists
from sqlalchemy.exc import SQLAlchemyError

from beffroi.control.acts import slots_of
from beffroi.control.keypolicy import schedule_by, schedule_of
from beffroi.control.keyring import living, successor_of
from beffroi.control.keys import By, Keys
from beffroi.control.rotation import book, letters, steps
from beffroi.control.rotation.links import LINK, token
from beffroi.control.rotation.mail import MailFault, MailSettings, send
from beffroi.control.rotation.shapes import DAY, OPEN, Schedule
from beffroi.control.rotation.stores.choose import Stores
from beffroi.control.rotation.stores.port import Place, Store, StoreFault
from beffroi.control.tenancy.scope import CONTROL, EVERY, Scope, looking
from beffroi.control.tenancy.shapes import Policy
from beffroi.core.errors import BeffroiError
from beffroi.core.key import key_hash
from beffroi.store.administration import rotations
from beffroi.store.tables import keys, organisations
from beffroi.telemetry import logs

LOOK = 1.0  # seconds between two looks for what is due
PLAN = 300.0  # seconds between two looks for keys that want a rotation
AT_ONCE = 20  # rotations taken on in one look
FIRST_WAIT, LAST_WAIT = 30, 3600  # seconds after the first failure, and at most
log = logs.Logger("control.rotation")


class Unheard(Exception):
    """Workers that do not know of a key yet."""


class Runner:
    """One per control process; of several, each rotation is taken by one at a time.

    Args:
        mail: gives the mail server, if there is one.
        complete: Unix second up to which the ledger has everything that was served; 0: nobody knows.
        address: gives where people reach the control port, for links: `https://control.example:8401`.
    """

    def __init__(
        self,
        service: Keys,
        stores: Stores,
        mail: Callable[[], MailSettings | None],
        *,
        complete: Callable[[], int],
        address: Callable[[], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._service = service
        self._stores = stores
        self._mail = mail
        self._complete = complete
        self._address = address
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        planned = -PLAN
        while True:
            try:
                if time.monotonic() - planned >= PLAN:
                    planned = time.monotonic()
                    await self.plan()
                await self.look()
            except (OSError, SQLAlchemyError, BeffroiError) as error:
                log.error(
                    "rotations do not get on; they will be looked at again", reason=str(error).splitlines()[0][:300]
                )
            await asyncio.sleep(LOOK)

    def _now(self) -> int:
        return int(self._clock())

    # keys that want a rotation -----------------------------------------------------------------------------------

    async def plan(self) -> int:
        """Announce rotations whose time has come; how many."""
        wanted = await asyncio.to_thread(self._wanted)
        count = 0
        for organisation, key_id in wanted:
            count += await self._announce(organisation, key_id)
        return count

    def _wanted(self) -> list[tuple[str, str]]:
        now = self._now()
        after, under_way = keys.alias(), rotations.alias()
        with looking(self._service.engine, CONTROL, EVERY) as scope:
            run = scope.connection.execute
            policies = {
                row.id: schedule
                for row in run(scope.select(organisations, organisations.c.id, organisations.c.policy))
                if (schedule := schedule_by(msgspec.convert(row.policy, Policy))) is not None
            }
            columns = (keys.c.id, keys.c.organisation, keys.c.created_at, keys.c.expires_at, keys.c.rotation)
            query = scope.select(keys, *columns).where(
                keys.c.revoked.is_(False),
                keys.c.expires_at.is_(None) | (keys.c.expires_at > now),
                ~exists().where(after.c.rotated_from == keys.c.id),
                ~exists().where(under_way.c.key_id == keys.c.id, under_way.c.state.in_(OPEN)),
            )
            found = []
            for row in run(query):
                own = None if row.rotation is None else msgspec.convert(row.rotation, Schedule)
                schedule = own or policies.get(row.organisation)
                if schedule is not None and steps.due_at(row, schedule) - schedule.notice_seconds <= now:
                    found.append((row.organisation, row.id))
            return found

    async def _announce(self, organisation: str, key_id: str) -> bool:
        now = self._now()

        def work(scope: Scope) -> tuple[bool, list[Row[Any]]]:
            key = scope.find(keys, key_id, "key")
            schedule = schedule_of(scope, key)
            if schedule is None or not living(key, now) or successor_of(scope, key) or book.open_of(scope, key_id):
                return False, []
            due = max(steps.due_at(key, schedule), now + schedule.notice_seconds)
            if key.expires_at is not None:
                due = min(due, max(now, key.expires_at - schedule.overlap_seconds))
            steps.announce(scope, key, schedule, due, now)
            return True, []

        return (await self._service.act(By(CONTROL, organisation), work))[0]

    # rotations under way -----------------------------------------------------------------------------------------

    async def look(self) -> int:
        """Take what is due one step further; how many there were."""

        def read() -> list[Row[Any]]:
            with looking(self._service.engine, CONTROL, EVERY) as scope:
                return list(book.due(scope, self._now(), AT_ONCE))

        those = await asyncio.to_thread(read)
        await asyncio.gather(*(self.go_on(row) for row in those))
        return len(those)

    async def go_on(self, rotation: Row[Any]) -> None:
        """Take one rotation as far as it gets now."""
        try:
            rotation = await self._do(rotation, lambda scope, row: (steps.take(scope, row, self._now()), []))
            try:
                await self._step(rotation)
            except (StoreFault, MailFault, Unheard, BeffroiError) as error:
                wait = min(LAST_WAIT, FIRST_WAIT << min(rotation.attempts, 10))
                fault = str(error)
                log.warning("a rotation does not get on", rotation=rotation.id, reason=fault, again_seconds=wait)
                await self._do(rotation, lambda scope, row: (steps.fail(scope, row, fault, wait, self._now()), []))
        except book.Moved:
            log.debug("a rotation was moved on by somebody else", rotation=rotation.id)

    async def _step(self, rotation: Row[Any]) -> None:
        match rotation.state:
            case "announced":
                await self._announced(rotation)
            case "made":
                await self._hand_over(rotation)
            case "overlap":
                rotation = await self._notify(rotation, "overlap")
                complete = self._complete()
                await self._do(rotation, lambda scope, row: steps.look_at_old(scope, row, self._now(), complete))
            case "ended":
                rotation = await self._notify(rotation, "ended")
                await self._do(rotation, lambda scope, row: (steps.forget(scope, row, self._now()), []))
            case _:
                await self._do(rotation, lambda scope, row: (steps.forget(scope, row, self._now()), []))

    async def _announced(self, rotation: Row[Any]) -> None:
        key, after = await asyncio.to_thread(self._key_and_successor, rotation)
        now = self._now()
        if after is not None or not living(key, now):
            why = "the key has a successor already" if after is not None else "the key is not accepted any more"
            await self._do(rotation, lambda scope, row: (steps.cancel(scope, row, why), []))
            return
        try:
            rotation = await self._notify(rotation, "announced")
        except MailFault:
            if now < rotation.due_at + DAY:  # a step waits for its notice, and not for ever
                raise
        if now < rotation.due_at:
            await self._do(rotation, lambda scope, row: (steps.rest(scope, row, row.due_at), []))
            return
        await self._hand_over(rotation)

    def _key_and_successor(self, rotation: Row[Any]) -> tuple[Row[Any], Row[Any] | None]:
        with looking(self._service.engine, CONTROL, rotation.organisation) as scope:
            key = scope.find(keys, rotation.key_id, "key")
            return key, successor_of(scope, key)

    async def _hand_over(self, rotation: Row[Any]) -> None:
        plan = book.schedule(rotation)
        successor = None
        if rotation.successor:
            successor = (await asyncio.to_thread(self._key_and_successor, rotation))[1]
            if successor is None or successor.revoked:
                await self._do(rotation, lambda scope, row: (steps.cancel(scope, row, "the successor was revoked"), []))
                return
        if plan.delivery.store:
            await self._put(rotation, plan, successor)
        else:
            await self._offer(rotation, plan)

    async def _put(self, rotation: Row[Any], plan: Schedule, successor: Row[Any] | None) -> None:
        """Deliver into a secret store. What is there now says whether an earlier try got that far."""
        where = plan.delivery
        store: Store = self._stores.open(where.store, Place(rotation.organisation, where.path, where.field))
        there = await store.read()
        if successor is None or there is None or not self._is(successor, there):
            made = await self._make(rotation, link=False)
            rotation = made.rotation
            await store.write(made.text)
            if await store.read() != made.text:
                raise StoreFault(f"the store {where.store} does not give back what was put there")
        await self._do(rotation, lambda scope, row: steps.deliver(scope, row, self._now()))

    def _is(self, key: Row[Any], text: str) -> bool:
        pepper = self._service.peppers.get(key.pepper_id)
        return pepper is not None and hmac.compare_digest(key_hash(text, pepper), key.hash)

    async def _offer(self, rotation: Row[Any], plan: Schedule) -> None:
        """Offer a one-time link: by mail, or to whoever asks for one. One that was not fetched in time is replaced."""
        now = self._now()
        if rotation.state == "made" and (rotation.sealed_until or 0) > now and "link" in rotation.told:
            await self._do(rotation, lambda scope, row: (steps.rest(scope, row, row.sealed_until), []))
            return
        late = "nobody has fetched the successor yet; the old key stays as it is" if rotation.state == "made" else ""
        if plan.mail and self._mail() is not None:
            made = await self._make(rotation, link=True)
            link = self._address() + LINK.format(token=token(made.rotation.id, made.secret))
            await self._send(made.rotation, "link", link)
            rotation, until = made.rotation, made.rotation.sealed_until
            told = [*{*rotation.told, "link"}]
            await self._do(rotation, lambda scope, row: (steps.rest(scope, row, until, told=told, fault=late), []))
            return
        if rotation.state != "made":
            rotation = (await self._make(rotation, link=False)).rotation
        until = max(rotation.sealed_until or 0, now + plan.link_seconds)
        await self._do(rotation, lambda scope, row: (steps.rest(scope, row, until, fault=late), []))

    async def _make(self, rotation: Row[Any], *, link: bool) -> steps.Made:
        pepper = self._service.pepper()
        made, revision = await self._service.act(
            By(CONTROL, rotation.organisation),
            lambda scope: steps.make(scope, rotation, pepper, self._now(), link=link),
        )
        if missing := await self._service.hold(revision):
            raise Unheard(f"workers {slots_of(missing)} do not know the successor yet")
        return made

    # letters -----------------------------------------------------------------------------------------------------

    async def _notify(self, rotation: Row[Any], name: str) -> Row[Any]:
        """Mail what a state means to those who want to know, once."""
        to = tuple(rotation.plan.get("mail") or ())
        if not to or self._mail() is None or name in rotation.told:
            return rotation
        await self._send(rotation, name, "")
        told = [*rotation.told, name]
        return await self._do(rotation, lambda scope, row: (book.move(scope, row, told=told), []))

    async def _send(self, rotation: Row[Any], name: str, link: str) -> None:
        to = tuple(rotation.plan.get("mail") or ())
        key, _ = await asyncio.to_thread(self._key_and_successor, rotation)
        subject, text = letters.letter(name, rotation, key, link)
        if (server := self._mail()) is None:
            raise MailFault("the configuration names no mail server any more (server.mail)")
        await asyncio.to_thread(send, server, to, subject, text, self._stores.look_up)

    async def _do(
        self, rotation: Row[Any], step: Callable[[Scope, Row[Any]], tuple[Row[Any], list[Row[Any]]]]
    ) -> Row[Any]:
        by = By(CONTROL, rotation.organisation)
        return (await self._service.act(by, lambda scope: step(scope, rotation)))[0]
