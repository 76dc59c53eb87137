"""Reader of `.csv` and `.tsv` files, gzipped or not, in batches by pyarrow.

pyarrow parses fast but says little about what it cannot parse. So after an error the file is read again, line by
line, only to find the first cell or row that is wrong and to name it.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import re
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import DataError, MissingDependencyError, SourceError
from .columns import Options, file_identity, select
from .sources import BaseSource, Block

# pyarrow's notion of a number, which is not Python's (no underscores) and trims blanks.
_NUMBER = re.compile(
    r"[ \t]*[+-]?([0-9]+\.?[0-9]*(e[+-]?[0-9]+)?|\.[0-9]+(e[+-]?[0-9]+)?|inf|infinity|nan)[ \t]*", re.IGNORECASE
)
_TRUE = ("true", "True", "TRUE")
_FALSE = ("false", "False", "FALSE")
# pyarrow reads these as missing values by default; they become NaN here.
_MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null",
)  # fmt: skip
# pyarrow reads some 32 blocks ahead: at its own 1 MiB that took 66 MB more, as fast.
_BLOCK = 1 << 18
# A longer line is no table. It bounds what a file without line ends can take.
_LONGEST_LINE = 64 << 20


class CsvSource(BaseSource):
    """A table of numbers in text, all columns read as float64; an empty cell is NaN.

    A first line with a cell that is not a number is the header. Blank lines are skipped.
    """

    def __init__(self, path: str, options: Options, separator: str | None) -> None:
        super().__init__(path)
        # At once, not in the first pass.
        _import_pyarrow()
        self.nbytes = Path(path).stat().st_size
        self._gzipped = path.lower().endswith(".gz")
        self._position: int | None = None
        self._check_compression()
        # Lines counted from 1; rows of the table, the header included, are never split over lines.
        lines = self._lines()
        first_line, first = next(lines, (0, ""))
        if not first_line:
            raise DataError(f"{path}: no rows, only blank lines")
        self._separator = separator or _sniff(first)
        cells = self._cells(first, f"{path}: line {first_line}")
        self._has_header = not all(_is_number(cell) or cell in _TRUE + _FALSE for cell in cells)
        self._skip = first_line if self._has_header else first_line - 1
        second_line, second = next(lines, (0, ""))
        if self._has_header:
            names = [cell.strip() for cell in cells]
            _check_names(names, path)
            if not second_line:
                raise DataError(f"{path}: no rows, there is only a header")
            sample, sample_line = second, second_line
        else:
            names = [str(index) for index in range(len(cells))]
            sample, sample_line = first, first_line
        lines.close()
        self._names = names
        # A column whose first cell is true or false is read as such; pyarrow reads no number from these.
        sample_cells = self._cells(sample, f"{path}: line {sample_line}")
        self._bools = {i for i, cell in enumerate(sample_cells) if cell in _TRUE + _FALSE}
        # A row has to fit in a block of pyarrow's.
        self._block_size = max(_BLOCK, 4 * max(len(first), len(second)))
        header = names if self._has_header else None
        self._options = options
        self._selection = chosen = select(options, header, len(names), path)
        self.columns, self.features = chosen.columns, len(chosen.features)
        self._name_labels(chosen.label_names)

    def _check_compression(self) -> None:
        with Path(self.name).open("rb") as file:
            magic = file.read(2)
        if self._gzipped and magic != b"\x1f\x8b":
            raise DataError(f"{self.name}: not gzip-compressed, as its extension says")
        if not self._gzipped and magic == b"\x1f\x8b":
            raise DataError(f"{self.name}: gzip-compressed; rename it to end in .gz")
        if magic in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{self.name}: UTF-16 text; save it as UTF-8")

    def _lines(self) -> Generator[tuple[int, str], None, None]:
        """Yield number, counted from 1, and text of all lines that are not blank. Bounded by the longest line."""
        number = 0
        try:
            with _open_text(self.name, self._gzipped) as file:
                while line := file.readline(_LONGEST_LINE):
                    if len(line) == _LONGEST_LINE:
                        raise DataError(
                            f"{self.name}: line {number + 1} is over {_LONGEST_LINE >> 20} MiB long, not a table"
                        )
                    number += 1
                    if line := line.rstrip("\n"):
                        yield number, line
        except UnicodeDecodeError as error:
            raise DataError(f"{self.name}: not UTF-8 text: {error}") from error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{self.name}: damaged gzip data after line {number}: {error}") from error
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be read: {error.strerror or error}") from error

    def _cells(self, line: str, where: str) -> list[str]:
        if '"' not in line:
            return line.split(self._separator)
        try:
            # strict: a quote that is not closed is an error, not a cell to the end of the file.
            return next(csv.reader([line], delimiter=self._separator, strict=True))
        except csv.Error as error:
            raise DataError(f"{where}: cannot be split into cells: {error}") from error

    def _pass(self, rows: int, start: int) -> Iterator[Block]:
        pa, pa_csv = _import_pyarrow()
        types = {name: pa.bool_() if i in self._bools else pa.float64() for i, name in enumerate(self._names)}
        try:
            with contextlib.ExitStack() as stack:
                raw = stack.enter_context(pa.OSFile(self.name, "rb"))
                data = stack.enter_context(pa.CompressedInputStream(raw, "gzip")) if self._gzipped else raw
                reader = stack.enter_context(
                    pa_csv.open_csv(
                        data,
                        read_options=pa_csv.ReadOptions(
                            column_names=self._names, skip_rows=self._skip, block_size=self._block_size
                        ),
                        parse_options=pa_csv.ParseOptions(delimiter=self._separator),
                        convert_options=pa_csv.ConvertOptions(column_types=types, null_values=list(_MISSING)),
                    )
                )
                seen = 0
                for batch in reader:
                    self._position = raw.tell()
                    seen += batch.num_rows
                    for first in range(max(0, start - (seen - batch.num_rows)), batch.num_rows, rows):
                        yield self._block(batch.slice(first, rows))
        except pa.ArrowInvalid as error:
            raise self._explain(error) from error
        except OSError as error:
            if any(word in str(error) for word in ("zlib", "Truncated compressed", "compressed")):
                raise DataError(f"{self.name}: damaged gzip data: {error}") from error
            raise SourceError(f"{self.name}: cannot be read: {error}") from error
        if self.rows is not None and seen != self.rows:
            raise DataError(
                f"{self.name}: {seen} rows, an earlier pass read {self.rows}; the file was changed meanwhile"
            )
        self.rows, self._position = seen, self.nbytes

    def _block(self, batch: Any) -> Block:
        table = np.empty((batch.num_rows, len(self._names)))
        for index, column in enumerate(batch.columns):
            # With missing values a column of bools comes as objects True, False and None, which float64 takes as NaN.
            table[:, index] = column.to_numpy(zero_copy_only=False)
        return self._selection.split(table)

    def _explain(self, error: Exception) -> DataError:
        """Find the first row or cell that pyarrow could not read."""
        width = len(self._names)
        row = 0
        for line, text in self._lines():
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
            for index, cell in enumerate(cells):
                if not self._reads(cell, index):
                    return self._bad_cell(where, index, cell)
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
            hint = "decimal commas are not read, write a point"
        elif len(self._names) == 1 and len(cell.split()) > 1:
            hint = "cells are separated by comma, semicolon or tab"
        elif cell in _TRUE + _FALSE:
            hint = "write 1 and 0, as the column starts with numbers"
        else:
            hint = "leave the column out or encode it first"
        return DataError(f"{where}, {column}: {shown} is not a number; {hint}")

    def place(self, row: int, column: int | None, label: int = 0) -> str:
        """Say where a value stands, with the line in the file; scans it, as blank lines shift the lines."""
        line = row + 1 + self._skip
        with contextlib.suppress(DataError, SourceError):
            count = 0
            for number, _ in self._lines():
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


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.csv
    except ImportError as error:
        raise MissingDependencyError(
            "reading CSV needs pyarrow; install it with: pip install 'zipml-codec[io]'"
        ) from error
    return pyarrow, pyarrow.csv


def _open_text(path: str, gzipped: bool) -> IO[str]:
    # newline=None: all line ends become \n, as they all end a row for pyarrow.
    if gzipped:
        return gzip.open(path, "rt", encoding="utf-8-sig", newline=None)
    return Path(path).open(encoding="utf-8-sig", newline=None)


def _sniff(line: str) -> str:
    """Find the separator: a tab or a semicolon where there is one, as a comma may be part of what they separate."""
    unquoted = re.sub(r'"[^"]*"', "", line)
    return next((separator for separator in "\t;" if separator in unquoted), ",")


def _is_number(cell: str) -> bool:
    return cell in _MISSING or _NUMBER.fullmatch(cell) is not None


def _check_names(names: list[str], path: str) -> None:
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in seen:
            what = f"name {name!r}" if name else "empty name"
            raise DataError(f"{path}: columns with index {seen[name]} and {index} have the same {what}")
        seen[name] = index
