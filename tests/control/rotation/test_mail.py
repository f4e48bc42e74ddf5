# SPDX-License-Identifier: Apache-2.0
"""Mail at each step, to a mail server that follows a script; and what becomes of a rotation when there is none."""

import ssl
import time
from pathlib import Path

import pytest

from beffroi.control.keys import By
from beffroi.control.rotation import service
from beffroi.control.rotation.mail import MailFault, MailSettings, send
from beffroi.control.tenancy.scope import CONTROL
from tests.control.rotation.rig import DAY, Rig, plan
from tests.control.rotation.scripted import Mailbox, smtp
from tests.gateway.certificates import Authority

anyio = pytest.mark.anyio
TO = ["team@example.org", "ops@example.org"]


def plain(box: Mailbox, **more: str) -> MailSettings:
    """A server without TLS."""
    return MailSettings(host="127.0.0.1", port=box.port, tls="none", sender="beffroi@example.org", **more)


@anyio
async def test_each_step_is_mailed_before_the_next_and_the_link_with_it(tmp_path: Path) -> None:
    """Announced, link, the end that is to come, the end; the link is in one mail and nowhere else."""
    with smtp() as box:
        rig = Rig(tmp_path, mail=plain(box))
        try:
            key, old = await rig.key(plan(notice_seconds=7 * DAY, idle_seconds=3600, mail=TO), expires_in_days=200)
            rig.age(key, 83)
            await rig.go()
            assert len(box.messages) == 1 and box.recipients == TO
            assert "a successor is made on" in box.messages[0]
            rig.age(key, 7)
            with rig.engine.begin() as connection:
                connection.exec_driver_sql("update rotations set due_at = due_at - 604800, next_at = next_at - 604800")
            await rig.go()
            link = next(
                line for line in box.messages[1].splitlines() if line.startswith("http://control/api/v1/links/")
            )
            token = link.rpartition("/")[2].strip()
            assert rig.opens(old) is not None and rig.rotation().state == "made"
            secret = token.partition(".")[2].encode()
            assert not [file for file in tmp_path.rglob("*") if file.is_file() and secret in file.read_bytes()]
            act = await rig.service.act(By(CONTROL, "*"), lambda scope: service.fetch(scope, token, ""))
            assert rig.opens(act[0].key) is not None
            await rig.go(2 * 3600)
            await rig.go(2 * 3600)
            assert [message.split("Subject: ")[1].splitlines()[0] for message in box.messages[2:]] == [
                f"API key app: the old key ends on {time.strftime('%Y-%m-%d', time.gmtime(act[0].old_expires_at))}",
                "API key app: the old key has ended",
            ]
            assert rig.opens(old) is None
            assert not any(old in message or act[0].key in message for message in box.messages)
        finally:
            rig.close()


@anyio
async def test_a_link_that_nobody_fetched_is_sent_anew(tmp_path: Path) -> None:
    """When it has ended; the old key goes on, and the fault says why."""
    with smtp() as box:
        rig = Rig(tmp_path, mail=plain(box))
        try:
            key, old = await rig.key(plan(link_seconds=3600, mail=TO[:1]), long_lived=True)
            rig.age(key, 90)
            await rig.go()
            await rig.go(3700)
            links = [line for mail in box.messages for line in mail.splitlines() if line.startswith("http://control")]
            assert len(links) == 2 == len(set(links))
            assert "nobody has fetched" in rig.rotation().fault and rig.opens(old) is not None
        finally:
            rig.close()


@anyio
async def test_a_mail_server_that_takes_nothing_holds_a_step_up_for_a_day(tmp_path: Path) -> None:
    """A notice comes before its step; but a mail server that is away for good does not keep keys from being rotated.

    A link is another matter: it is made anew with each try, and the old key waits for it.
    """
    with smtp() as box:
        box.refuse["MAIL"] = "451 try again later"
        store = {"store": "s", "path": "app"}
        rig = Rig(tmp_path, mail=plain(box), stores=_files(tmp_path))
        try:
            key, old = await rig.key(plan(mail=TO, delivery=store), long_lived=True, name="a")
            rig.age(key, 90)
            await rig.go()
            assert "451 try again later" in rig.rotation().fault and rig.rotation().state == "announced"
            for _ in range(20):
                await rig.go(3600)
            assert not (tmp_path / "store").exists() and rig.opens(old) is not None
            for _ in range(5):
                await rig.go(3600)
            assert rig.opens((tmp_path / "store/default/app").read_text().strip()) is not None
        finally:
            rig.close()


def _files(tmp_path: Path) -> tuple[object, ...]:
    from beffroi.control.rotation.stores.port import StoreSettings

    return (StoreSettings(name="s", kind="file", directory=str(tmp_path / "store")),)


def test_the_connection_is_encrypted_before_a_password_is_sent(authority: Authority) -> None:
    """STARTTLS, with the CA of the configuration; a server that another CA vouches for is told nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("mail"))
    with smtp(context) as box:
        settings = MailSettings(
            host="localhost",
            port=box.port,
            user="u",
            password="env:P",
            ca_file=str(authority.cert),
            sender="b@example.org",
        )
        send(settings, ("a@example.org",), "Subject", "Text.", lambda _: "secret")
        assert box.said[:4] == ["EHLO", "STARTTLS", "EHLO", "AUTH"] and len(box.messages) == 1
        box.said.clear()
        with pytest.raises(MailFault):
            send(_other(settings), ("a@example.org",), "Subject", "Text.", lambda _: "secret")
        assert "AUTH" not in box.said and len(box.messages) == 1


def _other(settings: MailSettings) -> MailSettings:
    import msgspec

    return msgspec.structs.replace(settings, ca_file=None)


@pytest.mark.parametrize(
    ("command", "answer"),
    [("EHLO", "502 no"), ("MAIL", "550 not you"), ("RCPT", "550 nobody of that name"), ("DATA", "554 no")],
)
def test_what_a_server_refuses_is_a_fault_that_says_so(command: str, answer: str) -> None:
    """Never a crash, never taken for done; the message is not repeated."""
    with smtp() as box:
        box.refuse |= {command: answer, "HELO": answer}
        with pytest.raises(MailFault) as refused:
            send(plain(box), ("a@example.org",), "Subject", "the text of it", lambda _: "")
        assert "127.0.0.1" in str(refused.value) and "the text" not in str(refused.value)


def test_nobody_there_is_a_fault() -> None:
    """A port that nobody listens on."""
    with smtp() as box:
        port = box.port
    with pytest.raises(MailFault, match="did not take"):
        send(MailSettings(host="127.0.0.1", port=port, tls="none"), ("a@example.org",), "S", "T", lambda _: "")


def test_no_header_is_smuggled_in_by_a_name() -> None:
    """A subject with a line break is no subject."""
    with smtp() as box, pytest.raises(ValueError, match=r"linefeed|newline"):
        send(plain(box), ("a@example.org",), "x\nBcc: evil@example.org", "T", lambda _: "")
