"""What sources of a whole matrix share: labels and kept columns that are its columns, or arrays beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..errors import DataError, OptionError
from .columns import Label, Options, as_index, as_slice, file_identity, listed, select, suggest
from .sources import Array, BaseSource, Block, check_kept, check_labels, check_matrix, flat, kept_block, native

Read = Callable[[str, int, int], Array]  # rows start..stop of an array, forwards only


class MatrixSource(BaseSource):
    """A matrix, and arrays of as many rows beside it. A subclass calls `_arrange`, and defines `_reader` and `_title`."""

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name)
        self._options = options

    def _reader(self) -> AbstractContextManager[Read]:
        raise NotImplementedError

    def _title(self, key: str) -> str:
        return self.name

    def _step(self, rows: int) -> int:
        """Rows of a block, at most `rows`."""
        return rows

    def _arrange(
        self,
        about: Callable[[str], tuple[tuple[int, ...], np.dtype[Any]]],
        choose: Callable[[set[str]], str],
        find: Callable[[str], str | None] = lambda name: None,
        arrays: Sequence[str] = (),
        names: Sequence[str] | None = None,
    ) -> None:
        """Find the matrix, the labels and the kept columns.

        Parameters
        ----------
        about
            Shape and dtype of an array.
        choose
            The matrix, given the arrays that are something else.
        find
            The array that a label's or kept column's name means, if any.
        arrays
            Names of all arrays.
        names
            Names of the matrix' columns.
        """
        labels, keep = listed("label", self._options.label, arrays), listed("keep", self._options.keep, arrays)
        beside = {item: key for item in {*labels, *keep} if isinstance(item, str) and (key := find(item)) is not None}
        self._matrix = choose(set(beside.values()))
        where = self._title(self._matrix)
        shape, dtype = about(self._matrix)
        check_matrix(shape, dtype, where)
        self.rows = rows = shape[0]
        for item, what in [*((item, "label") for item in labels), *((item, "column to keep") for item in keep)]:
            if item in beside:
                key = beside[item]
                (check_labels if what == "label" else check_kept)(*about(key), rows, self._title(key))
            elif arrays and names is None and as_index(item) is None:
                fitting = [key for key in arrays if about(key)[0][:1] == (rows,) and key != self._matrix]
                hint = suggest(str(item), fitting) if fitting else f"no array has {rows} values"
                raise DataError(f"{self.name}: no array {item!r} for the {what}; {hint}")
        for item in set(labels) & set(keep) & set(beside):
            raise OptionError(f"{self.name}: {item!r} is a label and kept: leave it out of one")
        inside = Options(_rest(labels, beside), self._options.columns, _rest(keep, beside))
        self._selection = chosen = select(inside, names, shape[1], where)
        places, kept = iter(chosen.labels), iter(chosen.kept.items())
        self._labels: list[str | int] = [beside[item] if item in beside else next(places) for item in labels]
        self._kept: dict[str, str | int] = dict((str(item), beside[item]) if item in beside else next(kept) for item in keep)
        self.features, self.columns = len(chosen.features), chosen.columns
        # Each label's array or column, and which of the array's columns it is.
        self._label_places: list[tuple[str | int, int | None]] = []
        titles = []
        for part in self._labels:
            count = about(part)[0][1:] if isinstance(part, str) else ()
            several = count not in ((), (1,))
            for number in range(count[0] if several else 1):
                self._label_places.append((part, number if several else None))
                title = str(part) if isinstance(part, str) or names is None else names[part]
                titles.append(f"{title}[{number}]" if several else title)
        self._name_labels(titles if names is not None or beside.keys() & set(labels) else None)

    def _pass(self, rows: int, start: int) -> Iterator[Block]:
        assert self.rows is not None
        with self._reader() as read:
            step = self._step(rows)
            for first in range(start, self.rows, step):
                yield self._block(read, first, min(first + step, self.rows))

    def _block(self, read: Read, start: int, stop: int) -> Block:
        matrix = native(read(self._matrix, start, stop))
        parts = [matrix[:, part] if isinstance(part, int) else flat(native(read(part, start, stop))) for part in self._labels]
        labels = None if not parts else parts[0] if len(parts) == 1 else np.column_stack(parts)
        kept = {
            name: matrix[:, part] if isinstance(part, int) else kept_block(read(part, start, stop), self._title(part), start)
            for name, part in self._kept.items()
        }
        return Block(matrix[:, as_slice(self._selection.features)], labels, kept or None)

    def place(self, row: int, column: int | None, label: int = 0) -> str:
        """Say where a value stands, naming the array; a column without a name by its index in the file."""
        where = f"{self._title(self._matrix)}: row {row + 1}"
        if column is not None:
            named = self.columns is not None and self.columns[column]
            return f"{where}, {self._column(column, label) if named else f'column index {self._selection.features[column]}'}"
        if not self._label_places:
            return f"{where}, label"
        part, number = self._label_places[label]
        if isinstance(part, str):
            return f"{self._title(part)}: row {row + 1}" + ("" if number is None else f", column index {number}")
        return f"{where}, {self._column(None, label) if self.label_names else f'label (column index {part})'}"

    def identity(self) -> dict[str, Any] | None:
        """Which content this is: path, size and time of change of its file, and the options."""
        return file_identity([self.name], self._options)


def _rest(items: list[Label], beside: dict[str, str]) -> list[Label] | None:
    return [item for item in items if item not in beside] or None
