# SPDX-License-Identifier: Apache-2.0
"""The first thing that runs in every child: ties its life to the supervisor's, then becomes the module it was started for.

In: `python -m beffroi.supervisor.child MODULE`, and the JSON object in BEFFROI_CHILD. Out: MODULE, run as the main program.
"""

import ctypes
import json
import os
import runpy
import signal
import sys

VARIABLE = "BEFFROI_CHILD"
_PR_SET_PDEATHSIG = 1  # prctl(2)
_ORPHAN = 3


def bind_to(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    It is set here and not between fork and exec, where Python code may deadlock; the parent that died before this
    line is caught by looking who the parent is now.

    Args:
        parent: the supervisor's process id; with another parent this process exits at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(_ORPHAN)


def main() -> None:
    """Bind, then run the module named on the command line."""
    bind_to(json.loads(os.environ[VARIABLE])["parent"])
    module = sys.argv[1]
    del sys.argv[1]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
