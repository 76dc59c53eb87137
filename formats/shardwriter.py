"""Writing a folder of shards (FORMAT.md, section 6).

Everything goes into a partial folder that is locked; each shard is written, verified and synced as a file of its own, the
manifest last. Then the folder gets its final name by one rename, or, where it takes the place of another, by exchanging the two.

Who goes on keeps the shards that the journal lists, takes back the one that it says is open, should that have been finished
since, and removes any others.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, OptionError, OutputError
from .container import ContainerReader
from .header import Header, chunk_rows_for
from .output import disk_errors, exists_message, sync_folder
from .partial import Partial
from .planes import plane_noise
from .shards import MANIFEST, OF_ROWS, Manifest, Shard, read_manifest
from .writer import ContainerWriter

try:
    import fcntl
except ImportError:  # Windows: no advisory lock, as in the writer of one file
    fcntl = None  # type: ignore[assignment]

CODES = "codes"
MOST_SHARDS = 100_000
OURS = re.compile(r"shard-\d{5}\.zipml\.h5(\.partial)?|manifest\.json")
EXCHANGE, HERE = 2, -100  # Linux: RENAME_EXCHANGE and AT_FDCWD


def shard_name(number: int) -> str:
    """The file's name of a shard."""
    return f"shard-{number:05d}.zipml.h5"


def check_folder(path: Path, overwrite: bool) -> None:
    """Refuse a folder for shards that cannot be made, or that holds anything but shards, before any work is done."""
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}")
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() and not overwrite:
        raise OutputError(exists_message(path))
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file: name a folder for the shards, or remove it first")
    if path.exists() and not holds_only_ours(path):
        raise OutputError(f"{path} holds other files than shards, which would be lost: name another folder")


def holds_only_ours(folder: Path) -> bool:
    """Whether a folder has nothing but shards and their manifest in it."""
    return all(OURS.fullmatch(entry.name) and entry.is_file() and not entry.is_symlink() for entry in folder.iterdir())


class PartialFolder(Partial):
    """The partial folder of `path`, in which shards are written; else as `Partial`."""

    def _check(self) -> None:
        check_folder(self.path, self.overwrite)

    def _lock(self) -> int:
        if self.place.is_file():
            raise OutputError(f"{self.place} is one file that was interrupted: ask for one file again, or remove it")
        with suppress(FileExistsError):
            self.place.mkdir()
            sync_folder(self.place.parent)
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            if not locks(descriptor) or not os.path.samestat(os.fstat(descriptor), self.place.stat()):
                raise OutputError(f"{self.path}: another process is writing it ({self.place.name} is locked)")
            if not holds_only_ours(self.place):
                raise OutputError(f"{self.place} is in the way, and holds other files than shards: remove it first")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _clear(self) -> None:
        for entry in list(self.place.iterdir()):
            entry.unlink()

    def _remove(self) -> None:
        shutil.rmtree(self.place)

    def publish(self) -> None:
        """Give the folder its name; of two folders that take each other's place, the older one is then removed."""
        with disk_errors(self.path):
            os.fsync(self.descriptor)
            self._check()  # the name may have been taken meanwhile
            if self.path.is_dir() and any(self.path.iterdir()):
                old = os.open(self.path, os.O_RDONLY)
                try:
                    locks(old)  # it will have the partial folder's name, which another writer must not take
                    exchange(self.place, self.path)
                    sync_folder(self.path.parent)
                    self.journal.unlink(missing_ok=True)  # it is not about what has that name now
                    shutil.rmtree(self.place)
                finally:
                    os.close(old)
            else:
                self.place.rename(self.path)  # also onto an empty folder
                sync_folder(self.path.parent)
                self.journal.unlink(missing_ok=True)
            self.close()


