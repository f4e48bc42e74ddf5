# SPDX-License-Identifier: Apache-2.0
"""Other releases than this one, as real source trees: what was released before left its data, what may come is made here.

In: this source; the data directory of 0.1.0 as `make_data` packed it. Out: folders for PYTHONPATH, and what clients were told.
"""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

from tests.harness import ROOT
from tests.packaging.make_data import OUT

NEXT = "9.0.0"
_STEP = '''"""A step of a release to come."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "{before}", None, None


def upgrade() -> None:
    """A column, and a table."""
    op.add_column("keys", sa.Column("note", sa.String, nullable=False, server_default="none"))
    op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))
    {then}


def downgrade() -> None:
    """Nobody goes back by it."""
'''


def unpack(data: Path, name: str = "0.1.0") -> dict[str, Any]:
    """The data directory of an earlier release; what its clients were told."""
    data.mkdir(mode=0o700)
    with tarfile.open(OUT / f"{name}.tar.gz") as tar:
        tar.extractall(data, filter="data")
    told: dict[str, Any] = json.loads((OUT / f"{name}.json").read_text())
    return told


def next_release(folder: Path, then: str = "pass") -> dict[str, str]:
    """A release to come, with one migration more, whose last line is `then`; the environment that runs it."""
    source = folder / "next"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    package = source / "beffroi"
    engine = package / "store" / "engine.py"
    head = _change(engine, 'HEAD = "', '"', "9999")
    _change(package / "core" / "layout.py", "FORMAT = ", "\n", "9999")
    _change(package / "__init__.py", '__version__ = "', '"', NEXT)
    step = package / "store" / "migrations" / "versions" / "v9999_next.py"
    step.write_text(_STEP.format(before=head, then=then))
    return {"PYTHONPATH": str(source)}


def _change(file: Path, before: str, after: str, value: str) -> str:
    text = file.read_text()
    head, _, rest = text.partition(before)
    old, found, tail = rest.partition(after)
    assert found, f"{file.name} has no {before!r}"
    file.write_text(f"{head}{before}{value}{after}{tail}")
    return old
