"""Small files of arrays and one JSON text, complete or not there: models, levels, checkpoints. Never a pickle."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .errors import OutputError


def write_arrays(target: Path, what: str, about: dict[str, Any], **arrays: ArrayLike) -> None:
    """Write an .npz of `arrays` and of `about` under another name, sync it, and rename it to `target`.

    Raises
    ------
    OutputError
        It cannot be written; nothing is left, and what was at `target` stays.
    """
    if target.exists() and not target.is_file():  # a rename would replace /dev/null for everybody
        raise OutputError(f"{target}: cannot write the {what}: it is no file")
    partial = target.with_name(target.name + ".partial")
    try:
        with partial.open("wb") as file:
            text = np.frombuffer(json.dumps(about, default=_plain).encode(), np.uint8)
            named: dict[str, Any] = {"about": text, **arrays}
            np.savez(file, **named)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException as error:
        with suppress(OSError):  # a folder of that name, say: what is wrong is told below
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"{target}: cannot write the {what}: {error.strerror or error}") from error
        raise


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")
