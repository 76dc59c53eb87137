"""Compression: a source of rows to a file, in two streamed passes. First statistics and levels, then codes."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import thread_count
from .codec import Codec, noise_total, row_bytes, row_stride
from .dataset import Dataset
from .errors import DataError, LevelError, OptionError, PrecisionWarning
from .formats.container import Header, check_zstd, chunk_rows_for, encode_names
from .formats.output import check_output
from .formats.readers import as_source
from .formats.sources import Source
from .formats.writer import ContainerWriter
from .kept import KeptTypes
from .kernels.codes import GROUP
from .progress import Progress, no_progress
from .request import TARGET_ERROR, Request
from .rows import ADVICE, Chunk, Rows, block_rows
from .saved import load_levels
from .statistics import ColumnStatistics
from .tables import SNAP_LIMIT, choose_bits, make_codec
from .version import VERSION

LABEL_LOSS = 1e-4  # of their range
SAMPLE_SHARE = 0.01  # of the file's codes, for exact rows


@dataclass
class Report:
    """What a compression did: for the closing table of the command."""

    rows: int
    features: int
    bits: int
    samples: int
    dropped: int
    clipped: int
    input_bytes: int
    output_bytes: int
    seconds: float
    mean_squared_error: float
    choice: str  # of the width and the levels, where there was one


def compress(
    X: Any,
    y: Any = None,
    *,
    path: str | PathLike[str],
    label: Any = None,
    columns: Any = None,
    keep: Any = None,
    bits: int | str = 4,
    samples: int = 2,
    levels: Any = "optimal",
    shared_levels: bool = False,
    rounding: str = "stochastic",
    seed: int = 0,
    zstd: int | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    nonfinite: str = "raise",
    grid: str = "auto",
    target_error: float | None = None,
    clip: bool = False,
    progress: bool | Callable[..., Progress] = False,
) -> Dataset:
    """Compress rows to a zipml file.

    Parameters
    ----------
    X : array_like of shape (rows, features), str or path, or iterable
        An array or memmap; a file that `zipml compress` reads; or an iterable of row blocks, or of (X, y) or (X, y, kept)
        blocks, of unknown number. What can be iterated once only is spooled to disk beside the output.
    y : array_like of shape (rows,) or (rows, labels), optional
        Labels, stored as float32.
    path : str or path
        The file to write. It appears when it is complete and verified, or not at all.
    label, columns, keep : str, int, or list of these, optional
        Which columns of a file or a DataFrame are labels, features (by default all that are neither labels nor kept), and
        kept: by name, or by index, which may be negative; text with commas names several. Kept columns, numbers or text,
        are carried through exactly (`Dataset.kept`). With arrays, `keep` may be a dict of names and columns.
    bits : int, or "auto"
        Bits a value, 1..8. auto: the fewest that meet `target_error`.
    samples : int
        k, the samples that a code stands for; there are (2**bits - 1) // samples intervals between levels.
    levels : {"optimal", "uniform"}, Codec, str or path
        Per feature: levels of least rounding variance (ZipML, section 3), or equidistant ones. Or levels that are given, with
        their bits, samples and rounding: a codec, what `save_levels` wrote, or another zipml file. Values
        outside of given levels are an error, or see `clip`.
    shared_levels : bool
        One table of levels for all features.
    rounding : {"stochastic", "nearest"}
        Unbiased at random, or the biased baseline (samples=1).
    seed : int
        The same data and seed give the same codes, whatever the threads, blocks and vector level.
    zstd : int, optional
        Compress chunks at this zstandard level, 1..19.
    threads : int, optional
        Default: the physical cores, or fewer where OMP_NUM_THREADS or threadpoolctl say so.
    overwrite : bool
        Replace an existing file, in one step, once the new one is complete.
    nonfinite : {"raise", "drop"}
        What to do with rows that hold NaN or infinity.
    grid : {"auto", "byte", "none"}
        Whether optimal levels lie on a grid of at most 255 steps of the column's range, which training in integers needs.
        auto: where that costs at most a quarter more rounding variance than levels anywhere. The file's options say.
    target_error : float, optional
        With bits="auto": the variance that rounding adds, relative to the column's own, in the mean of the columns; by
        default 0.01.
    clip : bool
        With given levels: move values outside of them to the nearest level, and count them (`Dataset.clipped`).
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
    Two streamed passes; memory is bounded by some blocks of 8 MiB and 48 KiB a feature for its sketch, 256 MiB in all unless
    there are more than 170,000 features.
    """
    request = Request(
        bits, samples, levels, shared_levels, rounding, seed, zstd, threads, nonfinite, grid, target_error, clip
    )
    chosen = {"label": label, "columns": columns, "keep": keep}
    return compress_with_report(X, y, path, request, chosen, overwrite=overwrite, progress=progress)[0]


def compress_with_report(
    X: Any,
    y: Any,
    path: str | PathLike[str],
    request: Request,
    chosen: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    progress: bool | Callable[..., Progress] = False,
) -> tuple[Dataset, Report]:
    """`compress`, and what it did."""
    start, target = time.perf_counter(), Path(path)
    workers, nonfinite = thread_count(request.threads), request.nonfinite
    check_output(target, overwrite)
    bars = progress if callable(progress) else Progress.on_terminal if progress else no_progress
    given, names = _given(request)
    bounds = None if given is None else (given.bounds[:, 0], given.bounds[:, -1])
    clip = bounds if request.clip else None
    with ExitStack() as stack:
        source = stack.enter_context(as_source(X, y, spool_dir=target.parent, **(chosen or {})))
        first = Rows(source, nonfinite, "statistics", bars, clip)
        statistics, labels, kept = _statistics(first, request, given, names, workers)
        codec, choice, found = _codec(source, statistics, request, given, workers)
        _warn_of_rounding(source, statistics, first.rounded, codec.bits)
        _warn_of_labels(source, *first.labels_rounded)
        options = {
            "levels": request.levels if request.given is None else str(getattr(request.given, "name", "given")),
            "shared_levels": codec.is_shared,
            "nonfinite": nonfinite,
            "source": source.name,
            "dropped_rows": first.dropped,
        } | found
        header = make_header(statistics, codec, request.seed, check_zstd(request.zstd), options)
        arrays = _arrays(statistics, codec, header)
        for name, texts in {"columns": source.columns, "label_names": source.label_names, "kept_names": kept.names}.items():
            if (encoded := encode_names(texts or None)) is not None:
                arrays[name] = encoded
        if first.clipped is not None:
            arrays["clipped"] = first.clipped
        writer = ContainerWriter(target, header, arrays, labels | kept.rowwise, overwrite=overwrite)
        with writer:
            noise, error = _encode(Rows(source, nonfinite, "encoding", bars, clip), codec, kept, header, writer, workers)
            writer.finish(noise, error)
    dataset = Dataset(target)
    report = Report(
        rows=header.rows,
        features=header.features,
        bits=header.bits,
        samples=header.samples,
        dropped=first.dropped,
        clipped=0 if first.clipped is None else int(first.clipped.sum()),
        input_bytes=source.nbytes or first.bytes,
        output_bytes=dataset.file_bytes,
        seconds=time.perf_counter() - start,
        mean_squared_error=float(dataset.error.mean()),
        choice=choice,
    )
    return dataset, report


def _given(request: Request) -> tuple[Codec | None, tuple[str, ...] | None]:
    """The codec of given levels, and the names of the columns they are for."""
    if request.given is None:
        return None, None
    if request.bits == "auto" or request.shared_levels:
        raise OptionError("given levels have their own width, and are shared or not: leave bits='auto' and shared_levels out")
    return (request.given, None) if isinstance(request.given, Codec) else load_levels(request.given)


def _statistics(
    rows: Rows, request: Request, given: Codec | None, names: tuple[str, ...] | None, threads: int
) -> tuple[ColumnStatistics, dict[str, np.dtype[Any]], KeptTypes]:
    """The first pass: statistics, the row array of labels if there are any, types of kept columns."""
    statistics: ColumnStatistics | None = None
    source = rows.source
    labels: dict[str, np.dtype[Any]] = {}
    kept = KeptTypes(source.name)
    for chunk in rows:
        if statistics is None:
            features = chunk.values.shape[1]
            if given is not None and given.features != features:
                raise DataError(f"{source.name} has {features} features; the given levels are for {given.features}")
            if names is not None and source.columns is not None and names != source.columns:
                other = next(at for at, pair in enumerate(zip(names, source.columns, strict=True)) if pair[0] != pair[1])
                raise DataError(
                    f"{source.name}: column {other} is {source.columns[other]!r}; the given levels are for {names[other]!r}"
                )
            wanted = given is None and (request.levels == "optimal" or request.bits == "auto")
            statistics = ColumnStatistics(features, request.seed, wanted, request.shared_levels)
            if chunk.labels is not None:
                labels = {"labels": np.dtype(("<f4", chunk.labels.shape[1:]))}
        kept.add(chunk.kept, chunk.first_row)
        if not statistics.add(chunk.values, threads):
            row, column = (int(at[0]) for at in np.nonzero(~np.isfinite(chunk.values)))
            value = f"{chunk.values[row, column]}"
            if value.endswith("inf") and rows.wide:  # what float32 does not hold became infinite on its way here
                value += ", or beyond float32"
            raise DataError(f"{source.place(chunk.first_row + row, column)}: the value is {value}: {ADVICE}")
        if given is not None:
            _check_within(chunk, given, source)
    if statistics is None or statistics.rows == 0:
        reason = f": all {rows.dropped} hold NaN or infinity" if rows.dropped else ""
        raise DataError(f"{source.name}: there are no rows to compress{reason}")
    return statistics, labels, kept


def _check_within(chunk: Chunk, given: Codec, source: Source) -> None:
    """Refuse values outside of given levels."""
    low, high = chunk.values.min(axis=0), chunk.values.max(axis=0)
    if (low < given.bounds[:, 0]).any() or (high > given.bounds[:, -1]).any():
        row, column, value = given.first_outside(chunk.values)
        bounds = given.bounds[0 if given.is_shared else column, [0, -1]]
        raise DataError(
            f"{source.place(chunk.first_row + row, column)}: {value} is outside of the given levels, {bounds[0]}..{bounds[1]}: "
            "choose levels from this data, or move such values to the nearest level with clip=True (--clip)"
        )


def _codec(
    source: Source, statistics: ColumnStatistics, request: Request, given: Codec | None, threads: int
) -> tuple[Codec, str, dict[str, Any]]:
    """The codec, what to say of the choice, and what the file's options say of it."""
    if given is not None:
        return given, "", {}
    bits, said, found = request.bits, [], {}
    levels, samples = request.levels, request.samples
    try:
        if isinstance(bits, str):
            target = TARGET_ERROR if request.target_error is None else request.target_error
            bits, error = choose_bits(statistics, levels, samples, target, threads, request.grid)
            said.append(f"{bits} bits: relative error {error:.3g}, at most {target:g} wanted")
            found["target_error"] = target
        codec, table = make_codec(statistics, levels, bits, samples, request.rounding, threads, request.grid)
    except LevelError as narrow:
        raise _name_column(source, statistics, statistics.shared, narrow) from narrow
    if table is not None:
        found |= {"grid_steps": table.steps, "snapping": round(table.snapping, 4)}
        if table.snapping > 1:
            taken = "levels are on it" if table.steps else "levels are anywhere, and training decodes to float32"
            bulk = "" if table.steps or table.snapping > SNAP_LIMIT else " and takes all levels from the bulk of a column"
            said.append(f"a grid of one byte costs {table.snapping - 1:.1%} more rounding variance{bulk}: {taken}")
    return codec, "; ".join(said), found


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


