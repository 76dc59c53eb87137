"""What the pipeline reads from: blocks of rows, the protocol of a source, and what the readers share.

A source yields blocks of rows, always from the start, as often as it is asked: the pipeline makes several passes
(statistics, levels, codes). Memory is bounded by a block, whatever the size of the data.

Layers, each importing only from those before it: this module; `columns`, which finds the columns that are asked for;
`matrix`, what sources of whole matrices share; `arrays`, `iterables`, `binary` and `text`, which do not know each other;
`readers`, which chooses among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import xxhash

from ..errors import DataError, OptionError, SourceError

Array = npt.NDArray[Any]
Self = TypeVar("Self")
DIGESTED = 1 << 20  # bytes of an array's first and last rows that its identity is made of


@dataclass(frozen=True)
class Block:
    """Some consecutive rows.

    A block stays valid after the next one is asked for: no source reuses its buffers. It may be a view of the
    user's array and is not to be written to.

    Attributes
    ----------
    values : ndarray, shape (rows, features)
        bool, integer or float16/32/64 in native byte order; not necessarily contiguous.
    labels : ndarray, shape (rows,), or (rows, labels) where there are several, or None
        Of the same dtypes.
    kept : dict of str to ndarray, shape (rows,), or None
        Columns to carry through exactly: bool, integer, float16/32/64, or text, which is of dtype object with items
        str, or U, or S with UTF-8. A column has one dtype in all blocks, save for text files: there it is int64 in a
        block whose cells are all integers as `str(int)` writes them, else text. Where blocks differ the column is text,
        see `as_text`.
    """

    values: Array
    labels: Array | None
    kept: dict[str, Array] | None = None

    def rows(self, start: int, stop: int) -> Block:
        """Return some of the rows, without a copy."""
        labels = None if self.labels is None else self.labels[start:stop]
        kept = None if self.kept is None else {name: column[start:stop] for name, column in self.kept.items()}
        return Block(self.values[start:stop], labels, kept)


@runtime_checkable
class Source(Protocol):
    """Rows of numbers that can be read from the start as often as needed.

    Attributes
    ----------
    name : str
        For messages: the path, or "X" for arrays.
    columns : tuple of str, or None
        Feature names, without the labels'.
    label_name : str or None
        The only label's.
    label_names : tuple of str, or None
        All labels' names, in the order of their columns in a block; None without labels, or without names.
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
    label_names: tuple[str, ...] | None
    features: int | None
    rows: int | None
    nbytes: int | None

    def blocks(self, rows: int, start: int = 0) -> Iterator[Block]:
        """Start a fresh pass at row `start`, in blocks of at most `rows` rows."""

    def place(self, row: int, column: int | None, label: int = 0) -> str:
        """Say where a value stands; `row` and `column` count from 0, `column` None is a label, the one of that number."""

    def identity(self) -> dict[str, Any] | None:
        """Say, in what JSON can hold, which content this is, without reading it all; None where that cannot be known."""

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
        self.label_names: tuple[str, ...] | None = None
        self.features: int | None = None
        self.rows: int | None = None
        self.nbytes: int | None = None
        self._closed = False

    def _name_labels(self, names: Sequence[str] | None) -> None:
        self.label_names = tuple(names) if names else None
        self.label_name = names[0] if names and len(names) == 1 else None

    def blocks(self, rows: int, start: int = 0) -> Iterator[Block]:
        """Start a fresh pass at row `start`, in blocks of at most `rows` rows.

        Raises
        ------
        OptionError
            If `rows` is below 1 or `start` below 0.
        DataError, SourceError
            At once or while iterating: content that is not numbers, or a file that cannot be read.
        """
        if rows < 1 or start < 0:
            raise OptionError(f"{self.name}: a block has at least one row, from row 0 on, got rows={rows}, start={start}")
        if self._closed:
            raise SourceError(f"{self.name}: the source is closed")
        return self._pass(rows, start)

    def _pass(self, rows: int, start: int) -> Iterator[Block]:
        raise NotImplementedError

    def place(self, row: int, column: int | None, label: int = 0) -> str:
        """Say where a value stands, for messages; rows are counted from 1 in the text, from 0 in the argument."""
        return f"{self.name}: row {row + 1}, {self._column(column, label)}"

    def _column(self, column: int | None, label: int) -> str:
        if column is None:
            return f"label {self.label_names[label]!r}" if self.label_names else "label"
        if self.columns is not None and self.columns[column]:
            return f"column {self.columns[column]!r}"
        return f"column index {column}"

    def identity(self) -> dict[str, Any] | None:
        """Which content this is: path, size and time of change of its file, and the options; None for what is no file."""
        return None

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
    """Do as `as_array`, and raise `DataError` unless there are numbers for each of `rows` rows."""
    if hasattr(values, "columns") and hasattr(values, "to_numpy"):
        # A frame of bools beside floats would become one of objects.
        values = np.column_stack([values[name].to_numpy() for name in values.columns])
    labels = as_array(values, where)
    check_labels(tuple(labels.shape), labels.dtype, rows, where)
    return labels


