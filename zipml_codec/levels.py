"""Levels: uniform, and variance-optimal by dynamic programming on a grid of the column's range (ZipML, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import check_integer, thread_count
from .codec import interval_count
from .errors import DataError
from .kernels import columns as kernel

MAX_INTERVALS = 255
BYTE_STEPS = 255  # so that a level, and the mean of k samples, is one byte: what integer kernels look up
FINE_STEPS = 1023  # for 7 and 8 bits, and many samples, where the byte grid would be all there is
FINE_BITS, FINE_SAMPLES = 7, 5


def grid_steps(bits: int, samples: int) -> int:
    """Steps M of the grid on which levels are chosen, 0..M from minimum to maximum.

    A multiple of the number of intervals, so that uniform levels are candidates too; up to 6 bits M * samples <= 255.
    """
    intervals = interval_count(bits, samples)
    most = FINE_STEPS if bits >= FINE_BITS or samples >= FINE_SAMPLES else BYTE_STEPS // samples
    return intervals * (most // intervals)


@dataclass(frozen=True)
class OptimalLevels:
    """Levels of one set of values.

    Attributes
    ----------
    values : ndarray of shape (at most intervals + 1,), float64
        Ascending, without repetition; the first is the minimum, the last the maximum.
    cost : float
        Sum over the values of weight * (u - x)(x - l), l and u the enclosing levels: the variance that rounding adds.
    method : str
        How they were found.
    """

    values: NDArray[np.float64]
    cost: float
    method: str


def rounding_cost(x: ArrayLike, levels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Sum of weight * (u - x)(x - l) over values within the ascending levels (ZipML, section 3; levels.md)."""
    values, table = np.asarray(x, np.float64).ravel(), np.asarray(levels, np.float64)
    if len(table) < 2 or values.size == 0:
        return 0.0
    upper = np.clip(np.searchsorted(table, values, side="right"), 1, len(table) - 1)
    terms = (table[upper] - values) * (values - table[upper - 1])
    return float(np.sum(terms if weights is None else terms * np.asarray(weights, np.float64).ravel()))


def optimal_levels(
    x: ArrayLike, intervals: int, weights: ArrayLike | None = None, steps: int | None = None, threads: int | None = None
) -> OptimalLevels:
    """Levels that minimise the variance of stochastic rounding, among equidistant candidates.

    Minimises sum w (u - x)(x - l) over levels on a grid of `steps` steps from min(x) to max(x) (ZipML, section 3.2, the
    discretised problem; theorem 2 bounds the excess over the exact optimum by O(1 / (steps * intervals))).

    Parameters
    ----------
    x : array_like
        Finite real numbers, any shape.
    intervals : int
        1..255; one less than the number of levels.
    weights : array_like, optional
        Positive, of x's size.
    steps : int, optional
        Steps of the grid, default 16 * intervals and at least 1,020, made a multiple of `intervals`.
    threads : int, optional

    Returns
    -------
    OptimalLevels

    Raises
    ------
    DataError
        x is empty, or a value or weight is NaN, infinite, or a weight not positive: the message says where.
    OptionError
        `intervals` or `steps` out of range.

    Notes
    -----
    O(N + s M log M) for N values, s intervals and M steps, 8 bytes a candidate.
    """
    intervals = check_integer("intervals", intervals, 1, MAX_INTERVALS)
    steps = check_integer("steps", max(1020, 16 * intervals) if steps is None else steps, intervals, 65535)
    steps -= steps % intervals
    values = np.asarray(x, np.float64).ravel()
    if values.size == 0:
        raise DataError("x is empty: levels need at least one value")
    mass = np.ones_like(values) if weights is None else np.asarray(weights, np.float64).ravel()
    if mass.shape != values.shape:
        raise DataError(f"weights must be as many as values: {mass.size} for {values.size}")
    for name, array, good in (("x", values, np.isfinite(values)), ("weights", mass, np.isfinite(mass) & (mass > 0))):
        if not good.all():
            where = int(np.argmin(good))
            raise DataError(f"{name}[{where}] is {array[where]}: it must be {'finite' if name == 'x' else 'positive'}")
    low, high = values.min(), values.max()
    step = (high - low) / steps
    if not step > 0:
        return OptimalLevels(np.unique([low, high]), rounding_cost(values, np.unique([low, high]), mass), "grid")
    cells = 4 * steps
    cell = np.minimum(((values - low) / (high - low) * cells).astype(np.int64), cells - 1)
    counts: NDArray[np.float64] = np.bincount(cell, weights=mass, minlength=cells).astype(np.float64)
    marks = optimal_marks(counts[None], np.zeros(1), np.full(1, steps / cells), steps, intervals, threads=threads)[0]
    levels = low + marks / steps * (high - low)
    levels[-1] = high
    levels = np.unique(levels)
    return OptimalLevels(levels, rounding_cost(values, levels, mass), "grid")


def optimal_marks(
    counts: NDArray[np.float64],
    origin: NDArray[np.float64],
    extent: NDArray[np.float64],
    steps: int,
    intervals: int,
    threads: int | None = None,
) -> NDArray[np.uint16]:
    """Optimal levels as grid positions 0..steps, from cell counts.

    Parameters
    ----------
    counts : ndarray of shape (features, cells), float64
        Weight of the values in each cell.
    origin, extent : ndarray of shape (features,), float64
        Where cell 0 starts and how wide a cell is, in grid steps from the minimum. extent 0: a constant column.
    steps, intervals : int

    Returns
    -------
    ndarray of shape (features, intervals + 1), uint16
    """
    return kernel.optimal_marks(
        np.ascontiguousarray(counts),
        np.ascontiguousarray(origin),
        np.ascontiguousarray(extent),
        steps,
        intervals,
        thread_count(threads),
    )[0]


def levels_from_marks(
    marks: NDArray[np.uint16], steps: int, low: NDArray[np.float32], high: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Float32 levels (features, intervals + 1) at grid positions; the ends are exactly low and high."""
    start, span = low.astype(np.float64)[:, None], (high.astype(np.float64) - low)[:, None]
    levels = (start + marks / steps * span).astype(np.float32)
    levels[:, 0], levels[:, -1] = low, high
    return levels
