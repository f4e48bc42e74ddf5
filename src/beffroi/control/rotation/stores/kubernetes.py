# SPDX-License-Identifier: Apache-2.0
"""One key of a Kubernetes Secret, changed by a patch that names the version it was read at.

In: an API server, a namespace, a Secret that exists and carries the label `beffroi/organisation`. Out: `data.<field>`.
Source: Kubernetes API, `PATCH /api/v1/namespaces/{namespace}/secrets/{name}` (merge patch, RFC 7396), optimistic locking by
`metadata.resourceVersion`, 409 on a conflict. The label is what keeps one organisation's keys out of another's Secrets.
"""

import base64
import binascii

from beffroi.control.rotation.stores.port import Lookup, Place, StoreFault, StoreSettings, ask, refused

LABEL = "beffroi/organisation"


class KubernetesStore:
    """One field of one Secret."""

    def __init__(self, settings: StoreSettings, place: Place, look_up: Lookup) -> None:
        self._settings = settings
        self._place = place
        self._look_up = look_up
        self._path = f"/api/v1/namespaces/{settings.namespace}/secrets/{place.path}"
        self._version = ""

    async def read(self) -> str | None:
        """As `Store.read`."""
        status, secret = await ask(self._settings, "GET", self._path, headers=self._headers("application/json"))
        if status != 200:
            raise self._refused(status)
        metadata, data = secret.get("metadata"), secret.get("data") or {}
        if not isinstance(metadata, dict) or not isinstance(data, dict) or not metadata.get("resourceVersion"):
            raise StoreFault(f"the store {self._settings.name} answers with something that is no Secret")
        labels = metadata.get("labels")
        if not isinstance(labels, dict) or labels.get(LABEL) != self._place.organisation:
            raise StoreFault(
                f"the Secret {self._place.path} is not labelled for this organisation; whoever owns it can say so: "
                f"kubectl -n {self._settings.namespace} label secret {self._place.path} {LABEL}={self._place.organisation}"
            )
        self._version = str(metadata["resourceVersion"])
        value = data.get(self._place.field)
        if value is None:
            return None
        try:
            return base64.b64decode(str(value), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return ""

    async def write(self, text: str) -> None:
        """As `Store.write`."""
        value = base64.b64encode(text.encode()).decode()
        body = {"metadata": {"resourceVersion": self._version}, "data": {self._place.field: value}}
        status, _ = await ask(
            self._settings, "PATCH", self._path, headers=self._headers("application/merge-patch+json"), body=body
        )
        if status != 200:
            raise self._refused(status)

    def _headers(self, media: str) -> dict[str, str]:
        headers = {"accept": "application/json", "content-type": media}
        if self._settings.token is not None:
            headers["authorization"] = f"Bearer {self._look_up(self._settings.token)}"
        return headers

    def _refused(self, status: int) -> StoreFault:
        said = {
            401: "its token is not accepted",
            403: f"its service account may not get and patch the Secret {self._place.path}",
            404: f"there is no Secret {self._place.path} in the namespace {self._settings.namespace}; make it first",
            409: f"somebody else changed the Secret {self._place.path} meanwhile",
        }
        return refused(self._settings, status, said.get(status, ""))
