"""Reading ahead: an iterator that works in a thread of its own while its items are used."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, Full, Queue
from typing import Any, TypeVar

T = TypeVar("T")
POLL = 0.1  # s; how soon the thread notices that nobody wants more


def read_ahead(items: Iterator[T], depth: int = 1) -> Iterator[T]:
    """The same items, each made while the one before is in use; at most `depth` wait.

    An error comes out where its item would have. When the caller stops early, the thread ends at its next item.
    """
    queue: Queue[tuple[str, Any]] = Queue(depth)
    stopped = threading.Event()

    def put(entry: tuple[str, Any]) -> bool:
        while not stopped.is_set():
            try:
                queue.put(entry, timeout=POLL)
                return True
            except Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:
            put(("error", error))

    thread = threading.Thread(target=work, name="zipml-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = queue.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stopped.set()
        while thread.is_alive():
            try:
                queue.get_nowait()
            except Empty:
                thread.join(POLL)
