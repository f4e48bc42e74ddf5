# SPDX-License-Identifier: Apache-2.0
"""The first thing that runs in every child: ties its life to the supervisor's, then becomes the module it was started for.

In: `python -m beffroi.supervisor.child MODULE`, and the JSON object in BEFFROI_CHILD. Out: MODULE's `main()`, and its
return value as the exit status.
"""

import ctypes
import gc
import importlib
import json
import os
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
    """Bind, load the module named on the command line, wait until it may begin, run it."""
    told = json.loads(os.environ[VARIABLE])
    bind_to(told["parent"])
    gc.disable()  # what loading makes stays: looking through it for garbage is a tenth of the time it takes
    module = importlib.import_module(sys.argv[1])
    gc.freeze()
    gc.enable()
    if (gate := told.get("gate_fd")) is not None:
        os.read(gate, 1)  # ends when the supervisor opens the gate by closing its end
        os.close(gate)
    sys.exit(module.main())


if __name__ == "__main__":
    main()
