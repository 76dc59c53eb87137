"""The levels of the published FPGA designs as a file's: equidistant, as many as a sample of Q bits has there (docs/fpga.md).

That is 2**(Q-1) + 1, so that the greatest is exactly 1. A file's code of k samples has s*k + 1 states for s intervals: the fewest
bits that hold them leave room for more intervals than that, which repeat the last level (FORMAT.md, section 1).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .codec import Codec
from .errors import OptionError
from .formats.fpga import WIDTHS

STATES = 256  # of a code of 8 bits


def hardware_width(levels: Any) -> int | None:
    """Q of levels that are given as "harp:Q"; None where they are others.

    Raises
    ------
    OptionError
        Another Q than 1, 2, 4 or 8.
    """
    found = re.fullmatch(r"harp:(.*)", levels) if isinstance(levels, str) else None
    if found is None:
        return None
    if found[1] not in map(str, WIDTHS):
        raise OptionError(f"levels={levels!r}: the hardware's codes have 1, 2, 4 or 8 bits: harp:1, harp:2, harp:4 or harp:8")
    return int(found[1])


def hardware_intervals(width: int, samples: int) -> int:
    """Intervals of codes of `width` bits on the hardware, of files with so many samples.

    2**(width-1), all; but 127 of 128 where two samples would need 257 states.

    Raises
    ------
    OptionError
        The samples do not fit in a code of 8 bits.
    """
    intervals = 1 << (width - 1)
    if (width, samples) == (8, 2):
        return intervals - 1
    if intervals * samples >= STATES:
        most = 2 if width == 8 else (STATES - 1) // intervals
        raise OptionError(f"samples={samples} of {width} bits do not fit in a code of 8 bits: at most {most}")
    return intervals


def code_bits(intervals: int, samples: int) -> int:
    """The fewest bits of a code with so many intervals and samples."""
    return (intervals * samples).bit_length()


def hardware_codec(
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    intervals: int,
    samples: int,
    rounding: str = "stochastic",
    features: int | None = None,
) -> Codec:
    """The codec of so many equidistant intervals from `low` to `high`, float32 (features,), or one of each for all `features`.

    Raises
    ------
    LevelError
        A range is too narrow or too wide for float32 levels.
    """
    bits = code_bits(intervals, samples)
    if (2**bits - 1) // samples == intervals:
        return Codec.uniform(low, high, bits, samples, rounding, features)
    start, span = low.astype(np.float64)[:, None], (high.astype(np.float64) - low)[:, None]
    shares = np.minimum(np.arange((2**bits - 1) // samples + 1) / intervals, 1)
    levels = np.clip(start + shares * span, low[:, None], high[:, None]).astype(np.float32)
    levels[:, intervals:] = high[:, None]
    return Codec(np.maximum.accumulate(levels, axis=1), bits, samples, rounding, features)


def hardware_form(codec: Codec) -> tuple[int, int] | None:
    """Q and the number of intervals of a codec whose levels the hardware has, else None."""
    sizes = [(width, 2 ** (width - 1)) for width in WIDTHS] + [(8, 127)]
    for width, intervals in sizes:
        if code_bits(intervals, codec.samples) != codec.bits:
            continue
        same = hardware_codec(codec.bounds[:, 0], codec.bounds[:, -1], intervals, codec.samples, features=codec.features)
        if same.bounds.shape == codec.bounds.shape and np.array_equal(same.bounds, codec.bounds):
            return width, intervals
    return None


def tops_of(codec: Codec, intervals: int) -> NDArray[np.uint8]:
    """The greatest code of each feature, uint8 (features,): that of the top level; 0 of a feature whose levels are all equal."""
    varies = codec.bounds[:, -1] > codec.bounds[:, 0]
    return np.broadcast_to(np.where(varies, intervals * codec.samples, 0).astype(np.uint8), codec.features)
