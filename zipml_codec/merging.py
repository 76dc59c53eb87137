"""Almost-linear merging: a partition near the optimal cost from pairwise merges of intervals (ZipML, section 3; levels.md)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import OptionError
from .exact import distinct_values

Values = NDArray[np.float64]
Indices = NDArray[np.intp]


class IntervalCosts:
    """Cost of any interval between values, from prefix sums in extended precision about the median.

    Parameters
    ----------
    points : ndarray of shape (n,), float64
        Ascending, without repetition.
    weights : ndarray of shape (n,), float64, or None
        Positive; ones where None.
    """

    def __init__(self, points: Values, weights: Values | None) -> None:
        self.x = points.astype(np.longdouble) - points[len(points) // 2]
        mass = np.ones_like(self.x) if weights is None else weights.astype(np.longdouble)
        self.w, self.s, self.q = np.cumsum(mass), np.cumsum(mass * self.x), np.cumsum(mass * self.x * self.x)

    def __call__(self, lower: Indices, upper: Indices) -> NDArray[np.longdouble]:
        """Sum of w (u - x)(x - l) from point `lower` to point `upper` (indices, broadcast); 0 where they are neighbours."""
        low, high = self.x[lower], self.x[upper]
        w, s, q = (sums[upper] - sums[lower] for sums in (self.w, self.s, self.q))
        cost = np.maximum((low + high) * s - low * high * w - q, 0)
        return np.where(upper - lower > 1, cost, 0)


def merged_ends(costs: IntervalCosts, k: int, gamma: float, delta: int) -> Indices:
    """Indices of the ends of at most 2 ceil((1 + gamma) k) + max(delta, 1) intervals, by merging pairs of small cost."""
    ends = np.arange(len(costs.x))
    keep = int(np.ceil((1 + gamma) * k))
    while len(ends) - 1 > 2 * keep + delta:
        pairs = (len(ends) - 1) // 2
        if pairs <= keep:
            break
        error = costs(ends[0 : 2 * pairs : 2], ends[2 : 2 * pairs + 1 : 2])
        merged = np.ones(pairs, bool)
        merged[np.argpartition(error, pairs - keep)[pairs - keep :]] = False
        stays = np.ones(len(ends), bool)
        stays[1 : 2 * pairs : 2] = ~merged
        ends = ends[stays]
    return ends


def check_options(k: int, gamma: float, delta: int) -> None:
    """Raises OptionError where merging's options make no sense."""
    if k < 1:
        raise OptionError(f"k is {k}: at least one interval is needed")
    if not (gamma > 0 and np.isfinite(gamma)):
        raise OptionError(f"gamma is {gamma}: it must be positive and finite")
    if delta < 0:
        raise OptionError(f"delta is {delta}: it must not be negative")


def merging_levels(values: Values, weights: Values | None, k: int, gamma: float = 1.0, delta: int = 1) -> Values:
    """Ends of a partition that costs at most (1 + 1/gamma) times the best one of k intervals.

    Starts from the intervals between neighbouring values. While there are more than 2 (1 + gamma) k + delta, neighbours are
    paired, the (1 + gamma) k pairs whose unions would cost most stay two, and the others become one. An odd one is left over.

    Parameters
    ----------
    values : ndarray of shape (N,), float64
        Finite, in any order.
    weights : ndarray of shape (N,), float64, or None
        Positive; ones where None.
    k : int
        Intervals of the partition that it is compared with.
    gamma : float
        More intervals for less cost: positive.
    delta : int
        Further intervals allowed, for fewer rounds.

    Returns
    -------
    ndarray of shape (at most 2 ceil((1 + gamma) k) + max(delta, 1) + 1,), float64
        Ascending, among the values; the first is the minimum, the last the maximum.

    Raises
    ------
    DataError, OptionError

    Notes
    -----
    O(N) after the sort. Why: the k - 1 inner ends of the best partition lie in fewer than k pairs, so at least gamma k of the
    pairs kept are within one of its intervals each; a pair merged across an end costs no more than any of
    them, 1 / (gamma k) of it.
    """
    check_options(k, gamma, delta)
    points, mass = distinct_values(values, weights)
    if len(points) < 3:
        return points
    return points[merged_ends(IntervalCosts(points, mass), k, gamma, delta)]


def levels_among_merged(
    values: Values, weights: Values | None, intervals: int, gamma: float = 3.0, delta: int = 1
) -> tuple[Values, float]:
    """The best `intervals` intervals whose ends are among those of `merging_levels`, and their cost.

    Within a few per cent of the optimum on common distributions, but without a guarantee: merging's is for its own, finer,
    partition, and weighted inputs exist on which the best choice among its ends costs 60 times the optimum.

    Parameters
    ----------
    values, weights, gamma, delta
        As in `merging_levels`.
    intervals : int
        At least 1.

    Returns
    -------
    levels : ndarray of shape (at most intervals + 1,), float64
    cost : float
        Over all values, not the ends alone.

    Raises
    ------
    DataError, OptionError

    Notes
    -----
    O(intervals M^2) for M = 2 (1 + gamma) intervals + delta ends.
    """
    check_options(intervals, gamma, delta)
    points, mass = distinct_values(values, weights)
    if len(points) <= intervals + 1:
        return points, 0.0
    costs = IntervalCosts(points, mass)
    ends = merged_ends(costs, intervals, gamma, delta)
    between = costs(ends[:, None], ends[None, :]).astype(np.float64)
    between[np.tril_indices(len(ends), -1)] = np.inf
    best, choices = between[0], []
    for _ in range(intervals - 1):
        total = best[:, None] + between
        choices.append(total.argmin(axis=0))
        best = total.min(axis=0)
    path = [len(ends) - 1]
    for choice in reversed(choices):
        path.append(int(choice[path[-1]]))
    return points[ends[np.unique([0, *path])]], float(best[-1])
