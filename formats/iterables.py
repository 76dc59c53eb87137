"""Sources that come block by block: iterables, and iterators, whose blocks are spooled as they run only once."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Generator, Iterable, Iterator
from typing import IO, Any

import numpy as np

from ..errors import DataError, SourceError
from .sources import BaseSource, Block, Source, as_array, as_labels, check_dtype, native, read_into

# rows, dtype of the values, dtype of the labels or nothing; the spool is a run of (this, values, labels).
_SPOOLED = struct.Struct("<q8s8s")


class IterableSource(BaseSource):
    """Blocks that a user's iterable yields, iterated afresh in every pass."""

    def __init__(self, blocks: Iterable[Any], name: str) -> None:
        super().__init__(name)
        self._iterable = blocks
        self._labelled: bool | None = None

    def _pass(self, rows: int) -> Iterator[Block]:
        return self._split(self._checked(iter(self._iterable)), rows)

    def _split(self, blocks: Iterable[Block], rows: int) -> Iterator[Block]:
        """Cut to at most `rows` rows, and hold every pass to the first one's number of rows."""
        seen = nbytes = number = 0
        for number, block in enumerate(blocks, 1):
            count = len(block.values)
            seen += count
            nbytes += block.values.nbytes
            if self.rows is not None and seen > self.rows:
                raise DataError(f"{self.name}: block {number} goes beyond {self._earlier()}")
            for start in range(0, count, rows):
                part = slice(start, start + rows)
                # Copies: a generator may well fill the buffer that it yields anew.
                labels = None if block.labels is None else block.labels[part].copy()
                yield Block(block.values[part].copy(), labels)
        if self.rows is not None and seen < self.rows:
            raise DataError(f"{self.name}: ended after block {number} with {seen} rows, short of {self._earlier()}")
        if seen == 0:
            raise DataError(f"{self.name}: no rows")
        self.rows, self.nbytes = seen, nbytes

    def _earlier(self) -> str:
        return f"the {self.rows} rows of an earlier pass; it must yield the same rows in every pass, or be an iterator"

    def _checked(self, items: Iterable[Any]) -> Iterator[Block]:
        for number, item in enumerate(items, 1):
            yield self._check(item, number)

    def _check(self, item: Any, number: int) -> Block:
        """Turn what was yielded into a block that fits those before it. `number` counts from 1, as in messages."""
        where = f"{self.name}: block {number}"
        pair = isinstance(item, tuple) and len(item) == 2
        given, given_labels = item if pair else (item, None)
        values = np.asarray(as_array(given, where))
        if values.ndim != 2:
            raise DataError(f"{where}: shape {values.shape} is not (rows, features); yield 2-D blocks or (X, y) tuples")
        check_dtype(values.dtype, where)
        if values.shape[1] == 0:
            raise DataError(f"{where}: no features, the shape is {values.shape}")
        if self.features is not None and values.shape[1] != self.features:
            raise DataError(f"{where}: {values.shape[1]} features, the blocks before have {self.features}")
        labels = None
        if given_labels is not None:
            labels = native(np.asarray(as_labels(given_labels, len(values), f"{where}: labels"))).reshape(-1)
        if self._labelled is not None and self._labelled != (labels is not None):
            has, had = ("no labels", "have some") if self._labelled else ("labels", "have none")
            raise DataError(f"{where}: {has}, the blocks before {had}")
        self.features = int(values.shape[1])
        self._labelled = labels is not None
        return Block(native(values), labels)


