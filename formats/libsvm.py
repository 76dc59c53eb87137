"""Reader of libsvm (svmlight) text, `label index:value ...`, compressed or not, by blocks of dense rows.

A first scan finds the number of features and of rows, and whether indices start at 0 or 1. Chunks of lines are split into
numbers by pyarrow, one a line, and checked and scattered by NumPy; only to name an error are lines looked at one by one.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, OptionError
from .columns import Options, file_identity, listed, select
from .sources import Array, BaseSource, Block
from .streams import CODECS, ByteFile, import_pyarrow, in_order, line_chunks

_CHUNK = 1 << 19
_ONE_A_LINE = bytes.maketrans(b" \t\r:", b"\n\n\n\n")
_BLANK = np.isin(np.arange(256), np.frombuffer(b" \t\r\n:", np.uint8))
_QID = re.compile(rb"\bqid:([0-9]+)(?=\s|$)")
_PAIR = re.compile(r"([0-9]+):([^:\s]+)")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*(e[+-]?[0-9]+)?|\.[0-9]+(e[+-]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE)


class _BadText(Exception):
    """Some line of a chunk is wrong."""


@dataclass
class _Chunk:
    """Rows as they are in the file: a label each, and entries by row, index and value."""

    position: int
    labels: Array
    queries: Array | None
    row: Array
    index: Array
    value: Array


class LibsvmSource(BaseSource):
    """Dense rows of float64; what a line does not mention is 0. The label is each line's first number."""

    def __init__(self, path: str, options: Options) -> None:
        super().__init__(path)
        self._pa = import_pyarrow("libsvm text")
        self.nbytes = Path(path).stat().st_size
        self._codec = next((codec for end, codec in CODECS.items() if path.lower().endswith(end)), None)
        self._position: int | None = None
        self._options = options
        if options.label is not None:
            raise OptionError(f"{path}: label={options.label!r}: in libsvm text each line's first number is the label")
        keep = listed("keep", options.keep, ["qid"])
        self._query = "qid" in keep
        rows, least, most = 0, None, -1
        for chunk in self._parsed():
            rows += len(chunk.labels)
            if len(chunk.index):
                least = min(int(chunk.index.min()), 2**62 if least is None else least)
                most = max(int(chunk.index.max()), most)
        if not rows:
            raise DataError(f"{path}: no rows, only blank lines and comments")
        self._others = Options(columns=options.columns, keep=[item for item in keep if item != "qid"] or None)
        self.rows, self.limits = rows, (1 if least is None else least, most)
        self.fit(*self.limits)

    def fit(self, least: int, most: int) -> None:
        """Take these as least and greatest index: those of several files that are read together."""
        # As scikit-learn has it: indices start at 1 unless there is a 0.
        self._base = 0 if least == 0 else 1
        self._width = most + 1 - self._base
        if self._width < 1:
            raise DataError(f"{self.name}: no features, no line has an index:value")
        self._selection = select(self._others, None, self._width, self.name)
        self.features = len(self._selection.features)

    def _chunks(self) -> Generator[tuple[int, bytes], None, None]:
        with ByteFile(self.name, self._codec) as file:
            for chunk in line_chunks(file, _CHUNK):
                yield file.tell(), chunk

    def _parsed(self) -> Iterator[_Chunk]:
        try:
            yield from in_order(self._parse, self._chunks())
        except (self._pa.ArrowInvalid, _BadText) as error:
            raise self._explain(error) from error

    def _parse(self, item: tuple[int, bytes]) -> _Chunk:
        from pyarrow import csv as pa_csv

        position, text = item
        if b"\n" not in text:
            text = text.replace(b"\r", b"\n")
        if b"#" in text:
            text = re.sub(rb"#[^\n]*", b"", text)
        queries = None
        if self._query or b"qid:" in text:
            found = _QID.findall(text)
            queries, text = np.array(found, dtype="S20").astype(np.int64) if found else np.empty(0, np.int64), _QID.sub(b"", text)
        letters = np.frombuffer(b"\n" + text, np.uint8)
        # A number starts at `at`, behind a line's end, a blank or a colon.
        at = np.flatnonzero(~_BLANK[letters[1:]] & _BLANK[letters[:-1]])
        if not len(at):
            return _Chunk(position, np.empty(0), queries, *(np.empty(0, np.int64),) * 3)
        options = {"read_options": pa_csv.ReadOptions(use_threads=False, column_names=["x"], block_size=len(text) + 1)}
        options["parse_options"] = pa_csv.ParseOptions(quote_char=False)
        options["convert_options"] = pa_csv.ConvertOptions(column_types={"x": self._pa.float64()}, null_values=[])
        numbers = pa_csv.read_csv(self._pa.BufferReader(text.translate(_ONE_A_LINE)), **options)["x"].to_numpy()
        line = np.cumsum(letters[:-1] == 10)[at]
        first = np.concatenate([[True], line[1:] != line[:-1]])
        row = np.cumsum(first) - 1
        starts = np.flatnonzero(first)
        # In a line the label is number 0, indices are odd and values even, behind a colon each.
        even = (np.arange(len(at)) - starts[row]) % 2 == 0
        is_value, is_index = even & ~first, ~even
        behind_colon = letters[at] == 58
        fits = len(numbers) == len(at) and (behind_colon == is_value).all() and np.count_nonzero(letters == 58) == is_value.sum()
        if not fits or is_index.sum() != is_value.sum() or (queries is not None and len(queries) not in (0, len(starts))):
            raise _BadText
        if self._query and len(queries if queries is not None else ()) != len(starts):
            raise _BadText
        index, rows = numbers[is_index], row[is_index]
        with np.errstate(invalid="ignore"):  # of infinity and NaN: they are told just below
            whole = index.astype(np.int64)
        if (whole != index).any() or (whole < 0).any() or ((whole[1:] <= whole[:-1]) & (rows[1:] == rows[:-1])).any():
            raise _BadText
        return _Chunk(position, numbers[first], queries, rows, whole, numbers[is_value])

    def _pass(self, rows: int, start: int) -> Iterator[Block]:
        assert self.rows is not None
        seen = 0
        for chunk in self._parsed():
            self._position = chunk.position
            count = len(chunk.labels)
            if (len(chunk.index) and int(chunk.index.max()) - self._base >= self._width) or seen + count > self.rows:
                raise DataError(f"{self.name}: the file was changed after it was opened")
            for first in range(max(0, start - seen), count, rows):
                yield self._dense(chunk, first, min(first + rows, count))
            seen += count
        if seen != self.rows:
            raise DataError(f"{self.name}: {seen} rows, an earlier pass read {self.rows}; the file was changed meanwhile")
        self._position = self.nbytes

    def _dense(self, chunk: _Chunk, start: int, stop: int) -> Block:
        part = slice(*np.searchsorted(chunk.row, (start, stop)))
        matrix = np.zeros((stop - start, self._width))
        matrix[chunk.row[part] - start, chunk.index[part] - self._base] = chunk.value[part]
        block = self._selection.split(matrix)
        kept = {"qid": chunk.queries[start:stop]} if self._query and chunk.queries is not None else {}
        return Block(block.values, chunk.labels[start:stop], {**kept, **(block.kept or {})} or None)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Yield number, counted from 1, and text of all lines that have a row, without comments."""
        number = 0
        for _, chunk in self._chunks():
            for raw in chunk.splitlines():
                number += 1
                if parts := raw.split(b"#")[0].split():  # of bytes: str.split knows more blanks
                    yield number, b" ".join(parts).decode(errors="replace")

    def _explain(self, error: Exception) -> DataError:
        """Find the first line that is wrong."""
        for row, (number, line) in enumerate(self._lines(), 1):
            where = f"{self.name}: row {row} (line {number})"
            label, *pairs = line.split(" ")
            if not _NUMBER.fullmatch(label):
                hint = {":": "a line starts with its label", ",": "several labels are not read"}
                why = next((f"; {text}" for letter, text in hint.items() if letter in label), "")
                return DataError(f"{where}: the label {label[:40]!r} is not a number{why}")
            query = [pair for pair in pairs if pair.startswith("qid:")]
            if self._query and len(query) != 1:
                return DataError(f"{where}: {len(query)} qid, and each line needs one to keep it")
            before = -1
            for pair in pairs:
                if re.fullmatch("qid:[0-9]+", pair) and len(query) == 1:
                    continue
                found = _PAIR.fullmatch(pair)
                if not found or not _NUMBER.fullmatch(found[2]):
                    return DataError(f"{where}: {pair[:40]!r} is not index:value")
                index = int(found[1])
                if index <= before:
                    how = "comes twice" if index == before else f"comes after {before}; indices must ascend"
                    return DataError(f"{where}: index {index} {how}")
                before = index
        return DataError(f"{self.name}: cannot be read as libsvm text: {error or 'qid in some lines only'}")

    def place(self, row: int, column: int | None, label: int = 0) -> str:
        """Say where a value stands: row, line, and the index as it is in the file."""
        for number, (line, _) in enumerate(self._lines()):
            if number == row:
                what = "label" if column is None else f"index {self._selection.features[column] + self._base}"
                return f"{self.name}: row {row + 1} (line {line}), {what}"
        return super().place(row, column, label)

    def identity(self) -> dict[str, Any] | None:
        """Which content this is: path, size and time of change of its file, and the options."""
        return file_identity([self.name], self._options)

    def bytes_read(self) -> int | None:
        """Bytes of the file consumed in the current pass; of the compressed file where it is one."""
        return self._position
