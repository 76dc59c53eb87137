"""Exact variance-optimal levels: sorting, merging of equal values, and the certified search of kernels/search.c."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .kernels import exact as kernel

Values = NDArray[np.float64]


def distinct_values(values: Values, weights: Values | None = None) -> tuple[Values, Values | None]:
    """Ascending different values, and the summed weight of each.

    Parameters
    ----------
    values : ndarray of shape (N,), float64
        Finite.
    weights : ndarray of shape (N,), float64, optional
        Positive and finite; ones where None.

    Returns
    -------
    values : ndarray of shape (n,), float64
    weights : ndarray of shape (n,), float64, or None
        None where each value has weight 1: no weights were given and no value repeats.

    Raises
    ------
    DataError
        A value is NaN or infinite.
    """
    if weights is None:
        values = np.sort(values)
    else:
        order = np.argsort(values)
        values, weights = values[order], weights[order]
        del order
    if values.size and not (np.isfinite(values[0]) and np.isfinite(values[-1])):  # NaN is sorted to the end
        raise DataError("values must be finite: drop or replace NaN and infinities")
    count = kernel.count_distinct(values)
    if count == values.size:
        return values, weights
    if weights is None:
        weights = np.ones_like(values)
    kernel.merge(values, weights)
    return values[:count], weights[:count]


def exact_levels(values: Values, weights: Values | None, intervals: int) -> tuple[Values, float, float, int]:
    """Levels among the values that minimise sum w (u - x)(x - l), [l, u] the enclosing interval, with a certificate.

    The ends are the minimum and the maximum; optimal levels can be taken among the values (ZipML, lemma 3).

    Parameters
    ----------
    values : ndarray of shape (N,), float64
        Finite, in any order; not changed.
    weights : ndarray of shape (N,), float64, or None
        Positive and finite; ones where None.
    intervals : int
        1..255, one less than the number of levels.

    Returns
    -------
    levels : ndarray of shape (at most intervals + 1,), float64
        Ascending, without repetition: fewer where there are fewer different values.
    cost : float
        In the square of the values' unit; infinite or 0 where float64 cannot hold it.
    lower_bound : float
        Proven: no choice of as many levels costs less. At most `cost`, from which it usually differs by 1e-13 of it, and by less
        than 1e-12 (max - min)^2 sum w where a far outlier, or clusters far apart, leave float64 nothing finer to prove.
    evaluations : int
        Interval costs computed: the work but for the sort and one pass over the values.

    Raises
    ------
    DataError
        A value is NaN or infinite.
    MemoryError

    Notes
    -----
    Near the cost of the sort. Extra memory: 8 N bytes for the sorted values (16 N with weights or repeated values, 24 N for a
    moment while weights are sorted), 2 N for sums, and lists of some hundred cells a level.
    """
    points, mass = distinct_values(values, weights)
    if points.size == 0:
        return points, 0.0, 0.0, 0
    chosen, cost, lower_bound, evaluations = kernel.solve(points, mass, intervals)
    return points[chosen], cost, lower_bound, evaluations
