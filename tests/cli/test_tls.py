# SPDX-License-Identifier: Apache-2.0
"""doctor, chat and bench beside a Beffroi that serves TLS with a certificate of an authority of its own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.doctor.support import doctor
from tests.engines.scripted import ScriptedEngine
from tests.gateway.certificates import Authority
from tests.harness import Served, wait_for
from tests.tiny import client


@pytest.fixture
def secure(serve: Callable[..., Served], engine: ScriptedEngine, authority: Authority) -> Served:
    """It, serving."""
    cert, key = authority.sign("gateway")
    served = serve(engine, server={"tls": {"certificate": str(cert), "key": str(key)}}, ready=False)
    wait_for(lambda: "Beffroi is ready" in served.output, 20, "it serves")
    served.key = served.printed_key()
    return served


@pytest.fixture
def authority(folder: Path) -> Authority:
    """Who signed its certificate."""
    return Authority(folder)


def test_tls_clients_name_the_authority_and_the_doctor_looks_at_what_is_served(
    secure: Served, authority: Authority
) -> None:
    """The URL is the start's own word; who does not name the authority is told that it is not trusted."""
    told = {"BEFFROI_URL": "", "BEFFROI_DATA": str(secure.data)}
    stranger = client(secure, "-m", "beffroi", "chat", stdin="hello", **told)
    assert stranger.returncode == 1 and "certificate that is not trusted" in stranger.stderr
    assert "--ca" in stranger.stderr
    ca = ("--ca", str(authority.cert))
    said = client(secure, "-m", "beffroi", "chat", *ca, stdin="hello", **told)
    assert said.returncode == 0 and said.stdout.strip(), said.stderr
    load = client(secure, "-m", "beffroi", "bench", "-n", "6", "-c", "2", "--json", *ca, **told)
    assert json.loads(load.stdout)["requests"]["answered"] == 6, load.stderr
    wrong = client(secure, "-m", "beffroi", "bench", "--ca", str(secure.config), **told)
    assert wrong.returncode == 2 and "no certificate in PEM form" in wrong.stderr
    found = doctor("--data", secure.data)["by"]["certificate"]
    assert found["state"] == "warning" and "expires on" in found["finding"], "it lives two days"
    assert str(secure.port) in found["finding"]
