"""Working ahead: an iterator that works in a thread of its own, or in several, while its items are used."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from queue import Empty, Full, Queue
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")
POLL = 0.1  # s; how soon the thread notices that nobody wants more


def read_ahead(items: Iterator[T], depth: int = 1) -> Generator[T, None, None]:
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
        finally:
            if isinstance(items, Generator):
                items.close()  # here, where it ran: what it reads ahead itself ends with it

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


def map_ahead(function: Callable[[S], T], items: Iterator[S], threads: int) -> Generator[T, None, None]:
    """function(item) of each item, in their order: items are read ahead, and `threads` of them worked on while one is in use.

    An error, of an item or of the function, comes out where its item would have.
    """
    waiting: deque[Future[T]] = deque()
    failed: Exception | None = None
    with closing(read_ahead(items)) as ahead, ThreadPoolExecutor(threads, "zipml-map-ahead") as pool:
        try:
            while failed is None:
                try:
                    waiting.append(pool.submit(function, next(ahead)))
                except StopIteration:
                    break
                except Exception as error:
                    failed = error
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
            if failed is not None:
                raise failed
        finally:
            for future in waiting:
                future.cancel()
