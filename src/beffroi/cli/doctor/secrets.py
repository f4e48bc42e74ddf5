# SPDX-License-Identifier: Apache-2.0
"""The doctor on what seals secrets in the ledger.

In: a scene. Out: whether the key file is there, whole, and its owner's alone.
"""

from collections.abc import Iterator

from beffroi.cli.doctor.scene import OK, PROBLEM, WARNING, Finding, Scene
from beffroi.core.layout import VERSION_FILE, belongs_to
from beffroi.store.vault import FILE, VaultError, read_keys

_NAME = "vault"


def vault(scene: Scene) -> Iterator[Finding]:
    """`vault.key`; a fleet has its secret in the configuration instead, which the doctor may not have been shown."""
    path = scene.data / FILE
    shared = scene.server.fleet_secret is not None or belongs_to(scene.data) is not None
    if shared or not (scene.data / VERSION_FILE).exists():
        return
    try:
        count, mode = len(read_keys(path)), path.stat().st_mode
    except FileNotFoundError:
        yield Finding(
            _NAME,
            WARNING,
            f"There is no {path}; the next start makes one, which opens nothing that was sealed before (secrets of webhooks).",
            "After a restore or a move, put back the one that belongs to this ledger.",
        )
    except VaultError:
        yield Finding(_NAME, PROBLEM, f"{path} holds no keys, so Beffroi does not start.", "Restore it from a backup.")
    except OSError as error:
        yield Finding(
            _NAME, PROBLEM, f"{path} cannot be read: {error.strerror}.", "Run it as the user who runs Beffroi."
        )
    else:
        if mode & 0o077:
            yield Finding(
                _NAME, WARNING, f"{path} can be read by others (mode {mode & 0o777:04o}).", f"chmod 600 {path}"
            )
        else:
            yield Finding(_NAME, OK, f"{FILE} holds {count} key{'s' * (count > 1)}, and is this user's alone.")
