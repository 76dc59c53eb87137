"""From what a user has to a source: a file by its extension, anything else by what it offers."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DataError, OptionError, SourceError
from .arrays import FrameSource, array_source
from .arrow import FeatherSource, ParquetSource, TableSource, stream_blocks
from .binary import H5Source, NpySource, NpzSource
from .columns import Columns, Options
from .folder import FolderSource, files_in, natural
from .iterables import iterable_source
from .libsvm import LibsvmSource
from .sources import Source, sliceable
from .streams import check_magic
from .text import CsvSource
from .zarrs import ZarrSource, is_zarr

_PACKED = ("", ".gz", ".zst", ".bz2")
_CSV = tuple(f"{kind}{packed}" for kind in (".csv", ".tsv") for packed in _PACKED)
_LIBSVM = tuple(f"{kind}{packed}" for kind in (".svm", ".libsvm", ".svmlight") for packed in _PACKED)
_PARQUET, _FEATHER, _H5, _ZARR = (".parquet", ".pq"), (".feather", ".arrow", ".ipc"), (".h5", ".hdf5"), (".zarr", ".zip")
EXTENSIONS = (".npy", ".npz", *_CSV, *_LIBSVM, *_PARQUET, *_FEATHER, *_H5, *_ZARR)
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def open_source(
    path: Paths,
    *,
    label: Columns | None = None,
    dataset: str | None = None,
    columns: Columns | None = None,
    keep: Columns | None = None,
) -> Source:
    """Open a file of numbers by its extension, or several with the same columns as one.

    Parameters
    ----------
    path : path, or sequence of paths
        `.npy`, `.npz`; `.csv`, `.tsv`, libsvm text (`.svm`, `.libsvm`, `.svmlight`), all also `.gz`, `.zst` or `.bz2`;
        `.parquet`, `.feather` (Arrow IPC), `.h5`, `.hdf5`, `.zarr`, `.zarr.zip`. Or a folder of such files, or a pattern of
        names with `*`, `?` or `[...]`: sorted naturally, part-2 before part-10.
    label : str, int, or sequence of these, optional
        The label: a column's name or its index, which may be negative or a numeric string. In `.npz` and `.h5` also
        the name of a 1-D array of as many values as there are rows. Several: a list, or separated by commas.
    dataset : str, optional
        Which array of an `.npz` or `.h5` file to read.
    columns : str, int, or sequence of these, optional
        The features, named as labels are; by default all columns that are no label and not kept.
    keep : str, int, or sequence of these, optional
        Columns to carry through exactly, named as labels are: numbers or text.

    Returns
    -------
    Source

    Raises
    ------
    SourceError
        If the file cannot be opened, or its extension is not one of those.
    DataError
        If its content is not what the extension says or not a matrix of numbers, or the label is not in it; or if it
        is a zipml file, which holds codes and not the numbers.
    OptionError
        If `dataset` is given for a file that holds only one.
    MissingDependencyError
        If pyarrow is needed and not installed.
    """
    options = Options(label, columns, keep, dataset)
    given = [os.fspath(path)] if isinstance(path, str | os.PathLike) else [os.fspath(part) for part in path]
    if not given:
        raise OptionError("no files to read: an empty list")
    paths = [file for name in given for file in _files(name)]
    if paths == given and len(given) == 1:
        return _open(given[0], options)
    return _open_all(given[0] if len(given) == 1 else f"{given[0]} and {len(given) - 1} more", paths, options)


def _files(name: str) -> list[str]:
    """Return the files of a folder, or that a pattern fits; what is one file, as it is."""
    # Not Path's: Path("") is the working folder, and they raise where a folder may not be searched.
    if os.path.isdir(name) and not is_zarr(name):  # noqa: PTH112
        found = files_in(name)
    elif not os.path.exists(name) and glob.has_magic(name):  # noqa: PTH110
        found = sorted(glob.glob(name, recursive=True), key=natural)  # noqa: PTH207
    else:
        return [name]
    if not found:
        raise SourceError(f"{name}: no files, or only hidden ones")
    return found


def _open_all(name: str, paths: list[str], options: Options) -> Source:
    unread = next((path for path in paths if _extension(path) is None and not is_zarr(path)), None)
    if unread is not None:
        kinds = ", ".join(sorted({known for path in paths if (known := _extension(path))}))
        hint = f"; name those that are meant by a pattern such as '*{kinds.split(', ')[0]}'" if kinds else ""
        raise SourceError(f"{unread}: a file that is not read{f' beside {kinds}' if kinds else ''}{hint}")
    sources = [_open(path, options) for path in paths]
    text = [source for source in sources if isinstance(source, LibsvmSource)]
    for source in text:  # the greatest index of one file may be of any
        source.fit(min(one.limits[0] for one in text), max(one.limits[1] for one in text))
    return FolderSource(name, sources)


def _extension(path: str) -> str | None:
    return next((end for end in sorted(EXTENSIONS, key=len, reverse=True) if path.lower().endswith(end)), None)


def _open(name: str, options: Options) -> Source:
    """Open one file."""
    if os.path.exists(name) and not os.path.isfile(name) and not os.path.isdir(name):  # noqa: PTH110, PTH112, PTH113
        raise SourceError(f"{name}: a pipe or a device, which can be read only once: write it to a file first")
    if is_zarr(name):
        return ZarrSource(name, options)
    if os.path.isdir(name):  # noqa: PTH112
        raise SourceError(f"{name}: is a folder, not a file")
    if not os.path.exists(name):  # noqa: PTH110
        raise SourceError(f"{name}: no such file")
    extension = _extension(name)
    if extension is None:
        raise SourceError(f"{name}: the extension says no format that is read; those are {', '.join(EXTENSIONS)}")
    check_magic(name, extension)
    if extension in _ZARR:
        raise DataError(f"{name}: a zip archive without a Zarr array or group in it; unpack it")
    kinds = {".npz": NpzSource} | dict.fromkeys(_H5, H5Source)
    if extension in kinds:
        return kinds[extension](name, options)
    if options.dataset is not None:
        raise OptionError(f"{name}: dataset={options.dataset!r} is for .npz, .h5 and .zarr; this one holds a single table")
    if extension == ".npy":
        return NpySource(name, options)
    if extension in _CSV:
        return CsvSource(name, options, separator="\t" if extension.startswith(".tsv") else None)
    if extension in _LIBSVM:
        return LibsvmSource(name, options)
    return (ParquetSource if extension in _PARQUET else FeatherSource)(name, options)


def as_source(
    X: Any,
    y: Any = None,
    spool_dir: str | os.PathLike[str] | None = None,
    *,
    label: Columns | None = None,
    columns: Columns | None = None,
    keep: Any = None,
) -> Source:
    """Make a source of what a user has.

    Parameters
    ----------
    X : path, array-like, DataFrame, iterable of blocks, or Source
        See `open_source`, `array_source` and `iterable_source`. A list is an array if its items are rows, and an
        iterable of blocks if they are 2-D or (X, y) tuples. A Source is returned as it is.
    y : array-like, optional
        Labels, for arrays and DataFrames only.
    spool_dir : path, optional
        See `iterable_source`.
    label, columns, keep : optional
        See `open_source`; for arrays and DataFrames `keep` may also be a dict of names and arrays. Iterables take none of
        them: they yield features, labels and what to keep apart.

    Returns
    -------
    Source

    Raises
    ------
    OptionError
        If `X` is none of those, or `y` does not go with it.
    DataError, SourceError
        As the functions above.
    """
    options = Options(label, columns, keep)
    if isinstance(X, Source):
        _refuse(y, options, "a source", "brings its own labels")
        return X
    if isinstance(X, str | os.PathLike):
        _refuse(y, Options(), "a file", "has its label named with label=")
        return open_source(X, label=label, columns=columns, keep=keep)
    if isinstance(X, list | tuple) and X and all(isinstance(part, str | os.PathLike) for part in X):
        _refuse(y, Options(), "files", "have their labels named with label=")
        return open_source(X, label=label, columns=columns, keep=keep)
    if all(hasattr(X, attribute) for attribute in ("columns", "dtypes", "iloc", "to_numpy")):
        return FrameSource(X, y, "X", options)
    if hasattr(X, "read_next_batch"):
        _refuse(y, Options(), "a stream of record batches", "has its labels named with label=")
        return stream_source(X, options, spool_dir)
    if hasattr(X, "__arrow_c_stream__"):
        return TableSource(X, y, "X", options)
    if isinstance(X, np.ndarray) or hasattr(X, "__array__") or hasattr(X, "nnz") or sliceable(X):
        return array_source(X, y, options=options)
    if isinstance(X, list | tuple) and not _holds_blocks(X):
        return array_source(X, y, options=options)
    named = isinstance(X, Mapping) or hasattr(X, "keys")  # a group of arrays: h5py's, zarr's
    if isinstance(X, Iterable) and not named and not isinstance(X, bytes | bytearray):
        _refuse(y, options, "an iterable", "yields its labels as (X, y) tuples")
        return iterable_source(X, spool_dir)
    hint = "; pass one of its datasets" if named else ""
    raise OptionError(f"X: a {type(X).__name__} is not a path, an array, a DataFrame or an iterable of blocks{hint}")


def stream_source(reader: Any, options: Options, spool_dir: str | os.PathLike[str] | None) -> Source:
    """Read a one-shot stream of record batches."""
    blocks, known = stream_blocks(reader, options)
    source = iterable_source(blocks, spool_dir, "X")
    source.columns, source.label_name, source.label_names = known.columns, known.label_name, known.label_names
    return source


def _refuse(y: Any, options: Options, what: str, why: str) -> None:
    if y is not None:
        raise OptionError(f"y: goes with arrays only; {what} {why}")
    if options != Options():
        raise OptionError(f"label, columns and keep are for files, arrays and DataFrames; {what} {why}")


def _holds_blocks(items: Sequence[Any]) -> bool:
    """Tell a list of blocks from a list of rows, by its first item."""
    if not items:
        return False
    first = items[0]
    try:
        if isinstance(first, tuple) and len(first) in (2, 3):
            return np.ndim(first[0]) == 2
        return np.ndim(first) == 2
    except (ValueError, TypeError):
        # Ragged rows; the array's own error says so.
        return False
