"""The command `zipml`: compress, levels, advise, concat, info, verify, repair, decompress, export, import, train, predict, demo,
bench.

Standard output carries the result, a table or one JSON object; standard error carries progress, notes and errors. Every
error is one line, `zipml: <what is wrong>`, with exit code 2; ZIPML_DEBUG=1 adds the traceback.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from .boards import train_on_board
from .checkpoint import EVERY
from .compress import compress_with_report
from .concat import concat as join
from .dataset import Dataset
from .errors import CorruptError, OptionError, ZipMLError
from .export import decompress as export_rows
from .export import predict_to_csv
from .formats.fpga import read_sidecar, sidecar_of
from .formats.output import check_apart, check_output
from .formats.partial import journal_of
from .formats.readers import open_source
from .fromimage import import_image
from .hardware import hardware_form
from .kept import type_name
from .model import Model, is_compressed
from .progress import Progress
from .repair import repair as repair_file
from .request import Request, code_widths
from .toimage import export_image
from .training import precisions, print_epoch
from .training import train as train_model
from .version import VERSION

BAD_INPUT, INTERRUPTED, TERMINATED, BUG = 2, 130, 143, 1
SHOWN_FEATURES = 10

app = typer.Typer(
    name="zipml", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Compress float data to a few bits without bias, and train linear models straight from the codes.",
)  # fmt: skip

File = Annotated[Path, typer.Argument(help="A zipml file.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output once the new one is complete.")]
Threads = Annotated[int | None, typer.Option(help="Default: the physical cores, or what OMP_NUM_THREADS says.")]
ShardRows = Annotated[int | None, typer.Option(help="Write a folder of files with so many rows each, and a manifest.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Sources = Annotated[
    list[Path],
    typer.Argument(
        help=".npy, .npz, .csv, .tsv, .svm, .libsvm (text also .gz, .zst, .bz2), .parquet, .feather, .h5, .zarr; a folder or "
        "quoted pattern of such files, or several, with the same columns.", show_default=False,
    ),
]  # fmt: skip
Label = Annotated[
    str | None, typer.Option(help="The label's column, by name or index; several: a,b; in .npz, .h5 and .zarr also an array.")
]
Columns = Annotated[str | None, typer.Option(help="Features, by name or index: a,b,3.", show_default="all but labels and kept")]
Keep = Annotated[str | None, typer.Option(help="Columns to carry through exactly, numbers or text: id,name.")]
DatasetName = Annotated[str | None, typer.Option("--dataset", help="Which array of an .npz, .h5 or .zarr to read.")]


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"zipml {VERSION}")
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    epilog="Readers hold a shared lock where the file system has locks; HDF5_USE_FILE_LOCKING=FALSE does without, TRUE insists.",
)
def _start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def compress(
    source: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="The zipml file, usually NAME.zipml.h5.", show_default=False)],
    label: Label = None,
    columns: Columns = None,
    keep: Keep = None,
    dataset: DatasetName = None,
    bits: Annotated[
        str | None,
        typer.Option(help="Bits a value, 1..8, or auto: the fewest that meet --target-error.", show_default="4, or 8 of planes"),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(help="Samples that a code stands for.", show_default="2, or 1 of planes and with --rounding nearest"),
    ] = None,
    layout: Annotated[
        str, typer.Option(help="rows, or weave: planes of bits, of which the first can be read alone, see train --precision.")
    ] = "rows",
    coarsest: Annotated[
        int | None, typer.Option(help="With --layout weave: the fewest bits it is to be read at.", show_default="2")
    ] = None,
    levels: Annotated[
        str,
        typer.Option(
            help="optimal, uniform, harp:Q (those of FPGA codes of Q = 1, 2, 4 or 8 bits, for `zipml export`), or a file of "
            "levels: from `zipml levels --save`, or a zipml file."
        ),
    ] = "optimal",
    clip: Annotated[
        bool, typer.Option("--clip", help="Move values outside of given levels to the nearest, and count them.")
    ] = False,
    target_error: Annotated[
        float | None,
        typer.Option(help="With --bits auto: rounding variance over a column's own, in the mean.", show_default="0.01"),
    ] = None,
    grid: Annotated[
        str, typer.Option(help="Optimal levels on the grid of one byte that integer training needs: auto, byte, none.")
    ] = "auto",
    shared_levels: Annotated[bool, typer.Option("--shared-levels", help="One table of levels for all features.")] = False,
    rounding: Annotated[str, typer.Option(help="stochastic, or nearest: the biased baseline.")] = "stochastic",
    seed: Annotated[int, typer.Option(help="The same data and seed give the same codes.")] = 0,
    zstd: Annotated[int | None, typer.Option(help="Compress the codes at this zstandard level, 1..19.")] = None,
    keep_exact: Annotated[
        bool, typer.Option("--keep-exact", help="Keep all rows beside their codes, in float32: 4 bytes a value more.")
    ] = False,
    threads: Threads = None,
    overwrite: Overwrite = False,
    shard_rows: ShardRows = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted compression, if there is one.")] = False,
    nonfinite: Annotated[str, typer.Option(help="Rows with NaN or infinity: raise an error, or drop them.")] = "raise",
    as_json: Json = False,
) -> None:
    """Compress a file of numbers, or several with the same columns."""
    request = Request(
        *code_widths(None if bits is None else _width(bits), samples, layout, rounding, levels), levels, shared_levels, rounding,
        seed, zstd, threads, nonfinite, grid, target_error, clip, keep_exact, layout, coarsest,
    )  # fmt: skip
    try:
        with open_source(source, label=label, columns=columns, keep=keep, dataset=dataset) as rows:
            data, report = compress_with_report(
                rows, None, output, request, overwrite=overwrite, resume=resume, shard_rows=shard_rows, progress=not as_json
            )
    except (KeyboardInterrupt, _Terminated) as stopped:
        if journal_of(output).exists():
            raise _Kept(INTERRUPTED if isinstance(stopped, KeyboardInterrupt) else TERMINATED) from stopped
        raise
    float_bytes, float_rows = _float_bytes(data), 4 * data.shape[0] * data.shape[1]
    data.close()
    result = {
        "output": str(output), "rows": report.rows, "features": report.features, "bits": report.bits,
        "samples": report.samples, "dropped": report.dropped, "clipped": report.clipped,
        "input_bytes": report.input_bytes, "output_bytes": report.output_bytes,
        "ratio": report.input_bytes / report.output_bytes, "ratio_to_float32": float_bytes / report.output_bytes,
        "mean_squared_error": report.mean_squared_error, "seconds": report.seconds,
        "gb_per_second": report.input_bytes / report.seconds / 1e9,
    }  # fmt: skip
    if as_json:
        return _print_json(result)
    lines = [
        ("rows x features", f"{report.rows:,} x {report.features:,}"),
        ("codes", f"{report.bits} bits, {report.samples} sample{'s' * (report.samples > 1)}"),
        ("planes", f"read at {request.least} to {report.bits} bits") if layout == "weave" else None,
        ("chosen", report.choice) if report.choice else None,
        ("clipped values", f"{report.clipped:,}") if clip else None,
        ("dropped rows", f"{report.dropped:,} with NaN or infinity") if report.dropped else None,
        ("input", _bytes(report.input_bytes)),
        ("output", _bytes(report.output_bytes) + (f", of which exact rows {_bytes(float_rows)}" if keep_exact else "")),
        ("ratio", f"{result['ratio']:.2f} to the input, {result['ratio_to_float32']:.2f} to float32"),
        ("mean squared error", f"{report.mean_squared_error:.4g}"),
        ("time", f"{report.seconds:.2f} s, {result['gb_per_second']:.3f} GB/s of input"),
    ]
    _print_pairs(str(output), lines)


def _width(text: str, option: str = "--bits") -> int | str:
    """Bits as given on the command line."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor auto", param_hint=option) from None


