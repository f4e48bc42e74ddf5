# SPDX-License-Identifier: Apache-2.0
"""What journal tests share: records to write, a journal on a running loop, and every record found on disk."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from beffroi.control import segments
from beffroi.core.price import Cost, Tokens
from beffroi.core.record import Intent, Payload, Progress, Settlement
from beffroi.core.segment import SIZE
from beffroi.gateway.journal import Journal

SEGMENT = 64 << 10  # small, so that tests see several
STARTED_MS = time.time_ns() // 1_000_000


def boot_id() -> str:
    """An id as each process start gets one."""
    return uuid.uuid4().hex


def request_id(number: int) -> str:
    """An id in the shape of a real one, which tests can count with."""
    return f"req_{STARTED_MS:012x}7000{number:016x}"


def intent(request: str, attempt: int = 1, **values: Any) -> Intent:
    """An intent with values that differ from every default."""
    defaults: dict[str, Any] = {
        "at_ns": time.time_ns(),
        "key_id": "key_1",
        "key_slot": 7,
        "organisation": "default",
        "project": "default",
        "model": "m",
        "endpoint": "chat",
        "engine": "e1",
        "price_version": "2026-01",
        "input_estimate": 12,
    }
    return Intent(request, attempt, **(defaults | values))


def progress(request: str, output: int, attempt: int = 1) -> Progress:
    """So many output tokens relayed, at 4 nano-units each."""
    return Progress(request, attempt, time.time_ns(), Tokens(10, 0, output, 0), Cost(9, 0, 4 * output, 0))


def settlement(request: str, attempt: int = 1, **values: Any) -> Settlement:
    """A settlement of a request that went well."""
    now = time.time_ns()
    defaults: dict[str, Any] = {
        "started_ns": now - 1_000_000,
        "ended_ns": now,
        "key_id": "key_1",
        "key_slot": 7,
        "organisation": "default",
        "project": "default",
        "model": "m",
        "endpoint": "chat",
        "stream": False,
        "engine": "e1",
        "engine_kind": "vllm",
        "status": 200,
        "code": None,
        "outcome": "complete",
        "source": "engine",
        "tokens": Tokens(10, 0, 5, 0),
        "price_version": "2026-01",
        "currency": "EUR",
        "cost": Cost(9, 0, 20, 0),
        "attempts": attempt,
        "finish_reason": "stop",
        "verdict": "allow",
        "findings": (),
        "bytes_in": 100,
        "bytes_out": 200,
        "first_us": 300,
        "total_us": 1000,
        "address": "127.0.0.1",
    }
    return Settlement(request, attempt, **(defaults | values))


@asynccontextmanager
async def journal(directory: Path, **options: Any) -> AsyncIterator[Journal]:
    """A journal on this loop, closed at the end."""
    options = {"worker": 0, "boot": boot_id(), "segment_bytes": SEGMENT} | options
    made = Journal(directory, loop=asyncio.get_running_loop(), **options)
    try:
        yield made
    finally:
        made.close()


async def until(condition: Any, timeout: float = 5.0) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


def on_disk(directory: Path) -> list[Payload]:
    """Every record of every segment in order; each segment must go on where the one before ended."""
    payloads: list[Payload] = []
    for found in segments.find(directory).values():
        sequence = 1
        for each in found:
            header = segments.read_header(each.path)
            if header is None:
                continue
            assert header.base == sequence, f"{each.key} begins at {header.base}, not {sequence}"
            fd = os.open(each.path, os.O_RDONLY)
            try:
                for part in segments.read(fd, SIZE, sequence):
                    payloads += part.payloads
                    sequence = part.sequence
            finally:
                os.close(fd)
    return payloads
