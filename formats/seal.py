"""The seal at the end of a file: a digest of everything that HDF5 itself interprets (FORMAT.md, section 4).

HDF5 has no checksums in the structures that `libver="earliest"` files are made of, and its library can crash on a flipped
bit in one of them. So all bytes but those that have digests of their own, the skeleton, are read into memory and checked, and
HDF5 sees what was checked. A copy of the skeleton in the seal serves repair.
"""

from __future__ import annotations

import io
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
import zstandard
from numpy.typing import NDArray

from ..errors import CorruptError

MAGIC = b"zipmlEND"
#: ranges, bytes before the seal, digest of the skeleton, size and digest of its copy, digest of the seal, magic
FOOTER = struct.Struct("<QQQQQQ8s")
STEP = 1 << 20
COPY_SHARE, COPY_BYTES = 128, 8192  # a copy of the skeleton takes at most a 128th of the ranges' bytes, and 8 KiB
COPY_LEVEL = 6
MOST_SKELETON = 1 << 32


@dataclass(frozen=True)
class Seal:
    """What a seal says: the file's size without it, what has digests of its own, the skeleton's digest, where its copy is."""

    size: int
    ranges: NDArray[np.int64]  # (m, 2): offset and size
    skeleton: int
    copy_size: int
    copy_digest: int

    def gaps(self) -> Iterator[tuple[int, int]]:
        """Start and end of each part of the skeleton."""
        at = 0
        for offset, length in self.ranges.tolist():
            if offset > at:
                yield at, offset
            at = offset + length
        if self.size > at:
            yield at, self.size


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """`size` bytes at `offset`, fewer at the file's end."""
    parts = []
    while size > 0 and (part := os.pread(descriptor, min(size, 1 << 30), offset)):
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return b"".join(parts)


def merged(ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranges (offset, size), sorted, those that touch joined."""
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    ends = ranges[:, 0] + ranges[:, 1]
    starts = np.flatnonzero(np.append(True, ranges[1:, 0] != ends[:-1]))
    lasts = np.append(starts[1:], len(ranges)) - 1
    return np.stack([ranges[starts, 0], ends[lasts] - ranges[starts, 0]], axis=1).astype("<i8")


def read_skeleton(descriptor: int, seal: Seal) -> bytes:
    """The bytes outside of the ranges, as they are in the file."""
    return b"".join(read_at(descriptor, end - start, start) for start, end in seal.gaps())


def write_seal(descriptor: int, ranges: NDArray[np.int64]) -> None:
    """Append the seal. `ranges` (m, 2): offset and size of what has digests of its own."""
    size, table = os.fstat(descriptor).st_size, merged(ranges)
    skeleton = read_skeleton(descriptor, Seal(size, table, 0, 0, 0))
    copy = zstandard.ZstdCompressor(COPY_LEVEL, write_checksum=True).compress(skeleton)
    if len(copy) > COPY_BYTES + int(table[:, 1].sum()) // COPY_SHARE:
        copy = b""
    body = table.tobytes() + struct.pack(
        "<QQQQQ", len(table), size, xxhash.xxh3_64_intdigest(skeleton), len(copy), xxhash.xxh3_64_intdigest(copy)
    )
    data = memoryview(copy + body + struct.pack("<Q8s", xxhash.xxh3_64_intdigest(body), MAGIC))
    while data:
        written = os.pwrite(descriptor, data, size)
        data, size = data[written:], size + written


def read_seal(descriptor: int) -> Seal | None:
    """The seal at the file's end; None where there is none.

    Raises
    ------
    CorruptError
        There is one, and it is not as it was written, or the file has another size.
    """
    end = os.fstat(descriptor).st_size
    footer = read_at(descriptor, FOOTER.size, max(0, end - FOOTER.size))
    if len(footer) < FOOTER.size or not footer.endswith(MAGIC):
        return None
    count, size, skeleton, copy_size, copy_digest, own, _ = FOOTER.unpack(footer)
    if size + copy_size + 16 * count + FOOTER.size != end:
        raise CorruptError("its seal does not fit its size")
    body = read_at(descriptor, 16 * count, size + copy_size) + footer[:40]
    if xxhash.xxh3_64_intdigest(body) != own:
        raise CorruptError("its seal does not match its digest")
    ranges = np.frombuffer(body, "<i8", 2 * count).reshape(-1, 2)
    starts, ends = ranges[:, 0], ranges[:, 0] + ranges[:, 1]
    if (ranges < 0).any() or (ends > size).any() or (starts[1:] < ends[:-1]).any():
        raise CorruptError("its seal has ranges that overlap or leave the file")
    return Seal(size, ranges, skeleton, copy_size, copy_digest)


def read_copy(descriptor: int, seal: Seal) -> bytes | None:
    """The copy of the skeleton, as it was written; None where there is none or it is damaged."""
    stored = read_at(descriptor, seal.copy_size, seal.size)
    if not stored or xxhash.xxh3_64_intdigest(stored) != seal.copy_digest:
        return None
    try:
        skeleton = zstandard.ZstdDecompressor().decompress(stored, max_output_size=MOST_SKELETON)
    except zstandard.ZstdError:
        return None
    return skeleton if xxhash.xxh3_64_intdigest(skeleton) == seal.skeleton else None


def first_damage(descriptor: int, seal: Seal) -> str:
    """Where the skeleton differs from its copy, in words."""
    copy, at = read_copy(descriptor, seal), 0
    for start, end in seal.gaps() if copy is not None else ():
        now = np.frombuffer(read_at(descriptor, end - start, start), np.uint8)
        then = np.frombuffer(copy or b"", np.uint8)[at : at + end - start]
        if len(now) == len(then) and (now != then).any():
            return f", first at byte {start + int(np.argmax(now != then))}"
        at += end - start
    return ""


class Image(io.RawIOBase):
    """A file for HDF5 to read, its skeleton being in memory, checked; `h5py.File` takes it.

    Parameters
    ----------
    descriptor : int
        Of the file that has what is in the seal's ranges.
    seal : Seal
    skeleton : bytes
    """

    def __init__(self, descriptor: int, seal: Seal, skeleton: bytes) -> None:
        self._descriptor, self._size, self._at = descriptor, seal.size, 0
        self._starts: list[int] = []
        self._parts: list[memoryview] = []
        view = memoryview(skeleton)
        for start, end in seal.gaps():
            self._starts.append(start)
            self._parts.append(view[: end - start])
            view = view[end - start :]

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read; what the file no longer has reads as zeros."""
        view = memoryview(buffer).cast("B")
        at, end = self._at, self._at + len(view)
        number = max(0, bisect_right(self._starts, at) - 1)
        part = memoryview(b"")
        if self._starts and at >= self._starts[number]:
            part = self._parts[number][at - self._starts[number] :][: len(view)]
        view[: len(part)] = part  # nearly always all of it
        if len(part) < len(view):
            data = read_at(self._descriptor, len(view), at)
            view[: len(data)] = data
            view[len(data) :] = bytes(len(view) - len(data))
            while number < len(self._starts) and self._starts[number] < end:
                start, whole = self._starts[number], self._parts[number]
                low, high = max(at, start), min(end, start + len(whole))
                if low < high:
                    view[low - at : high - at] = whole[low - start : high - start]
                number += 1
        self._at = end
        return len(view)
