"""Reader of text tables, `.csv` and `.tsv`, compressed or not: chunks of lines, parsed by pyarrow in threads.

pyarrow parses fast but says little about what it cannot parse. So after an error the file is read again, line by
line, only to find the first cell or row that is wrong and to name it.
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, SourceError
from .columns import Options, check_names, file_identity, select
from .sources import Array, BaseSource, Block, flat
from .streams import CODECS, ByteFile, import_pyarrow, in_order, line_chunks

# pyarrow's notion of a number, which is not Python's (no underscores) and trims blanks.
_NUMBER = re.compile(
    r"[ \t]*[+-]?([0-9]+\.?[0-9]*(e[+-]?[0-9]+)?|\.[0-9]+(e[+-]?[0-9]+)?|inf|infinity|nan)[ \t]*", re.IGNORECASE
)
_TRUE = ("true", "True", "TRUE")
_FALSE = ("false", "False", "FALSE")
# These become NaN: what pandas takes for missing, also with a blank at either side.
_SPELLINGS = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NAN", "NULL", "NaN", "None", "n/a", "na", "nan", "none", "null",
)  # fmt: skip
_MISSING = frozenset(f"{before}{text}{after}" for text in _SPELLINGS for before in ("", " ") for after in ("", " "))
_CHUNK = 1 << 19  # bytes of text that are parsed at a time, in cache; more for long rows, as each column costs some µs
_MOST_CHUNK, _CHUNK_ROWS = 4 << 20, 500
# Of a kept column: integers that come back from int64 as they were written.
_CANONICAL = "^(0|-?[1-9][0-9]{0,18})$"
_BOM = b"\xef\xbb\xbf"


class CsvSource(BaseSource):
    """A table of numbers in text, all columns read as float64; an empty cell is NaN.

    A first line with a cell that is not a number is the header. Blank lines are skipped.
    """

    def __init__(self, path: str, options: Options, separator: str | None) -> None:
        super().__init__(path)
        # At once, not in the first pass.
        self._pa = import_pyarrow("CSV")
        self.nbytes = Path(path).stat().st_size
        self._codec = next((codec for end, codec in CODECS.items() if path.lower().endswith(end)), None)
        self._position: int | None = None
        # Lines and bytes before the first row.
        self._skip = self._start = 0
        # Lines counted from 1; rows of the table, the header included, are never split over lines.
        lines = self._lines()
        first_line, first, first_bytes = next(lines, (0, "", 0))
        if not first_line:
            raise DataError(f"{path}: no rows, only blank lines")
        if "\0" in first:
            raise DataError(f"{path}: line {first_line}: not text, it holds NUL bytes; UTF-16 is not read, save it as UTF-8")
        second_line, second, _ = next(lines, (0, "", 0))
        lines.close()
        self._separator = separator or _sniff(first, second)
        cells = self._cells(first, f"{path}: line {first_line}")
        self._has_header = not all(_is_number(cell) or cell in _TRUE + _FALSE for cell in cells)
        if self._has_header:
            self._skip, self._start = first_line, first_bytes
            names = [cell.strip() for cell in cells]
            check_names(names, path)
            if not second_line:
                raise DataError(f"{path}: no rows, there is only a header")
            sample, sample_line = second, second_line
        else:
            names = [str(index) for index in range(len(cells))]
            sample, sample_line = first, first_line
        self._names = names
        # A column whose first cell is true or false is read as such; pyarrow reads no number from these.
        sample_cells = self._cells(sample, f"{path}: line {sample_line}")
        self._bools = {i for i, cell in enumerate(sample_cells) if cell in _TRUE + _FALSE}
        self._chunk = min(max(_CHUNK, _CHUNK_ROWS * len(sample)), _MOST_CHUNK)
        self._options = options
        self._selection = chosen = select(options, names if self._has_header else None, len(names), path)
        self.columns, self.features = chosen.columns, len(chosen.features)
        self._name_labels(chosen.label_names)
        self._numeric = sorted({*chosen.features, *chosen.labels})
        self._ids = [str(index) for index in range(len(names))]
        # Only an empty cell, until a chunk has something else that is no number: a list costs each column of each chunk.
        self._missing = [""]

    def _lines(self) -> Generator[tuple[int, str, int], None, None]:
        """Yield all lines that are not blank: number, counted from 1, text, and the file's bytes up to its end."""
        number = position = 0
        with ByteFile(self.name, self._codec) as file:
            for chunk in line_chunks(file, 1 << 16):
                if not position and chunk.startswith(_BOM):
                    chunk, position = chunk[len(_BOM) :], len(_BOM)
                for raw in chunk.splitlines(keepends=True):
                    number += 1
                    position += len(raw)
                    if line := raw.rstrip(b"\r\n"):
                        try:
                            yield number, line.decode(), position
                        except UnicodeDecodeError as error:
                            raise DataError(f"{self.name}: line {number}: not UTF-8 text: {error}") from error

    def _cells(self, line: str, where: str) -> list[str]:
        if '"' not in line:
            return (line.split() if line.strip() else [line]) if self._separator == " " else line.split(self._separator)
        try:
            # strict: a quote that is not closed is an error, not a cell to the end of the file.
            return next(csv.reader([line], delimiter=self._separator, strict=True))
        except csv.Error as error:
            raise DataError(f"{where}: cannot be split into cells: {error}; a row is one line, quoted or not") from error

    def _chunks(self) -> Generator[tuple[int, bytes], None, None]:
        """Yield text of whole lines, without the header, and how much of the file was read for it."""
        with ByteFile(self.name, self._codec) as file:
            file.skip(self._start)
            first = self._start == 0
            for chunk in line_chunks(file, self._chunk):
                yield file.tell(), chunk[len(_BOM) :] if first and chunk.startswith(_BOM) else chunk
                first = False

    def _parse(self, item: tuple[int, bytes]) -> tuple[int, Block | None]:
        """Parse a chunk; None where it has no rows."""
        position, chunk = item
        if self._separator == " ":
            chunk = _squeeze(chunk)
        if not chunk.strip(b"\r\n"):
            return position, None
        chosen, pa = self._selection, self._pa
        types = {index: pa.bool_() if index in self._bools else pa.float64() for index in self._numeric}
        texts = {index: pa.string() for index in chosen.kept.values()}
        found = self._read(chunk, {**texts, **types})
        if b'"' in chunk:
            self._check_quotes(chunk, len(next(iter(found.values()))))
        # What is kept and a feature is read twice, as text and as number.
        kept = {**found, **(self._read(chunk, texts) if texts.keys() & types.keys() else {})}
        labels = _matrix(found, chosen.labels) if chosen.labels else None
        exact = {name: self._exact(kept[index]) for name, index in chosen.kept.items()}
        return position, Block(_matrix(found, chosen.features), None if labels is None else flat(labels), exact or None)

    def _check_quotes(self, chunk: bytes, rows: int) -> None:
        """Refuse quoted cells that go over lines: a chunk may end within one, and then it would be read wrongly."""
        lines = [line for line in chunk.splitlines() if line]
        try:
            self._cells(lines[-1].decode(errors="replace"), self.name)
        except DataError as error:
            raise self._pa.ArrowInvalid(str(error)) from error
        if rows != len(lines):
            raise self._pa.ArrowInvalid("a quoted cell goes over lines")

    def _read(self, chunk: bytes, types: dict[int, Any]) -> dict[int, Any]:
        try:
            return self._read_with(chunk, types, self._missing)
        except self._pa.ArrowInvalid:
            if len(self._missing) > 1:
                raise
            self._missing = sorted(_MISSING)
            return self._read_with(chunk, types, self._missing)

    def _read_with(self, chunk: bytes, types: dict[int, Any], missing: list[str]) -> dict[int, Any]:
        from pyarrow import csv as pa_csv

        columns = {str(index): kind for index, kind in types.items()}
        table = pa_csv.read_csv(
            self._pa.BufferReader(chunk),
            # One block: its size is not to cut lines.
            read_options=pa_csv.ReadOptions(use_threads=False, column_names=self._ids, block_size=len(chunk) + 1),
            parse_options=pa_csv.ParseOptions(delimiter=self._separator),
            convert_options=pa_csv.ConvertOptions(
                column_types=columns, include_columns=list(columns), null_values=missing
            ),
        )
        return dict(zip(types, table.columns, strict=True))

    def _exact(self, column: Any) -> Array:
        """Return a kept column's cells: int64 where all are integers that come back as they were written, else text."""
        from pyarrow import compute

        if compute.all(compute.match_substring_regex(column, _CANONICAL)).as_py():
            with contextlib.suppress(self._pa.ArrowInvalid):  # beyond int64
                column = column.cast(self._pa.int64())
        cells: Array = column.to_numpy()
        return cells

    def _pass(self, rows: int, start: int) -> Iterator[Block]:
        seen = 0
        try:
            for position, block in in_order(self._parse, self._chunks()):
                self._position = position
                if block is None:
                    continue
                count = len(block.values)
                for first in range(max(0, start - seen), count, rows):
                    yield block.rows(first, first + rows)
                seen += count
        except self._pa.ArrowInvalid as error:
            raise self._explain(error) from error
        if self.rows is not None and seen != self.rows:
            raise DataError(
                f"{self.name}: {seen} rows, an earlier pass read {self.rows}; the file was changed meanwhile"
            )
        self.rows, self._position = seen, self.nbytes

    def _explain(self, error: Exception) -> DataError:
        """Find the first row or cell that pyarrow could not read."""
        width = len(self._names)
        row = 0
        for line, text, _ in self._lines():
            if line <= self._skip:
                continue
            row += 1
            where = f"{self.name}: row {row} (line {line})"
            try:
                cells = self._cells(text, where)
            except DataError as unsplit:
                return unsplit
            if len(cells) != width:
                return DataError(f"{where}: {len(cells)} cells, expected {width} as in the first line")
            for index in self._numeric:
                if not self._reads(cells[index], index):
                    return self._bad_cell(where, index, cells[index])
        # Nothing that this check finds wrong, so pyarrow's own words have to do.
        return DataError(f"{self.name}: cannot be read as numbers: {error}")

    def _reads(self, cell: str, index: int) -> bool:
        if index in self._bools:
            return cell.strip(" \t") in (*_TRUE, *_FALSE, "0", "1") or cell in _MISSING
        return _is_number(cell)

    def _bad_cell(self, where: str, index: int, cell: str) -> DataError:
        shown = repr(cell if len(cell) <= 40 else cell[:37] + "...")
        column = f"column {self._names[index]!r}" if self._has_header else f"column index {index}"
        if index in self._bools:
            hint = "the column starts with true or false, so all of it is read as such"
        elif re.fullmatch(r"\s*[+-]?\d+,\d*\s*", cell):
            hint = "decimal commas are not read: write points, as with sed 's/,/./g' where no comma separates cells"
        elif len(self._names) == 1 and len(cell.split()) > 1:
            hint = "cells are separated by comma, semicolon, tab, bar or blank"
        elif cell in _TRUE + _FALSE:
            hint = "write 1 and 0, as the column starts with numbers"
        else:
            hint = "leave the column out with columns= (--columns), carry it along with keep= (--keep), or encode it first"
        return DataError(f"{where}, {column}: {shown} is not a number; {hint}")

    def place(self, row: int, column: int | None, label: int = 0) -> str:
        """Say where a value stands, with the line in the file; scans it, as blank lines shift the lines."""
        line = row + 1 + self._skip
        with contextlib.suppress(DataError, SourceError):
            count = 0
            for number, _, _ in self._lines():
                count += number > self._skip
                if count == row + 1:
                    line = number
                    break
        if self._has_header:
            text = self._column(column, label)
        elif column is not None:
            text = f"column index {self._selection.features[column]}"
        else:
            text = f"label (column index {self._selection.labels[label]})" if self._selection.labels else "label"
        return f"{self.name}: row {row + 1} (line {line}), {text}"

    def identity(self) -> dict[str, Any] | None:
        """Which content this is: path, size and time of change of its file, and the options."""
        return file_identity([self.name], self._options)

    def bytes_read(self) -> int | None:
        """Bytes of the file consumed in the current pass; of the compressed file where it is one."""
        return self._position


def _sniff(first: str, second: str) -> str:
    """Find the separator: before the comma those that it may be part of, a blank last, if it splits two lines alike."""
    first, second = (re.sub(r'"[^"]*"', '""', line) for line in (first, second))
    found = next((separator for separator in "\t;|," if separator in first), None)
    if found is None and len(first.split()) > 1 and len(second.split() or first.split()) == len(first.split()):
        return " "
    return found or ","


def _squeeze(chunk: bytes) -> bytes:
    """Make runs of blanks one, and none at the ends of lines: what stands in columns of text, unless it is quoted."""
    if b'"' in chunk:
        return chunk
    return re.sub(rb"(?m)^ +| +(?=\r?$)", b"", re.sub(rb"[ \t]{2,}|\t", b" ", chunk))


def _is_number(cell: str) -> bool:
    return cell in _MISSING or _NUMBER.fullmatch(cell) is not None


def _matrix(columns: dict[int, Any], indices: list[int]) -> Array:
    matrix = np.empty((len(columns[indices[0]]), len(indices)))
    for place, index in enumerate(indices):
        # With missing values a column of bools comes as objects True, False and None, which float64 takes as NaN.
        matrix[:, place] = columns[index].to_numpy()
    return matrix
