# SPDX-License-Identifier: Apache-2.0
"""The kernel built so that it dies before its nth store into the counters, as a process does under kill -9.

In: a folder to build in. Out: `die_after`, and functions in the place of the kernel's that share a count of stores with
whoever counts those of the twin.
"""

import importlib.util
import subprocess
import sysconfig
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import Any

from tests.harness import ROOT, compiler


def mortal(folder: Path) -> Any:
    """Such a build, or a skip that says what it wants."""
    cc, include = compiler()
    path = folder / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    sources = sorted((ROOT / "native").glob("*.c"))
    command = [
        cc,
        "-O2",
        "-std=c11",
        "-fPIC",
        "-shared",
        "-DBEFFROI_MORTAL",
        f"-I{include}",
        *map(str, sources),
        "-o",
        str(path),
    ]
    subprocess.run(command, check=True)
    loader = ExtensionFileLoader("_native", str(path))
    spec = importlib.util.spec_from_file_location("_native", str(path), loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class Shared:
    """The number of stores that are left, over twin and kernel."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.counter: Any = None  # has an attribute `left`; None: nobody dies

    def wrap(self, name: str) -> Callable[..., Any]:
        """One of the kernel's functions, counted."""
        call = getattr(self.module, name)

        def counted(*given: Any) -> Any:
            counter = self.counter
            self.module.die_after(-1 if counter is None else counter.left)
            try:
                return call(*given)
            finally:
                left = self.module.die_after(-1)
                if counter is not None:
                    counter.left = left

        return counted
