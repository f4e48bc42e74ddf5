# SPDX-License-Identifier: Apache-2.0
"""The snapshot on disk: what a worker reads when control is not there to tell it."""

import asyncio
import os
import resource
from pathlib import Path

import pytest

from beffroi import __version__
from beffroi.control.snapshots import KeyFiles, publish_config
from beffroi.core import snapshot
from beffroi.core.layout import VERSION_FILE
from beffroi.core.snapshot import Config, Damaged, KeyBase, KeyRecord, Settings
from beffroi.core.state import KEYS, LOG, SNAPSHOT, holds, load_config, load_keys, load_keys_in_slices

PEPPERS = {1: b"p" * 32}


def key(number: int, *, revoked: bool = False) -> KeyRecord:
    """A key of the table."""
    return KeyRecord(f"key_{number:032x}", f"{number:012d}", b"h" * 32, 1, number, revoked=revoked)


def config(revision: int, *names: str) -> Config:
    """A config that differs by its engines."""
    engines = tuple(snapshot.EngineSpec(name, "http://127.0.0.1:1") for name in names)
    return Config(revision, Settings(), engines, ())


def test_deltas_are_replayed_over_the_base(tmp_path: Path) -> None:
    """A key made and a key revoked after the base are seen."""
    files = KeyFiles(tmp_path, [key(1), key(2)], dict(PEPPERS))
    files.append(upsert=(key(2, revoked=True),))
    files.append(upsert=(key(3),))
    files.append(peppers={2: b"q" * 32})
    table = load_keys(tmp_path)
    assert table.revision == files.revision == 4
    assert [(record.slot, record.revoked) for record in table.keys] == [(1, False), (2, True), (3, False)]
    assert set(table.peppers) == {1, 2}
    assert asyncio.run(load_keys_in_slices(tmp_path)) == table


def test_a_torn_last_delta_counts_as_not_written(tmp_path: Path) -> None:
    """However many of its bytes reached the disk."""
    files = KeyFiles(tmp_path, [key(1)], dict(PEPPERS))
    files.append(upsert=(key(2),))
    before = (tmp_path / LOG).read_bytes()
    files.append(upsert=(key(3),))
    whole = (tmp_path / LOG).read_bytes()
    for size in range(len(before), len(whole)):
        (tmp_path / LOG).write_bytes(whole[:size])
        assert load_keys(tmp_path).revision == 2
    (tmp_path / LOG).write_bytes(whole[:-1] + b"\0")
    assert load_keys(tmp_path).revision == 2


def test_damage_before_the_last_delta_is_told(tmp_path: Path) -> None:
    """A revocation that cannot be read must not be skipped in silence."""
    files = KeyFiles(tmp_path, [key(1)], dict(PEPPERS))
    files.append(upsert=(key(1, revoked=True),))
    at = (tmp_path / LOG).stat().st_size
    files.append(upsert=(key(2),))
    log = bytearray((tmp_path / LOG).read_bytes())
    log[at - 1] ^= 1
    (tmp_path / LOG).write_bytes(log)
    with pytest.raises(Damaged):
        load_keys(tmp_path)


@pytest.mark.parametrize("name", [SNAPSHOT, KEYS])
def test_a_damaged_file_is_told(tmp_path: Path, name: str) -> None:
    """Any flipped bit of the base or the config."""
    KeyFiles(tmp_path, [key(1)], dict(PEPPERS))
    publish_config(tmp_path, config(0, "a"))
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Damaged):
        load_config(tmp_path) if name == SNAPSHOT else load_keys(tmp_path)


def test_a_new_start_folds_the_log_and_keeps_the_revision(tmp_path: Path) -> None:
    """Workers that hold the table need not load it again."""
    files = KeyFiles(tmp_path, [key(1)], dict(PEPPERS))
    files.append(upsert=(key(2),))
    again = KeyFiles(tmp_path, [key(1), key(2)], dict(PEPPERS))
    assert again.revision == files.revision
    assert (tmp_path / LOG).stat().st_size == 0
    assert load_keys(tmp_path).revision == again.revision


def test_files_that_fell_behind_the_database_are_made_to_follow(tmp_path: Path) -> None:
    """A crash between commit and log: the revocation is found at the next start, under a new revision."""
    KeyFiles(tmp_path, [key(1)], dict(PEPPERS))
    files = KeyFiles(tmp_path, [key(1, revoked=True)], dict(PEPPERS))
    assert files.revision == 2
    assert load_keys(tmp_path).keys[0].revoked


def test_a_lost_table_gets_a_revision_above_any_that_was(tmp_path: Path) -> None:
    """Else a worker could take another table for the one it holds."""
    files = KeyFiles(tmp_path, [key(1)], dict(PEPPERS))
    (tmp_path / KEYS).write_bytes(b"rubbish")
    assert KeyFiles(tmp_path, [key(1)], dict(PEPPERS)).revision > files.revision + 1_000_000


