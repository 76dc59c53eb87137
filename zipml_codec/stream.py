"""Rows on their way to the trainer: windows of chunks, packed or float32, in the order of an epoch, split from test rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .ahead import read_ahead
from .arrays import as_rows, thread_count
from .codec import Codec
from .dataset import Dataset
from .errors import DataError, OptionError
from .formats.shards import Places
from .kernels import sgd as kernel
from .labels import choose_label, label_title
from .order import EpochOrder, held_out, unit_rows
from .statistics import ColumnStatistics

BLOCK = 64
KEPT_BYTES = 32 << 20  # data that are read once and kept
PIECE_BYTES = 32 << 20  # windows that are handed on together, where that copies nothing
T = TypeVar("T", bound=np.generic)
Estimator = int
Label = str | int | Sequence[str | int] | None


class TrainingData(Protocol):
    """What the trainer needs of its rows. `exact`: numbers and values of rows that are kept exactly; None: all are.

    `label` is the name of what `labels` are, or the number where they have no names; None of the only ones without a name.
    `labels` are (rows,), or (rows, targets) to train for several at once; `weights` those of the rows, None: all alike.
    `numbered`: whether the trainer asks for the rows' numbers.
    """

    shape: tuple[int, int]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    noise: NDArray[np.float64]
    labels: NDArray[np.float32]
    label: str | int | list[str | int] | None
    weights: NDArray[np.float32] | None
    numbered: bool
    columns: tuple[str, ...] | None
    samples: int
    bits: int
    chunk_rows: int
    row_bytes: int
    row_offset: int
    exact: tuple[NDArray[np.int64], NDArray[np.float32]] | None
    name: str

    @property
    def places(self) -> Places | None:
        """Where rows are in `whole`, once that was made; None where each has its own number's place."""

    @property
    def cold(self) -> bool:
        """Whether rows must still be read, checked or unpacked before their use."""

    def chunk(self, number: int) -> NDArray[Any]:
        """Rows of one chunk, as the kernels hold them."""

    def chunks(self, numbers: NDArray[np.int64], threads: int, spare: int = 0) -> NDArray[Any]:
        """Rows of some chunks, one after another, after `spare` undefined ones."""

    def whole(self) -> NDArray[Any] | None:
        """All rows as one array that costs no memory of its own, or None."""

    def prepare(self, whole: NDArray[Any], first: int, last: int) -> None:
        """Before rows first..last-1 of `whole` are used: ask for them, and check them the first time."""

    def settle(self) -> None:
        """After rows were used: raise CorruptError where they changed meanwhile."""

    def kept_column(self, name: str) -> NDArray[Any]:
        """A column that is carried beside the features."""

    def rows(self, estimator: Estimator, draw_seed: int) -> kernel.Rows:
        """An empty kernel buffer that standardises rows by mean and std."""


