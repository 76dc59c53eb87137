"""Checks of arguments: options and arrays, with errors that say what to do."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError, OptionError
from .kernels import openmp

MAX_SEED = 2**64 - 1
MAX_THREADS = 1024
LINE = 64  # bytes of a cache line


def row_bytes(features: int, bits: int) -> int:
    """Bytes that a row's codes take, without padding."""
    return (features * bits + 7) // 8


def row_stride(features: int, bits: int) -> int:
    """Bytes from row to row: whole cache lines where that wastes at most an eighth (FORMAT.md, section 3)."""
    used = row_bytes(features, bits)
    lines = -(-used // LINE) * LINE
    return lines if (lines - used) * 8 <= lines else used


def check_integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """`value` as an int in low..high, else an OptionError that names the option."""
    limits = f"at least {low}" if high is None else f"{low}..{high}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise OptionError(f"{name} must be an integer, {limits}; got {value!r}")
    if value < low or (high is not None and value > high):
        raise OptionError(f"{name} must be {limits}; got {value}")
    return int(value)


def check_number(name: str, value: Any, low: float, high: float = np.inf, *, open_low: bool = False) -> float:
    """`value` as a finite float in [low, high], or ]low, high] where `open_low`."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise OptionError(f"{name} must be a number; got {value!r}") from None
    if not np.isfinite(number) or number > high or number < low or (open_low and number == low):
        limits = f"{'above' if open_low else 'at least'} {low:g}" + (
            f" and at most {high:g}" if np.isfinite(high) else ""
        )
        raise OptionError(f"{name} must be {limits}; got {value!r}")
    return number


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """`value` if it is one of `choices`, else an OptionError that lists them."""
    if np.ndim(value) or value not in choices:
        raise OptionError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")
    return value


def check_seed(seed: Any) -> int:
    """A seed in 0..2**64-1."""
    return check_integer("seed", seed, 0, MAX_SEED)


def thread_count(threads: int | None) -> int:
    """How many threads to use: `threads`, else what OpenMP allows, and no more than there are physical cores to run on.

    OpenMP's limit is OMP_NUM_THREADS, or what threadpoolctl has set, or 1 inside a parallel region: a library that calls
    this one from its own threads says so there, and joblib's workers inherit it.
    """
    if threads is not None:
        return check_integer("threads", threads, 1, MAX_THREADS)
    configured = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    asked = int(configured) if configured.isdecimal() else 0
    cores = asked or physical_cores()  # asked for: even more than there are cores
    return max(1, min(cores, openmp.limit() or cores, MAX_THREADS))


def physical_cores() -> int:
    """Cores that this process may run on, hardware threads of one counted once where the system tells them apart."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    return _cores_of(frozenset(os.sched_getaffinity(0)))


@cache  # some files are read for it: more time than decoding a row takes
def _cores_of(allowed: frozenset[int]) -> int:
    cores = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(tuple((topology / name).read_text() for name in ("physical_package_id", "core_id")))
        except OSError:
            return len(allowed)
    return len(cores)


def as_rows(X: Any, features: int | None = None, name: str = "X") -> NDArray[np.float32]:
    """A two-dimensional C-ordered float32 array of X's values; a view where X is one already.

    Parameters
    ----------
    X : array_like of shape (rows, features)
        Real numbers of any dtype.
    features : int, optional
        The width that is required.
    name : str
        What messages call it.

    Raises
    ------
    DataError
        Not two-dimensional, not real numbers, or of another width.
    """
    array = np.asarray(X)
    if array.ndim != 2:
        raise DataError(f"{name} must have two dimensions, (rows, features); got shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} must hold real numbers; got dtype {array.dtype}")
    if features is not None and array.shape[1] != features:
        raise DataError(f"{name} has {array.shape[1]} features; {features} are expected")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is reported as such
        return np.ascontiguousarray(array, dtype=np.float32)
