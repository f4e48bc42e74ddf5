# SPDX-License-Identifier: Apache-2.0
"""The doctor on certificates: real ones, made by openssl, each wrong in one way."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from beffroi.cli.doctor.certificates import certificates
from beffroi.cli.doctor.scene import OK, PROBLEM, WARNING, Finding, Scene
from beffroi.config.schema import Server, Tls
from tests.cli.doctor.support import certificate
from tests.gateway.certificates import Authority
from tests.harness import program

NOW = datetime.now(UTC)


def day(days: int) -> str:
    """So many days from now, as openssl writes dates."""
    return f"{NOW + timedelta(days=days):%Y%m%d}"


def examined(cert: Path, key: Path, *, client_ca: Path | None = None, host: str = "0.0.0.0") -> list[Finding]:
    """What is said of them."""
    tls = Tls(certificate=str(cert), key=str(key), client_ca=None if client_ca is None else str(client_ca))
    return list(certificates(Scene(cert.parent, server=Server(host=host, tls=tls))))


def test_a_sound_certificate_is_told_with_its_names_and_its_end(tmp_path: Path) -> None:
    """And its key fits, by a handshake."""
    (found,) = examined(*certificate(tmp_path, "good", start=day(-10), end=day(300)))
    assert found.state == OK and "api.example, 127.0.0.1" in found.finding


@pytest.mark.parametrize(
    ("start", "end", "state", "said"),
    [(-40, -1, PROBLEM, "expired on"), (-300, 20, WARNING, "in 19 days"), (3, 100, PROBLEM, "on only")],
)
def test_dates_are_judged(tmp_path: Path, start: int, end: int, state: str, said: str) -> None:
    """Expired, expiring, not yet."""
    (found,) = examined(*certificate(tmp_path, "dated", start=day(start), end=day(end)))
    assert (found.state, said in found.finding) == (state, True), found
    assert found.remedy


def test_a_key_that_is_another_s_is_found(tmp_path: Path) -> None:
    """Before a client sees it."""
    cert, _ = certificate(tmp_path, "one", start=day(-1), end=day(99))
    _, key = certificate(tmp_path, "two", start=day(-1), end=day(99))
    (found,) = examined(cert, key)
    assert found.state == PROBLEM and "is not the key of" in found.finding


def test_what_is_missing_no_pem_or_locked_is_found(tmp_path: Path) -> None:
    """Each with its own sentence."""
    cert, key = certificate(tmp_path, "c", start=day(-1), end=day(99))
    assert "cannot be read" in examined(cert, tmp_path / "none.key")[0].finding
    (tmp_path / "text.pem").write_text("no certificate")
    (found,) = examined(tmp_path / "text.pem", key)
    assert found.state == PROBLEM and "PEM" in found.remedy
    locked = tmp_path / "locked.key"
    command = [program("openssl"), "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = examined(cert, locked)
    assert found.state == PROBLEM and "password" in found.finding


def test_a_certificate_for_clients_cannot_serve(tmp_path: Path) -> None:
    """Wrong purpose: OpenSSL's own word, from the handshake."""
    usage = "subjectAltName=DNS:a.example\nextendedKeyUsage=clientAuth"
    (found,) = examined(*certificate(tmp_path, "c", start=day(-1), end=day(99), extensions=usage))
    assert found.state == PROBLEM and "purpose" in found.finding, found


def test_names_are_judged(tmp_path: Path) -> None:
    """None at all is a problem, another than the address that is listened on a warning."""
    (found,) = examined(*certificate(tmp_path, "n", start=day(-1), end=day(99), extensions="basicConstraints=CA:FALSE"))
    assert found.state == PROBLEM and "no names" in found.finding
    (found,) = examined(*certificate(tmp_path, "m", start=day(-1), end=day(99)), host="192.0.2.7")
    assert found.state == WARNING and "192.0.2.7" in found.finding


def test_an_open_key_file_and_a_clients_authority_are_looked_at(tmp_path: Path) -> None:
    """The authority is there and lasts, is there and ends, is none."""
    cert, key = certificate(tmp_path, "c", start=day(-1), end=day(99))
    key.chmod(0o644)
    authority = Authority(tmp_path)  # lives two days
    states = {found.check: found.state for found in examined(cert, key, client_ca=authority.cert)}
    assert states == {"certificate": OK, "certificate key": WARNING, "client authority": WARNING}
    key.chmod(0o600)
    lasting, _ = certificate(tmp_path, "l", start=day(-1), end=day(999), extensions="basicConstraints=critical,CA:TRUE")
    assert [found.state for found in examined(cert, key, client_ca=lasting)] == [OK, OK]
    assert examined(cert, key, client_ca=cert)[1].finding.endswith("holds no authority's certificate.")
    assert examined(cert, key, client_ca=tmp_path / "none")[1].state == PROBLEM


def test_without_tls_only_loopback_is_well(tmp_path: Path) -> None:
    """Keys would travel in clear."""
    (here,) = certificates(Scene(tmp_path))
    (everywhere,) = certificates(Scene(tmp_path, server=Server(host="0.0.0.0")))
    assert (here.state, everywhere.state) == (OK, WARNING)
