# SPDX-License-Identifier: Apache-2.0
"""Where the embedded engine listens and what it serves, decided before it starts.

In: a data directory. Out: the arguments of `beffroi.embedded.process`, and resources in the shape of a configuration file.
"""

import os
import re
import socket
from importlib.resources import files
from pathlib import Path
from typing import Any

NAME = "beffroi-tiny"
ENGINE = "embedded"
CONTEXT = 2048
SLOTS = 4
MAX_OUTPUT = 1024
_PLAIN_PATH = re.compile(r"/[!-~]*")  # what can stand in an engine's URL
_SOCKET_PATH = 107  # bytes, unix(7)


def arguments(data: Path) -> dict[str, Any]:
    """What the child is told: a Unix socket in the data directory, or a loopback port where its path cannot be a URL."""
    path = str(data / "engine.sock")
    told: dict[str, Any] = {"model": str(files("beffroi.embedded") / "tiny.gguf"), "alias": NAME}
    if _PLAIN_PATH.fullmatch(path) and not set("?#") & set(path) and len(os.fsencode(path)) <= _SOCKET_PATH:
        return {**told, "host": path, "port": 0}
    return {**told, "host": "127.0.0.1", "port": _free_port()}


def resources(told: dict[str, Any]) -> dict[str, Any]:
    """The engine and its one model, for an engine that was told `told`."""
    url = f"http://127.0.0.1:{told['port']}" if told["port"] else f"unix:{told['host']}"
    return {
        "engines": [{"name": ENGINE, "url": url, "kind": "llamacpp", "machine": socket.gethostname()}],
        "models": [
            {
                "id": NAME,
                "targets": [{"engine": ENGINE, "model": NAME}],
                "max_model_len": CONTEXT,
                "max_output": MAX_OUTPUT,
                "default_max_tokens": MAX_OUTPUT,
            }
        ],
    }


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
