"""Levels of one set of values: variance-optimal, exactly or from a sketch, by merging, or uniform (ZipML, section 3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import check_choice, check_integer, check_number, thread_count
from .errors import DataError
from .exact import exact_levels
from .kernels import columns as kernel
from .merging import levels_among_merged
from .sketch import Segments, add_cells, make_segments, middle_of

MAX_INTERVALS = 255
METHODS = ("auto", "exact", "histogram", "merging", "uniform")
EXACT_VALUES = 1 << 24  # up to which "auto" is exact: beyond, memory is what counts
CELLS = 4096
BOUND_POINTS = 1024  # of the lower bound's dynamic programme, about
CANDIDATES = 512  # of the dynamic programme before its sweeps, where there are fewer than CANDIDATES / 4 levels
WEIGHTED = np.dtype([("count", "<f8"), ("offsets", "<f8"), ("top", "<u4"), ("bottom", "<u4")])  # kernel.CELL with weights
Matrix = NDArray[np.float64]
WIDEST = 120  # octaves of a range that float32 positions hold
MODERATE = 500  # power of two within which squares and their sums neither overflow nor vanish
CHUNK = 1 << 15  # values at a time: what lies between two steps stays in the cache


@dataclass(frozen=True)
class OptimalLevels:
    """Levels of one set of values.

    Attributes
    ----------
    values : ndarray of shape (at most intervals + 1,), float64
        Ascending, without repetition; the first is the minimum, the last the maximum.
    cost : float
        Sum over the values of weight * (u - x)(x - l), l and u the enclosing levels: the variance that rounding adds.
        Of "histogram", an estimate that takes the values of a cell for evenly spread.
    lower_bound : float
        No levels cost less. Equal to `cost` but for rounding errors where the method is "exact"; 0 where it proves nothing.
        Of "histogram" it holds but for the rounding of positions to float32.
    method : str
        How they were found.
    """

    values: NDArray[np.float64]
    cost: float
    lower_bound: float
    method: str


def rounding_cost(x: ArrayLike, levels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Sum of weight * (u - x)(x - l) over values within the ascending levels (ZipML, section 3; levels.md)."""
    values, table = np.asarray(x, np.float64).ravel(), np.asarray(levels, np.float64)
    if len(table) < 2 or values.size == 0:
        return 0.0
    upper = np.clip(np.searchsorted(table, values, side="right"), 1, len(table) - 1)
    with np.errstate(over="ignore", invalid="ignore"):
        above, below = table[upper] - values, values - table[upper - 1]
        terms = np.where((above == 0) | (below == 0), 0, above * below)
    return float(np.sum(terms if weights is None else terms * np.asarray(weights, np.float64).ravel()))


def optimal_levels(
    x: ArrayLike,
    intervals: int,
    weights: ArrayLike | None = None,
    method: str = "auto",
    *,
    cells: int = CELLS,
    gamma: float = 3.0,
    threads: int | None = None,
) -> OptimalLevels:
    """Levels that minimise the variance of stochastic rounding: sum w (u - x)(x - l) (ZipML, section 3).

    Parameters
    ----------
    x : array_like
        Finite real numbers, any shape; taken as float64.
    intervals : int
        1..255; one less than the number of levels.
    weights : array_like, optional
        Positive, of x's size.
    method : {"auto", "exact", "histogram", "merging", "uniform"}
        exact: the optimum, with a proof, at the cost of one or two sorts for few levels. histogram: one scan into cells, no
        sort; a dynamic programme over them and coordinate sweeps. merging: the paper's almost-linear merging, its
        endpoints as candidates of the dynamic programme. uniform: equidistant. auto: exact up to 2**24 values, then histogram.
    cells : int
        Of the histogram.
    gamma : float
        Of the merging: (1 + gamma) * intervals pairs are kept a round.
    threads : int, optional

    Returns
    -------
    OptimalLevels

    Raises
    ------
    DataError
        x is empty, or a value or weight is NaN, infinite, or a weight not positive: the message says where.
    OptionError
        An option out of range.

    Notes
    -----
    Beyond the values themselves, exact takes at most 24 bytes a value, histogram some hundred kilobytes in all.
    """
    intervals = check_integer("intervals", intervals, 1, MAX_INTERVALS)
    check_choice("method", method, METHODS)
    cells = check_integer("cells", cells, 64, 1 << 15)
    gamma, workers = check_number("gamma", gamma, 0, open_low=True), thread_count(threads)
    values, mass, ends = _checked(x, weights)
    if method == "auto":
        method = "exact" if values.size <= EXACT_VALUES else "histogram"
    low, high = ends
    if low == high:
        return OptimalLevels(np.array([low]), 0.0, 0.0, method)
    if method == "exact":
        found, cost, bound, _ = exact_levels(values, mass, intervals)
        return OptimalLevels(found, cost, bound, method)
    if method == "uniform":
        shares = np.arange(intervals + 1) / intervals
        levels = np.unique(np.clip(low * (1 - shares) + high * shares, low, high))
        return OptimalLevels(levels, rounding_cost(values, levels, mass), 0.0, method)
    values, (low, high), power = _moderate(values, ends)
    if method == "merging":
        estimate = OptimalLevels(*levels_among_merged(values, mass, intervals, gamma), 0.0, method)
    else:
        segments = sketched(values, mass, cells, workers, (low, high))
        estimate = _from_segments(segments, intervals, low, high)
    if not power:
        return estimate
    with np.errstate(over="ignore", under="ignore"):
        cost, bound = (float(np.ldexp(number, 2 * power)) for number in (estimate.cost, estimate.lower_bound))
    levels = np.ldexp(estimate.values, power)
    levels[[0, -1]] = ends
    return OptimalLevels(np.unique(levels), cost, bound, method)


