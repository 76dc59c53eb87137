"""Which columns of a table are features, labels and kept ones: from what a user says to indices."""

from __future__ import annotations

import csv
import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..errors import DataError, OptionError
from .sources import Array, Block

Label = str | int
Columns = Label | Sequence[Label]  # one, a list, or text with commas


@dataclass(frozen=True)
class Options:
    """What of a file a user wants, as it was given: see `open_source`."""

    label: Columns | None = None
    columns: Columns | None = None
    keep: Columns | None = None
    dataset: str | None = None


def file_identity(paths: Sequence[str], options: Options) -> dict[str, Any]:
    """Which files these are: path, size and time of change of each, and what is read of them."""
    found = []
    for path in paths:
        about = os.stat(path)  # noqa: PTH116
        found.append([os.path.abspath(path), about.st_size, about.st_mtime_ns])  # noqa: PTH100
    chosen = {name: value for name, value in asdict(options).items() if value is not None}
    return {"files": found, "options": chosen}


@dataclass(frozen=True)
class Selection:
    """Which columns of a table are features, labels and kept ones, by index; names are of all columns, or None."""

    features: list[int]
    labels: list[int] = field(default_factory=list)
    kept: dict[str, int] = field(default_factory=dict)
    names: Sequence[str] | None = None

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the features."""
        return None if self.names is None else tuple(self.names[index] for index in self.features)

    @property
    def label_names(self) -> list[str] | None:
        """Names of the labels."""
        return None if self.names is None else [self.names[index] for index in self.labels]

    def split(self, matrix: Array) -> Block:
        """Take a block of all columns apart; views where that can be."""
        kept = {name: matrix[:, index] for name, index in self.kept.items()} or None
        labels = None if not self.labels else matrix[:, self.labels[0] if len(self.labels) == 1 else self.labels]
        return Block(matrix[:, as_slice(self.features)], labels, kept)


def as_slice(indices: list[int]) -> slice | list[int]:
    """Return the slice that takes the same columns, where there is one."""
    first, last = indices[0], indices[-1]
    return slice(first, last + 1) if indices == list(range(first, last + 1)) else indices


def select(options: Options, names: Sequence[str] | None, width: int, where: str) -> Selection:
    """Find the columns that the options name.

    Without `columns`, features are all that are neither a label nor kept. A column may be kept and, if named, a feature.

    Parameters
    ----------
    options : Options
        Each names columns by name, index, or index as a string; negative ones count from the end. A name wins over a number.
    names : sequence of str, or None
        All columns' names.
    width : int
        Number of columns.
    where : str
        For messages.

    Raises
    ------
    DataError
        If there is no such column, or no feature is left.
    OptionError
        If a column is named twice, or is a label and a feature or kept.
    """

    def find(option: str, given: Columns | None) -> list[int]:
        found = [find_column(item, names, width, where) for item in listed(option, given, names)]
        for index in found:
            if found.count(index) > 1:
                raise OptionError(f"{where}: {option}: the column {title(index)} is named twice")
        return found

    def title(index: int) -> str:
        return repr(names[index]) if names is not None else f"with index {index}"

    labels, kept = find("label", options.label), find("keep", options.keep)
    features = find("columns", options.columns)
    for others, what in ((features, "in columns"), (kept, "kept")):
        for index in set(labels) & set(others):
            raise OptionError(f"{where}: the column {title(index)} is a label and {what}: leave it out of one")
    if options.columns is None:
        features = sorted(set(range(width)) - {*labels, *kept})
    if not features:
        what = "the label is the only column" if labels and width == 1 else "all columns are labels or kept"
        raise DataError(f"{where}: no features, {what}")
    return Selection(features, labels, {names[i] if names is not None else str(i): i for i in kept}, names)


def listed(option: str, given: Columns | None, names: Sequence[str] | None) -> list[Label]:
    """Take apart what names several columns: a list, or text with commas where no column has it as its name."""
    if given is None:
        return []
    if isinstance(given, str):
        if names is not None and given in names:
            return [given]
        items: list[Label] = list(next(csv.reader([given], skipinitialspace=True), []))
    else:
        items = [given] if isinstance(given, int | np.integer) else list(given)
    for item in items or [""]:
        if isinstance(item, bool) or not isinstance(item, str | int | np.integer) or item == "":
            raise OptionError(f"{option} must be names or indices of columns; got {given!r}")
    return items


def as_index(label: Label) -> int | None:
    """Return a label given as an index or a numeric string as an int, and None for a name."""
    if isinstance(label, str):
        return int(label) if re.fullmatch(r"[+-]?\d+", label) else None
    return int(label)


def find_column(item: Label, names: Sequence[str] | None, width: int, where: str) -> int:
    """Find a column by name, index, or index as a string; return its index counted from 0, or raise `DataError`."""
    if isinstance(item, str) and names is not None and item in names:
        return list(names).index(item)
    number = as_index(item)
    if number is None:
        raise DataError(f"{where}: no column {item!r}; {suggest(str(item), names)}")
    if not -width <= number < width:
        raise DataError(f"{where}: no column with index {number}; {width} columns have indices {-width} to {width - 1}")
    return number % width


def check_names(names: Sequence[str], where: str) -> None:
    """Raise `DataError` if two columns have the same name."""
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in seen:
            what = f"name {name!r}" if name else "empty name"
            raise DataError(f"{where}: columns with index {seen[name]} and {index} have the same {what}")
        seen[name] = index


def suggest(wanted: str, names: Sequence[str] | None) -> str:
    """Say which names there are, the nearest ones first or only."""
    if not names:
        return "the columns have no names, give an index such as 0 or -1"
    near = difflib.get_close_matches(wanted, names, n=3) or [n for n in names if n.lower() == wanted.lower()]
    if near:
        return "did you mean " + " or ".join(repr(name) for name in near) + "?"
    shown = ", ".join(repr(name) for name in names[:20])
    return f"there are {shown}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")
