# SPDX-License-Identifier: Apache-2.0
"""What types cannot tell of process and gateway settings: zones, networks, addresses, certificates.

In: a `Source`. Out: its faults. Nothing is opened for longer than it takes to read it.
"""

import datetime
import ipaddress
import re
import ssl
import zoneinfo
from collections.abc import Mapping, Sequence
from pathlib import Path

from beffroi.config.load import Place, Problem, Source, dotted
from beffroi.config.reader import nearest
from beffroi.config.secrets import Unreadable, anchored, database_url, look_up
from beffroi.core.snapshot import GUARD_ACTS, GUARD_FEATURES

_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
Fault = tuple[str, str]  # what is wrong, what to do


class Faults(list[Problem]):
    """Faults of one source, each noted where it stands."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def note(self, place: Place, message: str, remedy: str) -> None:
        """A fault, unless the place is known to be wrong already."""
        if self._source.broken.sound(*place):
            self.append(Problem(self._source.marks.value(place), dotted(place), message, remedy))

    def note_networks(self, place: Place, texts: Sequence[str]) -> None:
        """A fault for each text that is no address or network."""
        for index, text in enumerate(texts):
            try:
                ipaddress.ip_network(text)
            except ValueError:
                self.note((*place, index), f"`{text[:60]}` is no address or network", f"write {_network(text)}")


def zone_of(name: str) -> datetime.tzinfo | None:
    """The IANA zone of that name; None if there is none."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def check_gateway(source: Source) -> list[Problem]:
    """Faults of the `gateway` part."""
    faults = Faults(source)
    settings = source.document.gateway
    if zone_of(settings.time_zone) is None:
        near = nearest(settings.time_zone, zoneinfo.available_timezones())
        faults.note(
            ("gateway", "time_zone"),
            f"there is no zone `{settings.time_zone[:40]}`",
            f"did you mean {near[0]}?" if near else "write one such as Europe/Paris",
        )
    faults.note_networks(("gateway", "trusted_proxies"), settings.trusted_proxies)
    for feature, act in settings.guard.items():
        place: Place = ("gateway", "guard", feature)
        if feature not in GUARD_FEATURES:
            near = nearest(feature, GUARD_FEATURES)
            names = ", ".join(GUARD_FEATURES)
            faults.note(place, "there is no such check", f"did you mean `{near[0]}`?" if near else f"there are {names}")
        elif act not in GUARD_ACTS:
            near = nearest(act, GUARD_ACTS)
            acts = f"must be one of {', '.join(GUARD_ACTS)}, not `{act[:40]}`"
            faults.note(place, acts, f"did you mean `{near[0]}`?" if near else "write one of them")
    if settings.proxy_protocol and not settings.trusted_proxies:
        faults.note(
            ("gateway", "proxy_protocol"),
            "needs `gateway.trusted_proxies`: PROXY headers are believed from those only",
            "write the addresses of your proxies there, such as [10.0.0.0/8]",
        )
    return faults


def _network(text: str) -> str:
    """What was probably meant: a network whose host bits are set loses them."""
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        return "an address such as 10.0.0.7 or a network such as 10.0.0.0/8"


def check_webhooks(source: Source) -> list[Problem]:
    """Faults of where webhooks may be told."""
    faults = Faults(source)
    faults.note_networks(("server", "webhook_networks"), source.document.server.webhook_networks)
    return faults


def check_addresses(source: Source) -> list[Problem]:
    """Faults of where the processes are to listen."""
    faults = Faults(source)
    server = source.document.server
    for name in ("host", "control_host"):
        host = getattr(server, name)
        if not _is_host(host):
            faults.note(("server", name), f"`{host[:60]}` is no address", "write one such as 127.0.0.1 or 0.0.0.0")
        elif name == "control_host" and not _is_loopback(host):
            faults.note(
                ("server", name),
                "the control port must stay on loopback: whoever reaches it rules Beffroi",
                "write 127.0.0.1, and reach it through a tunnel",
            )
    same = server.port == server.control_port != 0
    if same and (server.host == server.control_host or server.host in {"0.0.0.0", "::"}):  # noqa: S104 - compared
        faults.note(("server", "control_port"), f"is the API's port too ({server.port})", "give each its own port")
    return faults


def check_fleet(source: Source, environ: Mapping[str, str]) -> list[Problem]:
    """Faults of the database that several Beffroi share, and of the secret that goes with it."""
    faults = Faults(source)
    server = source.document.server
    if server.database is not None and server.fleet_secret is None:
        faults.note(
            ("server", "database"),
            "needs `server.fleet_secret` beside it: what the machines share there is sealed with it",
            "make one with `openssl rand -hex 32`, the same on every machine, and write `fleet_secret: file:PATH`",
        )
    if server.fleet_secret is not None and server.database is None:
        faults.note(
            ("server", "fleet_secret"),
            "is of no use without `server.database`",
            "name the PostgreSQL that the machines share, or take it out",
        )
    for name, look in (("database", database_url), ("fleet_secret", _secret)):
        reference = getattr(server, name)
        if reference is not None:
            try:
                look(anchored(reference, source.base), environ)
            except Unreadable as error:
                faults.note(("server", name), error.message, error.remedy)
    return faults


def _secret(reference: str, environ: Mapping[str, str]) -> str:
    return look_up(reference, Path(), environ)


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None and not text.replace(".", "").isdigit()
    return True


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return text == "localhost"


def check_tls(source: Source) -> list[Problem]:
    """Faults of the certificate, its key, and the clients' CA."""
    faults = Faults(source)
    tls = source.document.server.tls
    if tls is None:
        return faults
    place: Place = ("server", "tls")
    certificate, key = source.base / tls.certificate, source.base / tls.key
    readable = True
    for name, path in (("certificate", certificate), ("key", key)):
        if reason := _unreadable(path):
            readable = False
            faults.note(
                (*place, name), f"cannot read {path}: {reason}", "give the path of a PEM file this user may read"
            )
    if readable and source.broken.sound(*place) and (fault := _chain(certificate, key)):
        faults.note((*place, fault[0]), *fault[1])
    if tls.client_ca is not None and (reason_ca := check_authority(str(source.base / tls.client_ca))):
        faults.note((*place, "client_ca"), *reason_ca)
    return faults


def _unreadable(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # a pipe may never be written, a device never end
            return "it is no regular file"
        path.open("rb").close()
    except OSError as error:
        return error.strerror or "it is not there"
    return ""


def _chain(certificate: Path, key: Path) -> tuple[str, Fault] | None:
    """What keeps the two from being used together: the setting at fault, and why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        reason = error.reason or ""
        if "MISMATCH" in reason:
            return "key", (f"{key} is not the key of {certificate}", "give the key that the certificate was made for")
        if "-----BEGIN CERTIFICATE-----" not in certificate.read_text("latin-1"):
            return "certificate", (f"{certificate} holds no certificate in PEM form", "give the chain in PEM form")
        return "key", (f"{key} holds no private key that can be used", "give an unencrypted key in PEM form")
    except ValueError:
        return "key", (f"{key} asks for a password", "take the password off: openssl pkey -in KEY -out KEY.plain")
    return None


def _no_password() -> str:
    raise ValueError


def check_authority(path: str) -> Fault | None:
    """What is wrong with a file of CA certificates; None: nothing."""
    if reason := _unreadable(Path(path)):
        return f"cannot read {path}: {reason}", "give the path of a PEM file that this user may read"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return f"{path} holds no certificate in PEM form", "give the CA's certificate in PEM form"
    return None
