# SPDX-License-Identifier: Apache-2.0
"""A centre that wants a password, shows a certificate, lets a user do only what docs/how-to/share-limits.md grants."""

import asyncio
import io
import logging
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import redis

from beffroi.config.secrets import Unreadable
from beffroi.config.valkey import address
from beffroi.core.clock import SystemClock
from beffroi.core.errors import CountersUnavailable
from beffroi.gateway.quota.fleet import FleetBooks, FleetCounters
from beffroi.gateway.quota.terms import Ask, Busy, Used
from tests.gateway.certificates import Authority
from tests.gateway.quota.fleet.replica import key_of
from tests.harness import ROOT, free_port
from tests.servers import Valkey

PAGE = ROOT / "docs" / "how-to" / "share-limits.md"
SECRET = "s3cret-of-a-test"


class Guarded(Valkey):
    """With TLS, and one user who has a password."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.tls_port = free_port()
        self.authority = Authority(folder)
        self._certificate, self._key = self.authority.sign("centre")

    def _command(self) -> list[str]:
        ca = str(self.authority.cert)
        more = {"tls-port": str(self.tls_port), "tls-cert-file": str(self._certificate), "tls-key-file": str(self._key)}
        more |= {"tls-ca-cert-file": ca, "tls-auth-clients": "no"}
        return [*super()._command(), *(word for name, value in more.items() for word in (f"--{name}", value))]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The server, and in it the user `gate`."""
    with Guarded(Path(tmp_path_factory.mktemp("guarded"))) as server:
        line = next(line for line in PAGE.read_text().splitlines() if line.startswith("ACL SETUSER"))
        answer = server.ask(*line.replace("PASSWORD", SECRET).split())
        assert answer == b"+OK\r\n", answer
        yield server


def _reserve(url: str, *, wait: float = 2.0) -> tuple[bool, FleetCounters]:
    """One reservation under a limit by a worker that has so long to connect; whether the centre was there."""

    async def run() -> tuple[bool, FleetCounters]:
        counters = FleetCounters(
            url, prefix="beffroi", clock=SystemClock(), zone="Europe/Paris", loop=asyncio.get_running_loop()
        )
        counters.start()
        there = await counters.ready(wait)
        ticket = None
        for _ in range(200):
            try:
                ticket = counters.reserve(key_of(1, requests_per_minute=100), "m", None, Ask(0, 0, 0, 0))
                break
            except Busy:
                await asyncio.sleep(0.001)
        assert ticket is not None
        counters.settle(ticket, Used(0, 0, 0))
        counters.close()
        await counters.stop()
        await asyncio.sleep(0.05)  # what was in the middle of a TLS handshake closes in later turns
        return there, counters

    return asyncio.run(run())


def test_tls_with_a_user_who_may_do_no_more_than_the_page_says(guarded: Guarded) -> None:
    """By workers and by control."""
    url = f"rediss://gate:{SECRET}@localhost:{guarded.tls_port}/0?ssl_ca_certs={guarded.authority.cert}"
    there, counters = _reserve(url)
    assert there
    assert counters.metrics.calls > 0
    assert counters.metrics.alone == 0
    books = FleetBooks(url, prefix="beffroi", clock=SystemClock(), zone="Europe/Paris")
    epoch = books.missing()
    assert epoch is not None
    books.filled(epoch)
    assert books.missing() is None
    books.clear(7)
    books.close()


def test_a_certificate_of_somebody_else_is_no_centre(guarded: Guarded) -> None:
    """The worker goes on alone."""
    there, counters = _reserve(f"rediss://gate:{SECRET}@localhost:{guarded.tls_port}/0", wait=0.3)
    assert not there
    assert counters.metrics.alone == 1


def test_a_wrong_password_is_told_without_showing_any(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """In the log of the worker and in the error of control."""
    url = f"redis://gate:wrong-{SECRET}@127.0.0.1:{guarded.port}/0"
    with caplog.at_level(logging.DEBUG), redirect_stderr(io.StringIO()) as said:
        there, _ = _reserve(url, wait=0.3)
    assert not there
    told = said.getvalue() + caplog.text + " ".join(str(record.__dict__) for record in caplog.records)
    assert SECRET not in told
    assert "limits_centre_away" in told
    with pytest.raises(CountersUnavailable) as caught:
        FleetBooks(url, prefix="beffroi", clock=SystemClock(), zone="Europe/Paris").missing()
    assert SECRET not in str(caught.value)
    assert "the name or the password is refused" in str(caught.value)


def test_two_installations_in_one_valkey_know_nothing_of_each_other(guarded: Guarded) -> None:
    """Every key carries the prefix."""
    _reserve(f"redis://gate:{SECRET}@127.0.0.1:{guarded.port}/0")
    with redis.Redis(port=guarded.port) as client:
        assert {name.split(b":")[0] for name in client.keys("*")} == {b"{beffroi}"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("valkey://host", "redis://host"),
        ("valkeys://host:6380/2", "rediss://host:6380/2"),
        ("unix:///run/valkey.sock?db=1", "unix:///run/valkey.sock?db=1"),
        ("env:PLACE", "rediss://u:p@host/0"),
    ],
)
def test_an_address_is_written_or_referred_to(tmp_path: Path, text: str, wanted: str) -> None:
    """Valkey's own names of schemes too."""
    assert address(text, tmp_path, {"PLACE": "valkeys://u:p@host/0"}) == wanted


@pytest.mark.parametrize(
    "text", ["http://host", "redis://", "host:6379", f"redis://u:{SECRET}@host", "env:NOWHERE", "unix:"]
)
def test_an_address_that_is_none_or_shows_a_password_is_refused(tmp_path: Path, text: str) -> None:
    """And is not repeated."""
    with pytest.raises(Unreadable) as caught:
        address(text, tmp_path, {})
    assert SECRET not in str(caught.value) + caught.value.remedy
