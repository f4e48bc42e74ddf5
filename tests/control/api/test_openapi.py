# SPDX-License-Identifier: Apache-2.0
"""The description of the admin API, held to a running control process by schemathesis: answers are what it says, none is 5xx."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beffroi.control.api.openapi import document
from beffroi.control.api.routes import OPERATIONS, PREFIX
from tests.control.api.relay import relay
from tests.control.fakes import Control, WorkerThread, control

SETTINGS = "[checks]\nnegative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 412, 413, 422, 503]\n"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
    "negative_data_rejection",
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A control process and one worker."""
    with control(tmp_path_factory.mktemp("c")) as process, WorkerThread(process.data):
        yield process


def test_what_is_served_is_what_the_code_says(running: Control) -> None:
    """Also without a key: it holds no secret."""
    served = running.get(f"{PREFIX}/openapi.json", port=True)
    assert served.status == 200
    assert served.json == json.loads(json.dumps(document(OPERATIONS, PREFIX)))
    assert {(method.upper(), path) for path, methods in served.json["paths"].items() for method in methods} == {
        (each.method, PREFIX + each.path) for each in OPERATIONS if each.needs is not None
    }


def test_no_call_whatever_makes_the_api_fail(running: Control, tmp_path: Path) -> None:
    """What is allowed and what is not, generated from the description, with the key of an operator."""
    made = running.ask("POST", f"{PREFIX}/admin-keys?organisation=*", {"name": "fuzz", "role": "operator"})
    assert made.status == 201, made.text
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    with relay(running.port) as port:
        done = subprocess.run(
            [
                *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", "schemathesis.toml", "run"),
                *(f"http://127.0.0.1:{port}{PREFIX}/openapi.json", "--url", f"http://127.0.0.1:{port}"),
                *("--header", f"Authorization: Bearer {made.json['key']}", "--header", "Connection: close"),
                *("--exclude-operation-id", "post_admin_keys_id_revoke"),  # it would revoke the key that it asks with
                *("--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing", "--max-examples", "6"),
                *("--seed", "1", "--no-color", "--continue-on-failure", "--request-timeout", "20"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert '"level": "error"' not in running.log()
