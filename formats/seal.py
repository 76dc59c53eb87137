"""The seal at the end of a file: a digest of everything that HDF5 itself interprets (FORMAT.md, section 4).

HDF5 has no checksums in the structures that `libver="earliest"` files are made of, and its library can crash on a flipped
bit in one of them. So the bytes outside of codes and row arrays, which have their own digests, are checked before it sees them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import numpy as np
import xxhash
from numpy.typing import NDArray

from ..errors import CorruptError

MAGIC = b"zipmlEND"
FOOTER = struct.Struct("<QQQQ8s")  # ranges, bytes before the seal, digest of the skeleton, digest of the seal, magic
STEP = 1 << 20


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


def _skeleton(descriptor: int, size: int, ranges: NDArray[np.int64]) -> int:
    """xxh3-64 of the file's first `size` bytes without those in `ranges`."""
    state = xxhash.xxh3_64()
    for start, end in _gaps(size, ranges):
        for at in range(start, end, STEP):
            state.update(read_at(descriptor, min(STEP, end - at), at))
    return int(state.intdigest())


def _gaps(size: int, ranges: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    at = 0
    for offset, length in ranges.tolist():
        yield at, offset
        at = offset + length
    yield at, size


def write_seal(descriptor: int, ranges: NDArray[np.int64]) -> None:
    """Append the seal. `ranges` (m, 2): offset and size of what has digests of its own, codes and row arrays."""
    size, table = os.fstat(descriptor).st_size, merged(ranges)
    body = table.tobytes() + struct.pack("<QQQ", len(table), size, _skeleton(descriptor, size, table))
    data = memoryview(body + struct.pack("<Q8s", xxhash.xxh3_64_intdigest(body), MAGIC))
    while data:
        written = os.pwrite(descriptor, data, size)
        data, size = data[written:], size + written


def check_seal(descriptor: int) -> bool:
    """Whether the file ends with a seal that fits it; False where there is none.

    Raises
    ------
    CorruptError
        There is a seal, and the file is not what it was when sealed.
    """
    end = os.fstat(descriptor).st_size
    footer = read_at(descriptor, FOOTER.size, max(0, end - FOOTER.size))
    if len(footer) < FOOTER.size or not footer.endswith(MAGIC):
        return False
    count, size, skeleton, own, _ = FOOTER.unpack(footer)
    if size + 16 * count + FOOTER.size != end:
        raise CorruptError("its seal does not fit its size")
    body = read_at(descriptor, 16 * count, size) + footer[:24]
    if xxhash.xxh3_64_intdigest(body) != own:
        raise CorruptError("its seal does not match its digest")
    ranges = np.frombuffer(body, "<i8", 2 * count).reshape(-1, 2)
    if _skeleton(descriptor, size, ranges) != skeleton:
        raise CorruptError("its structure (all but codes, labels and kept columns) does not match its digest")
    return True
