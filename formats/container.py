"""The zipml file: HDF5 for everything that describes it, plain byte ranges for the codes (FORMAT.md, section 4).

What a file holds, and its reader: one short HDF5 session, on bytes in memory that were checked, lists the chunks; after it, rows
are read by `pread` without HDF5. A reader never writes, and keeps a shared lock where the file system has locks.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import xxhash
import zstandard
from numpy.typing import NDArray

from ..arrays import row_stride
from ..errors import CorruptError, FormatError, OptionError
from ..kernels import checksums
from ..kernels.mapping import Mapping
from .header import PAGE, Header
from .planes import arrays_at, at_precision, check_precision, unwoven
from .seal import Image, Seal, first_damage, read_at, read_copy, read_seal, read_skeleton

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

VERSION = 1
SIGNATURE = b"\x89HDF\r\n\x1a\n"
HEAD_BYTES = 1 << 16  # in which a file of ours, whatever else it lacks, names its datasets
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 4 << 30
ZSTD_FILTER = 32015
ROW_STEP = 1 << 20  # bytes of rows that are read together
EXACT = "exact"  # the row array of all rows as they were
#: every dataset but `codes` and row arrays: dtype and whether it must be there
DATASETS: dict[str, tuple[str, bool]] = {
    "levels": ("<f4", True),
    "low": ("<f4", True),
    "high": ("<f4", True),
    "mean": ("<f8", True),
    "std": ("<f8", True),
    "noise": ("<f8", True),
    "error": ("<f8", True),
    "digests": ("<u8", True),
    "row_digests": ("<u8", False),
    "plane_noise": ("<f8", False),
    "clipped": ("<u8", False),
    "sample_rows": ("<i8", True),
    "sample_values": ("<f4", True),
    "columns": ("|u1", False),
    "label_names": ("|u1", False),
    "kept_names": ("|u1", False),
}


def joined(parts: list[NDArray[np.uint8]], spare: int) -> NDArray[np.uint8]:
    """Rows one after another, after `spare` undefined ones."""
    rows = np.empty((spare + sum(map(len, parts)), parts[0].shape[1]), np.uint8)
    np.concatenate(parts, out=rows[spare:])
    return rows


def raw(array: Any) -> memoryview:
    """An array's bytes."""
    contiguous: Any = np.ascontiguousarray(array)
    return contiguous.reshape(-1).view(np.uint8).data if contiguous.size else memoryview(b"")


def digest(data: Any) -> int:
    """xxh3-64 of an array's bytes."""
    return int(xxhash.xxh3_64_intdigest(raw(data)))


def header_digest(header: Header, digests: dict[str, int], types: dict[str, np.dtype[Any]]) -> int:
    """xxh3-64 of the header, the other digests and row arrays' types, as JSON (FORMAT.md, section 4)."""
    content = {
        "header": header.about(),
        "digests": {name: f"{value:016x}" for name, value in digests.items()},
        "row_arrays": {name: kind.base.str + "".join(f"*{size}" for size in kind.shape) for name, kind in types.items()},
    }
    return int(xxhash.xxh3_64_intdigest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()))


def encode_names(names: tuple[str, ...] | None) -> NDArray[np.uint8] | None:
    """Names as the bytes of a JSON list: any name, any length."""
    return None if names is None else np.frombuffer(json.dumps(list(names)).encode(), np.uint8)


class RowPlace(NamedTuple):
    """A row array of a file: its type of one row, where it is, and the digests of each chunk's rows."""

    dtype: np.dtype[Any]
    offset: int
    digests: NDArray[np.uint64]


class Checks(NamedTuple):
    """What of a file matched its digests, chunks and rows of row arrays by chunk, while the file was as `stamp` says."""

    stamp: tuple[int, ...]
    chunks: NDArray[np.bool_]
    rowwise: dict[str, NDArray[np.bool_]]


def chunk_table(codes: h5py.h5d.DatasetID, header: Header) -> NDArray[np.int64]:
    """(offset, size, filter mask) of every chunk, in row order. One pass: asking for them one by one is quadratic."""
    table = np.full((header.chunks, 3), -1, np.int64)

    def note(chunk: Any) -> None:
        *above, row, within = chunk.chunk_offset
        number, rest = divmod(row, header.chunk_rows)
        if rest or within or any(above) or not 0 <= number < header.chunks:
            raise CorruptError(f"a chunk lies at row {row}, where none belongs")
        table[number] = chunk.byte_offset, chunk.size, chunk.filter_mask

    codes.chunk_iter(note)
    return table


