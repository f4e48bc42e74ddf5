# SPDX-License-Identifier: Apache-2.0
"""`python -m beffroi`: the same as the `beffroi` command.

In: the command line. Out: the exit status of the command.
"""

from beffroi.cli.main import main

main()
