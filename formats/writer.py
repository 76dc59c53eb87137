"""Writing a zipml file (FORMAT.md, section 4).

All that is known beforehand goes into the partial file in one HDF5 session, the codes follow by `pwrite` into pre-allocated
chunks, what encoding learnt is added in a second session; then every byte is read back and checked. Compressed chunks are
appended by HDF5, which puts the same ones in the same order into the same places: who goes on reads them and appends them again.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import h5py
import numpy as np
import xxhash
import zstandard
from numpy.typing import NDArray

from ..errors import OutputError
from ..kernels import checksums, weave
from .container import (
    DATASETS,
    VERSION,
    ZSTD_FILTER,
    ContainerReader,
    chunk_table,
    digest,
    header_digest,
    own_ranges,
    raw,
)
from .header import ALIGNED, PAGE, Header
from .output import disk_errors, write_at
from .partial import Partial
from .planes import plane_noise, woven
from .seal import read_at, write_seal
from .sink import Sink

ROOM = "room"  # a group that is there for a while
STEP = 8 << 20  # bytes of a row array that are read together
INDEXED, INDEX_BYTES = 64, 160  # chunks that HDF5 indexes without further room, and more than it takes of each beyond


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
        self._take(data)

    def skip(self, descriptor: int, rows: int) -> None:
        """Take the next rows as they are in the file."""
        step = max(1, STEP // self.dtype.itemsize)
        for first in range(self.rows, rows, step):
            size = (min(first + step, rows) - first) * self.dtype.itemsize
            self._take(memoryview(read_at(descriptor, size, self.offset + first * self.dtype.itemsize)))

    def _take(self, data: memoryview) -> None:
        """Digest rows, chunk by chunk."""
        while data:
            count = min(len(data) // self.dtype.itemsize, self._header.chunk_rows - self.rows % self._header.chunk_rows)
            self._digest.update(data[: count * self.dtype.itemsize])
            data, self.rows = data[count * self.dtype.itemsize :], self.rows + count
            if self.rows % self._header.chunk_rows == 0 or self.rows == self._header.rows:
                self.digests[(self.rows - 1) // self._header.chunk_rows] = self._digest.intdigest()
                self._digest.reset()


class ContainerWriter:
    """Writes one file: codes and row arrays in order, then `finish`. Use in a ``with`` block.

    Parameters
    ----------
    partial : Partial
        Where to; it is not published.
    header : Header
    arrays : dict
        The datasets known beforehand, by the names of DATASETS.
    rowwise : mapping of str to dtype
        The row arrays, "labels", "exact" and "kept_0", "kept_1", ..., and the type of a row of each.
    threads : int
        That compress chunks.
    saved : dict, optional
        What `state` gave: the rows that it vouches for are in the file.

    Raises
    ------
    OutputError
        The disk is full, or the file does not hold what `saved` says.
    """

    def __init__(
        self,
        partial: Partial,
        header: Header,
        arrays: dict[str, NDArray[Any]],
        rowwise: Mapping[str, np.dtype[Any]],
        threads: int = 1,
        saved: dict[str, NDArray[Any]] | None = None,
    ) -> None:
        self.path, self.place, self._descriptor = partial.path, partial.place, partial.descriptor
        self.header, self.arrays = header, dict(arrays)
        self.digests = np.zeros((header.chunks, header.bits) if header.woven else header.chunks, np.uint64)
        self.counts = np.zeros((header.features, 2**header.bits) if header.woven else 0, np.uint64)  # of codes, of planes
        self.row = 0
        self.rowwise: dict[str, RowArray] = {}
        self._chunk = np.zeros((header.chunk_rows, header.stride), np.uint8)
        self._file: h5py.File | None = None
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "zipml-zstd") if header.zstd else None
        self._frames: deque[Future[bytes]] = deque()  # compressed chunks that are not in the file yet
        self._stored = 0  # chunks that are
        try:
            with disk_errors(self.path):
                self._create(rowwise)
                if saved is not None:
                    self._go_on(saved)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ContainerWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the partial file as it is."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._file is not None:
            with suppress(Exception):  # closing flushes, which fails again on a full disk
                self._file.close()
            self._file = None

    def _create(self, rowwise: Mapping[str, np.dtype[Any]]) -> None:
        header = self.header
        self._sink = Sink(self._descriptor, 0)
        file = h5py.File(
            self._sink,
            "w",
            libver=("earliest", "v110"),
            alignment_threshold=ALIGNED,
            alignment_interval=PAGE,
        )
        self._file = file
        self._describe(file)
        codes = self._create_codes(file)
        if header.chunks > INDEXED and not header.zstd:
            file.create_group(ROOM)["x" * (INDEX_BYTES * header.chunks)] = h5py.SoftLink("/")
        for name, array in sorted(self.arrays.items(), key=lambda item: list(DATASETS).index(item[0])):
            file.create_dataset(name, data=np.asarray(array, DATASETS[name][0]))
        for name in ("noise", "error"):
            file.create_dataset(name, data=np.zeros(header.features))
        if header.woven:
            file.create_dataset("plane_noise", data=np.zeros((header.bits - header.coarsest, header.features)))
        file.create_dataset("digests", data=self.digests)
        if rowwise:
            file.create_dataset("row_digests", data=np.zeros((len(rowwise), header.chunks), np.uint64))
        for name, dtype in rowwise.items():
            self.rowwise[name] = RowArray(file, name, dtype, header)
        for dataset in file.values():
            if dataset.name[1:] not in ("codes", *self.rowwise):
                dataset.attrs["xxh3"] = np.uint64(0)
        if ROOM in file:  # where it was, HDF5 puts the index, which else lies between chunks: they could not be mapped then
            del file[ROOM]
        codes.set_extent(header.shape)
        self._sink.check()
        if header.zstd:
            return
        self._offsets = chunk_table(file["codes"].id, header)[:, 0]
        file.close()
        self._file = None
        self._sink.settle()
        if hasattr(os, "posix_fallocate"):  # a full disk is found now, not at the end of the night
            os.posix_fallocate(self._descriptor, 0, os.fstat(self._descriptor).st_size)

    def _describe(self, file: h5py.File) -> None:
        """The root's attributes; digests are not known yet."""
        file.attrs.update({"format": "zipml", "version": np.int64(VERSION), "xxh3": np.uint64(0)})
        for name, value in self.header.about().items():
            file.attrs[name] = np.uint64(value) if isinstance(value, int) else value

    def _create_codes(self, file: h5py.File) -> h5py.h5d.DatasetID:
        header = self.header
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk(header.chunk_shape)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        plist.set_obj_track_times(False)  # the same data give the same bytes at any time
        if header.zstd:
            plist.set_filter(ZSTD_FILTER, h5py.h5z.FLAG_OPTIONAL, (header.zstd,))
            plist.set_fletcher32()
        else:
            plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        none = (*header.shape[:-2], 0, header.shape[-1])
        space = h5py.h5s.create_simple(none, header.shape)
        return h5py.h5d.create(file.id, b"codes", h5py.h5t.STD_U8LE, space, dcpl=plist)

    def state(self) -> dict[str, NDArray[Any]]:
        """Where writing stands, as arrays; all that this vouches for is on the disk."""
        with disk_errors(self.path):
            self._store_frames(0)
            tail = self._chunk[: self.row % self.header.chunk_rows]
            found = {"row": np.array(self.row), "digests": self.digests, "counts": self.counts, "tail": tail}
            if self.header.zstd:
                found["places"] = self._places()
            getattr(os, "fdatasync", os.fsync)(self._descriptor)
        return found

    def _places(self) -> NDArray[np.int64]:
        """Offset and size of the compressed chunks so far."""
        if self._file is not None:
            self._table = chunk_table(self._file["codes"].id, self.header)[: self._stored, :2]
        return self._table

    def _go_on(self, saved: dict[str, NDArray[Any]]) -> None:
        self.row, self.digests, self.counts = int(saved["row"]), saved["digests"], saved["counts"]
        self._chunk[: len(saved["tail"])] = saved["tail"]
        for array in self.rowwise.values():
            array.skip(self._descriptor, self.row)
        if self._file is not None:
            for offset, size in saved["places"].tolist():
                frame = read_at(self._descriptor, size, offset)
                if len(frame) == size:
                    self._store(frame)
            if not np.array_equal(self._places(), saved["places"]):
                raise OutputError(f"{self.place} is not what its journal says; it is removed: begin again")

    def write_codes(self, packed: NDArray[np.uint8]) -> None:
        """Append packed rows (m, stride)."""
        header, done = self.header, 0
        while done < len(packed):
            at = self.row % header.chunk_rows
            count = min(len(packed) - done, header.chunk_rows - at)
            self._chunk[at : at + count] = packed[done : done + count]
            done += count
            self.row += count
            if at + count == header.chunk_rows or self.row == header.rows:
                self._chunk[at + count :] = 0
                with disk_errors(self.path):
                    self._write_chunk((self.row - 1) // header.chunk_rows)

    def _write_chunk(self, number: int) -> None:
        if self.header.woven:
            first = number * self.header.chunk_rows
            rows = min(self.header.chunk_rows, self.header.rows - first)
            weave.count(self._chunk[:rows], self.header.features, self.header.bits, self.counts, self._threads)
            planes = woven(self.header, self._chunk, rows, first, self._threads)
            self.digests[number] = [digest(plane) for plane in planes]
            write_at(self._descriptor, raw(planes), int(self._offsets[number]))
            return
        self.digests[number] = digest(self._chunk)
        if self._pool is None:
            write_at(self._descriptor, raw(self._chunk), int(self._offsets[number]))
        else:
            self._frames.append(self._pool.submit(compressed, self._chunk.copy(), self.header.zstd))
            self._store_frames(self._threads)

    def _store_frames(self, most: int) -> None:
        """Write compressed chunks, in their order, until at most so many wait."""
        while len(self._frames) > most:
            self._store(self._frames.popleft().result())

    def _store(self, frame: bytes) -> None:
        assert self._file is not None
        self._file["codes"].id.write_direct_chunk((self._stored * self.header.chunk_rows, 0), frame)
        self._sink.check()
        self._stored += 1

    def write_rows(self, name: str, values: NDArray[Any]) -> None:
        """Append rows of a row array."""
        with disk_errors(self.path):
            self.rowwise[name].append(self._descriptor, values)

    def finish(
        self,
        noise: NDArray[np.float64],
        error: NDArray[np.float64],
        advance: Callable[[int], None] | None = None,
        **others: NDArray[Any],
    ) -> None:
        """Add what encoding learnt, check every byte, and have it on the disk; `advance` is called with the rows that were.

        `others` take the place of some of `arrays`.
        """
        for rows in (self.row, *(array.rows for array in self.rowwise.values())):
            if rows != self.header.rows:
                raise OutputError(f"{self.path}: {rows} of {self.header.rows} rows were written")
        with disk_errors(self.path):
            self._store_frames(0)
            if self._file is None:
                self._sink = Sink(self._descriptor)
                self._file = h5py.File(self._sink, "r+")
            file = self._file
            learnt = {"noise": noise, "error": error, "digests": self.digests, **others}
            if self.header.woven:
                learnt["plane_noise"] = plane_noise(self.header, self.arrays["levels"], noise, self.counts)
            if self.rowwise:
                learnt["row_digests"] = np.stack([array.digests for array in self.rowwise.values()])
            for name, values in learnt.items():
                file[name][...] = values
            self.arrays |= learnt
            digests = {name: digest(np.asarray(array, DATASETS[name][0])) for name, array in self.arrays.items()}
            types = {name: array.dtype for name, array in self.rowwise.items()}
            for name, value in digests.items():
                file[name].attrs.modify("xxh3", np.uint64(value))
            self.digest = header_digest(self.header, digests, types)
            file.attrs.modify("xxh3", np.uint64(self.digest))
            self._places()
            ranges = own_ranges(file, self.header)
            file.close()
            self._file = None
            self._sink.settle()
            write_seal(self._descriptor, ranges)
        with ContainerReader(self.place, locking=False) as reader:
            reader.verify(advance)
        with disk_errors(self.path):
            os.fsync(self._descriptor)


def compressed(chunk: NDArray[np.uint8], level: int) -> bytes:
    """What a compressed chunk is stored as: one zstd frame, and HDF5's fletcher32 checksum of it."""
    stored = zstandard.ZstdCompressor(level=level, write_checksum=True).compress(raw(chunk))
    return stored + checksums.fletcher32(stored).to_bytes(4, "little")