def own_ranges(file: h5py.File, header: Header) -> NDArray[np.int64]:
    """Offset and size of what the seal leaves to other digests: the chunks of codes, row arrays, and exact rows."""
    places = [chunk_table(file["codes"].id, header)[:, :2]]
    for name, dataset in file.items():
        if name != "codes" and (name not in DATASETS or name == "sample_values") and dataset.nbytes:
            places.append(np.array([[dataset.id.get_offset(), dataset.nbytes]], np.int64))
    return np.concatenate(places)


def state_of(about: os.stat_result) -> tuple[int, ...]:
    """What changes when another program writes to the file, or another file takes its place."""
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def share_lock(descriptor: int, locking: bool | None) -> None:
    """A shared lock for as long as the file is open, as HDF5 takes one: who has opened it for writing holds an exclusive one.

    `locking` None: as the variable HDF5_USE_FILE_LOCKING says, and where that is not set only if the file system has locks.
    """
    said = os.environ.get("HDF5_USE_FILE_LOCKING", "").upper()
    if fcntl is None or locking is False or (locking is None and said in ("FALSE", "0")):
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise FormatError("another program has opened it for writing; close it there first") from error
        if locking or said in ("TRUE", "1"):
            remedy = "open it with locking=False or HDF5_USE_FILE_LOCKING=FALSE"
            raise FormatError(f"this file system has no locks: {remedy}") from error