class ShardedWriter:
    """Writes a folder of shards; the interface is `ContainerWriter`'s: codes and row arrays in order, then `finish`.

    Parameters
    ----------
    partial : PartialFolder
        Where to; it is not published.
    header : Header
        Of one file of all rows.
    arrays : dict
        Its datasets that are known beforehand.
    rowwise : mapping of str to dtype
        Its row arrays, and the type of a row of each.
    shard_rows : int
        Rows of each shard but the last.
    of_rows : callable
        From a shard's number, which all rows of have been written, to those of its datasets in OF_ROWS.
    threads : int
        That compress chunks.
    saved : dict, optional
        What `state` gave: the shards and rows that it vouches for are in the folder.

    Raises
    ------
    OptionError
        That would be too many shards.
    OutputError
        The disk is full, or the folder does not hold what `saved` says.
    """

    def __init__(
        self,
        partial: PartialFolder,
        header: Header,
        arrays: dict[str, NDArray[Any]],
        rowwise: Mapping[str, np.dtype[Any]],
        shard_rows: int,
        of_rows: Callable[[int], dict[str, NDArray[Any]]],
        threads: int = 1,
        saved: dict[str, NDArray[Any]] | None = None,
    ) -> None:
        self.path, self.folder = partial.path, partial
        self.header, self.arrays, self.rowwise = header, arrays, rowwise
        self.shard_rows, self._of_rows, self._threads = shard_rows, of_rows, threads
        self.row = 0
        self._shards: list[Shard] = []
        self._counts: Any = 0  # of codes, in the shards that are finished
        self._writer: ContainerWriter | None = None
        self._shard: Partial | None = None  # where it writes
        self._waiting = {name: np.empty((0, *dtype.shape), dtype.base) for name, dtype in rowwise.items()}
        self._waiting[CODES] = np.empty((0, header.stride), np.uint8)  # what is here waits for the others' same rows
        if header.rows > MOST_SHARDS * shard_rows:
            least = -(-header.rows // MOST_SHARDS)
            raise OptionError(f"shards of {shard_rows} rows would be more than {MOST_SHARDS:,} files: take {least} or more")
        if saved is not None:
            try:
                with disk_errors(self.path):
                    self._go_on(saved)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> ShardedWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of a shard that is not complete as it is."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._shard is not None:
            self._shard.close()
            self._shard = None

    def state(self) -> dict[str, NDArray[Any]]:
        """Where writing stands, as arrays, when all row arrays have the same rows; all that this vouches for is on the disk."""
        shards = np.array([(shard.bytes, int(shard.xxh3, 16)) for shard in self._shards], np.uint64).reshape(-1, 2)
        found = {"row": np.array(self.row), "shards": shards, "counts": np.asarray(self._counts)}
        if self._writer is not None:
            found |= {f"open_{name}": array for name, array in self._writer.state().items()}
            with disk_errors(self.path):
                os.fsync(self.folder.descriptor)  # the open shard's name
        return found

    def _go_on(self, saved: dict[str, NDArray[Any]]) -> None:
        place = self.folder.place
        for number, (size, digest) in enumerate(saved["shards"].tolist()):
            shard = Shard(shard_name(number), self._rows_of(number), size, f"{digest:016x}")
            if not holds(place, shard):
                raise OutputError(f"{place / shard.file} is not what the journal says; {place.name} is removed: begin again")
            self._shards.append(shard)
        opened = {name.removeprefix("open_"): array for name, array in saved.items() if name.startswith("open_")}
        known = {shard.file for shard in self._shards}
        if opened:
            done = place / shard_name(len(self._shards))
            half = done.with_name(done.name + ".partial")
            if done.exists():  # it was finished after the journal was written
                half.unlink(missing_ok=True)  # the same file: a second name of it, for a moment
                done.rename(half)
            known.add(half.name)
        for entry in list(place.iterdir()):
            if entry.name not in known:
                entry.unlink()
        self.row, self._counts = int(saved["row"]), saved["counts"]
        if opened:
            self._writer = self._begin(opened)

    def _rows_of(self, number: int) -> int:
        """Rows of a shard."""
        return min(self.shard_rows, self.header.rows - number * self.shard_rows)

    def write_codes(self, packed: NDArray[np.uint8]) -> None:
        """Append packed rows (m, stride)."""
        self.write_rows(CODES, packed)

    def write_rows(self, name: str, values: NDArray[Any]) -> None:
        """Append rows of a row array; what is there of all of them goes into its shards."""
        self._waiting[name] = np.concatenate([self._waiting[name], values], dtype=self._waiting[name].dtype)
        ready, done = min(map(len, self._waiting.values())), 0
        while done < ready:
            if self._writer is None:
                self._writer = self._begin()
            start, rows = self.row - len(self._shards) * self.shard_rows, self._writer.header.rows
            count = min(ready - done, rows - start)
            self._writer.write_codes(self._waiting[CODES][done : done + count])
            for array in self.rowwise:
                self._writer.write_rows(array, self._waiting[array][done : done + count])
            done, self.row = done + count, self.row + count
            if start + count == rows:
                self._end(self._writer)
        if ready:
            self._waiting = {array: waiting[ready:].copy() for array, waiting in self._waiting.items()}

    def _begin(self, saved: dict[str, NDArray[Any]] | None = None) -> ContainerWriter:
        """The next shard, from its first row or from where `saved` says."""
        header, number = self.header, len(self._shards)
        start, rows = number * self.shard_rows, self._rows_of(number)
        chunk = header.chunk_rows if rows % header.chunk_rows == 0 else chunk_rows_for(rows, header.row_size)
        numbers = self.arrays["sample_rows"]
        kept = slice(*np.searchsorted(numbers, [start, start + rows]).tolist())
        self._shard = Partial(self.folder.place / shard_name(number))
        self._shard.begin(saved is not None)
        own = {"sample_rows": numbers[kept] - start, "sample_values": self.arrays["sample_values"][kept]}
        return ContainerWriter(
            self._shard,
            replace(header, rows=rows, row_offset=header.row_offset + start, chunk_rows=chunk),
            self.arrays | own,
            self.rowwise,
            self._threads,
            saved,
        )

    def _end(self, writer: ContainerWriter) -> None:
        assert self._shard is not None
        own = self._of_rows(len(self._shards))
        writer.finish(own.pop("noise"), own.pop("error"), None, **own)
        self._counts = self._counts + writer.counts
        writer.close()
        self._shard.publish()
        size = writer.path.stat().st_size
        self._shards.append(Shard(writer.path.name, writer.header.rows, size, f"{writer.digest:016x}"))
        self._writer = self._shard = None

    def finish(
        self, noise: NDArray[np.float64], error: NDArray[np.float64], advance: Callable[[int], None] | None = None
    ) -> None:
        """Write the manifest, `noise` and `error` being those of all rows; `advance` has nothing to do, shards being checked."""
        if self.row != self.header.rows or any(map(len, self._waiting.values())):
            raise OutputError(f"{self.path}: {self.row} of {self.header.rows} rows were written")
        arrays = {name: array for name, array in self.arrays.items() if name in OF_ROWS} | {"noise": noise, "error": error}
        if self.header.woven:
            arrays["plane_noise"] = plane_noise(self.header, self.arrays["levels"], noise, self._counts)
        manifest = Manifest(self.header, arrays, tuple(self._shards))
        with disk_errors(self.path):
            with (self.folder.place / MANIFEST).open("wb") as file:
                file.write(manifest.text())
                file.flush()
                os.fsync(file.fileno())
            try:
                read_manifest(self.folder.place)
            except FormatError as error:
                raise OutputError(f"{self.path}: changed while it was written: {error}") from error


def holds(folder: Path, shard: Shard) -> bool:
    """Whether a shard is there and of this size and root digest; its chunks were checked when it was finished."""
    try:
        with ContainerReader(folder / shard.file, locking=False) as reader:
            return (reader.file_bytes, f"{reader.digest:016x}", reader.header.rows) == (shard.bytes, shard.xxh3, shard.rows)
    except (FormatError, OSError):
        return False


def locks(folder: int) -> bool:
    """Lock an open folder. False where another process has; a system that locks no folders has to do without."""
    if fcntl is not None:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
    return True


def exchange(new: Path, old: Path) -> None:
    """Give each of two folders the other's name: in one step on Linux, elsewhere in three."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if rename is not None:
        if rename(HERE, os.fsencode(new), HERE, os.fsencode(old), EXCHANGE) == 0:
            return
        if (code := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOSYS):  # those: a file system that cannot
            raise OSError(code, os.strerror(code), str(old))
    aside = old.with_name(f"{old.name}.{os.getpid()}.old")
    old.rename(aside)
    new.rename(old)
    aside.rename(new)
