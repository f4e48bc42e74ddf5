# SPDX-License-Identifier: Apache-2.0
"""An archive that was changed, cut or made by somebody else is found out, and nothing of it is served."""

import gzip
import io
import random
import tarfile
import zlib
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Engine

from beffroi.control import archive
from beffroi.control.archive import NotWhole
from beffroi.control.restore import NotEmpty, look, restore
from beffroi.control.stage import Moment
from beffroi.core.layout import FORMAT_FILE, RESTORING
from beffroi.store.engine import HEAD
from beffroi.supervisor.directory import DataDirectory
from beffroi.supervisor.errors import StartError
from tests.control.conftest import one_machine


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A backup by Beffroi is one of SQLite."""
    return one_machine(tmp_path)


@pytest.fixture
def made(tmp_path: Path, database: Engine) -> Path:
    """An archive of a small data directory."""
    (tmp_path / FORMAT_FILE).write_text("1\n")
    (tmp_path / "random").write_bytes(random.Random(1).randbytes(100_000))  # or all of it would be its compression
    out = tmp_path.parent / f"{tmp_path.name}.tar.gz"
    with out.open("wb") as file:
        moment = Moment(tmp_path)
        archive.write(moment.write(), file, revision=HEAD, began_ns=moment.began_ns)
    return out


def repacked(made: Path, change: dict[str, bytes | None], extra: tuple[tuple[str, bytes], ...] = ()) -> Path:
    """The same archive with some members changed, left out or added, in a sound tar."""
    out = made.with_suffix(".changed")
    with tarfile.open(made) as old, tarfile.open(out, "w:gz") as new:
        members = [(member.name, old.extractfile(member)) for member in old if member.isreg()]
        for name, content in [*((name, file.read() if file else b"") for name, file in members), *extra]:
            data = change.get(name, content)
            if data is not None:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
    return out


def test_a_whole_one_holds_and_is_restored(made: Path, tmp_path: Path) -> None:
    """The ledger is looked into too."""
    manifest, report = look(made)
    assert report.ok
    assert manifest.revision == HEAD
    done = restore(made, tmp_path / "new")
    assert done.manifest == manifest
    assert (tmp_path / "new" / "random").read_bytes() == (tmp_path / "random").read_bytes()
    DataDirectory(tmp_path / "new").close()


def same(packed: Path, sound: bytes) -> bool:
    """Whether it unpacks to the same, checksum and all."""
    try:
        return gzip.decompress(packed.read_bytes()) == sound
    except (OSError, EOFError, zlib.error):
        return False


def test_any_changed_byte_and_any_cut_is_found(made: Path, tmp_path: Path) -> None:
    """Of what means something: bits of the gzip header and those between stored blocks, which unpack to the same, may differ."""
    whole = made.read_bytes()
    sound = gzip.decompress(whole)
    dice = random.Random(7)
    broken = tmp_path.parent / "broken"
    for _ in range(60):
        at = dice.randrange(10, len(whole))
        broken.write_bytes(whole[:at] + bytes([whole[at] ^ dice.randrange(1, 256)]) + whole[at + 1 :])
        if not same(broken, sound):
            with pytest.raises(NotWhole):
                archive.read(broken)
        broken.write_bytes(whole[:at])
        with pytest.raises(NotWhole, match="cut short"):
            archive.read(broken)


@pytest.mark.parametrize(
    ("change", "extra", "why"),
    [
        ({"random": b"other"}, (), "random is not what the manifest says"),
        ({"random": None}, (), "random is missing"),
        ({}, (("late", b""),), "late stands behind the manifest"),
        ({archive.MANIFEST: None}, (), "the manifest at its end is missing"),
        ({archive.MANIFEST: b"{}"}, (), "its manifest cannot be read"),
        ({archive.MANIFEST: b'{"beffroi_backup": 2, "made_by": "9.9"}'}, (), "made by Beffroi 9.9 in a form"),
        ({archive.MANIFEST: None}, (("../out", b""),), "'../out', which no backup of Beffroi does"),
        ({archive.MANIFEST: None}, (("/etc/out", b""),), "'/etc/out', which no backup of Beffroi does"),
    ],
)
def test_a_sound_tar_that_is_no_whole_backup_is_refused_and_leaves_an_empty_directory(
    made: Path, tmp_path: Path, change: dict[str, bytes | None], extra: tuple[tuple[str, bytes], ...], why: str
) -> None:
    """Each with its reason, by `verify` and by `restore`."""
    wrong = repacked(made, change, extra)
    with pytest.raises(NotWhole, match=why):
        archive.read(wrong)
    with pytest.raises(NotWhole, match=why):
        restore(wrong, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_links_are_refused(made: Path, tmp_path: Path) -> None:
    """Nothing outside the directory can be reached by what an archive holds."""
    with tarfile.open(tmp_path / "link.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(member)
    with pytest.raises(NotWhole, match="'link', which no backup"):
        archive.read(tmp_path / "link.tar.gz")


@pytest.mark.parametrize(
    ("headers", "manifest"),
    [
        ({"path": "a\0b"}, b"{}"),
        ({"size": "-5"}, b"{}"),
        ({"GNU.sparse.map": "0,q"}, b"{}"),
        ({}, b'{"beffroi_backup": 1, "made_by": "\xff"}'),
    ],
)
def test_names_and_numbers_that_cannot_be_are_damage_and_no_traceback(
    tmp_path: Path, headers: dict[str, str], manifest: bytes
) -> None:
    """A name with a null character, a size below zero, a map that is none, a manifest that is no text."""
    with tarfile.open(tmp_path / "odd.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, data in (("a", b"zzz"), (archive.MANIFEST, manifest)):
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = len(data), headers if name == "a" else {}
            tar.addfile(member, io.BytesIO(data))
    with pytest.raises(NotWhole):
        archive.read(tmp_path / "odd.tar.gz", None)


def test_a_header_as_large_as_the_memory_is_refused_unread(tmp_path: Path) -> None:
    """A megabyte of archive may unpack to a gigabyte, and tar reads what stands before a member whole."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    with gzip.open(tmp_path / "bomb.tar.gz", "wb") as packed:
        packed.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16))
    with pytest.raises(NotWhole, match="impossible size"):
        archive.read(tmp_path / "bomb.tar.gz")


