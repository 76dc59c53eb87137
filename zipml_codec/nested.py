"""Levels of which every second, every fourth and so on are levels too: what any precision is read from (FORMAT.md, section 7).

At the coarsest precision P there are 2**P - 1 intervals, uniform or optimal; each bit more halves all of them. Between two of
its levels codes and levels go up alike: so a code rounded at random to a multiple of 2**(bits - p) is the value rounded at random
to the levels of p bits. The dither that does it takes the 2**(bits - P) - 1 codes above the top.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .codec import Codec
from .errors import DataError, LevelError, OptionError
from .formats.planes import top_code
from .statistics import ColumnStatistics
from .tables import LevelTable, ends_of, optimal_table

BYTE_STEPS = 255
GRID_BITS = 6  # precisions up to this are trained in integers from tables
OFF_LINE = 1e-3  # of an interval, that float32 may have moved a level


def nested_steps(coarsest: int) -> int:
    """Steps of the grid for levels of the coarsest precision, such that those up to GRID_BITS bits are on the byte grid."""
    intervals = 2**coarsest - 1
    return intervals * ((BYTE_STEPS >> max(GRID_BITS - coarsest, 0)) // intervals) if coarsest <= GRID_BITS else 0


def nested_codec(
    statistics: ColumnStatistics, levels: str, bits: int, coarsest: int, threads: int, grid: str = "auto"
) -> tuple[Codec, LevelTable | None]:
    """A codec of "uniform" or "optimal" levels for planes, and of the latter what the choice of the coarsest found.

    Raises
    ------
    LevelError
        A column's range is too narrow or too wide for float32 levels.
    """
    features, top = statistics.features, top_code(bits, coarsest)
    low, high = ends_of(statistics)
    if levels == "uniform" or coarsest == 1:  # one interval is uniform
        return Codec.uniform(low, _beyond(low, high, bits, top), bits, 1, features=features), None
    table = optimal_table(statistics, coarsest, 1, threads, grid, nested_steps(coarsest))
    return Codec(_divided(table.levels, bits, coarsest), bits, 1, features=features), table


def _beyond(low: NDArray[np.float32], high: NDArray[np.float32], bits: int, top: int) -> NDArray[np.float32]:
    """Where 2**bits - 1 intervals end of which `top` reach from `low` to `high`: no value up to `high` has a code above `top`."""
    with np.errstate(over="ignore", invalid="ignore"):
        end = (low + (high.astype(np.float64) - low) * ((2**bits - 1) / top)).astype(np.float32)
        step = np.nextafter(end, np.float32(np.inf)) - end
        while (above := _passes(low, high, end, bits, top)).any():
            end = np.where(above, end + step, end)
            step *= 2  # near 0 one step is nothing beside the range
    if np.isinf(end).any():
        feature = int(np.argmax(np.isinf(end)))
        raise LevelError(f"levels of feature {feature} reach beyond what float32 holds: rescale the feature", feature)
    return np.asarray(end, np.float32)


def _passes(
    low: NDArray[np.float32], high: NDArray[np.float32], end: NDArray[np.float32], bits: int, top: int
) -> NDArray[np.bool_]:
    """Whether `high` is above code `top` of uniform levels from `low` to `end`, in the arithmetic of FORMAT.md, section 1."""
    codes, span = 2**bits - 1, end.astype(np.float64) - low
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        inverse = np.where(span > 0, codes / np.where(span > 0, span, 1), 0).astype(np.float32)
        inverse = np.where((end - low) * inverse < codes, np.nextafter(inverse, np.float32(np.inf)), inverse)
        above = (span > 0) & np.isfinite(inverse) & np.isfinite(end) & ((high - low) * inverse > top)
    return np.asarray(above)


def _divided(levels: NDArray[np.float32], bits: int, coarsest: int) -> NDArray[np.float32]:
    """Each interval of the coarsest levels cut evenly; the last level fills up the table."""
    parts, coarse, top = 2 ** (bits - coarsest), levels.astype(np.float64), top_code(bits, coarsest)
    fine = coarse[:, :-1, None] + np.diff(coarse, axis=1)[..., None] * (np.arange(parts) / parts)
    table = np.repeat(levels[:, -1:], 2**bits, axis=1)
    table[:, :top] = np.minimum(fine.reshape(len(levels), -1), coarse[:, -1:]).astype(np.float32)
    return np.maximum.accumulate(table, axis=1)


def greatest(codec: Codec, coarsest: int) -> NDArray[np.float32]:
    """The greatest value of each feature, or of all where they share levels, that leaves room for the dither."""
    top = top_code(codec.bits, coarsest)
    last, ends = codec.levels[:, top], codec.bounds[:, [0, -1]]
    step = last - np.nextafter(last, np.float32(-np.inf))
    while codec.is_uniform and (above := _passes(ends[:, 0], last, ends[:, 1], codec.bits, top)).any():
        last, step = np.where(above, last - step, last), 2 * step
    return np.asarray(last, np.float32)


def check_nested(codec: Codec, coarsest: int, high: NDArray[np.float32]) -> None:
    """Refuse given levels that are not nested, or data above the last that leaves room for the dither.

    Raises
    ------
    OptionError, DataError
    """
    advice = "take levels of another file with layout='weave' and the same coarsest (--coarsest)"
    if codec.samples != 1 or codec.rounding != "stochastic":
        raise OptionError(f"layout='weave' takes levels of one sample a code, rounded at random: {advice}")
    if codec.bits < coarsest:
        raise OptionError(f"the given levels have {codec.bits} bits, fewer than coarsest={coarsest} (--coarsest): {advice}")
    top, parts = top_code(codec.bits, coarsest), 2 ** (codec.bits - coarsest)
    table = codec.levels.astype(np.float64)
    if not codec.is_uniform:
        coarse = table[:, : top + 1 : parts]
        line = coarse[:, :-1, None] + np.diff(coarse, axis=1)[..., None] * (np.arange(parts) / parts)
        off = np.abs(table[:, :top] - line.reshape(len(table), -1))
        width = np.repeat(np.diff(coarse, axis=1) / parts, parts, axis=1)
        if (off > OFF_LINE * width + np.spacing(np.abs(table[:, :top]).astype(np.float32))).any():
            raise OptionError(f"the given levels are not nested, each interval of {coarsest} bits cut evenly: {advice}")
    last, ends = np.broadcast_to(table[:, top], high.shape), codec.bounds[:, [0, -1]]
    above = _passes(ends[:, 0], high, ends[:, 1], codec.bits, top) if codec.is_uniform else last < high
    if above.any():
        feature = int(np.argmax(above))
        raise DataError(
            f"feature {feature} goes up to {high[feature]}, above {last[feature]}, the last of the given levels that leaves room "
            f"for the dither of layout='weave': {advice}"
        )