def rate_distortion(x: ArrayLike, weights: ArrayLike | None = None, most: int = MAX_INTERVALS) -> NDArray[np.float64]:
    """The least cost with 1, 2, ..., `most` intervals: float64 (most,), not increasing.

    One dynamic programme gives them all: layer s of it ends in the cost of s intervals. Exact where x has at most 4,096
    values; beyond, from a sketch of 4,096 cells, 2,048 places of which may be levels. The exact costs are convex in the number
    of intervals; those of a sketch but for rounding.

    Raises
    ------
    DataError, OptionError
        As `optimal_levels`.
    """
    most = check_integer("most", most, 1, MAX_INTERVALS)
    values, mass, ends = _checked(x, weights)
    values, ends, power = _moderate(values, ends)
    segments = _points(values, mass) if values.size <= CELLS else sketched(values, mass, CELLS, thread_count(None), ends)
    limit = min(segments.weight.shape[1], 2048 if values.size > CELLS else CELLS)
    cost = best(segments, most, 1, most=max(limit, 1), sweeps=0)[2][0]
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(np.minimum.accumulate(cost) * segments.unit[0] ** 2, 2 * power))


def best(
    segments: Segments, intervals: int, threads: int, *, steps: int = 0, most: int | None = None, sweeps: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.uint16], NDArray[np.float64]]:
    """The best levels of each column's segments (kernels/levels.c).

    Parameters
    ----------
    segments : Segments
    intervals, threads : int
    steps : int
        Of the grid that the levels are to be on; 0: anywhere.
    most, sweeps : int, optional
        Candidates of the dynamic programme, and rounds of coordinate descent after it, where levels may be anywhere.

    Returns
    -------
    levels : ndarray of shape (features, intervals + 1), float64
        In the segments' units.
    marks : ndarray, same shape, uint16
        Their places on the grid.
    cost : ndarray of shape (features, intervals), float64
        In squares of the segments' units: the least of 1, 2, ... intervals among the candidates; the last is of `levels`.
    """
    return kernel.best_levels_of(
        *arguments(segments),
        intervals,
        steps,
        max(CANDIDATES, 4 * intervals) if most is None else most,
        4 * intervals + 20 if sweeps is None else sweeps,
        threads,
    )


def arguments(segments: Segments) -> tuple[Matrix, Matrix, Matrix, NDArray[np.float64], NDArray[np.float64]]:
    """Segments as the kernels take them."""
    weight, left, right, low, high = (
        np.ascontiguousarray(part)
        for part in (segments.weight, segments.left, segments.right, segments.low, segments.high)
    )
    return weight, left, right, low, high


