"""The code of one value: levels, stochastic rounding to k samples, and packed rows of bits (formats/FORMAT.md, 1 to 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import as_rows, check_choice, check_integer, check_seed, row_bytes, row_stride, thread_count
from .errors import DataError, LevelError, OptionError
from .kernels import codes as kernel

BLOCK = 64  # features that the kernels take together
WIDE = 256  # features from which adding group by group beats one call for all groups
ROUNDINGS = ("stochastic", "nearest")


def interval_count(bits: int, samples: int) -> int:
    """Intervals s that fit: the codes 0..s*k take `bits` bits (FORMAT.md, section 1).

    Raises
    ------
    OptionError
        `bits` not in 1..8, or so many samples that no interval fits.
    """
    bits = check_integer("bits", bits, 1, 8)
    samples = check_integer("samples", samples, 1)
    intervals = int(2**bits - 1) // samples
    if intervals < 1:
        raise OptionError(f"samples={samples} do not fit in bits={bits}: at most {2**bits - 1} samples")
    return intervals


class Codec:
    """Encoder and decoder of float32 rows, on arrays alone.

    Parameters
    ----------
    levels : array_like of shape (features, intervals + 1) or (1, intervals + 1)
        Ascending levels of each feature, or one row for all `features`. A feature with fewer levels repeats its last.
        For equidistant levels use `Codec.uniform`, which is faster.
    bits : int
        Bits of a code, 1..8.
    samples : int
        k, the rounded samples that a code stands for. intervals = (2**bits - 1) // samples.
    rounding : {"stochastic", "nearest"}
        Nearest is deterministic and biased, and takes samples=1: the paper's naive baseline.
    features : int, optional
        Needed where one row of levels serves all features.

    Attributes
    ----------
    features, bits, samples, intervals, stride : int
        `stride` is the number of bytes from row to row.
    levels : ndarray of shape (features or 1, intervals + 1), float32

    Raises
    ------
    OptionError
        Levels that are not ascending, finite, or too close together or too far apart for float32; bits or samples that
        do not fit.

    Notes
    -----
    Stochastic rounding is unbiased: the mean of a code, `decode`, has expectation a and variance (u-a)(a-l)/k between
    the levels l <= a <= u. The bias that is left is below 2**-16 of an interval's width where bits <= 4 and samples >= 2,
    2**-24 otherwise, plus a few float32 roundings. The same seed gives the same bytes for any threads and vector level.
    """

    def __init__(
        self,
        levels: ArrayLike,
        bits: int = 4,
        samples: int = 2,
        rounding: str = "stochastic",
        features: int | None = None,
    ) -> None:
        intervals = interval_count(bits, samples)
        table = _numbers("levels", levels)
        if table.ndim != 2 or table.shape[1] != intervals + 1:
            raise OptionError(
                f"bits={bits}, samples={samples} take {intervals + 1} levels a feature; levels has shape {table.shape}"
            )
        self._prepare(table, uniform=False, bits=bits, samples=samples, rounding=rounding, features=features)

    @classmethod
    def uniform(
        cls,
        low: ArrayLike,
        high: ArrayLike,
        bits: int = 4,
        samples: int = 2,
        rounding: str = "stochastic",
        features: int | None = None,
    ) -> Codec:
        """Codec of equidistant levels from `low` to `high`, float32 (features,), or one of each for all `features`."""
        interval_count(bits, samples)
        low, high = np.atleast_1d(_numbers("low", low)), np.atleast_1d(_numbers("high", high))
        if low.ndim != 1 or low.shape != high.shape:
            raise OptionError(f"low and high must be vectors of one length; got shapes {low.shape} and {high.shape}")
        self = cls.__new__(cls)
        bounds = np.stack([low, high], axis=1)
        self._prepare(bounds, uniform=True, bits=bits, samples=samples, rounding=rounding, features=features)
        return self

    def _prepare(
        self,
        bounds: NDArray[np.float32],
        *,
        uniform: bool,
        bits: int,
        samples: int,
        rounding: str,
        features: int | None,
    ) -> None:
        self.bits, self.samples, self.intervals = int(bits), int(samples), interval_count(bits, samples)
        self.rounding = check_choice("rounding", rounding, ROUNDINGS)
        if rounding == "nearest" and samples != 1:
            raise OptionError(f"rounding='nearest' makes one sample; samples={samples} must be 1")
        self.features = len(bounds) if features is None else check_integer("features", features, 1)
        if len(bounds) == 0:
            raise OptionError("levels of no feature: at least one is needed")
        if len(bounds) not in (1, self.features):
            raise OptionError(f"levels has {len(bounds)} rows; features={self.features} take as many, or one for all")
        self.is_uniform, self.is_shared = uniform, len(bounds) == 1 and self.features > 1
        self.bounds = bounds  # (low, high) of uniform features, else all levels
        self.stride = row_stride(self.features, self.bits)
        self._check_levels()
        self._inverse, self._width = self._interval_scales()
        self._coder = kernel.Coder(
            self.features,
            self.bits,
            self.samples,
            self.stride,
            self._encoder_arrays(),
            self.values(),
            uniform,
            self.is_shared,
        )

    def _check_levels(self) -> None:
        bounds = self.bounds
        if not np.isfinite(bounds).all():
            feature, level = np.argwhere(~np.isfinite(bounds))[0]
            raise OptionError(f"level {level} of feature {feature} is {bounds[feature, level]}: levels must be finite")
        falls = bounds[:, 1:] < bounds[:, :-1]
        if falls.any():
            feature, level = np.argwhere(falls)[0]
            raise OptionError(
                f"levels of feature {feature} must ascend: {bounds[feature, level]} is followed by {bounds[feature, level + 1]}"
            )
        with np.errstate(over="ignore"):
            wide = np.isinf(bounds[:, -1] - bounds[:, 0])
        if wide.any():
            feature = int(np.argmax(wide))
            raise LevelError(f"levels of feature {feature} span more than float32 holds: rescale the feature", feature)

    def _interval_scales(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """1/width and width of the intervals, float32; uniform: s/(high - low) and (high - low)/s, one column."""
        parts = self.intervals if self.is_uniform else 1
        exact = np.diff(self.bounds.astype(np.float64), axis=1)
        with np.errstate(over="ignore", divide="ignore"):
            inverse = np.where(exact > 0, parts / np.where(exact > 0, exact, 1), 0).astype(np.float32)
            short = np.diff(self.bounds, axis=1) * inverse < parts  # a value on the upper level must reach it
        inverse = np.where(short & (exact > 0), np.nextafter(inverse, np.float32(np.inf)), inverse)
        if not np.isfinite(inverse).all():
            feature = int(np.argwhere(~np.isfinite(inverse))[0][0])
            raise LevelError(f"levels of feature {feature} are too close for float32: rescale the feature", feature)
        return inverse, (exact / parts).astype(np.float32)

    def _blocked(self, columns: NDArray[np.float32], padding: float = 0.0) -> NDArray[np.float32]:
        """(features or 1, m) to blocks of (m, 64), flat: what encode.c reads. Features that fill up a block get `padding`."""
        rows = 1 if self.is_shared else -(-self.features // BLOCK)
        blocks = np.zeros((rows * BLOCK, columns.shape[1]), np.float32)
        blocks[:, 1:] = padding
        blocks[: BLOCK if self.is_shared else self.features] = columns
        return np.ascontiguousarray(blocks.reshape(rows, BLOCK, -1).transpose(0, 2, 1)).reshape(-1)

    def _encoder_arrays(self) -> tuple[NDArray[np.float32], ...]:
        low, high = self.bounds[:, :1], self.bounds[:, -1:]
        # the zeros that fill up a block must get code 0: no level of theirs is reached; nor is one that repeats the last
        inner = np.where(self.bounds < high, self.bounds, np.float32(np.inf))[:, 1:-1]
        start = self._blocked(low) if self.is_uniform else self._blocked(np.hstack([low, inner, high]), np.inf)
        width = (self._width / self._unit()[:, None]).astype(np.float32)
        return start, self._blocked(high), self._blocked(self._inverse), self._blocked(width)

    def _unit(self) -> NDArray[np.float64]:
        """A power of two near each feature's range: in units of it, no square of a width leaves float32."""
        span = self.bounds[:, -1].astype(np.float64) - self.bounds[:, 0]
        return np.ldexp(1.0, np.frexp(span)[1])

    def values(self, shift: ArrayLike = 0.0, scale: ArrayLike = 1.0) -> tuple[NDArray[np.float32], ...]:
        """What codes decode to, (m(t) - shift) * scale, as the kernels take it; shift and scale broadcast over features.

        Returns
        -------
        (low, step, high) : three float32 arrays of shape (features,), where levels are uniform
        (table,) : float32 of shape (features or 1, 2**bits), otherwise
        """
        top = self.intervals * self.samples
        shift, scale = np.asarray(shift, np.float64), np.asarray(scale, np.float64)
        if self.is_uniform:
            low, high = (np.broadcast_to(bound.astype(np.float64), self.features) for bound in self.bounds.T)
            parts = ((low - shift) * scale, (high - low) / top * scale, (high - shift) * scale)
            return tuple(np.ascontiguousarray(np.broadcast_to(part, self.features), dtype=np.float32) for part in parts)
        table = np.empty((len(self.bounds), 2**self.bits))
        interval, up = np.divmod(np.arange(top), self.samples)
        levels = self.bounds.astype(np.float64)
        table[:, :top] = levels[:, interval] + up / self.samples * (levels[:, interval + 1] - levels[:, interval])
        table[:, top:] = levels[:, -1:]
        return (np.ascontiguousarray((table - shift[..., None]) * scale[..., None], dtype=np.float32),)

    def correction(self, scale: ArrayLike = 1.0) -> NDArray[np.float32]:
        """c(t) = E[Q1 Q2 | t] - m(t)^2 of the collapsed estimator, times scale^2: float32 (features or 1, 2**bits).

        Two different samples of a code with `up` of k at the upper level: c = -w^2 up (k - up) / (k^2 (k - 1)).
        """
        k, top = self.samples, self.intervals * self.samples
        if k < 2:
            raise OptionError("the collapsed estimator needs samples >= 2; the data has 1")
        interval, up = np.divmod(np.arange(top), k)
        parts = self.intervals if self.is_uniform else 1
        width = np.diff(self.bounds.astype(np.float64), axis=1) / parts
        width = width[:, np.zeros_like(interval)] if self.is_uniform else width[:, interval]
        table = np.zeros((len(self.bounds), 2**self.bits))
        table[:, :top] = -(width**2) * up * (k - up) / (k**2 * (k - 1))
        return np.ascontiguousarray(table * np.asarray(scale, np.float64)[..., None] ** 2, dtype=np.float32)

    @property
    def levels(self) -> NDArray[np.float32]:
        """Levels of each feature, float32 (features, intervals + 1); one row where all features share them."""
        if not self.is_uniform:
            return self.bounds
        low, high = self.bounds[:, :1], self.bounds[:, 1:]
        top = self.intervals * self.samples
        step = ((high.astype(np.float64) - low) / top).astype(np.float32)
        table = low + (np.arange(self.intervals + 1) * self.samples).astype(np.float32) * step
        table[:, -1:] = high
        return table

    def encode(self, X: ArrayLike, seed: int = 0, row_offset: int = 0, threads: int | None = None) -> NDArray[np.uint8]:
        """Round X to levels at random and pack the codes.

        Parameters
        ----------
        X : array_like of shape (rows, features)
            Real numbers within each feature's levels; taken as float32.
        seed : int
            0..2**64-1. The bytes are a function of seed, row number and feature.
        row_offset : int
            The number of X's first row: pieces encoded with their offsets equal the whole.
        threads : int, optional

        Returns
        -------
        ndarray of shape (rows, stride), uint8

        Raises
        ------
        DataError
            A value is NaN, infinite or outside of its feature's levels: the message names row and column.
        """
        x = as_rows(X, self.features)
        out = np.empty((len(x), self.stride), np.uint8)
        row_offset = check_integer("row_offset", row_offset, 0, 2**63)
        if self.encode_into(x, out, check_seed(seed), row_offset, thread_count(threads)):
            row, feature, value = self.first_outside(x)
            low, high = self.bounds[0 if self.is_shared else feature, [0, -1]]
            raise DataError(f"row {row}, column {feature}: {value} is outside of the levels, {low}..{high}")
        return out

    def encode_into(
        self,
        x: NDArray[np.float32],
        out: NDArray[np.uint8],
        seed: int,
        row_offset: int,
        threads: int,
        noise: NDArray[np.float32] | None = None,
        error: NDArray[np.float32] | None = None,
    ) -> bool:
        """Encode checked rows; True where a value was outside of its levels. See `noise_total` for noise and error."""
        return self._coder.encode(x, out, seed, row_offset, self.rounding == "nearest", threads, noise, error)

    def first_outside(self, x: NDArray[np.float32]) -> tuple[int, int, float]:
        """Row, feature and value of the first value that is not within its feature's levels."""
        outside = ~((x >= self.bounds[:, 0]) & (x <= self.bounds[:, -1]))
        row, feature = np.argwhere(outside)[0]
        return int(row), int(feature), float(x[row, feature])

    def noise_scale(self) -> NDArray[np.float64]:
        """What turns the kernel's sums of variance and squared error into squared units of the data."""
        if not self.is_uniform:
            return np.broadcast_to(self._unit() ** 2, self.features).copy()
        width = np.diff(self.bounds.astype(np.float64), axis=1)[:, 0] / self.intervals
        return np.broadcast_to(width**2, self.features).copy()

    def _packed(self, packed: ArrayLike) -> NDArray[np.uint8]:
        array = np.asarray(packed)
        if array.ndim != 2 or array.dtype != np.uint8 or array.shape[1] != self.stride:
            raise DataError(f"packed rows are uint8 of shape (rows, {self.stride}); got {array.dtype} {array.shape}")
        return np.ascontiguousarray(array)

    def decode(self, packed: ArrayLike, threads: int | None = None) -> NDArray[np.float32]:
        """Means m(t) of packed rows (rows, stride): float32 (rows, features)."""
        rows = self._packed(packed)
        out = np.empty((len(rows), self.features), np.float32)
        self.decode_into(rows, out, thread_count(threads))
        return out

    def decode_into(self, packed: NDArray[np.uint8], out: NDArray[np.float32], threads: int) -> None:
        """Decode checked packed rows into float32 (rows, features)."""
        self._coder.decode(packed, out, threads)

    def codes(self, packed: ArrayLike, threads: int | None = None) -> NDArray[np.uint8]:
        """Codes t of packed rows (rows, stride): uint8 (rows, features)."""
        return kernel.unpack(self._packed(packed), self.features, self.bits, thread_count(threads))

    def draw(
        self,
        packed: ArrayLike,
        seed: int = 0,
        row_offset: int = 0,
        rows: ArrayLike | None = None,
        threads: int | None = None,
    ) -> NDArray[np.float32]:
        """The k samples that packed rows stand for, the ups assigned to samples at random (FORMAT.md, section 2).

        Parameters
        ----------
        packed : array_like of shape (m, stride), uint8
        seed : int
            Of this drawing; independent of the seed of the encoding.
        row_offset : int
            Number of the first row, or
        rows : array_like of shape (m,), integers, optional
            each row's number.

        Returns
        -------
        ndarray of shape (samples, m, features), float32
        """
        array = self._packed(packed)
        row_offset = check_integer("row_offset", row_offset, 0, 2**63)
        if rows is not None:
            rows = np.asarray(rows)
            if rows.shape != (len(array),) or (rows.dtype.kind not in "iu" and rows.size) or (rows < 0).any():
                raise OptionError(f"rows must be {len(array)} row numbers, one a packed row; got {rows.dtype} {rows.shape}")
            rows = np.ascontiguousarray(rows, np.uint64)
        out = np.empty((self.samples, len(array), self.features), np.float32)
        self._coder.draw(array, out, check_seed(seed), row_offset, rows, thread_count(threads))
        return out

    def __reduce__(self) -> tuple[Any, ...]:
        levels = (self.bounds[:, 0], self.bounds[:, 1]) if self.is_uniform else (self.bounds,)
        make = Codec.uniform if self.is_uniform else Codec
        return make, (*levels, self.bits, self.samples, self.rounding, self.features)

    def __repr__(self) -> str:
        kind = "uniform" if self.is_uniform else "table"
        return f"Codec({self.features} features, bits={self.bits}, samples={self.samples}, {kind} levels)"


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float32]:
    """A float32 copy, which stays as it is whatever becomes of the caller's array."""
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is reported as such
            return np.array(values, np.float32, order="C")
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} must be numbers, as many for each feature: {error}") from error


def noise_total(total: NDArray[np.float64], groups: NDArray[np.float32]) -> NDArray[np.float64]:
    """Total + groups, added group by group: the result does not depend on how the rows were cut into blocks."""
    if groups.shape[1] >= WIDE:
        total = total.copy()
        for group in groups:
            total += group
        return total
    parts = np.concatenate([total[None], groups.astype(np.float64)])
    last: NDArray[np.float64] = np.add.accumulate(parts, axis=0)[-1]
    return last


__all__ = ["Codec", "interval_count", "noise_total", "row_bytes", "row_stride"]
