# SPDX-License-Identifier: Apache-2.0
"""From a name and a place to a store, for those who may use it.

In: the stores of the configuration. Out: a `Store`, or a sentence that says why not.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from beffroi.config import secrets
from beffroi.config.secrets import Unreadable
from beffroi.control.rotation.stores.file import FileStore
from beffroi.control.rotation.stores.kubernetes import KubernetesStore
from beffroi.control.rotation.stores.port import Place, Store, StoreFault, StoreSettings, check_place
from beffroi.control.rotation.stores.vault import VaultStore


class Stores:
    """All stores there are.

    Args:
        settings: gives them as the configuration has them now.
        base: gives the folder that relative paths of secrets count from.
    """

    def __init__(
        self,
        settings: Callable[[], tuple[StoreSettings, ...]],
        base: Callable[[], Path],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._source = settings
        self._base = base
        self._environ = environ

    @property
    def _settings(self) -> dict[str, StoreSettings]:
        return {each.name: each for each in self._source()}

    def refusal(self, name: str, organisation: str, path: str, field: str) -> str:
        """Why an organisation may not have its keys put there; empty: it may. A store of others is as good as none."""
        found = self._settings.get(name)
        if found is None or not {organisation, "*"} & set(found.organisations):
            those = sorted(
                each.name for each in self._settings.values() if {organisation, "*"} & set(each.organisations)
            )
            there = (
                f"there are {', '.join(those)}" if those else "the configuration names none (resources.secret_stores)"
            )
            return f"there is no secret store `{name[:60]}` for this organisation; {there}"
        if found.kind == "kubernetes" and "/" in path:
            return "the path in a Kubernetes store is the name of a Secret, without `/`"
        return check_place(path, field)

    def open(self, name: str, place: Place) -> Store:
        """The place in the store.

        Raises:
            StoreFault: it may not be used (any more).
        """
        if why := self.refusal(name, place.organisation, place.path, place.field):
            raise StoreFault(why)
        settings = self._settings[name]
        if settings.kind == "file":
            return FileStore(settings, place)
        kind = KubernetesStore if settings.kind == "kubernetes" else VaultStore
        return kind(settings, place, self.look_up)

    def look_up(self, reference: str) -> str:
        """The secret that a reference names, as it is now. Raises `StoreFault`."""
        try:
            return secrets.look_up(reference, self._base(), self._environ)
        except Unreadable as error:
            raise StoreFault(
                f"a secret that the configuration names cannot be had: {error.message}; {error.remedy}"
            ) from None


NO_STORES = Stores(tuple, Path)