def _checked(x: ArrayLike, weights: ArrayLike | None) -> tuple[Matrix, Matrix | None, tuple[float, float]]:
    """Flat float64 values and weights, checked, and the least and greatest value."""
    values = np.asarray(x, np.float64).ravel()
    if values.size == 0:
        raise DataError("x is empty: levels need at least one value")
    mass = None if weights is None else np.asarray(weights, np.float64).ravel()
    if mass is not None and mass.shape != values.shape:
        raise DataError(f"weights must be as many as values: {mass.size} for {values.size}")
    ends = float(values.min()), float(values.max())
    if not np.isfinite(ends).all():
        where = int(np.argmin(np.isfinite(values)))
        raise DataError(f"x[{where}] is {values[where]}: it must be finite")
    if mass is not None and not (np.isfinite(mass) & (mass > 0)).all():
        where = int(np.argmin(np.isfinite(mass) & (mass > 0)))
        raise DataError(f"weights[{where}] is {mass[where]}: it must be positive")
    return values, mass, ends


def _moderate(values: Matrix, ends: tuple[float, float]) -> tuple[Matrix, tuple[float, float], int]:
    """Values and their ends over 2**power: near 1 where float64 would not hold their range and squares, else as they are."""
    power = int(np.frexp(max(-ends[0], ends[1]))[1])
    if abs(power) < MODERATE:
        return values, ends, 0
    return np.ldexp(values, -power), (float(np.ldexp(ends[0], -power)), float(np.ldexp(ends[1], -power))), power


