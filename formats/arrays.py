"""Sources in memory, and datasets that are sliced: arrays, memmaps, HDF5 datasets, data frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from .sources import BaseSource, Block, Source, as_array, as_labels, check_dtype, check_matrix, native


class ArraySource(BaseSource):
    """An array, a memmap, or a dataset that is sliced by rows (h5py, zarr)."""

    def __init__(self, values: Any, labels: Any, name: str, columns: Sequence[str] | None) -> None:
        super().__init__(name)
        self._values = as_array(values, name)
        shape = tuple(self._values.shape)
        check_matrix(shape, self._values.dtype, name)
        self.rows, self.features = shape
        self.nbytes = shape[0] * shape[1] * self._values.dtype.itemsize
        self._labels = None if labels is None else as_labels(labels, shape[0], f"labels of {name}")
        if columns is not None:
            if len(columns) != shape[1]:
                raise DataError(f"{name}: {len(columns)} column names for {shape[1]} features")
            self.columns = tuple(str(column) for column in columns)

    def _pass(self, rows: int) -> Iterator[Block]:
        assert self.rows is not None
        for start in range(0, self.rows, rows):
            stop = min(start + rows, self.rows)
            values = native(np.asarray(self._values[start:stop]))
            labels = None
            if self._labels is not None:
                labels = native(np.asarray(self._labels[start:stop])).reshape(-1)
            yield Block(values, labels)


class FrameSource(BaseSource):
    """A pandas DataFrame, taken as numbers by blocks of rows: a mixed one has no matrix to point into."""

    def __init__(self, frame: Any, labels: Any, name: str) -> None:
        super().__init__(name)
        self._frame = frame
        self.columns = tuple(str(column) for column in frame.columns)
        dtypes = list(frame.dtypes)
        for column, dtype in zip(self.columns, dtypes, strict=True):
            # Extension types (Int64, Float32, boolean) say their numpy counterpart; text and categories have none.
            plain = dtype if isinstance(dtype, np.dtype) else getattr(dtype, "numpy_dtype", np.dtype(object))
            check_dtype(plain, f"{name}: column {column!r}")
        self._plain = all(isinstance(dtype, np.dtype) for dtype in dtypes)
        # pandas would make objects of bool beside float, hence numpy's rule. Missing values need a float's NaN.
        self._dtype = np.result_type(*dtypes) if self._plain and dtypes else np.dtype(np.float64)
        self.rows, self.features = len(frame), len(self.columns)
        check_matrix((self.rows, self.features), self._dtype, name)
        self.nbytes = self.rows * self.features * self._dtype.itemsize
        self._labels = None if labels is None else as_labels(labels, self.rows, f"labels of {name}")

    def _pass(self, rows: int) -> Iterator[Block]:
        assert self.rows is not None
        missing = {} if self._plain else {"na_value": np.nan}
        for start in range(0, self.rows, rows):
            values = self._frame.iloc[start : start + rows].to_numpy(dtype=self._dtype, **missing)
            labels = None
            if self._labels is not None:
                labels = native(np.asarray(self._labels[start : start + rows])).reshape(-1)
            yield Block(values, labels)


def array_source(X: Any, y: Any = None, name: str = "X", columns: Sequence[str] | None = None) -> Source:
    """Read an array by rows.

    Parameters
    ----------
    X : array-like, shape (rows, features)
        Bool, integer or float16/32/64. A memmap, an h5py dataset or alike is not copied, only sliced by rows.
    y : array-like, shape (rows,) or (rows, 1), optional
        Labels.
    name : str
        For messages.
    columns : sequence of str, optional
        Feature names.

    Returns
    -------
    Source

    Raises
    ------
    DataError
        For another dtype or shape, no rows or no features, or labels that do not fit.
    """
    return ArraySource(X, y, name, columns)
