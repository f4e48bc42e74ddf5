# SPDX-License-Identifier: Apache-2.0
"""The start of a process that finds its database up to date."""

import subprocess
import sys
from pathlib import Path

from alembic.script import ScriptDirectory

from beffroi.store import engine as store


def test_the_newest_migration_is_the_one_the_code_names() -> None:
    """Else a start would skip it."""
    folder = Path(store.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == store.HEAD


def test_an_up_to_date_database_is_opened_without_the_migration_tool(tmp_path: Path) -> None:
    """It takes a third of a second to import, which a control process that was killed has not."""
    engine = store.open_engine(tmp_path / "beffroi.db")
    store.upgrade(engine)
    engine.dispose()
    code = (
        "import sys, pathlib; from beffroi.store.engine import open_engine, upgrade;"
        f"upgrade(open_engine(pathlib.Path({str(tmp_path / 'beffroi.db')!r}))); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