class SpooledSource(IterableSource):
    """Blocks of a one-shot iterator, written to a temporary file as they are first read.

    A pass reads what is spooled, then goes on with the iterator; so passes may be abandoned, or run side by side.
    The file has no name where the system allows that, so that a crash leaves nothing behind; `close` frees it.
    """

    def __init__(self, blocks: Iterator[Any], spool_dir: str | os.PathLike[str] | None, name: str) -> None:
        super().__init__(blocks, name)
        self._iterator = blocks
        self._dir = os.fspath(spool_dir) if spool_dir is not None else tempfile.gettempdir()
        self._file: IO[bytes] | None = None
        self._size = 0
        self._pulled = 0
        self._ended = False
        self._broken = False
        if not os.path.isdir(self._dir):  # noqa: PTH112 - Path("") is the working folder
            raise SourceError(f"{name}: spool_dir {self._dir!r} is not a folder")

    def _pass(self, rows: int) -> Iterator[Block]:
        return self._split(self._replay(rows), rows)

    def _replay(self, rows: int) -> Iterator[Block]:
        position = 0
        while True:
            if self._closed:
                raise SourceError(f"{self.name}: the source is closed")
            if position < self._size:
                position = yield from self._read(position, rows)
                continue
            block = self._pull()
            if block is None:
                return
            position = self._size
            yield block

    def _pull(self) -> Block | None:
        """Take the next block from the iterator and spool it; None at the end."""
        if self._broken:
            # The iterator cannot be started again: going on would pass off a part as the whole.
            raise SourceError(
                f"{self.name}: an earlier pass failed at block {self._pulled}, and an iterator runs only once"
            )
        if self._ended:
            return None
        self._pulled += 1
        self._broken = True
        try:
            item = next(self._iterator)
        except StopIteration:
            self._broken, self._ended = False, True
            return None
        block = self._check(item, self._pulled)
        try:
            self._write(block)
        except OSError as error:
            raise SourceError(
                f"{self.name}: block {self._pulled} cannot be spooled to {self._dir}: {error.strerror or error}; "
                "blocks that come once are kept there for the second pass, beside the output: write it where there is room, "
                "or give a list, a file, or an iterable that starts anew each time"
            ) from error
        self._broken = False
        return block

    def _write(self, block: Block) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._dir, prefix="zipml-spool-")  # noqa: SIM115 - closed in close
        labels = b"" if block.labels is None else block.labels.dtype.str.encode()
        file = self._file
        file.seek(self._size)
        file.write(_SPOOLED.pack(len(block.values), block.values.dtype.str.encode(), labels))
        file.write(np.ascontiguousarray(block.values).data)
        if block.labels is not None:
            file.write(np.ascontiguousarray(block.labels).data)
        # A full disk must show now, not when the buffer happens to be written.
        file.flush()
        self._size = file.tell()

    def _read(self, position: int, rows: int) -> Generator[Block, None, int]:
        """Yield one spooled block in parts of at most `rows` rows; return the position of the next one."""
        file = self._file
        assert file is not None and self.features is not None
        file.seek(position)
        count, values_dtype, labels_dtype = _SPOOLED.unpack(file.read(_SPOOLED.size))
        dtype = np.dtype(values_dtype.rstrip(b"\0").decode())
        width = self.features * dtype.itemsize
        at = position + _SPOOLED.size
        labels_at = at + count * width
        labels_type = np.dtype(labels_dtype.rstrip(b"\0").decode()) if labels_dtype.strip(b"\0") else None
        for start in range(0, count, rows):
            values = np.empty((min(rows, count - start), self.features), dtype)
            # Seek every time: another pass may have moved the file since.
            file.seek(at + start * width)
            read_into(file, values, self.name)
            labels = None
            if labels_type is not None:
                labels = np.empty(len(values), labels_type)
                file.seek(labels_at + start * labels_type.itemsize)
                read_into(file, labels, self.name)
            yield Block(values, labels)
        end: int = labels_at + (count * labels_type.itemsize if labels_type is not None else 0)
        return end

    def close(self) -> None:
        """Remove the spool. The source cannot be read afterwards."""
        super().close()
        if self._file is not None:
            self._file.close()
            self._file = None


def iterable_source(
    blocks: Iterable[Any], spool_dir: str | os.PathLike[str] | None = None, name: str = "blocks"
) -> Source:
    """Read what an iterable yields: 2-D blocks of rows or (X, y) tuples.

    Parameters
    ----------
    blocks : iterable
        An iterator (a generator, `map`, `zip`) runs once, so its blocks are spooled to disk as they are first read.
        Any other iterable is iterated afresh in each pass and must yield the same rows each time.
    spool_dir : path, optional
        Folder of the spool; the system's temporary folder by default. It needs room for all the blocks.
    name : str
        For messages.

    Returns
    -------
    Source
        `close` it to remove the spool.

    Raises
    ------
    DataError
        While iterating: blocks that differ in width, labels on only some, passes that differ in rows, no rows.
    SourceError
        If the spool cannot be written.
    """
    # Not `iter(blocks) is blocks`, which says the same but would start an iteration: a loader may start workers.
    if isinstance(blocks, Iterator):
        return SpooledSource(blocks, spool_dir, name)
    return IterableSource(blocks, name)
