"""Sources in memory, and datasets that are sliced: arrays, memmaps, HDF5 datasets, data frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import DataError, OptionError
from .columns import Options, check_names, select
from .matrix import MatrixSource, Read
from .sources import (
    DIGESTED,
    Array,
    BaseSource,
    Block,
    Source,
    as_array,
    as_kept,
    as_labels,
    check_dtype,
    check_matrix,
    edge_identity,
    flat,
    kept_block,
    native,
)


class ArraySource(MatrixSource):
    """An array, a memmap, or a dataset that is sliced by rows (h5py, zarr)."""

    def __init__(self, values: Any, labels: Any, name: str, columns: Sequence[str] | None, options: Options) -> None:
        options, beside = _take_apart(options, labels)
        super().__init__(name, options)
        self._arrays = {"X": as_array(values, name)}
        shape = tuple(self._arrays["X"].shape)
        check_matrix(shape, self._arrays["X"].dtype, name)
        if columns is not None and len(columns) != shape[1]:
            raise DataError(f"{name}: {len(columns)} column names for {shape[1]} features")
        names = None if columns is None else [str(column) for column in columns]
        self._arrange(lambda key: (tuple(self._arrays[key].shape), self._arrays[key].dtype), lambda _: "X", names=names)
        self.nbytes = shape[0] * shape[1] * self._arrays["X"].dtype.itemsize
        if labels is not None:
            self._arrays["y"] = as_labels(labels, shape[0], f"labels of {name}")
            self._labels, count = ["y"], self._arrays["y"].shape[1:]
            self._label_places = [("y", None if count in ((), (1,)) else number) for number in range(*count or (1,))]
            self._name_labels(_names_of(labels))
        for key, column in beside.items():
            self._arrays[f"kept {key}"] = as_kept(column, shape[0], f"{name}: column to keep {key!r}")
            self._kept[key] = f"kept {key}"

    def _title(self, key: str) -> str:
        return self.name if key in ("X", "y") else f"{self.name}: {key}"

    @contextmanager
    def _reader(self) -> Iterator[Read]:
        yield lambda key, start, stop: np.asarray(self._arrays[key][start:stop])

    def place(self, row: int, column: int | None, label: int = 0) -> str:
        """Say where a value stands."""
        if column is None and self._labels == ["y"]:
            number = self._label_places[label][1]
            which = "" if number is None or self.label_names else f" {number}"
            return f"{self.name}: row {row + 1}, {self._column(None, label)}{which}"
        return super().place(row, column, label)

    def identity(self) -> dict[str, Any] | None:
        """Which content this is: shapes, dtypes, and a digest of the first and last rows."""
        assert self.rows is not None
        count = max(1, DIGESTED // (self._arrays["X"].dtype.itemsize * self._arrays["X"].shape[1]))
        about = {key: [list(array.shape), array.dtype.str] for key, array in self._arrays.items()}
        return {"arrays": about, "edges": edge_identity(self, min(count, self.rows))}


def _take_apart(options: Options, labels: Any) -> tuple[Options, dict[str, Any]]:
    """Options without arrays, and the arrays to keep by name, which `keep` may hold instead of names."""
    if labels is not None and options.label is not None:
        raise OptionError("labels come either as y or as the columns that label= names, not both")
    if isinstance(options.keep, Mapping):
        return Options(options.label, options.columns), {str(key): column for key, column in options.keep.items()}
    return options, {}


def _names_of(labels: Any) -> list[str] | None:
    """Names of labels that come as a series or a data frame."""
    if hasattr(labels, "columns"):
        return [str(name) for name in labels.columns]
    named = hasattr(labels, "to_numpy") and isinstance(getattr(labels, "name", None), str) and labels.name
    return [labels.name] if named else None


class FrameSource(BaseSource):
    """A pandas DataFrame, taken as numbers by blocks of rows: a mixed one has no matrix to point into."""

    def __init__(self, frame: Any, labels: Any, name: str, options: Options | None = None) -> None:
        super().__init__(name)
        self._frame = frame
        options, self._beside = _take_apart(options or Options(), labels)
        names, dtypes = [str(column) for column in frame.columns], list(frame.dtypes)
        self.rows = len(frame)
        if not names or not self.rows:
            check_matrix((self.rows, len(names)), np.dtype(np.float64), name)
        check_names(names, name)
        self._selection = chosen = select(options, names, len(names), name)
        self.columns, self.features = chosen.columns, len(chosen.features)
        # pandas would make objects of bool beside float, hence numpy's rule. Missing values need a float's NaN.
        self._values = self._dtype([dtypes[index] for index in chosen.features], chosen.columns or ())
        self._labels = self._dtype([dtypes[index] for index in chosen.labels], chosen.label_names or ())
        for key, index in chosen.kept.items():
            if getattr(dtypes[index], "kind", "O") in "cMm":
                check_dtype(np.dtype(dtypes[index].kind), f"{name}: column {key!r}")
        self._name_labels(chosen.label_names or _names_of(labels))
        self.nbytes = self.rows * self.features * self._values[0].itemsize
        self._y = None if labels is None else as_labels(labels, self.rows, f"labels of {name}")
        for key, column in self._beside.items():
            self._beside[key] = as_kept(column, self.rows, f"{name}: column to keep {key!r}")

    def _dtype(self, dtypes: list[Any], names: Sequence[str]) -> tuple[np.dtype[Any], dict[str, Any]]:
        """The dtype of some columns together, and what pandas has to be told of missing values."""
        for column, dtype in zip(names, dtypes, strict=True):
            # Extension types (Int64, Float32, boolean) say their numpy counterpart; text and categories have none.
            plain = dtype if isinstance(dtype, np.dtype) else getattr(dtype, "numpy_dtype", np.dtype(object))
            check_dtype(plain, f"{self.name}: column {column!r}")
        if dtypes and all(isinstance(dtype, np.dtype) for dtype in dtypes):
            return np.result_type(*dtypes), {}
        return np.dtype(np.float64), {"na_value": np.nan}

    def _pass(self, rows: int, start: int) -> Iterator[Block]:
        assert self.rows is not None
        chosen = self._selection
        for first in range(start, self.rows, rows):
            part = self._frame.iloc[first : first + rows]
            labels = None
            if chosen.labels:
                labels = flat(self._take(part, chosen.labels, *self._labels))
            elif self._y is not None:
                labels = flat(native(np.asarray(self._y[first : first + rows])))
            kept = {key: self._whole(part.iloc[:, index], key, first) for key, index in chosen.kept.items()}
            for key, column in self._beside.items():
                kept[key] = self._keep(np.asarray(column[first : first + rows]), key, first)
            yield Block(self._take(part, chosen.features, *self._values), labels, kept or None)

    def _take(self, part: Any, indices: list[int], dtype: np.dtype[Any], missing: dict[str, Any]) -> Array:
        whole = indices == list(range(len(self._frame.columns)))
        values: Array = (part if whole else part.iloc[:, indices]).to_numpy(dtype=dtype, **missing)
        return values

    def _whole(self, column: Any, key: str, first: int) -> Array:
        """A column to keep; one of an extension type whose missing values an array would not hold, or in floats only."""
        if not isinstance(column.dtype, np.dtype) and (missing := column.isna().to_numpy()).any():
            row = first + int(np.argmax(missing)) + 1
            raise DataError(f"{self.name}: row {row}, column {key!r}: a missing value; fill it to keep the column")
        return self._keep(column.to_numpy(), key, first)

    def _keep(self, column: Array, key: str, first: int) -> Array:
        return kept_block(column, f"{self.name}: column {key!r}", first)

    def identity(self) -> dict[str, Any] | None:
        """Which content this is: names, and as for arrays what the first and last rows are."""
        assert self.rows is not None
        return {"columns": self.columns, "rows": self.rows, "edges": edge_identity(self, min(1000, self.rows))}


def array_source(
    X: Any, y: Any = None, name: str = "X", columns: Sequence[str] | None = None, options: Options | None = None
) -> Source:
    """Read an array by rows.

    Parameters
    ----------
    X : array-like, shape (rows, features)
        Bool, integer or float16/32/64. A memmap, an h5py dataset or alike is not copied, only sliced by rows.
    y : array-like, shape (rows,) or (rows, labels), optional
        Labels.
    name : str
        For messages.
    columns : sequence of str, optional
        Names of all columns.
    options : Options, optional
        Which columns are labels, features and kept.

    Returns
    -------
    Source

    Raises
    ------
    DataError
        For another dtype or shape, no rows or no features, or labels that do not fit.
    """
    return ArraySource(X, y, name, columns, options or Options())
