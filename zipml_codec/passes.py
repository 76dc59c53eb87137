"""The two streamed passes of a compression. First statistics, then codes; each goes on from where a journal says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ahead import read_ahead
from .codec import Codec, noise_total
from .errors import DataError
from .formats.container import EXACT
from .formats.header import Header
from .formats.shardwriter import ShardedWriter
from .formats.sources import Source
from .formats.writer import ContainerWriter
from .journal import Journal, State
from .kept import KeptTypes
from .kernels.codes import GROUP
from .parts import ShardStatistics, Statistics, mean_errors
from .request import Request
from .rows import ADVICE, Chunk, Rows, block_rows, told
from .statistics import ColumnStatistics


@dataclass
class Outline:
    """What the first pass decides of the file, and what is to be told of it."""

    header: Header
    arrays: dict[str, NDArray[Any]]
    labels: dict[str, np.dtype[Any]]
    kept: KeptTypes
    choice: str
    dropped: int
    clipped: int
    nbytes: int
    exact: bool

    @property
    def rowwise(self) -> dict[str, np.dtype[Any]]:
        """The file's row arrays, and the type of a row of each."""
        exact = {EXACT: np.dtype(("<f4", (self.header.features,)))} if self.exact else {}
        return self.labels | exact | self.kept.rowwise

    def state(self) -> State:
        """All of it, for the journal."""
        told = {name: getattr(self, name) for name in ("choice", "dropped", "clipped", "nbytes", "exact")}
        beside = {"labels": shape_of(self.labels), "kept": self.kept.state()}
        about = {"phase": "codes", "header": asdict(self.header), **beside, "told": told}
        return State(about, {f"file_{name}": array for name, array in self.arrays.items()})

    @classmethod
    def of(cls, saved: State, name: str) -> Outline:
        """The outline that `state` gave; `name`: the source's."""
        about, kept = saved.about, KeptTypes(name)
        kept.restore(about["kept"])
        return cls(Header(**about["header"]), saved.part("file_"), labels_of(about["labels"]), kept, **about["told"])


def labels_of(shape: Sequence[int] | None) -> dict[str, np.dtype[Any]]:
    """The row array of labels, whose rows have this shape; none where it is None."""
    return {} if shape is None else {"labels": np.dtype(("<f4", tuple(shape)))}


def shape_of(labels: dict[str, np.dtype[Any]]) -> list[int] | None:
    """The shape that `labels_of` takes."""
    return list(labels["labels"].shape) if labels else None


@dataclass
class Learnt:
    """What the first pass found: statistics, the row array of labels if there are any, types of kept columns."""

    statistics: ColumnStatistics
    labels: dict[str, np.dtype[Any]]
    kept: KeptTypes


def learn(
    rows: Rows,
    request: Request,
    given: Codec | None,
    names: tuple[str, ...] | None,
    threads: int,
    journal: Journal,
    saved: State | None,
) -> Learnt:
    """The first pass. `rows` goes on from the losses of `saved`."""
    statistics: ColumnStatistics | None = None
    source, kept = rows.source, KeptTypes(rows.source.name)
    labels: dict[str, np.dtype[Any]] = {}
    wanted = given is None and (request.levels == "optimal" or request.bits == "auto")

    def start(features: int) -> ColumnStatistics:
        return ColumnStatistics(features, request.seed, wanted, request.shared_levels)

    def state() -> State:
        assert statistics is not None
        about = {"phase": "statistics", "labels": shape_of(labels), "kept": kept.state()}
        return State(about, statistics.state() | rows.losses.state())

    if saved is not None:
        statistics, labels = start(len(saved.arrays["low"])), labels_of(saved.about["labels"])
        statistics.restore(saved.arrays)
        kept.restore(saved.about["kept"])
    with journal.kept(state):
        for chunk in rows:
            if statistics is None:
                _check_features(chunk, source, given, names)
                statistics = start(chunk.values.shape[1])
                labels = labels_of(None if chunk.labels is None else chunk.labels.shape[1:])
            kept.add(chunk.kept, chunk.first_row)
            if not statistics.add(chunk.values, threads):
                row, column = (int(at[0]) for at in np.nonzero(~np.isfinite(chunk.values)))
                value = told(chunk.values[row, column], rows.losses.wide)
                raise DataError(f"{source.place(chunk.number(row), column)}: the value is {value}: {ADVICE}")
            if given is not None:
                _check_within(chunk, given, source)
            journal.tick(state)
    if statistics is None or statistics.rows == 0:
        reason = f": all {rows.losses.dropped} hold NaN or infinity" if rows.losses.dropped else ""
        raise DataError(f"{source.name}: there are no rows to compress{reason}")
    return Learnt(statistics, labels, kept)


