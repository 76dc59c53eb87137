"""What the pipeline reads from: blocks of rows, the protocol of a source, and what the readers share.

A source yields blocks of rows, always from the start, as often as it is asked: the pipeline makes several passes
(statistics, levels, codes). Memory is bounded by a block, whatever the size of the data.

Layers, each importing only from those before it: this module; `arrays`, `iterables`, `binary` and `text`, which do
not know each other; `readers`, which chooses among them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..errors import DataError, OptionError, SourceError

Array = npt.NDArray[Any]
Label = str | int
Self = TypeVar("Self")


@dataclass(frozen=True)
class Block:
    """Some consecutive rows.

    A block stays valid after the next one is asked for: no source reuses its buffers. It may be a view of the
    user's array and is not to be written to.

    Attributes
    ----------
    values : ndarray, shape (rows, features)
        bool, integer or float16/32/64 in native byte order; not necessarily contiguous.
    labels : ndarray, shape (rows,), or None
        Of the same dtypes.
    """

    values: Array
    labels: Array | None


@runtime_checkable
class Source(Protocol):
    """Rows of numbers that can be read from the start as often as needed.

    Attributes
    ----------
    name : str
        For messages: the path, or "X" for arrays.
    columns : tuple of str, or None
        Feature names, without the label's.
    label_name : str or None
    features : int or None
        None until known (iterables, before the first block).
    rows : int or None
        None where it cannot be known without a scan; known after a full pass.
    nbytes : int or None
        Size of the input: the file's, or the array's.
    """

    name: str
    columns: tuple[str, ...] | None
    label_name: str | None
    features: int | None
    rows: int | None
    nbytes: int | None

    def blocks(self, rows: int) -> Iterator[Block]:
        """Start a fresh pass, in blocks of at most `rows` rows."""

    def place(self, row: int, column: int | None) -> str:
        """Say where a value stands; `row` and `column` count from 0, `column` None is the label."""

    def bytes_read(self) -> int | None:
        """Bytes of the file consumed in the current pass, where `rows` cannot give the progress."""

    def close(self) -> None:
        """Release files. The source cannot be read afterwards."""

    def __enter__(self: Self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class BaseSource:
    """What all sources share; a subclass sets the attributes and defines `_pass`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.columns: tuple[str, ...] | None = None
        self.label_name: str | None = None
        self.features: int | None = None
        self.rows: int | None = None
        self.nbytes: int | None = None
        self._closed = False

    def blocks(self, rows: int) -> Iterator[Block]:
        """Start a fresh pass, in blocks of at most `rows` rows.

        Raises
        ------
        OptionError
            If `rows` is below 1.
        DataError, SourceError
            At once or while iterating: content that is not numbers, or a file that cannot be read.
        """
        if rows < 1:
            raise OptionError(f"{self.name}: a block has at least one row, got rows={rows}")
        if self._closed:
            raise SourceError(f"{self.name}: the source is closed")
        return self._pass(rows)

    def _pass(self, rows: int) -> Iterator[Block]:
        raise NotImplementedError

    def place(self, row: int, column: int | None) -> str:
        """Say where a value stands, for messages; rows are counted from 1 in the text, from 0 in the argument."""
        return f"{self.name}: row {row + 1}, {self._column(column)}"

    def _column(self, column: int | None) -> str:
        if column is None:
            return f"label {self.label_name!r}" if self.label_name else "label"
        if self.columns is not None and self.columns[column]:
            return f"column {self.columns[column]!r}"
        return f"column index {column}"

    def bytes_read(self) -> int | None:
        """Bytes of the file consumed in the current pass; None here, as `rows` is known or there is no file."""
        return None

    def close(self) -> None:
        """Release files. The source cannot be read afterwards."""
        self._closed = True

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()


# Checks and small steps that the readers share.


def check_dtype(dtype: np.dtype[Any], where: str) -> None:
    """Raise `DataError` unless `dtype` is bool, integer or float16/32/64."""
    if dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize <= 8):
        return
    if dtype.names is not None:
        raise DataError(
            f"{where}: structured dtype with fields {', '.join(dtype.names)}; give a plain 2-D array of numbers"
        )
    hint = {
        "c": "store real and imaginary part as two columns",
        "f": "cast to float64 first",
        "M": "turn times into numbers first",
        "m": "turn durations into numbers first",
    }.get(dtype.kind, "encode it as numbers first")
    raise DataError(f"{where}: dtype {dtype} is not a real number type; {hint}")


