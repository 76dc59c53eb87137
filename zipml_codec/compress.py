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

from .arrays import check_integer, thread_count
from .codec import Codec, row_bytes, row_stride
from .dataset import Dataset, codec_of
from .errors import DataError, LevelError, OptionError, PrecisionWarning
from .formats.container import check_zstd, digest, encode_names
from .formats.header import Header, chunk_rows_for, disk_row
from .formats.output import check_apart
from .formats.partial import Partial
from .formats.readers import as_source
from .formats.shardwriter import PartialFolder, ShardedWriter
from .formats.sources import Source
from .formats.writer import ContainerWriter
from .interrupts import Interrupts
from .journal import Journal, files_of, identity
from .nested import check_nested, greatest, nested_codec
from .parts import ShardStatistics
from .passes import Learnt, Outline, encode, learn
from .progress import Progress, no_progress
from .request import TARGET_ERROR, Request, code_widths
from .rows import Losses, Rows
from .saved import load_levels
from .statistics import ColumnStatistics, most_sampled
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
    bits: int | str | None = None,
    samples: int | None = None,
    levels: Any = "optimal",
    shared_levels: bool = False,
    rounding: str = "stochastic",
    seed: int = 0,
    zstd: int | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    shard_rows: int | None = None,
    nonfinite: str = "raise",
    grid: str = "auto",
    target_error: float | None = None,
    clip: bool = False,
    keep_exact: bool = False,
    layout: str = "rows",
    coarsest: int | None = None,
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
    bits : int, or "auto", optional
        Bits a value, 1..8. auto: the fewest that meet `target_error`. Default: 4, or 8 with layout="weave".
    samples : int, optional
        k, the samples that a code stands for; there are (2**bits - 1) // samples intervals between levels. Default: 2, or 1
        with layout="weave" or rounding="nearest".
    levels : {"optimal", "uniform", "harp:Q"}, Codec, str or path
        Per feature: levels of least rounding variance (ZipML, section 3), or equidistant ones, with harp:Q those of the FPGA
        designs' codes of Q = 1, 2, 4 or 8 bits (docs/fpga.md), which set `bits`. Or levels that are given, with
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
        Replace an existing file, or folder of shards, in one step, once the new one is complete.
    resume : bool
        Go on from where an interrupted compression of the same source with the same options left off, to the same bytes; where
        there is none, begin. See Notes.
    shard_rows : int, optional
        Write a folder of files with so many rows each, and a manifest, that opens as one data set. The codes are those of
        one file; each shard is a zipml file of its own.
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
    keep_exact : bool
        Keep all rows beside their codes, as float32 and after clipping, not compressed: 4 bytes a value more.
        `Dataset.exact_rows` reads them, and training with debias="refetch" or "sketch" those few that it needs.
    layout : {"rows", "weave"}
        weave: planes of bits, of which `open(path, precision=p)` and `train(precision=p)` read the first p alone, p/bits of the
        bytes. Each precision from `coarsest` to `bits` is unbiased, with its own noise, as if the file had been made for it.
        One sample a code, no zstd.
    coarsest : int, optional
        With layout="weave", the least precision: its 2**coarsest - 1 intervals, uniform or optimal, are halved by each bit
        more, and the codes of the last of 2**coarsest intervals are given up for that. Default: 2.
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
    What is needed to go on is kept every ten seconds or so beside the partial file, or the partial folder of shards, PATH.partial
    and PATH.partial.journal, so that neither a crash nor a loss of power costs more; and at once on Ctrl-C, or SIGTERM where
    Python handles it, which wait for that. Iterables of blocks cannot be told apart, and are not resumed. Wrong data or a full
    disk leave nothing.

    Two streamed passes; memory is bounded by some blocks of 8 MiB and 48 KiB a feature for its sketch, 256 MiB in all unless
    there are more than 170,000 features.
    """
    request = Request(
        *code_widths(bits, samples, layout, rounding, levels), levels, shared_levels, rounding, seed, zstd, threads, nonfinite,
        grid, target_error, clip, keep_exact, layout, coarsest,
    )  # fmt: skip
    chosen = {"label": label, "columns": columns, "keep": keep}
    return compress_with_report(
        X, y, path, request, chosen, overwrite=overwrite, resume=resume, shard_rows=shard_rows, progress=progress
    )[0]


def compress_with_report(
    X: Any,
    y: Any,
    path: str | PathLike[str],
    request: Request,
    chosen: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    shard_rows: int | None = None,
    progress: bool | Callable[..., Progress] = False,
) -> tuple[Dataset, Report]:
    """`compress`, and what it did."""
    start, target = time.perf_counter(), Path(path)
    workers = thread_count(request.threads)
    bars = progress if callable(progress) else Progress.on_terminal if progress else no_progress
    given, names = given_levels(request)
    clip = None
    if given is not None and request.clip:
        planes = request.layout == "weave" and given.bits >= request.least
        clip = given.bounds[:, 0], greatest(given, request.least) if planes else given.bounds[:, -1]
    if shard_rows is not None:
        shard_rows = check_integer("shard_rows", shard_rows, 1)
    with ExitStack() as stack:
        partial = stack.enter_context((Partial if shard_rows is None else PartialFolder)(target, overwrite))
        source = stack.enter_context(as_source(X, y, spool_dir=target.parent, **(chosen or {})))
        content = identity(source)
        check_apart(target, [*files_of(content), *([X.filename] if isinstance(X, np.memmap) and X.filename else [])])
        journal = Journal(partial.journal, _asked(request, given, content, shard_rows), stack.enter_context(Interrupts()))
        saved = journal.read() if resume and partial.resumable else None
        partial.begin(saved is not None)

        def pass_over(name: str, losses: Losses) -> Rows:
            return Rows(source, request.nonfinite, name, bars, clip, losses, workers)

        if saved is None or saved.about["phase"] == "statistics":
            first = pass_over("statistics", Losses() if saved is None else Losses.of(saved.arrays))
            learnt = learn(first, request, given, names, workers, journal, saved)
            codec, outline = outline_of(source, learnt, first.losses, request, given, workers)
            journal.check_source(source)
            second, saved = Losses(), None
        else:
            outline = Outline.of(saved, source.name)
            codec = codec_of(outline.header, outline.arrays["levels"])
            second = Losses(saved.about["seen"], int(saved.arrays["written_row"]))
        written = None if saved is None else saved.part("written_")
        parts = None
        writer: ContainerWriter | ShardedWriter
        if shard_rows is not None and isinstance(partial, PartialFolder):
            parts = ShardStatistics(codec, outline.header.seed, shard_rows, workers)
            options = (shard_rows, parts.of_rows, workers, written)
            writer = ShardedWriter(partial, outline.header, outline.arrays, outline.rowwise, *options)
        else:
            writer = ContainerWriter(partial, outline.header, outline.arrays, outline.rowwise, workers, written)
        with writer:
            encode(pass_over("encoding", second), codec, outline, writer, workers, journal, saved, parts)
        partial.publish()
    dataset, header = Dataset(target), outline.header
    report = Report(
        rows=header.rows,
        features=header.features,
        bits=header.bits,
        samples=header.samples,
        dropped=outline.dropped,
        clipped=outline.clipped,
        input_bytes=source.nbytes or outline.nbytes,
        output_bytes=dataset.file_bytes,
        seconds=time.perf_counter() - start,
        mean_squared_error=float(dataset.error.mean()),
        choice=outline.choice,
    )
    return dataset, report


def _asked(
    request: Request, given: Codec | None, content: dict[str, Any] | None, shard_rows: int | None
) -> dict[str, Any]:
    """What bytes come out, threads apart: the options, the source's identity, and who writes."""
    asked = {name: value for name, value in vars(request).items() if name not in ("threads", "levels")}
    if given is None:
        asked["levels"] = request.levels
    else:
        asked["levels"] = [digest(given.bounds), given.bits, given.samples, given.rounding, given.features]
    return asked | {"shard_rows": shard_rows, "version": VERSION, "source": content}


