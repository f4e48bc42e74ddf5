# SPDX-License-Identifier: Apache-2.0
"""A progress bar on standard error, for whoever watches; nothing where nobody does.

In: bytes done. Out: a line that moves and then goes.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Bar:
    """What is told to a bar; by itself it shows nothing."""

    def add(self, count: int) -> None:
        """`count` bytes more are done."""

    def set(self, done: int, total: int) -> None:
        """`done` bytes of `total` are done."""


@contextmanager
def bar(what: str, total: int | None, *, quiet: bool) -> Iterator[Bar]:
    """A bar of `total` bytes (None: not known yet); not shown if `quiet`, or if standard error is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield Bar()
        return
    from rich.console import Console  # noqa: PLC0415  # a tenth of a second, for those who look at it
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)

        class _Shown(Bar):
            def add(self, count: int) -> None:
                progress.advance(task, count)

            def set(self, done: int, total: int) -> None:
                progress.update(task, completed=done, total=total or None)

        yield _Shown()
