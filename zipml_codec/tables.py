"""Tables of levels for all columns, from one scan: on the byte grid of the integer kernels or anywhere, per column or shared.

Integer training looks up level positions of one byte: levels on a grid of at most 255 steps of the column's range. Where the
best such levels cost little more than the best anywhere, they are taken; else the file's levels are anywhere, and training
decodes to float32. Which, and what it costs, is in the file's options.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .codec import Codec, interval_count
from .errors import OptionError
from .hardware import hardware_codec, hardware_intervals, hardware_width
from .kernels import columns as kernel
from .levels import arguments, best
from .sketch import Segments
from .statistics import ColumnStatistics

BYTE_STEPS = 255
SNAP_LIMIT = 1.25  # what levels on the grid may cost, relative to levels anywhere
BULK = 0.25  # variance, in squared units of a column's sketch, that the grid may add: more would drown its bulk
PART = 64  # features whose segments are made at a time
GRIDS = ("auto", "byte", "none")


def grid_steps(bits: int, samples: int) -> int:
    """Steps M of the byte grid, 0..M from minimum to maximum, or 0: with so many codes it would be all but uniform.

    A multiple of the number of intervals, so that uniform levels are candidates too; M * samples <= 255, so that the mean of
    the samples is a byte.
    """
    intervals = interval_count(bits, samples)
    most = BYTE_STEPS // samples
    return intervals * (most // intervals) if bits <= 6 and most >= 2 * intervals else 0


@dataclass(frozen=True)
class LevelTable:
    """Levels of all columns.

    Attributes
    ----------
    levels : ndarray of shape (features, intervals + 1), or (1, intervals + 1) where shared, float32
    variance : ndarray of shape (features or 1,), float64
        Mean over the values of (u - a)(a - l): the variance that rounding to one sample adds, estimated from the sketch.
    steps : int
        Of the grid that the levels are on; 0: none.
    snapping : float
        What levels on the grid cost, relative to levels anywhere, summed over the columns in units of their variance; 1 where
        there is no grid.
    """

    levels: NDArray[np.float32]
    variance: NDArray[np.float64]
    steps: int
    snapping: float


def parts_of(statistics: ColumnStatistics) -> Iterator[tuple[slice, Segments]]:
    """Segments of the columns, some at a time; of all in one where they share their levels."""
    if statistics.shared:
        yield slice(0, 1), statistics.segments()
        return
    for start in range(0, statistics.features, PART):
        part = slice(start, min(start + PART, statistics.features))
        yield part, statistics.segments(part)


def ends_of(statistics: ColumnStatistics) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Least and greatest value of each column, or of all where they share their levels."""
    low, high = statistics.low, statistics.high
    return (low.min(keepdims=True), high.max(keepdims=True)) if statistics.shared else (low, high)


def optimal_table(
    statistics: ColumnStatistics, bits: int, samples: int, threads: int, grid: str = "auto", most: int | None = None
) -> LevelTable:
    """Variance-optimal levels of each column, or of all where the sketch is shared.

    Parameters
    ----------
    statistics : ColumnStatistics
        With a sketch.
    bits, samples, threads : int
    grid : {"auto", "byte", "none"}
        auto: the byte grid where it costs at most a quarter more than levels anywhere, see `LevelTable.snapping`, and
        drowns no column's bulk: where an outlier leaves one step of the grid for all else, the sum of variances hides it.
    most : int, optional
        Steps of that grid; by default those of `grid_steps`.

    Returns
    -------
    LevelTable
    """
    intervals, steps = interval_count(bits, samples), grid_steps(bits, samples) if most is None else most
    steps = 0 if grid == "none" else steps
    low, high = ends_of(statistics)
    free, marks = np.empty((len(low), intervals + 1)), np.zeros((len(low), intervals + 1))
    cost, bulk = np.zeros((2, len(low))), np.ones(len(low))
    for part, segments in parts_of(statistics):
        square = bulk[part] = segments.unit**2
        found = best(segments, intervals, threads)
        free[part] = segments.pivot[:, None] + found[0] * segments.unit[:, None]
        cost[0, part] = found[2][:, -1] * square
        if steps:
            on_grid = best(segments, intervals, threads, steps=steps)
            marks[part], cost[1, part] = on_grid[1], on_grid[2][:, -1] * square
    unit = np.ones(1) if statistics.shared else np.where(statistics.std > 0, statistics.std, np.inf) ** 2
    free_noise, grid_noise = (float(np.sum(part / unit)) for part in cost)
    snapping = max(grid_noise / free_noise, 1.0) if steps and free_noise > 0 else 1.0
    rows = statistics.rows * (statistics.features if statistics.shared else 1)
    drowned = (cost[1] > BULK * bulk * rows) & (cost[1] > 2 * cost[0])
    fits = snapping <= SNAP_LIMIT and not drowned.any()
    if steps and (fits or grid == "byte"):
        return LevelTable(_on_grid(marks, steps, low, high), cost[1] / rows, steps, snapping)
    return LevelTable(_anywhere(free, low, high), cost[0] / rows, 0, snapping)


