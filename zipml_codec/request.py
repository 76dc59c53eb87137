"""What `compress` is asked for: its options, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from .arrays import check_choice, check_integer, check_number, check_seed
from .codec import ROUNDINGS, Codec, interval_count
from .errors import OptionError
from .formats.container import check_zstd
from .hardware import code_bits, hardware_intervals, hardware_width
from .tables import GRIDS

LEVELS = ("optimal", "uniform")
NONFINITE = ("raise", "drop")
LAYOUTS = ("rows", "weave")
COARSEST = 2  # precision from which on planes are read, where it is left open
TARGET_ERROR = 0.01  # of bits="auto", relative to the variance of a column


def code_widths(bits: int | str | None, samples: int | None, layout: str, rounding: str, levels: Any) -> tuple[int | str, int]:
    """Bits and samples, those that were left open among them."""
    if bits is not None and hardware_width(levels) is not None:
        raise OptionError(f"levels={levels!r} have their own width: leave bits={bits} (--bits) out")
    planes = layout == "weave"
    if samples is None:
        samples = 1 if planes or rounding == "nearest" else 2
    return (8 if planes else 4) if bits is None else bits, samples


@dataclass(frozen=True)
class Request:
    """The options of `compress`, checked."""

    bits: int | str = 4
    samples: int = 2
    levels: Any = "optimal"
    shared_levels: bool = False
    rounding: str = "stochastic"
    seed: int = 0
    zstd: int | None = None
    threads: int | None = None
    nonfinite: str = "raise"
    grid: str = "auto"
    target_error: float | None = None
    clip: bool = False
    keep_exact: bool = False
    layout: str = "rows"
    coarsest: int | None = None

    def __post_init__(self) -> None:
        width = hardware_width(self.levels)
        if width is not None:
            samples = check_integer("samples", self.samples, 1, 255)
            object.__setattr__(self, "bits", code_bits(hardware_intervals(width, samples), samples))
        if isinstance(self.bits, str):
            if self.bits != "auto":
                raise OptionError(f"bits must be an integer, 1..8, or 'auto'; got {self.bits!r}")
            check_integer("samples", self.samples, 1, 255)
        else:
            interval_count(self.bits, self.samples)
            object.__setattr__(self, "bits", int(self.bits))
        object.__setattr__(self, "samples", int(self.samples))
        kept = isinstance(self.levels, Codec | PathLike) or (
            isinstance(self.levels, str) and (self.chosen or Path(self.levels).exists())
        )
        if not kept:
            names = ", ".join(map(repr, (*LEVELS, "harp:Q")))
            raise OptionError(f"levels must be one of {names}, a Codec, or a file of levels; got {self.levels!r}")
        check_choice("rounding", self.rounding, ROUNDINGS)
        check_choice("nonfinite", self.nonfinite, NONFINITE)
        check_choice("grid", self.grid, GRIDS)
        if self.rounding == "nearest" and self.samples != 1:
            raise OptionError(f"rounding='nearest' makes one sample; samples={self.samples} must be 1")
        if self.target_error is not None:
            check_number("target_error", self.target_error, 0, open_low=True)
            if self.bits != "auto":
                raise OptionError("target_error chooses the width: it goes with bits='auto'")
        if self.clip and self.given is None:
            raise OptionError("clip goes with given levels: levels chosen from the data itself cover it")
        object.__setattr__(self, "seed", check_seed(self.seed))
        check_zstd(self.zstd)
        self._check_layout()

    def _check_layout(self) -> None:
        check_choice("layout", self.layout, LAYOUTS)
        if self.layout == "rows":
            if self.coarsest is not None:
                raise OptionError("coarsest is of planes: it goes with layout='weave' (--layout weave)")
            return
        if hardware_width(self.levels) is not None:
            raise OptionError(f"levels={self.levels!r} are not nested, as layout='weave' needs them: take 'uniform' or 'optimal'")
        if isinstance(self.bits, str):
            raise OptionError("layout='weave' is read at any precision up to bits: give them as a number, 8 say")
        if self.samples != 1 or self.rounding != "stochastic":
            raise OptionError("layout='weave' has one sample a code, rounded at random: leave samples and rounding out")
        if self.zstd is not None:
            raise OptionError("layout='weave' is read plane by plane, which zstd's frames do not allow: leave zstd out")
        if self.coarsest is not None:
            object.__setattr__(self, "coarsest", check_integer("coarsest", self.coarsest, 1, self.bits))

    @property
    def least(self) -> int:
        """The least precision that planes are read at."""
        return min(COARSEST, int(self.bits)) if self.coarsest is None else self.coarsest

    @property
    def chosen(self) -> bool:
        """Whether levels are chosen from the data."""
        return isinstance(self.levels, str) and (self.levels in LEVELS or hardware_width(self.levels) is not None)

    @property
    def given(self) -> Codec | Path | None:
        """Levels that are given, not chosen."""
        if isinstance(self.levels, Codec):
            return self.levels
        return None if self.chosen else Path(self.levels)
