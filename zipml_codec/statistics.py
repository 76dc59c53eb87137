"""What one streamed pass learns of each column: range, moments, a histogram to choose levels from, some exact rows.

Everything here is a function of the rows in their order, not of how they were cut into blocks: the same data give the
same levels, and so the same file, for any block size and number of threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .kernels import columns as kernel
from .kernels import philox
from .levels import grid_steps, levels_from_marks, optimal_marks

MOST_CELLS, FEWEST_CELLS = 2048, 256
CELL_BYTES = 256 << 20  # all features' cells together, as far as FEWEST_CELLS allows
CELL_PADDING = 16  # counts between features: the same cell of neighbours must not share a cache set
SAMPLE_ROWS, SAMPLE_BYTES = 1024, 64 << 20
COUNT_LIMIT = 2**32 - 1
LEVEL_FEATURES = 512  # features whose counts are widened to float64 at a time


class Histogram:
    """Counts of each column's values in cells of a width 2**e, aligned to multiples of it.

    e is the smallest that covers the column's range with `cells` cells. As the range grows, cells merge in pairs: no
    count is ever guessed, and the outcome depends on the range alone, so histograms of parts add up to that of the whole.
    """

    def __init__(self, features: int) -> None:
        room = CELL_BYTES // (4 * features)
        self.cells = int(min(MOST_CELLS, max(FEWEST_CELLS, 1 << max(room.bit_length() - 1, 0))))
        self._room = np.zeros((features, self.cells + CELL_PADDING), np.uint32)
        self.counts = self._room[:, : self.cells]
        self.exponent = np.zeros(features, np.int64)
        self.first = np.zeros(features, np.int64)  # cell 0 starts at first * 2**exponent
        self.spread = np.zeros(features, bool)  # False while all values so far are equal: nothing is counted yet
        self.rows = 0
        self._large: NDArray[np.float64] | None = None  # what has left `counts` before 32 bits overflow
        self._since = 0  # rows in `counts`

    def cover(self, low: NDArray[np.float32], high: NDArray[np.float32], before: NDArray[np.float32]) -> None:
        """Widen the cells to low..high. `before`: each column's only value so far, where it has had but one."""
        features = np.flatnonzero(high > low)
        if not len(features):
            return
        exponent, first = cells_of(low[features], high[features], self.cells)
        changed = ~self.spread[features] | (exponent != self.exponent[features]) | (first != self.first[features])
        if self.rows and not self.spread[features].all():
            self._flush()
        for feature, e, start in zip(features[changed], exponent[changed], first[changed], strict=True):
            if self.spread[feature]:
                target = self._targets(feature, int(e), int(start))
                for counts in (self.counts, self._large):
                    if counts is not None:
                        counts[feature] = regroup(counts[feature], target)
            elif self._large is not None:
                cell = int(np.floor(np.ldexp(float(before[feature]), -int(e)))) - int(start)
                self._large[feature, cell] = self.rows
            self.exponent[feature], self.first[feature], self.spread[feature] = e, start, True

    def _targets(self, feature: int, exponent: int, first: int) -> NDArray[np.int64]:
        """The cell of a grid (exponent, first) that each of a feature's cells lies in."""
        own = np.arange(self.cells, dtype=np.int64) + self.first[feature]
        target: NDArray[np.int64] = (own >> (exponent - int(self.exponent[feature]))) - first
        return target

    def _flush(self) -> None:
        """Move the 32-bit counts to float64, which counts exactly to 2**53."""
        if self._large is None:
            self._large = np.zeros(self.counts.shape)
        self._large += self.counts
        self.counts[:] = 0
        self._since = 0

    def add(self, x: NDArray[np.float32], threads: int) -> None:
        """Count rows, whose range `cover` has seen."""
        if self._since + len(x) > COUNT_LIMIT:
            self._flush()
        scale = np.where(self.spread, np.ldexp(1.0, np.clip(-self.exponent, -149, 127)), 0).astype(np.float32)
        base = np.ldexp(self.first.astype(np.float64), self.exponent).astype(np.float32)
        narrow = x.shape[1] <= 64 * threads and len(x) >= 4096
        counts = np.zeros((threads, *self._room.shape), np.uint32) if narrow else self._room[None]
        kernel.count(x, base, scale, self.cells, counts, threads)
        if narrow:
            self._room += counts.sum(axis=0, dtype=np.uint32)
        self.counts[~self.spread] = 0
        self.rows += len(x)
        self._since += len(x)

    def weights(self, features: slice) -> NDArray[np.float64]:
        """Counts of some features, float64 (features, cells)."""
        counts = self.counts[features].astype(np.float64)
        return counts if self._large is None else counts + self._large[features]

    def shared(self, low: NDArray[np.float32], high: NDArray[np.float32]) -> tuple[NDArray[np.float64], int, int]:
        """All columns' values on one grid: counts (cells,), exponent and first cell. low, high: each column's range."""
        exponent, first = (
            int(part[0]) for part in cells_of(low.min(keepdims=True), high.max(keepdims=True), self.cells)
        )
        total = np.zeros(self.cells)
        for feature in range(len(low)):
            if self.spread[feature]:
                weights = self.weights(slice(feature, feature + 1))[0]
                total += regroup(weights, self._targets(feature, exponent, first))
            else:
                total[int(np.floor(np.ldexp(float(low[feature]), -exponent))) - first] += self.rows
        return total, exponent, first


