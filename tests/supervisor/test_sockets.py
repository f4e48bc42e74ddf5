# SPDX-License-Identifier: Apache-2.0
"""The listening sockets."""

import contextlib
import socket

import pytest

from beffroi.supervisor.errors import StartError
from beffroi.supervisor.sockets import is_loopback, listen


def test_the_kernel_shares_connections_out_among_sockets_of_one_port() -> None:
    """Of a hundred connections each of four sockets gets some."""
    doors = listen("127.0.0.1", 0, 4)
    address = doors[0].getsockname()
    assert {door.getsockname() for door in doors} == {address}
    clients = [socket.create_connection(address) for _ in range(100)]
    shares = []
    for door in doors:
        door.settimeout(0.1)
        shares.append(0)
        try:
            while True:
                door.accept()[0].close()
                shares[-1] += 1
        except TimeoutError:
            pass
    for one in clients + doors:
        one.close()
    assert sum(shares) == 100
    assert min(shares) > 0


def test_the_kernel_holds_little_for_a_client_that_reads_nothing() -> None:
    """What a worker cannot send stays with it, where it is counted and stops the engine; not megabytes out of sight."""
    (door,) = listen("127.0.0.1", 0)
    with door, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(door.getsockname())
        ours, _ = door.accept()
        ours.setblocking(False)
        taken = 0
        with ours, contextlib.suppress(BlockingIOError):
            while True:
                taken += ours.send(bytes(4096))
    assert taken < 256 << 10


def test_a_port_that_another_beffroi_shares_among_its_workers_is_taken() -> None:
    """SO_REUSEPORT alone would let two servers share it unseen."""
    doors = listen("127.0.0.1", 0, 2)
    port = doors[0].getsockname()[1]
    with pytest.raises(StartError, match=f"Port {port} on 127.0.0.1 is taken"):
        listen("127.0.0.1", port, 2)
    for door in doors:
        door.close()
    for door in listen("127.0.0.1", port, 2):
        door.close()


def test_a_host_that_is_none_is_refused_in_words() -> None:
    """And one that is not ours."""
    with pytest.raises(StartError, match="no address for the host"):
        listen("no such host", 0)
    with pytest.raises(StartError, match=r"Cannot listen on 192\.0\.2\.1"):
        listen("192.0.2.1", 0)


def test_loopback_is_told_from_the_rest() -> None:
    """What only this machine can reach."""
    assert all(map(is_loopback, ["127.0.0.1", "127.8.8.8", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.org", ""]))
