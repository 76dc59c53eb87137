"""Readers of `.npy`, `.npz` and HDF5 files, by blocks of rows.

None keeps a file open or mapped between passes: mapped pages count as memory used, and a memmap read from end to
end shows the whole file as resident.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from numpy.lib import format as npy_format

from ..errors import DataError, SourceError
from .columns import Options
from .matrix import MatrixSource, Read
from .sources import Array, check_matrix, native, read_into

# What a damaged zip or deflate stream raises.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class _Header:
    """What an `.npy` header says of the array behind it."""

    def __init__(self, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.fortran = fortran
        self.dtype = dtype

    @property
    def nbytes(self) -> int:
        size = self.dtype.itemsize
        for extent in self.shape:
            size *= extent
        return size

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape)) or 'scalar'} {self.dtype}"


def _read_header(file: IO[bytes], where: str) -> _Header:
    """Read the header and leave the file at the first value. Nothing is unpickled."""
    try:
        with warnings.catch_warnings():
            # A file by Python 2 reads correctly; the advice to save it anew is not for us to pass on.
            warnings.simplefilter("ignore", UserWarning)
            version = npy_format.read_magic(file)
            if version == (1, 0):
                shape, fortran, dtype = npy_format.read_array_header_1_0(file)
            elif version == (2, 0):
                shape, fortran, dtype = npy_format.read_array_header_2_0(file)
            elif version == (3, 0):
                # Version 3 exists only for field names outside latin-1.
                raise DataError(f"{where}: structured dtype; give a plain 2-D array of numbers")
            else:
                raise DataError(f"{where}: npy version {version[0]}.{version[1]} is newer than this reader")
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{where}: not an npy array, or damaged: {error}") from error
    return _Header(shape, fortran, dtype)


class NpySource(MatrixSource):
    """One array in an `.npy` file."""

    def __init__(self, path: str, options: Options) -> None:
        super().__init__(path, options)
        with Path(path).open("rb") as file:
            self._header = _read_header(file, path)
            self._offset = file.tell()
            self.nbytes = os.fstat(file.fileno()).st_size
        check_matrix(self._header.shape, self._header.dtype, path)
        if self.nbytes - self._offset < self._header.nbytes:
            raise DataError(
                f"{path}: truncated, {self._header} takes {self._header.nbytes} bytes and the file has "
                f"{self.nbytes - self._offset}"
            )
        self._arrange(lambda _: (self._header.shape, self._header.dtype), lambda _: "")

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Read]:
        (total, width), dtype = self._header.shape, self._header.dtype

        def read(_: str, start: int, stop: int) -> Array:
            if self._header.fortran:
                block = np.empty((stop - start, width), dtype, order="F")
                for column in range(width):
                    file.seek(self._offset + (column * total + start) * dtype.itemsize)
                    read_into(file, block[:, column], self.name)
            else:
                block = np.empty((stop - start, width), dtype)
                file.seek(self._offset + start * width * dtype.itemsize)
                read_into(file, block, self.name)
            return block

        try:
            # Unbuffered: blocks are large, and a buffer would only copy them.
            with Path(self.name).open("rb", buffering=0) as file:
                yield read
        except FileNotFoundError as error:
            raise SourceError(f"{self.name}: no such file any more") from error


class NpzSource(MatrixSource):
    """A matrix in an `.npz` archive, deflated or not, and a label that is another member or one of its columns."""

    def __init__(self, path: str, options: Options) -> None:
        super().__init__(path, options)
        self.nbytes = Path(path).stat().st_size
        self._headers: dict[str, _Header] = {}
        with self._archive() as archive:
            for info in archive.infolist():
                if not info.filename.endswith(".npy"):
                    continue
                key = info.filename[:-4]
                with archive.open(info) as member:
                    self._headers[key] = header = _read_header(member, f"{path}[{key}]")
                    if info.file_size - member.tell() < header.nbytes and not header.dtype.hasobject:
                        raise DataError(f"{path}[{key}]: truncated, {header} takes {header.nbytes} bytes")
        if not self._headers:
            raise DataError(f"{path}: no arrays in the archive")
        self._arrange(
            lambda key: (self._headers[key].shape, self._headers[key].dtype),
            self._choose,
            lambda name: name if name in self._headers else None,
            list(self._headers),
        )

    def _title(self, key: str) -> str:
        return f"{self.name}[{key}]"

    @contextlib.contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        """Open the archive; what a damaged one raises, here or inside, becomes one error."""
        try:
            with zipfile.ZipFile(self.name) as archive:
                yield archive
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be read: {error.strerror or error}") from error
        except _ZIP_ERRORS as error:
            raise DataError(f"{self.name}: not an npz archive, or damaged: {error}") from error

    def _choose(self, beside: set[str]) -> str:
        dataset = self._options.dataset
        listed = ", ".join(f"{key} ({header})" for key, header in self._headers.items())
        if dataset is not None:
            if dataset not in self._headers:
                raise DataError(f"{self.name}: no member {dataset!r}; there are {listed}")
            return dataset
        found = [key for key, header in self._headers.items() if len(header.shape) == 2 and key not in beside]
        if len(found) == 1:
            return found[0]
        if "X" in found:
            return "X"
        if not found:
            raise DataError(f"{self.name}: no 2-D array in it; there are {listed}")
        raise DataError(f"{self.name}: several 2-D arrays, name one with dataset=; there are {listed}")

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Read]:
        with self._archive() as archive, contextlib.ExitStack() as stack:
            members: dict[str, _Member] = {}

            def read(key: str, start: int, stop: int) -> Array:
                if key not in members:
                    members[key] = stack.enter_context(_Member(archive, key, self._title(key)))
                return members[key].take(start, stop)

            yield read


class _Member:
    """A member of an `.npz`, read forwards."""

    def __init__(self, archive: zipfile.ZipFile, key: str, where: str) -> None:
        self._file: IO[bytes] = archive.open(f"{key}.npy")
        self._where = where
        self._header = _read_header(self._file, where)
        self._first = self._file.tell()
        self._whole: Array | None = None
        self._row = 0
        if self._header.fortran and len(self._header.shape) > 1:
            # The first row ends only at the array's end and a deflated stream has no seek: it has to be held whole.
            self._whole = np.empty(self._header.shape, self._header.dtype, order="F")
            read_into(self._file, self._whole, where)

    def take(self, start: int, stop: int) -> Array:
        """Return rows; `start` is where the call before stopped, or beyond."""
        if self._whole is not None:
            return native(self._whole[start:stop])
        block = np.empty((stop - start, *self._header.shape[1:]), self._header.dtype)
        if start > self._row:
            # Reads on, where the member is deflated.
            self._file.seek(self._first + start * (block.nbytes // (stop - start)))
        read_into(self._file, block, self._where)
        self._row = stop
        return block

    def __enter__(self) -> _Member:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class H5Source(MatrixSource):
    """A 2-D dataset of an HDF5 file, and labels that are columns of it or datasets of their own."""

    def __init__(self, path: str, options: Options) -> None:
        super().__init__(path, options)
        self.nbytes = Path(path).stat().st_size
        self._cache = 1 << 20
        with self._file() as file:
            if _is_zipml(file):
                raise DataError(
                    f"{path} is a zipml file already: open it with zipml_codec.open(), or `zipml decompress` it first"
                )
            self._arrange(
                lambda key: (file[key].shape, file[key].dtype),
                lambda beside: self._choose(file, beside),
                lambda name: _find_beside(file, name, options.dataset),
                list(_datasets(file)),
            )
            matrix = file[self._matrix]
            self._chunk_rows = matrix.chunks[0] if matrix.chunks else 1
            # Where a chunk has more rows than a block, a cache that holds a band of chunks saves decoding them anew.
            band = self._chunk_rows * matrix.shape[1] * matrix.dtype.itemsize
            self._cache = min(max(self._cache, 2 * band), 64 << 20)

    def _title(self, key: str) -> str:
        return f"{self.name}[{key}]"

    @contextlib.contextmanager
    def _file(self) -> Iterator[h5py.File]:
        try:
            file = h5py.File(self.name, "r", rdcc_nbytes=self._cache)
        except OSError as error:
            text = str(error)
            if "unable to lock" in text:
                raise SourceError(
                    f"{self.name}: locked, a program has it open for writing; close that, or set "
                    "HDF5_USE_FILE_LOCKING=FALSE if you know that nothing writes"
                ) from error
            if "signature not found" in text:
                raise DataError(f"{self.name}: not an HDF5 file") from error
            if "truncated" in text:
                raise DataError(f"{self.name}: truncated, HDF5 says {text}") from error
            raise SourceError(f"{self.name}: cannot be opened: {text}") from error
        with file:
            yield file

    def _choose(self, file: h5py.File, beside: set[str]) -> str:
        found, dataset = _datasets(file), self._options.dataset
        matrices = {key: one for key, one in found.items() if len(one.shape) == 2 and one.dtype.kind in "biuf"}
        matrices = {key: one for key, one in matrices.items() if key not in beside}
        listed = ", ".join(f"{key} ({'x'.join(map(str, one.shape))} {one.dtype})" for key, one in matrices.items())
        if dataset is not None:
            # Not only those found: links lead to others.
            if dataset not in file or not isinstance(file[dataset], h5py.Dataset):
                raise DataError(f"{self.name}: no dataset {dataset!r}; the 2-D ones are {listed or 'none'}")
            return dataset
        if len(matrices) == 1:
            return next(iter(matrices))
        if not matrices:
            raise DataError(
                f"{self.name}: no 2-D dataset of numbers in it; there are {', '.join(found) or 'none at all'}"
            )
        raise DataError(f"{self.name}: several 2-D datasets, name one with dataset=; there are {listed}")

    def _step(self, rows: int) -> int:
        # Whole chunks where a block holds some, so that none is decoded twice.
        return rows - rows % self._chunk_rows if rows >= self._chunk_rows else rows

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Read]:
        with self._file() as file:

            def read(key: str, start: int, stop: int) -> Array:
                try:
                    rows: Array = file[key][start:stop]
                except (OSError, KeyError) as error:
                    hint = "; does its compression need `import hdf5plugin`?" if re.search("filter|plugin", str(error)) else ""
                    raise SourceError(f"{self._title(key)}: rows {start + 1} to {stop} cannot be read: {error}{hint}") from error
                return rows

            yield read


def _is_zipml(file: h5py.File) -> bool:
    try:
        mark = file.attrs.get("format")
    except (OSError, TypeError):
        # A type that NumPy lacks, or damaged: another's attribute, and no reason not to read the data.
        return False
    return mark == b"zipml" if isinstance(mark, bytes) else isinstance(mark, str) and mark == "zipml"


def _datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            found[name] = item

    file.visititems(visit)
    return found


def _find_beside(file: h5py.File, name: str, dataset: str | None) -> str | None:
    """Find a label's dataset: from the root, or beside the matrix. None where there is none, it may be an index."""
    beside = f"{dataset.rpartition('/')[0]}/{name}" if dataset and "/" in dataset else name
    return next((key for key in (name, beside) if key in file and isinstance(file[key], h5py.Dataset)), None)
