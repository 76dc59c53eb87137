"""Writing a zipml file (FORMAT.md, section 4).

All that is known beforehand goes into a partial file in one HDF5 session, the codes follow by `pwrite` into pre-allocated
chunks, what encoding learnt is added in a second session; then every byte is read back and checked, synced and renamed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash
import zstandard
from numpy.typing import NDArray

from ..errors import OutputError
from ..kernels import checksums
from .container import (
    DATASETS,
    PAGE,
    VERSION,
    ZSTD_FILTER,
    ContainerReader,
    Header,
    chunk_table,
    digest,
    header_digest,
    own_ranges,
    raw,
)
from .output import check_output, disk_errors, exists_message, sync_folder, write_at
from .seal import write_seal
from .sink import Sink

try:
    import fcntl
except ImportError:  # Windows: no advisory lock; the partial file's name alone tells of another writer
    fcntl = None  # type: ignore[assignment]


def structure_bytes(header: Header) -> int:
    """Room for HDF5's own structures at the front of a file: what is left of a file that is cut off can be read."""
    return 16384 + 2 * len(header.options) + 64 * header.chunks


class RowArray:
    """A row array being written: its type of one row, where it is, how many rows it has, the digests of each chunk's rows."""

    def __init__(self, file: h5py.File, name: str, dtype: np.dtype[Any], header: Header) -> None:
        self.dtype, self.rows, self.digests = dtype, 0, np.zeros(header.chunks, np.uint64)
        self._header, self._digest = header, xxhash.xxh3_64()  # of the chunk's rows so far
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        plist.set_obj_track_times(False)
        base = h5py.string_dtype("utf-8", dtype.itemsize) if dtype.kind == "S" else dtype.base
        kind, space = h5py.h5t.py_create(base, logical=True), h5py.h5s.create_simple((header.rows, *dtype.shape))
        self.offset = int(h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=plist).get_offset())

    def append(self, descriptor: int, values: NDArray[Any]) -> None:
        """Write the next rows."""
        data = raw(np.asarray(values, self.dtype.base))
        write_at(descriptor, data, self.offset + self.dtype.itemsize * self.rows)
        while data:
            count = min(len(data) // self.dtype.itemsize, self._header.chunk_rows - self.rows % self._header.chunk_rows)
            self._digest.update(data[: count * self.dtype.itemsize])
            data, self.rows = data[count * self.dtype.itemsize :], self.rows + count
            if self.rows % self._header.chunk_rows == 0 or self.rows == self._header.rows:
                self.digests[(self.rows - 1) // self._header.chunk_rows] = self._digest.intdigest()
                self._digest.reset()


class ContainerWriter:
    """Writes one file: codes and row arrays in order, then `finish`. Use in a ``with`` block: an error leaves nothing.

    Parameters
    ----------
    path : Path
        Appears only when complete and verified; until then `path`.partial is locked and written.
    header : Header
    arrays : dict
        The datasets known beforehand, by the names of DATASETS.
    rowwise : mapping of str to dtype
        The row arrays, "labels" and "kept_0", "kept_1", ..., and the type of a row of each.
    overwrite : bool

    Raises
    ------
    OutputError
        `path` exists, another process is writing it, or the disk is full.
    """

    def __init__(
        self,
        path: Path,
        header: Header,
        arrays: dict[str, NDArray[Any]],
        rowwise: Mapping[str, np.dtype[Any]],
        *,
        overwrite: bool = False,
    ) -> None:
        self.path, self.partial = path, path.with_name(path.name + ".partial")
        self.header, self.arrays, self.overwrite = header, dict(arrays), overwrite
        self.digests = np.zeros(header.chunks, np.uint64)
        self._chunk = np.zeros((header.chunk_rows, header.stride), np.uint8)
        self._row = 0
        self._file: h5py.File | None = None
        self._lock = -1
        self.rowwise: dict[str, RowArray] = {}
        check_output(path, overwrite)
        with disk_errors(path):
            self._lock_partial()
            try:
                self._create(rowwise)
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

    def _create(self, rowwise: Mapping[str, np.dtype[Any]]) -> None:
        header = self.header
        os.ftruncate(self._lock, 0)  # what a killed writer left
        self._sink = Sink(self._lock)
        file = h5py.File(
            self._sink,
            "w",
            libver=("earliest", "v110"),
            alignment_threshold=16 * PAGE,
            alignment_interval=PAGE,
            meta_block_size=structure_bytes(header),
        )
        self._file = file
        self._describe(file)
        for name, array in self.arrays.items():
            file.create_dataset(name, data=np.asarray(array, DATASETS[name][0]))
        for name in ("noise", "error"):
            file.create_dataset(name, data=np.zeros(header.features))
        file.create_dataset("digests", data=self.digests)
        if rowwise:
            file.create_dataset("row_digests", data=np.zeros((len(rowwise), header.chunks), np.uint64))
        for name, dtype in rowwise.items():
            self.rowwise[name] = RowArray(file, name, dtype, header)
        for dataset in file.values():
            if dataset.name[1:] not in self.rowwise:
                dataset.attrs["xxh3"] = np.uint64(0)
        self._create_codes(file)
        self._sink.check()
        if header.zstd:
            return
        self._offsets = chunk_table(file["codes"].id, header)[:, 0]
        file.close()
        self._file = None
        self._sink.settle()
        if hasattr(os, "posix_fallocate"):  # a full disk is found now, not at the end of the night
            os.posix_fallocate(self._lock, 0, os.fstat(self._lock).st_size)

    def _describe(self, file: h5py.File) -> None:
        """The root's attributes; digests are not known yet."""
        file.attrs.update({"format": "zipml", "version": np.int64(VERSION), "xxh3": np.uint64(0)})
        for field in fields(Header):
            value = getattr(self.header, field.name)
            file.attrs[field.name] = np.uint64(value) if isinstance(value, int) else value

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

    def write_rows(self, name: str, values: NDArray[Any]) -> None:
        """Append rows of a row array."""
        with disk_errors(self.path):
            self.rowwise[name].append(self._lock, values)

    def finish(self, noise: NDArray[np.float64], error: NDArray[np.float64]) -> None:
        """Add what encoding learnt, check every byte, publish under the final name."""
        for rows in (self._row, *(array.rows for array in self.rowwise.values())):
            if rows != self.header.rows:
                raise OutputError(f"{self.path}: {rows} of {self.header.rows} rows were written")
        with disk_errors(self.path):
            if self._file is None:
                self._sink = Sink(self._lock)
                self._file = h5py.File(self._sink, "r+")
            file = self._file
            learnt = {"noise": noise, "error": error, "digests": self.digests}
            if self.rowwise:
                learnt["row_digests"] = np.stack([array.digests for array in self.rowwise.values()])
            for name, values in learnt.items():
                file[name][...] = values
            self.arrays |= learnt
            digests = {name: digest(np.asarray(array, DATASETS[name][0])) for name, array in self.arrays.items()}
            types = {name: array.dtype for name, array in self.rowwise.items()}
            for name, value in digests.items():
                file[name].attrs.modify("xxh3", np.uint64(value))
            file.attrs.modify("xxh3", np.uint64(header_digest(self.header, digests, types)))
            ranges = own_ranges(file, self.header)
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