def cells_of(
    low: NDArray[np.float32], high: NDArray[np.float32], cells: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Exponent e and first cell floor(low / 2**e) of the finest aligned grid whose `cells` cells cover low..high, low < high."""
    bottom, top = low.astype(np.float64), high.astype(np.float64)
    exponent = np.maximum(np.frexp((top - bottom) / cells)[1].astype(np.int64) - 2, -149)
    while True:
        first, last = np.floor(np.ldexp(bottom, -exponent)), np.floor(np.ldexp(top, -exponent))
        narrow = last - first >= cells
        if not narrow.any():
            return exponent, first.astype(np.int64)
        exponent += narrow


def regroup(counts: NDArray[np.generic], target: NDArray[np.int64]) -> NDArray[np.float64]:
    """Counts moved to cells `target`; the cells that leave the grid are empty ones."""
    kept = (target >= 0) & (target < len(counts))
    return np.bincount(target[kept], weights=counts[kept], minlength=len(counts)).astype(np.float64)


class RowSample:
    """A uniform sample of rows in their exact form, chosen by each row's number alone: the smallest random keys stay."""

    def __init__(self, features: int, seed: int) -> None:
        self.most = max(1, min(SAMPLE_ROWS, SAMPLE_BYTES // (4 * features)))
        self.seed = seed
        self.keys = np.empty(0, np.uint64)
        self.numbers = np.empty(0, np.int64)
        self.rows = np.empty((0, features), np.float32)

    def add(self, x: NDArray[np.float32], first_row: int) -> None:
        """Offer rows first_row, first_row + 1, ..."""
        keys = philox.keys(self.seed, philox.SAMPLE, 0, first_row, len(x))
        full = len(self.keys) == self.most
        new = np.flatnonzero(keys < self.keys[-1]) if full else np.argsort(keys, kind="stable")[: self.most]
        if not len(new):
            return
        keys = np.concatenate([self.keys, keys[new]])
        best = np.argsort(keys, kind="stable")[: self.most]
        self.keys = keys[best]
        self.numbers = np.concatenate([self.numbers, first_row + new])[best]
        self.rows = np.concatenate([self.rows, x[new]])[best]

    def take(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """`count` of the rows, as many as there are: their numbers, ascending, and values."""
        order = np.argsort(self.numbers[:count])
        return self.numbers[:count][order], self.rows[:count][order]


class ColumnStatistics:
    """Statistics of a stream of rows, float32 (rows, features), offered block by block in order.

    Attributes
    ----------
    rows : int
    low, high : ndarray of shape (features,), float32
    """

    def __init__(self, features: int, seed: int = 0, histogram: bool = True) -> None:
        self.features, self.rows = features, 0
        self.low, self.high = np.empty(features, np.float32), np.empty(features, np.float32)
        self._shift: NDArray[np.float32] | None = None
        self._sum, self._square = np.zeros(features), np.zeros(features)
        self.histogram = Histogram(features) if histogram else None
        self.sample = RowSample(features, seed)

    def add(self, x: NDArray[np.float32], threads: int) -> bool:
        """Learn from rows; whole multiples of 64 but for the last block. False where a value is not finite: nothing learnt."""
        if not len(x):
            return True
        if self._shift is None:
            if not np.isfinite(x[0]).all():
                return False
            self._shift = x[0].copy()
            self.low[:], self.high[:] = x[0], x[0]
        before = self.low.copy()
        if kernel.scan(x, self._shift, self.low, self.high, self._sum, self._square, threads):
            return False
        for bound in (self.low, self.high):
            bound += 0.0  # no -0.0: which of two equal zeros comes out would depend on the threads
        if self.histogram is not None:
            self.histogram.cover(self.low, self.high, before)
            self.histogram.add(x, threads)
        self.sample.add(x, self.rows)
        self.rows += len(x)
        return True

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of each column."""
        shift = np.zeros(self.features) if self._shift is None else self._shift.astype(np.float64)
        return shift + self._sum / max(self.rows, 1)

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of each column (divisor: rows); exactly 0 for a constant one."""
        variance = self._square / max(self.rows, 1) - (self._sum / max(self.rows, 1)) ** 2
        spread: NDArray[np.float64] = np.where(self.high > self.low, np.sqrt(np.maximum(variance, 0)), 0.0)
        return spread

    def optimal_levels(
        self, bits: int, samples: int, intervals: int, shared: bool, threads: int
    ) -> NDArray[np.float32]:
        """Variance-optimal levels on the grid of `bits` and `samples`: float32 (features or 1, intervals + 1)."""
        if self.histogram is None:
            raise DataError("statistics were taken without a histogram: optimal levels need one")
        steps, histogram = grid_steps(bits, samples), self.histogram
        if shared:
            low, high = self.low.min(keepdims=True), self.high.max(keepdims=True)
            if not high > low:
                return np.repeat(low[:, None], intervals + 1, axis=1)
            counts, exponent, first = histogram.shared(self.low, self.high)
            origin, extent = _grid_units(np.array([first]), np.array([exponent]), low, high, steps)
            marks = optimal_marks(counts[None], origin, extent, steps, intervals, threads)
            return levels_from_marks(marks, steps, low, high)
        origin, extent = _grid_units(histogram.first, histogram.exponent, self.low, self.high, steps)
        levels = np.empty((self.features, intervals + 1), np.float32)
        for start in range(0, self.features, LEVEL_FEATURES):
            part = slice(start, min(start + LEVEL_FEATURES, self.features))
            marks = optimal_marks(histogram.weights(part), origin[part], extent[part], steps, intervals, threads)
            levels[part] = levels_from_marks(marks, steps, self.low[part], self.high[part])
        return levels


def _grid_units(
    first: NDArray[np.int64],
    exponent: NDArray[np.int64],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    steps: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Start of cell 0 and width of a cell in grid steps from the minimum; width 0 for constant columns."""
    span = high.astype(np.float64) - low
    unit = np.where(span > 0, steps / np.where(span > 0, span, 1), 0)
    start = np.ldexp(first.astype(np.float64), exponent) - low
    origin: NDArray[np.float64] = np.asarray(start * unit, np.float64)
    extent: NDArray[np.float64] = np.asarray(np.ldexp(1.0, exponent) * unit, np.float64)
    return origin, extent
