"""Which rows' side of a hinge rounding leaves open, for those to be fetched exactly (ZipML, section 4: refetching).

The slope of max(0, 1 - y z) needs the sign of 1 - y z alone. It is certain where |1 - y m.x| exceeds what rounding can have
moved m.x by: sum_f width_f |x_f|, width_f that of the interval that the row's own code is in, for the widest interval of optimal
levels is many times as wide as most. Where not, the exact row tells.
A sketch of what rounding took from each row narrows that by random projection (Johnson and Lindenstrauss), for a probability of
failure that is chosen.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .kernels import sgd as kernel
from .stream import CodeRows, inverse_std

ULP = 2.0**-24  # what float32 may round a number of size 1 by
SKETCH_ROWS = 65536 * 16  # values of exact rows in memory together while a sketch is made
NUMBER = 0x5A49504D4C  # of the projection's random signs

Float32 = NDArray[np.float32]


class Refetch(Protocol):
    """Says how far each row's z is moved by rounding at most."""

    def correct(self, z: NDArray[np.float64], rows: NDArray[np.int64], weights: Float32) -> NDArray[np.float64]:
        """A better z, (m, targets), where there is one."""

    def bound(
        self, packed: NDArray[np.uint8], rows: NDArray[np.int64], weights: Float32, threads: int
    ) -> NDArray[np.float64]:
        """How far the exact z may be from that: (m, targets)."""


class Cells:
    """The bound of the intervals that codes are in, and of what float32 costs: certain."""

    def __init__(self, data: CodeRows) -> None:
        codec = data.codec
        most = 1 + 2 * ULP * (codec.features + 8)  # of this sum itself
        table = ((reach_of(data) + arithmetic_of(data)[:, None]) * most).astype(np.float32)
        shape = (codec.features, codec.bits, codec.samples, codec.stride)
        self._rows = kernel.Rows(*shape, table=table, estimator=kernel.MEAN)

    def correct(self, z: NDArray[np.float64], rows: NDArray[np.int64], weights: Float32) -> NDArray[np.float64]:
        """Nothing better."""
        return z

    def bound(
        self, packed: NDArray[np.uint8], rows: NDArray[np.int64], weights: Float32, threads: int
    ) -> NDArray[np.float64]:
        """sum_f width_f |x_f|: codes decode to their widths."""
        self._rows.hold(packed)
        return np.asarray(self._rows.values(threads) @ np.abs(weights).T, np.float64)


class Sketch:
    """z + <S r, S x>, r = exact row - decoded row, S a random projection: within error |r| |x| but with probability `failure`.

    Of unit vectors u and v, |<S u, S v> - <u, v>| > e with a probability of at most 4 exp(-size (e^2 / 4 - e^3 / 6)), from the
    lemma of Johnson and Lindenstrauss for |u + v| and |u - v| (Dasgupta and Gupta, 2003).

    Parameters
    ----------
    data : CodeRows
        With an exact copy.
    size : int
        Numbers a row, float32, in memory.
    failure : float
        Probability that a row's bound does not hold, of a model that does not depend on the projection, as later steps' do.
    seed, threads : int
    """

    def __init__(self, data: CodeRows, size: int, failure: float, seed: int, threads: int) -> None:
        self.size, self.failure, self.error = size, failure, error_of(size, failure)
        rows, features = data.shape
        generator = np.random.Generator(np.random.Philox(key=[seed, NUMBER]))
        signs = generator.integers(0, 2, (features, size), np.int8) * 2 - 1
        self._projection = (signs / np.sqrt(size)).astype(np.float32)
        self._rests, self._sizes = np.empty((rows, size), np.float32), np.empty(rows, np.float32)
        self._arithmetic = arithmetic_of(data)
        scale = inverse_std(data.std).astype(np.float32)
        block = max(1, SKETCH_ROWS // features)
        for first in range(0, rows, block):
            part = slice(first, min(first + block, rows))
            rest = (data.exact_rows(np.arange(part.start, part.stop)) - data.decoded(part, threads)) * scale
            self._rests[part], self._sizes[part] = rest @ self._projection, np.sqrt(np.square(rest).sum(axis=1))

    def correct(self, z: NDArray[np.float64], rows: NDArray[np.int64], weights: Float32) -> NDArray[np.float64]:
        """The decision plus the sketch's estimate of r . x."""
        return z + self._rests[rows] @ (weights @ self._projection).T if self.error < 1 else z

    def bound(
        self, packed: NDArray[np.uint8], rows: NDArray[np.int64], weights: Float32, threads: int
    ) -> NDArray[np.float64]:
        """Rows' error |r| |x|, or |r| |x| about z itself where the sketch is too small to say more; and what float32 costs."""
        x = weights.astype(np.float64)
        sizes = np.sqrt(np.square(x).sum(axis=1))
        return np.asarray(self._sizes[rows][:, None] * sizes * min(self.error, 1.0) + np.abs(x) @ self._arithmetic)


def error_of(size: int, failure: float) -> float:
    """The error e at which a sketch of `size` numbers fails with probability `failure`; infinite where none below 1 does."""
    errors = np.linspace(0, 1, 100001)
    fails = 4 * np.exp(-size * (errors**2 / 4 - errors**3 / 6))
    enough = np.flatnonzero(fails <= failure)
    return float(errors[enough[0]]) if len(enough) else np.inf


def reach_of(data: CodeRows) -> NDArray[np.float64]:
    """How far a value may be from what its code decodes to, in standardised units: float64 (features, 2**bits).

    A code with some of its k samples up is of one interval; with none, of the one above its level or all up of that below.
    """
    codec, scale = data.codec, inverse_std(data.std)
    k, top = codec.samples, codec.intervals * codec.samples
    width = np.diff(codec.levels.astype(np.float64), axis=1)
    share = np.maximum(np.arange(k), k - np.arange(k)) / k
    reach = np.zeros((len(width), 2**codec.bits))
    reach[:, :top] = (width[:, :, None] * share).reshape(len(width), top)
    reach[:, k : top + 1 : k] = np.maximum(reach[:, k : top + 1 : k], width)
    reach[:, top + 1 :] = reach[:, top : top + 1]
    return np.asarray(np.broadcast_to(reach, (data.shape[1], 2**codec.bits)) * scale[:, None])


def arithmetic_of(data: CodeRows) -> NDArray[np.float64]:
    """What float32 may move z by per unit of |x_f|, in standardised units: that of decoded values and of a sum of products."""
    features, scale = data.shape[1], inverse_std(data.std)
    ends = data.codec.bounds[:, [0, -1]].astype(np.float64)
    size = np.broadcast_to(np.abs(ends).max(axis=1), features) * scale
    reach = np.abs(ends - data.mean[:, None]).max(axis=1) * scale
    return np.asarray(ULP * (4 * size + (features + 8) * reach))