@app.command()
def levels(
    source: Annotated[list[Path], typer.Argument(help="What `zipml compress` takes.", show_default=False)],
    label: Label = None,
    columns: Columns = None,
    dataset: DatasetName = None,
    bits: Annotated[str, typer.Option(help="Widths, separated by commas or as a range.")] = "2..8",
    samples: Annotated[int, typer.Option(help="Samples that a code stands for.")] = 1,
    shared_levels: Annotated[bool, typer.Option("--shared-levels", help="One table of levels for all features.")] = False,
    features: Annotated[int, typer.Option(help="Rows of the table of features.", min=0)] = SHOWN_FEATURES,
    plot: Annotated[Path | None, typer.Option(help="Draw a column's density with its levels, and rate and distortion.")] = None,
    feature: Annotated[
        str | None, typer.Option(help="The column to draw, a name or number.", show_default="that gains most")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Keep the optimal levels of the one width given, for --levels.")] = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Show what uniform and variance-optimal levels of each width cost, and what the optimal ones save."""
    from .surveying import Choice, look

    with open_source(source, label=label, columns=columns, dataset=dataset) as rows:
        choice = Choice(bits, samples, shared_levels, plot, feature, save, overwrite, threads)
        result = look(rows, choice, Progress.on_terminal if not as_json else None)
    if as_json:
        return _print_json(result)
    widths, mean = result["bits"], result["mean"]
    head = ["feature", *(f"{width} bits" for width in widths)]
    for kind in ("uniform", "optimal"):
        table = [[row["name"], *(f"{error:.3g}" for error in row[kind])] for row in result["per_feature"][:features]]
        table.append(["mean, over variance", *(f"{error:.3g}" for error in mean[kind])])
        _print_table(f"Mean squared error, {kind} levels", head, table, [len(table) - 1])
    table = [
        [row["name"], *("all" if saved is None else f"{saved:.2f}" for saved in row["saved"])]
        for row in result["per_feature"][:features]
    ]
    table.append(["mean", *(f"{saved:.2f}" for saved in mean["saved"])])
    _print_table("Bits saved by optimal levels", head, table, [len(table) - 1])
    left = len(result["per_feature"]) - features
    if left > 0:
        typer.echo(f"  and {left:,} more features: --features {len(result['per_feature'])}")
    for name in ("picture", "saved_to"):
        if result[name]:
            typer.echo(f"  {name.replace('_', ' ')}: {result[name]}")


@app.command()
def advise(
    source: Sources,
    label: Label = None,
    columns: Columns = None,
    dataset: DatasetName = None,
    loss: Annotated[str, typer.Option(help="squared, lssvm, logistic or hinge.")] = "squared",
    penalty: Annotated[str, typer.Option(help="l2, none, l1, elastic-net or nonnegative.")] = "l2",
    strength: Annotated[float, typer.Option(help="Factor of the penalty on coefficients.")] = 0.0,
    bits: Annotated[str, typer.Option(help="Widths, separated by commas or as a range.")] = "2..8",
    tolerance: Annotated[float, typer.Option(help="How much the loss on held-out rows may exceed float32's.")] = 0.01,
    rows: Annotated[int, typer.Option(help="Of the sample that is trained and judged on.")] = 65536,
    test_fraction: Annotated[float, typer.Option(help="Share of the sample that is held out.")] = 0.25,
    epochs: int = 20,
    nonfinite: Annotated[str, typer.Option(help="Rows with NaN or infinity: raise an error, or drop them.")] = "raise",
    plot: Annotated[Path | None, typer.Option(help="Draw the loss over width, .png.")] = None,
    overwrite: Overwrite = False,
    seed: int = 0,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Recommend the smallest width that trains as well as float32: try all of them on a sample of the rows."""
    from .advise import advise as try_widths
    from .advise import command, table
    from .surveying import widths

    if plot is not None:
        check_output(plot, overwrite)
        check_apart(plot, source)
    logging.getLogger("zipml_codec").setLevel(logging.ERROR)  # not a note for each of its many runs
    with open_source(source, label=label, columns=columns, dataset=dataset) as opened:
        found = try_widths(
            opened, loss=loss, penalty=penalty, strength=strength, bits=widths(bits, 1), tolerance=tolerance, rows=rows,
            test_fraction=test_fraction, epochs=epochs, nonfinite=nonfinite, plot=plot, threads=threads, seed=seed,
            progress=not as_json,
        )  # fmt: skip
    dropped = None if nonfinite == "raise" else nonfinite
    reading = {"--label": label, "--columns": columns, "--dataset": dataset, "--nonfinite": dropped}
    line = command(found, source, [text for name, value in reading.items() if value is not None for text in (name, value)])
    picture = None if plot is None else str(plot)
    if as_json:
        return _print_json(found.as_dict() | {"command": line, "picture": picture})
    _print_table(f"{loss} loss on {found.test_rows:,} held-out rows, trained on {found.train_rows:,}", *table(found))
    best = f"{_counted(found.best.bits, 'bit')}, {found.best.levels} levels, {_counted(found.best.samples, 'sample')}"
    typer.echo(f"  {'within' if found.sure else 'closest to'} {100 * found.tolerance:g} % of float32's loss: {best}")
    for note in found.notes:
        typer.echo(f"  {note}")
    if picture:
        typer.echo(f"  picture: {picture}")
    typer.echo(f"\n{line}")


@app.command()
def info(
    file: File,
    features: Annotated[int, typer.Option(help="Rows of the table of features.", min=0)] = SHOWN_FEATURES,
    as_json: Json = False,
) -> None:
    """Say what a zipml file holds, how it was made and how exact it is."""
    with Dataset(file) as data:
        about = describe(data)
    if as_json:
        return _print_json(about)
    shared, options = about["shared_levels"], about["options"]
    _print_pairs(str(file), [
        ("rows x features", f"{about['rows']:,} x {about['features']:,}"),
        ("codes", f"{_counted(about['bits'], 'bit')}, {_counted(about['samples'], 'sample')}, {about['rounding']} rounding"),
        ("levels", f"{about['levels']}, {about['intervals'] + 1} {'for all features' if shared else 'a feature'}"),
        ("labels", _titles(about["label_names"], about["labels"])),
        ("kept columns", ", ".join(f"{kept['name']} ({kept['type']})" for kept in about["kept"])) if about["kept"] else None,
        ("exact copy", f"all rows in float32, {_bytes(about['exact_bytes'])}") if about["exact_bytes"] else None,
        ("shards", f"{about['shards']:,}") if about["shards"] else None,
        ("file", _bytes(about["file_bytes"]) + (f", zstd {about['zstd']}" if about["zstd"] else "")),
        ("ratio to float32", f"{about['ratio_to_float32']:.2f}"),
        ("mean squared error", f"{about['mean_squared_error']:.4g}"),
        ("made", f"by {options['tool']} from {options.get('source')}, seed {about['seed']}"),
        ("dropped rows", f"{options['dropped_rows']:,} with NaN or infinity") if options.get("dropped_rows") else None,
        ("clipped values", f"{about['clipped']:,}") if about["clipped"] is not None else None,
        ("byte grid", _grid(options)) if "grid_steps" in options else None,
    ])  # fmt: skip
    if about["precisions"]:
        rows = [[f"{one['bits']} bits", _bytes(one["bytes"]), f"{one['noise']:.4g}"] for one in about["precisions"]]
        _print_table("Planes, read at", ["precision", "bytes of codes", "variance added, in the mean of the columns' own"], rows)
    shown = about["per_feature"][:features]
    if shown:
        keys = ("low", "high", "mean", "std", "error")
        rows = [[str(row["name"]), *(f"{row[key]:.4g}" for key in keys), f"{row['relative_error']:.3%}"] for row in shown]
        _print_table(None, ["feature", "min", "max", "mean", "std", "mean squared error", "of variance"], rows)
        if len(about["per_feature"]) > len(shown):
            typer.echo(f"  and {len(about['per_feature']) - len(shown):,} more features: --features {len(about['per_feature'])}")


def _titles(names: Sequence[str] | None, count: int) -> str:
    """What labels are called."""
    return ", ".join(names) if names else f"{count}, without names" if count > 1 else "yes" if count else "none"


def _grid(options: dict[str, Any]) -> str:
    """What the file says of the grid that integer training needs."""
    steps, cost = options["grid_steps"], f"{options['snapping'] - 1:.1%} more rounding variance than levels anywhere"
    return f"{steps} steps, {cost}" if steps else f"none: it would cost {cost}" if options["snapping"] > 1 else "none"


def describe(data: Dataset) -> dict[str, Any]:
    """What `zipml info --json` prints of a file."""
    names, form = data.columns or range(data.shape[1]), hardware_form(data.codec)
    kind = "uniform" if data.codec.is_uniform else "optimal" if form is None else f"harp:{form[0]}"
    variance = data.std**2
    relative = np.where(variance > 0, data.error / np.where(variance > 0, variance, 1), 0)
    columns = {"low": data.low, "high": data.high, "mean": data.mean, "std": data.std, "error": data.error, "noise": data.noise}
    return {
        "path": str(data.path), "rows": data.shape[0], "features": data.shape[1], "bits": data.bits, "samples": data.samples,
        "levels": kind, "intervals": data.intervals if form is None else form[1],
        "shared_levels": data.codec.is_shared, "rounding": data.rounding, "seed": data.seed, "has_labels": data.has_labels,
        "labels": data.labels_a_row, "label_names": data.label_names,
        "kept": [{"name": name, "type": type_name(dtype)} for name, dtype in data.kept.dtypes.items()],
        "stride": data.stride, "chunk_rows": data.chunk_rows, "chunks": data.chunks,
        "zstd": data._file.header.zstd, "version": data._file.version, "file_bytes": data.file_bytes,
        "shards": data.shards, "exact_bytes": 4 * data.shape[0] * data.shape[1] if data.has_exact_copy else 0,
        "ratio_to_float32": _float_bytes(data) / data.file_bytes, "mean_squared_error": float(data.error.mean()),
        "layout": data.layout, "precisions": _precisions(data), "options": data.options,
        "clipped": None if data.clipped is None else int(data.clipped.sum()),
        "per_feature": [
            {"name": name, **{key: float(values[i]) for key, values in columns.items()}, "relative_error": float(relative[i])}
            for i, name in enumerate(names)
        ],
    }  # fmt: skip


def _precisions(data: Dataset) -> list[dict[str, Any]]:
    """Of a file of planes, what each precision reads and what it adds to the columns' variance."""
    own = np.where(data.std > 0, data.std, np.inf) ** 2
    return [
        {"bits": bits, "bytes": bits * data.file_codes // data.stored_bits, "noise": float(np.mean(noise / own))}
        for bits, noise in data.noises.items()
    ]


@app.command()
def concat(
    sources: Annotated[list[Path], typer.Argument(help="Zipml files, or folders of shards.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The zipml file, or folder.", show_default=False)],
    shard_rows: ShardRows = None,
    overwrite: Overwrite = False,
) -> None:
    """Join files of the same columns and levels, or cut them into shards anew; codes are copied."""
    with join(sources, path=output, shard_rows=shard_rows, overwrite=overwrite, progress=True) as data:
        shards = f" in {_counted(data.shards, 'shard')}" if data.shards else ""
        typer.echo(f"{output}: {data.shape[0]:,} x {data.shape[1]:,}{shards}, {_bytes(data.file_bytes)}")


@app.command()
def verify(file: File) -> None:
    """Read the whole file and check every digest."""
    start = time.perf_counter()
    with Dataset(file) as data, Progress.on_terminal("verifying", data.shape[0], None) as bar:
        try:
            data.verify(bar.advance)
        except CorruptError as error:
            advice = "" if "zipml repair" in str(error) else ": zipml repair lists which rows survive, and saves them"
            raise CorruptError(f"{error}{advice}") from error
        rate = data.file_bytes / (time.perf_counter() - start) / 1e9
        chunks = f"{data.chunks:,} chunk{'s' * (data.chunks > 1)}"
        typer.echo(f"{file}: all {data.shape[0]:,} rows in {chunks} are as they were written ({rate:.2f} GB/s)")


@app.command()
def repair(
    file: Annotated[Path, typer.Argument(help="A damaged zipml file.", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The new file.", show_default="none: only look")] = None,
    without: Annotated[
        str | None, typer.Option(help="What to leave out, labels, exact or kept columns, a,b: rows that miss only those survive.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """List which rows of a damaged file survive, and write them to a new one."""
    left_out = () if without is None else tuple(without.split(","))
    found = repair_file(file, output, without=left_out, overwrite=overwrite, progress=not as_json)
    if as_json:
        saved = None if output is None else str(output)
        return _print_json({"file": str(file), "output": saved, **asdict(found)})
    if found.damage:
        rows = [[one.part, "" if one.rows is None else f"{one.rows[0]:,} to {one.rows[1]:,}", one.reason] for one in found.damage]
        _print_table(str(file), ["damaged", "rows", "what"], rows)
    whole = "all" if found.saved == found.rows else f"{found.saved:,} of"
    typer.echo(f"{file}: {whole} {found.rows:,} rows are as they were written{'' if found.damage else ', and all else is'}")
    typer.echo(f"{output}: those rows" if output is not None else "  nothing was written: name a new file with -o")


@app.command()
def decompress(
    file: File,
    output: Annotated[Path, typer.Option("--output", "-o", help=".npy, .csv or .h5", show_default=False)],
    exact: Annotated[bool, typer.Option("--exact", help="Write the rows that --keep-exact kept, not the decoded ones.")] = False,
    precision: Annotated[int | None, typer.Option(help="Bits to read of each value of planes.", show_default="all")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write decoded rows as .npy, .csv or .h5."""
    with Dataset(file, precision=precision) as data:
        written = export_rows(data, output, overwrite, exact=exact, progress=True)
        typer.echo(f"{written[0]}: {data.shape[0]:,} x {data.shape[1]:,}, {written[0].stat().st_size:,} bytes")
        beside = ["the labels"] * data.has_labels + [f"the column {name}" for name in data.kept]
        for path, what in zip(written[1:], beside, strict=False):  # in .csv and .h5 all is in one file
            typer.echo(f"{path}: {what}")


@app.command()
def train(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A zipml file; with --engine also what `zipml export` wrote.", show_default=False)],
    label: Annotated[str | None, typer.Option(help="Which of several labels: a name or a number; several at once: a,b.")] = None,
    loss: Annotated[str, typer.Option(help="squared, lssvm, logistic or hinge.")] = "squared",
    solver: Annotated[str, typer.Option(help="sgd, or normal: squared losses exactly, in one pass.")] = "sgd",
    penalty: Annotated[
        str, typer.Option(help="l2, none, l1, elastic-net, nonnegative, box, l2-ball or l1-ball.")
    ] = "l2",
    strength: Annotated[float, typer.Option(help="Factor of the penalty on coefficients.")] = 0.0,
    l1_ratio: Annotated[float, typer.Option(help="Share of l1 in elastic-net.")] = 0.5,
    bounds: Annotated[str | None, typer.Option(help="Of coefficients: low,high, one of them may be empty.")] = None,
    radius: Annotated[float | None, typer.Option(help="Of a ball.")] = None,
    penalty_units: Annotated[
        str, typer.Option(help="data or standard: coefficients as they are, or times their columns' standard deviation.")
    ] = "data",
    weights: Annotated[str | None, typer.Option(help="A kept column that holds the rows' weights.")] = None,
    balanced: Annotated[bool, typer.Option("--balanced", help="Let each class weigh as much as any other.")] = False,
    epochs: int = 20,
    batch: Annotated[int | None, typer.Option(help="Rows of a step.", show_default="from the number of rows")] = None,
    step: Annotated[float | None, typer.Option(help="First step size.", show_default="from the data")] = None,
    schedule: Annotated[str, typer.Option(help="cosine or inverse, the paper's alpha/epoch.")] = "cosine",
    debias: Annotated[
        str, typer.Option(help="auto, diagonal, collapsed, double-sampling or naive; chebyshev; of the hinge refetch, sketch.")
    ] = "auto",
    degree: Annotated[int, typer.Option(help="Of chebyshev's polynomial; takes samples of degree + 1.")] = 3,
    span: Annotated[float, typer.Option(help="Chebyshev is fitted on margins from -SPAN to SPAN,")] = 4.0,
    gap: Annotated[float, typer.Option(help="but not within GAP of the hinge.")] = 0.25,
    sketch_size: Annotated[int, typer.Option(help="Numbers that sketch keeps of each row in memory.")] = 128,
    failure: Annotated[float, typer.Option(help="Probability that sketch is wrong of a row.")] = 0.01,
    model_bits: Annotated[
        str, typer.Option(help="32, 16, 8, 4, or auto: integers of 8 bits where the codes allow it.")
    ] = "auto",
    gradient_bits: Annotated[int, typer.Option(help="32, 16, 8 or 4.")] = 32,
    residual_bits: Annotated[str, typer.Option(help="16, 8, 4, or auto: as the model's.")] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(help="Bits to read of each value of planes; several, coarse at first: 2:4:8.", show_default="all"),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Stop when three epochs gain less than this share; 0: never.")] = 0.0,
    checkpoint: Annotated[Path | None, typer.Option(help="A file to keep the run's state in.", show_default=False)] = None,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds from one to the next.")] = EVERY,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint, where there is one.")] = False,
    test_fraction: Annotated[float, typer.Option(help="Share of rows to measure on instead of training.")] = 0.0,
    engine: Annotated[
        str | None, typer.Option(help="Compute what an FPGA would, bit for bit: harp, pynq or mlweaving.", show_default=False)
    ] = None,
    step_shift: Annotated[
        int | None, typer.Option(help="Of --engine: rows' steps are 2^-STEP_SHIFT, 0..31.", show_default="from the rows' norms")
    ] = None,
    minibatch: Annotated[
        int | None, typer.Option(help="Of --engine: rows of a batch, a power of two.", show_default="1, mlweaving 8")
    ] = None,
    seed: int = 0,
    threads: Threads = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to save the model, .npz.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train a linear model straight from the codes."""
    if output is not None:
        check_output(output, overwrite)
    _check_engine(context, engine)
    if engine is not None:
        one, *others = precisions(precision)
        if others:
            raise OptionError(f"--engine {engine} reads at one precision; got --precision {precision}")
        model = train_on_board(
            file, engine, epochs=epochs, step_shift=step_shift, minibatch=minibatch, precision=one, label=label, seed=seed
        )
        return _show_board(model, file, output, as_json)
    if sidecar_of(file).is_file() and not is_compressed(file):
        raise OptionError(f"{file} is an image for a board: --engine {read_sidecar(file)[0].layout} trains from it")
    with Dataset(file) as data:
        model = train_model(
            data, label=_several(label), loss=loss, solver=solver, penalty=penalty, strength=strength, l1_ratio=l1_ratio,
            bounds=_bounds(bounds), radius=radius, penalty_units=penalty_units, sample_weight=weights,
            class_weight="balanced" if balanced else None, epochs=epochs, batch=batch, step=step, schedule=schedule,
            debias=debias, degree=degree, span=span, gap=gap, sketch_size=sketch_size, failure=failure,
            model_bits=_width(model_bits, "--model-bits"), gradient_bits=gradient_bits,
            residual_bits=_width(residual_bits, "--residual-bits"), test_fraction=test_fraction, tolerance=tolerance,
            precision=precision,
            checkpoint=checkpoint, checkpoint_every=checkpoint_every, resume=resume, threads=threads, seed=seed,
            progress=False if as_json else print_epoch,
        )  # fmt: skip
    if output is not None:
        model.save(output)
    about = model.info
    exact = solver == "normal"
    seconds = about["seconds"] if exact else float(np.mean([entry["seconds"] for entry in model.history]))
    if as_json:
        saved = None if output is None else str(output)
        return _print_json({"output": saved, **about, "seconds_per_epoch": seconds, "history": model.history})
    lines: list[tuple[str, str] | None] = [
        ("rows", f"{about['train_rows']:,} to train on" + (f", {about['test_rows']:,} to test" if about["test_rows"] else ""))
    ]
    for part in ("train", "test"):
        if f"{part}_loss" in about:
            lines.append((f"{part} loss", f"{about[f'{part}_loss']:.6g}"))
        if f"{part}_accuracy" in about:
            on = f"{about[f'{part}_accuracy_rows']:,} {about[f'{part}_accuracy_on']}"
            lines.append((f"{part} accuracy", f"{about[f'{part}_accuracy']:.2%} on {on}"))
    if "refetched" in about:
        lines.append(("rows fetched exactly", f"{about['refetched']:.2%} in the last epoch"))
    if "polynomial" in about:
        fit = about["polynomial"]
        said = f"degree {degree}: bias {fit['mean_bias']:.3g}, variance {fit['variance']:.3g} in the last epoch"
        lines.append(("polynomial", f"{said}, {fit['outside_of_span']:.2%} of margins outside of the span"))
    lines += [
        ("solved by", "the normal equations") if exact
        else ("computed in", "integers" if about["engine"] == "integer" else "float32"),
        ("debias", f"{about['debias']}, share {about['share']:g}: {about['debias_reason']}"),
        None if exact else ("batch, first step", f"{about['batch']:,} rows, {about['step']:.4g}"),
        ("seconds" if exact else "seconds per epoch", f"{seconds:.4g}"),
        ("model", str(output) if output is not None else "not saved: name a file with -o"),
    ]
    _print_pairs(f"{file}: {loss} loss" + ("" if exact else f", {epochs} epochs"), lines)


ON_BOARDS = {"step_shift", "minibatch"}  # options of --engine alone, and all that it takes
BESIDE = ON_BOARDS | {"file", "engine", "precision", "label", "epochs", "seed", "output", "overwrite", "as_json"}


def _check_engine(context: typer.Context, engine: str | None) -> None:
    """Refuse options that a board does not have, or that only a board has."""
    for part in context.command.params:
        if part.name is None or getattr(context.get_parameter_source(part.name), "name", "") != "COMMANDLINE":
            continue
        if engine is None and part.name in ON_BOARDS:
            raise OptionError(f"{part.opts[0]} is of --engine harp, pynq or mlweaving")
        if engine is not None and part.name not in BESIDE:
            raise OptionError(f"--engine {engine} has no {part.opts[0]}: it is least squares with a constant step, --step-shift")


def _show_board(model: Model, file: Path, output: Path | None, as_json: bool) -> None:
    """What training on a board gave: its losses beside those of float64."""
    if output is not None:
        model.save(output)
    about = model.info
    saved = None if output is None else str(output)
    if as_json:
        return _print_json({"output": saved, **about, "history": model.history})
    losses = [[f"{entry[name]:.6g}" if entry[name] is not None else "diverged" for name in ("train_loss", "float_loss")]
              for entry in model.history]  # fmt: skip
    groups = about["engine"] == "mlweaving"
    _print_table(
        f"{file}: least squares as {about['engine']} computes it, mean of (a.x - b)^2 / 2 in the image's units",
        ["epoch", "board loss", "float64 loss", f"{'groups' if groups else 'rows'} that wrapped"],
        [[str(entry["epoch"]), *pair, f"{entry['wrapped']:,}"] for entry, pair in zip(model.history, losses, strict=True)],
    )
    codes = f"{about['planes']} of 32 planes" if groups else f"{about['bits']} bits, {about['range'][0]:g}..{about['range'][1]:g}"
    distance = about["model_distance"]
    _print_pairs("", [
        ("rows x features", f"{about['rows']:,} x {about['features']:,}"),
        ("values", codes + (f", {about['indices']} copies" if about["indices"] > 1 else "")),
        ("step, batch", f"2^-{about['step_shift']} a row, {_counted(about['minibatch'], 'row')} (mask {about['mask']})"),
        ("from float64's model", "it diverged" if distance is None else f"{distance:.2%}"),
        ("seconds per epoch", f"{np.mean([entry['seconds'] for entry in model.history]):.4g} for the board's"),
        ("model", saved or "not saved: name a file with -o"),
    ])  # fmt: skip


def _several(label: str | None) -> str | list[str] | None:
    """One label, or the list of several."""
    return label.split(",") if label is not None and "," in label else label


def _bounds(text: str | None) -> tuple[float | None, float | None] | None:
    """A pair of numbers, or of nothing, from "low,high"."""
    if text is None:
        return None
    try:
        low, high = (float(part) if part.strip() else None for part in text.split(","))
    except ValueError:
        raise OptionError(f"--bounds must be low,high, one of them may be empty; got {text!r}") from None
    return low, high


@app.command()
def export(
    file: File,
    layout: Annotated[str, typer.Option(help="Of the image: harp, pynq or mlweaving.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The image, OUT.bin; what is in it goes to OUT.bin.json.", show_default=False)
    ],
    bits_hw: Annotated[int | None, typer.Option(help="Q, bits of a sample: 1, 2, 4, 8.", show_default="the file's")] = None,
    level_range: Annotated[str, typer.Option("--range", help="Hardware's values of a column's ends: 01 or 11 (-1..1).")] = "01",
    indices: Annotated[int, typer.Option(help="Copies of the rows, for harp, one for each epoch in turn.", min=1)] = 1,
    bias: Annotated[bool, typer.Option("--bias", help="Append a feature of constant 1.")] = False,
    label: Annotated[str | None, typer.Option(help="Which of several labels, by name or number.")] = None,
    label_scale: Annotated[float, typer.Option(help="What labels are multiplied by, to be within -256..256.")] = 1.0,
    requantize: Annotated[
        bool, typer.Option("--requantize", help="Round to the hardware's levels again: the exact copy, else decoded rows.")
    ] = False,
    last_rows: Annotated[
        str, typer.Option(help="Rows that are no multiple of mlweaving's 8: raise an error, drop the last, or pad with zeros.")
    ] = "raise",
    seed: Annotated[int, typer.Option(help="The same file and seed give the same image.")] = 0,
    threads: Threads = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the byte image that one of the published FPGA designs reads, and a JSON that says what is in it."""
    start = time.perf_counter()
    if level_range not in ("01", "11"):
        raise OptionError(f"--range must be 01, for 0..1, or 11, for -1..1; got {level_range!r}")
    image = export_image(
        file, output, layout, bits=bits_hw, signed=level_range == "11", indices=indices, bias=bias, label=label,
        label_scale=label_scale, requantize=requantize, last_rows=last_rows, seed=seed, threads=threads, overwrite=overwrite,
        progress=not as_json,
    )  # fmt: skip
    seconds, zeros = time.perf_counter() - start, image.features - image.data_features - image.bias
    if as_json:
        sizes = ("rows", "data_rows", "features", "data_features", "bias", "indices", "row_lines", "lines")
        about = {name: getattr(image, name) for name in ("layout", "bits", "signed", *sizes)}
        about |= {"zero_features": zeros, "bytes": image.data.nbytes}
        return _print_json({"output": str(output), **about, "source": image.source["values"], "seconds": seconds})
    beside = [f"{image.data_features:,}", *["a bias"] * image.bias, *[f"{_counted(zeros, 'feature')} of zeros"] * (zeros > 0)]
    low, high = image.level_range
    added = image.rows - image.data_rows
    mlweaving = image.layout == "mlweaving"
    _print_pairs(str(output), [
        ("layout", f"{image.layout}, {'planes of 32' if mlweaving else image.bits} bit{'s' * (image.bits > 1)}"),
        ("made of", image.source["values"]),
        ("features", " and ".join(beside)),
        ("rows", f"{image.rows:,}" + (f", {added} of zeros" if added > 0 else f", the last {-added} left out" if added else "")),
        ("indices", f"{image.indices:,}: {image.source['copies']}") if image.indices > 1 else None,
        ("values", f"{low:g}..{high:g} for a column's least..greatest"),
        ("labels", "none" if not image.labelled else f"times {image.label_scale:g}" if image.label_scale != 1 else "as they are"),
        ("image", f"{_bytes(image.data.nbytes)}, {image.lines:,} lines of {image.line_bytes} bytes"),
        ("seconds", f"{seconds:.2f}, {image.data.nbytes / seconds / 1e9:.2f} GB/s"),
    ])  # fmt: skip


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="An image that `zipml export` wrote, OUT.bin.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A zipml file; of mlweaving .npy or .npz.", show_default=False)
    ],
    zstd: Annotated[int | None, typer.Option(help="Compress the codes at this zstandard level, 1..19.")] = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Bring an image back: codes of harp and pynq to a zipml file, values of mlweaving to an array."""
    paths = import_image(file, output, zstd=zstd, threads=threads, overwrite=overwrite, progress=not as_json)
    sizes = {str(path): path.stat().st_size for path in paths}
    if as_json:
        return _print_json({"written": sizes})
    for name, size in sizes.items():
        typer.echo(f"{name}: {_bytes(size)}")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model that `zipml train` saved.", show_default=False)],
    data: Annotated[Path, typer.Argument(help="A zipml file, or raw data.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .csv to write.", show_default=False)],
    label: Annotated[
        str | None, typer.Option(help="What to compare with: a column of raw data, or one of several labels of a zipml file.")
    ] = None,
    keep: Keep = None,
    dataset: DatasetName = None,
    overwrite: Overwrite = False,
) -> None:
    """Predict for the rows of a file, compressed or raw."""
    start = time.perf_counter()
    trained = Model.load(model)
    done = predict_to_csv(trained, data, output, label=label, keep=keep, dataset=dataset, overwrite=overwrite, progress=True)
    on = "rounded rows" if is_compressed(data) else "exact rows"
    _print_pairs(str(output), [
        ("predictions", f"{done['rows']:,}"),
        ("compared with", str(done["label"])) if done.get("label") is not None else None,
        ("mean squared error", f"{done['mean_squared_error']:.6g}") if "mean_squared_error" in done else None,
        ("accuracy", f"{done['accuracy']:.2%} on {on}") if "accuracy" in done else None,
        ("seconds", f"{time.perf_counter() - start:.2f}"),
    ])  # fmt: skip


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files and the picture.")] = Path("zipml-demo"),
    as_json: Json = False,
    rows: Annotated[int, typer.Option(help="Rows of the synthetic set, to train on and again to test on.", min=100)] = 10_000,
) -> None:
    """Run the whole path on embedded data: compress, train from the file, compare with float32, draw a picture."""
    from .demo import COLUMNS, run_demo, table_rows

    start = time.perf_counter()
    logging.getLogger("zipml_codec").setLevel(logging.WARNING)  # not a note for each of its many runs
    result = run_demo(output, rows)
    if as_json:
        return _print_json(result)
    _print_table("Trained from codes, measured on exact test rows", COLUMNS, table_rows(result), result["sections"])
    for line in result["notes"]:
        typer.echo(f"  {line}")
    typer.echo("")
    info(Path(result["example"]), features=3)
    typer.echo(f"\n  picture: {result['picture']}    all of it took {time.perf_counter() - start:.1f} s")


@app.command()
def bench(
    rows: Annotated[int | None, typer.Option(help="Of float32.", show_default="4 times the last-level cache")] = None,
    features: int = 1024,
    batch: Annotated[str, typer.Option(help="Rows of a step; several separated by commas.")] = "1024",
    threads: Annotated[str | None, typer.Option(help="Several separated by commas.", show_default="1, 2, 4, .. all")] = None,
    rounds: Annotated[int | None, typer.Option(help="Medians are over so many.", show_default="15, quick 5")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few seconds: fewer rounds, at most 256 MiB of float32.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw features a second of each width, .png.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure this machine: memory, encoding, decoding, and SGD epochs over codes beside float32 and NumPy."""
    from .benchmark import COLUMNS, Choice, machine_lines, run_bench, table_rows

    result = run_bench(Choice(rows, features, batch, threads, rounds, quick, plot, overwrite), progress=not as_json)
    if as_json:
        return _print_json(result)
    for line in machine_lines(result):
        typer.echo(f" {line}")
    _print_table(None, COLUMNS, *table_rows(result))
    for line in [*result["notes"], f"All of it took {result['total_seconds']:.0f} s."]:
        typer.echo(f"  {line}")
    if result["picture"]:
        typer.echo(f"  picture: {result['picture']}")


def _float_bytes(data: Dataset) -> int:
    """Bytes of the same rows, and labels, in float32; and of kept columns as they are."""
    return data.shape[0] * (4 * (data.shape[1] + data.labels_a_row) + sum(dtype.itemsize for dtype in data.kept.dtypes.values()))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count > 1)}"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count:,} bytes ({count / size:.3g} {unit})"
    return f"{count} bytes"


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content))


def _print_pairs(title: str, lines: Sequence[tuple[str, str] | None]) -> None:
    _print_table(title, None, [list(line) for line in lines if line is not None])


def _print_table(title: str | None, header: Sequence[str] | None, rows: Sequence[Any], breaks: Sequence[int] = ()) -> None:
    """A table on standard output; `breaks`: numbers of rows before which a line is drawn. Names are shown as they are."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = None if sys.stdout.isatty() else 240
    console = Console(file=sys.stdout, markup=False, emoji=False, highlight=False, width=width)
    look: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1)} if header else {"box": None, "padding": (0, 2)}
    table = Table(show_header=header is not None, **look)
    for number, name in enumerate(header or rows[0]):
        right = header is not None and number > 0
        table.add_column(name if header else "", justify="right" if right else "left", overflow="fold", no_wrap=right)
    for number, row in enumerate(rows):
        if number in breaks and number:
            table.add_section()
        table.add_row(*map(Text, row))
    if title:
        console.print(Text(f"\n {title}"), style="bold")
    console.print(table)


def _say(message: str) -> None:
    print(f"zipml: {' '.join(message.split())}", file=sys.stderr, flush=True)


class _Notes(logging.Handler):
    """Log lines as notes on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(f"note: {record.getMessage()}")


@contextmanager
def _notes() -> Iterator[None]:
    """While a command runs, log lines and warnings are notes of one line."""
    logger, handler = logging.getLogger("zipml_codec"), _Notes(logging.INFO)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = lambda message, *_, **__: _say(f"note: {message}")
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Terminated(BaseException):
    """SIGTERM: what is being written is removed on the way out."""


class _Kept(BaseException):
    """A signal whose exit code this is ended a compression that can go on."""


@contextmanager
def _termination() -> Iterator[None]:
    """While a command runs, SIGTERM raises _Terminated, once; who ignores or handles it goes on doing so."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not stop the cleaning up
        raise _Terminated

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _explain(error: BaseException, command: Sequence[str]) -> tuple[str, int]:
    """One line and the exit code for what ended a command."""
    if isinstance(error, _Kept):
        again = shlex.join(["zipml", *command, *(["--resume"] if "--resume" not in command else [])])
        what = "interrupted" if error.args[0] == INTERRUPTED else "terminated"
        return f"{what}; what was done is kept, go on with: {again}", error.args[0]
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted; nothing was written", INTERRUPTED
    if isinstance(error, _Terminated):
        return "terminated; nothing was written", TERMINATED
    if hasattr(error, "format_message"):  # typer's own: a wrong option
        return f"{error.format_message()} (zipml --help)", BAD_INPUT
    if isinstance(error, ZipMLError):
        return str(error), BAD_INPUT
    if isinstance(error, MemoryError):
        return f"not enough memory{f': {error}' if str(error) else ''}", BAD_INPUT
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return f"{where}{error.strerror or error}", BAD_INPUT
    return f"a mistake of this program: {type(error).__name__}: {error} (ZIPML_DEBUG=1 shows where)", BUG


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 for bad input, 130 for Ctrl-C, 143 for SIGTERM.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.
    """
    try:
        with _termination(), _notes():
            given = None if arguments is None else list(arguments)
            code = typer.main.get_command(app).main(given, prog_name="zipml", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except BrokenPipeError:  # the reader of our output has left: `zipml info FILE | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BUG
    except (Exception, KeyboardInterrupt, _Terminated, _Kept) as error:
        if os.environ.get("ZIPML_DEBUG", "") not in ("", "0"):
            traceback.print_exc()
        message, code = _explain(error, sys.argv[1:] if arguments is None else arguments)
        _say(message)
        return code