def test_an_archive_of_a_newer_release_is_refused_by_name(made: Path, tmp_path: Path) -> None:
    """Its ledger has a revision that is not known here."""
    with tarfile.open(made) as tar:
        file = tar.extractfile(archive.MANIFEST)
        assert file
        manifest = msgspec.json.decode(file.read())
    manifest |= {"made_by": "9.0.0", "revision": "9999"}
    wrong = repacked(made, {archive.MANIFEST: msgspec.json.encode(manifest)})
    with pytest.raises(NotWhole, match=r"Beffroi 9\.0\.0 made it, which is newer than this release"):
        restore(wrong, tmp_path / "new")


def test_a_ledger_that_sqlite_finds_fault_with_is_no_backup(made: Path, tmp_path: Path, database: Engine) -> None:
    """Checksums say that it is as it was written, not that it was sound."""
    database.dispose()
    damaged = bytearray((tmp_path / "beffroi.db").read_bytes())
    damaged[4096 * 2 : 4096 * 2 + 64] = bytes(64)
    folder = Moment(tmp_path).write()
    (folder / "beffroi.db").write_bytes(damaged)
    with (tmp_path / "out").open("wb") as out:
        archive.write(folder, out, revision=HEAD, began_ns=1)
    archive.read(tmp_path / "out")
    with pytest.raises(NotWhole, match="the ledger in it does not hold"):
        look(tmp_path / "out")


def test_a_restore_that_was_killed_is_not_served(tmp_path: Path) -> None:
    """The next start says what happened and what to do; a restore into it is refused as into any that is not empty."""
    (tmp_path / FORMAT_FILE).write_text(f"{RESTORING}\n")
    with pytest.raises(StartError, match="did not get to its end"):
        DataDirectory(tmp_path)
    with pytest.raises(NotEmpty):
        restore(tmp_path / "any", tmp_path)


def test_a_volume_with_lost_and_found_counts_as_empty(made: Path, tmp_path: Path) -> None:
    """As the top of a file system of its own always is."""
    (tmp_path / "new" / "lost+found").mkdir(parents=True)
    restore(made, tmp_path / "new")
    assert (tmp_path / "new" / "lost+found").is_dir()


def test_plain_tar_can_read_it(made: Path, tmp_path: Path) -> None:
    """Whoever has no Beffroi at hand gets at the files."""
    with gzip.open(made) as packed, tarfile.open(fileobj=packed) as tar:
        assert tar.getnames()[-1] == archive.MANIFEST
        assert {member.mode for member in tar if member.isreg()} == {0o600}
