"""A pass over a source: float32 blocks of a fixed number of rows, whatever blocks the source has.

The source is read in a thread of its own, and blocks that float32 does not hold as they are, or that are searched for NaN, are
prepared in others, while the rows before are in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ahead import map_ahead
from .errors import DataError
from .formats.sources import Block, Source
from .kernels.codes import GROUP
from .progress import Progress

BLOCK_BYTES = 8 << 20
MOST_ROWS = 65536
PIECE = 1 << 15  # values that are measured together: they stay in the cache
ADVICE = "leave such rows out with nonfinite='drop' (--nonfinite drop), or fill them first"


@dataclass
class Chunk:
    """Rows in the form that the kernels take, float32, and where they are in the source."""

    values: NDArray[np.float32]
    labels: NDArray[np.float32] | None
    first_row: int
    next_row: int  # where in the source the rows after these begin
    kept: dict[str, list[NDArray[Any]]]  # columns in parts: types of two need not be the same
    numbers: NDArray[np.int64] | None = None  # of the rows in the source, where some were left out
    moved: NDArray[np.bool_] | None = None  # which values were moved to the nearest level

    @property
    def all_numbers(self) -> NDArray[np.int64]:
        """The number in the source of each row."""
        return np.arange(self.first_row, self.first_row + len(self.values)) if self.numbers is None else self.numbers

    def number(self, row: int) -> int:
        """The number in the source of a row of these."""
        return self.first_row + row if self.numbers is None else int(self.numbers[row])

    def cut(self, start: int, stop: int) -> Chunk:
        """Rows start..stop-1, of a chunk whose columns are of one part."""
        end = self.next_row if stop == len(self.values) else self.number(stop)
        labels = None if self.labels is None else self.labels[start:stop]
        numbers = None if self.numbers is None else self.numbers[start:stop]
        kept = {name: [parts[0][start:stop]] for name, parts in self.kept.items()}
        return Chunk(self.values[start:stop], labels, self.number(start), end, kept, numbers)


def join(chunks: list[Chunk]) -> Chunk:
    """Chunks that follow one another in one."""
    if len(chunks) == 1:
        return chunks[0]
    numbers = None
    if any(chunk.numbers is not None for chunk in chunks):
        numbers = np.concatenate([chunk.all_numbers for chunk in chunks])
    kept = {name: [part for chunk in chunks for part in chunk.kept[name]] for name in chunks[0].kept}
    labels = [chunk.labels for chunk in chunks if chunk.labels is not None]
    return Chunk(
        np.concatenate([chunk.values for chunk in chunks]),
        np.concatenate(labels) if labels else None,
        chunks[0].first_row,
        chunks[-1].next_row,
        kept,
        numbers,
    )


@dataclass
class Losses:
    """What float32 and dropping cost, so far. All that a pass learns of its source, beyond the rows themselves.

    Attributes
    ----------
    seen, kept : int
        Rows of the source, and of these those that are not left out.
    nbytes : int
        Of the rows seen, as they came.
    wide : bool
        Whether the source's numbers have a greater range than float32.
    moved : ndarray of shape (2, features), float64
        The least and the most that float32 moved values of each column by; empty where it holds what there is.
    labels : ndarray of shape (2, 2, labels), float64
        The same of each label, and its own least and most; empty likewise.
    clipped : ndarray of shape (features,), int64
        Values of each column that were moved to the nearest level; empty where nothing is clipped.
    """

    seen: int = 0
    kept: int = 0
    nbytes: int = 0
    wide: bool = False
    moved: NDArray[np.float64] = field(default_factory=lambda: np.empty((2, 0)))
    labels: NDArray[np.float64] = field(default_factory=lambda: np.empty((2, 2, 0)))
    clipped: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def state(self) -> dict[str, NDArray[Any]]:
        """All of it as arrays: what `of` takes."""
        return {f"losses_{part.name}": np.asarray(getattr(self, part.name)) for part in fields(self)}

    @classmethod
    def of(cls, state: dict[str, NDArray[Any]]) -> Losses:
        """The losses that `state` gave."""
        found: dict[str, Any] = {part.name: state[f"losses_{part.name}"] for part in fields(cls)}
        return cls(**{name: array if array.ndim else array.item() for name, array in found.items()})

    @property
    def dropped(self) -> int:
        """Rows that were left out."""
        return self.seen - self.kept

    @property
    def rounded(self) -> NDArray[np.float64] | None:
        """How far float32 moves values of each column apart; 0 where it moves all alike."""
        return np.subtract(self.moved[1], self.moved[0]) if self.moved.size else None

    @property
    def labels_rounded(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How far float32 moves values of each label apart, and how far apart they are."""
        if not self.labels.size:
            return np.zeros(1), np.zeros(1)
        moved, spread = self.labels[1] - self.labels[0]
        return moved, spread


