# SPDX-License-Identifier: Apache-2.0
"""One field of a secret in a Vault KV engine of version 2 (OpenBao speaks the same), written by check-and-set.

In: an address, a mount, a place. Out: `<mount>/data/beffroi/<organisation>/<path>`, its other fields kept as they were.
Source: Vault HTTP API, KV v2: `options.cas` is the version that must be the current one, 0 for none yet.
"""

from typing import Any

from beffroi.control.rotation.stores.port import Lookup, Place, StoreFault, StoreSettings, ask, refused

FOLDER = "beffroi"


class VaultStore:
    """One field of one secret."""

    def __init__(self, settings: StoreSettings, place: Place, look_up: Lookup) -> None:
        self._settings = settings
        self._field = place.field
        self._look_up = look_up
        self._secret = f"{FOLDER}/{place.organisation}/{place.path}"
        self._path = f"/v1/{settings.mount.strip('/')}/data/{self._secret}"
        self._version = 0
        self._fields: dict[str, Any] = {}

    async def read(self) -> str | None:
        """As `Store.read`."""
        status, answer = await ask(self._settings, "GET", self._path, headers=self._headers())
        body = answer.get("data")
        if status == 404:  # never there, or its newest version was deleted, which has a number all the same
            metadata = body.get("metadata") if isinstance(body, dict) else None
            self._version = self._number(metadata) if metadata else 0
            self._fields = {}
            return None
        if status != 200:
            raise self._refused(status)
        if not isinstance(body, dict) or not isinstance(body.get("data"), dict):
            raise StoreFault(
                f"the store {self._settings.name} answers with something that is no secret of KV version 2"
            )
        self._version, self._fields = self._number(body.get("metadata")), body["data"]
        value = self._fields.get(self._field)
        return None if value is None else str(value)

    async def write(self, text: str) -> None:
        """As `Store.write`."""
        body = {"options": {"cas": self._version}, "data": {**self._fields, self._field: text}}
        status, _ = await ask(self._settings, "POST", self._path, headers=self._headers(), body=body)
        if status not in (200, 204):
            raise self._refused(status)

    def _number(self, metadata: object) -> int:
        version = metadata.get("version") if isinstance(metadata, dict) else None
        if not isinstance(version, int):
            raise StoreFault(f"the store {self._settings.name} does not say which version its secret has")
        return version

    def _headers(self) -> dict[str, str]:
        headers = {"x-vault-request": "true", "content-type": "application/json"}
        if self._settings.token is not None:
            headers["x-vault-token"] = self._look_up(self._settings.token)
        return headers

    def _refused(self, status: int) -> StoreFault:
        said = {
            400: f"somebody else changed {self._secret} meanwhile, or its mount is not KV version 2",
            403: f"its token may not read and write {self._secret}",
            503: "it is sealed or in maintenance",
        }
        return refused(self._settings, status, said.get(status, ""))