def check_matrix(shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> None:
    """Raise `DataError` unless this is a matrix of numbers with at least one row and one feature."""
    if shape == (0,):
        raise DataError(f"{where}: no rows")
    if len(shape) == 1:
        raise DataError(f"{where}: shape {shape} is 1-D; reshape(-1, 1) for one feature, reshape(1, -1) for one row")
    if len(shape) != 2:
        raise DataError(f"{where}: shape {shape} is not (rows, features)")
    check_dtype(dtype, where)
    if shape[1] == 0:
        raise DataError(f"{where}: no features, the shape is {shape}")
    if shape[0] == 0:
        raise DataError(f"{where}: no rows, the shape is {shape}")


def native(array: Array) -> Array:
    """Return `array` in native byte order, itself where it is already."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def split_label(matrix: Array, index: int | None) -> Block:
    """Split column `index`, counted from 0, off a block of rows."""
    if index is None:
        return Block(matrix, None)
    if index == 0:
        values = matrix[:, 1:]
    elif index == matrix.shape[1] - 1:
        values = matrix[:, :-1]
    else:
        values = np.delete(matrix, index, axis=1)
    return Block(values, matrix[:, index])


def as_index(label: Label) -> int | None:
    """Return a label given as an index or a numeric string as an int, and None for a name."""
    if isinstance(label, str):
        return int(label) if re.fullmatch(r"[+-]?\d+", label) else None
    return int(label)


def find_label(label: Label, names: Sequence[str] | None, width: int, where: str) -> int:
    """Find the label's column.

    Parameters
    ----------
    label : str or int
        A name, an index, or an index as a string; negative ones count from the end. A name wins over a number.
    names : sequence of str, or None
        All columns' names.
    width : int
        Number of columns, the label's included.
    where : str
        For messages.

    Returns
    -------
    int
        Index counted from 0.

    Raises
    ------
    DataError
        If there is no such column, or no other one.
    """
    if isinstance(label, str) and names is not None and label in names:
        index = names.index(label)
    else:
        number = as_index(label)
        if number is None:
            raise DataError(f"{where}: no column {label!r}; {suggest(str(label), names)}")
        if not -width <= number < width:
            raise DataError(
                f"{where}: no column with index {number}; {width} columns have indices {-width} to {width - 1}"
            )
        index = number % width
    if width == 1:
        raise DataError(f"{where}: no features, the label is the only column")
    return index


def suggest(wanted: str, names: Sequence[str] | None) -> str:
    """Say which names there are, the nearest ones first or only."""
    if not names:
        return "the columns have no names, give an index such as 0 or -1"
    near = difflib.get_close_matches(wanted, names, n=3) or [n for n in names if n.lower() == wanted.lower()]
    if near:
        return "did you mean " + " or ".join(repr(name) for name in near) + "?"
    shown = ", ".join(repr(name) for name in names[:20])
    return f"there are {shown}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def read_into(file: IO[bytes], array: Array, where: str) -> None:
    """Fill a contiguous array from a file.

    In pieces: a zip member's `readinto` makes a `bytes` of what it is asked for, which is not to be a whole block.
    """
    view = array.reshape(-1, order="A").view(np.uint8).data
    done = 0
    while done < len(view):
        # typeshed's IO has no readinto, but every file opened here does.
        got: int = file.readinto(view[done : done + (1 << 18)])  # type: ignore[attr-defined]
        if not got:
            raise DataError(f"{where}: truncated, the data ends early")
        done += got


def sliceable(values: Any) -> bool:
    """Tell datasets that read when they are sliced (h5py, zarr, dask) from arrays: those are to stay what they are."""
    return (
        not isinstance(values, np.ndarray)
        and isinstance(getattr(values, "dtype", None), np.dtype)
        and hasattr(values, "shape")
        and hasattr(values, "__getitem__")
        and hasattr(values, "__len__")
    )


def as_array(values: Any, where: str) -> Any:
    """Return `values` as an array, or as they are if they are `sliceable`; raise `DataError` if they are no array."""
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise DataError(f"{where}: a sparse matrix; codes are dense, pass blocks of .toarray() if that fits")
    if sliceable(values):
        return values
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise DataError(f"{where}: a masked array with masked values; fill them first, with .filled(value)")
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{where}: cannot be made an array: {error}") from error


def as_labels(values: Any, rows: int, where: str) -> Any:
    """Do as `as_array`, and raise `DataError` unless there is one number for each of `rows` rows."""
    labels = as_array(values, where)
    shape = tuple(labels.shape)
    if shape not in ((rows,), (rows, 1)):
        raise DataError(f"{where}: shape {shape} does not fit {rows} rows; one label a row is needed, shape ({rows},)")
    check_dtype(labels.dtype, where)
    return labels
