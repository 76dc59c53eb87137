"""Seals of FORMAT.md, section 4, taken off and put on again: how tests change files behind the back of their digests."""

import struct
from contextlib import contextmanager

import h5py
import numpy as np
import xxhash

FOOTER = struct.Struct("<QQQQQ")


def outside(content, ranges):
    """The skeleton: what no range has."""
    ends = [0, *(offset + size for offset, size in ranges)]
    starts = [*(offset for offset, _ in ranges), len(content)]
    return b"".join(content[end:start] for end, start in zip(ends, starts, strict=True))


def seal(content, ranges, copy=b""):
    """The bytes of a file, sealed."""
    sizes = len(ranges), len(content), xxhash.xxh3_64_intdigest(outside(content, ranges))
    body = np.array(ranges, "<i8").tobytes() + FOOTER.pack(*sizes, len(copy), xxhash.xxh3_64_intdigest(copy))
    return content + copy + body + struct.pack("<Q8s", xxhash.xxh3_64_intdigest(body), b"zipmlEND")


def unseal(sealed):
    """The bytes without the seal, its ranges, its copy of the skeleton."""
    count, size, _, copied, _ = FOOTER.unpack_from(sealed, len(sealed) - 56)
    ranges = np.frombuffer(sealed, "<i8", 2 * count, size + copied).reshape(-1, 2).tolist()
    return sealed[:size], ranges, sealed[size : size + copied]


@contextmanager
def edited(path):
    """A file opened by HDF5 for changes, and sealed again, so that it is not the seal that notices."""
    content, ranges, _ = unseal(path.read_bytes())
    path.write_bytes(content)
    with h5py.File(path, "r+") as file:
        yield file
    path.write_bytes(seal(path.read_bytes(), ranges))
