"""What one streamed pass learns of each column: range, moments, a sketch to choose levels from, some exact rows.

Everything here is a function of the rows in their order, not of how they were cut into blocks: the same data give the
same levels, and so the same file, for any block size and number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernels import columns as kernel
from .kernels import philox
from .sketch import Segments, Sketch

SAMPLE_ROWS, SAMPLE_BYTES = 1024, 64 << 20


def most_sampled(features: int) -> int:
    """The most rows that are kept exactly."""
    return max(1, min(SAMPLE_ROWS, SAMPLE_BYTES // (4 * features)))


class RowSample:
    """A uniform sample of rows in their exact form, chosen by each row's number alone: the smallest random keys stay."""

    def __init__(self, features: int, seed: int) -> None:
        self.most = most_sampled(features)
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

    Parameters
    ----------
    features, seed : int
    sketch : bool
        Whether optimal levels may be asked for.
    shared : bool
        Whether all features are to share their levels.
    sample : bool
        Whether exact rows are kept.

    Attributes
    ----------
    rows : int
    low, high : ndarray of shape (features,), float32
    """

    def __init__(
        self, features: int, seed: int = 0, sketch: bool = True, shared: bool = False, sample: bool = True
    ) -> None:
        self.features, self.rows = features, 0
        self.low, self.high = np.empty(features, np.float32), np.empty(features, np.float32)
        self._shift: NDArray[np.float32] | None = None
        self._sum, self._square = np.zeros(features), np.zeros(features)
        self.shared = shared and features > 1
        self.sketch = Sketch(features, shared=self.shared) if sketch else None
        self.sample = RowSample(features, seed)
        self._sampled = sample

    def add(self, x: NDArray[np.float32], threads: int) -> bool:
        """Learn from rows; whole multiples of 64 but for the last block. False where a value is not finite: nothing learnt."""
        if not len(x):
            return True
        if self._shift is None:
            if not np.isfinite(x[0]).all():
                return False
            self._shift = x[0].copy()
            self.low[:], self.high[:] = x[0], x[0]
        if kernel.scan(x, self._shift, self.low, self.high, self._sum, self._square, threads):
            return False
        for bound in (self.low, self.high):
            bound += 0.0  # no -0.0: which of two equal zeros comes out would depend on the threads
        if self.sketch is not None:
            self.sketch.add(x, self.low, self.high, threads)
        if self._sampled:
            self.sample.add(x, self.rows)
        self.rows += len(x)
        return True

    def state(self) -> dict[str, NDArray[Any]]:
        """All that was learnt, exactly, by name: what `restore` takes."""
        found: dict[str, NDArray[Any]] = {"rows": np.array(self.rows), "low": self.low, "high": self.high}
        found |= {"sum": self._sum, "square": self._square}
        if self._shift is not None:
            found["shift"] = self._shift
        if self.sketch is not None:
            found |= {f"sketch_{name}": array for name, array in self.sketch.state().items()}
        sample = self.sample
        return found | {"sample_keys": sample.keys, "sample_numbers": sample.numbers, "sample_values": sample.rows}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from what others of the same features and options had learnt."""
        self.rows, self._shift = int(state["rows"]), state.get("shift")
        self.low, self.high, self._sum, self._square = (state[name] for name in ("low", "high", "sum", "square"))
        if self.sketch is not None:
            self.sketch.restore({name[7:]: array for name, array in state.items() if name.startswith("sketch_")})
        sample = self.sample
        sample.keys, sample.numbers, sample.rows = (state[f"sample_{name}"] for name in ("keys", "numbers", "values"))

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

    def segments(self, features: slice | None = None) -> Segments:
        """Some columns as the sketch knows them; all in one where the sketch is shared.

        Raises
        ------
        ValueError
            The statistics were taken without a sketch.
        """
        if self.sketch is None:
            raise ValueError("statistics were taken without a sketch: optimal levels need one")
        self.sketch.finish(self.low, self.high)
        if self.shared:
            return self.sketch.merged(self.low, self.high)
        return self.sketch.segments(self.low, self.high, features)
