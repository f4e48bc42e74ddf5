# SPDX-License-Identifier: Apache-2.0
"""Why a start fails, in words for the person at the terminal.

In: nothing. Out: `StartError`, which the command line prints without a traceback.
"""


class StartError(Exception):
    """Beffroi cannot start; the text says what is wrong and what to do.

    Args:
        message: one or more sentences.
        code: the exit status; 2 means that what was asked for is wrong, 1 that the machine is in the way.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
