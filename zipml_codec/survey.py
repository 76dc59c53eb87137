"""Levels of every column of a source, from one scan: for programs to use, and for people to choose a width by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import as_rows, check_choice, check_integer, thread_count
from .codec import interval_count
from .errors import DataError
from .formats.readers import as_source
from .levels import MAX_INTERVALS, best, lower_bounds, optimal_levels
from .progress import Progress, no_progress
from .rows import ADVICE, Rows, told
from .statistics import ColumnStatistics
from .tables import ends_of, optimal_table, parts_of, uniform_levels, variance_of

METHODS = ("histogram", "exact", "uniform")


@dataclass(frozen=True)
class FeatureLevels:
    """Levels of each column.

    Attributes
    ----------
    values : ndarray of shape (features, intervals + 1), or (1, intervals + 1) where shared, float64
        Ascending; a column of fewer different values repeats its last level.
    cost, lower_bound : ndarray of shape (features or 1,), float64
        As in `OptimalLevels`.
    method : str
    """

    values: NDArray[np.float64]
    cost: NDArray[np.float64]
    lower_bound: NDArray[np.float64]
    method: str


def feature_levels(
    X: Any, intervals: int, method: str = "histogram", *, shared: bool = False, threads: int | None = None
) -> FeatureLevels:
    """Variance-optimal levels of each column of a matrix, a file, or a stream of blocks.

    Parameters
    ----------
    X : array_like of shape (rows, features), str or path, or iterable of blocks of rows
        What `compress` takes; read once.
    intervals : int
        1..255.
    method : {"histogram", "exact", "uniform"}
        histogram: one scan into a sketch of each column, values taken as float32. exact: `optimal_levels` of each column;
        takes a matrix only.
    shared : bool
        One row of levels for all features.
    threads : int, optional

    Returns
    -------
    FeatureLevels

    Raises
    ------
    DataError
        NaN or infinity, no rows.
    OptionError
    """
    intervals = check_integer("intervals", intervals, 1, MAX_INTERVALS)
    check_choice("method", method, METHODS)
    if method == "exact":
        return _exact(X, intervals, shared)
    workers = thread_count(threads)
    statistics = scan(X, shared=shared, threads=workers)
    low, high = ends_of(statistics)
    rows = statistics.rows * (statistics.features if statistics.shared else 1)
    if method == "uniform":
        table = uniform_levels(low, high, intervals)
        return FeatureLevels(
            table.astype(np.float64), variance_of(statistics, table) * rows, np.zeros(len(low)), method
        )
    values, cost, bound = np.empty((len(low), intervals + 1)), np.empty(len(low)), np.empty(len(low))
    for part, segments in parts_of(statistics):
        found, _, costs = best(segments, intervals, workers)
        values[part] = segments.pivot[:, None] + found * segments.unit[:, None]
        cost[part] = costs[:, -1] * segments.unit**2
        bound[part] = lower_bounds(segments, intervals, workers)
    values = np.clip(values, low[:, None], high[:, None])
    values[:, 0], values[:, -1] = low, high
    return FeatureLevels(np.maximum.accumulate(values, axis=1), cost, np.minimum(bound, cost), method)


def _exact(X: Any, intervals: int, shared: bool) -> FeatureLevels:
    x = as_rows(X)
    columns = [x.ravel()] if shared else list(x.T)
    found = [optimal_levels(column, intervals, method="exact") for column in columns]
    values = np.stack([np.pad(one.values, (0, intervals + 1 - len(one.values)), "edge") for one in found])
    cost, bound = (np.array([getattr(one, name) for one in found]) for name in ("cost", "lower_bound"))
    return FeatureLevels(values, cost, bound, "exact")


def scan(
    X: Any, *, shared: bool = False, threads: int = 1, progress: Callable[..., Progress] = no_progress
) -> ColumnStatistics:
    """Statistics, with sketches, of all rows of a source."""
    statistics: ColumnStatistics | None = None
    with as_source(X) as source:
        for chunk in Rows(source, "raise", "statistics", progress):
            if statistics is None:
                statistics = ColumnStatistics(chunk.values.shape[1], shared=shared)
            if not statistics.add(chunk.values, threads):
                row, column = (int(at[0]) for at in np.nonzero(~np.isfinite(chunk.values)))
                value = told(chunk.values[row, column])
                raise DataError(f"{source.place(chunk.first_row + row, column)}: the value is {value}: {ADVICE}")
        if statistics is None or not statistics.rows:
            raise DataError(f"{source.name}: there are no rows to choose levels from")
    return statistics


@dataclass(frozen=True)
class Survey:
    """Errors of uniform and optimal levels at several widths.

    Attributes
    ----------
    bits : tuple of int
    uniform, optimal : ndarray of shape (widths, features or 1), float64
        Mean squared error of decoded values: the rounding's variance over `samples`.
    """

    bits: tuple[int, ...]
    samples: int
    statistics: ColumnStatistics
    uniform: NDArray[np.float64]
    optimal: NDArray[np.float64]

    @property
    def variance(self) -> NDArray[np.float64]:
        """Variance of each column, or of all their values where they share levels."""
        variance = self.statistics.std**2
        if self.statistics.shared:
            return np.array([variance.mean() + self.statistics.mean.var()])
        return variance

    def saved(self) -> NDArray[np.float64]:
        """Bits that optimal levels save: how much wider uniform codes of the same error would be. (widths, features or 1).

        The error of uniform levels falls with the square of their number: half the logarithm of the errors' ratio. NaN where
        optimal levels leave no error and uniform ones do: no number of bits would do.
        """
        good = (self.optimal > 0) & (self.uniform > 0)
        saved = np.log2(np.where(good, self.uniform, 1) / np.where(good, self.optimal, 1)) / 2
        return np.where((self.optimal == 0) & (self.uniform > 0), np.nan, saved)

    def mean_saved(self) -> NDArray[np.float64]:
        """Mean of `saved` over the columns where it is a number: (widths,)."""
        saved = self.saved()
        counted = np.isfinite(saved)
        return np.asarray(np.where(counted, saved, 0).sum(axis=1) / np.maximum(counted.sum(axis=1), 1))

    def relative(self, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean over the columns that vary of their error over their variance: (widths,)."""
        varies = self.variance > 0
        if not varies.any():
            return np.zeros(len(self.bits))
        return np.asarray((errors[:, varies] / self.variance[varies]).mean(axis=1))


def survey(statistics: ColumnStatistics, bits: Sequence[int], samples: int, threads: int) -> Survey:
    """Errors of uniform and optimal levels of each column, from its sketch."""
    uniform, optimal = [], []
    for width in bits:
        table = uniform_levels(*ends_of(statistics), interval_count(width, samples))
        uniform.append(variance_of(statistics, table) / samples)
        optimal.append(optimal_table(statistics, width, samples, threads, "none").variance / samples)
    return Survey(tuple(bits), samples, statistics, np.array(uniform), np.array(optimal))
