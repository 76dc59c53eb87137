"""The zipml file: HDF5 for everything that describes it, plain byte ranges for the codes (FORMAT.md, section 4).

Writing: all that is known beforehand goes into a partial file in one HDF5 session, the codes follow by `pwrite` into
pre-allocated chunks, what encoding learnt is added in a second session; then every byte is read back and checked, synced
and renamed. Reading: one short HDF5 session lists the chunks; after it, rows are read by `pread` without HDF5.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash
import zstandard
from numpy.typing import NDArray

from ..errors import CorruptError, FormatError, OptionError, OutputError
from ..kernels import checksums
from .seal import check_seal, write_seal
from .sink import Sink

try:
    import fcntl
except ImportError:  # Windows: no advisory lock; the partial file's name alone tells of another writer
    fcntl = None  # type: ignore[assignment]

VERSION = 1
CHUNK_BYTES = 2 << 20
PAGE = 4096
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 4 << 30
ZSTD_FILTER = 32015
ROUND_ROWS = 16  # rows of a chunk are a multiple of this where there are many: kernels take 16 together
#: every dataset but `codes`: dtype and whether it must be there
DATASETS: dict[str, tuple[str, bool]] = {
    "levels": ("<f4", True),
    "low": ("<f4", True),
    "high": ("<f4", True),
    "mean": ("<f8", True),
    "std": ("<f8", True),
    "noise": ("<f8", True),
    "error": ("<f8", True),
    "digests": ("<u8", True),
    "clipped": ("<u8", False),
    "sample_rows": ("<i8", True),
    "sample_values": ("<f4", True),
    "columns": ("|u1", False),
    "labels": ("<f4", False),
}


@dataclass(frozen=True)
class Header:
    """The root attributes (FORMAT.md, section 4)."""

    rows: int
    features: int
    bits: int
    samples: int
    stride: int
    chunk_rows: int
    level_kind: str  # "uniform": levels holds (low, high); "table": all of them
    rounding: str
    seed: int
    row_offset: int
    zstd: int  # compression level; 0: none
    tool: str
    options: str  # JSON: how it was made

    @property
    def chunks(self) -> int:
        """Number of chunks of `codes`."""
        return -(-self.rows // self.chunk_rows)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk's rows."""
        return self.chunk_rows * self.stride


