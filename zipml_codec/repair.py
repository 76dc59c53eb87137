"""Repair: the rows of a damaged file that are as they were written, in a new one. What fails its digest is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .codec import Codec
from .errors import CorruptError, OptionError, OutputError
from .formats.container import EXACT, encode_names
from .formats.header import Header, chunk_rows_for
from .formats.output import check_output
from .formats.partial import Partial
from .formats.salvage import Salvage, open_damaged
from .formats.writer import ContainerWriter
from .progress import Progress, no_progress
from .version import VERSION

LEARNT = ("digests", "row_digests", "noise", "error", "plane_noise")  # of rows, as they are written
STATISTICS = ("low", "high", "mean", "std", "noise", "error")


@dataclass(frozen=True)
class Damage:
    """A part that is damaged: what, its rows (first, last) or None, and what is wrong or became of it."""

    part: str
    rows: tuple[int, int] | None
    reason: str


@dataclass(frozen=True)
class Repair:
    """What a damaged file still has.

    Attributes
    ----------
    rows, saved : int
        Rows of the file, and of them those that survive.
    lost_rows : list of (int, int)
        First and last of each run of lost rows.
    damage : list of Damage
    """

    rows: int
    saved: int
    lost_rows: list[tuple[int, int]]
    damage: list[Damage]


def repair(
    path: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    without: tuple[str, ...] | list[str] = (),
    overwrite: bool = False,
    progress: bool | Callable[..., Progress] = False,
) -> Repair:
    """Find out which rows of a damaged file survive, and write them to a new one.

    A row survives where its chunk, and its chunk's labels, exact rows and kept columns, match their digests. The new file
    keeps the statistics of all rows there were. Where rows are lost, it has the numbers that the others had as a kept column,
    `row`.

    Parameters
    ----------
    path : str or path
    output : str or path, optional
        The new file; by default nothing is written.
    without : sequence of str
        Labels ("labels"), the exact copy ("exact") or kept columns, by name, to leave out of the new file: rows that miss only
        those survive.
    overwrite : bool
        Replace an existing output, once the new one is complete.
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    Repair

    Raises
    ------
    CorruptError
        Nothing can be saved.
    FormatError
        It is not a zipml file.
    OutputError
        The output exists, is the damaged file itself, or cannot be written.
    """
    source, target = Path(path), None if output is None else Path(output)
    if target is not None:
        if target.exists() and source.exists() and target.samefile(source):
            raise OutputError(f"{target} is the damaged file itself: name another output")
        check_output(target, overwrite)
    bars = progress if callable(progress) else Progress.on_terminal if progress else no_progress
    with open_damaged(source) as file:
        names = _row_arrays(file, without)
        damage = [Damage(part, None, reason) for part, reason in file.damage.items()]
        kept = _surviving(file, names, damage, bars)
        found = Repair(file.header.rows, _rows_of(file.header, kept), _runs(file.header, kept), damage)
        if not found.saved:
            beside = {one.part for one in damage} & set(names.values())
            lost = {one.rows for one in damage if one.part.startswith("chunk ")}
            helps = beside and len(lost) < file.header.chunks
            advice = f"; without={','.join(sorted(beside))} (--without) saves more" if helps else ""
            reason = "no chunk's rows are as they were written, in all their parts"
            raise CorruptError(f"{source}: nothing can be saved: {reason}{advice}")
        if target is not None:
            _write(file, names, kept, found, target, overwrite, bars)
    return found


def _row_arrays(file: Salvage, without: tuple[str, ...] | list[str]) -> dict[str, str]:
    """Row arrays to go on with, and the names that users know them by."""
    known = dict(zip((f"kept_{number}" for number in range(len(file.rowwise))), file.kept_names, strict=False))
    names = {name: known.get(name, name) for name in file.rowwise}
    strange = set(without) - set(names.values())
    if strange:
        has = ", ".join(names.values()) or "no such"
        raise OptionError(f"{file.path} has no {sorted(strange)[0]!r} to leave out: it has {has}")
    return {name: shown for name, shown in names.items() if shown not in without}


def _surviving(
    file: Salvage, names: dict[str, str], damage: list[Damage], bars: Callable[..., Progress]
) -> NDArray[np.bool_]:
    """Which chunks' rows survive, in all their parts; what is damaged is added to `damage`."""
    header = file.header
    kept = np.ones(header.chunks, bool)
    with bars("looking", header.rows, None) as bar:
        for number in range(header.chunks):
            first, last = number * header.chunk_rows, min((number + 1) * header.chunk_rows, header.rows)
            for part in ("codes", *names):
                try:
                    if part == "codes":
                        if file.table[number, 0] < 0:
                            raise CorruptError("where it is, is lost")
                        file.read_chunk(number, check=True)
                    else:
                        file.read_rows(part, first, last)
                except CorruptError as error:
                    kept[number] = False
                    what = f"chunk {number}" if part == "codes" else names[part]
                    reason = str(error).removeprefix(f"{file.path}").lstrip(": ").removeprefix(f"chunk {number} ")
                    damage.append(Damage(what, (first, last - 1), reason))
            bar.advance(last - first)
    return kept


def _rows_of(header: Header, kept: NDArray[np.bool_]) -> int:
    """Rows of the chunks that are kept."""
    return sum(last - first + 1 for first, last in _runs(header, ~kept))


