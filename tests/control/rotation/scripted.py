# SPDX-License-Identifier: Apache-2.0
"""Peers that follow a script: an HTTPS server for stores, an SMTP server for mail. Real sockets, real TLS.

In: what each request is to be answered. Out: what was asked.
"""

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.gateway.certificates import Authority

Script = Callable[[str, str, dict[str, str], Any], tuple[int, Any]]


@contextmanager
def https(authority: Authority, script: Script) -> Iterator[tuple[str, str]]:
    """A server whose answers the script gives: its address and its CA file."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, said = script(self.command, self.path, headers, json.loads(content) if content else None)
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = _answer  # noqa: N815 - names of the standard library

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("store"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{server.server_address[1]}", str(authority.cert)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Mailbox:
    """An SMTP server that takes what its script does not refuse."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.recipients: list[str] = []
        self.said: list[str] = []
        self.refuse: dict[str, str] = {}  # command → what is answered in its place
        self.port = 0

    def serve(self, connection: socket.socket, context: ssl.SSLContext | None) -> None:
        """One session."""
        connection.sendall(b"220 mailbox\r\n")
        self._session(connection, context)

    def _session(self, connection: socket.socket, context: ssl.SSLContext | None) -> None:
        file = connection.makefile("rb")

        def say(text: str) -> None:
            connection.sendall(text.encode() + b"\r\n")

        while line := file.readline():
            command = line.decode().strip()
            word = command.split(" ", 1)[0].upper()
            self.said.append(word)
            if word in self.refuse:
                say(self.refuse[word])
            elif word == "EHLO":
                say("250-mailbox")
                if context is not None and not isinstance(connection, ssl.SSLSocket):
                    say("250-STARTTLS")
                say("250 AUTH PLAIN")
            elif word == "STARTTLS" and context is not None:
                say("220 go on")
                file.close()
                try:
                    wrapped = context.wrap_socket(connection, server_side=True)
                except OSError:  # the client does not believe who this is
                    return
                with wrapped:
                    self._session(wrapped, context)
                return
            elif word == "AUTH":
                say("235 welcome")
            elif word == "RCPT":
                self.recipients.append(command.partition("<")[2].partition(">")[0])
                say("250 fine")
            elif word == "DATA":
                say("354 go on")
                lines = []
                while (part := file.readline().decode()) != ".\r\n":
                    lines.append(part)
                self.messages.append("".join(lines))
                say("250 taken")
            elif word == "QUIT":
                say("221 bye")
                file.close()
                return
            else:
                say("250 fine")


@contextmanager
def smtp(context: ssl.SSLContext | None = None) -> Iterator[Mailbox]:
    """A running one."""
    box = Mailbox()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            box.serve(self.request, context)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    server = Server(("127.0.0.1", 0), Handler)
    box.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield box
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
