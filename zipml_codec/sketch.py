"""What one scan keeps of each column to choose levels from: counts and sums in cells that suit bulk and tails alike.

A value's key is an integer, linear in the value around the column's pivot and logarithmic beyond (kernels/sketch.c). A cell
holds 2**shift neighbouring keys: their number, the sum of their places in the cell, the first and the last place. All are
integers, and as a column's range grows cells merge in pairs: the outcome depends on the values alone, not on how rows were
cut into blocks or shared by threads, and the sketches of parts add up to that of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import OptionError
from .kernels import columns as kernel

MOST_CELLS, FEWEST_CELLS = 2048, 64
ROOM_BYTES = 256 << 20  # all features' cells together, as far as FEWEST_CELLS allows
CELL_PADDING = 8  # cells between features: the same cell of neighbours must not share a cache set
PIVOT_ROWS, PIVOT_BYTES = 1024, 8 << 20  # first rows that pivot and scale are taken from
OCTAVE = 23  # bits of a key within an octave of 1 + |d|
NARROW = 64  # features a thread below which the rows are shared out instead


@dataclass(frozen=True)
class Segments:
    """Columns as evenly spread weight: what kernels/levels.c takes. Positions are (a - pivot) / unit.

    Attributes
    ----------
    weight, left, right : ndarray of shape (features, segments), float64
        Ascending; weight 0 where there is none.
    variance : ndarray of shape (features, segments), float64
        What the variance of a segment's values is at most, given their mean and ends.
    low, high : ndarray of shape (features,), float64
        The columns' ends.
    pivot, unit : ndarray of shape (features,), float64
    """

    weight: NDArray[np.float64]
    left: NDArray[np.float64]
    right: NDArray[np.float64]
    variance: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    pivot: NDArray[np.float64]
    unit: NDArray[np.float64]


class Sketch:
    """Cells of each column of a stream of float32 rows.

    Parameters
    ----------
    features : int
    cells : int, optional
        Cells a feature; by default 2,048, fewer for very wide data.
    shared : bool
        One pivot and unit for all features, so that their cells can be merged into one table's.
    """

    KEPT = ("pivot", "exponent", "first", "shift", "room")

    def __init__(self, features: int, cells: int | None = None, shared: bool = False) -> None:
        fitting = ROOM_BYTES // (kernel.CELL.itemsize * features)
        most = 1 << max(fitting.bit_length() - 1, 0)
        self.features, self.shared = features, shared
        self.cells = int(min(MOST_CELLS, max(FEWEST_CELLS, most))) if cells is None else cells
        self.pivot = np.zeros(features, np.float32)
        self.exponent = np.zeros(features, np.int64)  # of the unit, 2**exponent
        self.first, self.shift = np.zeros(features, np.int32), np.zeros(features, np.int32)
        self.room = np.zeros((1, features, self.cells + CELL_PADDING), kernel.CELL)
        self._first_rows = max(64, min(PIVOT_ROWS, PIVOT_BYTES // (4 * features) // 64 * 64))
        self._waiting: list[NDArray[np.float32]] | None = []
        self._apart: NDArray[np.void] | None = None  # what threads counted each for itself and `room` does not have yet

    @property
    def scale(self) -> NDArray[np.float32]:
        """1 / unit."""
        return np.ldexp(1.0, -self.exponent).astype(np.float32)

    def add(self, x: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32], threads: int) -> None:
        """Count finite rows; low, high: each column's range so far, theirs included."""
        if self._waiting is not None:
            self._waiting.append(x.copy())
            if sum(len(part) for part in self._waiting) < self._first_rows:
                return
            x = self._begin()
        self._cover(low, high)
        self._count(x, threads)

    def finish(self, low: NDArray[np.float32], high: NDArray[np.float32], threads: int = 1) -> None:
        """Count rows that waited for more to come."""
        if self._waiting:
            x = self._begin()
            self._cover(low, high)
            self._count(x, threads)
        self._gather()

    def state(self) -> dict[str, NDArray[Any]]:
        """All that was counted, by name: what `restore` takes."""
        self._gather()
        found = {name: getattr(self, name) for name in self.KEPT}
        if self._waiting is not None:
            found["waiting"] = np.concatenate([np.empty((0, self.features), np.float32), *self._waiting])
        return found

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from what another sketch of the same features and cells had counted."""
        for name in self.KEPT:
            setattr(self, name, state[name])
        self._waiting = [state["waiting"]] if "waiting" in state else None

    def alike(self) -> Sketch:
        """An empty sketch with the same pivots and units: other rows counted in it can be merged into this one."""
        other = Sketch(self.features, self.cells, self.shared)
        if self._waiting is None:
            other.pivot, other.exponent, other._waiting = self.pivot.copy(), self.exponent.copy(), None
        return other

    def merge(self, other: Sketch, low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
        """Add what another sketch counted: exactly what this one would hold had it counted those rows too.

        Parameters
        ----------
        other : Sketch
            Made by `alike`; stays as it is.
        low, high : ndarray of shape (features,), float32
            Each column's range, of both sketches' rows.

        Raises
        ------
        OptionError
            Other features, cells, pivots or units; or one of the two still waits for its first rows: see `finish`.
        """
        for name, sketch in (("this", self), ("the other", other)):
            if sketch._waiting is not None:
                raise OptionError(f"{name} sketch still waits for rows to take its pivots from: finish() it before merging")
        if (self.features, self.cells) != (other.features, other.cells):
            shapes = " and of ".join(f"{one.features} features, {one.cells} cells" for one in (self, other))
            raise OptionError(f"sketches of {shapes} cannot be merged")
        apart = (self.pivot != other.pivot) | (self.exponent != other.exponent)
        if apart.any():
            at = int(np.argmax(apart))
            own, others = (f"{one.pivot[at]:g} and 2**{one.exponent[at]}" for one in (self, other))
            raise OptionError(
                f"sketches of different pivots and units cannot be merged: feature {at} has {own} here, {others} there; "
                "make the other with alike()"
            )
        self._cover(low, high)
        other._gather()
        for feature in range(self.features):
            grid = other.shift[feature], other.first[feature], self.shift[feature], self.first[feature]
            add_cells(self.room[0, feature], regroup(other.room[0, feature], *(int(number) for number in grid)))

    def _begin(self) -> NDArray[np.float32]:
        """Pivot and unit from the first rows: their median, and twice the distance of their quartiles, as a power of two.

        Where the quartiles coincide, four times the median distance of the values that differ from the median.
        """
        x = np.concatenate(self._waiting or [])
        self._waiting = None
        sample = x[: self._first_rows]
        ranked = np.sort(sample.reshape(-1, 1) if self.shared else sample, axis=0)
        pivot = ranked[len(ranked) // 2]
        first, third = ranked[[len(ranked) // 4, 3 * len(ranked) // 4]].astype(np.float64)
        spread = 2 * (third - first)
        for column in np.flatnonzero((third == first) & (ranked[-1] > ranked[0])):
            distance = np.abs(ranked[:, column].astype(np.float64) - pivot[column])
            spread[column] = 4 * middle_of(np.sort(distance[distance > 0]))
        spread = np.where(spread > 0, spread, np.abs(pivot.astype(np.float64)) / 1024)
        exponent = np.clip(np.frexp(np.where(spread > 0, spread, 1.0))[1], -126, 126)
        self.pivot[:], self.exponent[:] = pivot, exponent
        return x

    def _cover(self, low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
        """Widen the cells to low..high; they merge in pairs as often as it takes."""
        scale = self.scale
        keys = np.stack([kernel.keys(np.ascontiguousarray(end), self.pivot, scale).astype(np.int64) for end in (low, high)])
        shift = self.shift.astype(np.int64)
        while True:
            wide = (keys[1] >> shift) - (keys[0] >> shift) >= self.cells
            if not wide.any():
                break
            shift += wide
        to_shift, to_first = shift.astype(np.int32), (keys[0] >> shift).astype(np.int32)
        for feature in np.flatnonzero((to_shift != self.shift) | (to_first != self.first)):
            self._gather(int(feature))
        kernel.regroup(self.room[0], self.first, self.shift, to_first, to_shift)
        self.shift[:], self.first[:] = to_shift, to_first

    def _count(self, x: NDArray[np.float32], threads: int) -> None:
        narrow = threads > 1 and x.shape[1] <= NARROW * threads and len(x) >= 4 * self.cells
        room = self.room
        if narrow:
            if self._apart is None or len(self._apart) != threads:
                self._gather()
                self._apart = np.zeros((threads, *self.room.shape[1:]), kernel.CELL)
            room = self._apart
        kernel.sketch(x, self.pivot, self.scale, self.first, self.shift, self.cells, room, threads)

    def _gather(self, feature: int | None = None) -> None:
        """Add to `room` what threads counted apart: of one feature, or of all."""
        if self._apart is None:
            return
        where = slice(None) if feature is None else slice(feature, feature + 1)
        for part in self._apart[:, where]:
            add_cells(self.room[0, where], part)
        self._apart[:, where] = np.zeros((), kernel.CELL)
        if feature is None:
            self._apart = None

    def segments(self, low: NDArray[np.float32], high: NDArray[np.float32], features: slice | None = None) -> Segments:
        """Some features' cells as segments of evenly spread weight."""
        self._gather()
        part = slice(None) if features is None else features
        cells = self.room[0, part, : self.cells]
        return make_segments(
            cells, self.shift[part], self.first[part], self.pivot[part], self.exponent[part], low[part], high[part]
        )

    def merged(self, low: NDArray[np.float32], high: NDArray[np.float32]) -> Segments:
        """All features' cells in one row of segments: what a table that all share is chosen from (`shared` sketches only)."""
        self._gather()
        ends = np.array([low.min(), high.max()], np.float32)
        pivot, exponent = self.pivot[:1], self.exponent[:1]
        one = Sketch(1, self.cells)
        one.pivot, one.exponent, one._waiting = pivot.copy(), exponent.copy(), None
        one._cover(ends[:1], ends[1:])
        for feature, row in enumerate(self.room[0]):
            grid = self.shift[feature], self.first[feature], one.shift[0], one.first[0]
            add_cells(one.room[0, 0], regroup(row, *(int(number) for number in grid)))
        return one.segments(ends[:1], ends[1:])


