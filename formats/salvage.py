"""Opening a damaged file: whatever its digests still vouch for (FORMAT.md, section 4).

The structure is the file's own or, where that is damaged, its copy in the seal. Where neither can be trusted, the seal is cut
off say, HDF5 is asked in a process of its own, for it may crash on such bytes; what it finds counts as far as the root's digest
vouches for it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from ..errors import CorruptError, FormatError, ZipMLError
from .container import EXACT, SIGNATURE, ContainerReader, chunk_table
from .header import PAGE
from .seal import Image, Seal, read_at, read_copy, read_seal, read_skeleton

NEEDED = ("levels", "digests")  # without which no code has a meaning, and no chunk can be trusted
ENDLESS = 1 << 62  # bytes beyond the file's end read as zeros
SECONDS = 600
NEAR = 16 * PAGE  # bytes in which a chunk is looked for
UNREADABLE = (ZipMLError, OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)


class Untrusted(ZipMLError):
    """Neither a file's structure nor the copy of it is as it was written."""


class Salvage(ContainerReader):
    """A reader of a damaged file; `alone`: in a process that may crash.

    Attributes
    ----------
    damage : dict of str to str
        Parts other than chunks and rows that are damaged, and what became of them; datasets that are lost are not in `arrays`.
    """

    def __init__(self, path: Path, alone: bool = False) -> None:
        self.damage: dict[str, str] = {}
        self._alone = alone
        try:
            super().__init__(path, locking=False)
        except Untrusted:
            self.close()
            raise

    def __enter__(self) -> Salvage:
        return self

    def _image(self) -> Image:
        try:
            seal = read_seal(self._descriptor)
        except CorruptError:
            seal = None
        if seal is not None:
            self._seal = seal
            skeleton: bytes | None = read_skeleton(self._descriptor, seal)
            if xxhash.xxh3_64_intdigest(skeleton or b"") != seal.skeleton:
                skeleton = read_copy(self._descriptor, seal)
                self.damage["structure"] = "restored from its copy"
            elif seal.copy_size and read_copy(self._descriptor, seal) is None:
                self.damage["copy of the structure"] = "made anew"
            if skeleton is not None:
                return Image(self._descriptor, seal, skeleton)
        if not read_at(self._descriptor, len(SIGNATURE), 0).startswith(SIGNATURE):
            raise FormatError("this is not a zipml file, or its first bytes are lost")
        self.damage = {"seal" if seal is None else "structure": "read as far as digests vouch for it"}
        if not self._alone:
            raise Untrusted
        return Image(self._descriptor, Seal(ENDLESS, np.zeros((0, 2), np.int64), 0, 0, 0), b"")

    def _read_small(self, name: str, dataset: Any, dtype: str, expected: int) -> None:
        try:
            super()._read_small(name, dataset, dtype, expected)
        except UNREADABLE:
            if name in NEEDED:
                raise
            self.damage[name] = "lost"

    def _read_places(self, file: h5py.File) -> None:
        if "row_digests" not in self.damage and "kept_names" not in self.damage:
            super()._read_places(file)
            return
        if "row_digests" in self.damage:
            raise CorruptError("the digests of labels, exact rows and kept columns are lost")
        names = [name for name in ("labels", EXACT) if name in file]
        names += [f"kept_{number}" for number in range(len(self.arrays["row_digests"]) - len(names))]
        self.damage["kept_names"] = "lost: the columns are called kept_0, kept_1, ..."
        for name, each in zip(names, self.arrays["row_digests"], strict=True):
            self.rowwise[name] = self._row_place(name, file[name], each)
            self._rows_checked[name] = np.zeros(self.header.chunks, bool)

    def _read_table(self, codes: h5py.Dataset) -> NDArray[np.int64]:
        try:
            return chunk_table(codes.id, self.header)
        except UNREADABLE:
            if self.header.zstd:
                raise
            self.damage["index of the chunks"] = "lost: chunks were looked for by their digests"
            return self._search(codes)

    def _search(self, codes: h5py.Dataset) -> NDArray[np.int64]:
        """What `chunk_table` gives, without HDF5's index: chunks lie in order, a page of HDF5's here and there."""
        table, size = np.full((self.header.chunks, 3), -1, np.int64), self.header.chunk_bytes
        place = max(int(one.id.get_offset()) + one.nbytes for one in codes.parent.values() if one != codes and one.nbytes)
        told = self.header.plane_bytes if self.header.woven else size  # a chunk of planes is known by its first
        for number, expected in enumerate(self.arrays["digests"].reshape(self.header.chunks, -1)[:, 0].tolist()):
            first = -(-place // PAGE) * PAGE
            for at in range(first, first + NEAR, PAGE):
                if xxhash.xxh3_64_intdigest(read_at(self._descriptor, told, at)) == expected:
                    table[number], first = (at, size, 0), at
                    break
            place = first + size
        return table

    def found(self) -> dict[str, Any]:
        """What was found, for another process."""
        return {name: value for name, value in vars(self).items() if name not in ("_descriptor", "_guard", "_stamp", "_mapping")}


def open_damaged(path: Path) -> Salvage:
    """Open a file that may be damaged.

    Raises
    ------
    FormatError
        It is no zipml file.
    CorruptError
        Nothing in it can be trusted.
    """
    try:
        return Salvage(path)
    except Untrusted:
        pass
    command = [sys.executable, "-c", f"from {__name__} import tell; tell()", str(path.absolute())]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, env=environment)
    except subprocess.TimeoutExpired as error:
        raise CorruptError(f"{path}: nothing can be saved: HDF5 does not get through its structure") from error
    if done.returncode:
        raise CorruptError(f"{path}: nothing can be saved: HDF5 cannot read its structure")
    found = pickle.loads(done.stdout)
    if isinstance(found, str):
        raise CorruptError(f"{path}: nothing can be saved: {found}")
    reader = Salvage.__new__(Salvage)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    vars(reader).update(found, path=path, _guard=threading.Lock(), _mapping=None, _descriptor=descriptor)
    reader._stamp = reader._state()
    return reader


def tell() -> None:
    """Print what a file has, pickled: the whole work of a process that may crash."""
    path = Path(sys.argv[1])
    try:
        with Salvage(path, alone=True) as reader:
            found: dict[str, Any] | str = reader.found()
    except UNREADABLE as error:
        found = str(error).removeprefix(f"{path}: ").replace(f"{path} ", "it ", 1)
    sys.stdout.buffer.write(pickle.dumps(found))
