# SPDX-License-Identifier: Apache-2.0
"""The snapshot as it lies in the data directory, so that a worker can start while control is down.

In: a data directory. Out: `Config` and `KeyBase`. The key table is a base (`keys.bin`) and a log of deltas after it
(`keys.log`: length u32 little endian, then `snapshot.encode`d), each on disk before anybody acts on it.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

from beffroi import __version__
from beffroi.core.layout import written_by
from beffroi.core.snapshot import Config, Damaged, KeyBase, KeyDelta, KeyRecord, QuotaRecord, unseal

SNAPSHOT, KEYS, LOG = "snapshot.bin", "keys.bin", "keys.log"
LENGTH = struct.Struct("<I")
_SLICE = 1000  # keys decoded without giving the loop back: about 2 ms


class _RawBase(msgspec.Struct):
    """A `KeyBase` whose keys are not decoded yet."""

    revision: int
    peppers: dict[int, bytes]
    keys: tuple[msgspec.Raw, ...]
    quotas: tuple[QuotaRecord, ...] = ()
    closed: frozenset[str] = frozenset()


_config = msgspec.msgpack.Decoder(Config)
_base = msgspec.msgpack.Decoder(_RawBase)
_delta = msgspec.msgpack.Decoder(KeyDelta)
_key = msgspec.msgpack.Decoder(KeyRecord)


def load_config(data: Path) -> Config:
    """The config part.

    Raises:
        OSError: there is none, or it cannot be read.
        Damaged: its checksum does not hold, or another release wrote it.
    """
    body = unseal((data / SNAPSHOT).read_bytes())
    try:
        return _config.decode(body)
    except msgspec.MsgspecError as error:
        raise Damaged(f"{SNAPSHOT} is of another shape: {error}") from None


def holds(data: Path, config: Config) -> bool:
    """Whether this config, whatever its revision, is the one that lies there, with a key table, left by this release.

    What another release left may have to be migrated first, by control alone.
    """
    if written_by(data) != __version__:
        return False
    try:
        before = load_config(data)
        _read_keys(data)
    except (OSError, Damaged):
        return False
    return msgspec.structs.replace(config, revision=before.revision) == before


def load_keys(data: Path) -> KeyBase:
    """The key table: the base and every delta after it. Raises as `load_config`."""
    base, deltas = _read_keys(data)
    return _merge(base, [_key.decode(raw) for raw in base.keys], deltas)


async def load_keys_in_slices(data: Path) -> KeyBase:
    """As `load_keys`, on a running loop: files are read in a thread, keys decoded a few at a time."""
    import asyncio  # noqa: PLC0415 - the supervisor and the command line read the config without a loop

    base, deltas = await asyncio.to_thread(_read_keys, data)
    keys: list[KeyRecord] = []
    for start in range(0, len(base.keys), _SLICE):
        keys.extend([_key.decode(raw) for raw in base.keys[start : start + _SLICE]])
        await asyncio.sleep(0)
    return _merge(base, keys, deltas)


def _read_keys(data: Path) -> tuple[_RawBase, list[KeyDelta]]:
    # The log first: compaction renames a new base into place and only then starts a new log. Whoever reads in this
    # order holds every delta that the base he reads afterwards does not.
    try:
        log = (data / LOG).read_bytes()
    except FileNotFoundError:
        log = b""
    body = unseal((data / KEYS).read_bytes())
    try:
        base = _base.decode(body)
    except msgspec.MsgspecError as error:
        raise Damaged(f"{KEYS} is of another shape: {error}") from None
    deltas = []
    revision = base.revision
    for delta in read_log(log):
        if delta.revision <= revision:
            continue
        if delta.revision != revision + 1:
            raise Damaged(f"{LOG} goes from revision {revision} to {delta.revision}")
        revision = delta.revision
        deltas.append(delta)
    return base, deltas


def _merge(base: _RawBase, keys: list[KeyRecord], deltas: list[KeyDelta]) -> KeyBase:
    if not deltas:
        return KeyBase(base.revision, base.peppers, tuple(keys), base.quotas, base.closed)
    peppers = dict(base.peppers)
    table = {key.id: key for key in keys}
    quotas = {quota.id: quota for quota in base.quotas}
    closed = base.closed
    for delta in deltas:
        apply(delta, table, peppers, quotas)
        closed = closed if delta.closed is None else delta.closed
    return KeyBase(deltas[-1].revision, peppers, tuple(table.values()), tuple(quotas.values()), closed)


def apply(
    delta: KeyDelta, table: dict[str, KeyRecord], peppers: dict[int, bytes], quotas: dict[str, QuotaRecord]
) -> None:
    """Change keys and quotas (by id) and peppers as a delta says; what is closed is whoever calls's to keep."""
    peppers.update(delta.peppers)
    for key in delta.upsert:
        table[key.id] = key
    for key_id in delta.remove:
        table.pop(key_id, None)
    for quota in delta.quotas:
        quotas[quota.id] = quota
    for quota_id in delta.remove_quotas:
        quotas.pop(quota_id, None)


def read_log(log: bytes) -> Iterator[KeyDelta]:
    """The deltas of a log. The last may be torn, by a crash before it was acknowledged: it then counts as not written.

    Raises:
        Damaged: one that is not the last does not hold.
    """
    at = 0
    while at + LENGTH.size <= len(log):
        end = at + LENGTH.size + LENGTH.unpack_from(log, at)[0]
        if end > len(log):
            return
        try:
            yield _delta.decode(unseal(log[at + LENGTH.size : end]))
        except (Damaged, msgspec.MsgspecError):
            if end < len(log):
                raise Damaged(f"{LOG} is damaged at byte {at}") from None
            return
        at = end
