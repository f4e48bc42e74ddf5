# SPDX-License-Identifier: Apache-2.0
"""Secret stores: files, a Kubernetes API and a Vault that follow a script over HTTPS."""

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from beffroi.control.rotation.stores.choose import Stores
from beffroi.control.rotation.stores.port import Place, Store, StoreFault, StoreSettings, check_place
from tests.control.rotation.scripted import https
from tests.gateway.certificates import Authority

pytestmark = pytest.mark.anyio
PLACE = Place("acme", "app", "api_key")


def store(settings: StoreSettings, base: Path, place: Place = PLACE, **environ: str) -> Store:
    """One place in one store."""
    return Stores(lambda: (settings,), lambda: base, environ).open(settings.name, place)


def files(root: Path) -> StoreSettings:
    """A store of files."""
    return StoreSettings(name="s", kind="file", directory=str(root), organisations=("*",))


async def test_a_file_is_replaced_whole_and_only_this_user_reads_it(tmp_path: Path) -> None:
    """In a folder of its organisation; nothing is left beside it."""
    here = store(files(tmp_path), tmp_path, Place("acme", "team/app", "api_key"))
    assert await here.read() is None
    for text in ("bf-one", "bf-two"):
        await here.write(text)
        assert await here.read() == text
    path = tmp_path / "acme/team/app"
    assert path.read_text() == "bf-two\n" and path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["app"]
    assert (tmp_path / "acme").stat().st_mode & 0o777 == 0o700


