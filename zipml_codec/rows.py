"""A pass over a source: float32 blocks of a fixed number of rows, whatever blocks the source has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .formats.sources import Block, Source
from .kernels.codes import GROUP
from .progress import Progress

BLOCK_BYTES = 8 << 20
MOST_ROWS = 65536
ADVICE = "leave such rows out with nonfinite='drop' (--nonfinite drop), or fill them first"


@dataclass
class Chunk:
    """Rows in the form that the kernels take: float32 values, labels or None, kept columns in parts, the first row's number."""

    values: NDArray[np.float32]
    labels: NDArray[np.float32] | None
    first_row: int
    kept: dict[str, list[NDArray[Any]]] = field(default_factory=dict)


def block_rows(features: int) -> int:
    """Rows of a block: about BLOCK_BYTES of float32, a multiple of the rows whose noise is summed together."""
    rows = BLOCK_BYTES // (4 * features)
    return int(min(MOST_ROWS, max(GROUP, rows // GROUP * GROUP)))


class Rows:
    """A pass over a source: float32 blocks of a fixed number of rows, non-finite rows found or left out."""

    def __init__(
        self,
        source: Source,
        nonfinite: str,
        name: str,
        progress: Callable[..., Progress],
        clip: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    ) -> None:
        self.source, self.nonfinite, self.clip = source, nonfinite, clip
        self.clipped: NDArray[np.int64] | None = None  # values of each column that `clip` moved
        self.dropped = self.bytes = 0
        self.wide = False  # whether the source's numbers have a greater range than float32
        self._moved: NDArray[np.float64] | None = None  # least and most that float32 moved values of each column by
        self._labels_moved: NDArray[np.float64] | None = None  # the same of each label, and its own least and most
        self._name, self._progress = name, progress

    def __iter__(self) -> Iterator[Chunk]:
        buffer: NDArray[np.float32] | None = None
        labels: NDArray[np.float32] | None = None
        kept: dict[str, list[NDArray[Any]]] = {}
        filled = row = 0
        size = MOST_ROWS if self.source.features is None else block_rows(self.source.features)
        with self._progress(self._name, self.source.rows, self.source.nbytes) as bar:
            for block in self.source.blocks(size):
                values, y = block.values, block.labels
                if buffer is None:
                    size = block_rows(values.shape[1])
                    buffer = np.empty((size, values.shape[1]), np.float32)
                    labels = None if y is None else np.empty((size, *y.shape[1:]), np.float32)
                self._measure(values)
                if y is not None:
                    self._measure_labels(y)
                direct = values.dtype == np.float32 and values.flags.c_contiguous and values.flags.aligned
                if filled == 0 and len(values) == size and direct and self.nonfinite == "raise":
                    whole = {key: [column] for key, column in (block.kept or {}).items()}
                    chunk = Chunk(values, None if y is None else self._labels(y, row), row, whole)  # no copy
                    yield self._clip(chunk) if self.clip else chunk
                else:
                    done = 0
                    while done < len(values):
                        count = min(size - filled, len(values) - done)
                        filled += self._fill(buffer, labels, kept, filled, _part(block, done, done + count), row + done)
                        done += count
                        if filled == size:
                            yield self._clip(Chunk(buffer, labels, row + done - size, kept))
                            kept, filled = {}, 0
                row += len(values)
                bar.advance(len(values), self.source.bytes_read())
        if buffer is not None and filled:
            rest = None if labels is None else labels[:filled]
            yield self._clip(Chunk(buffer[:filled], rest, row - filled, kept))

    def _clip(self, chunk: Chunk) -> Chunk:
        """Values moved to the nearest bound, and counted; NaN and infinity stay, to be found as such."""
        x = chunk.values
        if self.clip is None or len(self.clip[0]) not in (1, x.shape[1]):  # the reader refuses another number of features
            return chunk
        low, high = self.clip
        moved = np.where(np.isfinite(x), np.clip(x, low, high), x)
        count = np.count_nonzero(moved != x, axis=0)
        self.clipped = count if self.clipped is None else self.clipped + count
        return Chunk(moved, chunk.labels, chunk.first_row, chunk.kept)

    def _measure(self, values: NDArray[Any]) -> None:
        """Where float32 cannot hold what the source has, learn how far it moves values."""
        self.bytes += values.nbytes
        self.wide |= values.dtype == np.float64
        if values.dtype == np.float64 or (values.dtype.kind in "iu" and values.dtype.itemsize > 2):
            with np.errstate(over="ignore", invalid="ignore"):
                moved = np.nan_to_num(values.astype(np.float32) - values.astype(np.float64), nan=0, posinf=0, neginf=0)
            bounds = np.stack([moved.min(axis=0), moved.max(axis=0)]) if len(moved) else np.zeros((2, values.shape[1]))
            if self._moved is None:
                self._moved = bounds
            self._moved = np.stack([np.minimum(self._moved[0], bounds[0]), np.maximum(self._moved[1], bounds[1])])

    def _measure_labels(self, y: NDArray[Any]) -> None:
        if y.dtype != np.float64 and not (y.dtype.kind in "iu" and y.dtype.itemsize > 2):
            return
        exact = y.reshape(len(y), -1).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            moved = exact.astype(np.float32) - exact
        both, finite = np.stack([moved, exact]), np.isfinite(moved)
        bounds = np.stack([
            np.where(finite, both, np.inf).min(axis=1, initial=np.inf),
            np.where(finite, both, -np.inf).max(axis=1, initial=-np.inf),
        ])  # fmt: skip
        before = bounds if self._labels_moved is None else self._labels_moved
        self._labels_moved = np.stack([np.minimum(before[0], bounds[0]), np.maximum(before[1], bounds[1])])

    @property
    def labels_rounded(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How far float32 moves values of each label apart, and how far apart they are."""
        if self._labels_moved is None:
            return np.zeros(1), np.zeros(1)
        moved, spread = self._labels_moved[1] - self._labels_moved[0]
        return moved, spread

    @property
    def rounded(self) -> NDArray[np.float64] | None:
        """How far float32 moves values of each column apart; 0 where it moves all alike."""
        return None if self._moved is None else self._moved[1] - self._moved[0]

    def _labels(self, y: NDArray[Any], row: int) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            out = np.ascontiguousarray(y, dtype=np.float32)
        if not np.isfinite(out).all():
            at, label = (int(index) for index in np.argwhere(~np.isfinite(out.reshape(len(out), -1)))[0])
            value = y.reshape(len(y), -1)[at, label]
            raise DataError(f"{self.source.place(row + at, None, label)}: the label is {value}: {ADVICE}")
        return out

    def _fill(
        self,
        buffer: NDArray[np.float32],
        labels: NDArray[np.float32] | None,
        kept: dict[str, list[NDArray[Any]]],
        filled: int,
        block: Block,
        row: int,
    ) -> int:
        """Rows into the buffers from `filled` on; how many stayed."""
        values, y, columns = block.values, block.labels, block.kept or {}
        if self.nonfinite == "drop":
            with np.errstate(over="ignore"):
                keep = np.asarray(np.isfinite(values.astype(np.float32, copy=False)).all(axis=1))
                if y is not None:
                    keep &= np.isfinite(np.asarray(y, np.float32)).reshape(len(y), -1).all(axis=1)
            self.dropped += int(len(keep) - keep.sum())
            values, y = values[keep], None if y is None else y[keep]
            columns = {key: column[keep] for key, column in columns.items()}
        target = buffer[filled : filled + len(values)]
        with np.errstate(over="ignore"):
            np.copyto(target, values, casting="unsafe")
        if labels is not None and y is not None:
            labels[filled : filled + len(values)] = self._labels(y, row)
        for key, column in columns.items():
            kept.setdefault(key, []).append(column)
        return len(values)


def _part(block: Block, start: int, end: int) -> Block:
    """Some rows of a block."""
    labels = None if block.labels is None else block.labels[start:end]
    return Block(block.values[start:end], labels, {key: column[start:end] for key, column in (block.kept or {}).items()})
