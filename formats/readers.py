"""From what a user has to a source: a file by its extension, anything else by what it offers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, OptionError, SourceError
from .arrays import FrameSource, array_source
from .binary import H5Source, NpySource, NpzSource
from .columns import Columns, Options
from .iterables import iterable_source
from .sources import Source, sliceable
from .text import CsvSource

EXTENSIONS = (".npy", ".npz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".h5", ".hdf5")


def open_source(
    path: str | os.PathLike[str],
    *,
    label: Columns | None = None,
    dataset: str | None = None,
    columns: Columns | None = None,
    keep: Columns | None = None,
) -> Source:
    """Open a file of numbers by its extension.

    Parameters
    ----------
    path : path
        `.npy`, `.npz`, `.csv`, `.tsv` (both also `.gz`), `.h5` or `.hdf5`.
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
    name = os.fspath(path)
    lower = name.lower()
    extension = next((e for e in sorted(EXTENSIONS, key=len, reverse=True) if lower.endswith(e)), None)
    # Not Path's: Path("") is the working folder, and they raise where a folder may not be searched.
    if os.path.isdir(name):  # noqa: PTH112
        raise SourceError(f"{name}: is a folder, not a file")
    if not os.path.exists(name):  # noqa: PTH110
        raise SourceError(f"{name}: no such file")
    if extension is None:
        raise SourceError(f"{name}: the extension says no format that is read; those are {', '.join(EXTENSIONS)}")
    try:
        with Path(name).open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise SourceError(f"{name}: cannot be opened: {error.strerror or error}") from error
    if empty:
        raise DataError(f"{name}: the file is empty (0 bytes)")
    options = Options(label, columns, keep, dataset)
    if extension in (".npz", ".h5", ".hdf5"):
        container = NpzSource if extension == ".npz" else H5Source
        return container(name, options)
    if dataset is not None:
        raise OptionError(f"{name}: dataset={dataset!r} is for .npz and .h5 files, this one holds a single table")
    if extension == ".npy":
        return NpySource(name, options)
    return CsvSource(name, options, separator="\t" if extension.startswith(".tsv") else None)


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
    if all(hasattr(X, attribute) for attribute in ("columns", "dtypes", "iloc", "to_numpy")):
        return FrameSource(X, y, "X", options)
    if isinstance(X, np.ndarray) or hasattr(X, "__array__") or hasattr(X, "nnz") or sliceable(X):
        return array_source(X, y, options=options)
    if isinstance(X, list | tuple) and not _holds_blocks(X):
        return array_source(X, y, options=options)
    if isinstance(X, Iterable) and not isinstance(X, Mapping | bytes | bytearray):
        _refuse(y, options, "an iterable", "yields its labels as (X, y) tuples")
        return iterable_source(X, spool_dir)
    hint = "; pass one of its datasets" if isinstance(X, Mapping) else ""
    raise OptionError(f"X: a {type(X).__name__} is not a path, an array, a DataFrame or an iterable of blocks{hint}")


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
