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
from .tables import GRIDS

LEVELS = ("optimal", "uniform")
NONFINITE = ("raise", "drop")
TARGET_ERROR = 0.01  # of bits="auto", relative to the variance of a column


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

    def __post_init__(self) -> None:
        if isinstance(self.bits, str):
            if self.bits != "auto":
                raise OptionError(f"bits must be an integer, 1..8, or 'auto'; got {self.bits!r}")
            check_integer("samples", self.samples, 1, 255)
        else:
            interval_count(self.bits, self.samples)
            object.__setattr__(self, "bits", int(self.bits))
        object.__setattr__(self, "samples", int(self.samples))
        kept = isinstance(self.levels, Codec | PathLike) or (
            isinstance(self.levels, str) and (self.levels in LEVELS or Path(self.levels).exists())
        )
        if not kept:
            names = ", ".join(map(repr, LEVELS))
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

    @property
    def given(self) -> Codec | Path | None:
        """Levels that are given, not chosen."""
        if isinstance(self.levels, Codec):
            return self.levels
        return None if isinstance(self.levels, str) and self.levels in LEVELS else Path(self.levels)
