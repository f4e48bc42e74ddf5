# SPDX-License-Identifier: Apache-2.0
"""Secret stores and the mail server in a configuration: what cannot be meant is told where it stands."""

import pytest

from beffroi.config.delivery import check_delivery
from beffroi.config.load import parse


def faults(text: str) -> list[str]:
    """What is wrong with a file."""
    return [f"{problem.name}: {problem.message}" for problem in check_delivery(parse(text, "b.yaml"))]


def stores(*items: str) -> str:
    """A file with these stores."""
    return f"resources: {{secret_stores: [{', '.join(f'{{{item}}}' for item in items)}]}}"


def test_what_can_be_meant_is_taken() -> None:
    """One store of each kind, and a mail server."""
    good = stores(
        "name: f, kind: file, at: /srv/keys",
        "name: k, kind: kubernetes, at: 'https://10.0.0.1:6443', token: 'file:/t', organisations: ['*']",
        "name: v, kind: vault, at: 'http://127.0.0.1:8200', mount: team/kv",
    )
    mail = "\nserver: {control_url: 'https://b.example:8401', mail: {host: m, user: u, password: 'env:P'}}"
    assert faults(good + mail) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (stores("name: s, kind: file, at: a", "name: s, kind: file, at: b"), "[1].name: there is already a store `s`"),
        (stores("name: s, kind: file, at: 'https://x'"), "[0].at: is no directory"),
        (stores("name: s, kind: vault, at: 'https://u:p@x'"), "[0].at: is no address of an API"),
        (stores("name: s, kind: vault, at: 'http://vault.example:8200'"), "would send keys that everybody on the way"),
        (stores("name: s, kind: vault, at: 'http://127.0.0.1.evil.example'"), "would send keys that everybody"),
        (stores("name: s, kind: vault, at: 'https://x', mount: '../sys'"), "[0].mount: is no name"),
        (stores("name: s, kind: vault, at: 'https://x', ca_file: /nowhere"), "[0].ca_file: cannot read /nowhere"),
        ("server: {data: /d}\n" + stores("name: s, kind: file, at: /d/keys"), "[0].at: lies in the data directory"),
        ("server: {control_url: beffroi.example}", "server.control_url: is no address"),
        ("server: {mail: {host: m, sender: x}}", "server.mail.sender: is no mail address"),
        ("server: {mail: {host: m, user: u}}", "server.mail.user: has no password"),
        ("server: {mail: {host: m, tls: none, user: u, password: 'env:P'}}", "server.mail.tls: would send a password"),
        ("server: {mail: {host: m, ca_file: /nowhere}}", "server.mail.ca_file: cannot read /nowhere"),
    ],
)
def test_what_cannot_be_meant_is_told(text: str, fault: str) -> None:
    """At its place, once."""
    (found,) = faults(text)
    assert fault in found