async def test_no_link_leads_out_of_the_directory(tmp_path: Path) -> None:
    """Neither a folder nor the file itself: somebody else may have put it there."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir(), outside.mkdir()
    (root / "acme").symlink_to(outside)
    with pytest.raises(StoreFault, match="leads out"):
        await store(files(root), tmp_path).write("bf-x")
    assert not list(outside.iterdir())
    (root / "acme").unlink()
    (root / "acme").mkdir()
    (root / "acme/app").symlink_to(outside / "secret")
    with pytest.raises(StoreFault, match="cannot read"):
        await store(files(root), tmp_path).read()
    await store(files(root), tmp_path).write("bf-x")  # a rename puts a file in the place of the link
    assert not (outside / "secret").exists() and (root / "acme/app").read_text() == "bf-x\n"


@pytest.mark.parametrize("path", ["..", "a/../b", "/etc/passwd", "a//b", "", "a/", ".a", "a\0b", "a\nb", "x" * 65, "a/" * 8 + "b", "~", "%2e%2e", "a b"])  # fmt: skip
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    """Before anything is opened or asked."""
    assert check_place(path, "api_key")
    assert not check_place("team/app-1.key", ".env_key")
    assert check_place("app", "a/b") and check_place("app", "")


def test_a_store_is_for_the_organisations_that_the_configuration_names(tmp_path: Path) -> None:
    """To others there is none of that name."""
    settings = StoreSettings(name="s", kind="file", directory="/x", organisations=("acme",))
    stores = Stores(lambda: (settings,), lambda: tmp_path)
    assert not stores.refusal("s", "acme", "app", "f")
    assert stores.refusal("s", "other", "app", "f") == stores.refusal("s", "other", "app", "f").replace(
        "there are s", ""
    )
    assert "there is no secret store" in stores.refusal("s", "other", "app", "f")
    with pytest.raises(StoreFault):
        stores.open("s", Place("other", "app", "f"))


class Kubernetes:
    """One Secret behind an API server."""

    def __init__(self) -> None:
        self.version = 7
        self.labels: dict[str, str] = {"beffroi/organisation": "acme"}
        self.data: dict[str, str] = {"other": "eA=="}
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.meanwhile = False  # somebody else changes it between read and write

    def __call__(self, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        self.asked.append((method, path, headers, body))
        if headers.get("authorization") != "Bearer tok":
            return 401, {}
        if path != "/api/v1/namespaces/prod/secrets/app":
            return 404, {"kind": "Status"}
        if method == "PATCH":
            self.version += self.meanwhile
            if body["metadata"]["resourceVersion"] != str(self.version):
                return 409, {"kind": "Status", "reason": "Conflict"}
            self.data |= body["data"]
            self.version += 1
        metadata = {"name": "app", "resourceVersion": str(self.version), "labels": self.labels}
        return 200, {"kind": "Secret", "metadata": metadata, "data": self.data}


async def test_a_kubernetes_secret_is_patched_at_the_version_that_was_read(
    tmp_path: Path, authority: Authority
) -> None:
    """One field of it; the others stay. Whoever changes it in between wins."""
    api = Kubernetes()
    with https(authority, api) as (url, ca):
        settings = StoreSettings(
            name="k",
            kind="kubernetes",
            url=url,
            ca_file=ca,
            token="file:tok",
            namespace="prod",
            organisations=("acme",),
        )
        (tmp_path / "tok").write_text("tok\n")
        here = store(settings, tmp_path)
        assert await here.read() is None
        await here.write("bf-new")
        assert await here.read() == "bf-new"
        assert base64.b64decode(api.data["api_key"]) == b"bf-new" and api.data["other"] == "eA=="
        _, _, headers, body = next(each for each in api.asked if each[0] == "PATCH")
        assert headers["content-type"] == "application/merge-patch+json" and set(body["data"]) == {"api_key"}
        api.meanwhile = True
        with pytest.raises(StoreFault, match="somebody else changed"):
            await here.write("bf-newer")
        api.labels = {"beffroi/organisation": "globex"}
        with pytest.raises(StoreFault, match="kubectl -n prod label secret app beffroi/organisation=acme"):
            await here.read()
        with pytest.raises(StoreFault, match="make it first"):
            await store(settings, tmp_path, Place("acme", "none", "f")).read()
        (tmp_path / "tok").write_text("old")  # looked up at each use: a projected token changes every hour
        with pytest.raises(StoreFault, match="token is not accepted"):
            await here.read()


class Vault:
    """One secret of a KV engine of version 2."""

    def __init__(self) -> None:
        self.version = 0
        self.data: dict[str, Any] | None = None
        self.sealed = False

    def __call__(self, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if headers.get("x-vault-token") != "root":
            return 403, {"errors": ["permission denied"]}
        if path != "/v1/kv/data/beffroi/acme/app":
            return 404, {"errors": []}
        if method == "POST":
            if body["options"]["cas"] != self.version:
                return 400, {"errors": ["check-and-set parameter did not match the current version"]}
            self.version, self.data = self.version + 1, body["data"]
            return 200, {"data": {"version": self.version}}
        metadata = {"version": self.version, "destroyed": False}
        if self.data is None:
            return 404, {"data": {"data": None, "metadata": metadata}} if self.version else {"errors": []}
        return 200, {"data": {"data": self.data, "metadata": metadata}}


async def test_a_vault_secret_is_written_by_check_and_set(tmp_path: Path, authority: Authority) -> None:
    """From nothing, beside other fields, after a deletion, and not over what somebody else wrote."""
    vault = Vault()
    with https(authority, vault) as (url, ca):
        settings = StoreSettings(
            name="v", kind="vault", url=url, ca_file=ca, token="env:TOKEN", mount="kv", organisations=("acme",)
        )
        here = store(settings, tmp_path, TOKEN="root")
        assert await here.read() is None
        await here.write("bf-1")
        assert await here.read() == "bf-1" and vault.data == {"api_key": "bf-1"}
        vault.data = {"api_key": "bf-1", "note": "ours"}
        assert await here.read() == "bf-1"
        await here.write("bf-2")
        assert vault.data == {"api_key": "bf-2", "note": "ours"}
        with pytest.raises(StoreFault, match="somebody else"):
            await here.write("bf-3")
        vault.data = None
        assert await here.read() is None
        await here.write("bf-4")
        assert vault.data == {"api_key": "bf-4"}
        with pytest.raises(StoreFault, match="may not read and write"):
            await store(settings, tmp_path, TOKEN="wrong").read()
        vault.sealed = True
        with pytest.raises(StoreFault, match="sealed"):
            await here.read()
        with pytest.raises(StoreFault, match="environment has no TOKEN") as refused:
            await store(settings, tmp_path).read()
        assert "root" not in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, b"<html>"), "not JSON"),
        ((200, {"data": {}}), "no secret of KV version 2"),
        ((200, b"[1]"), "no secret of KV version 2"),
        ((200, b"x" * (3 << 20)), "more than"),
        ((302, {}), "answers 302"),
        ((200, {"data": {"data": {"api_key": "k"}, "metadata": {}}}), "which version"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_a_fault(
    tmp_path: Path, authority: Authority, answer: tuple[int, Any], said: str
) -> None:
    """Never taken for nothing: a successor must not be written over what cannot be read."""
    with https(authority, lambda *_: answer) as (url, ca):
        settings = StoreSettings(name="v", kind="vault", url=url, ca_file=ca, organisations=("acme",))
        with pytest.raises(StoreFault, match=said):
            await store(settings, tmp_path).read()


async def test_a_store_that_cannot_prove_who_it_is_gets_no_key(tmp_path: Path, authority: Authority) -> None:
    """A CA of its own is the only one that counts; nobody there is a fault too."""
    other = str(Authority(tmp_path).cert)
    with https(authority, lambda *_: (200, {})) as (url, _):
        for ca in (other, None):
            settings = StoreSettings(name="v", kind="vault", url=url, ca_file=ca, organisations=("acme",))
            with pytest.raises(StoreFault, match="does not answer"):
                await store(settings, tmp_path).read()
    settings = StoreSettings(name="v", kind="vault", url=url, ca_file=other, organisations=("acme",))
    with pytest.raises(StoreFault, match="does not answer"):
        await store(settings, tmp_path).read()