def _check_features(chunk: Chunk, source: Source, given: Codec | None, names: tuple[str, ...] | None) -> None:
    """Refuse features that given levels are not for."""
    features = chunk.values.shape[1]
    if given is not None and given.features != features:
        raise DataError(f"{source.name} has {features} features; the given levels are for {given.features}")
    if names is not None and source.columns is not None and names != source.columns:
        other = next(at for at, pair in enumerate(zip(names, source.columns, strict=True)) if pair[0] != pair[1])
        raise DataError(
            f"{source.name}: column {other} is {source.columns[other]!r}; the given levels are for {names[other]!r}"
        )


def _check_within(chunk: Chunk, given: Codec, source: Source) -> None:
    """Refuse values outside of given levels."""
    low, high = chunk.values.min(axis=0), chunk.values.max(axis=0)
    if (low < given.bounds[:, 0]).any() or (high > given.bounds[:, -1]).any():
        row, column, value = given.first_outside(chunk.values)
        bounds = given.bounds[0 if given.is_shared else column, [0, -1]]
        raise DataError(
            f"{source.place(chunk.number(row), column)}: {value} is outside of the given levels, {bounds[0]}..{bounds[1]}: "
            "choose levels from this data, or move such values to the nearest level with clip=True (--clip)"
        )


@dataclass
class Encoded:
    """Rows as they go into the file, and, up to their end, sums of noise and error, rows of the source, and `ShardStatistics`."""

    packed: NDArray[np.uint8]
    beside: list[tuple[str, NDArray[Any]]]
    total: NDArray[np.float64]
    seen: int
    learnt: Statistics


def encode(
    rows: Rows,
    codec: Codec,
    outline: Outline,
    writer: ContainerWriter | ShardedWriter,
    threads: int,
    journal: Journal,
    saved: State | None,
    parts: ShardStatistics | None = None,
) -> None:
    """The second pass: codes and row arrays to the file, which is finished. Rows are encoded while those before are written.

    `parts` learns of the rows of each shard before they are written.
    """
    header, seen = outline.header, rows.losses.seen
    total = np.zeros((2, codec.features)) if saved is None else saved.arrays["total"]
    learnt = {} if saved is None else saved.part("shard_")
    if parts is not None:
        parts.restore(writer.row, learnt)

    def state() -> State:
        about, arrays = outline.state()
        written = {f"written_{name}": array for name, array in writer.state().items()}
        shard = {f"shard_{name}": array for name, array in learnt.items()}
        return State(about | {"seen": seen}, arrays | written | shard | {"total": total})

    if writer.row < header.rows:
        with journal.kept(state), closing(
            read_ahead(encoded(rows, codec, outline, writer.row, total, threads, parts))
        ) as blocks:
            for block in blocks:
                writer.write_codes(block.packed)
                for name, array in block.beside:
                    writer.write_rows(name, array)
                total, seen, learnt = block.total, block.seen, block.learnt
                journal.tick(state)
    if writer.row != header.rows:
        raise DataError(f"{rows.source.name}: the second pass over it gave {writer.row} rows, the first {header.rows}")
    journal.check_source(rows.source)
    writer.finish(*mean_errors(codec, total, header.rows), lambda _: journal.tick(state))
    journal.tick(state)


def encoded(
    rows: Rows,
    codec: Codec,
    outline: Outline,
    row: int,
    total: NDArray[np.float64],
    threads: int,
    parts: ShardStatistics | None = None,
) -> Iterator[Encoded]:
    """Codes of the rows from `row` on, block by block, and what goes beside them."""
    header = outline.header
    groups = np.empty((2, -(-block_rows(codec.features) // GROUP), codec.features), np.float32)
    for chunk in rows:
        count = len(chunk.values)
        used = -(-count // GROUP)
        if row + count > header.rows or chunk.values.shape[1] != codec.features:
            raise DataError(f"{rows.source.name}: the second pass over it gave other rows than the first")
        packed = np.empty((count, codec.stride), np.uint8)
        if codec.encode_into(chunk.values, packed, header.seed, row, threads, groups[0, :used], groups[1, :used]):
            at, column, value = codec.first_outside(chunk.values)
            raise DataError(
                f"{rows.source.place(chunk.number(at), column)}: {value} was not there in the first pass: the source changed"
            )
        total = np.stack([noise_total(total[part], groups[part, :used]) for part in (0, 1)])
        if parts is not None:
            parts.add(chunk.values, row, groups[:, :used], chunk.moved)
        row += count
        beside = [] if chunk.labels is None else [("labels", chunk.labels)]
        beside += [(EXACT, chunk.values)] if outline.exact else []
        beside += outline.kept.encoded(chunk.kept, chunk.first_row)
        yield Encoded(packed, beside, total, rows.losses.seen, {} if parts is None else parts.state(row))