def outline_of(
    source: Source,
    learnt: Learnt,
    losses: Losses,
    request: Request,
    given: Codec | None,
    threads: int,
) -> tuple[Codec, Outline]:
    """Levels from the statistics, and what the file will be."""
    statistics, kept = learnt.statistics, learnt.kept
    codec, choice, found = _codec(source, statistics, request, given, threads)
    _warn_of_rounding(source, statistics, losses.rounded, codec.bits)
    _warn_of_labels(source, *losses.labels_rounded)
    options = {
        "levels": request.levels if request.given is None else str(getattr(request.given, "name", "given")),
        "shared_levels": codec.is_shared,
        "nonfinite": request.nonfinite,
        "source": source.name,
        "dropped_rows": losses.dropped,
    } | found
    planes = (request.layout, request.least if request.layout == "weave" else 0)
    header = make_header(statistics, codec, request.seed, check_zstd(request.zstd), options, *planes)
    arrays = _arrays(statistics, codec, header)
    for name, texts in {"columns": source.columns, "label_names": source.label_names, "kept_names": kept.names}.items():
        if (encoded := encode_names(texts or None)) is not None:
            arrays[name] = encoded
    if losses.clipped.size:
        arrays["clipped"] = losses.clipped
    told = (choice, losses.dropped, int(losses.clipped.sum()), losses.nbytes)
    return codec, Outline(header, arrays, learnt.labels, kept, *told, request.keep_exact)


