"""Text and other bytes from files, compressed or not: by chunks of whole lines, worked on in threads, in order."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ..arrays import thread_count
from ..errors import DataError, MissingDependencyError, SourceError

T = TypeVar("T")
U = TypeVar("U")

# What a file starts with, what it is, and the extensions it should have; text has no such mark.
MAGIC = [
    (b"\x93NUMPY", "a NumPy array", (".npy",)),
    (b"PK\x03\x04", "a zip archive, as .npz and Excel workbooks are", (".npz", ".zip")),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", (".h5", ".hdf5")),
    (b"PAR1", "a Parquet file", (".parquet", ".pq")),
    (b"ARROW1", "an Arrow IPC (Feather) file", (".feather", ".arrow", ".ipc")),
    (b"\x1f\x8b", "gzip-compressed", (".gz",)),
    (b"\x28\xb5\x2f\xfd", "zstandard-compressed", (".zst",)),
    (b"BZh", "bzip2-compressed", (".bz2",)),
    (b"\xfd7zXZ", "xz-compressed, which is not read", ()),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; export it as CSV", ()),
    (b"\xff\xfe", "UTF-16 text; save it as UTF-8", ()),
    (b"\xfe\xff", "UTF-16 text; save it as UTF-8", ()),
]
CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
# A longer line is no table. It bounds what a file without line ends can take.
LONGEST_LINE = 64 << 20


def check_magic(path: str, extension: str) -> None:
    """Raise `DataError` if the content is plainly not what the extension says."""
    head = read_head(path)
    if not head:
        raise DataError(f"{path}: the file is empty (0 bytes)")
    for magic, what, extensions in MAGIC:
        if head.startswith(magic):
            if extension.endswith(extensions or ("-",)):
                return
            advice = f"; rename it to end in {extensions[0]}" if extensions else ""
            raise DataError(f"{path}: {what}, not what {extension} says{advice}")
    if extension.endswith(tuple(CODECS)):
        raise DataError(f"{path}: not {CODECS[extension[extension.rindex('.') :]]}-compressed, as its extension says")


def read_head(path: str, size: int = 16) -> bytes:
    """Read the first bytes of a file."""
    try:
        with Path(path).open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise SourceError(f"{path}: cannot be opened: {error.strerror or error}") from error


def import_pyarrow(what: str) -> Any:
    """Import pyarrow, or say what to do."""
    try:
        import pyarrow
    except ImportError as error:
        raise MissingDependencyError(
            f"reading {what} needs pyarrow; install it with: pip install 'zipml-codec[io]'"
        ) from error
    return pyarrow


class ByteFile:
    """A file, decompressed as it is read; damage and lost files become this package's errors."""

    def __init__(self, path: str, codec: str | None) -> None:
        self.path, self._codec = path, codec
        self._stack = contextlib.ExitStack()
        with self._errors():
            self._raw = self._stack.enter_context(Path(path).open("rb", buffering=0))  # noqa: SIM115 - closed by the stack
            self._file: Any = self._raw
            if codec is not None:
                pyarrow = import_pyarrow("compressed text")
                self._file = self._stack.enter_context(pyarrow.CompressedInputStream(pyarrow.PythonFile(self._raw), codec))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._codec is not None and error.errno is None:
                raise DataError(f"{self.path}: damaged or truncated {self._codec} data: {error}") from error
            raise SourceError(f"{self.path}: cannot be read: {error.strerror or error}") from error

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; fewer at the end only."""
        parts: list[bytes] = []
        with self._errors():
            while size > 0 and (part := self._file.read(size)):
                parts.append(part)
                size -= len(part)
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def skip(self, size: int) -> None:
        """Pass over bytes; at once where the file is not compressed."""
        if self._codec is None:
            self._raw.seek(size, 1)
        else:
            while size > 0 and (part := self.read(min(size, 1 << 20))):
                size -= len(part)

    def tell(self) -> int:
        """Bytes of the file as it is on disk that were read so far."""
        return self._raw.tell()

    def __enter__(self) -> ByteFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def line_chunks(file: ByteFile, size: int) -> Iterator[bytes]:
    """Cut a file into chunks of about `size` bytes, each of whole lines; line ends may be of the three usual kinds."""
    rest = b""
    while data := file.read(size):
        data = rest + data if rest else data
        cut = data.rfind(b"\n") + 1
        if not cut:
            # \r alone ends lines, unless it is last: a \n may follow.
            cut = data.rfind(b"\r", 0, len(data) - 1) + 1
        if not cut and len(data) > LONGEST_LINE:
            raise DataError(f"{file.path}: a line is over {LONGEST_LINE >> 20} MiB long, not a table")
        rest = data[cut:]
        if cut:
            yield data[:cut]
    if rest:
        yield rest


def in_order(work: Callable[[T], U], items: Generator[T, None, None]) -> Generator[U, None, None]:
    """Yield `work(item)` of each, in order. Items are made in one thread, worked on in others, some ahead of the caller.

    An error, of an item or of the work, comes out where its result would have.
    """
    threads, end = thread_count(None), object()
    waiting: deque[Future[U]] = deque()
    failure: BaseException | None = None
    with (
        contextlib.closing(items),
        ThreadPoolExecutor(threads, "zipml-source") as pool,
        ThreadPoolExecutor(1, "zipml-source-reader") as reader,
    ):
        try:
            ahead: Future[Any] = reader.submit(next, items, end)
            while True:
                try:
                    item = ahead.result()
                except Exception as error:
                    failure = error
                    break
                if item is end:
                    break
                ahead = reader.submit(next, items, end)
                waiting.append(pool.submit(work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
            if failure is not None:
                raise failure
        finally:
            for future in (*waiting, ahead):
                future.cancel()
