"""Rows on their way to the trainer: windows of chunks, packed or float32, in the order of an epoch, split from test rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import as_rows
from .codec import Codec
from .dataset import Dataset
from .errors import DataError
from .kernels import sgd as kernel
from .order import WINDOW_BYTES, EpochOrder, held_out

BLOCK = 64
Estimator = int


class TrainingData(Protocol):
    """What the trainer needs of its rows. `exact`: numbers and values of rows that are kept exactly; None: all are."""

    shape: tuple[int, int]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    noise: NDArray[np.float64]
    labels: NDArray[np.float32]
    columns: tuple[str, ...] | None
    samples: int
    chunk_rows: int
    row_bytes: int
    row_offset: int
    exact: tuple[NDArray[np.int64], NDArray[np.float32]] | None
    name: str

    def chunk(self, number: int) -> NDArray[Any]:
        """Rows of one chunk, as the kernel's Rows hold them."""

    def rows(self, estimator: Estimator, draw_seed: int) -> kernel.Rows:
        """An empty kernel buffer that standardises rows by mean and std."""


def inverse_std(std: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / std; 0 for constant columns, which train to coefficient 0."""
    out: NDArray[np.float64] = np.where(std > 0, 1 / np.where(std > 0, std, 1), 0.0)
    return out


def padded(vector: ArrayLike) -> NDArray[np.float32]:
    """A float32 vector filled up with zeros to whole blocks of 64."""
    values = np.asarray(vector, np.float32)
    return np.pad(values, (0, -len(values) % BLOCK))


class CodeRows:
    """Packed rows of a zipml file."""

    def __init__(self, data: Dataset) -> None:
        if data.labels is None:
            raise DataError(f"{data.path} has no labels to train on: compress it with y (--label)")
        self._data, self._codec = data, data.codec
        self.shape, self.columns, self.samples = data.shape, data.columns, data.samples
        self.mean, self.std, self.noise, self.labels = data.mean, data.std, data.noise, data.labels
        self.chunk_rows, self.row_bytes, self.row_offset = data.chunk_rows, data.stride, data.row_offset
        self.exact: tuple[NDArray[np.int64], NDArray[np.float32]] | None = (data.sample_rows, data.sample_values)
        self.name = str(data.path)

    def chunk(self, number: int) -> NDArray[np.uint8]:
        """Packed rows of one chunk, (m, stride)."""
        return self._data.read_chunk(number)

    def rows(self, estimator: Estimator, draw_seed: int) -> kernel.Rows:
        """An empty buffer of packed rows."""
        return code_rows(self._codec, self.mean, self.std, estimator, draw_seed)


def code_rows(
    codec: Codec, mean: NDArray[np.float64], std: NDArray[np.float64], estimator: Estimator, draw_seed: int = 0
) -> kernel.Rows:
    """A kernel buffer for packed rows of `codec`, standardised by mean and std."""
    scale = inverse_std(std)
    values = codec.values(mean, scale)
    affine = tuple(padded(part) for part in values) if codec.is_uniform else None
    table = None if codec.is_uniform else values[0]
    correction = codec.correction(scale) if estimator == kernel.COLLAPSED else None
    return kernel.Rows(
        codec.features,
        codec.bits,
        codec.samples,
        codec.stride,
        affine=affine,
        table=table,
        correction=correction,
        estimator=estimator,
        draw_seed=draw_seed,
    )


class FloatRows:
    """Rows of a float32 array: the same training on exact data, to compare with."""

    samples, row_offset = 1, 0
    columns: tuple[str, ...] | None = None
    exact: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None

    def __init__(self, X: ArrayLike, y: ArrayLike) -> None:
        self._x = as_rows(X)
        self.labels = np.ascontiguousarray(y, dtype=np.float32).reshape(-1)
        if len(self._x) != len(self.labels):
            raise DataError(f"X has {len(self._x)} rows, y {len(self.labels)}")
        if len(self._x) == 0 or self._x.shape[1] == 0:
            raise DataError(f"X has shape {self._x.shape}: there is nothing to train on")
        for name, array in (("X", self._x), ("y", self.labels)):
            if not np.isfinite(array).all():
                where = ", ".join(str(at) for at in np.argwhere(~np.isfinite(array))[0])
                raise DataError(f"{name}[{where}] is not finite: leave such rows out, or fill them first")
        self.shape = (self._x.shape[0], self._x.shape[1])
        self.mean, self.std = self._x.mean(axis=0, dtype=np.float64), self._x.std(axis=0, dtype=np.float64)
        self.std = np.where(self._x.max(axis=0) > self._x.min(axis=0), self.std, 0.0)
        self.noise = np.zeros(self.shape[1])
        self.row_bytes = 4 * self.shape[1]
        self.chunk_rows = min(self.shape[0], max(1, (2 << 20) // self.row_bytes))
        self.name = "X"

    def chunk(self, number: int) -> NDArray[np.float32]:
        """Rows of one chunk, (m, features)."""
        return self._x[number * self.chunk_rows : (number + 1) * self.chunk_rows]

    def rows(self, estimator: Estimator, draw_seed: int) -> kernel.Rows:
        """An empty buffer of float32 rows."""
        return kernel.Rows(self.shape[1], mean=padded(self.mean), scale=padded(inverse_std(self.std)))


class Window:
    """Rows in memory: the buffer, and the order in which to take those of one part."""

    def __init__(
        self, data: NDArray[Any], labels: NDArray[np.float32], numbers: NDArray[np.uint64], order: NDArray[np.uintp]
    ) -> None:
        self.data, self.labels, self.numbers, self.order = data, labels, numbers, order


class Stream:
    """Epochs over the training rows or the test rows of some data; bounded memory, every row once an epoch.

    Parameters
    ----------
    data : TrainingData
    seed : int
        Of order and split.
    test_fraction : float
        Each row is held out with this probability, decided by its number and the seed.
    """

    def __init__(self, data: TrainingData, seed: int, test_fraction: float) -> None:
        self.data, self.seed, self.test_fraction = data, seed, test_fraction
        rows = data.shape[0]
        self.test_rows = int(held_out(seed, test_fraction, 0, rows).sum()) if test_fraction else 0
        self.train_rows = rows - self.test_rows
        self._cached: NDArray[Any] | None = None

    def _buffer(self, chunks: NDArray[np.int64]) -> NDArray[Any]:
        """The rows of some chunks, one after the other. Data that fit in one window are read once."""
        total = self.data.shape[0] * self.data.row_bytes
        if total <= WINDOW_BYTES:
            if self._cached is None:
                count = -(-self.data.shape[0] // self.data.chunk_rows)
                self._cached = np.concatenate([self.data.chunk(number) for number in range(count)])
            return self._cached
        return np.concatenate([self.data.chunk(int(number)) for number in chunks])

    def windows(self, epoch: int, *, test: bool = False) -> Iterator[Window]:
        """Windows of an epoch's training rows, or of the test rows."""
        data = self.data
        order = EpochOrder(data.shape[0], data.chunk_rows, data.chunk_rows * data.row_bytes, self.seed, epoch)
        small = data.shape[0] * data.row_bytes <= WINDOW_BYTES
        groups = [np.sort(order.chunks)] if small else order.chunk_windows()
        for chunks in groups:
            numbers, taken = order.shuffle(chunks)
            if self.test_fraction:
                spans = [order.rows_of(int(chunk)) for chunk in chunks]
                held = [held_out(self.seed, self.test_fraction, start, end - start) for start, end in spans]
                taken = taken[np.concatenate(held)[taken] == test]
            elif test:
                return
            yield Window(
                self._buffer(chunks),
                data.labels[numbers],
                (numbers + data.row_offset).astype(np.uint64),
                taken.astype(np.uintp),
            )

    def batches(self, epoch: int, batch: int) -> Iterator[Window]:
        """Windows of an epoch whose rows are whole batches but for the last: what is left over joins the next window."""
        left: Window | None = None
        for window in self.windows(epoch):
            if left is not None:
                window = _join(left, window)
            whole = len(window.order) // batch * batch
            yield Window(window.data, window.labels, window.numbers, window.order[:whole])
            rest = window.order[whole:]
            left = Window(
                window.data[rest], window.labels[rest], window.numbers[rest], np.arange(len(rest), dtype=np.uintp)
            )
        if left is not None and len(left.order):
            yield left

    def sample(self, count: int) -> Window:
        """At most `count` training rows, a uniform sample, gathered in one pass: in random order, the order being 0, 1, ..."""
        share = min(1.0, count / max(self.train_rows, 1))
        parts = [part for part in self._sampled(share) if len(part.data)]
        data, labels, numbers = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("data", "labels", "numbers")
        )
        data, labels, numbers = data[:count], labels[:count], numbers[:count]
        return Window(data, labels, numbers, np.arange(len(data), dtype=np.uintp))

    def _sampled(self, share: float) -> Iterator[Window]:
        generator = np.random.Generator(np.random.Philox(self.seed))
        for window in self.windows(2**30):
            keep = window.order if share >= 1 else window.order[generator.random(len(window.order)) < share]
            yield Window(
                window.data[keep], window.labels[keep], window.numbers[keep], np.arange(len(keep), dtype=np.uintp)
            )


def _join(left: Window, window: Window) -> Window:
    if not len(left.order):
        return window
    return Window(
        np.concatenate([left.data, window.data]),
        np.concatenate([left.labels, window.labels]),
        np.concatenate([left.numbers, window.numbers]),
        np.concatenate([left.order, window.order + len(left.data)]).astype(np.uintp),
    )
