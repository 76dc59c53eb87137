"""The order of rows in an epoch and the split into training and test rows: functions of seed, epoch and row number alone.

Rows that are sorted by value are the worst case. Of 1e6 such rows, 512 bytes each, means of batches of 256 and 1024 vary 2.9
and 8.8 times as much (in variance) as those of independent samples; where chunks are read whole 32 and 125 times.
tests/test_order.py derives and measures these numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .kernels import order as kernel
from .kernels import philox

WINDOW_BYTES = 8 << 20  # shuffled together: random rows of it still come from the caches
UNIT_BYTES = 64 << 10  # of a unit, where any rows can be had
FEWEST_UNITS = 8
TEST_SCALE = 2.0**64


def unit_rows(row_bytes: int) -> int:
    """Rows of a unit where any rows can be had."""
    return max(1, UNIT_BYTES // row_bytes)


class EpochOrder:
    """Units of neighbouring rows in random order, rows in random order within windows of units (FORMAT.md, section 5, order).

    A window holds as many units as fit in WINDOW_BYTES, at least FEWEST_UNITS where there are as many: sequential reads of
    whole units, and rows that come together in an epoch were neighbours in the file only if their units met by chance.

    Parameters
    ----------
    rows, unit : int
        All rows, and those of a unit: a chunk where chunks are read whole, else `unit_rows`.
    row_bytes : int
    seed, epoch : int
    """

    def __init__(self, rows: int, unit: int, row_bytes: int, seed: int, epoch: int) -> None:
        self.rows, self.unit, self.seed, self.epoch = rows, unit, seed, epoch
        units = -(-rows // unit)
        self.window = max(FEWEST_UNITS, WINDOW_BYTES // (unit * row_bytes))
        keys = philox.keys(seed, philox.ORDER, 2 * epoch, 0, units)
        self.units: NDArray[np.int64] = np.argsort(keys, kind="stable").astype(np.int64)

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return -(-len(self.units) // self.window)

    def units_of(self, first: int, last: int) -> NDArray[np.int64]:
        """Units of windows first..last-1."""
        return self.units[first * self.window : last * self.window]

    def rows_of(self, first: int, last: int, threads: int = 1) -> NDArray[np.uint64]:
        """Row numbers of windows first..last-1, in the order of the epoch."""
        units = self.units_of(first, last)
        return kernel.windows(units, self.unit, self.window, self.rows, self.seed, 2 * self.epoch + 1, first, threads)

    def shuffle(self, values: NDArray[np.uint64], window: int) -> NDArray[np.uint64]:
        """What stands for the rows of a window, unit after unit, put into the window's random order in place."""
        kernel.shuffle(values, self.seed, 2 * self.epoch + 1, window)
        return values

    def shuffled(self) -> Iterator[NDArray[np.int64]]:
        """Row numbers of each window, in the order of the epoch."""
        for window in range(self.windows):
            yield self.rows_of(window, window + 1).astype(np.int64)


def epoch_rows(rows: int, row_bytes: int, seed: int = 0, epoch: int = 0) -> NDArray[np.uintp]:
    """All rows in the order of an epoch, where any rows can be had."""
    order = EpochOrder(rows, unit_rows(row_bytes), row_bytes, seed, epoch)
    return order.rows_of(0, order.windows).astype(np.uintp, copy=False)


def held_out(seed: int, fraction: float, first: int, count: int) -> NDArray[np.bool_]:
    """Which of rows first..first+count-1 are held out: each with probability `fraction` (FORMAT.md, section 2, split)."""
    if fraction <= 0:
        return np.zeros(count, bool)
    keys = philox.keys(seed, philox.SPLIT, 0, first, count)
    held: NDArray[np.bool_] = keys < np.uint64(min(int(fraction * TEST_SCALE), 2**64 - 1))
    return held
