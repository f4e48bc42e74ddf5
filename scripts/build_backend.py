# SPDX-License-Identifier: Apache-2.0
"""Builds as setuptools does, then packs the result again so that the same source gives the same bytes.

In: what `python -m build` asks of a backend (PEP 517). Out: a wheel or a source archive whose members are sorted and carry
one time (SOURCE_DATE_EPOCH, else 1980-01-01), one owner and one mode, whatever the folder, the clock, the user and the umask.
What remains is the compression: it is the same for the same release of zlib, which comes with Python.
"""

import gzip
import io
import os
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

from setuptools import build_meta

_FIRST = 315_532_800  # 1980-01-01, the earliest that a zip can say
_SOURCES = Path("src/beffroi.egg-info/SOURCES.txt")

get_requires_for_build_editable = build_meta.get_requires_for_build_editable
get_requires_for_build_sdist = build_meta.get_requires_for_build_sdist
get_requires_for_build_wheel = build_meta.get_requires_for_build_wheel
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable
prepare_metadata_for_build_wheel = build_meta.prepare_metadata_for_build_wheel
build_editable = build_meta.build_editable


def build_wheel(folder: str, settings: dict[str, Any] | None = None, metadata: str | None = None) -> str:
    """A wheel in `folder`; its name."""
    name: str = build_meta.build_wheel(folder, settings, metadata)
    path = Path(folder) / name
    with zipfile.ZipFile(path) as old:
        members = {member.filename: old.read(member) for member in old.infolist() if not member.is_dir()}
    moment = time.gmtime(_epoch())[:6]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for member in sorted(members, key=lambda text: (".dist-info/" in text, text.endswith("/RECORD"), text)):
            info = zipfile.ZipInfo(member, moment)
            info.create_system, info.external_attr, info.compress_type = 3, 0o100644 << 16, zipfile.ZIP_DEFLATED
            new.writestr(info, members[member])
    return name


def build_sdist(folder: str, settings: dict[str, Any] | None = None) -> str:
    """A source archive in `folder`; its name."""
    _SOURCES.unlink(missing_ok=True)  # what an earlier build found is not what there is
    name: str = build_meta.build_sdist(folder, settings)
    path = Path(folder) / name
    with tarfile.open(path) as old:
        kept = [member for member in old.getmembers() if member.isreg() and ".egg-info/" not in member.name]
        members = [(member, old.extractfile(member)) for member in kept]
        files = {member.name: (member.mode & 0o100, file.read()) for member, file in members if file is not None}
    with (
        path.open("wb") as out,
        gzip.GzipFile("", "wb", 9, out, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(files):
            runs, content = files[member]
            info = tarfile.TarInfo(member)
            info.size, info.mtime, info.mode = len(content), _epoch(), 0o755 if runs else 0o644
            new.addfile(info, io.BytesIO(content))
    return name


def _epoch() -> int:
    return max(_FIRST, int(os.environ.get("SOURCE_DATE_EPOCH", _FIRST)))
