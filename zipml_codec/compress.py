"""Compression: a source of rows to a file, in two streamed passes. First statistics and levels, then codes."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import check_choice, check_seed, thread_count
from .codec import ROUNDINGS, Codec, interval_count, noise_total, row_bytes, row_stride
from .dataset import Dataset
from .errors import DataError, LevelError, OptionError, PrecisionWarning
from .formats.container import ContainerWriter, Header, check_output, check_zstd, chunk_rows_for, encode_columns
from .formats.readers import as_source
from .formats.sources import Source
from .kernels.codes import GROUP
from .progress import Progress, no_progress
from .statistics import ColumnStatistics
from .version import VERSION

BLOCK_BYTES = 8 << 20
MOST_ROWS = 65536
LEVELS = ("optimal", "uniform")
NONFINITE = ("raise", "drop")
LABEL_LOSS = 1e-4  # of their range
SAMPLE_SHARE = 0.01  # of the file's codes, for exact rows


@dataclass
class Report:
    """What a compression did: for the closing table of the command."""

    rows: int
    features: int
    dropped: int
    input_bytes: int
    output_bytes: int
    seconds: float
    mean_squared_error: float


@dataclass
class _Chunk:
    """Rows in the form that the kernels take: float32 values, labels or None, and each row's number in the source."""

    values: NDArray[np.float32]
    labels: NDArray[np.float32] | None
    first_row: int


