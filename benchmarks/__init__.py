# SPDX-License-Identifier: Apache-2.0
"""What the README claims about speed and memory, re-measurable with one command: `python -m benchmarks.run`."""
