"""Named columns by Arrow record batches: tables in memory, Parquet and Feather (Arrow IPC) files."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, SourceError
from .columns import Options, check_names, file_identity, select
from .sources import Array, BaseSource, Block, as_labels, check_matrix, edge_identity, flat
from .streams import import_pyarrow, in_order

BUFFER, BUFFERS = 1 << 16, 32 << 20  # of a column of a Parquet file, and of all: without them a row group is read whole


class ArrowSource(BaseSource):
    """Record batches of known columns; a subclass calls `_arrange` and defines `_batches`."""

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name)
        self._pa = import_pyarrow("Arrow data, Parquet and Feather")
        self._options = options
        self._used: list[int] = []

    def _arrange(self, names: Sequence[str], types: Sequence[Any]) -> None:
        check_names(names, self.name)
        self._selection = chosen = select(self._options, names, len(names), self.name)
        self.columns, self.features = chosen.columns, len(chosen.features)
        self._name_labels(chosen.label_names)
        for index in chosen.features + chosen.labels:
            if not self._is_number(types[index]):
                raise DataError(f"{self._where(names[index])}: type {types[index]} is not a real number type; {LEAVE_OUT}")
        for name, index in chosen.kept.items():
            if not (self._is_number(types[index]) or self._is_text(types[index])):
                raise DataError(f"{self._where(name)}: type {types[index]} is neither number nor text; cast it to keep it")
        # What is read: each column once, in the file's order.
        self._used = sorted({*chosen.features, *chosen.labels, *chosen.kept.values()})
        self._used_names = [names[index] for index in self._used]

    def _where(self, name: str) -> str:
        return f"{self.name}: column {name!r}"

    def _is_number(self, kind: Any) -> bool:
        types = self._pa.types
        return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))

    def _is_text(self, kind: Any) -> bool:
        types = self._pa.types
        if types.is_dictionary(kind):
            return self._is_text(kind.value_type)
        views = getattr(types, "is_string_view", lambda _: False)
        return bool(types.is_string(kind) or types.is_large_string(kind) or views(kind))

    def _batches(self, rows: int, start: int) -> Generator[tuple[int, Any], None, None]:
        """Yield each batch of at most `rows` rows and of the columns used, and the number of its first row."""
        raise NotImplementedError

    def _pass(self, rows: int, start: int) -> Iterator[Block]:
        return in_order(lambda item: self._block(*item), self._batches(rows, start))

    def _block(self, first: int, batch: Any) -> Block:
        columns = dict(zip(self._used, batch.columns, strict=True))
        chosen = self._selection
        labels = flat(self._numbers([columns[index] for index in chosen.labels])) if chosen.labels else None
        kept = {name: self._keep(columns[index], name, first) for name, index in chosen.kept.items()}
        return Block(self._numbers([columns[index] for index in chosen.features]), labels, kept or None)

    def _numbers(self, columns: list[Any]) -> Array:
        """Columns as a matrix of the least dtype that holds them all; what is null becomes NaN."""
        kinds = {column.type for column in columns}
        if len(kinds) == 1 and kinds <= {self._pa.float32(), self._pa.float64()} and hasattr(self._pa.RecordBatch, "to_tensor"):
            # In C++ and without the GIL, which NumPy holds while it copies columns.
            batch = self._pa.RecordBatch.from_arrays(columns, names=[str(number) for number in range(len(columns))])
            whole: Array = batch.to_tensor(null_to_nan=True, row_major=True).to_numpy()
            return whole
        arrays = []
        for column in columns:
            if column.null_count and self._pa.types.is_boolean(column.type):
                column = column.cast(self._pa.uint8())
            arrays.append(column.to_numpy(zero_copy_only=False))
        matrix = np.empty((len(columns[0]), len(arrays)), np.result_type(*(array.dtype for array in arrays)))
        for index, array in enumerate(arrays):
            matrix[:, index] = array
        return matrix

    def _keep(self, column: Any, name: str, first: int) -> Array:
        if column.null_count:
            row = first + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(f"{self.name}: row {row + 1}, column {name!r}: a missing value; fill it to keep the column")
        if self._is_text(column.type):
            column = column.cast(self._pa.large_string())
        kept: Array = column.to_numpy(zero_copy_only=False)
        return kept


LEAVE_OUT = "encode it as numbers first, or choose others with columns= (--columns)"


class TableSource(ArrowSource):
    """A table in memory: pyarrow's, or what gives one (polars)."""

    def __init__(self, table: Any, labels: Any, name: str, options: Options) -> None:
        super().__init__(name, options)
        if not isinstance(table, self._pa.Table):
            try:
                table = self._pa.table(table)
            except (self._pa.ArrowException, TypeError) as error:  # a series, say
                raise DataError(f"{name}: a {type(table).__name__} is no table of columns; make one, .to_frame() say") from error
        self._arrange(table.column_names, table.schema.types)
        self.rows = table.num_rows
        check_matrix((self.rows, len(table.column_names)), np.dtype(float), name)
        self._table = table.select(self._used)
        self.nbytes = self._table.nbytes
        self._y = None if labels is None else as_labels(labels, self.rows, f"labels of {name}")

    def _batches(self, rows: int, start: int) -> Generator[tuple[int, Any], None, None]:
        for batch in self._table.slice(start).to_batches(max_chunksize=rows):
            if batch.num_rows:
                yield start, batch
            start += batch.num_rows

    def _block(self, first: int, batch: Any) -> Block:
        block = super()._block(first, batch)
        if self._y is None:
            return block
        return Block(block.values, flat(np.asarray(self._y[first : first + batch.num_rows])), block.kept)

    def identity(self) -> dict[str, Any] | None:
        """Which content this is: names, number of rows, and a digest of the first and last ones."""
        assert self.rows is not None
        return {"columns": self.columns, "rows": self.rows, "edges": edge_identity(self, min(1000, self.rows))}


