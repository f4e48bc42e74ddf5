# SPDX-License-Identifier: Apache-2.0
"""Settings from environment variables: each can be set, a wrong one is told, and what only looks like one is remarked."""

from pathlib import Path
from typing import Any

import pytest

from beffroi.config.examine import examine
from beffroi.config.load import Invalid, parse, read
from beffroi.config.reference import reference, variables

# A value for each variable, as text, and what it is in the document.
VALUES: dict[str, tuple[str, Any]] = {
    "text": ("some-text", "some-text"),
    "true or false": ("TRUE", True),
    "list of text": ("10.0.0.0/8, ::1", ("10.0.0.0/8", "::1")),
    "map of text to text": ("hidden_text=block, bidi_override=off", {"hidden_text": "block", "bidi_override": "off"}),
    "`optional` or `required`": ("optional", "optional"),
    "`starttls` or `tls` or `none`": ("tls", "tls"),
    "whole number": ("1_500", 1500),
    "number": ("2.5", 2.5),
}
SMALL = {"BEFFROI_SERVER__WORKERS": ("7", 7), "BEFFROI_GATEWAY__MAX_JSON_DEPTH": ("70", 70)}
SMALL |= {"BEFFROI_GATEWAY__MAX_PIPELINED": ("70", 70)}
SMALL |= {"BEFFROI_SERVER__HOLD_JOURNAL_BYTES": ("2_097_152", 1 << 21)}


def test_every_process_and_gateway_setting_has_a_variable_that_sets_it() -> None:
    """Two underscores for each dot; all of them at once."""
    kinds = {setting.variable: setting.type for setting in reference() if setting.variable}
    names = {setting.name for setting in reference() if not setting.name.startswith("resources.")}
    assert {".".join(map(str, place)) for place, _ in variables().values()} == names
    values = {
        name: ("9000", 9000) if "_HELD" in name else SMALL.get(name) or VALUES[kind] for name, kind in kinds.items()
    }
    document = parse("", "b.yaml", environ={name: text for name, (text, _) in values.items()}).document
    for name, (text, wanted) in values.items():
        part: Any = document
        for step in variables()[name][0]:
            part = getattr(part, str(step))
        a_path = text == "some-text" and (
            name == "BEFFROI_DATA" or "TLS__" in name or name.endswith("CA_FILE")
        )  # from the working directory
        assert part == (str(Path("some-text").absolute()) if a_path else wanted), name


def test_no_two_settings_share_a_variable() -> None:
    """Whatever the names of later settings are: the separator keeps levels apart."""
    names = [setting.variable for setting in reference() if setting.variable]
    assert len(set(names)) == len(names)
    assert all("__" in name for name in names if name != "BEFFROI_DATA")


def test_a_variable_wins_over_the_file_and_an_option_over_both() -> None:
    """And nothing else of the file is lost."""
    reading = read(None, {"BEFFROI_SERVER__PORT": "9000"}, {("server", "port"): (9001, "--port")})
    assert reading.source.document.server.port == 9001
    source = parse("server: {port: 8000, host: '::1'}", "b.yaml", environ={"BEFFROI_SERVER__PORT": "9000"})
    assert (source.document.server.port, source.document.server.host) == (9000, "::1")


def test_an_empty_variable_sets_nothing() -> None:
    """`${PORT:-}` of a compose file is no port."""
    assert parse("server: {port: 8000}", "b.yaml", environ={"BEFFROI_SERVER__PORT": " "}).document.server.port == 8000


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BEFFROI_SERVER__PORT", "many", "$BEFFROI_SERVER__PORT: server.port: must be a whole number from 0 to 65535"),
        ("BEFFROI_SERVER__PORT", "tcp://10.0.0.1:80", "$BEFFROI_SERVER__PORT: server.port: must be a whole number"),
        ("BEFFROI_SERVER__PRT", "1", "did you mean BEFFROI_SERVER__PORT (`server.port`)?"),
        ("BEFFROI_SERVER__MAX_BODY", "1", "did you mean BEFFROI_GATEWAY__MAX_BODY"),
        ("BEFFROI_SERVER__DATA", "/x", "write BEFFROI_DATA, which every command reads"),
        ("BEFFROI_RESOURCES__ENGINES", "x", "engines and models stand in a file"),
        ("BEFFROI_GATEWAY__PROXY_PROTOCOL", "yes", "$BEFFROI_GATEWAY__PROXY_PROTOCOL: gateway.proxy_protocol"),
        (
            "BEFFROI_SERVER__TLS__CERTIFICATE",
            "c.pem",
            "$BEFFROI_SERVER__TLS__CERTIFICATE: server.tls: `key` is missing",
        ),
        ("BEFFROI_XYZ__QWERTY", "1", "unset it"),
    ],
)
def test_a_wrong_variable_is_told_by_its_name(name: str, value: str, said: str) -> None:
    """With what to do, as a wrong line of a file is; its value is not shown."""
    with pytest.raises(Invalid) as caught:
        parse("", "b.yaml", environ={name: value})
    (problem,) = caught.value.problems
    assert said in str(problem) and problem.remedy
    assert problem.spot.kind == "environment"


def test_what_only_looks_like_a_setting_is_remarked_and_stops_nobody() -> None:
    """One underscore is a slip of ours, `tcp://` a variable that Kubernetes sets for a service called beffroi-server."""
    examined = examine(None, {"BEFFROI_SERVER_PORT": "9000"})
    (note,) = examined.notes
    assert not examined.problems and note.remedy == "write BEFFROI_SERVER__PORT"
    others = {
        "BEFFROI_SERVER_PORT": "tcp://10.0.0.1:8400",
        "BEFFROI_SERVICE_HOST": "10.0.0.1",
        "BEFFROI_API_KEY": "bf-x",
    }
    examined = examine(None, others | {"BEFFROI_REQUIRE": "all", "BEFFROI_CONFIG": "b.yaml"})
    assert examined.problems == examined.notes == []


def test_a_group_that_the_file_has_wrong_is_told_and_not_overwritten() -> None:
    """`server: 5` stays a fault of the file."""
    with pytest.raises(Invalid) as caught:
        parse("server: 5", "b.yaml", environ={"BEFFROI_SERVER__PORT": "9000"})
    assert [problem.spot.line for problem in caught.value.problems] == [1]