def _warn_of_labels(source: Source, lost: NDArray[np.float64], spread: NDArray[np.float64]) -> None:
    """Say so where float32, in which labels are stored, moves them by more than LABEL_LOSS of their range."""
    bad = np.flatnonzero(lost > LABEL_LOSS * spread)
    if len(bad):
        first, name = int(bad[0]), source.label_names[bad[0]] if source.label_names else int(bad[0])
        which = "labels" if len(lost) == 1 else f"labels {name!r}{f' and {len(bad) - 1} more' if len(bad) > 1 else ''}"
        warnings.warn(
            f"{source.name}: {which}: float32 moves them by up to {lost[first]:g}, against a range of {spread[first]:g}; "
            "subtract a constant first",
            PrecisionWarning,
            stacklevel=4,
        )


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


def _arrays(statistics: ColumnStatistics, codec: Codec, header: Header) -> dict[str, NDArray[Any]]:
    share = SAMPLE_SHARE * header.rows * row_bytes(header.features, header.bits)
    numbers, values = statistics.sample.take(int(share // (4 * header.features + 8)))
    return {
        "levels": codec.bounds,
        "low": statistics.low,
        "high": statistics.high,
        "mean": statistics.mean,
        "std": statistics.std,
        "sample_rows": numbers,
        "sample_values": values,
    }


def _encode(
    rows: Rows, codec: Codec, kept: KeptTypes, header: Header, writer: ContainerWriter, threads: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The second pass: codes, labels and kept columns to the file; the noise D and the mean squared error of each feature."""
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
        if chunk.labels is not None:
            writer.write_rows("labels", chunk.labels)
        for name, values in kept.encoded(chunk.kept, chunk.first_row):
            writer.write_rows(name, values)
        row += count
    if row != header.rows:
        raise DataError(f"{rows.source.name}: the second pass over it gave {row} rows, the first {header.rows}")
    mean_square = total / header.rows * codec.noise_scale()
    noise = np.zeros(features) if codec.rounding == "nearest" else mean_square[0] / codec.samples
    return noise, mean_square[1]
