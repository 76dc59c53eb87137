"""Sources that come block by block: iterables, and iterators, whose blocks are spooled as they run only once."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import IO, Any

import numpy as np

from ..errors import DataError, SourceError
from .sources import (
    Array,
    BaseSource,
    Block,
    Source,
    as_array,
    as_kept,
    as_labels,
    check_dtype,
    flat,
    kept_block,
    native,
    read_into,
)

# The spool is a run of (this, JSON of so many bytes that says which arrays follow, the arrays).
_SPOOLED = struct.Struct("<q")


class IterableSource(BaseSource):
    """Blocks that a user's iterable yields, iterated afresh in every pass."""

    def __init__(self, blocks: Iterable[Any], name: str) -> None:
        super().__init__(name)
        self._iterable = blocks
        # How many labels, and which columns to keep, the blocks before had.
        self._beside: tuple[tuple[int, ...] | None, list[str]] | None = None

    def _pass(self, rows: int, start: int) -> Iterator[Block]:
        return self._split(self._checked(iter(self._iterable)), rows, start)

    def _split(self, blocks: Iterable[Block], rows: int, start: int) -> Iterator[Block]:
        """Cut to at most `rows` rows from row `start` on, and hold every pass to the first one's number of rows."""
        seen = nbytes = number = 0
        for number, block in enumerate(blocks, 1):
            count = len(block.values)
            seen += count
            nbytes += block.values.nbytes
            if self.rows is not None and seen > self.rows:
                raise DataError(f"{self.name}: block {number} goes beyond {self._earlier()}")
            for first in range(max(0, start - (seen - count)), count, rows):
                part = slice(first, first + rows)
                # Copies: a generator may well fill the buffer that it yields anew.
                labels = None if block.labels is None else block.labels[part].copy()
                kept = None if block.kept is None else {key: column[part].copy() for key, column in block.kept.items()}
                yield Block(block.values[part].copy(), labels, kept)
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
        parts = item if isinstance(item, tuple) and len(item) in (2, 3) else (item,)
        given, given_labels, given_kept = (*parts, None, None)[:3]
        values = np.asarray(as_array(given, where))
        if values.ndim != 2:
            raise DataError(f"{where}: shape {values.shape} is not (rows, features); yield 2-D blocks, (X, y), or (X, y, kept)")
        check_dtype(values.dtype, where)
        if values.shape[1] == 0:
            raise DataError(f"{where}: no features, the shape is {values.shape}")
        if self.features is not None and values.shape[1] != self.features:
            raise DataError(f"{where}: {values.shape[1]} features, the blocks before have {self.features}")
        labels = None
        if given_labels is not None:
            labels = flat(native(np.asarray(as_labels(given_labels, len(values), f"{where}: labels"))))
        kept = self._check_kept(given_kept, len(values), where)
        count = None if labels is None else labels.shape[1:]
        if self._beside is not None and self._beside != (count, list(kept)):
            had, names = self._beside
            if list(kept) != names:
                raise DataError(f"{where}: columns to keep {list(kept) or 'none'}, the blocks before have {names or 'none'}")
            if count is None or had is None:
                has, had_them = ("no labels", "some") if count is None else ("labels", "none")
                raise DataError(f"{where}: {has}, the blocks before have {had_them}")
            raise DataError(f"{where}: labels a row: {(*count, 1)[0]}, the blocks before have {(*had, 1)[0]}")
        self.features = int(values.shape[1])
        self._beside = count, list(kept)
        return Block(native(values), labels, kept or None)

    def _check_kept(self, given: Any, rows: int, where: str) -> dict[str, Array]:
        if given is not None and not isinstance(given, Mapping):
            raise DataError(f"{where}: columns to keep must be a dict of names and columns, got {type(given).__name__}")
        found = {}
        for key, column in (given or {}).items():
            about = f"{where}: column to keep {key!r}"
            found[str(key)] = kept_block(np.asarray(as_kept(column, rows, about)), about, 0)
        return found


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

    def _pass(self, rows: int, start: int) -> Iterator[Block]:
        return self._split(self._replay(rows), rows, start)

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
        parts: list[tuple[str, Array]] = [("values", block.values)]
        if block.labels is not None:
            parts.append(("labels", block.labels))
        for key, column in (block.kept or {}).items():
            if column.dtype.hasobject:
                texts = [text.encode("utf-8", "surrogatepass") for text in column]
                parts.append((f"text {key}", np.array([len(text) for text in texts], np.int64)))
                parts.append((f"bytes {key}", np.frombuffer(b"".join(texts), np.uint8)))
            else:
                parts.append((f"kept {key}", column))
        about = json.dumps([[name, part.dtype.str, part.shape] for name, part in parts]).encode()
        file = self._file
        file.seek(self._size)
        file.write(_SPOOLED.pack(len(about)) + about)
        for _, part in parts:
            file.write(np.ascontiguousarray(part).view(np.uint8).data if part.size else b"")
        # A full disk must show now, not when the buffer happens to be written.
        file.flush()
        self._size = file.tell()

    def _read(self, position: int, rows: int) -> Generator[Block, None, int]:
        """Yield one spooled block in parts of at most `rows` rows; return the position of the next one."""
        assert self._file is not None
        self._file.seek(position)
        (length,) = _SPOOLED.unpack(self._file.read(_SPOOLED.size))
        at: int = position + _SPOOLED.size + length
        parts: dict[str, tuple[int, np.dtype[Any], tuple[int, ...]]] = {}
        for name, dtype, shape in json.loads(self._file.read(length)):
            parts[name] = at, np.dtype(dtype), tuple(shape)
            at += int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        count = parts["values"][2][0]
        # Where each text starts, which only their lengths tell.
        lengths = {name[5:]: self._part(*parts[name], 0, count) for name in parts if name[:5] == "text "}
        texts = {key: np.concatenate([[0], np.cumsum(column)]) for key, column in lengths.items()}
        for start in range(0, count, rows):
            stop = min(start + rows, count)
            kept = {name[5:]: self._part(*parts[name], start, stop) for name in parts if name[:5] == "kept "}
            for key, edges in texts.items():
                data = self._part(*parts[f"bytes {key}"], edges[start], edges[stop]).tobytes()
                ends = (edges[start : stop + 1] - edges[start]).tolist()
                kept[key] = np.empty(stop - start, object)
                kept[key][:] = [data[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(ends)]
            labels = self._part(*parts["labels"], start, stop) if "labels" in parts else None
            order = [name.partition(" ")[2] for name in parts if name[:5] in ("kept ", "text ")]
            yield Block(self._part(*parts["values"], start, stop), labels, {key: kept[key] for key in order} or None)
        return at

    def _part(self, at: int, dtype: np.dtype[Any], shape: tuple[int, ...], start: int, stop: int) -> Array:
        """Rows of a spooled array. Seeks every time: another pass may have moved the file since."""
        assert self._file is not None
        rows = np.empty((stop - start, *shape[1:]), dtype)
        if rows.size:
            self._file.seek(at + start * (rows.nbytes // (stop - start)))
            read_into(self._file, rows, self.name)
        return rows

    def close(self) -> None:
        """Remove the spool. The source cannot be read afterwards."""
        super().close()
        if self._file is not None:
            self._file.close()
            self._file = None


def iterable_source(
    blocks: Iterable[Any], spool_dir: str | os.PathLike[str] | None = None, name: str = "blocks"
) -> Source:
    """Read what an iterable yields: 2-D blocks of rows, (X, y) tuples, or (X, y or None, dict of columns to keep) tuples.

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