def _points(values: NDArray[np.float64], mass: NDArray[np.float64] | None) -> Segments:
    """Few values as segments of no width."""
    points, inverse = np.unique(values, return_inverse=True)
    weight = np.bincount(inverse.ravel(), mass).astype(np.float64)[None]
    pivot = points[len(points) // 2]
    unit = 2.0 ** np.frexp(max(points[-1] - points[0], np.finfo(float).tiny))[1]
    at = ((points - pivot) / unit)[None]
    return Segments(weight, at, at, 0 * at, at[:, 0], at[:, -1], np.array([pivot]), np.array([unit]))


def sketched(
    values: Matrix, mass: Matrix | None, cells: int, threads: int, ends: tuple[float, float]
) -> Segments:
    """One set of values as a sketch's segments (zipml_codec/sketch.py), from one scan."""
    low, high = ends
    step = max(1, values.size // 1024)
    ranked = np.sort(values[::step])
    pivot, spread = ranked[len(ranked) // 2], 2 * (ranked[3 * len(ranked) // 4] - ranked[len(ranked) // 4])
    if not spread > 0:  # of so many equal values, what the others spread over
        others = values[values != pivot]
        spread = 4 * middle_of(np.sort(np.abs(others[:: max(1, others.size // 1024)] - pivot)))
    exponent = max(int(np.frexp(spread)[1]), int(np.frexp(high - low)[1]) - WIDEST)
    scale = 2.0**-exponent
    one, zero = np.ones(64, np.float32), np.zeros(64, np.float32)

    exact, rounded = np.empty(CHUNK), np.empty(CHUNK, np.float32)

    def relative(part: Matrix) -> NDArray[np.float32]:
        """Good until the next call."""
        moved = np.subtract(part, pivot, out=exact[: len(part)])
        with np.errstate(over="ignore"):
            single: NDArray[np.float32] = np.multiply(moved, scale, out=rounded[: len(part)], casting="same_kind")
        return single

    last = relative(np.array([low, high])).copy()
    keys = kernel.keys(last, zero[:2], one[:2]).astype(np.int64)
    shift = 0
    while (keys[1] >> shift) - (keys[0] >> shift) >= cells:
        shift += 1
    first = int(keys[0] >> shift)
    grid = zero, one, np.full(64, first, np.int32), np.full(64, shift, np.int32), cells
    room = np.zeros((threads, 1, cells), kernel.CELL if mass is None else WEIGHTED)
    shares = None
    if mass is not None:
        cuts = [slice(start, start + CHUNK) for start in range(0, values.size, CHUNK)]
        for cut in cuts:
            _weigh(room[0, 0], relative(values[cut]), mass[cut], shift, first)
        shares = _shares(room[0, 0], ((relative(values[cut]), mass[cut]) for cut in cuts), shift, first)
    for start in range(0, values.size if mass is None else 0, CHUNK):
        part = relative(values[start : start + CHUNK])
        whole = len(part) // 64 * 64
        kernel.sketch(part[:whole].reshape(-1, 64), *grid, room, threads)
        if whole < len(part):
            kernel.sketch(np.ascontiguousarray(part[whole:][None]), *grid, room[:1], 1)
    for copy in room[1:]:
        add_cells(room[0], copy)
    pivots, exponents = np.zeros(1, np.float32), np.zeros(1, np.int64)
    used = slice(int(keys[1] >> shift) - first + 1)
    cut_shares = None if shares is None else (shares[0][:, used], shares[1][:, used])
    found = make_segments(
        room[0][:, used], grid[3][:1], grid[2][:1], pivots, exponents, last[:1], last[1:], cut_shares
    )
    return replace(found, pivot=np.array([pivot]), unit=np.array([2.0**exponent]))


def _weigh(
    cells: NDArray[np.void], part: NDArray[np.float32], mass: NDArray[np.float64], shift: int, first: int
) -> None:
    """What kernel.sketch does, with a weight for each value."""
    cell, place = _places(part, shift, first)
    cells["count"] += np.bincount(cell, mass, len(cells))
    cells["offsets"] += np.bincount(cell, mass * place, len(cells))
    np.maximum.at(cells["top"], cell, place)
    np.maximum.at(cells["bottom"], cell, ~place)


def _places(part: NDArray[np.float32], shift: int, first: int) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Cell of each value, and place in it."""
    keys = kernel.keys(part, np.zeros(len(part), np.float32), np.ones(len(part), np.float32)).astype(np.int64)
    return (keys >> shift) - first, (keys & ((1 << shift) - 1)).astype(np.uint32)


def _shares(
    cells: NDArray[np.void], parts: Iterable[tuple[NDArray[np.float32], Matrix]], shift: int, first: int
) -> tuple[Matrix, Matrix]:
    """Weight at the least and at the greatest place of each cell."""
    shares = np.zeros((2, len(cells)))
    for part, mass in parts:
        cell, place = _places(part, shift, first)
        for share, end in zip(shares, (~cells["bottom"], cells["top"]), strict=True):
            there = place == end[cell]
            share += np.bincount(cell[there], mass[there], len(cells))
    return shares[:1], shares[1:]


def _from_segments(segments: Segments, intervals: int, low: float, high: float) -> OptimalLevels:
    """Levels from a sketch, and a bound: each cell's weight moved to its mean costs less, but for the cells' own variance."""
    levels, _, costs = best(segments, intervals, 1)
    bound = float(lower_bounds(segments, intervals, 1)[0])
    unit, values = segments.unit[0], segments.pivot[0] + levels[0] * segments.unit[0]
    values[[0, -1]] = low, high
    cost = float(costs[0, -1] * unit**2)
    return OptimalLevels(np.unique(np.clip(values, low, high)), cost, min(bound, cost), "histogram")


def lower_bounds(segments: Segments, intervals: int, threads: int) -> NDArray[np.float64]:
    """What no levels of each column undercut, float64 (features,).

    For any levels the cost is sum w (L(a) - a^2), L the chords of the parabola between them: convex, so that a cell's values
    moved to their mean cost no more. Those points' exact optimum, less the cells' own variance, is the bound.
    """
    shape = (len(segments.weight), -1, 3)  # three segments a cell
    weight, middle = segments.weight.reshape(shape), ((segments.left + segments.right) / 2).reshape(shape)
    used = int(np.count_nonzero(weight.any(axis=2), axis=1).max(initial=0))
    if used > BOUND_POINTS and weight.shape[1] % 2 == 0:  # cells in pairs: half the time for a bound that is a little lower
        shape = (len(weight), -1, 6)
        weight, middle = weight.reshape(shape), middle.reshape(shape)
    total = weight.sum(axis=2)
    mean = (weight * middle).sum(axis=2) / np.where(total > 0, total, 1)
    ends = [fold(np.where(weight > 0, middle, none), axis=2) for fold, none in ((np.min, np.inf), (np.max, -np.inf))]
    mean = np.where(total > 0, np.clip(mean, *ends), 0)  # a bit beside an outlier would cost more than all else
    within = np.sum(weight * ((middle - mean[..., None]) ** 2 + segments.variance.reshape(shape)), axis=(1, 2))
    points = replace(segments, weight=total, left=mean, right=mean)
    cost = best(points, intervals, threads, most=total.shape[1], sweeps=0)[2][:, -1]
    return np.asarray(np.maximum(cost * (1 - 1e-9) - within, 0) * segments.unit**2)
