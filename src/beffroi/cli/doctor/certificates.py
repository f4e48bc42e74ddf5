# SPDX-License-Identifier: Apache-2.0
"""Certificates: of the API port, of those who sign clients, of engines.

In: a `Scene`. Out: findings. A certificate is judged by a handshake with itself in memory, as the workers would make it:
what OpenSSL refuses there (a key that does not match, one too weak, a wrong purpose) clients would be refused too.
"""

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from beffroi.cli import target
from beffroi.cli.doctor.scene import OK, PROBLEM, WARNING, Finding, Scene
from beffroi.supervisor.sockets import is_loopback

SOON = 30  # days
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: the dates are judged here, with a sentence
_ROUNDS = 10
_WAIT = 3.0  # seconds
_EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound


class Faulty(Exception):
    """A certificate, or its key, that cannot serve; the text is the finding, `remedy` what to do."""

    def __init__(self, finding: str, remedy: str) -> None:
        super().__init__(finding)
        self.remedy = remedy


def certificates(scene: Scene) -> Iterator[Finding]:
    """The API port's, and the authority's of clients."""
    server, name = scene.server, "certificate"
    url = urlsplit(target.told(scene.data) or "") if scene.supervisor else urlsplit("")
    if server.tls is None and url.scheme == "https":  # started with a file that was not named here
        yield judge(name, url.netloc, served(url.hostname or "", url.port or 443), time.time())
        return
    if server.tls is None:
        if is_loopback(server.host):
            yield Finding(name, OK, "The API is plain HTTP, on loopback only.")
        else:
            yield Finding(
                name, WARNING, f"The API is plain HTTP on {server.host}: keys and prompts can be read on the way.",
                "Set server.tls, or put a proxy with TLS on this machine before it.",
            )  # fmt: skip
        return
    cert, key = scene.base / server.tls.certificate, scene.base / server.tls.key
    try:
        shown = shake(cert, key)
    except Faulty as fault:
        yield Finding(name, PROBLEM, str(fault), fault.remedy)
        return
    yield judge(name, cert, shown, time.time(), None if server.host in _EVERYWHERE else server.host)
    if key.stat().st_mode & 0o077:
        yield Finding("certificate key", WARNING, f"{key} can be read by other users.", f"chmod 600 {key}")
    if server.tls.client_ca is not None:
        yield judge_authority(scene.base / server.tls.client_ca)


def judge(name: str, file: Path | str, told: dict[str, Any], now: float, host: str | None = None) -> Finding:
    """A certificate's dates and names; `told` as `getpeercert` gives it, `host` a name that it must have."""
    first, last = (ssl.cert_time_to_seconds(told[part]) for part in ("notBefore", "notAfter"))
    names = [value for kind, value in told.get("subjectAltName", ()) if kind in {"DNS", "IP Address"}]
    renew = "Renew it; the workers read the new file by themselves."
    until = f"{time.strftime('%Y-%m-%d', time.gmtime(last))}"
    if last < now:
        return Finding(name, PROBLEM, f"{file} expired on {until}.", renew)
    if first > now:
        starts = time.strftime("%Y-%m-%d %H:%M", time.gmtime(first))
        return Finding(
            name, PROBLEM, f"{file} holds from {starts} UTC on only.", "Wait, or look whether the clock is right."
        )
    if not names:
        return Finding(
            name,
            PROBLEM,
            f"{file} has no names (subjectAltName): clients refuse it.",
            "Have it issued for the names that clients use.",
        )
    if last < now + SOON * 86_400:
        return Finding(name, WARNING, f"{file} expires on {until}, in {int((last - now) / 86_400)} days.", renew)
    if host is not None and not is_loopback(host) and host not in names:
        return Finding(
            name, WARNING, f"{file} is for {', '.join(names)}, and the API listens on {host}.",
            "Let clients use one of those names, or have it issued for this one too.",
        )  # fmt: skip
    return Finding(name, OK, f"{file} is for {', '.join(names)}, until {until}.")


def judge_authority(file: Path) -> Finding:
    """The file with the authorities that sign client certificates."""
    name = "client authority"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cafile=file)
    except (OSError, ssl.SSLError) as error:
        return Finding(
            name,
            PROBLEM,
            f"{file}: {_said(error)}.",
            "server.tls.client_ca must be a PEM file with the authority's certificate.",
        )
    known = context.get_ca_certs()
    if not known:
        return Finding(
            name,
            PROBLEM,
            f"{file} holds no authority's certificate.",
            "Name the authority's own certificate, not one that it signed.",
        )
    last = min(ssl.cert_time_to_seconds(str(one["notAfter"])) for one in known)
    if last < time.time() + SOON * 86_400:
        day = time.strftime("%Y-%m-%d", time.gmtime(last))
        state = PROBLEM if last < time.time() else WARNING
        return Finding(
            name, state, f"An authority in {file} ends on {day}: clients it signed are refused then.", "Renew it."
        )
    return Finding(name, OK, f"{file} holds {len(known)} of them.")


def served(host: str, port: int) -> dict[str, Any]:
    """What a listener shows its clients.

    Raises:
        OSError: it does not answer.
    """
    shown = ssl.get_server_certificate((host, port), timeout=_WAIT)
    context = _trusting(cadata=shown)
    with socket.create_connection((host, port), _WAIT) as plain, context.wrap_socket(plain) as secure:
        return secure.getpeercert() or {}


def _trusting(**given: Any) -> ssl.SSLContext:
    """A client that trusts these very certificates, whoever signed them and whatever the date."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    client.load_verify_locations(**given)
    return client


def shake(cert: Path, key: Path) -> dict[str, Any]:
    """A handshake of a server that has this certificate with a client that trusts it; → what the client saw.

    Raises:
        Faulty: it does not come about.
    """
    for file, setting in ((cert, "certificate"), (key, "key")):
        try:
            file.open("rb").close()
        except OSError as error:
            raise Faulty(
                f"{file} cannot be read: {error.strerror}.",
                f"Set server.tls.{setting} to a file that this user may read.",
            ) from None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(cert, key, password=_no_password)
        client = _trusting(cafile=cert)
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            raise Faulty(
                f"{key} is not the key of {cert}.", "Name the key that the certificate was asked for with."
            ) from None
        raise Faulty(
            f"{cert} with {key}: {_said(error)}.", "Both must be PEM files, and the key without a password."
        ) from None
    except _Password:
        raise Faulty(
            f"{key} is locked with a password.", f"Unlock it: openssl pkey -in {key} -out {key}.open"
        ) from None
    return _talk(server, client, cert)


def _talk(server: ssl.SSLContext, client: ssl.SSLContext, cert: Path) -> dict[str, Any]:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(there, back, server_side=True)
    theirs = client.wrap_bio(back, there)
    left = {ours, theirs}
    for _ in range(_ROUNDS):
        for end in (theirs, ours):
            try:
                end.do_handshake()
                left.discard(end)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                raise Faulty(f"{cert}: {_said(error)}.", "Have a certificate issued for a TLS server.") from None
        if not left:
            return theirs.getpeercert() or {}
    raise Faulty(f"{cert}: the handshake does not end.", "Have a certificate issued for a TLS server.")


class _Password(Exception):
    """OpenSSL asked for one."""


def _no_password() -> str:
    raise _Password


def _said(error: OSError) -> str:
    """OpenSSL's reason without its brackets."""
    text = str(getattr(error, "verify_message", "") or error.strerror or error)
    return text.partition("] ")[2].partition(" (_ssl")[0] or text if text.startswith("[") else text