def _runs(header: Header, kept: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last row of each run of chunks that are not kept."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], kept, [True]]).astype(np.int8))).reshape(-1, 2)
    return [(int(a) * header.chunk_rows, min(int(b) * header.chunk_rows, header.rows) - 1) for a, b in edges]


def _write(
    file: Salvage,
    names: dict[str, str],
    kept: NDArray[np.bool_],
    found: Repair,
    target: Path,
    overwrite: bool,
    bars: Callable[..., Progress],
) -> None:
    """The new file."""
    old, chunks = file.header, np.flatnonzero(kept).tolist()
    about = {"source": file.path.name, "rows": old.rows, "lost_rows": found.lost_rows, "lost": sorted(file.damage)}
    header = replace(
        old,
        rows=found.saved,
        chunk_rows=chunk_rows_for(found.saved, old.row_size),
        tool=f"zipml-codec {VERSION}",
        options=json.dumps(json.loads(old.options) | {"repaired": about}, sort_keys=True),
    )
    arrays = {name: array for name, array in file.arrays.items() if name not in LEARNT}
    statistics = _statistics(file, chunks)
    arrays |= {name: statistics[name] for name in ("low", "high", "mean", "std")}
    arrays |= _exact_rows(file, kept)
    columns = {name: shown for name, shown in names.items() if name not in ("labels", EXACT)}
    if "labels" not in names:
        arrays.pop("label_names", None)
    places = {name: name for name in names if name not in columns} | {name: f"kept_{i}" for i, name in enumerate(columns)}
    rowwise = {place: file.rowwise[name].dtype for name, place in places.items()}
    numbers = f"kept_{len(columns)}"
    shown = tuple(columns.values())
    if found.lost_rows:
        rowwise[numbers] = np.dtype("<i8")
        shown += (_free_name("row", shown),)
    arrays.pop("kept_names", None)
    kept_names = encode_names(shown or None)
    if kept_names is not None:
        arrays["kept_names"] = kept_names
    with Partial(target, overwrite) as partial, bars("writing", found.saved, None) as bar:
        partial.begin(resume=False)
        with ContainerWriter(partial, header, arrays, rowwise) as writer:
            for number in chunks:
                first, last = number * old.chunk_rows, min((number + 1) * old.chunk_rows, old.rows)
                writer.write_codes(file.read_chunk(number, check=True))
                for name, place in places.items():
                    writer.write_rows(place, file.read_rows(name, first, last))
                if found.lost_rows:
                    writer.write_rows(numbers, np.arange(first, last))
                bar.advance(last - first)
            writer.finish(statistics["noise"], statistics["error"])
        partial.publish()


def _free_name(name: str, taken: tuple[str, ...]) -> str:
    """`name`, or where a column has it already `name_2`, `name_3`, ..."""
    names = [name, *(f"{name}_{number}" for number in range(2, len(taken) + 3))]
    return next(candidate for candidate in names if candidate not in taken)


def _exact_rows(file: Salvage, kept: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Those of the exact rows that survive, by their new numbers."""
    header = file.header
    if "sample_rows" not in file.arrays or "sample_values" not in file.arrays:
        return {"sample_rows": np.zeros(0, np.int64), "sample_values": np.zeros((0, header.features), np.float32)}
    rows, values = file.arrays["sample_rows"], file.arrays["sample_values"]
    chunks = rows // header.chunk_rows
    before = (np.cumsum(~kept) * header.chunk_rows)[chunks]  # lost rows before it: no lost chunk before a kept one is a short one
    here = kept[chunks]
    return {"sample_rows": (rows - before)[here], "sample_values": values[here]}


def _statistics(file: Salvage, chunks: list[int]) -> dict[str, NDArray[Any]]:
    """The file's statistics; those that are lost are computed again, from levels and decoded rows."""
    have = {name: file.arrays[name] for name in STATISTICS if name in file.arrays}
    if len(have) == len(STATISTICS):
        return have
    header, levels = file.header, file.arrays["levels"]
    if header.level_kind == "uniform":
        low, high = levels[:, 0], levels[:, 1]
        codec = Codec.uniform(low, high, header.bits, header.samples, header.rounding, header.features)
    else:
        codec = Codec(levels, header.bits, header.samples, header.rounding, header.features)
    ends = np.broadcast_to(codec.bounds, (header.features, codec.bounds.shape[1]))
    widths = np.diff(np.broadcast_to(codec.levels, (header.features, codec.intervals + 1)), axis=1).astype(np.float64)
    total = np.zeros((3, header.features))
    count = 0
    for number in chunks:
        packed = file.read_chunk(number)
        values = codec.decode(packed).astype(np.float64) - ends[:, 0]
        interval = np.minimum(codec.codes(packed) // header.samples, codec.intervals - 1)
        squares = widths[np.arange(header.features), interval] ** 2
        total += np.stack([values.sum(axis=0), (values**2).sum(axis=0), squares.sum(axis=0)])
        count += len(packed)
    mean, square, width = total / count
    nearest = header.rounding == "nearest"
    spread = width / (12 if nearest else 6 * header.samples)  # of values spread evenly between their levels
    found = {"low": ends[:, 0], "high": ends[:, -1], "mean": mean + ends[:, 0], "error": have.get("noise", spread)}
    found["std"] = np.where(ends[:, -1] > ends[:, 0], np.sqrt(np.maximum(square - mean**2, 0)), 0)
    found["noise"] = np.zeros(header.features) if nearest else have.get("error", spread)
    if nearest:
        found["error"] = spread
    return found | have
