# SPDX-License-Identifier: Apache-2.0
"""The proxies of docs/how-to/behind-a-proxy.md, started with the configuration that stands there.

In: a proxy's name, the address of Beffroi, a certificate. Out: a running `Proxy`. Ports and paths of files are the only
things that differ from the page; that each stood there is checked.
"""

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.blocks import of
from tests.harness import free_port, program, skip, wait_for

PAGE = "docs/how-to/behind-a-proxy.md"
NAME = "llm.example.org"
MODULES = Path("/usr/lib/apache2/modules")


def on_the_page(heading: str) -> str:
    """The first block under a heading."""
    return next(block.text for block in of(PAGE) if block.heading == heading)


def put(text: str, *changes: tuple[str, str]) -> str:
    """The text with each change made.

    Raises:
        AssertionError: what should be changed does not stand there.
    """
    for old, new in changes:
        assert old in text, f"{old!r} is not on the page"
        text = text.replace(old, new)
    return text


@dataclass
class Proxy:
    """One proxy on a free port of loopback. `chain` and `key` are PEM files; `patience` stands for the page's 610 s."""

    kind: str
    folder: Path
    backend: str
    chain: Path
    key: Path
    patience: str = "610"
    port: int = field(default_factory=free_port)
    popen: subprocess.Popen[bytes] | None = None

    def start(self) -> "Proxy":
        """Start it; returns once it listens."""
        self.folder.mkdir()
        command = getattr(self, f"_{self.kind}")()
        with (self.folder / "log").open("wb") as log:
            self.popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env=os.environ | {"XDG_DATA_HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder), "HOME": str(self.folder)},
                process_group=0,
            )  # fmt: skip
        try:
            wait_for(self._listens, 15, f"{self.kind} listens")
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{(self.folder / 'log').read_text()}") from None
        return self

    def _listens(self) -> bool:
        assert self.popen and self.popen.poll() is None, (self.folder / "log").read_text()
        from tests.client import Conn

        try:
            with Conn(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """End it, by its process id."""
        if self.popen:
            self.popen.terminate()
            try:
                self.popen.wait(5)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait(5)

    def _nginx(self) -> list[str]:
        site = put(
            on_the_page("nginx"),
            ("127.0.0.1:8400", self.backend),
            ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            (f"/etc/ssl/{NAME}.pem", str(self.chain)),
            (f"/etc/ssl/{NAME}.key", str(self.key)),
            ("610s", f"{self.patience}s"),
        )
        temporary = "".join(
            f"{kind}_temp_path {self.folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;\n" if os.geteuid() == 0 else ""
        config = self.folder / "nginx.conf"
        config.write_text(
            f"{user}worker_processes 1;\ndaemon off;\npid {self.folder}/pid;\nerror_log stderr;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{temporary}{site}}}\n"
        )
        return [program("nginx"), "-p", str(self.folder), "-c", str(config)]

    def _caddy(self) -> list[str]:
        site = put(
            on_the_page("Caddy"),
            (f"{NAME} {{", f"{NAME}:{self.port} {{\n    tls {self.chain} {self.key}"),
            ("127.0.0.1:8400", self.backend),
        )
        config = self.folder / "Caddyfile"
        config.write_text(f"{{\n    admin off\n    auto_https disable_redirects\n}}\n{site}")
        return [program("caddy"), "run", "--config", str(config), "--adapter", "caddyfile"]

    def _apache(self) -> list[str]:
        apache = program("apache2")
        named = next(block.text for block in of(PAGE, "sh") if "a2enmod" in block.text).split()[1:]
        if not MODULES.is_dir():
            skip("the folder of Apache's modules")
        loaded = ["mpm_event", "authz_core", "socache_shmcb", *named]
        modules = "".join(f"LoadModule {one}_module {MODULES}/mod_{one}.so\n" for one in loaded)
        site = put(
            on_the_page("Apache"),
            ("127.0.0.1:8400", self.backend),
            ("*:443", f"127.0.0.1:{self.port}"),
            (f"/etc/ssl/{NAME}.pem", str(self.chain)),
            (f"/etc/ssl/{NAME}.key", str(self.key)),
            ("timeout=610", f"timeout={self.patience}"),
        )
        config = self.folder / "apache.conf"
        config.write_text(
            f"ServerRoot {self.folder}\nDefaultRuntimeDir {self.folder}\nPidFile {self.folder}/pid\nErrorLog /dev/stderr\n"
            f"Listen 127.0.0.1:{self.port}\nServerName {NAME}\nMutex posixsem\n{modules}{site}"
        )
        return [apache, "-f", str(config), "-DFOREGROUND"]

    def _haproxy(self) -> list[str]:
        both = self.folder / "both.pem"
        both.write_text(self.chain.read_text() + self.key.read_text())
        text = put(
            on_the_page("HAProxy"),
            ("127.0.0.1:8400", self.backend),
            ("bind :443", f"bind 127.0.0.1:{self.port}"),
            (f"/etc/haproxy/{NAME}.pem", str(both)),
            ("timeout server 610s", f"timeout server {self.patience}s"),
            ("timeout client 610s", f"timeout client {self.patience}s"),
        )
        config = self.folder / "haproxy.cfg"
        config.write_text(re.sub(r"maxconn \d+", "maxconn 200", text))
        return [program("haproxy"), "-db", "-f", str(config)]
