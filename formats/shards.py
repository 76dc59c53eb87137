"""A folder of shards, zipml files that hold the rows of one data set in turn, read as one (FORMAT.md, section 6).

The manifest says what the whole is; a shard is opened when the first of its rows is wanted, at most OPEN at a time. What was
checked stays checked when a shard is closed and opened again.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptError, FormatError
from ..kernels.mapping import Mapping
from .container import DATASETS, MEMORY, Checks, ContainerReader, joined, state_of
from .header import Header
from .planes import at_precision, check_precision
from .vouched import is_vouched, vouched

MANIFEST = "manifest.json"
FORMAT = "zipml-shards"
VERSION = 1
OPEN = 256  # shards that are open at a time, each with one descriptor
#: datasets that a shard has of its own rows, the manifest of all
OF_ROWS = ("low", "high", "mean", "std", "noise", "error", "plane_noise", "clipped")
#: datasets that are the same in each
ALIKE = ("levels", "columns", "label_names", "kept_names")


@dataclass(frozen=True)
class Shard:
    """A shard as the manifest lists it: its file's name, rows, size in bytes and root digest as 16 hexadecimal digits."""

    file: str
    rows: int
    bytes: int
    xxh3: str


@dataclass(frozen=True)
class Manifest:
    """What the whole is: the header and statistics that one file of all rows would have, and the shards in order."""

    header: Header
    arrays: dict[str, NDArray[Any]]
    shards: tuple[Shard, ...]

    def text(self) -> bytes:
        """The manifest's bytes: a JSON object whose last member is the digest of all bytes before it."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "header": self.header.about(),
            "arrays": {name: array.tolist() for name, array in self.arrays.items()},
            "shards": [asdict(shard) for shard in self.shards],
        }
        return vouched(content)

    @staticmethod
    def parse(data: bytes) -> Manifest:
        """The manifest in some bytes; FormatError, CorruptError, or what wrong JSON raises."""
        content = json.loads(data)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise FormatError("it lists no shards")
        if content["version"] > VERSION:
            raise FormatError(f"version {content['version']}; this zipml-codec reads up to {VERSION}: install a newer one")
        if not is_vouched(data):
            raise CorruptError("it does not match its digest")
        header = Header(**content["header"])
        arrays = {name: np.array(values, DATASETS[name][0]) for name, values in content["arrays"].items()}
        shards = tuple(Shard(**entry) for entry in content["shards"])
        if header.rows != sum(shard.rows for shard in shards) or not all(plain_name(shard.file) for shard in shards):
            raise CorruptError("its shards do not make up its rows")
        return Manifest(header, arrays, shards)


def plain_name(name: str) -> bool:
    """Whether a shard's name leads to a file in the folder itself."""
    return name == Path(name).name and name not in ("", ".", "..", MANIFEST)