def inverse_std(std: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / std; 0 for constant columns, which train to coefficient 0."""
    out: NDArray[np.float64] = np.where(std > 0, 1 / np.where(std > 0, std, 1), 0.0)
    return out


def noise_of(data: TrainingData) -> NDArray[np.float64]:
    """D in standardised units."""
    return data.noise * inverse_std(data.std) ** 2


def padded(vector: ArrayLike) -> NDArray[np.float32]:
    """A float32 vector filled up with zeros to whole blocks of 64."""
    values = np.asarray(vector, np.float32)
    return np.pad(values, (0, -len(values) % BLOCK))


def chosen_labels(
    labels: NDArray[np.float32], label: Label, names: Sequence[str] | None, where: str
) -> tuple[NDArray[np.float32], str | int | list[str | int] | None]:
    """The labels that are meant, (rows,) or, where `label` is a list, (rows, targets), and their names."""
    count = labels.shape[1] if labels.ndim == 2 else 1
    if not isinstance(label, str | int | None):
        if not label:
            raise OptionError("label=[] names no label")
        numbers = [choose_label(one, names, count, where) for one in label]
        if len(set(numbers)) < len(numbers):
            raise OptionError(f"{where}: label={list(label)} names a label twice")
        titles = [label_title(names, number, count) for number in numbers]
        chosen = np.ascontiguousarray(labels.reshape(len(labels), -1)[:, numbers])
        return chosen, [title for title in titles if title is not None]
    number = choose_label(label, names, count, where)
    one = labels if labels.ndim == 1 else np.ascontiguousarray(labels[:, number])
    return one, label_title(names, number, count)


class CodeRows:
    """Packed rows of a zipml file."""

    def __init__(self, data: Dataset, label: Label = None) -> None:
        if data.labels is None:
            raise DataError(f"{data.path} has no labels to train on: compress it with y (--label)")
        self.labels, self.label = chosen_labels(data.labels, label, data.label_names, str(data.path))
        self.weights: NDArray[np.float32] | None = None
        self._data, self._codec = data, data.codec
        self.numbered = data.samples > 1
        self.shape, self.columns, self.samples, self.bits = data.shape, data.columns, data.samples, data.bits
        self.mean, self.std, self.noise = data.mean, data.std, data.noise
        self.chunk_rows, self.row_bytes, self.row_offset = data.chunk_rows, data.stride, data.row_offset
        self.exact: tuple[NDArray[np.int64], NDArray[np.float32]] | None = (data.sample_rows, data.sample_values)
        self.name = str(data.path)

    def chunk(self, number: int) -> NDArray[np.uint8]:
        """Packed rows of one chunk, (m, stride)."""
        return self._data.read_chunk(number)

    def chunks(self, numbers: NDArray[np.int64], threads: int, spare: int = 0) -> NDArray[np.uint8]:
        """Packed rows of some chunks, (spare + m, stride)."""
        return self._data.read_chunks(numbers, threads, spare)

    def whole(self) -> NDArray[np.uint8] | None:
        """All rows, mapped, where the file has them in one piece and they do not fit into one window anyway."""
        return None if self.shape[0] * self.row_bytes <= KEPT_BYTES else self._data.map_rows()

    @property
    def places(self) -> Places | None:
        """Where mapped rows are, which shards are apart."""
        return self._data.places

    @property
    def cold(self) -> bool:
        """Whether chunks are unchecked or compressed, or the file is too large to stay in memory."""
        return self._data.cold

    def prepare(self, whole: NDArray[np.uint8], first: int, last: int) -> None:
        """Ask for mapped rows, and check their chunks against their digests, once."""
        if self.shape[0] * self.row_bytes > KEPT_BYTES:
            self._data.prepare_mapped(whole, first, last)

    def settle(self) -> None:
        """Mapped rows are only as good as the file still is."""
        self._data.settle()

    @property
    def codec(self) -> Codec:
        """What the codes mean."""
        return self._codec

    @property
    def has_exact_copy(self) -> bool:
        """Whether the file holds all rows in exact form too (`--keep-exact`)."""
        return self._data.has_exact_copy

    def kept_column(self, name: str) -> NDArray[Any]:
        """A column that was carried through, by its name."""
        if name not in self._data.kept:
            raise OptionError(f"{self.name} has no kept column {name!r}: compress with keep={name!r} (--keep)")
        return np.asarray(self._data.kept[name])

    def exact_rows(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows in exact form, by their numbers in the file: (m, features)."""
        return self._data.exact_rows(numbers)

    def decoded(self, rows: slice, threads: int) -> NDArray[np.float32]:
        """Decoded rows, (m, features)."""
        return self._data.decode(rows, threads)

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

    samples, bits, row_offset, cold, numbered = 1, 32, 0, False, False
    columns: tuple[str, ...] | None = None
    places: Places | None = None
    exact: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None

    def __init__(self, X: ArrayLike, y: ArrayLike, label: Label = None) -> None:
        self._x = as_rows(X)
        labels = np.asarray(y, np.float32)
        if labels.ndim == 2 and labels.shape[1] == 1 and not isinstance(label, list | tuple):
            labels = labels[:, 0]
        if labels.ndim not in (1, 2) or 0 in labels.shape[1:]:
            raise DataError(f"y must be a vector, or a matrix of a column for each label; got shape {labels.shape}")
        self.labels, self.label = chosen_labels(np.ascontiguousarray(labels), label, None, "y")
        self.weights: NDArray[np.float32] | None = None
        if len(self._x) != len(self.labels):
            raise DataError(f"X has {len(self._x)} rows, y {len(self.labels)}")
        if len(self._x) == 0 or self._x.shape[1] == 0:
            raise DataError(f"X has shape {self._x.shape}: there is nothing to train on")
        self.shape = (self._x.shape[0], self._x.shape[1])
        statistics = ColumnStatistics(self.shape[1], sketch=False, sample=False)  # NumPy's std would copy X to float64
        for name, array, finite in (
            ("X", self._x, statistics.add(self._x, thread_count(None))),
            ("y", self.labels, np.isfinite(self.labels).all()),
        ):
            if not finite:
                where = ", ".join(str(at) for at in np.argwhere(~np.isfinite(array))[0])
                raise DataError(f"{name}[{where}] is not finite: leave such rows out, or fill them first")
        self.mean, self.std = statistics.mean, statistics.std
        self.noise = np.zeros(self.shape[1])
        self.row_bytes = 4 * self.shape[1]
        self.chunk_rows = min(self.shape[0], max(1, (2 << 20) // self.row_bytes))
        self.name = "X"

    def chunk(self, number: int) -> NDArray[np.float32]:
        """Rows of one chunk, (m, features)."""
        return self._x[number * self.chunk_rows : (number + 1) * self.chunk_rows]

    def chunks(self, numbers: NDArray[np.int64], threads: int, spare: int = 0) -> NDArray[np.float32]:
        """Rows of some chunks, (spare + m, features)."""
        undefined = np.empty((spare, self.shape[1]), np.float32)
        return np.concatenate([undefined, *(self.chunk(number) for number in numbers.tolist())])

    def whole(self) -> NDArray[np.float32]:
        """All rows."""
        return self._x

    def prepare(self, whole: NDArray[np.float32], first: int, last: int) -> None:
        """Nothing: they are in memory, and were checked at the beginning."""

    def settle(self) -> None:
        """Nothing."""

    def kept_column(self, name: str) -> NDArray[Any]:
        """Refused: rows of an array have no columns beside them."""
        raise OptionError(f"sample_weight={name!r} is the name of a column; rows of an array have none: give the weights")

    def rows(self, estimator: Estimator, draw_seed: int) -> kernel.Rows:
        """An empty buffer of float32 rows."""
        return kernel.Rows(self.shape[1], mean=padded(self.mean), scale=padded(inverse_std(self.std)))


class Window:
    """Rows in memory: a buffer, and which of its rows to take, in order. Before it, `room` may have some more rows' place."""

    def __init__(
        self,
        data: NDArray[Any],
        labels: NDArray[np.float32],
        numbers: NDArray[np.uint64] | None,
        order: NDArray[np.uintp],
        weights: NDArray[np.float32] | None = None,
        room: NDArray[Any] | None = None,
    ) -> None:
        self.data, self.labels, self.numbers, self.order, self.weights = data, labels, numbers, order, weights
        self.room = data if room is None else room

    def of(self, order: NDArray[np.uintp]) -> Window:
        """The same buffer in another order."""
        return Window(self.data, self.labels, self.numbers, order, self.weights, self.room)

    def after(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The buffer with rows before it: where there is room for them, nothing else is copied."""
        start = len(self.room) - len(self.data) - len(rows)
        if start < 0:
            return np.concatenate([rows, self.data])
        self.room[start : start + len(rows)] = rows
        return self.room[start:]


class Stream:
    """Epochs over the training rows or the test rows of some data; bounded memory, every row once an epoch.

    Data that are one array, in memory or mapped from a file, are never copied: a window is an order of row numbers.
    Others, compressed ones say, are read window by window. While there is something to read, check or unpack, the next
    window is made as one is in use; in memory, a third thread would only keep the kernels' threads waiting for each other.

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
        self._held = held_out(seed, test_fraction, 0, rows) if test_fraction else None
        self.test_rows = 0 if self._held is None else int(np.count_nonzero(self._held))
        self.train_rows = rows - self.test_rows
        self.small = rows * data.row_bytes <= KEPT_BYTES
        self._whole: NDArray[Any] | None = None
        self._rows: NDArray[Any] | None = None  # `_whole` without what fills up the last chunk
        self._places: Places | None = None  # of rows in it
        self._labels, self._weights = data.labels, data.weights
        self._numbers: NDArray[np.uint64] | None = None

    def training(self, rows: slice) -> NDArray[np.bool_] | None:
        """Which of some rows are trained on; None where all are."""
        return None if self._held is None else ~self._held[rows]

    def _all_rows(self, threads: int) -> NDArray[Any] | None:
        """All rows as one array, or None. Data that fit in one window are read once."""
        if self._whole is None:
            self._whole = self.data.whole()
            if self._whole is None and self.small:
                count = -(-self.data.shape[0] // self.data.chunk_rows)
                self._whole = self.data.chunks(np.arange(count), threads)
            elif self._whole is not None and self.data.places is not None:
                self._rows, self._places = self._whole, self.data.places
                self._labels = self._places.spread(self.data.labels)
                self._weights = None if self.data.weights is None else self._places.spread(self.data.weights)
                return self._whole
            self._rows = None if self._whole is None else self._whole[: self.data.shape[0]]
        return self._whole

    def _row_numbers(self, rows: NDArray[np.uint64] | None) -> NDArray[np.uint64] | None:
        """Numbers of rows in the data they came from, where the trainer draws samples by them."""
        if not self.data.numbered:
            return None
        if rows is not None:
            return rows + np.uint64(self.data.row_offset)
        if self._numbers is None:
            numbers = np.arange(self.data.shape[0], dtype=np.uint64) + np.uint64(self.data.row_offset)
            self._numbers = numbers if self._places is None else self._places.spread(numbers)
        return self._numbers

    def windows(self, epoch: int, *, test: bool = False, threads: int = 1, spare: int = 0) -> Iterator[Window]:
        """Windows of an epoch's training rows, or of the test rows; `threads` make them, `spare` rows have room before each."""
        if test and not self.test_rows:
            return iter(())
        made = self._windows(epoch, test, threads, spare)
        return read_ahead(made) if self.data.cold and not self.small else made

    def _windows(self, epoch: int, test: bool, threads: int, spare: int) -> Iterator[Window]:
        data, rows = self.data, self.data.shape[0]
        if self._all_rows(threads) is not None:
            yield from self._mapped(epoch, test, threads)
            return
        order = EpochOrder(rows, data.chunk_rows, data.row_bytes, self.seed, epoch)
        for number in range(order.windows):
            chunks = order.units_of(number, number + 1)
            room = data.chunks(chunks, threads, spare)
            buffer = room[spare:]
            places = order.shuffle(np.arange(len(buffer), dtype=np.uint64), number)
            listed = (chunks[:, None] * order.unit + np.arange(order.unit)).reshape(-1)
            numbers: NDArray[np.uint64] = listed[listed < rows].astype(np.uint64)
            weights = None if data.weights is None else data.weights[numbers]
            order_ = self._part(places, numbers, test)
            yield Window(buffer, data.labels[numbers], self._row_numbers(numbers), order_, weights, room)

    def _mapped(self, epoch: int, test: bool, threads: int) -> Iterator[Window]:
        """Windows of one array: orders of its rows, several windows in one."""
        data, whole, rows, count = self.data, self._whole, self._rows, self.data.shape[0]
        assert whole is not None and rows is not None
        order = EpochOrder(count, unit_rows(data.row_bytes), data.row_bytes, self.seed, epoch)
        together = max(1, -(-PIECE_BYTES // (order.window * order.unit * data.row_bytes)))
        for first in range(0, order.windows, together):
            if data.cold:
                for row in (order.units_of(first, first + together) * order.unit).tolist():
                    data.prepare(whole, row, min(row + order.unit, count))
            numbers = order.rows_of(first, first + together, threads)
            part = self._part(numbers, None, test)
            places = part if self._places is None else self._places.of(part)
            yield Window(rows, self._labels, self._row_numbers(None), places, self._weights)

    def _part(self, places: NDArray[np.uint64], rows: NDArray[np.uint64] | None, test: bool) -> NDArray[np.uintp]:
        """Of a window's places, those of training or of test rows; `rows`: the row of each place, its own number where None."""
        if self._held is not None:
            held = self._held[places] if rows is None else self._held[rows[places]]
            places = places[held == test]
        return places.astype(np.uintp, copy=False)

    def batches(self, epoch: int, batch: int, done: int = 0, threads: int = 1) -> Iterator[Window]:
        """Windows of an epoch whose rows are whole batches but for the last: what is left over joins the next window.

        Parameters
        ----------
        epoch, batch : int
        done : int
            Rows, in whole batches, that are to be left out at the beginning: they were trained on.
        threads : int
            Of making the order.
        """
        left: Window | None = None
        for window in self.windows(epoch, threads=threads, spare=batch):
            if left is not None and len(left.order):
                window = _join(left, window)
            whole = len(window.order) // batch * batch
            skipped = min(done, whole)
            done -= skipped
            if skipped < whole:
                yield window.of(window.order[skipped:whole])
            left = window.of(window.order[whole:])
        if left is not None and len(left.order) and not done:
            yield left

    def sample(self, count: int) -> Window:
        """At most `count` training rows, a uniform sample, gathered in one pass: in random order, the order being 0, 1, ..."""
        share = min(1.0, count / max(self.train_rows, 1))
        parts = [part for part in self._sampled(share) if len(part.data)]
        data = np.concatenate([part.data for part in parts])[:count]
        labels = np.concatenate([part.labels for part in parts])[:count]
        numbers = _joined([part.numbers for part in parts])
        weights = _joined([part.weights for part in parts])
        self.data.settle()
        order = np.arange(len(data), dtype=np.uintp)
        numbers = None if numbers is None else numbers[:count]
        return Window(data, labels, numbers, order, None if weights is None else weights[:count])

    def _sampled(self, share: float) -> Iterator[Window]:
        generator = np.random.Generator(np.random.Philox(self.seed))
        for window in self.windows(2**30):
            keep = window.order if share >= 1 else window.order[generator.random(len(window.order)) < share]
            yield _picked(window, keep)


def _picked(window: Window, keep: NDArray[np.uintp]) -> Window:
    """Some rows of a window as a window of their own."""
    numbers = None if window.numbers is None else window.numbers[keep]
    weights = None if window.weights is None else window.weights[keep]
    return Window(window.data[keep], window.labels[keep], numbers, np.arange(len(keep), dtype=np.uintp), weights)


def _join(left: Window, window: Window) -> Window:
    """What is left of one window before the next: of one array just the orders, else the few rows with the next buffer."""
    if left.data is window.data:
        return window.of(np.concatenate([left.order, window.order]))
    few = _picked(left, left.order)
    numbers = _joined([few.numbers, window.numbers])
    weights = _joined([few.weights, window.weights])
    data, labels = window.after(few.data), np.concatenate([few.labels, window.labels])
    return Window(data, labels, numbers, np.concatenate([few.order, window.order + np.uintp(len(few.data))]), weights)


def _joined(parts: Sequence[NDArray[T] | None]) -> NDArray[T] | None:
    """Parts in one; None where there are none."""
    kept = [part for part in parts if part is not None]
    return np.concatenate(kept) if kept else None
