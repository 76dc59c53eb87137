"""A compressed file as a data set: rows by number, decoded, as codes, as samples, or in shuffled batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import check_integer, check_seed, thread_count
from .codec import Codec
from .errors import CorruptError, FormatError, OptionError, RowError
from .formats.container import EXACT
from .formats.header import Header
from .formats.planes import top_code
from .formats.shards import Places, Reader, open_reader
from .kept import from_bytes, type_name
from .order import EpochOrder

Rows = slice | ArrayLike | None


class Batch(NamedTuple):
    """Rows of one mini-batch: decoded values float32 (m, features), labels or None, row numbers int64 (m,).

    Labels are float32 (m,), or (m, labels) where the file has several.
    """

    X: NDArray[np.float32]
    y: NDArray[np.float32] | None
    rows: NDArray[np.int64]


class Kept(Mapping[str, NDArray[Any]]):
    """Kept columns of a file by name, (rows,), exactly as they were: text as str, dtype object. Read and checked at first use."""

    def __init__(self, file: Reader) -> None:
        self._file, self._places = file, {name: f"kept_{number}" for number, name in enumerate(file.kept_names)}
        self._read: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._read:
            try:
                self._read[name] = from_bytes(self._file.read_rows(self._places[name]))
            except UnicodeDecodeError as error:
                raise CorruptError(f"{self._file.path}: the kept column {name!r} is not UTF-8: {error.reason}") from error
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:  # Mapping's own would read the column
        return name in self._places

    @property
    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Types of the columns in the file, where text is bytes of a fixed length."""
        return {name: self._file.rowwise[place].dtype for name, place in self._places.items()}

    def rows(self, first: int, last: int, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
        """Rows first..last-1 of all columns, or of some, without the rest of them in memory."""
        chosen = self._places if names is None else names
        return {name: from_bytes(self._file.read_rows(self._places[name], first, last)) for name in chosen}

    def __repr__(self) -> str:
        return f"Kept({{{', '.join(f'{name!r}: {type_name(dtype)}' for name, dtype in self.dtypes.items())}}})"


def codec_of(header: Header, levels: NDArray[np.float32]) -> Codec:
    """The codec of a file: `levels` as the file holds them."""
    options = (header.bits, header.samples, header.rounding, header.features)
    return Codec.uniform(levels[:, 0], levels[:, 1], *options) if header.level_kind == "uniform" else Codec(levels, *options)


class Dataset:
    """A zipml file, or a folder of shards, opened for reading. Made by `zipml_codec.open` and `zipml_codec.compress`.

    Thread-safe, picklable by path, a context manager. Every chunk's digest is checked when it is first read.

    Attributes
    ----------
    path : Path
    shape : tuple of int
        (rows, features).
    bits, samples : int
        Of a code as it is read: `bits` is the precision that the file was opened at.
    layout : {"rows", "weave"}
    stored_bits, coarsest : int
        Of a code in the file, and the fewest that it can be read at: of rows both are `bits`.
    levels : ndarray of shape (features or 1, intervals + 1), float32
    columns : tuple of str, or None
    labels : ndarray of shape (rows,), or (rows, labels) where there are several, float32, or None
    label_names : tuple of str, or None
    has_exact_copy : bool
        Whether the file has all rows exactly too (`compress(keep_exact=True)`): see `exact_rows`.
    kept : mapping of str to ndarray of shape (rows,)
        Columns that were carried through exactly, row ids say, by name; read when they are asked for.
    noise : ndarray of shape (features,), float64
        D: the mean over rows of the rounding's variance of a feature's mean code, (u-a)(a-l)/k; 0 for nearest rounding.
    error : ndarray of shape (features,), float64
        Mean squared error of the decoded values, as it came out.
    mean, std, low, high : ndarray of shape (features,)
        Statistics of the data before rounding, and after clipping.
    clipped : ndarray of shape (features,), uint64, or None
        How many values of a feature were moved to the nearest of given levels; None where clipping was not asked for.
    """

    def __init__(self, path: str | PathLike[str], locking: bool | None = None, precision: int | None = None) -> None:
        self.path = Path(path)
        self._place = self.path.absolute()  # where it stays when the working folder changes
        self._file = open_reader(self.path, locking, precision)
        header, arrays = self._file.header, self._file.arrays
        self.shape = (header.rows, header.features)
        self.bits, self.samples, self.stride = header.bits, header.samples, header.stride
        self.layout, self.stored_bits, self.coarsest = header.layout, self._file.stored.bits, header.coarsest or header.bits
        self.rounding, self.seed, self.row_offset = header.rounding, header.seed, header.row_offset
        try:
            self.codec = codec_of(header, arrays["levels"])
        except OptionError as error:
            raise FormatError(f"{self.path}: {error}") from error
        self.noise, self.error = arrays["noise"], arrays["error"]
        self.mean, self.std, self.low, self.high = (arrays[name] for name in ("mean", "std", "low", "high"))
        self.clipped: NDArray[np.uint64] | None = arrays.get("clipped")
        self.columns, self.label_names = self._file.columns, self._file.label_names
        self.kept = Kept(self._file)
        self._labels: NDArray[np.float32] | None = None

    @property
    def levels(self) -> NDArray[np.float32]:
        """Levels of each feature, or one row where all features share them."""
        return self.codec.levels

    @property
    def labels(self) -> NDArray[np.float32] | None:
        """The labels, read at first use."""
        if self._labels is None and self.has_labels:
            self._labels = self._file.read_rows("labels")
        return self._labels

    @property
    def sample_rows(self) -> NDArray[np.int64]:
        """Numbers of the rows that are kept exactly."""
        return self._file.sample[0]

    @property
    def sample_values(self) -> NDArray[np.float32]:
        """Those rows, before rounding."""
        return self._file.sample[1]

    @property
    def has_labels(self) -> bool:
        """Whether the file has labels."""
        return self._file.has_labels

    @property
    def has_exact_copy(self) -> bool:
        """Whether the file has all rows exactly too."""
        return self._file.has_exact_copy

    @property
    def labels_a_row(self) -> int:
        """Number of labels of each row."""
        return self._file.labels_a_row

    @property
    def options(self) -> dict[str, Any]:
        """How the file was made."""
        options: dict[str, Any] = json.loads(self._file.header.options)
        return options | {"tool": self._file.header.tool}

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk: what is read and checked together."""
        return self._file.header.chunk_rows

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return self._file.header.chunks

    @property
    def shards(self) -> int:
        """Number of shards; 0 of a single file."""
        return len(self._file.shards)

    @property
    def intervals(self) -> int:
        """Intervals between levels: of planes those below the room for the dither."""
        return top_code(self.bits, self.coarsest) if self.layout == "weave" else self.codec.intervals

    @property
    def noises(self) -> dict[int, NDArray[np.float64]]:
        """`noise` of each precision that a file of planes can be read at; empty of other files."""
        if self.layout != "weave":
            return {}
        below = self._file.arrays["plane_noise"]
        return dict(enumerate([*below, self._file.full_noise], self.coarsest))

    @property
    def file_codes(self) -> int:
        """Bytes of all chunks of codes, where they are not compressed."""
        return self.chunks * self._file.stored.chunk_bytes

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return self._file.file_bytes

    def __len__(self) -> int:
        return self.shape[0]

    def read_chunk(self, number: int) -> NDArray[np.uint8]:
        """Packed rows of one chunk: uint8 (rows, stride)."""
        return self._file.read_chunk(number)

    def read_chunks(self, numbers: NDArray[np.int64], threads: int, spare: int = 0) -> NDArray[np.uint8]:
        """Packed rows of some chunks, one after another: uint8 (spare + rows, stride), the first `spare` of them undefined."""
        return self._file.read_chunks(numbers, threads, spare)

    def at(self, precision: int) -> Dataset:
        """The same file opened once more, at a precision: `bits` of it are read of each value.

        Raises
        ------
        OptionError
            The file has no planes, or was made for other precisions.
        """
        return Dataset(self._place, self._file.locking, precision)

    def map_rows(self) -> NDArray[np.uint8] | None:
        """All packed rows, and what fills up the last chunk, as a view of the file; None where they are not in one piece."""
        return self._file.map_rows()

    @property
    def places(self) -> Places | None:
        """Where rows are in `map_rows`; None where each has its own number's place."""
        return self._file.places

    @property
    def cold(self) -> bool:
        """Whether chunks are compressed or still unchecked, or the file too large to stay in memory."""
        return self._file.cold

    def prepare_mapped(self, mapped: NDArray[np.uint8], first: int, last: int) -> None:
        """Ask the system for rows first..last-1 of `map_rows`, and check their chunks' digests, once."""
        self._file.prepare_mapped(mapped, first, last)

    def settle(self) -> None:
        """After mapped rows were used: raise CorruptError where the file was changed meanwhile."""
        self._file.settle()

    def packed(self, rows: Rows = None) -> NDArray[np.uint8]:
        """Packed rows, uint8 (m, stride); `rows` as in `decode`."""
        wanted = slice(None) if rows is None else rows
        if isinstance(wanted, slice) and (bounds := wanted.indices(self.shape[0]))[2] == 1:
            return self._file.read_range(bounds[0], max(bounds[:2]))
        return self._file.gather(self._rows(wanted))

    def _rows(self, rows: Rows) -> NDArray[np.int64]:
        rows = slice(None) if rows is None else rows
        if isinstance(rows, slice):
            return np.arange(*rows.indices(self.shape[0]))
        wanted = np.atleast_1d(np.asarray(rows))
        if wanted.dtype == bool:
            if wanted.shape != (self.shape[0],):
                raise OptionError(f"a mask of rows has one value a row: {self.shape[0]}, not {wanted.shape}")
            return np.flatnonzero(wanted)
        if wanted.size == 0:
            return np.empty(0, np.int64)
        if wanted.ndim != 1 or wanted.dtype.kind not in "iu":
            raise OptionError(f"rows must be a slice, a mask or a vector of row numbers; got {rows!r}")
        if wanted.min() < -self.shape[0] or wanted.max() >= self.shape[0]:
            raise RowError(f"rows must be in 0..{self.shape[0] - 1}; got {wanted.min()}..{wanted.max()}")
        wanted = wanted.astype(np.int64)
        return np.where(wanted < 0, wanted + self.shape[0], wanted)

    def __getitem__(self, rows: Rows) -> NDArray[np.float32]:
        """Decoded rows, as `decode`: float32 (m, features), or (features,) of one row by its number.

        `rows` as an array's first index: a number, a slice, a mask or a list or vector of numbers, which may be negative,
        in any order and repeated. Of a file that is not compressed by zstd, only those rows' bytes are read, but that a chunk
        is read whole, and checked, when the first of its rows is wanted.

        Raises
        ------
        RowError
            There is no such row.
        OptionError
            What is not such an index.
        """
        if rows is None or isinstance(rows, tuple):
            raise OptionError(f"rows alone are chosen here, columns of what comes back; got {rows!r}")
        one = not isinstance(rows, slice) and np.ndim(rows) == 0
        return self.decode(rows)[0 if one else slice(None)]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Decoded rows, one after the other, float32 (features,)."""
        for number in range(self.chunks):
            yield from self.codec.decode(self.read_chunk(number))

    def decode(self, rows: Rows = None, threads: int | None = None) -> NDArray[np.float32]:
        """Decoded rows: the means of the samples.

        Parameters
        ----------
        rows : slice, boolean mask or vector of row numbers, optional
            All rows by default.

        Returns
        -------
        ndarray of shape (m, features), float32
        """
        return self.codec.decode(self.packed(rows), threads)

    def exact_rows(self, rows: Rows = None) -> NDArray[np.float32]:
        """Rows as they were before rounding, of a file that was compressed with `keep_exact`.

        Those rows' bytes are read and no others, but that all rows of a chunk are read, and checked, when the first of them is
        wanted.

        Parameters
        ----------
        rows : slice, boolean mask or vector of row numbers, optional
            As in `decode`.

        Returns
        -------
        ndarray of shape (m, features), float32

        Raises
        ------
        OptionError
            The file has no such copy.
        RowError
            There is no such row.
        CorruptError
            The bytes are not those that were written.
        """
        if not self.has_exact_copy:
            raise OptionError(f"{self.path} has no exact copy of its rows: compress with keep_exact=True (--keep-exact)")
        wanted = slice(None) if rows is None else rows
        if isinstance(wanted, slice) and (bounds := wanted.indices(self.shape[0]))[2] == 1:
            return self._file.read_rows(EXACT, bounds[0], max(bounds[:2]))
        return self._file.gather_rows(EXACT, self._rows(wanted))

    def codes(self, rows: Rows = None, threads: int | None = None) -> NDArray[np.uint8]:
        """Codes of rows, uint8 (m, features): t = samples * interval + ups (FORMAT.md, section 1)."""
        return self.codec.codes(self.packed(rows), threads)

    def draw(self, rows: Rows = None, seed: int = 0, threads: int | None = None) -> NDArray[np.float32]:
        """The k samples of rows, float32 (samples, m, features): each unbiased, independent given the data.

        The same seed gives a row the same samples whatever other rows are asked for.
        """
        numbers = self._rows(rows)
        return self.codec.draw(
            self.packed(numbers), seed, rows=(numbers + self.row_offset).astype(np.uint64), threads=threads
        )

    def batches(self, size: int, seed: int = 0, epoch: int = 0) -> Iterator[Batch]:
        """Mini-batches of one epoch, in an order that is a function of (seed, epoch).

        Chunks are shuffled, then rows within a window of chunks: what is read at random is whole chunks, and every row
        comes once. The last batch may be smaller.

        Parameters
        ----------
        size : int
            Rows of a batch.
        seed, epoch : int

        Returns
        -------
        iterator of Batch
        """
        size, threads = check_integer("size", size, 1), thread_count(None)
        order = EpochOrder(
            self.shape[0],
            self.chunk_rows,
            self.stride,
            check_seed(seed),
            check_integer("epoch", epoch, 0, 2**31 - 1),
        )
        return self._epoch(order, size, threads)

    def _epoch(self, order: EpochOrder, size: int, threads: int) -> Iterator[Batch]:
        left = np.empty(0, np.int64)
        held = np.empty((0, self.stride), np.uint8)
        for numbers in order.shuffled():
            left = np.concatenate([left, numbers])
            held = np.concatenate([held, self.packed(numbers)])
            whole = len(left) // size * size
            yield from self._batches(left[:whole], held[:whole], size, threads)
            left, held = left[whole:], held[whole:]
        yield from self._batches(left, held, size, threads)

    def _batches(self, rows: NDArray[np.int64], packed: NDArray[np.uint8], size: int, threads: int) -> Iterator[Batch]:
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            y = None if self.labels is None else self.labels[part]
            yield Batch(self.codec.decode(packed[start : start + size], threads), y, part)

    def verify(self, advance: Callable[[int], None] | None = None) -> None:
        """Read the whole file and check every digest.

        Raises
        ------
        CorruptError
            The bytes are not those that were written; the message names the chunk and its rows.
        """
        with open_reader(self._place, self._file.locking) as fresh:
            fresh.verify(advance)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset, (str(self._place), self._file.locking, self._file.precision)

    def __repr__(self) -> str:
        kind = "uniform" if self.codec.is_uniform else "optimal"
        return (
            f"Dataset({str(self.path)!r}, shape={self.shape}, bits={self.bits}, samples={self.samples}, {kind} levels)"
        )


def open_dataset(path: str | PathLike[str], locking: bool | None = None, precision: int | None = None) -> Dataset:
    """Open a zipml file, or a folder of shards of one, for reading.

    Parameters
    ----------
    path : str or path
    locking : bool, optional
        Whether to hold a shared lock for as long as the file is open, which keeps HDF5 programs from opening it for writing. By
        default where the file system has locks, unless the variable HDF5_USE_FILE_LOCKING is FALSE; True: or not at all.
    precision : int, optional
        Bits to read of each value, of a file that was compressed with layout="weave": the rest is not touched. Default: all.

    Raises
    ------
    FormatError
        There is no such file, it is no zipml file, or of a newer version.
    CorruptError
        It is truncated or damaged.
    OptionError
        The file cannot be read at that precision.
    """
    return Dataset(path, locking, precision)
