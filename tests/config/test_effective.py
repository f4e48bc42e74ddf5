# SPDX-License-Identifier: Apache-2.0
"""What holds in the end, and where it comes from."""

from beffroi.config.effective import Effective, effective
from beffroi.config.load import Source, parse, read
from beffroi.config.reference import reference

FILE = """\
server:
  port: 9000
resources:
  engines:
    - name: a
      url: http://x
      api_key: env:K
  models:
    - id: m
      aliases: [n]
      prices:
        - effective: 2026-02-10
"""


def rows(source: Source) -> dict[str, Effective]:
    """By name."""
    return {row.name: row for row in effective(source)}


def test_every_setting_is_there_with_its_value() -> None:
    """Once each; of lists, one row for each item's setting."""
    found = rows(parse(FILE, "b.yaml"))
    shown = {name.replace("[0]", "[]") for name in found}
    expected = {setting.name for setting in reference()} - {
        f"server.tls.{name}" for name in "certificate key client_ca client_certificates".split()
    }
    expected -= {name for name in expected if name.startswith(("server.mail.", "resources.secret_stores"))}
    expected -= {name for name in expected if ".targets[]" in name}
    assert shown == expected | {
        "server.tls", "server.mail", "resources.models[].targets", "resources.secret_stores",
    }  # fmt: skip
    assert found["gateway.max_body"].value == 33554432
    assert found["resources.models[0].aliases"].value == ["n"]
    assert found["resources.models[0].prices[0].effective"].value == "2026-02-10"


def test_each_says_where_it_comes_from() -> None:
    """Default, file and line, variable, option."""
    source = parse(
        FILE,
        "b.yaml",
        environ={
            "BEFFROI_GATEWAY__MAX_HEADERS": "70",
            "BEFFROI_SERVER__TLS__KEY": "k",
            "BEFFROI_SERVER__TLS__CERTIFICATE": "c",
        },
    )
    found = rows(source)
    assert str(found["server.port"].spot) == "b.yaml:2:3"
    assert str(found["resources.models[0].prices[0].effective"].spot) == "b.yaml:12:11"
    assert str(found["gateway.max_headers"].spot) == "$BEFFROI_GATEWAY__MAX_HEADERS"
    assert str(found["server.tls.key"].spot) == "$BEFFROI_SERVER__TLS__KEY"
    assert found["gateway.max_body"].spot is None
    option = rows(read(None, {"BEFFROI_SERVER__PORT": "1"}, {("server", "port"): (2, "--port")}).source)["server.port"]
    assert (option.value, str(option.spot)) == (2, "--port")


def test_a_secret_is_shown_as_the_reference_it_is() -> None:
    """And what somebody wrote in place of a reference is not shown at all."""
    assert rows(parse(FILE, "b.yaml"))["resources.engines[0].api_key"].value == "env:K"
    written = rows(parse(FILE.replace("env:K", "sk-canary"), "b.yaml"))["resources.engines[0].api_key"].value
    assert written == "********"