def check_labels(shape: tuple[int, ...], dtype: np.dtype[Any], rows: int, where: str) -> None:
    """Raise `DataError` unless this is a vector of `rows` numbers, or a matrix of so many rows."""
    if shape[:1] != (rows,) or len(shape) > 2 or 0 in shape[1:]:
        raise DataError(
            f"{where}: shape {shape} does not fit {rows} rows; labels are of shape ({rows},), or ({rows}, labels) if several"
        )
    check_dtype(dtype, where)


def flat(labels: Array) -> Array:
    """Make one label of shape (rows, 1) one of shape (rows,)."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def as_kept(values: Any, rows: int, where: str) -> Any:
    """Do as `as_array`, and raise `DataError` unless this is a column of `rows` numbers or texts to carry through."""
    column = as_array(values, where)
    check_kept(tuple(column.shape), column.dtype, rows, where)
    return column


def check_kept(shape: tuple[int, ...], dtype: np.dtype[Any], rows: int, where: str) -> None:
    """Raise `DataError` unless a column of this shape and dtype can be kept."""
    if shape not in ((rows,), (rows, 1)):
        raise DataError(f"{where}: shape {shape} does not fit {rows} rows; a column to keep has shape ({rows},)")
    if dtype.kind not in "OUS":
        check_dtype(dtype, where)


def kept_block(column: Array, where: str, first: int) -> Array:
    """Return some rows of a column to keep as a block holds them: native, one-dimensional, objects only if they are str."""
    column = native(flat(column))
    if column.dtype.kind != "O":
        return column
    texts = np.empty(len(column), object)
    for row, item in enumerate(column):
        try:
            texts[row] = item.decode() if isinstance(item, bytes) else item
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: row {first + row + 1}: not UTF-8 text: {error}") from error
        if not isinstance(texts[row], str):
            raise DataError(f"{where}: row {first + row + 1}: {item!r} is neither number nor text; fill it before it can be kept")
    return texts


def as_text(column: Array) -> Array:
    """Return a kept column of text or integers as texts, dtype object."""
    texts = np.empty(len(column), object)
    texts[:] = [item.decode() if isinstance(item, bytes) else str(item) for item in column.tolist()]
    return texts


def edge_identity(source: BaseSource, count: int) -> str:
    """Digest of the first and the last `count` rows of a source that knows how many it has."""
    assert source.rows is not None
    digest = xxhash.xxh3_64()
    for start in (0, source.rows - count):
        block = next(source.blocks(count, start))
        for name, part in {"X": block.values, "y": block.labels, **(block.kept or {})}.items():
            if part is not None:
                digest.update(f"{name} {part.shape} {part.dtype.str}".encode())
                data = np.ascontiguousarray(part)
                digest.update(repr(data.tolist()).encode() if data.dtype.hasobject else data.view(np.uint8).data)
    return digest.hexdigest()
