# SPDX-License-Identifier: Apache-2.0
"""Children for the supervisor to look after: they note what they were told, and misbehave when a file says so.

In: BEFFROI_CHILD; files in the data directory (`crash-ROLE`, `stubborn`, `refuse`, `late`). Out: lines in the file `notes`.
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

TOLD: dict[str, Any] = json.loads(os.environ["BEFFROI_CHILD"])
DATA = Path(TOLD["data"])


def note(event: str) -> None:
    line = {"event": event, "pid": os.getpid(), "at": time.monotonic(), "told": TOLD}
    with (DATA / "notes").open("a") as out:
        out.write(json.dumps(line) + "\n")


def asked_to_end(_number: int, _frame: object) -> None:
    note("term")
    if not (DATA / "stubborn").exists():
        sys.exit(0)


def main() -> None:
    note("start")
    if (DATA / f"crash-{TOLD['role']}").exists():
        sys.exit(7)
    if TOLD["role"] == "control" and (DATA / "refuse").exists():
        sys.exit(2)
    while TOLD["role"] == "control" and (DATA / "late").exists():
        time.sleep(0.01)
    signal.signal(signal.SIGTERM, asked_to_end)
    signal.signal(signal.SIGHUP, lambda *_: note("hup"))
    note("serve")
    if "ready_fd" in TOLD:
        with os.fdopen(TOLD["ready_fd"], "w") as out:
            out.write(json.dumps({"ready": True, "first_key": "a-key" if TOLD["fresh"] else None}) + "\n")
    door = socket.socket(fileno=TOLD["fd"])
    while True:
        client, _ = door.accept()
        with client:
            client.recv(4096)
            body = json.dumps({"pid": os.getpid(), "slot": TOLD.get("worker")}).encode()
            client.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
