"""The file that is being written: NAME.partial, locked, until it is complete and takes its name in one step.

Of a folder of shards the same: formats/shardwriter.py.

Beside it may lie NAME.partial.journal, from which an interrupted compression goes on (zipml_codec/journal.py).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..errors import DataError, FormatError, OptionError, OutputError
from .output import check_output, disk_errors, exists_message, sync_folder

try:
    import fcntl
except ImportError:  # Windows: no advisory lock; the partial file's name alone tells of another writer
    fcntl = None  # type: ignore[assignment]


def journal_of(path: Path) -> Path:
    """Where what is needed to go on with `path` is kept."""
    return path.with_name(path.name + ".partial.journal")


class Partial:
    """The partial file of `path`, opened and locked. Use in a ``with`` block: what an error leaves is decided there.

    An error of the data, the options or the disk leaves nothing. After any other, a signal among them, the file stays if there is
    a journal to go on from.

    Parameters
    ----------
    path : Path
        Appears only with `publish`.
    overwrite : bool

    Attributes
    ----------
    journal : Path
    resumable : bool
        Whether there was a partial file with a journal.

    Raises
    ------
    OutputError
        `path` exists, another process is writing it, or the disk is full.
    """

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        self.path, self.overwrite = path, overwrite
        self._check()
        self.place, self.journal = path.with_name(path.name + ".partial"), journal_of(path)
        existed = self.place.exists()
        with disk_errors(path):
            self.descriptor = self._lock()
        self.resumable = existed and self.journal.exists()
        self._begun = not self.resumable

    def _check(self) -> None:
        """Refuse an output that cannot be made."""
        check_output(self.path, self.overwrite)

    def _lock(self) -> int:
        if self.place.is_dir():
            raise OutputError(f"{self.place} is a folder of shards that was interrupted: ask for shards again, or remove it")
        descriptor = os.open(self.place, os.O_RDWR | os.O_CREAT, 0o666)
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                same = os.path.samestat(os.fstat(descriptor), self.place.stat())
            except OSError:
                same = False
            if not same:
                os.close(descriptor)
                raise OutputError(f"{self.path}: another process is writing it ({self.place.name} is locked)")
        if os.fstat(descriptor).st_nlink > 1:  # a writer was killed after it published the file, and before it removed this name
            self.place.unlink()
            os.close(descriptor)
            return self._lock()
        return descriptor

    def begin(self, resume: bool) -> None:
        """From now on the file is written: from its start, or where a journal says."""
        self._begun = True
        if not resume:
            self.journal.unlink(missing_ok=True)
            self._clear()

    def _clear(self) -> None:
        """Leave nothing in it."""
        os.ftruncate(self.descriptor, 0)

    def _remove(self) -> None:
        self.place.unlink()

    def publish(self) -> None:
        """Give the file, which is on the disk, its name."""
        with disk_errors(self.path):
            if self.overwrite:
                self.place.replace(self.path)
            else:
                try:
                    os.link(self.place, self.path)  # unlike a rename, fails if the name was taken meanwhile
                except FileExistsError:
                    raise OutputError(exists_message(self.path)) from None
                except OSError:  # a file system without hard links
                    check_output(self.path, overwrite=False)
                    self.place.replace(self.path)
                else:
                    self.place.unlink()
            self.close()
            sync_folder(self.path.parent)
        self.journal.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it as it is."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        lost = kind is None or issubclass(kind, (DataError, FormatError, OptionError, OutputError)) or not self.journal.exists()
        if self.descriptor >= 0 and self._begun and lost:
            with suppress(OSError):
                self._remove()
            with suppress(OSError):
                self.journal.unlink()
        self.close()
