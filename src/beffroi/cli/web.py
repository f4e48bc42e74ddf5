# SPDX-License-Identifier: Apache-2.0
"""HTTP of commands that are clients of a gateway or an engine, by the standard library: they work in a bare install.

In: a base URL, a key, an authority. Out: answers, parsed; a stream as its events; a `Failure` with a sentence.
"""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beffroi.cli.client import Failure
from beffroi.supervisor.connection import connect, prefix

LONGEST = 16 << 20
_CONNECT, _ANSWER = 5.0, 300.0  # seconds; the gateway's own time-outs are shorter
_HERE = "`beffroi serve` starts one here, --url names another"


class Refusal(Failure):
    """The gateway refused; `code` is its own word for why."""

    def __init__(self, message: str, status: int, code: str | None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Gateway:
    """Where a client's requests go.

    Attributes:
        url: of the API, as clients write it: `http://127.0.0.1:8400/v1`.
        ca: PEM file of an authority to trust; None: the system's.
        data: the data directory of the gateway, if it is this machine's own: prices can be read there.
    """

    url: str
    key: str
    ca: Path | None = None
    data: Path | None = None

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request; → the answer's JSON.

        Raises:
            Failure: nobody answers. Refusal: with a status from 400 on.
        """
        connection = self._open(method, path, body)
        try:
            return parsed(self._answer(connection).read(LONGEST))
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{self.url} {reason(error)}") from None
        finally:
            connection.close()

    def stream(self, path: str, body: Any) -> Iterator[dict[str, Any]]:
        """One streamed request; → its events, parsed, until `[DONE]` or the end. Closing the iterator cuts it.

        Raises:
            Failure: as `call`; also where the stream breaks off.
        """
        connection = self._open("POST", path, body)
        try:
            answer = self._answer(connection)
            while line := answer.readline(LONGEST):
                if not line.startswith(b"data:"):
                    continue
                content = line[5:].strip()
                if content == b"[DONE]":
                    return
                event = parsed(content)
                if isinstance(event, dict):
                    yield event
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{self.url} {reason(error)}") from None
        finally:
            connection.close()

    def _open(self, method: str, path: str, body: Any) -> http.client.HTTPConnection:
        headers = {"authorization": f"Bearer {self.key}", "accept": "application/json, text/event-stream"}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["content-type"] = "application/json"
        connection = None
        try:
            connection = connect(self.url, _CONNECT, self.ca)
            connection.connect()
            connection.sock.settimeout(_ANSWER)
            connection.request(method, prefix(self.url) + path, content, headers)
        except (OSError, http.client.HTTPException) as error:
            if connection is not None:
                connection.close()
            raise Failure(f"{self.url} {reason(error)}{_hint(error)}") from None
        return connection

    @staticmethod
    def _answer(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        answer = connection.getresponse()
        if answer.status >= 400:
            raise refusal(answer.status, dict(answer.headers), answer.read(LONGEST))
        return answer


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """What an error answer says, with what to do where that is known."""
    content = parsed(body)
    error = content.get("error") if isinstance(content, dict) else None
    said = error if isinstance(error, dict) else {}
    code = said.get("code")
    message = str(said.get("message") or f"the gateway answers with status {status}").rstrip(".")
    wait = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    if status == 401:
        message += "; `beffroi keys create NAME` makes a key, `beffroi keys list` shows those there are"
    elif status in {429, 503} and wait:
        message += f" (again in {wait} s)"
    return Refusal(message, status, code if isinstance(code, str) else None)


def _hint(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "; --ca names the authority that signed it"
    return f"; {_HERE}" if isinstance(error, ConnectionRefusedError | FileNotFoundError) else ""


def parsed(body: bytes) -> Any:
    """JSON; None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def reason(error: Exception) -> str:
    """Why there is no answer, so that it can follow a URL."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"has a certificate that is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "does not speak TLS as it should (is it http and not https?)"
    if isinstance(error, TimeoutError):
        return "does not answer in time"
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return "answers nobody: nothing listens there"
    if isinstance(error, socket.gaierror):
        return f"has a name that nobody knows ({error.strerror})"
    if isinstance(error, http.client.HTTPException):
        return f"does not answer as HTTP ({type(error).__name__})"
    return f"cannot be reached: {getattr(error, 'strerror', None) or error}"