def is_sharded(path: Path) -> bool:
    """Whether a path is a folder with a manifest."""
    return (path / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder, after a look at the sizes of the shards' files.

    Raises
    ------
    FormatError
        There is none, it is of a newer version, or a shard is missing.
    CorruptError
        It is damaged, or a shard has another size.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FormatError(f"{folder} is a folder without a {MANIFEST}: neither a zipml file nor shards of one")
    try:
        manifest = Manifest.parse(path.read_bytes())
    except FormatError as error:
        raise type(error)(f"{path}: {error}") from error
    except OSError as error:
        raise FormatError(f"{path}: cannot read it: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CorruptError(f"{path} is damaged: restore it from its source") from error
    row = 0
    for number, shard in enumerate(manifest.shards):
        where = f"{folder / shard.file} (shard {number}, rows {row} to {row + shard.rows - 1} of {folder})"
        try:
            size = (folder / shard.file).stat().st_size
        except OSError as error:
            raise FormatError(f"{where} is missing: restore it from its source") from error
        if size != shard.bytes:
            raise CorruptError(f"{where} has {size} bytes, not {shard.bytes}: it was cut off, or is another file")
        row += shard.rows
    return manifest


@dataclass(frozen=True)
class Places:
    """Where rows are in a mapping of all shards: row `r` of the shard that begins at `starts[i]` is row `r + shifts[i]`.

    The array has `rows` rows, and begins `before` bytes after the mapping does.
    """

    starts: NDArray[np.int64]
    shifts: NDArray[np.int64]
    rows: int
    before: int

    def of(self, rows: NDArray[np.uintp]) -> NDArray[np.uintp]:
        """Places of rows."""
        size, shift = self._even
        if size:
            return rows + rows // np.uintp(size) * np.uintp(shift)
        return rows + self.shifts.astype(np.uintp)[np.searchsorted(self.starts[1:].astype(np.uintp), rows, "right")]

    @cached_property
    def _even(self) -> tuple[int, int]:
        """Rows of each shard, and how far apart each lies from the last; zeros where shards differ: looking up takes longer."""
        sizes, shifts = np.unique(np.diff(self.starts)), np.unique(np.diff(self.shifts))
        return (int(sizes[0]), int(shifts[0])) if len(sizes) == len(shifts) == 1 else (0, 0)

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """An array with one element a row as one with an element for each row of the mapping; zeros where there is no row."""
        out = np.zeros((self.rows, *values.shape[1:]), values.dtype)
        for start, end, shift in zip(self.starts, [*self.starts[1:], len(values)], self.shifts, strict=True):
            out[start + shift : end + shift] = values[start:end]
        return out


class ShardedReader:
    """Reads a folder of shards as if it were one file; the interface is `ContainerReader`'s. Chunks are those of one file.

    Parameters
    ----------
    path : Path
        The folder.
    locking : bool, optional
        As of ContainerReader.

    Raises
    ------
    FormatError
        No manifest, or of a newer version, or a shard is missing.
    CorruptError
        The manifest or a shard is damaged, or a shard is not the one that the manifest lists.
    """

    version = VERSION

    def __init__(self, path: Path, locking: bool | None = None, precision: int | None = None) -> None:
        self.path, self.locking = path, locking
        manifest = read_manifest(path)
        self.stored, self.shards = manifest.header, manifest.shards
        self.precision = check_precision(self.stored, precision, str(path))
        self.header = at_precision(self.stored, self.precision)
        self.starts = np.cumsum([0, *(shard.rows for shard in self.shards)])
        self.file_bytes = sum(shard.bytes for shard in self.shards) + (path / MANIFEST).stat().st_size
        self._readers: dict[int, ContainerReader] = {}
        self._checks: dict[int, Checks] = {}  # of the shards that were opened so far
        self._mapping: Mapping | None = None
        self._learnt: dict[int, tuple[tuple[int, int] | None, tuple[NDArray[np.int64], NDArray[np.float32]]]] = {}
        self._sample: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None
        self.places: Places | None = None
        self._last: tuple[int, int, NDArray[np.uint8]] | None = None  # a shard, a chunk of it, its rows
        self._guard, self._process, self._closed = threading.Lock(), os.getpid(), False
        first = self.reader(0)
        self.columns, self.label_names, self.kept_names = first.columns, first.label_names, first.kept_names
        self.rowwise, self.has_labels, self.labels_a_row = first.rowwise, first.has_labels, first.labels_a_row
        self.has_exact_copy = first.has_exact_copy
        alike = {name: array for name, array in first.arrays.items() if name in ALIKE}
        self.arrays: dict[str, NDArray[Any]] = alike | manifest.arrays
        self.full_noise = self.arrays["noise"]
        if self.precision < self.stored.bits:  # the levels are those of that precision already
            noise = manifest.arrays["plane_noise"][self.precision - self.stored.coarsest]
            self.arrays |= {"noise": noise, "error": noise}

    def reader(self, number: int) -> ContainerReader:
        """A shard, opened. Whoever has it may go on reading when others push it out: it closes when nobody has it any more."""
        if self._closed:
            raise FormatError(f"{self.path} was closed: open it again")
        if self._process != os.getpid():  # forked, perhaps while a thread of the parent held the lock
            self._guard, self._process = threading.Lock(), os.getpid()
        with self._guard:
            reader = self._readers.pop(number, None)
            if reader is not None:
                self._readers[number] = reader  # the last to go
                return reader
        reader = self._open(number)
        with self._guard:
            reader = self._readers.setdefault(number, reader)
            if len(self._readers) > OPEN:
                del self._readers[next(iter(self._readers))]
        return reader

    def _open(self, number: int) -> ContainerReader:
        shard, start = self.shards[number], int(self.starts[number])
        path = self.path / shard.file
        reader = ContainerReader(path, self.locking, self.precision)
        header = reader.stored
        whole = replace(self.stored, rows=header.rows, chunk_rows=header.chunk_rows, row_offset=self.stored.row_offset + start)
        if f"{reader.digest:016x}" != shard.xxh3 or header != whole:
            reader.close()
            raise CorruptError(
                f"{path} is not shard {number} (rows {start} to {start + shard.rows - 1}) that {self.path / MANIFEST} lists: "
                "it was exchanged, or written again"
            )
        if number in self._checks:
            reader.go_on(self._checks[number])
        self._checks[number] = reader.checks
        self._learnt[number] = reader.span, reader.sample
        return reader

    def _of(self, number: int) -> tuple[tuple[int, int] | None, tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """A shard's span and exact rows: small, and kept, since opening takes milliseconds."""
        if number not in self._learnt:
            self.reader(number)
        return self._learnt[number]

    def pieces(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """Rows first..last-1 as parts of shards: the shard's number, first and last row within it."""
        if first >= last:
            return
        for number in range(int(np.searchsorted(self.starts, first, "right")) - 1, len(self.shards)):
            start, end = int(self.starts[number]), int(self.starts[number + 1])
            if start >= last:
                return
            yield number, max(first, start) - start, min(last, end) - start

    def _chunk(self, shard: int, number: int) -> NDArray[np.uint8]:
        """Rows of a shard's chunk; the last one stays, for the rest of it is often wanted next."""
        last = self._last
        if last is not None and last[:2] == (shard, number):
            return last[2]
        rows = self.reader(shard).read_chunk(number)
        self._last = shard, number, rows
        return rows

    def read_range(self, first: int, last: int) -> NDArray[np.uint8]:
        """Packed rows first..last-1, uint8 (rows, stride); digests of chunks are checked the first time."""
        out = np.empty((last - first, self.header.stride), np.uint8)
        done = 0
        for shard, start, end in self.pieces(first, last):
            size = self.reader(shard).header.chunk_rows
            for number in range(start // size, (end - 1) // size + 1):
                rows = self._chunk(shard, number)[max(0, start - number * size) : end - number * size]
                out[done : done + len(rows)] = rows
                done += len(rows)
        return out

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Packed rows by their numbers, in any order and any number of times: uint8 (rows, stride)."""
        out = np.empty((len(rows), self.header.stride), np.uint8)
        for shard, places, within in self._by_shard(rows):
            out[places] = self.reader(shard).gather(within)
        return out

    def gather_rows(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows of a row array by their numbers, in any order and any number of times: (rows, ...)."""
        dtype = self.rowwise[name].dtype
        out = np.empty((len(rows), *dtype.shape), dtype.base)
        for shard, places, within in self._by_shard(rows):
            out[places] = self.reader(shard).gather_rows(name, within)
        return out

    def _by_shard(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """Each shard that some rows are in, where these are among `rows`, and their ascending numbers in the shard."""
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        ends = np.searchsorted(ascending, self.starts)
        for shard in np.flatnonzero(np.diff(ends)).tolist():
            part = slice(ends[shard], ends[shard + 1])
            yield shard, order[part], ascending[part] - self.starts[shard]

    def read_chunk(self, number: int) -> NDArray[np.uint8]:
        """Rows of chunk `number` of the one file that the shards make up, uint8 (rows, stride)."""
        first = number * self.header.chunk_rows
        return self.read_range(first, min(first + self.header.chunk_rows, self.header.rows))

    def read_chunks(self, numbers: NDArray[np.int64], threads: int, spare: int = 0) -> NDArray[np.uint8]:
        """Rows of some chunks of that one file, as `ContainerReader.read_chunks`."""
        size, parts = self.header.chunk_rows, []
        for number in numbers.tolist():
            first, last = number * size, min((number + 1) * size, self.header.rows)
            shard, start, end = next(self.pieces(first, last))
            header = self.reader(shard).header
            if header.woven and header.chunk_rows == size and start % size == 0 and end - start == last - first:
                parts.append(self.reader(shard).read_chunks(np.array([start // size]), threads))
            else:
                parts.append(self.read_range(first, last))
        return joined(parts, spare)

    def map_rows(self) -> NDArray[np.uint8] | None:
        """All shards mapped into one read-only array of rows, in order but apart: row `r` is row `places.of(r)` of the array.

        Each shard lies a whole number of rows from the first, at a page's start, so that there is less than a page of rows
        of nothing before it. None where `ContainerReader.map_rows` gives none, or offsets in the shards do not allow it.
        """
        places = self._lay_out()
        if places is None:
            return None
        if self._mapping is None:
            try:
                mapping = Mapping(-1, 0, places.before + places.rows * self.header.stride)
                for number, row in enumerate(places.shifts + places.starts):
                    self.reader(number).map_into(mapping, places.before + int(row) * self.header.stride)
                self._mapping = mapping
            except OSError as error:
                if isinstance(error, FormatError):
                    raise
                return None
        rows = np.frombuffer(memoryview(self._mapping), np.uint8, offset=places.before)
        return rows.reshape(-1, self.header.stride)

    def _lay_out(self) -> Places | None:
        """Where each shard begins in the mapping."""
        if self.places is not None or self.header.zstd or self.header.woven:
            return self.places
        page, stride = mmap.ALLOCATIONGRANULARITY, self.header.stride
        steps, row, shifts, before = stride // math.gcd(page, stride), 0, [], 0
        for number, start in enumerate(self.starts[:-1].tolist()):
            span = self._of(number)[0]
            if span is None:
                return None
            offset, size = span
            before = offset % page if number == 0 else before
            after = -(-(before + row * stride) // page) * page + offset % page  # the next place that the system allows
            candidates = after + page * np.arange(steps) - before
            fits = np.flatnonzero(candidates % stride == 0)
            if not len(fits):
                return None
            row = int(candidates[fits[0]]) // stride if number else 0
            shifts.append(row - start)
            row += size // stride
        self.places = Places(self.starts[:-1], np.array(shifts), row, before)
        return self.places

    def prepare_mapped(self, mapped: NDArray[np.uint8], first: int, last: int) -> None:
        """Ask the system for rows first..last-1, by their numbers, and check their chunks' digests, once."""
        assert self.places is not None
        for number, start, end in self.pieces(first, last):
            if self._large or not self._all_checked(number):
                reader = self.reader(number)
                at = int(self.starts[number] + self.places.shifts[number])
                reader.prepare_mapped(mapped[at : at + reader.header.chunks * reader.header.chunk_rows], start, end)

    def settle(self) -> None:
        """After mapped rows were used: raise CorruptError where a shard was written to meanwhile."""
        if self._mapping is None:
            return
        for number, shard in enumerate(self.shards):
            path, stamp = self.path / shard.file, self._checks[number].stamp
            with suppress(OSError):  # a file that is gone from there, or another one, leaves the mapped one as it was
                now = state_of(path.stat())
                if now != stamp and now[:2] == stamp[:2]:
                    raise CorruptError(f"{path} was changed by another program while it was read: read it again")
        if self._mapping.lost:
            raise CorruptError(f"{self.path}: a shard was changed by another program while it was read: read it again")

    @property
    def cold(self) -> bool:
        """Whether chunks are compressed or still unchecked, or the files too large to stay in memory."""
        return bool(self.header.zstd) or self._large or not all(map(self._all_checked, range(len(self.shards))))

    @property
    def _large(self) -> bool:
        return 2 * self.file_bytes > MEMORY

    def _all_checked(self, number: int) -> bool:
        return number in self._checks and bool(self._checks[number].chunks.all())

    def read_rows(self, name: str, first: int = 0, last: int | None = None) -> NDArray[Any]:
        """Rows first..last-1, or all, of a row array, as `ContainerReader.read_rows`."""
        dtype, last = self.rowwise[name].dtype, self.header.rows if last is None else last
        out, done = np.empty((max(last - first, 0), *dtype.shape), dtype.base), 0
        for shard, start, end in self.pieces(first, last):
            out[done : done + end - start] = self.reader(shard).read_rows(name, start, end)
            done += end - start
        return out

    @property
    def sample(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Numbers, counted through all shards, and values of the rows that are kept exactly."""
        if self._sample is None:
            parts = [self._of(number)[1] for number in range(len(self.shards))]
            numbers = [start + rows for start, (rows, _) in zip(self.starts[:-1], parts, strict=True)]
            self._sample = np.concatenate(numbers), np.concatenate([values for _, values in parts])
        return self._sample

    def verify(self, advance: Callable[[int], None] | None = None) -> None:
        """Read everything and check every digest; `advance` is called with the number of rows after each chunk."""
        for number in range(len(self.shards)):
            self.reader(number).verify(advance)

    def close(self) -> None:
        """Close all shards; reading again is an error."""
        self._closed = True
        for reader in [self._readers.pop(number) for number in list(self._readers)]:
            reader.close()

    def __enter__(self) -> ShardedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardedReader, (self.path, self.locking, self.precision)


Reader = ContainerReader | ShardedReader


def files_of(reader: Reader, first: int, last: int) -> Iterator[tuple[ContainerReader, int, int]]:
    """The files that rows first..last-1 are in, each with its first and last of them."""
    if isinstance(reader, ContainerReader):
        yield reader, first, last
    else:
        for shard, start, end in reader.pieces(first, last):
            yield reader.reader(shard), start, end


def files_at(path: Path) -> list[Path]:
    """The files that a zipml file, or a folder of shards, is read from."""
    return [path / MANIFEST, *(path / shard.file for shard in read_manifest(path).shards)] if is_sharded(path) else [path]


def open_reader(path: Path, locking: bool | None = None, precision: int | None = None) -> Reader:
    """A reader of a zipml file, or of a folder of shards, at a precision."""
    return (ShardedReader if path.is_dir() else ContainerReader)(path, locking, precision)
