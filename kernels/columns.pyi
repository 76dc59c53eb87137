from typing import Any

import numpy as np
from numpy.typing import NDArray

def scan(
    x: NDArray[np.float32],
    shift: NDArray[np.float32],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    sum: NDArray[np.float64],
    square: NDArray[np.float64],
    threads: int,
) -> bool: ...
def sketch(
    x: NDArray[np.float32],
    pivot: NDArray[np.float32],
    scale: NDArray[np.float32],
    first: NDArray[np.int32],
    shift: NDArray[np.int32],
    cells: int,
    room: NDArray[Any],
    threads: int,
) -> None: ...
def regroup(
    room: NDArray[Any],
    first: NDArray[np.int32],
    shift: NDArray[np.int32],
    to_first: NDArray[np.int32],
    to_shift: NDArray[np.int32],
) -> None: ...
def keys(values: NDArray[np.float32], pivot: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.int32]: ...
def best_levels_of(
    weight: NDArray[np.float64],
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    intervals: int,
    steps: int,
    most: int,
    sweeps: int,
    threads: int,
) -> tuple[NDArray[np.float64], NDArray[np.uint16], NDArray[np.float64]]: ...
def cost_of_levels(
    weight: NDArray[np.float64],
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    levels: NDArray[np.float64],
) -> NDArray[np.float64]: ...

CELL: np.dtype[Any]