class ContainerReader:
    """Reads one file. Thread-safe; a forked child may go on reading; pickled, it opens the path again.

    Parameters
    ----------
    path : Path
    locking : bool, optional
        Whether to hold a shared lock while the file is open: see `share_lock`.

    Raises
    ------
    FormatError
        Not there, not a zipml file, or of a newer version.
    CorruptError
        Truncated or damaged: a digest does not match.
    """

    def __init__(self, path: Path, locking: bool | None = None, precision: int | None = None) -> None:
        self.path, self.locking = path, locking
        self.shards: tuple[Any, ...] = ()  # what a folder of files has
        self.places: Any = None
        self.arrays: dict[str, NDArray[Any]] = {}
        self.rowwise: dict[str, RowPlace] = {}
        self._rows_checked: dict[str, NDArray[np.bool_]] = {}
        self._descriptor = -1
        self._guard = threading.Lock()
        self._mapping: Mapping | None = None
        self._seal = Seal(0, np.zeros((0, 2), np.int64), 0, 0, 0)
        if path.is_dir():
            raise FormatError(f"{path} is a folder, not a zipml file")
        if not path.exists():
            raise FormatError(f"{path}: there is no such file")
        if path.is_fifo():  # opening it would wait for whoever writes to it
            raise FormatError(f"{path} is a pipe, not a zipml file")
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            share_lock(self._descriptor, locking)
            self._size, self._stamp = os.fstat(self._descriptor).st_size, self._state()
            with h5py.File(self._image(), "r") as file:
                self._read_header(file)
            self.stored = self.header
            self._read_at(check_precision(self.header, precision, str(self.path)))
            self._checked = np.zeros(self.header.chunks, bool)
            self._last = (-1, np.empty((0, self.header.stride), np.uint8))  # the compressed chunk that `gather` met last
        except OptionError:
            self.close()
            raise
        except FormatError as error:
            self.close()  # not when whoever keeps the error lets go of it
            raise type(error)(f"{path}: {error}") from error
        except PermissionError as error:
            self.close()
            raise FormatError(f"{path}: no permission to read it") from error
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
            self.close()
            raise CorruptError(f"{path} is damaged: {error}") from error

    def _image(self) -> Image:
        """What HDF5 may see: bytes that the seal vouches for, in memory, so that nobody changes them after the check."""
        seal = read_seal(self._descriptor)
        if seal is None:
            head = read_at(self._descriptor, HEAD_BYTES, 0)
            if head.startswith(SIGNATURE) and b"sample_values" in head and b"digests" in head:
                raise CorruptError("its seal is missing, the file was truncated or changed: zipml repair saves what is left")
            other = ": an HDF5 file of something else" if head.startswith(SIGNATURE) else ""
            raise FormatError(f"this is not a zipml file{other}")
        skeleton = read_skeleton(self._descriptor, seal)
        if xxhash.xxh3_64_intdigest(skeleton) != seal.skeleton:
            where = first_damage(self._descriptor, seal)
            raise CorruptError(f"its structure does not match its digest{where}: zipml repair saves what is left")
        self._seal = seal
        return Image(self._descriptor, seal, skeleton)

    def _state(self) -> tuple[int, ...]:
        try:
            return state_of(os.fstat(self._descriptor))
        except OSError:  # closed by another thread just now
            return ()

    def _changed(self) -> bool:
        """Whether it was written to since it was opened. Asked after a read: then what was read is as checked as before."""
        return self._state() != self._stamp

    def _read_header(self, file: h5py.File) -> None:
        attributes = file.attrs
        if attributes.get("format") != "zipml":
            raise FormatError("this is not a zipml file: an HDF5 file without the attribute format = zipml")
        version = int(attributes["version"])
        if version > VERSION:
            raise FormatError(f"format version {version}; this zipml-codec reads up to {VERSION}: install a newer one")
        values: dict[str, Any] = {}
        for field in fields(Header):
            if field.name in ("layout", "coarsest") and field.name not in attributes:
                continue
            value = attributes[field.name]
            values[field.name] = str(value) if field.type == "str" else int(value)
        self.version, self.header = version, Header(**values)
        self._check_header()
        digests = {}
        for name, (dtype, needed) in DATASETS.items():
            if name not in file:
                if needed or (self.header.woven and name == "plane_noise"):
                    raise CorruptError(f"the dataset {name!r} is missing")
                continue
            digests[name] = int(file[name].attrs["xxh3"])
            self._read_small(name, file[name], dtype, digests[name])
        self._read_places(file)
        types = {name: place.dtype for name, place in self.rowwise.items()}
        self.digest = header_digest(self.header, digests, types)
        if self.digest != int(attributes["xxh3"]):
            raise CorruptError("the header does not match its digest")
        codes = file["codes"]
        if not isinstance(codes, h5py.Dataset) or codes.shape != self.header.shape or codes.dtype != np.uint8:
            raise CorruptError(f"{codes!r} is not what the header says")
        self.table = self._read_table(codes)
        self._check_content()

    def _read_at(self, precision: int) -> None:
        """From here on, header and arrays are those of rows of a precision; `stored` is the file's own header."""
        self.precision, self.full_noise = precision, self.arrays.get("noise", np.zeros(self.header.features))
        if precision < self.stored.bits:
            self.arrays |= arrays_at(self.stored, self.arrays, precision)
            self.header = at_precision(self.stored, precision)

    def _read_small(self, name: str, dataset: Any, dtype: str, expected: int) -> None:
        self._check_shape(name, dataset, dtype)
        array = dataset[...]
        if digest(array) != expected:
            raise CorruptError(f"the dataset {name!r} does not match its digest")
        self.arrays[name] = array

    def _read_places(self, file: h5py.File) -> None:
        """Where row arrays are."""
        names = [name for name in ("labels", EXACT) if name in file]
        names += [f"kept_{number}" for number in range(len(self.kept_names))]
        digests = self.arrays.get("row_digests", np.zeros((0, self.header.chunks), np.uint64))
        if digests.shape != (len(names), self.header.chunks):
            raise CorruptError(f"{len(names)} row arrays have digests of shape {digests.shape}")
        for name, each in zip(names, digests, strict=True):
            self.rowwise[name] = self._row_place(name, file[name], each)
            self._rows_checked[name] = np.zeros(self.header.chunks, bool)
        if self.label_names is not None and len(self.label_names) != self.labels_a_row:
            raise CorruptError(f"{self.labels_a_row} labels a row have the names {', '.join(self.label_names)}")

    def _read_table(self, codes: h5py.Dataset) -> NDArray[np.int64]:
        """Offset, size and filter mask of each chunk."""
        table = chunk_table(codes.id, self.header)
        if (table[:, 0] < 0).any():
            raise CorruptError(f"chunk {int(np.argmax(table[:, 0] < 0))} of the codes is missing")
        return table

    def _check_header(self) -> None:
        header = self.header
        if not (
            header.rows >= 1
            and header.features >= 1
            and 1 <= header.bits <= 8
            and 1 <= header.samples < 2**header.bits
            and header.stride == row_stride(header.features, header.bits)
            and 1 <= header.chunk_rows <= header.rows
            and 0 <= header.row_offset < header.row_offset + header.rows < 2**63
            and 0 <= header.seed < 2**64
            and header.level_kind in ("uniform", "table")
            and header.rounding in ("stochastic", "nearest")
            and header.layout in ("rows", "weave")
            and (not header.woven or (1 <= header.coarsest <= header.bits and header.samples == 1 and not header.zstd))
        ):
            raise CorruptError(f"the header makes no sense: {header}")

    def _check_content(self) -> None:
        """What is written as it should not be: by another program, for digests fit."""
        columns, rows = self.columns, self.arrays.get("sample_rows", np.zeros(0, np.int64))
        if columns is not None and len(columns) != self.header.features:
            raise CorruptError(f"{self.header.features} features have {len(columns)} names")
        if not isinstance(json.loads(self.header.options), dict):
            raise CorruptError("the attribute 'options' is not a JSON object")
        if (np.diff(rows) <= 0).any() or (rows < 0).any() or (rows >= self.header.rows).any():
            raise CorruptError("the numbers of exact rows do not ascend within the file")

    def _check_shape(self, name: str, dataset: Any, dtype: str) -> None:
        if not isinstance(dataset, h5py.Dataset):
            raise CorruptError(f"{name!r} is not a dataset")
        header, n = self.header, self.header.features
        intervals = 1 if header.level_kind == "uniform" else (2**header.bits - 1) // header.samples
        expected: dict[str, Callable[[tuple[int, ...]], bool]] = {
            "levels": lambda shape: shape in ((n, intervals + 1), (1, intervals + 1)),
            "digests": lambda shape: shape == (header.chunks, header.bits) if header.woven else shape == (header.chunks,),
            "plane_noise": lambda shape: header.woven and shape == (header.bits - header.coarsest, n),
            "row_digests": lambda shape: len(shape) == 2,
            **dict.fromkeys(("columns", "label_names", "kept_names"), lambda shape: len(shape) == 1),
            "sample_rows": lambda shape: len(shape) == 1 and shape[0] <= header.rows,
            "sample_values": lambda shape: shape == (len(self.arrays["sample_rows"]), n),
        }
        fits = expected[name](dataset.shape) if name in expected else dataset.shape == (n,)
        if dataset.dtype != np.dtype(dtype) or not fits or dataset.nbytes > self._size:
            raise CorruptError(f"the dataset {name!r} has type {dataset.dtype} and shape {dataset.shape}")

    def _row_place(self, name: str, dataset: Any, digests: NDArray[np.uint64]) -> RowPlace:
        if not isinstance(dataset, h5py.Dataset):
            raise CorruptError(f"{name!r} is not a dataset")
        base, shape, offset = np.dtype(dataset.dtype.str), dataset.shape, dataset.id.get_offset()
        if name == "labels":
            fits = base == np.dtype("<f4") and len(shape) <= 2 and shape[1:] != (1,)
        elif name == EXACT:
            fits = base == np.dtype("<f4") and shape[1:] == (self.header.features,)
        else:
            fits = base.kind in "biufS" and base.newbyteorder("<") == base and base.str != "<f16" and len(shape) == 1
        if not fits or shape[:1] != (self.header.rows,) or offset is None:
            raise CorruptError(f"the dataset {name!r} has type {dataset.dtype} and shape {shape}")
        return RowPlace(np.dtype((base, shape[1:])), int(offset), digests)

    def read_chunk(self, number: int, *, check: bool = False) -> NDArray[np.uint8]:
        """Rows of chunk `number`, uint8 (rows, stride); its digest is checked the first time, and where `check` is set.

        Raises
        ------
        CorruptError
            The file ends early, or the bytes are not those that were written.
        """
        header = self.header
        if header.woven:
            return self._read_planes(number, check)
        offset, size, mask = (int(value) for value in self.table[number])
        data: Any = self._read(offset, size, f"chunk {number}")
        if header.zstd:
            data = self._unpack_chunk(data, mask, number)
        if len(data) != header.chunk_bytes:
            raise CorruptError(f"{self.path}: chunk {number} has {len(data)} bytes, not {header.chunk_bytes}")
        rows = np.frombuffer(data, np.uint8).reshape(header.chunk_rows, header.stride)
        if check or not self._checked[number] or self._changed():
            self._check_digest(number, rows)
        return rows[: min(header.chunk_rows, header.rows - number * header.chunk_rows)]

    def _check_digest(self, number: int, rows: NDArray[np.uint8]) -> None:
        if digest(rows) != int(self.arrays["digests"][number]):
            raise CorruptError(f"{self.path}: {self._place(number)} does not match its digest")
        self._checked[number] = True

    def _place(self, number: int) -> str:
        first = number * self.header.chunk_rows
        last = min(first + self.header.chunk_rows, self.header.rows) - 1
        offset, size = (int(value) for value in self.table[number, :2])
        return f"chunk {number} (rows {first} to {last}, bytes {offset} to {offset + size - 1})"

    def _check_planes(self, number: int, data: NDArray[np.uint8]) -> None:
        """Check some of a chunk's planes, the first and those after it, against their digests."""
        size = self.stored.plane_bytes
        for plane, expected in enumerate(self.arrays["digests"][number, : len(data) // size].tolist()):
            if digest(data[plane * size : (plane + 1) * size]) != expected:
                raise CorruptError(f"{self.path}: {self._place(number)}: plane {plane} does not match its digest")
        self._checked[number] = True

    def _read_planes(self, number: int, check: bool) -> NDArray[np.uint8]:
        """Rows of a chunk of planes, of which those are read that the precision needs."""
        data = self._planes(number, self.precision)
        if check or not self._checked[number] or self._changed():
            self._check_planes(number, data)
        return unwoven(self.stored, self.precision, data, np.zeros(1, np.int64), np.array([number]), 1)

    def _planes(self, number: int, count: int) -> NDArray[np.uint8]:
        """The bytes of a chunk's first `count` planes."""
        offset, size = int(self.table[number, 0]), self.stored.plane_bytes * count
        return np.frombuffer(self._read(offset, size, f"chunk {number}"), np.uint8)

    def read_chunks(self, numbers: NDArray[np.int64], threads: int, spare: int = 0) -> NDArray[np.uint8]:
        """Rows of some chunks, one after another, uint8 (spare + rows, stride), the first `spare` of them undefined.

        Planes are unwoven from a mapping, by several threads.
        """
        mapped = self._mapped() if self.stored.woven else None
        if mapped is None:
            return joined([self.read_chunk(number) for number in numbers.tolist()], spare)
        at, size = self.table[numbers, 0] - self.table[0, 0], self.stored.plane_bytes * self.precision
        for number, offset in zip(numbers.tolist(), at.tolist(), strict=True):
            if not self._checked[number]:
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(self._descriptor, int(self.table[number, 0]), size, os.POSIX_FADV_WILLNEED)
                self.settle()
                self._check_planes(number, mapped[offset : offset + size])
        rows = unwoven(self.stored, self.precision, mapped, at, numbers, threads, spare)
        self.settle()
        return rows

    def read_range(self, first: int, last: int) -> NDArray[np.uint8]:
        """Packed rows first..last-1, uint8 (rows, stride), chunk by chunk; see `read_chunk`."""
        size = self.header.chunk_rows
        out = np.empty((last - first, self.header.stride), np.uint8)
        for number in range(first // size, -(-last // size) if last > first else 0):
            start, end = max(first, number * size), min(last, (number + 1) * size)
            out[start - first : end - first] = self.read_chunk(number)[start - number * size : end - number * size]
        return out

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Packed rows by their numbers, 0..K-1, in any order and any number of times: uint8 (rows, stride).

        A chunk is read whole, and checked, the first time. After that its rows alone are read, those within a page together;
        but chunks that are compressed, or planes, are always read whole, and the last one is kept.
        """
        header = self.header
        out = np.empty((len(rows), header.stride), np.uint8)
        if len(rows) == 1:  # without what sorting costs
            number, at = divmod(int(rows[0]), header.chunk_rows)
            if self._checked[number] and not (header.zstd or header.woven):
                self._read_into(out.reshape(-1).data, int(self.table[number, 0]) + at * header.stride, "a row")
                if not self._changed():
                    return out
        order = np.argsort(rows, kind="stable")
        numbers, within = np.divmod(rows[order], header.chunk_rows)
        whole = np.ones(len(rows), bool) if header.zstd or header.woven or self._changed() else ~self._checked[numbers]
        for number in np.unique(numbers[whole]).tolist():
            start, end = np.searchsorted(numbers, [number, number + 1])
            out[order[start:end]] = self._whole_chunk(number)[within[start:end]]
        if not whole.all():
            order, offsets = order[~whole], (self.table[numbers, 0] + within * header.stride)[~whole]
            self._gather(order, offsets, out)
            if self._changed():  # while these were read: then by whole chunks, which have digests
                return self.gather(rows)
        return out

    def _whole_chunk(self, number: int) -> NDArray[np.uint8]:
        kept, chunk = self._last
        if kept != number:
            chunk = self.read_chunk(number)
            if self.header.zstd or self.header.woven:
                self._last = number, chunk
        return chunk

    def gather_rows(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows of a row array by their numbers, 0..K-1, in any order and any number of times: (rows, ...).

        The rows of a chunk are read together, and checked, the first time; after that those that are wanted alone.
        """
        dtype, offset, _ = self.rowwise[name]
        size, out = self.header.chunk_rows, np.empty((len(rows), dtype.itemsize), np.uint8)
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        numbers = ascending // size
        whole = np.ones(len(rows), bool) if self._changed() else ~self._rows_checked[name][numbers]
        for number in np.unique(numbers[whole]).tolist():
            start, end = np.searchsorted(numbers, [number, number + 1])
            chunk = self.read_rows(name, number * size, min((number + 1) * size, self.header.rows))
            out[order[start:end]] = chunk.view(np.uint8).reshape(len(chunk), -1)[ascending[start:end] - number * size]
        if not whole.all():
            self._gather(order[~whole], offset + dtype.itemsize * ascending[~whole], out)
            if self._changed():  # while these were read: then by whole chunks, which have digests
                return self.gather_rows(name, rows)
        return out.view(dtype.base).reshape(len(rows), *dtype.shape)

    def _gather(self, places: NDArray[np.int64], offsets: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Rows at ascending offsets to their places in `out`: neighbours in one read, of at most ROW_STEP and a row."""
        stride = out.shape[1]
        apart = (np.diff(offsets) > stride + PAGE) | (np.diff(offsets // ROW_STEP) > 0)
        starts = [0, *(np.flatnonzero(apart) + 1).tolist(), len(offsets)]
        begin, view = offsets.tolist(), out.reshape(-1).data
        for start, end in pairwise(starts):
            if end == start + 1:
                at = int(places[start]) * stride
                self._read_into(view[at : at + stride], begin[start], "a row")
            else:
                data = np.empty(begin[end - 1] - begin[start] + stride, np.uint8)
                self._read_into(data.data, begin[start], "a row")
                rows = np.lib.stride_tricks.as_strided(data, (len(data) - stride + 1, stride), (1, 1))
                out[places[start:end]] = rows[offsets[start:end] - begin[start]]

    def map_rows(self) -> NDArray[np.uint8] | None:
        """All packed rows as one read-only view of the file, (chunks * chunk_rows, stride): nothing is copied or checked.

        None where chunks are compressed, planes, or with gaps between them, or the system has no more room for it.
        `prepare_mapped` checks parts of it before use, `settle` after it.
        """
        mapped = None if self.header.woven else self._mapped()
        return None if mapped is None else mapped.reshape(-1, self.header.stride)

    def _mapped(self) -> NDArray[np.uint8] | None:
        """The bytes of all chunks, mapped; None where `map_rows` says."""
        span = self.span
        if span is None or self._descriptor < 0:
            return None
        at = span[0] % mmap.ALLOCATIONGRANULARITY
        try:
            if self._mapping is None:
                mapping = Mapping(-1, 0, at + span[1])
                self.map_into(mapping, at)
                self._mapping = mapping
        except OSError:
            return None
        return np.frombuffer(memoryview(self._mapping), np.uint8, offset=at)

    @property
    def span(self) -> tuple[int, int] | None:
        """Offset and bytes of all chunks together; None where they are compressed, or do not follow one another without a gap."""
        offsets, size = self.table[:, 0], self.stored.chunk_bytes
        if self.header.zstd or (np.diff(offsets) != size).any():
            return None
        return int(offsets[0]), len(offsets) * size

    def map_into(self, mapping: Mapping, at: int) -> None:
        """Map all chunks to byte `at` of a mapping, which is as far from a page's start as their offset in the file.

        Raises
        ------
        CorruptError
            The file is shorter than that.
        OSError
            The system has no more room for it.
        """
        assert self.span is not None
        offset, size = self.span
        if os.fstat(self._descriptor).st_size < offset + size:
            raise CorruptError(f"{self.path} is truncated: the codes end at byte {offset + size}")
        before = offset % mmap.ALLOCATIONGRANULARITY
        mapping.place(self._descriptor, offset - before, size + before, at - before)

    def settle(self) -> None:
        """After mapped rows were used: raise where the file was written to meanwhile: they may not be those that were checked.

        Raises
        ------
        CorruptError
        """
        if self._mapping is not None and (self._mapping.lost or self._changed()):
            raise CorruptError(f"{self.path} was changed by another program while it was read: read it again")

    @property
    def cold(self) -> bool:
        """Whether chunks are compressed or still unchecked, or the file too large to stay in memory."""
        return bool(self.header.zstd) or not self._checked.all() or 2 * self._size > MEMORY

    def prepare_mapped(self, mapped: NDArray[np.uint8], first: int, last: int) -> None:
        """Ask the system for rows first..last-1 of `map_rows`, and check their chunks against their digests, the first time.

        Raises
        ------
        CorruptError
        """
        header = self.header
        start, end = int(self.table[0, 0]) + first * header.stride, int(self.table[0, 0]) + last * header.stride
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, start, end - start, os.POSIX_FADV_WILLNEED)
        for number in range(first // header.chunk_rows, (last - 1) // header.chunk_rows + 1):
            if not self._checked[number]:
                self.settle()  # a file that was cut off is told as such
                self._check_digest(number, mapped[number * header.chunk_rows : (number + 1) * header.chunk_rows])

    def _unpack_chunk(self, data: bytearray, mask: int, number: int) -> bytes | bytearray:
        """Undo the filters that the mask does not skip: fletcher32 (bit 1), then zstd (bit 0)."""
        stored = memoryview(data)
        if not mask & 2:
            stored, checksum = stored[:-4], int.from_bytes(stored[-4:], "little")
            if checksums.fletcher32(stored) != checksum:
                raise CorruptError(f"{self.path}: chunk {number} does not match its fletcher32 checksum")
        if mask & 1:
            return bytearray(stored)
        try:
            return zstandard.ZstdDecompressor().decompress(stored, max_output_size=self.header.chunk_bytes)
        except zstandard.ZstdError as error:
            raise CorruptError(f"{self.path}: chunk {number} is not a zstd frame: {error}") from error

    def _read(self, offset: int, size: int, what: str) -> bytearray:
        if size < 0 or size > self._size:
            raise CorruptError(f"{self.path}: {what} claims {size} bytes")
        data = bytearray(size)
        self._read_into(memoryview(data), offset, what)
        return data

    def _read_into(self, view: memoryview, offset: int, what: str) -> None:
        if self._descriptor < 0:
            raise FormatError(f"{self.path} was closed: open it again")
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._descriptor, [view[done:]], offset + done)
            except OSError as error:
                if error.errno == errno.EBADF or self._descriptor < 0:  # by another thread just now
                    raise FormatError(f"{self.path} was closed: open it again") from error
                raise CorruptError(f"{self.path}: {what} cannot be read: {error.strerror}") from error
            if count == 0:
                raise CorruptError(f"{self.path} is truncated: {what} ends at byte {offset + len(view)}")
            done += count

    def read_rows(self, name: str, first: int = 0, last: int | None = None) -> NDArray[Any]:
        """Rows first..last-1, or all, of a row array: (rows, ...), of the type that it has in the file.

        The rows of a chunk are checked together, the first time that some of them are wanted.

        Raises
        ------
        CorruptError
            The file ends early, or the bytes are not those that were written.
        """
        size, dtype = self.header.chunk_rows, self.rowwise[name].dtype
        last = self.header.rows if last is None else last
        numbers = range(first // size, -(-last // size) if last > first else first // size)
        if self._rows_checked[name][numbers.start : numbers.stop].all() and not self._changed():
            data = self._read_part(name, first, last)
            if not self._changed():
                return np.frombuffer(data, dtype)
        start, end = numbers.start * size, min(numbers.stop * size, self.header.rows)
        data = self._read_part(name, start, end)
        for number in numbers:
            self._check_rows(name, number, memoryview(data)[(number * size - start) * dtype.itemsize :][: size * dtype.itemsize])
        return np.frombuffer(data, dtype)[first - start : last - start]

    def _read_part(self, name: str, first: int, last: int) -> bytearray:
        dtype, offset, _ = self.rowwise[name]
        return self._read(offset + dtype.itemsize * first, dtype.itemsize * (last - first), f"the dataset {name!r}")

    def _check_rows(self, name: str, number: int, data: memoryview) -> None:
        """Check a row array's rows of chunk `number` against their digest."""
        dtype, offset, digests = self.rowwise[name]
        if digest(data) != int(digests[number]):
            first = number * self.header.chunk_rows
            at, last = offset + first * dtype.itemsize, first + len(data) // dtype.itemsize - 1
            where = f"the dataset {name!r}, rows {first} to {last} (bytes {at} to {at + len(data) - 1}),"
            raise CorruptError(f"{self.path}: {where} does not match its digest")
        self._rows_checked[name][number] = True

    def verify(self, advance: Callable[[int], None] | None = None) -> None:
        """Read everything and check every digest; the header's and the small datasets' were checked at opening.

        `advance` is called with the number of rows after each chunk.
        """
        seal = self._seal
        if seal.copy_size and read_copy(self._descriptor, seal) is None:
            last = seal.size + seal.copy_size - 1
            raise CorruptError(f"{self.path}: the copy of its structure (bytes {seal.size} to {last}) does not match its digest")
        size = self.header.chunk_rows
        for number in range(self.header.chunks):
            for name in self.rowwise:
                part = self._read_part(name, number * size, min((number + 1) * size, self.header.rows))
                self._check_rows(name, number, memoryview(part))
            if self.stored.woven:
                self._check_planes(number, self._planes(number, self.stored.bits))
            else:
                self.read_chunk(number, check=True)
            if advance is not None:
                advance(min(size, self.header.rows - number * size))

    def _names(self, dataset: str) -> tuple[str, ...] | None:
        if dataset not in self.arrays:
            return None
        names = json.loads(self.arrays[dataset].tobytes().decode())
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise CorruptError(f"the dataset {dataset!r} is not a list of names")
        return tuple(names)

    @property
    def sample(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Numbers and values of the rows that are kept exactly."""
        return self.arrays["sample_rows"], self.arrays["sample_values"]

    @property
    def checks(self) -> Checks:
        """What of the file was checked so far; it goes on to say so while others are open, see `go_on`."""
        return Checks(self._stamp, self._checked, self._rows_checked)

    def go_on(self, checks: Checks) -> None:
        """Take for checked what another reader of the same file has checked, where the file was not written to since."""
        if checks.stamp == self._stamp:
            _, self._checked, self._rows_checked = checks

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the features."""
        return self._names("columns")

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the labels."""
        return self._names("label_names")

    @property
    def kept_names(self) -> tuple[str, ...]:
        """Names of the kept columns: number i is the row array "kept_i"."""
        return self._names("kept_names") or ()

    @property
    def has_labels(self) -> bool:
        """Whether the file has labels."""
        return "labels" in self.rowwise

    @property
    def labels_a_row(self) -> int:
        """Number of labels of each row."""
        return self.rowwise["labels"].dtype.itemsize // 4 if self.has_labels else 0

    @property
    def has_exact_copy(self) -> bool:
        """Whether the file has all rows as they were."""
        return EXACT in self.rowwise

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return self._size

    def close(self) -> None:
        """Close the file; reading again is an error."""
        with self._guard:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor, self._mapping = -1, None

    def __enter__(self) -> ContainerReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return ContainerReader, (self.path, self.locking, self.precision)


def check_zstd(level: Any) -> int:
    """A zstd level, 1..19, or 0 for None."""
    if level is None:
        return 0
    if isinstance(level, bool) or not isinstance(level, int | np.integer) or not 1 <= level <= 19:
        raise OptionError(f"zstd must be a level in 1..19, or None; got {level!r}")
    return int(level)
