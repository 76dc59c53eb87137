"""Many files with the same columns as one source, one after the other."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from ..errors import DataError
from .sources import BaseSource, Block, Source
from .zarrs import is_zarr


def natural(path: str) -> list[tuple[int, str]]:
    """Return a key that sorts part-2 before part-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", path)]


class FolderSource(BaseSource):
    """Rows of several sources in turn, which hold no files open between passes. What each has must fit the first one."""

    def __init__(self, name: str, sources: Sequence[Source]) -> None:
        super().__init__(name)
        self._sources, first = list(sources), sources[0]
        self.columns, self.features = first.columns, first.features
        self._name_labels(first.label_names)
        for source in self._sources:
            self._check(source)
        sizes = [source.nbytes for source in self._sources]
        self.nbytes = None if None in sizes else sum(size or 0 for size in sizes)
        self._read, self._now = 0, first
        self._count()

    def _check(self, source: Source) -> None:
        first = self._sources[0].name
        advice = "files that are read together have the same columns"
        if source.features != self.features:
            raise DataError(f"{source.name}: {source.features} features, {first} has {self.features}; {advice}")
        for mine, others, what in ((source.columns, self.columns, "column"), (source.label_names, self.label_names, "label")):
            if mine == others:
                continue
            if mine is None or others is None:
                has, had = ("no names" if names is None else "names" for names in (mine, others))
                raise DataError(f"{source.name}: its {what}s have {has}, in {first} they have {had}; {advice}")
            at = next(at for at, (one, other) in enumerate(zip_longest(mine, others)) if one != other)
            one, other = ((*names, "missing")[min(at, len(names))] for names in (mine, others))
            raise DataError(f"{source.name}: {what} {at} is {one!r}, in {first} it is {other!r}; {advice}")

    def _count(self) -> None:
        counts = [source.rows for source in self._sources]
        self.rows = None if None in counts else sum(count or 0 for count in counts)

    def _pass(self, rows: int, start: int) -> Iterator[Block]:
        first = self._read = 0  # number of the source's first row in all; bytes of the sources before
        kept: dict[str, tuple[np.dtype[Any], str]] = {}
        for source in self._sources:
            self._now = source
            # Skipped without a look only where an earlier pass, or the file itself, says how many rows it has.
            if source.rows is None or start < first + source.rows:
                for block in source.blocks(rows, max(0, start - first)):
                    self._check_kept(block, source.name, kept)
                    yield block
            first += source.rows or 0
            self._read += source.nbytes or 0
        self._now = self._sources[0]
        self._count()

    def _check_kept(self, block: Block, name: str, seen: dict[str, tuple[np.dtype[Any], str]]) -> None:
        for key, column in (block.kept or {}).items():
            dtype, where = seen.setdefault(key, (column.dtype, name))
            if dtype != column.dtype and {dtype.kind, column.dtype.kind} - set("OUSi"):
                raise DataError(f"{name}: column {key!r} is kept as {column.dtype}, in {where} it is {dtype}; cast one of them")

    def place(self, row: int, column: int | None, label: int = 0) -> str:
        """Say where a value stands: in its file, counted from that file's start."""
        for source in self._sources:
            if source.rows is None or row < source.rows or source is self._sources[-1]:
                return source.place(row, column, label)
            row -= source.rows
        return super().place(row, column, label)

    def bytes_read(self) -> int | None:
        """Bytes of the files consumed in the current pass, where not all files know their rows."""
        return self._read + (self._now.bytes_read() or 0)

    def identity(self) -> dict[str, Any] | None:
        """Which content this is: what each file is."""
        parts = [source.identity() for source in self._sources]
        return None if None in parts else {"parts": parts}

    def close(self) -> None:
        """Release files. The source cannot be read afterwards."""
        super().close()
        for source in self._sources:
            source.close()


def _hidden(name: str) -> bool:
    return name.startswith((".", "_")) or name.endswith((".partial", ".partial.journal"))


def files_in(folder: str) -> list[str]:
    """List the files of a folder and its folders, sorted naturally, without partial outputs and names that begin with . or _.

    A folder that is a Zarr array or group counts as a file.
    """
    found = []
    for here, folders, files in os.walk(folder):
        shown = [os.path.join(here, name) for name in folders if not name.startswith((".", "_"))]  # noqa: PTH118
        arrays = [path for path in shown if is_zarr(path)]
        folders[:] = [os.path.basename(path) for path in shown if path not in arrays]  # noqa: PTH119
        found += arrays + [os.path.join(here, name) for name in files if not _hidden(name)]  # noqa: PTH118
    return sorted(found, key=natural)
