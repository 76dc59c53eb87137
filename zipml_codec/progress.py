"""Progress on standard error: a bar with rate and time left, shown after two seconds, and only on a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

SHOW_AFTER = 2.0


class Progress:
    """One bar. `no_progress` is the one that stays silent.

    Parameters
    ----------
    name : str
        What is being done.
    rows : int, optional
        Rows in all, where that is known; else
    nbytes : int, optional
        bytes in all.
    visible : bool
    alone : bool
        For measurements: nothing is drawn but in `advance`, so that no thread takes a core between two calls of it.
    """

    def __init__(
        self, name: str, rows: int | None, nbytes: int | None, visible: bool = True, *, alone: bool = False
    ) -> None:
        self.name, self.rows, self.nbytes = name, rows, nbytes
        self.done = 0
        self._visible, self._alone, self._started = visible, alone, time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    @classmethod
    def on_terminal(cls, name: str, rows: int | None, nbytes: int | None) -> Progress:
        """A bar if standard error is a terminal."""
        return cls(name, rows, nbytes, sys.stderr.isatty())

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, rows: int, bytes_read: int | None = None, note: str | None = None) -> None:
        """`rows` more are done; `bytes_read` of the source so far, where rows in all are unknown; `note` in place of the rate."""
        self.done += rows
        if not self._visible or time.monotonic() - self._started < SHOW_AFTER:
            return
        by_rows = self.rows is not None
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            self._bar = Bars(*columns, console=Console(stderr=True), transient=True, auto_refresh=not self._alone)
            self._task = self._bar.add_task(self.name, total=self.rows if by_rows else self.nbytes, rate="")
            self._bar.start()
        rate = f"{self.done / (time.monotonic() - self._started):,.0f} rows/s" if note is None else note
        done = self.done if by_rows else bytes_read
        self._bar.update(self._task, completed=done, rate=rate, refresh=self._alone)


def no_progress(name: str, rows: int | None, nbytes: int | None) -> Progress:
    """A bar that shows nothing."""
    return Progress(name, rows, nbytes, visible=False)