def chunk_rows_for(rows: int, stride: int) -> int:
    """Rows of a chunk: about CHUNK_BYTES, cut evenly so that the last chunk is almost full."""
    most = max(1, CHUNK_BYTES // stride)
    even = -(-rows // -(-rows // most))
    return min(-(-even // ROUND_ROWS) * ROUND_ROWS, rows) if even >= 16 * ROUND_ROWS else even


def raw(array: Any) -> memoryview:
    """An array's bytes."""
    contiguous: Any = np.ascontiguousarray(array)
    return memoryview(contiguous).cast("B") if contiguous.size else memoryview(b"")


def digest(data: Any) -> int:
    """xxh3-64 of an array's bytes."""
    return int(xxhash.xxh3_64_intdigest(raw(data)))


def header_digest(header: Header, digests: dict[str, int]) -> int:
    """xxh3-64 of the header and the other digests, as JSON with sorted keys and no spaces (FORMAT.md, section 4)."""
    content = {"header": asdict(header), "digests": {name: f"{value:016x}" for name, value in digests.items()}}
    return int(xxhash.xxh3_64_intdigest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()))


def encode_columns(columns: tuple[str, ...] | None) -> NDArray[np.uint8] | None:
    """Column names as the bytes of a JSON list: any name, any length."""
    return None if columns is None else np.frombuffer(json.dumps(list(columns)).encode(), np.uint8)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """A full disk, a missing folder, no permission: as an OutputError that says so."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left" in str(error):
            raise OutputError(f"{path}: no space left on the disk; nothing was written") from error
        raise OutputError(f"{path}: cannot write: {error.strerror or error}; nothing was written") from error


class ContainerWriter:
    """Writes one file: `codes` and `labels` in order, then `finish`. Use in a ``with`` block: an error leaves nothing.

    Parameters
    ----------
    path : Path
        Appears only when complete and verified; until then `path`.partial is locked and written.
    header : Header
    arrays : dict
        The datasets known beforehand, by the names of DATASETS.
    has_labels, overwrite : bool

    Raises
    ------
    OutputError
        `path` exists, another process is writing it, or the disk is full.
    """

    def __init__(
        self, path: Path, header: Header, arrays: dict[str, NDArray[Any]], *, has_labels: bool, overwrite: bool = False
    ) -> None:
        self.path, self.partial = path, path.with_name(path.name + ".partial")
        self.header, self.arrays, self.overwrite = header, dict(arrays), overwrite
        self.digests = np.zeros(header.chunks, np.uint64)
        self._label_parts = xxhash.xxh3_64()
        self._chunk = np.zeros((header.chunk_rows, header.stride), np.uint8)
        self._row = self._label_row = 0
        self._file: h5py.File | None = None
        self._lock = -1
        self.has_labels = has_labels
        check_output(path, overwrite)
        with disk_errors(path):
            self._lock_partial()
            try:
                self._create()
            except BaseException:
                self.abort()
                raise

    def __enter__(self) -> ContainerWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None or self._lock >= 0:
            self.abort()

    def _lock_partial(self) -> None:
        """Open the partial file and lock it; what a killed writer left is not locked and is written over."""
        self._lock = os.open(self.partial, os.O_RDWR | os.O_CREAT, 0o666)
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                same = os.path.samestat(os.fstat(self._lock), self.partial.stat())
            except OSError:
                same = False
            if not same:
                os.close(self._lock)
                self._lock = -1
                raise OutputError(f"{self.path}: another process is writing it ({self.partial.name} is locked)")

    def _create(self) -> None:
        header = self.header
        os.ftruncate(self._lock, 0)  # what a killed writer left
        self._sink = Sink(self._lock)
        file = h5py.File(
            self._sink, "w", libver=("earliest", "v110"), alignment_threshold=16 * PAGE, alignment_interval=PAGE
        )
        self._file = file
        for name, array in self.arrays.items():
            file.create_dataset(name, data=np.asarray(array, DATASETS[name][0]))
        for name in ("noise", "error"):
            file.create_dataset(name, data=np.zeros(header.features))
        file.create_dataset("digests", data=self.digests)
        if self.has_labels:
            labels = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            labels.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            labels.set_obj_track_times(False)
            space = h5py.h5s.create_simple((header.rows,))
            h5py.h5d.create(file.id, b"labels", h5py.h5t.IEEE_F32LE, space, dcpl=labels)
        self._create_codes(file)
        self._sink.check()
        if header.zstd:
            return
        offsets = chunk_table(file["codes"].id, header)[:, 0]
        label_offset = int(file["labels"].id.get_offset()) if self.has_labels else 0
        file.close()
        self._file = None
        self._sink.settle()
        if hasattr(os, "posix_fallocate"):  # a full disk is found now, not at the end of the night
            os.posix_fallocate(self._lock, 0, os.fstat(self._lock).st_size)
        self._offsets, self._label_offset = offsets, label_offset

    def _create_codes(self, file: h5py.File) -> None:
        header = self.header
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((header.chunk_rows, header.stride))
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        plist.set_obj_track_times(False)  # the same data give the same bytes at any time
        if header.zstd:
            plist.set_filter(ZSTD_FILTER, h5py.h5z.FLAG_OPTIONAL, (header.zstd,))
            plist.set_fletcher32()
        else:
            plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        space = h5py.h5s.create_simple((header.rows, header.stride))
        h5py.h5d.create(file.id, b"codes", h5py.h5t.STD_U8LE, space, dcpl=plist)

    def write_codes(self, packed: NDArray[np.uint8]) -> None:
        """Append packed rows (m, stride)."""
        header, done = self.header, 0
        while done < len(packed):
            at = self._row % header.chunk_rows
            count = min(len(packed) - done, header.chunk_rows - at)
            self._chunk[at : at + count] = packed[done : done + count]
            done += count
            self._row += count
            if at + count == header.chunk_rows or self._row == header.rows:
                self._chunk[at + count :] = 0
                with disk_errors(self.path):
                    self._write_chunk((self._row - 1) // header.chunk_rows)

    def _write_chunk(self, number: int) -> None:
        self.digests[number] = digest(self._chunk)
        if self._file is None:
            write_at(self._lock, raw(self._chunk), int(self._offsets[number]))
            return
        stored = zstandard.ZstdCompressor(level=self.header.zstd, write_checksum=True).compress(raw(self._chunk))
        checked = stored + checksums.fletcher32(stored).to_bytes(4, "little")
        self._file["codes"].id.write_direct_chunk((number * self.header.chunk_rows, 0), checked)
        self._sink.check()

    def write_labels(self, labels: NDArray[np.float32]) -> None:
        """Append labels, as many as rows in all."""
        data = np.ascontiguousarray(labels, "<f4")
        self._label_parts.update(raw(data))
        with disk_errors(self.path):
            if self._file is None:
                write_at(self._lock, raw(data), self._label_offset + 4 * self._label_row)
            else:
                self._file["labels"][self._label_row : self._label_row + len(data)] = data
                self._sink.check()
        self._label_row += len(data)

    def finish(self, noise: NDArray[np.float64], error: NDArray[np.float64]) -> None:
        """Add what encoding learnt, check every byte, publish under the final name."""
        if self._row != self.header.rows or (self.has_labels and self._label_row != self.header.rows):
            raise OutputError(f"{self.path}: {self._row} of {self.header.rows} rows were written")
        with disk_errors(self.path):
            if self._file is None:
                self._sink = Sink(self._lock)
                self._file = h5py.File(self._sink, "r+")
            file = self._file
            self.arrays |= {"noise": noise, "error": error, "digests": self.digests}
            for name in ("noise", "error", "digests"):
                file[name][...] = self.arrays[name]
            digests = {name: digest(np.asarray(array, DATASETS[name][0])) for name, array in self.arrays.items()}
            if self.has_labels:
                digests["labels"] = self._label_parts.intdigest()
            for name, value in digests.items():
                file[name].attrs["xxh3"] = np.uint64(value)
            file.attrs.update({"format": "zipml", "version": np.int64(VERSION)})
            for field in fields(Header):
                value = getattr(self.header, field.name)
                file.attrs[field.name] = np.uint64(value) if isinstance(value, int) else value
            file.attrs["xxh3"] = np.uint64(header_digest(self.header, digests))
            ranges = chunk_table(file["codes"].id, self.header)[:, :2]
            if self.has_labels:
                place = [int(file["labels"].id.get_offset()), 4 * self.header.rows]
                ranges = np.concatenate([ranges, np.array([place])])
            file.close()
            self._file = None
            self._sink.settle()
            write_seal(self._lock, ranges)
        with ContainerReader(self.partial, locking=False) as reader:
            reader.verify()
        with disk_errors(self.path):
            self._publish()

    def _publish(self) -> None:
        os.fsync(self._lock)
        if self.overwrite:
            self.partial.replace(self.path)
        else:
            try:
                os.link(self.partial, self.path)  # unlike a rename, fails if the name was taken meanwhile
            except FileExistsError:
                raise OutputError(exists_message(self.path)) from None
            except OSError:  # a file system without hard links
                check_output(self.path, overwrite=False)
                self.partial.replace(self.path)
            else:
                self.partial.unlink()
        os.close(self._lock)
        self._lock = -1
        sync_folder(self.path.parent)

    def abort(self) -> None:
        """Remove what was written so far."""
        if self._file is not None:
            with suppress(Exception):  # closing flushes, which fails again on a full disk
                self._file.close()
            self._file = None
        if self._lock >= 0:
            with suppress(OSError):
                self.partial.unlink()
            os.close(self._lock)
            self._lock = -1


def exists_message(path: Path) -> str:
    """What to say where an output's name is taken."""
    return f"{path} exists: choose another name, or say overwrite=True (--overwrite)"


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse an output that exists, or that cannot be made, before any work is done."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file")
    if path.exists() and not overwrite:
        raise OutputError(exists_message(path))
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}")


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset`, however many calls it takes."""
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def chunk_table(codes: h5py.h5d.DatasetID, header: Header) -> NDArray[np.int64]:
    """(offset, size, filter mask) of every chunk, in row order. One pass: asking for them one by one is quadratic."""
    table = np.full((header.chunks, 3), -1, np.int64)

    def note(chunk: Any) -> None:
        number, rest = divmod(chunk.chunk_offset[0], header.chunk_rows)
        if rest or chunk.chunk_offset[1] or not 0 <= number < header.chunks:
            raise CorruptError(f"a chunk lies at row {chunk.chunk_offset[0]}, where none belongs")
        table[number] = chunk.byte_offset, chunk.size, chunk.filter_mask

    codes.chunk_iter(note)
    return table


class ContainerReader:
    """Reads one file. Thread-safe; a forked child may go on reading; pickled, it opens the path again.

    Parameters
    ----------
    path : Path
    locking : bool, optional
        HDF5's file locking while the header is read; False for file systems that have none.

    Raises
    ------
    FormatError
        Not there, not a zipml file, or of a newer version.
    CorruptError
        Truncated or damaged: a digest does not match.
    """

    def __init__(self, path: Path, locking: bool | None = None) -> None:
        self.path, self.locking = path, locking
        self.arrays: dict[str, NDArray[Any]] = {}
        self._descriptor = -1
        self._guard = threading.Lock()
        if path.is_dir():
            raise FormatError(f"{path} is a folder, not a zipml file")
        if not path.exists():
            raise FormatError(f"{path}: there is no such file")
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            self._size = os.fstat(self._descriptor).st_size
            sealed = check_seal(self._descriptor)  # before HDF5 interprets a byte
            with h5py.File(path, "r", locking=locking) as file:
                if not sealed and file.attrs.get("format") == "zipml":
                    raise CorruptError("its seal is missing: the file was cut off or changed")
                self._read_header(file)
        except FormatError as error:
            self.close()  # not when whoever keeps the error lets go of it
            raise type(error)(f"{path}: {error}") from error
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
            self.close()
            raise self._explain(error) from error
        self._checked = np.zeros(self.header.chunks, bool)

    def _explain(self, error: BaseException) -> FormatError:
        if isinstance(error, PermissionError):
            return FormatError(f"{self.path}: no permission to read it")
        if isinstance(error, OSError) and "signature" in str(error):
            return FormatError(f"{self.path} is not a zipml file")
        if isinstance(error, OSError) and "truncated" in str(error):  # this text of HDF5's has "sblock" in it
            return CorruptError(f"{self.path} is truncated: restore it from its source")
        if isinstance(error, OSError) and "unable to lock" in str(error):
            return FormatError(
                f"{self.path}: cannot lock it; on a file system without locks, open it with locking=False"
            )
        return CorruptError(f"{self.path} is damaged: {error}")

    def _read_header(self, file: h5py.File) -> None:
        attributes = file.attrs
        if attributes.get("format") != "zipml":
            raise FormatError("not a zipml file (an HDF5 file without the attribute format = zipml)")
        version = int(attributes["version"])
        if version > VERSION:
            raise FormatError(f"format version {version}; this zipml-codec reads up to {VERSION}: install a newer one")
        values: dict[str, Any] = {}
        for field in fields(Header):
            value = attributes[field.name]
            values[field.name] = str(value) if field.type == "str" else int(value)
        self.version, self.header = version, Header(**values)
        self._check_header()
        digests = {}
        for name, (dtype, needed) in DATASETS.items():
            if name not in file:
                if needed:
                    raise CorruptError(f"the dataset {name!r} is missing")
                continue
            digests[name] = int(file[name].attrs["xxh3"])
            self._check_shape(name, file[name], dtype)
            if name != "labels":
                self.arrays[name] = file[name][...]
                if digest(self.arrays[name]) != digests[name]:
                    raise CorruptError(f"the dataset {name!r} does not match its digest")
        if header_digest(self.header, digests) != int(attributes["xxh3"]):
            raise CorruptError("the header does not match its digest")
        self.has_labels, self._label_digest = "labels" in digests, digests.get("labels", 0)
        self._label_offset = file["labels"].id.get_offset() if self.has_labels else 0
        codes = file["codes"]
        if codes.shape != (self.header.rows, self.header.stride) or codes.dtype != np.uint8:
            raise CorruptError(f"codes have shape {codes.shape} and type {codes.dtype}")
        self.table = chunk_table(codes.id, self.header)
        if (self.table[:, 0] < 0).any():
            raise CorruptError(f"chunk {int(np.argmax(self.table[:, 0] < 0))} of the codes is missing")

    def _check_header(self) -> None:
        header = self.header
        used = (header.features * header.bits + 7) // 8
        if not (
            header.rows >= 1
            and header.features >= 1
            and 1 <= header.bits <= 8
            and 1 <= header.samples < 2**header.bits
            and used <= header.stride < used + 64
            and header.chunk_rows >= 1
            and header.rows < 2**62
            and header.level_kind in ("uniform", "table")
            and header.rounding in ("stochastic", "nearest")
        ):
            raise CorruptError(f"the header makes no sense: {header}")

    def _check_shape(self, name: str, dataset: Any, dtype: str) -> None:
        header, n = self.header, self.header.features
        intervals = 1 if header.level_kind == "uniform" else (2**header.bits - 1) // header.samples
        expected: dict[str, Callable[[tuple[int, ...]], bool]] = {
            "levels": lambda shape: shape in ((n, intervals + 1), (1, intervals + 1)),
            "digests": lambda shape: shape == (header.chunks,),
            "labels": lambda shape: shape == (header.rows,),
            "columns": lambda shape: len(shape) == 1,
            "sample_rows": lambda shape: len(shape) == 1 and shape[0] <= header.rows,
            "sample_values": lambda shape: shape == (len(self.arrays["sample_rows"]), n),
        }
        fits = expected[name](dataset.shape) if name in expected else dataset.shape == (n,)
        if dataset.dtype != np.dtype(dtype) or not fits:
            raise CorruptError(f"the dataset {name!r} has type {dataset.dtype} and shape {dataset.shape}")

    def read_chunk(self, number: int, *, check: bool = False) -> NDArray[np.uint8]:
        """Rows of chunk `number`, uint8 (rows, stride); its digest is checked the first time, and where `check` is set.

        Raises
        ------
        CorruptError
            The file ends early, or the bytes are not those that were written.
        """
        header = self.header
        offset, size, mask = (int(value) for value in self.table[number])
        data: Any = self._read(offset, size, f"chunk {number}")
        if header.zstd:
            data = self._unpack_chunk(data, mask, number)
        if len(data) != header.chunk_bytes:
            raise CorruptError(f"{self.path}: chunk {number} has {len(data)} bytes, not {header.chunk_bytes}")
        rows = np.frombuffer(data, np.uint8).reshape(header.chunk_rows, header.stride)
        if check or not self._checked[number]:
            self._check_digest(number, rows)
        return rows[: min(header.chunk_rows, header.rows - number * header.chunk_rows)]

    def _check_digest(self, number: int, rows: NDArray[np.uint8]) -> None:
        if digest(rows) != int(self.arrays["digests"][number]):
            first = number * self.header.chunk_rows
            last = min(first + self.header.chunk_rows, self.header.rows) - 1
            raise CorruptError(f"{self.path}: chunk {number} (rows {first} to {last}) does not match its digest")
        self._checked[number] = True

    def map_rows(self) -> NDArray[np.uint8] | None:
        """All packed rows as one read-only view of the file, (chunks * chunk_rows, stride): nothing is copied or checked.

        None where chunks are compressed, or do not follow one another without a gap. `prepare_mapped` checks parts of it.
        """
        header = self.header
        offsets = self.table[:, 0]
        if header.zstd or (np.diff(offsets) != header.chunk_bytes).any() or self._descriptor < 0:
            return None
        end = int(offsets[-1]) + header.chunk_bytes
        if os.fstat(self._descriptor).st_size < end:
            raise CorruptError(f"{self.path} is truncated: the codes end at byte {end}")
        start = int(offsets[0]) // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        memory = mmap.mmap(self._descriptor, end - start, access=mmap.ACCESS_READ, offset=start)
        rows = np.frombuffer(memory, np.uint8, offset=int(offsets[0]) - start).reshape(-1, header.stride)
        return rows

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
                if os.fstat(self._descriptor).st_size < int(self.table[number, 0]) + header.chunk_bytes:
                    raise CorruptError(f"{self.path} is truncated: chunk {number} is gone")
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
        if size < 0 or size > 2 * self.header.chunk_bytes + 4096 + 4 * self.header.rows:
            raise CorruptError(f"{self.path}: {what} claims {size} bytes")
        if self._descriptor < 0:
            raise FormatError(f"{self.path} was closed: open it again")
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size:
            count = os.preadv(self._descriptor, [view[done:]], offset + done)
            if count == 0:
                raise CorruptError(f"{self.path} is truncated: {what} ends at byte {offset + size}")
            done += count
        return data

    def read_labels(self) -> NDArray[np.float32] | None:
        """All labels, float32 (rows,), checked against their digest; None where the file has none."""
        if not self.has_labels:
            return None
        labels = np.frombuffer(self._read(self._label_offset, 4 * self.header.rows, "labels"), "<f4")
        if digest(labels) != self._label_digest:
            raise CorruptError(f"{self.path}: the labels do not match their digest")
        return labels

    def verify(self, advance: Callable[[int], None] | None = None) -> None:
        """Read everything and check every digest; the header's and the small datasets' were checked at opening.

        `advance` is called with the number of rows after each chunk.
        """
        self.read_labels()
        for number in range(self.header.chunks):
            rows = self.read_chunk(number, check=True)
            if advance is not None:
                advance(len(rows))

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the features."""
        if "columns" not in self.arrays:
            return None
        return tuple(json.loads(self.arrays["columns"].tobytes().decode()))

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return self._size

    def close(self) -> None:
        """Close the file; reading again is an error."""
        with self._guard:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def __enter__(self) -> ContainerReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return ContainerReader, (self.path, self.locking)


def check_zstd(level: Any) -> int:
    """A zstd level, 1..19, or 0 for None."""
    if level is None:
        return 0
    if isinstance(level, bool) or not isinstance(level, int | np.integer) or not 1 <= level <= 19:
        raise OptionError(f"zstd must be a level in 1..19, or None; got {level!r}")
    return int(level)
