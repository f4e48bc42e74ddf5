# SPDX-License-Identifier: Apache-2.0
"""The vault: what it seals opens with its key, for its purpose, and not otherwise."""

from pathlib import Path

import pytest

from beffroi.store import vault
from beffroi.store.vault import Vault, VaultError, key_of


def test_a_secret_opens_again_for_the_same_purpose_alone(tmp_path: Path) -> None:
    """Over a restart; never for another context, nor when one bit was changed, nor cut short."""
    sealed = Vault.open(tmp_path).seal(b"secret", "webhook whk_1")
    again = Vault.open(tmp_path)
    assert b"secret" not in sealed
    assert again.unseal(sealed, "webhook whk_1") == b"secret"
    assert again.seal(b"secret", "webhook whk_1") != sealed
    with pytest.raises(VaultError, match="stands where another belongs"):
        again.unseal(sealed, "webhook whk_2")
    for place in range(len(sealed)):
        broken = bytearray(sealed)
        broken[place] ^= 1
        with pytest.raises(VaultError):
            again.unseal(bytes(broken), "webhook whk_1")
        with pytest.raises(VaultError):
            again.unseal(sealed[:place], "webhook whk_1")


def test_only_the_owner_reads_the_key(tmp_path: Path) -> None:
    """Mode 0600, and nothing half written stays."""
    Vault.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [vault.FILE]
    assert (tmp_path / vault.FILE).stat().st_mode & 0o777 == 0o600


def test_after_a_rotation_old_and_new_open_and_the_new_key_seals(tmp_path: Path) -> None:
    """And what the vault derives stays what it was: cursors outlive a rotation."""
    before = Vault.open(tmp_path)
    running = Vault.open(tmp_path)
    sealed = before.seal(b"old", "c")
    assert key_of(running.seal(b"", "c")) in before.ids
    fresh_id = running.rotate()
    assert key_of(running.seal(b"", "c")).hex() == fresh_id and running.unseal(sealed, "c") == b"old"
    after = Vault.open(tmp_path)
    fresh = after.seal(b"new", "c")
    assert key_of(fresh) not in before.ids and key_of(sealed) in after.ids
    assert (after.unseal(sealed, "c"), after.unseal(fresh, "c")) == (b"old", b"new")
    assert after.secret("cursors") == before.secret("cursors") != before.secret("other")
    with pytest.raises(VaultError, match="does not hold"):
        before.unseal(fresh, "c")


def test_a_fleet_shares_a_secret_and_may_have_two_while_it_changes() -> None:
    """The same secret opens everywhere; with commas the first seals; a short one is refused."""
    one, two = "a" * 32, "b" * 40
    sealed = Vault.shared(one).seal(b"s", "c")
    assert Vault.shared(f"{two}, {one}").unseal(sealed, "c") == b"s"
    with pytest.raises(VaultError, match="does not hold"):
        Vault.shared(two).unseal(sealed, "c")
    with pytest.raises(VaultError, match="NEW,OLD"):
        Vault.shared(one).rotate()
    with pytest.raises(VaultError, match="32 characters"):
        Vault.shared("short")


@pytest.mark.parametrize("content", ["", "key", "beffroi-vault-1:AAAA", "beffroi-vault-1:" + "!" * 44])
def test_a_key_file_that_is_none_is_never_replaced(tmp_path: Path, content: str) -> None:
    """A new key would open nothing of what was sealed."""
    (tmp_path / vault.FILE).write_text(content)
    with pytest.raises(VaultError, match="restore it from a backup"):
        Vault.open(tmp_path)
    assert (tmp_path / vault.FILE).read_text() == content
