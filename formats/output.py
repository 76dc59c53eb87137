"""Output files: refused before any work where they cannot be made, errors of the disk that say so, made durable."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputError


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """A full disk, a missing folder, no permission: as an OutputError that says so."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        if isinstance(error, FileNotFoundError) and path.parent.is_dir():
            raise OutputError(f"{path}: cannot write: no files can be made in {path.parent}; nothing was written") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left" in str(error):
            raise OutputError(f"{path}: no space left on the disk; nothing was written") from error
        raise OutputError(f"{path}: cannot write: {error.strerror or error}; nothing was written") from error


def exists_message(path: Path) -> str:
    """What to say where an output's name is taken."""
    return f"{path} exists: choose another name, or say overwrite=True (--overwrite)"


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse an output that exists, that is no file, or that cannot be made, before any work is done."""
    with disk_errors(path):  # a name that is too long
        if path.is_dir():
            raise OutputError(f"{path} is a folder: name a file")
        if path.exists() and not path.is_file():  # /dev/null, say, which a rename would replace for everybody
            raise OutputError(f"{path} is a device or a pipe: name a file")
        if os.path.lexists(path) and not overwrite:  # a link to nothing is in the way too
            raise OutputError(exists_message(path))
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}")


def check_apart(path: Path, inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse an output that would take the place of one of its own inputs, by whatever name."""
    for name in inputs:
        try:
            same = path.samefile(name)
        except OSError:  # one of them is not there
            continue
        if same:
            raise OutputError(f"{path} is what is read: name another output, this file may be the only copy")


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset`, however many calls it takes."""
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
