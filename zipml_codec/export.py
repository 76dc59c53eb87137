"""Out of the codec again: decoded rows as .npy, .csv or .h5, and predictions as .csv, streamed and published whole."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset
from .errors import DataError, OptionError
from .formats.arrays import array_source
from .formats.output import check_output, disk_errors, sync_folder, write_at
from .formats.readers import open_source
from .formats.sources import Source
from .model import Model, is_compressed
from .progress import Progress, no_progress

EXTENSIONS = (".npy", ".csv", ".h5", ".hdf5")
TEXT_VALUES = 1 << 18  # values turned into text at a time
BLOCK_ROWS = 8192


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
    dataset: Dataset | str | PathLike[str], path: str | PathLike[str], overwrite: bool = False, *, progress: bool = False
) -> list[Path]:
    """Write decoded rows, the means of the samples, to a file in float32.

    Parameters
    ----------
    dataset : Dataset, str or path
    path : str or path
        The extension says how: `.npy` (the matrix; labels go to `<stem>.labels.npy`), `.csv` (column names in the header,
        labels in the last column), `.h5` or `.hdf5` (dataset "X" with the attribute "columns", dataset "labels").
    overwrite : bool
        Replace existing files.
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    OptionError
        Another extension.
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
            return decompress(opened, target, overwrite, progress=progress)
    paths = [target]
    if extension == ".npy" and dataset.has_labels:
        paths.append(target.with_name(f"{target.stem}.labels.npy"))
    bars = Progress.on_terminal if progress else no_progress
    write = {".npy": _write_npy, ".csv": _write_csv}.get(extension, _write_h5)
    with outputs(paths, overwrite) as files, bars("decompressing", dataset.shape[0], None) as bar:
        write(dataset, files, bar)
    return paths


def _chunks(dataset: Dataset, bar: Progress) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """First row and decoded rows of each chunk."""
    for number in range(dataset.chunks):
        rows = dataset.codec.decode(dataset.read_chunk(number)).astype("<f4", copy=False)
        yield number * dataset.chunk_rows, rows
        bar.advance(len(rows))


def _write_npy(dataset: Dataset, files: list[Output], bar: Progress) -> None:
    _npy_header(files[0], dataset.shape)
    for _, rows in _chunks(dataset, bar):
        files[0].write(rows)
    if dataset.labels is not None:
        _npy_header(files[1], (len(dataset),))
        files[1].write(dataset.labels)


def _npy_header(file: Output, shape: tuple[int, ...]) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    file.write(header.getvalue())
    file.reserve(header.tell() + 4 * int(np.prod(shape, dtype=np.int64)))


def _write_h5(dataset: Dataset, files: list[Output], bar: Progress) -> None:
    """HDF5 makes the file with its space laid out; rows then go in by plain writes, which fail cleanly on a full disk."""
    rows, features = dataset.shape
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    file = files[0]
    shapes = {"X": (rows, features)} | ({"labels": (rows,)} if dataset.has_labels else {})
    names = 0 if dataset.columns is None else sum(32 + len(name.encode()) for name in dataset.columns)
    file.reserve(4 * rows * (features + dataset.has_labels) + 65536 + names)  # HDF5 itself fails badly on a full disk
    # v110: attributes above 64 KiB, as thousands of names are
    with disk_errors(file.path), h5py.File(file.partial, "w", locking=False, libver=("v110", "v110")) as content:
        for name, shape in shapes.items():
            space = h5py.h5s.create_simple(shape)
            h5py.h5d.create(content.id, name.encode(), h5py.h5t.IEEE_F32LE, space, dcpl=plist)
        if dataset.columns is not None:
            content["X"].attrs.create("columns", list(dataset.columns), dtype=h5py.string_dtype())
        if dataset.has_labels:
            content["labels"].attrs["name"] = str((dataset.label_names or ["label"])[0])
        offsets = {name: int(content[name].id.get_offset()) for name in shapes}
    file.reserve(os.fstat(file.descriptor).st_size)
    for first, part in _chunks(dataset, bar):
        file.write_at(part, offsets["X"] + 4 * features * first)
    if dataset.labels is not None:
        file.write_at(dataset.labels, offsets["labels"])