def test_a_log_that_grew_large_is_folded_while_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot fill the disk; nothing is lost on the way."""
    monkeypatch.setattr("beffroi.control.snapshots.COMPACT_BYTES", 2000)
    files = KeyFiles(tmp_path, [], dict(PEPPERS))
    for number in range(50):
        files.append(upsert=(key(number),))
        assert load_keys(tmp_path).revision == files.revision
    assert (tmp_path / LOG).stat().st_size <= 2500
    assert len(load_keys(tmp_path).keys) == 50


def test_reading_beside_a_compaction_never_loses_a_delta(tmp_path: Path) -> None:
    """The base is renamed into place before the log begins anew: every state between the two reads right."""
    files = KeyFiles(tmp_path, [key(1)], dict(PEPPERS))
    files.append(upsert=(key(2),))
    new = snapshot.encode(KeyBase(files.revision, dict(PEPPERS), (key(1), key(2))))
    (tmp_path / KEYS).write_bytes(new)  # the log still has what the new base holds
    assert len(load_keys(tmp_path).keys) == 2


def test_the_same_config_keeps_its_revision_and_another_gets_the_next(tmp_path: Path) -> None:
    """Revisions count changes, not starts."""
    assert publish_config(tmp_path, config(0, "a")) == (config(1, "a"), True)
    assert publish_config(tmp_path, config(0, "a")) == (config(1, "a"), False)
    assert publish_config(tmp_path, config(0, "b")) == (config(2, "b"), True)
    assert load_config(tmp_path) == config(2, "b")


def test_what_is_written_is_readable_by_this_user_alone(tmp_path: Path) -> None:
    """Engine keys and peppers are in it."""
    KeyFiles(tmp_path, [key(1)], dict(PEPPERS))
    publish_config(tmp_path, config(0, "a"))
    assert {oct((tmp_path / name).stat().st_mode & 0o777) for name in (SNAPSHOT, KEYS, LOG)} == {"0o600"}


def test_a_full_disk_refuses_the_change_and_leaves_the_log_whole(tmp_path: Path) -> None:
    """The next change is not written behind half a record."""
    files = KeyFiles(tmp_path, [key(1)], dict(PEPPERS))
    files.append(upsert=(key(2),))
    pid = os.fork()
    if pid == 0:  # a file size limit is a full disk that needs no disk
        status = 1
        try:
            import resource
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            size = (tmp_path / LOG).stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))
            try:
                files.append(upsert=(key(3),))
            except OSError:
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(load_keys(tmp_path).keys) == 2
    files.append(upsert=(key(4),))
    assert [record.slot for record in load_keys(tmp_path).keys] == [1, 2, 4]


def test_a_full_disk_at_the_start_leaves_the_table_readable_and_changes_waiting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing to write is no reason not to start; what differs from the database is."""
    files = KeyFiles(tmp_path, [key(1), key(2)], dict(PEPPERS))
    files.append(upsert=(key(3),))
    files.close()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with caplog.at_level("ERROR"):
            files = KeyFiles(tmp_path, [key(1), key(2), key(3)], dict(PEPPERS))
        assert "space" in caplog.messages[0]
        with pytest.raises(OSError, match="large"):
            files.append(upsert=(key(4),))
        with pytest.raises(OSError, match="large"):
            KeyFiles(tmp_path, [key(1)], dict(PEPPERS))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_keys(tmp_path).revision == files.revision == 2
    files.append(upsert=(key(4),))
    files.close()
    assert {one.id for one in load_keys(tmp_path).keys} == {key(n).id for n in range(1, 5)}


def test_whether_the_directory_holds_a_config_is_told_by_its_content(tmp_path: Path) -> None:
    """Whatever its revision, if every part is the same and there are keys; not if one differs or cannot be read."""
    assert not holds(tmp_path, config(0, "a"))
    publish_config(tmp_path, config(0, "b"))
    publish_config(tmp_path, config(0, "a"))
    assert not holds(tmp_path, config(0, "a")), "there is no key table"
    KeyFiles(tmp_path, [key(1)], dict(PEPPERS)).close()
    assert not holds(tmp_path, config(0, "a")), "another release may have left it"
    (tmp_path / VERSION_FILE).write_text(f"{__version__}\n")
    assert holds(tmp_path, config(0, "a"))
    (tmp_path / VERSION_FILE).write_text("0.0.1\n")
    assert not holds(tmp_path, config(0, "a"))
    (tmp_path / VERSION_FILE).write_text(f"{__version__}\n")
    assert not holds(tmp_path, config(0, "b"))
    assert not holds(tmp_path, Config(0, Settings(max_body=17), config(0, "a").engines, ()))
    (tmp_path / KEYS).write_bytes(b"torn")
    assert not holds(tmp_path, config(0, "a"))
