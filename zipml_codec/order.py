"""The order of rows in an epoch and the split into training and test rows: functions of seed, epoch and row number alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .kernels import philox

WINDOW_BYTES = 32 << 20
TEST_SCALE = 2.0**64


class EpochOrder:
    """Chunks in random order, rows in random order within windows of chunks (FORMAT.md, section 2, order).

    A window holds as many chunks as fit in WINDOW_BYTES, at least 8 where there are as many: sequential reads of whole
    chunks, and rows that come together in an epoch were neighbours in the file only if their chunks met by chance.

    Parameters
    ----------
    rows, chunk_rows : int
    chunk_bytes : int
        Bytes of a chunk.
    seed, epoch : int
    """

    def __init__(self, rows: int, chunk_rows: int, chunk_bytes: int, seed: int, epoch: int) -> None:
        self.rows, self.chunk_rows, self.seed, self.epoch = rows, chunk_rows, seed, epoch
        chunks = -(-rows // chunk_rows)
        self.window = max(8, WINDOW_BYTES // chunk_bytes)
        keys = philox.keys(seed, philox.ORDER, 2 * epoch, 0, chunks)
        self.chunks: NDArray[np.int64] = np.argsort(keys, kind="stable").astype(np.int64)

    def chunk_windows(self) -> Iterator[NDArray[np.int64]]:
        """Chunk numbers of each window."""
        for start in range(0, len(self.chunks), self.window):
            yield self.chunks[start : start + self.window]

    def rows_of(self, chunk: int) -> tuple[int, int]:
        """First row of a chunk, and the row after its last."""
        return chunk * self.chunk_rows, min((chunk + 1) * self.chunk_rows, self.rows)

    def shuffle(self, chunks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row numbers of a window, chunk after chunk, and the order in which to take them."""
        spans = [self.rows_of(int(chunk)) for chunk in chunks]
        numbers = np.concatenate([np.arange(start, end) for start, end in spans])
        keys = [philox.keys(self.seed, philox.ORDER, 2 * self.epoch + 1, start, end - start) for start, end in spans]
        return numbers, np.argsort(np.concatenate(keys), kind="stable").astype(np.int64)

    def windows(self) -> Iterator[NDArray[np.int64]]:
        """Row numbers of each window, in the order of the epoch."""
        for chunks in self.chunk_windows():
            numbers, order = self.shuffle(chunks)
            yield numbers[order]


def held_out(seed: int, fraction: float, first: int, count: int) -> NDArray[np.bool_]:
    """Which of rows first..first+count-1 are held out: each with probability `fraction` (FORMAT.md, section 2, split)."""
    if fraction <= 0:
        return np.zeros(count, bool)
    keys = philox.keys(seed, philox.SPLIT, 0, first, count)
    held: NDArray[np.bool_] = keys < np.uint64(min(int(fraction * TEST_SCALE), 2**64 - 1))
    return held
