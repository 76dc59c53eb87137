"""Reader of Zarr arrays and groups, versions 2 and 3, in a folder or a zip archive."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from ..errors import DataError, MissingDependencyError, SourceError
from .columns import Options, file_identity
from .matrix import MatrixSource, Read
from .sources import Array

HELD_BYTES = 64 << 20  # of decoded chunks that have more rows than a block
MARKS = (".zarray", ".zgroup", "zarr.json")


def is_zarr(path: str) -> bool:
    """Tell a folder or zip archive that holds a Zarr array or group."""
    if Path(path).is_dir():
        return any((Path(path) / mark).exists() for mark in MARKS)
    try:
        with zipfile.ZipFile(path) as archive:
            return any(mark in archive.namelist() for mark in MARKS)
    except (OSError, zipfile.BadZipFile):
        return False


class ZarrSource(MatrixSource):
    """A 2-D array, alone or in a group, and labels that are columns of it or arrays of their own."""

    def __init__(self, path: str, options: Options) -> None:
        super().__init__(path, options)
        with self._arrays() as arrays:
            self._arrange(
                lambda key: (tuple(arrays[key].shape), arrays[key].dtype),
                lambda beside: self._choose(arrays, beside),
                lambda name: next((key for key in (name, self._beside(name)) if key in arrays and key), None),
                [key for key in arrays if key],
            )
            matrix = arrays[self._matrix]
            self._band = _chunk_rows(matrix)
            self.nbytes = int(np.prod(matrix.shape)) * matrix.dtype.itemsize

    def _beside(self, name: str) -> str:
        return f"{(self._options.dataset or '').rpartition('/')[0]}/{name}".strip("/")

    def _title(self, key: str) -> str:
        return f"{self.name}[{key}]" if key else self.name

    @contextlib.contextmanager
    def _arrays(self) -> Iterator[dict[str, Any]]:
        """Open all arrays, by their paths; an array alone is ""."""
        try:
            import zarr
        except ImportError as error:
            raise MissingDependencyError("reading Zarr needs zarr; install it with: pip install 'zipml-codec[zarr]'") from error
        try:
            with contextlib.ExitStack() as stack:
                store: Any = self.name
                if not Path(self.name).is_dir():
                    store = stack.enter_context(contextlib.closing(zarr.storage.ZipStore(self.name, mode="r")))
                found = zarr.open(store, mode="r")
                yield {"": found} if hasattr(found, "shape") else dict(sorted(_visit(found, "")))
        except (DataError, SourceError):
            raise
        except FileNotFoundError as error:
            raise SourceError(f"{self.name}: no such Zarr array or group any more") from error
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be read: {error.strerror or error}") from error
        except Exception as error:  # of the store, the metadata or any codec
            raise DataError(f"{self.name}: not a Zarr array or group, or damaged: {type(error).__name__}: {error}") from error

    def _choose(self, arrays: dict[str, Any], beside: set[str]) -> str:
        dataset = (self._options.dataset or "").strip("/")
        matrices = {key: one for key, one in arrays.items() if len(one.shape) == 2 and one.dtype.kind in "biuf"}
        matrices = {key: one for key, one in matrices.items() if key not in beside}
        listed = ", ".join(f"{key} ({'x'.join(map(str, one.shape))} {one.dtype})" for key, one in matrices.items())
        if dataset or "" in arrays:
            if dataset not in arrays:
                raise DataError(f"{self.name}: no array {dataset!r}; the 2-D ones are {listed or 'none'}")
            return dataset
        if len(matrices) == 1 or "X" in matrices:
            return "X" if "X" in matrices else next(iter(matrices))
        if not matrices:
            raise DataError(f"{self.name}: no 2-D array of numbers in it; there are {', '.join(arrays) or 'none at all'}")
        raise DataError(f"{self.name}: several 2-D arrays, name one with dataset=; there are {listed}")

    def _step(self, rows: int) -> int:
        # Whole chunks where a block holds some, so that none is decoded twice.
        return rows - rows % self._band if rows >= self._band else rows

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Read]:
        with self._arrays() as arrays:
            # Chunks with more rows than a block are decoded once, and handed out by parts.
            held: dict[str, tuple[int, Array]] = {}

            def read(key: str, start: int, stop: int) -> Array:
                one, rows = arrays[key], _chunk_rows(arrays[key])
                if rows <= stop - start or rows * one.dtype.itemsize * int(np.prod(one.shape[1:])) > HELD_BYTES:
                    return np.asarray(one[start:stop])
                parts = []
                for band in range(start // rows * rows, stop, rows):
                    if key not in held or held[key][0] != band:
                        held[key] = band, np.asarray(one[band : band + rows])
                    parts.append(held[key][1][max(0, start - band) : stop - band])
                return parts[0] if len(parts) == 1 else np.concatenate(parts)

            yield read

    def identity(self) -> dict[str, Any] | None:
        """Which content this is: its files' paths, sizes and times of change, as a digest where it is a folder."""
        if not Path(self.name).is_dir():
            return file_identity([self.name], self._options)
        files = [str(file) for file in sorted(Path(self.name).rglob("*")) if file.is_file()]
        about = file_identity(files, self._options)
        return {**about, "files": xxhash.xxh3_64(json.dumps(about["files"]).encode()).hexdigest()}


def _chunk_rows(array: Any) -> int:
    """Rows that are decoded together: of a chunk, or in version 3 a shard."""
    return int((getattr(array, "shards", None) or array.chunks)[0])


def _visit(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, member in group.members():
        path = f"{prefix}{name}"
        if hasattr(member, "shape"):
            yield path, member
        else:
            yield from _visit(member, f"{path}/")
