"""The journal of a compression: what is known so far, beside the partial file, so that an interrupted one can go on.

It is written anew, under another name first, after what it vouches for is on the disk: every some seconds, and when a signal asks
to stop. Whatever happens in between, the last one describes a state from which the same bytes come out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from .errors import CorruptError, DataError, OptionError, SourceError
from .formats.sources import Source
from .interrupts import Interrupts
from .publish import write_arrays

EVERY = 10.0  # s from one to the next, at least; and
SHARE = 0.03  # of the time, at most


class State(NamedTuple):
    """Where a compression stands: what JSON holds, and arrays."""

    about: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    def part(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The arrays whose names begin so, by the rest of their names."""
        return {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}


class Journal:
    """The journal of one compression.

    Parameters
    ----------
    path : Path, optional
        None: nothing is kept.
    asked : dict
        Of what JSON holds: what the compression was asked for, and, as "source", its source's identity. One goes on only where
        all of it is the same. Where the source has none, nothing is kept.
    interrupts : Interrupts
        Signals that wait until a state is kept.
    """

    def __init__(self, path: Path | None, asked: dict[str, Any], interrupts: Interrupts) -> None:
        self.path, self.interrupts = path, interrupts
        self.asked: dict[str, Any] = plain(asked)
        self._next = time.monotonic() + EVERY

    def read(self) -> State:
        """The state that was kept.

        Raises
        ------
        OptionError
            It is of another compression: the message says in what.
        CorruptError
        """
        assert self.path is not None
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
            about = json.loads(arrays.pop("about").tobytes().decode())
            asked = about.pop("asked")
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise CorruptError(f"{self.path} is damaged: begin again without resume ({error})") from error
        for name, value in self.asked.items():
            if asked.get(name) != value:
                what = "the source" if name == "source" else name
                was = "" if name == "source" else f": {asked.get(name)!r} then, {value!r} now"
                raise OptionError(
                    f"{self.path}: what was interrupted cannot go on, {what} changed{was}; "
                    "ask for the same, or begin again without resume"
                )
        return State(about, arrays)

    def tick(self, state: Callable[[], State]) -> None:
        """Between two steps: keep the state when it is time to, or when a signal waits, which then does what it does."""
        if self.interrupts.pending is not None or time.monotonic() >= self._next:
            self.keep(state)
        self.interrupts.check()

    def keep(self, state: Callable[[], State]) -> bool:
        """Write the journal now; whether there is one."""
        if self.path is None or self.asked["source"] is None:
            return False
        begun = time.monotonic()
        about, arrays = state()
        write_arrays(self.path, "journal", about | {"asked": self.asked}, **arrays)
        now = time.monotonic()
        self._next = now + max(EVERY, (now - begun) / SHARE)
        return True

    @contextmanager
    def kept(self, state: Callable[[], State]) -> Iterator[None]:
        """A source that cannot be read any more, a network's perhaps, leaves the state to go on from."""
        try:
            yield
        except SourceError as error:
            if self.keep(state):
                raise SourceError(f"{error}; what was done is kept, and resume=True (--resume) goes on from it") from error
            raise

    def check_source(self, source: Source) -> None:
        """Refuse a source that changed since the compression began."""
        if plain(identity(source)) != self.asked["source"]:
            raise DataError(f"{source.name} changed while it was compressed: begin again when nothing writes to it")


def plain(content: Any) -> Any:
    """What JSON makes of it."""
    return json.loads(json.dumps(content, default=np.generic.item))


def identity(source: Source) -> dict[str, Any] | None:
    """Which content a source has, or None.

    Raises
    ------
    SourceError
        It is gone.
    """
    try:
        return source.identity()
    except OSError as error:
        raise SourceError(f"{source.name}: cannot be read: {error.strerror or error}") from error


def files_of(content: dict[str, Any] | None) -> list[str]:
    """The files that an identity names."""
    if content is None:
        return []
    own = [str(file[0]) for file in content.get("files", [])]
    return own + [name for part in content.get("parts", []) for name in files_of(part)]