def _write_csv(dataset: Dataset, files: list[Output], bar: Progress) -> None:
    labels = dataset.labels
    names = _header(dataset)
    if names:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(names)
        files[0].write(line.getvalue().encode())
    step = max(1, TEXT_VALUES // dataset.shape[1])
    for first, rows in _chunks(dataset, bar):
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            if labels is not None:
                y = labels[first + start : first + start + len(part)]
                part = np.concatenate([part, y[:, None]], axis=1)
            files[0].write(_text(part))


def _header(dataset: Dataset) -> list[str]:
    """Names of the columns; none where nothing has a name and there are no labels to tell apart."""
    if dataset.columns is None and not dataset.has_labels:
        return []
    names = [f"x{i}" for i in range(dataset.shape[1])] if dataset.columns is None else list(dataset.columns)
    if dataset.has_labels:
        label = str((dataset.label_names or ["label"])[0])
        while label in names:
            label += "_"
        names.append(label)
    return names


def _text(rows: NDArray[np.float32]) -> bytes:
    """Rows as lines. Decoded values are few different ones: each is turned into text once."""
    values, places = np.unique(np.ascontiguousarray(rows).view(np.uint32), return_inverse=True)
    texts = values.view(np.float32).astype(str).astype(object)
    table = texts[places.reshape(rows.shape)]
    return "".join([",".join(row) + "\n" for row in table.tolist()]).encode()


def predict_to_csv(
    model: Model,
    data: str | PathLike[str],
    path: str | PathLike[str],
    *,
    label: str | int | None = None,
    dataset: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Write a model's predictions for a file, compressed or raw, to a .csv of one column named "prediction".

    Parameters
    ----------
    model : Model
    data : str or path
    path : str or path
        The .csv to write.
    label, dataset : optional
        The label's column and the array to read of a raw file, as in `open_source`.
    overwrite : bool
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    dict
        rows; and where labels are known `mean_squared_error`, or `accuracy` for "lssvm".

    Raises
    ------
    DataError
        Another number of features than the model's, or NaN and infinity: the message names row and column.
    OutputError
        The output exists or the disk is full. Nothing is left behind.
    """
    target, bars = Path(path), Progress.on_terminal if progress else no_progress
    rows, known, total = 0, 0, 0.0
    with outputs([target], overwrite) as files:
        files[0].write(b"prediction\n")
        for decision, labels in _decisions(model, Path(data), label, dataset, bars):
            if model.loss == "squared":
                predicted = decision
                files[0].write("".join([f"{value!r}\n" for value in decision.tolist()]).encode())
            else:
                predicted = np.where(decision >= 0, 1, -1)
                files[0].write("".join([f"{value}\n" for value in predicted.tolist()]).encode())
            rows += len(predicted)
            if labels is not None:
                known += len(labels)
                right = (predicted - labels) ** 2 if model.loss == "squared" else predicted == labels
                total += float(np.sum(right))
    score = "mean_squared_error" if model.loss == "squared" else "accuracy"
    return {"rows": rows} | ({score: total / known} if known else {})


Part = tuple[NDArray[np.float64], NDArray[Any] | None]


def _decisions(model: Model, data: Path, label: str | int | None, dataset: str | None, bars: Any) -> Iterator[Part]:
    """Decisions and labels, block by block."""
    if is_compressed(data):
        if label is not None or dataset is not None:
            raise OptionError(f"{data}: --label and --dataset are for raw data, this is a zipml file")
        with Dataset(data) as rows, bars("predicting", rows.shape[0], None) as bar:
            for number in range(rows.chunks):
                values = rows.codec.decode(rows.read_chunk(number))
                first = number * rows.chunk_rows
                named = array_source(values, name=str(data), columns=rows.columns)
                yield model.decision(named), None if rows.labels is None else rows.labels[first : first + len(values)]
                bar.advance(len(values))
        return
    with open_source(data, label=label, dataset=dataset) as source, bars("predicting", source.rows, source.nbytes) as bar:
        row = 0
        for block in source.blocks(BLOCK_ROWS):
            named = array_source(block.values, name=source.name, columns=source.columns)
            decision = model.decision(named)
            if not np.isfinite(decision).all():
                raise DataError(_not_finite(source, block.values, decision, row))
            yield decision, block.labels
            row += len(decision)
            bar.advance(len(decision), source.bytes_read())


def _not_finite(source: Source, values: NDArray[Any], decision: NDArray[np.float64], first: int) -> str:
    row = int(np.argmin(np.isfinite(decision)))
    bad = np.flatnonzero(~np.isfinite(values[row]))
    if not len(bad):
        return f"{source.name}: row {first + row + 1}: the prediction overflows"
    return f"{source.place(first + row, int(bad[0]))}: the value is {values[row, bad[0]]}: fill such values first"
