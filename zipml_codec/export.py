"""Out of the codec again: decoded rows as .npy, .csv or .h5, and predictions as .csv, streamed and published whole.

Labels and kept columns go with the rows, kept columns exactly as they were.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset
from .errors import DataError, OptionError
from .formats.arrays import array_source
from .formats.output import check_apart, check_output, disk_errors, sync_folder, write_at
from .formats.readers import open_source
from .formats.shards import files_at
from .formats.sources import Source
from .kept import to_bytes
from .labels import choose_label, label_title
from .model import Model, is_compressed
from .progress import Progress, no_progress
from .rows import told

EXTENSIONS = (".npy", ".csv", ".h5", ".hdf5")
TEXT_VALUES = 1 << 18  # values turned into text at a time
BLOCK_ROWS = 8192
KEPT_ROWS = 65536  # of kept columns that are in memory together


Chunks = Iterator[tuple[int, NDArray[np.float32]]]  # first row and rows of each chunk


class Output:
    """A file being written under a partial name. Every failure to write is an OutputError."""

    def __init__(self, path: Path) -> None:
        self.path, self.partial = path, path.with_name(f"{path.name}.{os.getpid()}.partial")
        self._end = 0
        with disk_errors(path):
            self.descriptor = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)

    def reserve(self, size: int) -> None:
        """Take `size` bytes of the disk, so that a full one is found at once."""
        if hasattr(os, "posix_fallocate"):
            with disk_errors(self.path):
                os.posix_fallocate(self.descriptor, 0, size)

    def write(self, data: bytes | NDArray[Any]) -> None:
        """Append bytes, or an array's."""
        self.write_at(data, self._end)

    def write_at(self, data: bytes | NDArray[Any], offset: int) -> None:
        """Write bytes at a place."""
        view = memoryview(data) if isinstance(data, bytes) else data.reshape(-1).view(np.uint8).data
        with disk_errors(self.path):
            write_at(self.descriptor, view, offset)
        self._end = offset + len(view)

    def sync(self) -> None:
        """Have everything on the disk."""
        with disk_errors(self.path):
            os.fsync(self.descriptor)

    def discard(self) -> None:
        """Close, and remove the partial file if it was not published."""
        os.close(self.descriptor)
        with suppress(OSError):
            self.partial.unlink()


@contextmanager
def outputs(paths: Sequence[Path], overwrite: bool) -> Iterator[list[Output]]:
    """Files that appear together under their final names when the block ends, or not at all.

    Raises
    ------
    OutputError
        One of them exists and `overwrite` is False, its folder is missing, or the disk is full.
    """
    for path in paths:
        check_output(path, overwrite)
    files: list[Output] = []
    try:
        for path in paths:
            files.append(Output(path))
        yield files
        for file in files:
            file.sync()
        for file in files:
            check_output(file.path, overwrite)  # the name may have been taken meanwhile
            with disk_errors(file.path):
                file.partial.replace(file.path)
        sync_folder(paths[0].parent)
    finally:
        for file in files:
            file.discard()


