"""`concat`: files and folders of shards with the same columns and levels, joined, or cut anew. Codes are copied as they are."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import check_integer, thread_count
from .compress import sample_count
from .dataset import Dataset
from .errors import DataError, OptionError
from .formats.header import Header, chunk_rows_for
from .formats.output import check_apart
from .formats.partial import Partial
from .formats.shards import ALIKE, OF_ROWS, Reader, files_at, files_of, is_sharded, open_reader
from .formats.shardwriter import PartialFolder, ShardedWriter
from .formats.writer import ContainerWriter
from .kernels import philox
from .parts import Statistics, merged
from .progress import Progress, no_progress
from .version import VERSION

logger = logging.getLogger("zipml_codec")


@dataclass
class Part:
    """What is kept of an input while others are open: where its rows begin in the output, and numbers of its exact rows."""

    path: Path
    header: Header
    start: int
    statistics: Statistics
    rowwise: dict[str, np.dtype[Any]]
    numbers: NDArray[np.int64]

    @property
    def end(self) -> int:
        """Where its rows end in the output."""
        return self.start + self.header.rows


def concat(
    sources: Sequence[str | PathLike[str]],
    *,
    path: str | PathLike[str],
    shard_rows: int | None = None,
    overwrite: bool = False,
    progress: bool | Callable[..., Progress] = False,
) -> Dataset:
    """Join zipml files and folders of shards to one, or cut them into shards anew. Codes are copied, not decoded.

    Parameters
    ----------
    sources : sequence of str or path
        Files or folders, with the same columns, labels, kept columns and levels, all or none with an exact copy: those that were
        compressed with the first's levels, `compress(..., levels=first)`. Their seeds may differ.
    path : str or path
        The file to write, or the folder. It appears when it is complete and verified, or not at all.
    shard_rows : int, optional
        Write a folder of files with so many rows each.
    overwrite : bool
        Replace an existing output, in one step, once the new one is complete.
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    Dataset
        The output, opened.

    Raises
    ------
    DataError
        Columns, labels or levels that differ: the message says where.
    FormatError, CorruptError
        A source that is not there, no zipml file, or damaged.
    OutputError
        The output exists, another process writes it, or the disk is full.

    Notes
    -----
    All shards of a folder give the file that compressing without `shard_rows` gives, byte for byte. `seed` and `row_offset` of
    the output are the first source's. Statistics are those of all rows. A shard that is cut out of a larger file, whose exact
    values are gone, has that file's statistics.
    """
    target = Path(path)
    if isinstance(sources, str | PathLike) or not sources:
        raise OptionError("concat takes a list of at least one zipml file or folder of shards")
    if shard_rows is not None:
        shard_rows = check_integer("shard_rows", shard_rows, 1)
    for folder in [Path(source) for source in sources if is_sharded(Path(source))]:
        check_apart(target, files_at(folder))
    bars = progress if callable(progress) else Progress.on_terminal if progress else no_progress
    with (Partial if shard_rows is None else PartialFolder)(target, overwrite) as partial:
        parts = list(_parts([Path(source) for source in sources]))
        _write(partial, parts, shard_rows, bars)
        partial.publish()
    return Dataset(target)


def _write(partial: Partial, parts: list[Part], shard_rows: int | None, bars: Callable[..., Progress]) -> None:
    """The output, all but its name."""
    header, statistics = _header(parts), merged([(part.header.rows, part.statistics) for part in parts])
    with open_reader(parts[0].path) as first:
        alike = {name: first.arrays[name] for name in ALIKE if name in first.arrays}
    numbers, values = _sample(parts, header)
    known = {name: array for name, array in statistics.items() if name not in ("noise", "error", "plane_noise")}
    arrays = alike | known | {"sample_rows": numbers, "sample_values": values}
    rowwise = {name: max((part.rowwise[name] for part in parts), key=lambda dtype: dtype.itemsize) for name in parts[0].rowwise}
    partial.begin(False)
    threads = thread_count(None)
    writer: ContainerWriter | ShardedWriter
    if not isinstance(partial, PartialFolder):
        writer = ContainerWriter(partial, header, arrays, rowwise, threads)
    else:
        size = shard_rows or header.rows

        def of_rows(number: int) -> Statistics:
            return merged(list(_statistics_of(parts, number * size, min((number + 1) * size, header.rows))))

        writer = ShardedWriter(partial, header, arrays, rowwise, size, of_rows, threads)
    with writer, bars("joining", header.rows, None) as bar:
        for part in parts:
            with open_reader(part.path) as reader:
                _copy(reader, writer, bar)
        writer.finish(statistics["noise"], statistics["error"])


def _parts(paths: list[Path]) -> Iterator[Part]:
    """The sources, all held against the first."""
    start = 0
    first = open_reader(paths[0])
    with closing(first):
        for path in paths:
            with open_reader(path) as reader:
                _check_alike(first, reader)
                statistics = {name: reader.arrays[name] for name in OF_ROWS if name in reader.arrays}
                rowwise = {name: place.dtype for name, place in reader.rowwise.items()}
                yield Part(path, reader.header, start, statistics, rowwise, reader.sample[0])
            start += reader.header.rows


def _differ(first: Reader, other: Reader, what: str, ours: Any, theirs: Any, advice: str) -> DataError:
    return DataError(f"{other.path}: {what} {theirs}, but {ours} in {first.path}: {advice}")


def _check_alike(first: Reader, other: Reader) -> None:
    """Refuse a source with other columns, row arrays or levels than the first."""
    _check_columns(first, other)
    advice = f"compress its data again with --levels {first.path}"
    for field in ("bits", "samples", "rounding", "level_kind", "layout", "coarsest"):
        a, b = getattr(first.header, field), getattr(other.header, field)
        if a != b:
            raise _differ(first, other, f"{field.replace('level_kind', 'kind of levels')}:", a, b, advice)
    ours, theirs = first.arrays["levels"], other.arrays["levels"]
    if ours.shape != theirs.shape:
        a, b = ("not shared" if len(levels) == first.header.features else "shared" for levels in (ours, theirs))
        raise _differ(first, other, "levels are", a, b, advice)
    if (ours != theirs).any():
        at, level = (int(place[0]) for place in np.nonzero(ours != theirs))
        name = f"column {first.columns[at]!r}" if first.columns else f"column {at}"
        a, b = (f"{levels[at, level]:.9g}" for levels in (ours, theirs))
        raise _differ(first, other, f"{name}: level {level} is", a, b, advice)


def _check_columns(first: Reader, other: Reader) -> None:
    ours: Any = first.header.features
    theirs: Any = other.header.features
    columns = "choose the same columns in the same order"
    if ours != theirs:
        raise _differ(first, other, "the number of features is", ours, theirs, columns)
    if first.columns != other.columns:
        names = [reader.columns or (None,) * reader.header.features for reader in (first, other)]
        at = next(at for at, pair in enumerate(zip(*names, strict=True)) if pair[0] != pair[1])
        ours, theirs = ("without a name" if part[at] is None else repr(part[at]) for part in names)
        raise _differ(first, other, f"column {at} is", ours, theirs, columns)
    for what, ours, theirs in (
        ("the number of labels a row is", first.labels_a_row, other.labels_a_row),
        ("the names of the labels are", first.label_names, other.label_names),
        ("the kept columns are", first.kept_names, other.kept_names),
        ("an exact copy of the rows:", *("yes" if reader.has_exact_copy else "none" for reader in (first, other))),
    ):
        if ours != theirs:
            raise _differ(first, other, what, ours, theirs, "choose the same labels and kept columns, with keep_exact or without")
    for number, name in enumerate(first.kept_names):
        ours, theirs = (reader.rowwise[f"kept_{number}"].dtype for reader in (first, other))
        if ours != theirs and not ours.kind == theirs.kind == "S":
            raise _differ(first, other, f"the kept column {name!r} is of type", ours, theirs, "convert one of them first")


def _consecutive(parts: Sequence[Part]) -> bool:
    """Whether the parts are rows of one compression, one after the other."""
    return all(
        a.header.seed == b.header.seed
        and a.header.row_offset + a.header.rows == b.header.row_offset
        and a.header.options == b.header.options
        for a, b in pairwise(parts)
    )


def _header(parts: Sequence[Part]) -> Header:
    """The header of all rows; its options say of parts that do not follow one another how their rows were rounded."""
    first, rows = parts[0].header, parts[-1].end
    options = json.loads(first.options)
    if not _consecutive(parts):
        _note_same_numbers(parts)
        every = [json.loads(part.header.options) for part in parts]
        options |= {
            "dropped_rows": sum(one.get("dropped_rows", 0) for one in every),
            "source": ", ".join(dict.fromkeys(str(one.get("source")) for one in every[:8])) + ", ..." * (len(every) > 8),
            "parts": [{"rows": one.header.rows, "seed": one.header.seed, "row_offset": one.header.row_offset} for one in parts],
        }
    return replace(
        first,
        rows=rows,
        chunk_rows=chunk_rows_for(rows, first.row_size),
        tool=f"zipml-codec {VERSION}",
        options=json.dumps(options, sort_keys=True),
    )


def _note_same_numbers(parts: Sequence[Part]) -> None:
    """Say so where rows of two parts were rounded by the same random numbers."""
    spans = sorted((part.header.seed, part.header.row_offset, part.header.row_offset + part.header.rows) for part in parts)
    for a, b in pairwise(spans):
        if a[0] == b[0] and b[1] < a[2] and parts[0].header.rounding == "stochastic":
            logger.warning(
                "rows of several parts were rounded by the same random numbers, of seed %d: each is unbiased, but their errors "
                "go together; compress parts with a seed of their own (--seed)", a[0],
            )  # fmt: skip
            return


def _keys(part: Part) -> NDArray[np.uint64]:
    """Keys of its exact rows: at random, and for shards those that their whole chose them by."""
    rows = (part.header.row_offset + part.numbers).tolist()
    return np.array([philox.keys(part.header.seed, philox.SAMPLE, 0, row, 1)[0] for row in rows], np.uint64)


def _sample(parts: Sequence[Part], header: Header) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Exact rows of the output: a uniform sample of all rows, of those that the parts have."""
    most = sample_count(header.rows, header.features, header.bits)
    keys = [_keys(part) for part in parts]
    if _consecutive(parts):  # a row is in the sample of its part for its key's sake: so are all of them
        limit = np.sort(np.concatenate(keys))[:most]
        chosen = [np.flatnonzero(own <= limit[-1]) if len(limit) else np.empty(0, np.int64) for own in keys]
    else:  # of each part the same share, which the part with the smallest share limits
        total = min([most, *(-(-(len(part.numbers) + 1) * header.rows // part.header.rows) - 1 for part in parts)])
        chosen = [
            np.sort(np.argsort(own, kind="stable")[: total * part.header.rows // header.rows])
            for own, part in zip(keys, parts, strict=True)
        ]
    values = [np.empty((0, header.features), np.float32)]
    for part, rows in zip(parts, chosen, strict=True):
        if len(rows):
            with open_reader(part.path) as reader:
                values.append(reader.sample[1][rows])
    numbers = [part.start + part.numbers[rows] for part, rows in zip(parts, chosen, strict=True)]
    return np.concatenate(numbers), np.concatenate(values)


def _statistics_of(parts: Sequence[Part], first: int, last: int) -> Iterator[tuple[int, Statistics]]:
    """Rows and statistics of the files, or parts of files, that make up some rows of the output."""
    for part in parts:
        start, end = max(first, part.start) - part.start, min(last, part.end) - part.start
        if start < end:
            with open_reader(part.path) as reader:
                for file, a, b in files_of(reader, start, end):
                    learnt = {name: file.arrays[name] for name in OF_ROWS if name in file.arrays}
                    if "clipped" in learnt:  # parts of a file have a share of its count, and add up to it
                        rows = np.uint64(file.header.rows)
                        upto_a, upto_b = (learnt["clipped"] * np.uint64(at) // rows for at in (a, b))
                        learnt["clipped"] = upto_b - upto_a
                    yield b - a, learnt


def _copy(reader: Reader, writer: ContainerWriter | ShardedWriter, bar: Progress) -> None:
    """All rows of a source."""
    for number in range(reader.header.chunks):
        packed, first = reader.read_chunk(number), number * reader.header.chunk_rows
        writer.write_codes(packed)
        for name in reader.rowwise:
            writer.write_rows(name, reader.read_rows(name, first, first + len(packed)))
        bar.advance(len(packed))