def given_levels(request: Request) -> tuple[Codec | None, tuple[str, ...] | None]:
    """The codec of given levels, and the names of the columns they are for."""
    if request.given is None:
        return None, None
    if request.bits == "auto" or request.shared_levels:
        raise OptionError("given levels have their own width, and are shared or not: leave bits='auto' and shared_levels out")
    return (request.given, None) if isinstance(request.given, Codec) else load_levels(request.given)


def _codec(
    source: Source, statistics: ColumnStatistics, request: Request, given: Codec | None, threads: int
) -> tuple[Codec, str, dict[str, Any]]:
    """The codec, what to say of the choice, and what the file's options say of it."""
    if given is not None:
        if request.layout == "weave":
            check_nested(given, request.least, statistics.high)
        return given, "", {}
    bits, said, found = request.bits, [], {}
    levels, samples = request.levels, request.samples
    try:
        if isinstance(bits, str):
            target = TARGET_ERROR if request.target_error is None else request.target_error
            bits, error = choose_bits(statistics, levels, samples, target, threads, request.grid)
            said.append(f"{bits} bits: relative error {error:.3g}, at most {target:g} wanted")
            found["target_error"] = target
        if request.layout == "weave":
            codec, table = nested_codec(statistics, levels, bits, request.least, threads, request.grid)
        else:
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
            stacklevel=5,
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
            stacklevel=5,
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


def make_header(
    statistics: ColumnStatistics,
    codec: Codec,
    seed: int,
    zstd: int,
    options: dict[str, Any],
    layout: str = "rows",
    coarsest: int = 0,
) -> Header:
    """The file's header."""
    stride = row_stride(codec.features, codec.bits)
    return Header(
        rows=statistics.rows,
        features=codec.features,
        bits=codec.bits,
        samples=codec.samples,
        stride=stride,
        chunk_rows=chunk_rows_for(statistics.rows, disk_row(codec.features, codec.bits, layout)),
        level_kind="uniform" if codec.is_uniform else "table",
        rounding=codec.rounding,
        seed=seed,
        row_offset=0,
        zstd=zstd,
        tool=f"zipml-codec {VERSION}",
        options=json.dumps(options, sort_keys=True),
        layout=layout,
        coarsest=coarsest,
    )


def sample_count(rows: int, features: int, bits: int) -> int:
    """How many rows are kept exactly (FORMAT.md, section 5)."""
    share = SAMPLE_SHARE * rows * row_bytes(features, bits)
    return min(most_sampled(features), int(share // (4 * features + 8)))


def _arrays(statistics: ColumnStatistics, codec: Codec, header: Header) -> dict[str, NDArray[Any]]:
    numbers, values = statistics.sample.take(sample_count(header.rows, header.features, header.bits))
    return {
        "levels": codec.bounds,
        "low": statistics.low,
        "high": statistics.high,
        "mean": statistics.mean,
        "std": statistics.std,
        "sample_rows": numbers,
        "sample_values": values,
    }
