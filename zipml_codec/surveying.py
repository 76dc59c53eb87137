"""`zipml levels`: the survey of a source as numbers, a picture, and levels to keep."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import thread_count
from .codec import interval_count
from .errors import OptionError
from .formats.output import check_output
from .formats.sources import Source
from .levels import best
from .progress import Progress, no_progress
from .report import density_with_levels, new_figure, rate_curves, save
from .saved import save_levels
from .survey import Survey, scan, survey
from .tables import make_codec, optimal_table, uniform_levels

CURVE = 255  # intervals of the rate-distortion curve
DRAWN_BITS = 3


@dataclass(frozen=True)
class Choice:
    """The command's options."""

    bits: str
    samples: int
    shared: bool
    plot: Path | None
    feature: str | None
    save: Path | None
    overwrite: bool
    threads: int | None


def widths(text: str, samples: int) -> tuple[int, ...]:
    """Widths from "4", "2,4,8" or "2..8"."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:(?:\.\.|-)\s*(\d+)\s*)?", part)
        if not match:
            raise OptionError(f"bits must be widths like 4, 2,4,8 or 2..8; got {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        for width in (first, last):
            interval_count(width, samples)
        found += range(first, last + 1)
    if not found:
        raise OptionError(f"bits {text!r} name no width")
    return tuple(dict.fromkeys(found))


def look(source: Source, choice: Choice, progress: Callable[..., Progress] | None) -> dict[str, Any]:
    """Scan a source once; its errors at each width, and what was asked for besides."""
    bits, threads = widths(choice.bits, choice.samples), thread_count(choice.threads)
    for target in (choice.plot, choice.save):
        if target is not None:
            check_output(target, choice.overwrite)
    if choice.save is not None and len(bits) != 1:
        raise OptionError(f"--save keeps the levels of one width; --bits {choice.bits} are {len(bits)}")
    statistics = scan(source, shared=choice.shared, threads=threads, progress=progress or no_progress)
    found = survey(statistics, bits, choice.samples, threads)
    names = ["all features"] if statistics.shared else list(source.columns or map(str, range(statistics.features)))
    saved = found.saved()
    drawn = _column(choice.feature, names, saved)
    codec = None if choice.save is None else make_codec(statistics, "optimal", bits[0], choice.samples, "stochastic", threads)[0]
    if choice.plot is not None:
        draw(choice.plot, found, names, drawn, threads)
    if choice.save is not None and codec is not None:
        save_levels(choice.save, codec, source.columns, overwrite=choice.overwrite)
    mean = {"uniform": found.relative(found.uniform), "optimal": found.relative(found.optimal), "saved": found.mean_saved()}
    return {
        "rows": statistics.rows,
        "features": statistics.features,
        "bits": list(bits),
        "samples": choice.samples,
        "shared_levels": statistics.shared,
        "mean": {name: [float(value) for value in values] for name, values in mean.items()},
        "per_feature": [
            {
                "name": name,
                "variance": float(found.variance[i]),
                "uniform": [float(value) for value in found.uniform[:, i]],
                "optimal": [float(value) for value in found.optimal[:, i]],
                "saved": [float(value) if np.isfinite(value) else None for value in saved[:, i]],
            }
            for i, name in enumerate(names)
        ],
        "picture": None if choice.plot is None else str(choice.plot),
        "saved_to": None if choice.save is None else str(choice.save),
    }


def _column(name: str | None, names: list[str], saved: Any) -> int:
    """The column to draw: by name or number, or the one that gains most."""
    if name is None:
        return int(np.argmax(np.nan_to_num(saved, nan=0.0).mean(axis=0)))
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    raise OptionError(f"there is no column {name!r} to draw; there are {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}")


def draw(path: Path, found: Survey, names: list[str], column: int, threads: int) -> None:
    """The paper's figure 3, density with levels, of one column; and error over width of it and of the mean column."""
    statistics, samples = found.statistics, found.samples
    part = None if statistics.shared else slice(column, column + 1)
    segments = statistics.segments(part)
    intervals = interval_count(DRAWN_BITS, samples) if samples < 2**DRAWN_BITS else 1
    most = min(2048, segments.weight.shape[1])
    curve = best(segments, CURVE, threads, most=most, sweeps=0)[2][0] * segments.unit[0] ** 2
    rows = statistics.rows * (statistics.features if statistics.shared else 1)
    table = optimal_table(statistics, DRAWN_BITS, samples, threads, "none").levels if intervals > 1 else None
    low, high = (segments.pivot + end * segments.unit for end in (segments.low, segments.high))
    equal = uniform_levels(low.astype(np.float32), high.astype(np.float32), intervals)[0]
    levels = {"uniform": equal} | ({} if table is None else {"optimal": table[column]})
    figure, axes = new_figure(2)
    where = segments.pivot[0] + (segments.left[0] + segments.right[0]) / 2 * segments.unit[0]
    used = segments.weight[0] > 0
    density_with_levels(
        axes[0], where[used], segments.weight[0][used], levels, title=f"{names[column]}: density and {intervals + 1} levels",
        xlabel=names[column],
    )  # fmt: skip
    variance = found.variance[column] or 1.0
    optimal = {f"{names[column]}, optimal": (np.log2(np.arange(1, CURVE + 1) * samples + 1), curve / rows / samples / variance)}
    points = {
        f"{names[column]}, uniform": (found.bits, found.uniform[:, column] / variance),
        "mean, optimal": (found.bits, found.relative(found.optimal)),
        "mean, uniform": (found.bits, found.relative(found.uniform)),
    }
    labels = {"title": "What a width costs", "xlabel": "bits a value", "ylabel": "mean squared error / variance"}
    rate_curves(axes[1], optimal, points, **labels)
    save(figure, path)