def widen(bounds: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bounds (2, n) of what both are bounds of; of size 0: of nothing."""
    if not bounds.size or not other.size:
        return bounds if bounds.size else other
    return np.stack([np.minimum(bounds[0], other[0]), np.maximum(bounds[1], other[1])])


@dataclass
class Prepared:
    """A block of the source as a chunk, and what was found on the way."""

    chunk: Chunk
    row_bytes: int
    wide: bool
    moved: NDArray[np.float64]
    labels: NDArray[np.float64]


def block_rows(features: int) -> int:
    """Rows of a block: about BLOCK_BYTES of float32, a multiple of the rows whose noise is summed together."""
    rows = BLOCK_BYTES // (4 * features)
    return int(min(MOST_ROWS, max(GROUP, rows // GROUP * GROUP)))


class Rows:
    """A pass over a source: float32 blocks of a fixed number of rows, non-finite rows found or left out.

    `losses` is what it learnt up to the block that was given last: with them, a new pass goes on after that block.
    """

    def __init__(
        self,
        source: Source,
        nonfinite: str,
        name: str,
        progress: Callable[..., Progress],
        clip: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
        losses: Losses | None = None,
        threads: int = 1,
    ) -> None:
        self.source, self.nonfinite, self.clip = source, nonfinite, clip
        self.losses = Losses() if losses is None else losses
        self._name, self._progress, self._threads = name, progress, threads

    def __iter__(self) -> Iterator[Chunk]:
        size = MOST_ROWS if self.source.features is None else block_rows(self.source.features)
        parts: list[Chunk] = []
        missing, end = 0, self.losses.seen
        with self._progress(self._name, self.source.rows, self.source.nbytes) as bar:
            bar.advance(end)
            for block in map_ahead(self._prepare, self._blocks(size, end), self._threads):
                rows, done = len(block.chunk.values), 0
                self._learn(block)
                missing = missing or block_rows(block.chunk.values.shape[1])
                while done < rows:
                    part = block.chunk.cut(done, min(done + missing, rows))
                    parts.append(part)
                    done += len(part.values)
                    missing -= len(part.values)
                    if not missing:
                        yield self._give(join(parts), block.row_bytes)
                        parts, missing = [], block_rows(part.values.shape[1])
                end = block.chunk.next_row
                bar.advance(end - block.chunk.first_row, self.source.bytes_read())
        if parts:
            yield self._give(join(parts), block.row_bytes)
        self.losses.seen = end  # what is left out after the last row that stays

    def _blocks(self, size: int, start: int) -> Iterator[tuple[int, Block]]:
        """Blocks of the source from a row on, and the number of the first row of each."""
        for block in self.source.blocks(size, start):
            yield start, block
            start += len(block.values)

    def _prepare(self, numbered: tuple[int, Block]) -> Prepared:
        """A block of the source in float32, without rows that are to be left out. Touches nothing else: threads do it."""
        first, block = numbered
        values, y, kept = block.values, block.labels, block.kept or {}
        with np.errstate(over="ignore"):  # what float32 does not hold becomes infinite, and is found as such
            x = np.require(values, np.float32, ["C", "A"])
            labels = None if y is None else np.ascontiguousarray(y, np.float32)
        chunk = Chunk(x, labels, first, first + len(x), {name: [column] for name, column in kept.items()})
        finite = None if labels is None else np.isfinite(labels).reshape(len(labels), -1)
        if self.nonfinite == "drop":
            stays = np.asarray(np.isfinite(x).all(axis=1))
            if finite is not None:
                stays &= finite.all(axis=1)
            if not stays.all():
                rows = np.flatnonzero(stays)
                parts = {name: [column[rows]] for name, column in kept.items()}
                chunk = Chunk(x[rows], None if labels is None else labels[rows], first, first + len(x), parts, first + rows)
        elif finite is not None and y is not None and not finite.all():
            at, label = (int(index) for index in np.argwhere(~finite)[0])
            value = told(y.reshape(len(y), -1)[at, label])
            raise DataError(f"{self.source.place(first + at, None, label)}: the label is {value}: {ADVICE}")
        moved, ends = moved_by_float32(values), np.empty((2, 2, 0)) if y is None else label_bounds(y)
        return Prepared(chunk, values.nbytes // max(len(values), 1), values.dtype == np.float64, moved, ends)

    def _learn(self, block: Prepared) -> None:
        self.losses.wide |= block.wide
        self.losses.moved = widen(self.losses.moved, block.moved)
        self.losses.labels = widen(self.losses.labels, block.labels)

    def _give(self, chunk: Chunk, row_bytes: int) -> Chunk:
        """The chunk, clipped where that is wanted; the losses are now those up to its end."""
        losses = self.losses
        losses.nbytes += row_bytes * (chunk.next_row - losses.seen)
        losses.seen, losses.kept = chunk.next_row, losses.kept + len(chunk.values)
        x = chunk.values
        if self.clip is None or len(self.clip[0]) not in (1, x.shape[1]):  # the reader refuses another number of features
            return chunk
        low, high = self.clip
        moved = np.where(np.isfinite(x), np.clip(x, low, high), x)  # NaN and infinity stay, to be found as such
        changed = moved != x
        count = np.count_nonzero(changed, axis=0)
        losses.clipped = losses.clipped + count if losses.clipped.size else count
        return replace(chunk, values=moved, moved=changed)


def told(value: Any, wide: bool = False) -> str:
    """A value that is not finite, for people: what is missing came as NaN; if `wide`, what float32 does not hold as infinity."""
    return f"{value}{', or missing' if np.isnan(value) else ', or beyond float32' if wide else ''}"


def rounds(dtype: np.dtype[Any]) -> bool:
    """Whether float32 does not hold all numbers of a type."""
    return dtype == np.float64 or (dtype.kind in "iu" and dtype.itemsize > 2)


def moved_by_float32(values: NDArray[Any]) -> NDArray[np.float64]:
    """The least and the most that float32 moves values of each column by, (2, features); of size 0 where it moves none."""
    if not rounds(values.dtype) or not len(values):
        return np.empty((2, 0))
    bounds, step = np.empty((2, 0)), max(1, PIECE // values.shape[1])
    for start in range(0, len(values), step):
        piece = values[start : start + step]
        with np.errstate(over="ignore", invalid="ignore"):
            moved = piece.astype(np.float32) - piece.astype(np.float64)
        if not np.isfinite(moved).all():
            moved = np.nan_to_num(moved, nan=0, posinf=0, neginf=0)
        bounds = widen(bounds, np.stack([moved.min(axis=0), moved.max(axis=0)]))
    return bounds


def label_bounds(y: NDArray[Any]) -> NDArray[np.float64]:
    """The least and the most that float32 moves each label by, and its own, (2, 2, labels); of size 0 where it moves none."""
    if not rounds(y.dtype):
        return np.empty((2, 2, 0))
    exact = y.reshape(len(y), -1).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        moved = exact.astype(np.float32) - exact
    both, finite = np.stack([moved, exact]), np.isfinite(moved)
    return np.stack([
        np.where(finite, both, np.inf).min(axis=1, initial=np.inf),
        np.where(finite, both, -np.inf).max(axis=1, initial=-np.inf),
    ])  # fmt: skip