def middle_of(ranked: NDArray[np.float64]) -> float:
    """The middle one of sorted values, the upper of two."""
    return float(ranked[len(ranked) // 2])


def add_cells(total: NDArray[np.void], part: NDArray[np.void]) -> None:
    """Cells of the same grid, added up."""
    for name in ("count", "offsets"):
        total[name] += part[name]
    for name in ("top", "bottom"):
        np.maximum(total[name], part[name], out=total[name])


def regroup(cells: NDArray[np.void], shift: int, first: int, to_shift: int, to_first: int) -> NDArray[np.void]:
    """Cells of grid (shift, first) on a grid of cells as wide or wider: exact sums, whatever the steps in between."""
    out = cells.copy()
    kernel.regroup(out[None], *(np.array([number], np.int32) for number in (first, shift, to_first, to_shift)))
    return out


def position(keys: NDArray[np.float64]) -> NDArray[np.float64]:
    """(a - pivot) / unit at keys, whole or not: the inverse of kernels/sketch.c's map."""
    size = np.where(keys < 0, -1 - keys, keys)
    octave = np.floor(np.maximum(size, 0) / 2.0**OCTAVE)
    distance = np.ldexp(1 + (size / 2.0**OCTAVE - octave), octave.astype(np.int64)) - 1
    return np.where(keys < 0, -distance, distance)


def at_ends(
    where: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Positions within low..high; those that rounding alone keeps from an end are that end, where a level is."""
    for end in (low, high):
        where = np.where(np.abs(where - end) <= 2.0 ** (1 - OCTAVE) * (1 + np.abs(end)), end, where)
    clipped: NDArray[np.float64] = np.clip(where, low, high)
    return clipped


def make_segments(
    cells: NDArray[np.void],
    shift: NDArray[np.int32],
    first: NDArray[np.int32],
    pivot: NDArray[np.float32],
    exponent: NDArray[np.int64],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    shares: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Segments:
    """Segments of cells (features, cells), three of each: its least value, the others around their mean, its greatest value.

    So a cell of three values or fewer is exact, and none is taken for narrower than it is: an interval beside it may be
    very wide. `shares`, where counts are weights: those of each cell's least and greatest value.
    """
    count = cells["count"].astype(np.float64)
    start = ((np.arange(cells.shape[1]) + first[:, None].astype(np.int64)) << shift[:, None]).astype(np.float64)
    unit = np.ldexp(1.0, exponent)
    ends = [((end.astype(np.float64) - pivot) / unit)[:, None] for end in (low, high)]
    keys = (start + cells["offsets"] / np.where(count > 0, count, 1), start + ~cells["bottom"], start + cells["top"])
    mean, bottom, top = (at_ends(position(key), *ends) for key in keys)
    spread = (count > 0) & (cells["top"] > ~cells["bottom"])
    least, most = (np.where(spread, share, 0.0) for share in shares or (1.0, 1.0))
    inner = count - least - most
    inner[inner < 1e-12 * count] = 0
    middle = np.clip((count * mean - least * bottom - most * top) / np.where(inner > 0, inner, 1), bottom, top)
    middle = np.where(spread, middle, mean)
    several = spread & (inner > (1 if shares is None else 0))
    reach = np.where(several, np.minimum(middle - bottom, top - middle), 0)
    variance = np.where(several, (middle - bottom) * (top - middle), 0)
    shape = (len(cells), -1)
    weight, left, right = (
        np.stack(parts, axis=2).reshape(shape)
        for parts in ((least, inner, most), (bottom, middle - reach, top), (bottom, middle + reach, top))
    )
    variance = np.stack([0 * variance, variance, 0 * variance], axis=2).reshape(shape)
    return Segments(weight, left, right, variance, ends[0][:, 0], ends[1][:, 0], pivot.astype(np.float64), unit)
