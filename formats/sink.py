"""A file for HDF5 to write to, that survives a full disk.

HDF5 that cannot flush leaves its file half closed, raises RuntimeError and crashes the process at exit. So it is given a
file that always claims success and remembers the first error; the writer asks after each step.
"""

from __future__ import annotations

import io
import os
from typing import Any


class Sink(io.RawIOBase):
    """The file behind a descriptor, for `h5py.File`; the descriptor stays open.

    Parameters
    ----------
    descriptor : int
        Open for reading and writing.
    size : int, optional
        What is beyond does not count; by default all does.
    """

    def __init__(self, descriptor: int, size: int | None = None) -> None:
        self._descriptor, self._at = descriptor, 0
        self._end = os.fstat(descriptor).st_size if size is None else size
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error that a write met."""
        if self._error is not None:
            raise self._error

    def settle(self) -> None:
        """After HDF5 has closed: raise the first error, or give the file the size that HDF5 left it with."""
        self.check()
        os.ftruncate(self._descriptor, self._end)

    def readable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def truncate(self, size: int | None = None) -> int:
        """Set the size, which takes effect in `settle`."""
        self._end = self._at if size is None else size
        return self._end

    def readinto(self, buffer: Any) -> int:
        """Read; what was never written reads as zeros."""
        view = memoryview(buffer).cast("B")
        data = os.pread(self._descriptor, len(view), self._at)
        view[: len(data)] = data
        view[len(data) :] = bytes(len(view) - len(data))
        self._at += len(view)
        return len(view)

    def write(self, buffer: Any) -> int:
        """Write, or remember why not."""
        view, done = memoryview(buffer).cast("B"), 0
        try:
            while self._error is None and done < len(view):
                done += os.pwrite(self._descriptor, view[done:], self._at + done)
        except OSError as error:
            self._error = error
        self._at += len(view)
        self._end = max(self._end, self._at)
        return len(view)
