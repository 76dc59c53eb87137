"""Levels that are kept: saved from one data set, given back for new data."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from .codec import Codec
from .dataset import Dataset
from .errors import CorruptError, FormatError, OptionError
from .formats.output import check_output
from .formats.shards import is_sharded
from .publish import write_arrays

VERSION = 1
FORMAT = "zipml-levels"


def save_levels(
    path: str | PathLike[str], codec: Codec, columns: tuple[str, ...] | None = None, *, overwrite: bool = False
) -> None:
    """Write a codec's levels to `path`: an .npz of the bounds and one JSON text, never a pickle.

    Parameters
    ----------
    path : str or path
        Appears when it is complete.
    codec : Codec
        `Dataset.codec` is that of a file.
    columns : tuple of str, optional
        Names of the features: data with other names will be refused.
    overwrite : bool

    Raises
    ------
    OutputError
        The file exists, or cannot be written.
    """
    target = Path(path)
    check_output(target, overwrite)
    about = {
        "format": FORMAT,
        "version": VERSION,
        "kind": "uniform" if codec.is_uniform else "table",
        "bits": codec.bits,
        "samples": codec.samples,
        "rounding": codec.rounding,
        "features": codec.features,
        "columns": None if columns is None else list(columns),
    }
    write_arrays(target, "levels", about, bounds=codec.bounds)


def load_levels(path: str | PathLike[str]) -> tuple[Codec, tuple[str, ...] | None]:
    """A codec of kept levels, and the names of its features: from a file of `save_levels`, or from a zipml file or shards.

    Raises
    ------
    FormatError
        There is no such file, or it holds no levels, or is of a newer version.
    CorruptError
        It is damaged.
    """
    source = Path(path)
    if is_sharded(source):
        with Dataset(source) as data:
            return data.codec, data.columns
    try:
        with source.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise FormatError(f"{source}: cannot read levels: {error.strerror or error}") from error
    if start == b"\x89HDF\r\n\x1a\n":
        with Dataset(source) as data:
            return data.codec, data.columns
    try:
        with source.open("rb") as file, np.load(file, allow_pickle=False) as content:  # numpy leaves a broken one open
            about = json.loads(content["about"].tobytes().decode())
            if about["format"] != FORMAT:
                raise FormatError(f"{source} holds no levels: give a file of `zipml levels --save`, or a zipml file")
            if about["version"] > VERSION:
                raise FormatError(f"{source}: levels of version {about['version']}; this zipml-codec reads up to {VERSION}")
            options = about["bits"], about["samples"], about["rounding"], about["features"]
            try:
                bounds = content["bounds"]
            except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
                raise CorruptError(f"{source}: the levels are damaged: {error}") from error
        uniform = about["kind"] == "uniform"
        codec = Codec.uniform(bounds[:, 0], bounds[:, 1], *options) if uniform else Codec(bounds, *options)
        columns = about["columns"]
    except FormatError:
        raise
    except OptionError as error:
        raise CorruptError(f"{source}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, BadZipFile, AttributeError) as error:
        raise FormatError(f"{source} holds no levels: give a file of `zipml levels --save`, or a zipml file") from error
    return codec, None if columns is None else tuple(columns)