class ArrowFileSource(ArrowSource):
    """What Parquet and Feather files share."""

    def __init__(self, path: str, options: Options) -> None:
        super().__init__(path, options)
        self.nbytes = Path(path).stat().st_size

    @contextlib.contextmanager
    def _errors(self) -> Generator[None, None, None]:
        try:
            yield
        except FileNotFoundError as error:
            raise SourceError(f"{self.name}: no such file any more") from error
        except (self._pa.ArrowException, OSError, EOFError) as error:
            reason = str(error).split(". Detail:")[0]
            if isinstance(error, OSError) and error.errno is not None:
                raise SourceError(f"{self.name}: cannot be read: {error.strerror}") from error
            raise DataError(f"{self.name}: not the format that its extension says, or damaged or truncated: {reason}") from error

    def identity(self) -> dict[str, Any] | None:
        """Which content this is: path, size and time of change of its file, and the options."""
        return file_identity([self.name], self._options)


class ParquetSource(ArrowFileSource):
    """A Parquet file; only the columns that are used are read."""

    def __init__(self, path: str, options: Options) -> None:
        super().__init__(path, options)
        with self._file() as file:
            schema, about = file.schema_arrow, file.metadata
            self._arrange(schema.names, schema.types)
            self._groups = [about.row_group(index).num_rows for index in range(about.num_row_groups)]
        self.rows = sum(self._groups)
        check_matrix((self.rows, len(schema.names)), np.dtype(float), path)

    @contextlib.contextmanager
    def _file(self) -> Generator[Any, None, None]:
        from pyarrow import parquet

        buffer = max(4096, min(BUFFER, BUFFERS // max(1, len(self._used))))
        with self._errors(), parquet.ParquetFile(self.name, pre_buffer=False, buffer_size=buffer) as file:
            yield file

    def _batches(self, rows: int, start: int) -> Generator[tuple[int, Any], None, None]:
        edges = [0, *accumulate(self._groups)]
        first = next((index for index, edge in enumerate(edges[1:]) if edge > start), len(self._groups))
        seen, groups = edges[first], list(range(first, len(self._groups)))
        with self._file() as file:
            if [file.metadata.row_group(index).num_rows for index in range(file.metadata.num_row_groups)] != self._groups:
                raise DataError(f"{self.name}: the file was changed after it was opened")
            for batch in file.iter_batches(rows, row_groups=groups, columns=self._used_names) if groups else ():
                skip = min(max(0, start - seen), batch.num_rows)
                if skip < batch.num_rows:
                    yield seen + skip, batch.slice(skip)
                seen += batch.num_rows


class FeatherSource(ArrowFileSource):
    """A Feather (version 2) or Arrow IPC file; only the columns that are used are read."""

    def __init__(self, path: str, options: Options) -> None:
        super().__init__(path, options)
        with self._file(None) as file:
            self._arrange(file.schema.names, file.schema.types)
        # The rows of a batch are known once it is read; of one column that is enough.
        with self._file(self._used[:1]) as file:
            self._counts = [file.get_batch(index).num_rows for index in range(file.num_record_batches)]
        self.rows = sum(self._counts)
        check_matrix((self.rows, len(self._used)), np.dtype(float), path)

    @contextlib.contextmanager
    def _file(self, columns: list[int] | None) -> Generator[Any, None, None]:
        from pyarrow import ipc

        # Not mapped: mapped pages count as memory used.
        with self._errors(), self._pa.OSFile(self.name, "rb") as raw:
            options = ipc.IpcReadOptions() if columns is None else ipc.IpcReadOptions(included_fields=columns)
            with ipc.open_file(raw, options=options) as file:
                yield file

    def _batches(self, rows: int, start: int) -> Generator[tuple[int, Any], None, None]:
        first = 0
        with self._file(self._used) as file:
            for index, count in enumerate(self._counts):
                if start < first + count:
                    batch = file.get_batch(index)
                    if batch.num_rows != count:
                        raise DataError(f"{self.name}: the file was changed after it was opened")
                    for at in range(max(0, start - first), count, rows):
                        yield first + at, batch.slice(at, rows)
                first += count


def stream_blocks(reader: Any, options: Options) -> tuple[Iterator[Any], ArrowSource]:
    """Blocks (X, y, kept) of a one-shot stream of record batches, and a source that knows its names only."""
    source = ArrowSource("X", options)
    source._arrange(reader.schema.names, reader.schema.types)

    def generate() -> Iterator[Any]:
        row = 0
        for batch in reader:
            block = source._block(row, batch.select(source._used))
            row += batch.num_rows
            yield block.values, block.labels, block.kept

    return generate(), source
