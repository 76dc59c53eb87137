"""Rows of an array as codes in memory: levels, codes and statistics are those of a file that `compress` makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import as_rows, thread_count
from .codec import Codec
from .compress import given_levels, outline_of
from .errors import OptionError
from .formats.readers import as_source
from .interrupts import Interrupts
from .journal import Journal
from .parts import mean_errors
from .passes import encoded, learn
from .progress import Progress, no_progress
from .request import Request
from .rows import Rows
from .stream import CodeRows


class MemoryRows(CodeRows):
    """Packed rows in memory, to train on. Made by `encode_rows`.

    Attributes
    ----------
    packed : ndarray of shape (rows, stride), uint8
    error : ndarray of shape (features,), float64
        Mean squared error of the decoded values.
    clipped : int
        Values that were moved to the nearest of given levels.
    """

    cold, places, has_exact_copy = False, None, True

    def __init__(
        self,
        packed: NDArray[np.uint8],
        codec: Codec,
        labels: NDArray[np.float32],
        arrays: dict[str, NDArray[Any]],
        chunk_rows: int,
        clipped: int,
        X: Any,
    ) -> None:
        self.packed, self.clipped = packed, clipped
        self.labels, self.label, self.weights = labels, None, None
        self._codec, self._x = codec, X
        self.numbered = codec.samples > 1
        self.shape, self.columns, self.samples, self.bits = (len(packed), codec.features), None, codec.samples, codec.bits
        self.mean, self.std, self.noise, self.error = (arrays[name] for name in ("mean", "std", "noise", "error"))
        self.chunk_rows, self.row_bytes, self.row_offset = chunk_rows, codec.stride, 0
        self.exact = (arrays["sample_rows"], arrays["sample_values"])
        self.name = "X"

    def chunks(self, numbers: NDArray[np.int64], threads: int, spare: int = 0) -> NDArray[np.uint8]:
        """Packed rows of some chunks, (spare + m, stride)."""
        undefined = np.empty((spare, self.packed.shape[1]), np.uint8)
        return np.concatenate([undefined, *(self.chunk(number) for number in numbers.tolist())])

    def chunk(self, number: int) -> NDArray[np.uint8]:
        """Packed rows of one chunk, (m, stride)."""
        return self.packed[number * self.chunk_rows : (number + 1) * self.chunk_rows]

    def whole(self) -> NDArray[np.uint8]:
        """All rows."""
        return self.packed

    def prepare(self, whole: NDArray[np.uint8], first: int, last: int) -> None:
        """Nothing: they are in memory."""

    def settle(self) -> None:
        """Nothing."""

    def kept_column(self, name: str) -> NDArray[Any]:
        """Refused: rows of an array have no columns beside them."""
        raise OptionError(
            f"sample_weight={name!r} is the name of a column; rows of an array have none: give the weights"
        )

    def exact_rows(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows before rounding, (m, features)."""
        return as_rows(self._x[numbers])

    def decoded(self, rows: slice, threads: int) -> NDArray[np.float32]:
        """Decoded rows, (m, features)."""
        return self._codec.decode(self.packed[rows], threads)


def encode_rows(
    X: NDArray[Any],
    y: ArrayLike,
    *,
    bits: int | str = 8,
    samples: int = 1,
    levels: Any = "uniform",
    rounding: str = "stochastic",
    seed: int = 0,
    threads: int | None = None,
    clip: bool = False,
    progress: Callable[..., Progress] = no_progress,
) -> MemoryRows:
    """Codes of X in memory; bytes, levels and statistics as in the file that `compress` makes with the same options.

    Parameters
    ----------
    X : ndarray of shape (rows, features)
        Read block by block: no copy of the whole is made in another type.
    y : array_like of shape (rows,), or (rows, targets)
    bits, samples, levels, rounding, seed, threads, clip
        As in `compress`.

    Returns
    -------
    MemoryRows

    Raises
    ------
    DataError, OptionError
        As in `compress`.
    """
    request = Request(bits, samples, levels, rounding=rounding, seed=seed, threads=threads, clip=clip)
    workers, (given, names) = thread_count(threads), given_levels(request)
    bounds = (given.bounds[:, 0], given.bounds[:, -1]) if given is not None and clip else None
    with as_source(X, y) as source:

        def pass_over(name: str) -> Rows:
            return Rows(source, "raise", name, progress, bounds, threads=workers)

        first = pass_over("statistics")
        learnt = learn(first, request, given, names, workers, Journal(None, {"source": None}, Interrupts()), None)
        codec, outline = outline_of(source, learnt, first.losses, request, given, workers)
        rows = outline.header.rows
        packed, labels = np.empty((rows, codec.stride), np.uint8), np.empty((rows, *np.shape(y)[1:]), np.float32)
        row, total = 0, np.zeros((2, codec.features))
        for block in encoded(pass_over("encoding"), codec, outline, 0, total, workers):
            part = slice(row, row := row + len(block.packed))
            packed[part], labels[part], total = block.packed, dict(block.beside)["labels"], block.total
    noise, error = mean_errors(codec, total, rows)
    arrays = outline.arrays | {"noise": noise, "error": error}
    return MemoryRows(packed, codec, labels, arrays, outline.header.chunk_rows, outline.clipped, X)
