# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests, made by the `openssl` program: an authority, and what it signs.

In: a folder. Out: PEM files in it, and contexts of clients that trust them.
"""

import ssl
import subprocess
from pathlib import Path

from tests.harness import program


class Authority:
    """A certificate authority of one test."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder, self.name = folder, name
        self.cert, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        self._run(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-keyout",
            self.key,
            "-out",
            self.cert,
        )

    def _run(self, *arguments: str | Path) -> None:
        subprocess.run([program("openssl"), *map(str, arguments)], check=True, capture_output=True)

    def sign(self, name: str, serial: int = 1) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1 and for a client, and its key."""
        cert, key, asked = (self.folder / f"{name}{suffix}" for suffix in (".pem", ".key", ".csr"))
        extensions = self.folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n")
        self._run(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            f"/CN={name}",
            "-keyout",
            key,
            "-out",
            asked,
        )
        self._run(
            "x509",
            "-req",
            "-in",
            asked,
            "-CA",
            self.cert,
            "-CAkey",
            self.key,
            "-set_serial",
            str(serial),
            "-days",
            "2",
            "-extfile",
            extensions,
            "-out",
            cert,
        )
        return cert, key

    def client(self, pair: tuple[Path, Path] | None = None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """A client that trusts this authority alone, with a certificate of its own or without."""
        context = ssl.create_default_context(cafile=str(self.cert))
        if pair:
            context.load_cert_chain(*pair)
        if version:
            context.minimum_version = context.maximum_version = version
        return context

    def server(self, pair: tuple[Path, Path]) -> ssl.SSLContext:
        """A server with a certificate of this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        return context