def block_rows(features: int) -> int:
    """Rows of a block: about BLOCK_BYTES of float32, a multiple of the rows whose noise is summed together."""
    rows = BLOCK_BYTES // (4 * features)
    return int(min(MOST_ROWS, max(GROUP, rows // GROUP * GROUP)))


class _Rows:
    """A pass over a source: float32 blocks of a fixed number of rows, non-finite rows found or left out."""

    def __init__(self, source: Source, nonfinite: str, name: str, progress: Callable[..., Progress]) -> None:
        self.source, self.nonfinite = source, nonfinite
        self.dropped = self.bytes = 0
        self.wide = False  # whether the source's numbers have a greater range than float32
        self._moved: NDArray[np.float64] | None = None  # least and most that float32 moved values of each column by
        self._labels_moved: NDArray[np.float64] | None = None  # the same of labels, and their own least and most
        self._name, self._progress = name, progress

    def __iter__(self) -> Iterator[_Chunk]:
        buffer: NDArray[np.float32] | None = None
        labels: NDArray[np.float32] | None = None
        filled = row = 0
        size = MOST_ROWS if self.source.features is None else block_rows(self.source.features)
        with self._progress(self._name, self.source.rows, self.source.nbytes) as bar:
            for block in self.source.blocks(size):
                values, y = block.values, block.labels
                if buffer is None:
                    size = block_rows(values.shape[1])
                    buffer = np.empty((size, values.shape[1]), np.float32)
                    labels = None if y is None else np.empty(size, np.float32)
                self._measure(values)
                if y is not None:
                    self._measure_labels(y)
                direct = values.dtype == np.float32 and values.flags.c_contiguous and values.flags.aligned
                if filled == 0 and len(values) == size and direct and self.nonfinite == "raise":
                    yield _Chunk(values, None if y is None else self._labels(y, row), row)  # no copy
                else:
                    done = 0
                    while done < len(values):
                        count = min(size - filled, len(values) - done)
                        part, part_y = values[done : done + count], None if y is None else y[done : done + count]
                        filled += self._fill(buffer, labels, filled, part, part_y, row + done)
                        done += count
                        if filled == size:
                            yield _Chunk(buffer, labels, row + done - size)
                            filled = 0
                row += len(values)
                bar.advance(len(values), self.source.bytes_read())
        if buffer is not None and filled:
            yield _Chunk(buffer[:filled], None if labels is None else labels[:filled], row - filled)

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
        with np.errstate(over="ignore", invalid="ignore"):
            moved = y.astype(np.float32) - y.astype(np.float64)
        exact, moved = y[np.isfinite(moved)], moved[np.isfinite(moved)]
        if len(moved):
            bounds = np.array([[moved.min(), exact.min()], [moved.max(), exact.max()]], np.float64)
            before = bounds if self._labels_moved is None else self._labels_moved
            self._labels_moved = np.stack([np.minimum(before[0], bounds[0]), np.maximum(before[1], bounds[1])])

    @property
    def labels_rounded(self) -> tuple[float, float]:
        """How far float32 moves labels apart, and how far apart they are."""
        if self._labels_moved is None:
            return 0.0, 0.0
        moved, spread = self._labels_moved[1] - self._labels_moved[0]
        return float(moved), float(spread)

    @property
    def rounded(self) -> NDArray[np.float64] | None:
        """How far float32 moves values of each column apart; 0 where it moves all alike."""
        return None if self._moved is None else self._moved[1] - self._moved[0]

    def _labels(self, y: NDArray[Any], row: int) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            out = np.ascontiguousarray(y, dtype=np.float32)
        if not np.isfinite(out).all():
            at = int(np.argmin(np.isfinite(out)))
            raise DataError(f"{self.source.place(row + at, None)}: the label is {y[at]}: {ADVICE}")
        return out

    def _fill(
        self,
        buffer: NDArray[np.float32],
        labels: NDArray[np.float32] | None,
        filled: int,
        values: NDArray[Any],
        y: NDArray[Any] | None,
        row: int,
    ) -> int:
        """Rows into the buffer from `filled` on; how many stayed."""
        if self.nonfinite == "drop":
            with np.errstate(over="ignore"):
                keep = np.asarray(np.isfinite(values.astype(np.float32, copy=False)).all(axis=1))
                if y is not None:
                    keep &= np.isfinite(np.asarray(y, np.float32))
            self.dropped += int(len(keep) - keep.sum())
            values, y = values[keep], None if y is None else y[keep]
        target = buffer[filled : filled + len(values)]
        with np.errstate(over="ignore"):
            np.copyto(target, values, casting="unsafe")
        if labels is not None and y is not None:
            labels[filled : filled + len(values)] = self._labels(y, row)
        return len(values)


ADVICE = "leave such rows out with nonfinite='drop' (--nonfinite drop), or fill them first"


def compress(
    X: Any,
    y: Any = None,
    *,
    path: str | PathLike[str],
    bits: int = 4,
    samples: int = 2,
    levels: str = "optimal",
    shared_levels: bool = False,
    rounding: str = "stochastic",
    seed: int = 0,
    zstd: int | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    nonfinite: str = "raise",
    progress: bool | Callable[..., Progress] = False,
) -> Dataset:
    """Compress rows to a zipml file.

    Parameters
    ----------
    X : array_like of shape (rows, features), str or path, or iterable
        An array or memmap; a file that `zipml compress` reads; or an iterable of row blocks, or of (X, y) blocks, of
        unknown number. What can be iterated once only is spooled to disk beside the output.
    y : array_like of shape (rows,), optional
        Labels, stored as float32.
    path : str or path
        The file to write. It appears when it is complete and verified, or not at all.
    bits : int
        Bits a value, 1..8.
    samples : int
        k, the samples that a code stands for; there are (2**bits - 1) // samples intervals between levels.
    levels : {"optimal", "uniform"}
        Per feature: levels of least rounding variance, on a grid of the column's range (ZipML, section 3.2), or
        equidistant ones.
    shared_levels : bool
        One table of levels for all features.
    rounding : {"stochastic", "nearest"}
        Unbiased at random, or the biased baseline (samples=1).
    seed : int
        The same data and seed give the same codes, whatever the threads, blocks and vector level.
    zstd : int, optional
        Compress chunks at this zstandard level, 1..19.
    threads : int, optional
        Default: OMP_NUM_THREADS, or all processors.
    overwrite : bool
        Replace an existing file, in one step, once the new one is complete.
    nonfinite : {"raise", "drop"}
        What to do with rows that hold NaN or infinity.
    progress : bool
        Show bars on standard error.

    Returns
    -------
    Dataset
        The file, opened.

    Raises
    ------
    OptionError
        Options that do not fit.
    DataError
        NaN or infinity (row and column are named), no rows, text in a numeric column, sizes that do not fit.
    SourceError
        A source that cannot be read.
    OutputError
        The output exists, another process writes it, or the disk is full.

    Notes
    -----
    Two streamed passes; memory is bounded by some blocks of 8 MiB and about 8 KiB a feature for its histogram.
    """
    return compress_with_report(
        X,
        y,
        path=path,
        bits=bits,
        samples=samples,
        levels=levels,
        shared_levels=shared_levels,
        rounding=rounding,
        seed=seed,
        zstd=zstd,
        threads=threads,
        overwrite=overwrite,
        nonfinite=nonfinite,
        progress=progress,
    )[0]


def compress_with_report(
    X: Any,
    y: Any = None,
    *,
    path: str | PathLike[str],
    bits: int,
    samples: int,
    levels: str,
    shared_levels: bool,
    rounding: str,
    seed: int,
    zstd: int | None,
    threads: int | None,
    overwrite: bool,
    nonfinite: str,
    progress: bool | Callable[..., Progress],
) -> tuple[Dataset, Report]:
    """`compress`, and what it did."""
    start, target = time.perf_counter(), Path(path)
    interval_count(bits, samples)
    check_choice("levels", levels, LEVELS)
    check_choice("rounding", rounding, ROUNDINGS)
    check_choice("nonfinite", nonfinite, NONFINITE)
    if rounding == "nearest" and samples != 1:
        raise OptionError(f"rounding='nearest' makes one sample; samples={samples} must be 1")
    seed, workers, zstd_level = check_seed(seed), thread_count(threads), check_zstd(zstd)
    check_output(target, overwrite)
    bars = progress if callable(progress) else Progress.on_terminal if progress else no_progress
    with ExitStack() as stack:
        source = stack.enter_context(as_source(X, y, spool_dir=target.parent))
        first = _Rows(source, nonfinite, "statistics", bars)
        statistics, has_labels = _statistics(first, seed, levels == "optimal", workers)
        _warn_of_rounding(source, statistics, first.rounded, bits)
        _warn_of_labels(source, *first.labels_rounded)
        try:
            codec = make_codec(statistics, levels, shared_levels, bits, samples, rounding, workers)
        except LevelError as narrow:
            raise _name_column(source, statistics, shared_levels, narrow) from narrow
        options = {
            "levels": levels,
            "shared_levels": shared_levels,
            "nonfinite": nonfinite,
            "source": source.name,
            "dropped_rows": first.dropped,
            "label": source.label_name,
        }
        header = make_header(statistics, codec, seed, zstd_level, options)
        arrays = _arrays(statistics, codec, header, source.columns)
        writer = ContainerWriter(target, header, arrays, has_labels=has_labels, overwrite=overwrite)
        with writer:
            noise, error = _encode(_Rows(source, nonfinite, "encoding", bars), codec, header, writer, workers)
            writer.finish(noise, error)
    dataset = Dataset(target)
    report = Report(
        rows=header.rows,
        features=header.features,
        dropped=first.dropped,
        input_bytes=source.nbytes or first.bytes,
        output_bytes=dataset.file_bytes,
        seconds=time.perf_counter() - start,
        mean_squared_error=float(dataset.error.mean()),
    )
    return dataset, report


def _statistics(rows: _Rows, seed: int, histogram: bool, threads: int) -> tuple[ColumnStatistics, bool]:
    """The first pass."""
    statistics: ColumnStatistics | None = None
    has_labels = False
    for chunk in rows:
        if statistics is None:
            statistics = ColumnStatistics(chunk.values.shape[1], seed, histogram)
            has_labels = chunk.labels is not None
        if not statistics.add(chunk.values, threads):
            row, column = (int(at[0]) for at in np.nonzero(~np.isfinite(chunk.values)))
            place, value = rows.source.place(chunk.first_row + row, column), chunk.values[row, column]
            beyond = ", or beyond float32" if np.isinf(value) and rows.wide else ""
            raise DataError(f"{place}: the value is {value}{beyond}: {ADVICE}")
    if statistics is None or statistics.rows == 0:
        reason = f": all {rows.dropped} hold NaN or infinity" if rows.dropped else ""
        raise DataError(f"{rows.source.name}: there are no rows to compress{reason}")
    return statistics, has_labels


def _warn_of_rounding(
    source: Source, statistics: ColumnStatistics, lost: NDArray[np.float64] | None, bits: int
) -> None:
    """Say so where float32, which the codec works in, costs more than a hundredth of a uniform interval."""
    if lost is None:
        return
    width = (statistics.high.astype(np.float64) - statistics.low) / 2**bits
    bad = np.flatnonzero(lost > 0.01 * width)
    if len(bad):
        name = f"column {source.columns[bad[0]]!r}" if source.columns else f"column {bad[0]}"
        warnings.warn(
            f"{source.name}: {name}{f' and {len(bad) - 1} more' if len(bad) > 1 else ''}: float32 moves values by up to "
            f"{lost[bad[0]]:g}, against a range of {width[bad[0]] * 2**bits:g}; subtract a constant first",
            PrecisionWarning,
            stacklevel=4,
        )


def _warn_of_labels(source: Source, lost: float, spread: float) -> None:
    """Say so where float32, in which labels are stored, moves them by more than LABEL_LOSS of their range."""
    if lost > LABEL_LOSS * spread:
        warnings.warn(
            f"{source.name}: labels: float32 moves them by up to {lost:g}, against a range of {spread:g}; "
            "subtract a constant first",
            PrecisionWarning,
            stacklevel=4,
        )


def make_codec(
    statistics: ColumnStatistics, levels: str, shared: bool, bits: int, samples: int, rounding: str, threads: int
) -> Codec:
    """Levels from statistics, and the codec of them."""
    intervals, features = interval_count(bits, samples), statistics.features
    low, high = statistics.low, statistics.high
    try:
        if levels == "uniform":
            if shared:
                low, high = low.min(keepdims=True), high.max(keepdims=True)
            return Codec.uniform(low, high, bits, samples, rounding, features)
        table = statistics.optimal_levels(bits, samples, intervals, shared, threads)
        return Codec(table, bits, samples, rounding, features)
    except LevelError:
        raise  # `_name_column` says whose
    except OptionError as error:
        raise DataError(str(error)) from error


def _name_column(source: Source, statistics: ColumnStatistics, shared: bool, error: LevelError) -> DataError:
    """The same, with the column's name and range and what to do."""
    if shared:
        low, high, name = statistics.low.min(), statistics.high.max(), "all columns, of shared levels,"
    else:
        low, high = statistics.low[error.feature], statistics.high[error.feature]
        name = f"column {source.columns[error.feature]!r}" if source.columns else f"column {error.feature}"
    span = float(high) - float(low)
    what = "too narrow" if span < 1 else "too wide"
    return DataError(
        f"{source.name}: {name}: the range {low:g}..{high:g} is {what} for float32 levels: "
        f"multiply the column by a constant, or leave it out"
    )


def make_header(statistics: ColumnStatistics, codec: Codec, seed: int, zstd: int, options: dict[str, Any]) -> Header:
    """The file's header."""
    stride = row_stride(codec.features, codec.bits)
    return Header(
        rows=statistics.rows,
        features=codec.features,
        bits=codec.bits,
        samples=codec.samples,
        stride=stride,
        chunk_rows=chunk_rows_for(statistics.rows, stride),
        level_kind="uniform" if codec.is_uniform else "table",
        rounding=codec.rounding,
        seed=seed,
        row_offset=0,
        zstd=zstd,
        tool=f"zipml-codec {VERSION}",
        options=json.dumps(options, sort_keys=True),
    )


def _arrays(
    statistics: ColumnStatistics, codec: Codec, header: Header, columns: tuple[str, ...] | None
) -> dict[str, NDArray[Any]]:
    share = SAMPLE_SHARE * header.rows * row_bytes(header.features, header.bits)
    numbers, values = statistics.sample.take(int(share // (4 * header.features + 8)))
    arrays: dict[str, NDArray[Any]] = {
        "levels": codec.bounds,
        "low": statistics.low,
        "high": statistics.high,
        "mean": statistics.mean,
        "std": statistics.std,
        "sample_rows": numbers,
        "sample_values": values,
    }
    names = encode_columns(columns)
    return arrays if names is None else arrays | {"columns": names}


def _encode(
    rows: _Rows, codec: Codec, header: Header, writer: ContainerWriter, threads: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The second pass: codes and labels to the file; the noise D and the mean squared error of each feature."""
    size, features = block_rows(codec.features), codec.features
    packed = np.empty((size, codec.stride), np.uint8)
    groups = np.empty((2, -(-size // GROUP), features), np.float32)
    total = np.zeros((2, features))
    row = 0
    for chunk in rows:
        count = len(chunk.values)
        used = -(-count // GROUP)
        if row + count > header.rows or chunk.values.shape[1] != features:
            raise DataError(f"{rows.source.name}: the second pass over it gave other rows than the first")
        if codec.encode_into(
            chunk.values, packed[:count], header.seed, row, threads, groups[0, :used], groups[1, :used]
        ):
            at, column, value = codec.first_outside(chunk.values)
            raise DataError(
                f"{rows.source.place(chunk.first_row + at, column)}: {value} was not there in the first pass: the source changed"
            )
        total = np.stack([noise_total(total[part], groups[part, :used]) for part in (0, 1)])
        writer.write_codes(packed[:count])
        if writer.has_labels and chunk.labels is not None:
            writer.write_labels(chunk.labels)
        row += count
    if row != header.rows:
        raise DataError(f"{rows.source.name}: the second pass over it gave {row} rows, the first {header.rows}")
    mean_square = total / header.rows * codec.noise_scale()
    noise = np.zeros(features) if codec.rounding == "nearest" else mean_square[0] / codec.samples
    return noise, mean_square[1]
