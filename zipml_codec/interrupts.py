"""Signals that wait for a good moment: SIGINT and SIGTERM while a long work can be left in order after each of its steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupts:
    """Within a ``with`` block in the main thread, SIGINT and SIGTERM do what they did before at the next `check` only.

    A second one does not wait. Signals without a Python handler, SIGTERM where nobody set one, are left alone.
    """

    def __init__(self) -> None:
        self.pending: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                if callable(before):
                    self._before[number] = before
                    signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self.pending = self.pending is not None, number
        if again:
            self.check()

    def check(self) -> None:
        """Let the signal that waits do what it does."""
        if self.pending is not None:
            number, self.pending = self.pending, None
            before = self._before[number]
            self._leave()
            before(number, None)

    def _leave(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.check()
        self._leave()