def _on_grid(
    marks: NDArray[np.float64], steps: int, low: NDArray[np.float32], high: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Float32 levels at grid positions; the ends are exactly low and high."""
    start, span = low.astype(np.float64)[:, None], (high.astype(np.float64) - low)[:, None]
    return _anywhere(start + marks / steps * span, low, high)


def _anywhere(
    levels: NDArray[np.float64], low: NDArray[np.float32], high: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Float32 levels, ascending within the ends, which are exactly low and high."""
    out = np.clip(levels, low[:, None], high[:, None]).astype(np.float32)
    out[:, 0], out[:, -1] = low, high
    return np.maximum.accumulate(out, axis=1)


def variance_of(statistics: ColumnStatistics, levels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean of (u - a)(a - l) over each column's values for given levels (features or 1, count): float64, from the sketch."""
    out = np.empty(len(levels))
    for part, segments in parts_of(statistics):
        table = (levels[part].astype(np.float64) - segments.pivot[:, None]) / segments.unit[:, None]
        table[:, 0], table[:, -1] = segments.low, segments.high
        out[part] = kernel.cost_of_levels(*arguments(segments), np.ascontiguousarray(table)) * segments.unit**2
    return out / (statistics.rows * (statistics.features if statistics.shared else 1))


def uniform_levels(low: NDArray[np.float32], high: NDArray[np.float32], intervals: int) -> NDArray[np.float32]:
    """Equidistant levels (features, intervals + 1)."""
    span = (high.astype(np.float64) - low)[:, None]
    return _anywhere(low[:, None] + span * (np.arange(intervals + 1) / intervals), low, high)


def make_codec(
    statistics: ColumnStatistics,
    levels: str,
    bits: int,
    samples: int,
    rounding: str,
    threads: int,
    grid: str = "auto",
) -> tuple[Codec, LevelTable | None]:
    """A codec of "uniform", "optimal" or "harp:Q" levels, and of the optimal what their choice found.

    Raises
    ------
    LevelError
        A column's range is too narrow or too wide for float32 levels.
    """
    features = statistics.features
    width = hardware_width(levels)
    if width is not None:
        intervals = hardware_intervals(width, samples)
        return hardware_codec(*ends_of(statistics), intervals, samples, rounding, features), None
    if levels == "uniform":
        return Codec.uniform(*ends_of(statistics), bits, samples, rounding, features), None
    table = optimal_table(statistics, bits, samples, threads, grid)
    return Codec(table.levels, bits, samples, rounding, features), table


def relative_error(
    statistics: ColumnStatistics, levels: str, bits: int, samples: int, threads: int, grid: str = "auto"
) -> NDArray[np.float64]:
    """Variance that rounding adds to a code's mean, over the column's: float64 (columns that vary,), from the sketch."""
    if levels == "uniform":
        table = uniform_levels(*ends_of(statistics), interval_count(bits, samples))
        variance = variance_of(statistics, table)
    else:
        variance = optimal_table(statistics, bits, samples, threads, grid).variance
    std = statistics.std
    return np.asarray(np.broadcast_to(variance, std.shape)[std > 0] / std[std > 0] ** 2 / samples)


def choose_bits(
    statistics: ColumnStatistics, levels: str, samples: int, target: float, threads: int, grid: str = "auto"
) -> tuple[int, float]:
    """The smallest width whose relative error, in the mean of the columns that vary, is at most `target`, and that error.

    Raises
    ------
    OptionError
        Not even 8 bits reach it: the message says what they do reach.
    """
    error = np.inf
    for bits in range(1, 9):
        if 2**bits - 1 < samples:
            continue
        found = relative_error(statistics, levels, bits, samples, threads, grid)
        error = float(found.mean()) if len(found) else 0.0
        if error <= target:
            return bits, error
    raise OptionError(
        f"8 bits have a relative error of {error:.3g}, more than target_error={target:g}: allow more, or take fewer samples"
    )