def decompress(
    dataset: Dataset | str | PathLike[str],
    path: str | PathLike[str],
    overwrite: bool = False,
    *,
    exact: bool = False,
    progress: bool = False,
) -> list[Path]:
    """Write decoded rows, the means of the samples, to a file in float32.

    Parameters
    ----------
    dataset : Dataset, str or path
    path : str or path
        The extension says how: `.npy` (the matrix; labels go to `<stem>.labels.npy`, each kept column to
        `<stem>.kept.<name>.npy`, what a file name cannot hold replaced by _), `.csv` (column names in the header; kept
        columns come first, labels last), `.h5` or `.hdf5` (dataset "X" with the attribute "columns", dataset "labels", and
        a dataset in the group "kept" for each kept column, its exact name in the attribute "name").
    overwrite : bool
        Replace existing files.
    exact : bool
        Write the rows as they were, of a file that has them (`compress(keep_exact=True)`).
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    OptionError
        Another extension; or there are no exact rows.
    OutputError
        The output exists or the disk is full. Nothing is left behind.
    CorruptError
        The compressed file is damaged.

    Notes
    -----
    One chunk is in memory at a time. Numbers in text are the shortest that read back as the same float32.
    """
    target = Path(path)
    extension = target.suffix.lower()
    if extension not in EXTENSIONS:
        raise OptionError(f"{target}: the extension says no format that is written; those are {', '.join(EXTENSIONS)}")
    if not isinstance(dataset, Dataset):
        with Dataset(dataset) as opened:
            return decompress(opened, target, overwrite, exact=exact, progress=progress)
    if exact:
        dataset.exact_rows([])  # raises where there are none, before anything is written
    paths = [target, *_beside(target, dataset)] if extension == ".npy" else [target]
    bars = Progress.on_terminal if progress else no_progress
    write = {".npy": _write_npy, ".csv": _write_csv}.get(extension, _write_h5)
    for path in paths:
        check_apart(path, files_at(dataset.path))
    with outputs(paths, overwrite) as files, bars("decompressing", dataset.shape[0], None) as bar:
        write(dataset, _chunks(dataset, exact, bar), files)
    return paths


def _beside(target: Path, dataset: Dataset) -> list[Path]:
    """Files for labels and kept columns."""
    stems = [f"{target.stem}.labels"] * dataset.has_labels
    for name in dataset.kept:
        plain = re.sub(r"[^\w .-]", "_", name)[:48]  # what any file system takes
        stems.append(_untaken(f"{target.stem}.kept.{plain}", stems))
    return [target.with_name(f"{stem}.npy") for stem in stems]


def _untaken(name: str, taken: Sequence[str]) -> str:
    """The name, with so many _ at its end that it is not taken."""
    while name in taken:
        name += "_"
    return name


def _chunks(dataset: Dataset, exact: bool, bar: Progress) -> Chunks:
    """First row and decoded, or exact, rows of each chunk."""
    for number in range(dataset.chunks):
        first = number * dataset.chunk_rows
        part = slice(first, first + dataset.chunk_rows)
        rows = dataset.exact_rows(part) if exact else dataset.codec.decode(dataset.read_chunk(number))
        yield first, rows.astype("<f4", copy=False)
        bar.advance(len(rows))


def _write_npy(dataset: Dataset, chunks: Chunks, files: list[Output]) -> None:
    npy_header(files[0], np.dtype("<f4"), dataset.shape)
    for _, rows in chunks:
        files[0].write(rows)
    if dataset.labels is not None:
        npy_header(files[1], np.dtype("<f4"), dataset.labels.shape)
        files[1].write(dataset.labels)
    for file, (name, dtype) in zip(files[1 + dataset.has_labels :], dataset.kept.dtypes.items(), strict=True):
        if dtype.kind == "S":
            longest = max(max(map(len, part.tolist())) for _, part in _kept(dataset, name))
            dtype = np.dtype(f"<U{max(longest, 1)}")
        npy_header(file, dtype, (len(dataset),))
        for _, part in _kept(dataset, name):
            file.write(part.astype(dtype))


def _kept(dataset: Dataset, name: str) -> Iterator[tuple[int, NDArray[Any]]]:
    """First row and rows of a kept column, a part at a time."""
    for first in range(0, len(dataset), KEPT_ROWS):
        yield first, dataset.kept.rows(first, min(first + KEPT_ROWS, len(dataset)), [name])[name]


def npy_header(file: Output, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Begin an .npy of an array that is written next, and take its space."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    file.write(header.getvalue())
    file.reserve(header.tell() + dtype.itemsize * int(np.prod(shape, dtype=np.int64)))


def _write_h5(dataset: Dataset, chunks: Chunks, files: list[Output]) -> None:
    """HDF5 makes the file with its space laid out; rows then go in by plain writes, which fail cleanly on a full disk."""
    rows, features = dataset.shape
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    file, kept = files[0], dataset.kept.dtypes
    types = {"X": np.dtype(("<f4", (features,)))}
    if dataset.labels is not None:
        types["labels"] = np.dtype(("<f4", dataset.labels.shape[1:]))
    places = {name: f"kept/{_link(name)}" for name in kept}
    types |= {places[name]: dtype for name, dtype in kept.items()}
    names = sum(96 + 2 * len(name.encode()) for name in (*(dataset.columns or ()), *(dataset.label_names or ()), *kept))
    size = sum(dtype.itemsize for dtype in types.values())
    file.reserve(size * rows + 65536 + 1024 * len(types) + names)  # HDF5 itself fails badly on a full disk
    # v110: attributes above 64 KiB, as thousands of names are
    with disk_errors(file.path), h5py.File(file.partial, "w", locking=False, libver=("v110", "v110")) as content:
        if kept:
            content.create_group("kept")
        for name, dtype in types.items():
            space, base = h5py.h5s.create_simple((rows, *dtype.shape)), dtype.base
            base = h5py.string_dtype("utf-8", base.itemsize) if base.kind == "S" else base
            h5py.h5d.create(content.id, name.encode(), h5py.h5t.py_create(base, logical=True), space, dcpl=plist)
        for name, titles in {"X": dataset.columns, "labels": dataset.label_names}.items():
            if titles is not None and (name == "X" or len(titles) > 1):
                content[name].attrs.create("columns", list(map(_shown, titles)), dtype=h5py.string_dtype())
        if dataset.labels_a_row == 1:
            content["labels"].attrs["name"] = _shown((dataset.label_names or ["label"])[0])
        for name, place in places.items():
            content[place].attrs["name"] = _shown(name)
        offsets = {name: int(content[name].id.get_offset()) for name in types}
    file.reserve(os.fstat(file.descriptor).st_size)
    for first, part in chunks:
        file.write_at(part, offsets["X"] + 4 * features * first)
    if dataset.labels is not None:
        file.write_at(dataset.labels, offsets["labels"])
    for name, dtype in kept.items():
        for first, part in _kept(dataset, name):
            column = np.array(to_bytes(part), dtype) if dtype.kind == "S" else part
            file.write_at(column, offsets[places[name]] + dtype.itemsize * first)


def _shown(name: str) -> str:
    """A name as HDF5's text takes it: a zero byte ends that, so its symbol stands there."""
    return name.replace("\0", "\u2400")


def _link(name: str) -> str:
    """A name as HDF5 takes it for a dataset's: / and what is the like written as in URLs."""
    special = {"": "%", ".": "%2E"}
    return special.get(name) or name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")


def _write_csv(dataset: Dataset, chunks: Chunks, files: list[Output]) -> None:
    labels = dataset.labels
    names = _header(dataset)
    if names:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(names)
        files[0].write(line.getvalue().encode())
    step = max(1, TEXT_VALUES // dataset.shape[1])
    for first, rows in chunks:
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            at = first + start
            if labels is not None:
                y = labels[at : at + len(part)]
                part = np.concatenate([part, y.reshape(len(part), -1)], axis=1)
            files[0].write(_lines(list(dataset.kept.rows(at, at + len(part)).values()), _texts(part)))


def _header(dataset: Dataset) -> list[str]:
    """Names of the columns; none where nothing has a name and there are no labels or kept columns to tell apart."""
    if dataset.columns is None and not dataset.has_labels and not dataset.kept:
        return []
    features = [f"x{i}" for i in range(dataset.shape[1])] if dataset.columns is None else list(dataset.columns)
    kept: list[str] = []
    for name in dataset.kept:
        kept.append(_untaken(name, features + kept))
    names = kept + features
    count = dataset.labels_a_row
    for name in dataset.label_names or (["label"] if count == 1 else [f"label{i}" for i in range(count)]):
        names.append(_untaken(name, names))
    return names


def _texts(rows: NDArray[np.float32]) -> list[list[str]]:
    """Rows as texts. Decoded values are few different ones: each is turned into text once."""
    values, places = np.unique(np.ascontiguousarray(rows).view(np.uint32), return_inverse=True)
    texts = values.view(np.float32).astype(str).astype(object)
    lines: list[list[str]] = texts[places.reshape(rows.shape)].tolist()
    return lines


def _cells(column: NDArray[Any]) -> list[str]:
    """A kept column as cells of a .csv: numbers as short as they read back the same, text in quotes if it needs them."""
    if column.dtype.kind != "O":
        cells: list[str] = column.astype(str).tolist()
        return cells
    return ['"' + text.replace('"', '""') + '"' if re.search('[",\r\n]', text) else text for text in column.tolist()]


def _lines(kept: Sequence[NDArray[Any]], cells: list[list[str]]) -> bytes:
    """Lines of a .csv: kept columns, then cells that are text already."""
    if kept:
        cells = [[*first, *rest] for first, rest in zip(zip(*map(_cells, kept), strict=True), cells, strict=True)]
    return "".join([",".join(row) + "\n" for row in cells]).encode()


def predict_to_csv(
    model: Model,
    data: str | PathLike[str],
    path: str | PathLike[str],
    *,
    label: Any = None,
    keep: Any = None,
    dataset: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Write a model's predictions for a file, compressed or raw, to a .csv: kept columns, then a column named "prediction".

    Parameters
    ----------
    model : Model
    data : str or path
    path : str or path
        The .csv to write.
    label : optional
        What to compare predictions with: of a raw file, a column as in `open_source`; of a zipml file, one of its labels by
        name or number. Default: of a zipml file, the only label, or that which the model was trained for.
    keep, dataset : optional
        Columns to write beside the predictions, and the array to read, of a raw file, as in `open_source`. Kept columns
        of a zipml file are always written.
    overwrite : bool
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    dict
        rows; and where labels are known `mean_squared_error`, or `accuracy` for "lssvm", and `label`, the name of what was
        compared with.

    Raises
    ------
    DataError
        Another number of features than the model's, or NaN and infinity: the message names row and column.
    OutputError
        The output exists or the disk is full. Nothing is left behind.
    """
    target, bars = Path(path), Progress.on_terminal if progress else no_progress
    check_apart(target, [data])
    rows, known, total, title = 0, 0, 0.0, None
    with outputs([target], overwrite) as files:
        for decision, labels, name, kept in _decisions(model, Path(data), Choice(label, keep, dataset), bars):
            if not rows:
                line = io.StringIO()
                csv.writer(line, lineterminator="\n").writerow([*kept, *_titles(model, decision, list(kept))])
                files[0].write(line.getvalue().encode())
            predicted = model.classes_of(decision)
            whole = model.classes is not None and not np.isnan(predicted).any()
            table = (predicted.astype(np.int64) if whole else predicted).reshape(len(predicted), -1).tolist()
            files[0].write(_lines(list(kept.values()), [[repr(value) for value in row] for row in table]))
            rows += len(predicted)
            if labels is not None:
                known, title = known + labels.size, name
                right = (predicted - labels) ** 2 if model.loss == "squared" else predicted == labels
                total += float(np.sum(right))
    score = "mean_squared_error" if model.loss == "squared" else "accuracy"
    return {"rows": rows} | ({score: total / known, "label": title} if known else {})


def _titles(model: Model, decision: NDArray[np.float64], taken: list[str]) -> list[str]:
    """Names of the predictions' columns: of several labels each its own."""
    if model.classes_of(decision[:1]).ndim == 1:
        return [_untaken("prediction", taken)]
    names = model.info.get("label") or range(len(model.coef))
    return [_untaken(f"prediction {name}", taken) for name in names]


class Choice(NamedTuple):
    """What to compare predictions with, to write beside them, and to read."""

    label: Any
    keep: Any
    dataset: str | None


#: decisions; the labels to compare with, and their name, where there are any; kept columns
Part = tuple[NDArray[np.float64], NDArray[Any] | None, str | int | None, dict[str, NDArray[Any]]]


def _decisions(model: Model, data: Path, choice: Choice, bars: Any) -> Iterator[Part]:
    """Decisions, labels and kept columns, block by block."""
    if is_compressed(data):
        if choice.keep is not None or choice.dataset is not None:
            raise OptionError(f"{data}: --keep and --dataset are for raw data, this is a zipml file")
        with Dataset(data) as rows, bars("predicting", rows.shape[0], None) as bar:
            if choice.label is not None and not rows.has_labels:
                raise OptionError(f"{data} has no labels to compare with")
            number = _compared(model, choice.label, rows.label_names, rows.labels_a_row, str(data))
            for chunk in range(rows.chunks):
                values = rows.codec.decode(rows.read_chunk(chunk))
                first = chunk * rows.chunk_rows
                last = first + len(values)
                labels = None if rows.labels is None else rows.labels[first:last]
                named = array_source(values, name=str(data), columns=rows.columns)
                title = _title(rows.label_names, number, rows.labels_a_row)
                yield model.decision(named), _one(labels, number), title, rows.kept.rows(first, last)
                bar.advance(len(values))
        return
    options = {"label": choice.label, "keep": choice.keep, "dataset": choice.dataset}
    with _open_for(model, data, options) as source, bars("predicting", source.rows, source.nbytes) as bar:
        row = 0
        for block in source.blocks(BLOCK_ROWS):
            named = array_source(block.values, name=source.name, columns=source.columns)
            decision = model.decision(named)
            if not np.isfinite(decision).all():
                raise DataError(_not_finite(source, block.values, decision, row))
            count = 0 if block.labels is None else block.labels.reshape(len(block.labels), -1).shape[1]
            number = _compared(model, None, source.label_names, count, source.name)
            title = _title(source.label_names, number, count)
            yield decision, _one(block.labels, number), title, block.kept or {}
            row += len(decision)
            bar.advance(len(decision), source.bytes_read())


def _open_for(model: Model, data: Path, options: dict[str, Any]) -> Source:
    """Raw data, of which only the model's columns are read where it has them by name: others may be text."""
    if model.columns is not None:
        with suppress(DataError, OptionError):  # other names, or none: by place, if there are as many
            return open_source(data, columns=list(model.columns), **options)
    return open_source(data, **options)


def _compared(model: Model, label: Any, names: Sequence[str] | None, count: int, where: str) -> int | list[int] | None:
    """Number of the label to compare with, or numbers: what is asked for, that of the model, the only one; else None."""
    if label is not None:
        return choose_label(label, names, count, where)
    trained = model.info.get("label")
    if isinstance(trained, list):
        known = names is not None and set(trained) <= set(names)
        return [names.index(one) for one in trained] if known and names is not None else None
    if names is not None and trained in names:
        return names.index(trained)
    return 0 if count == 1 else None


def _one(labels: NDArray[Any] | None, number: int | list[int] | None) -> NDArray[Any] | None:
    """The label of that number, or the labels of several."""
    if labels is None or number is None:
        return None
    return labels if labels.ndim == 1 else labels[:, number]


def _title(names: Sequence[str] | None, number: int | list[int] | None, count: int) -> str | int | None:
    """Name of the label of that number, or of several."""
    if isinstance(number, list):
        return ", ".join(str(label_title(names, one, count)) for one in number)
    return label_title(names, number or 0, count)


def _not_finite(source: Source, values: NDArray[Any], decision: NDArray[np.float64], first: int) -> str:
    row = int(np.argmin(np.isfinite(decision).reshape(len(decision), -1).all(axis=1)))
    bad = np.flatnonzero(~np.isfinite(values[row]))
    if not len(bad):
        return f"{source.name}: row {first + row + 1}: the prediction overflows"
    return f"{source.place(first + row, int(bad[0]))}: the value is {told(values[row, bad[0]])}: fill such values first"
