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
def count(
    x: NDArray[np.float32],
    base: NDArray[np.float32],
    scale: NDArray[np.float32],
    cells: int,
    counts: NDArray[np.uint32],
    threads: int,
) -> None: ...
def optimal_marks(
    counts: NDArray[np.float64],
    origin: NDArray[np.float64],
    extent: NDArray[np.float64],
    steps: int,
    intervals: int,
    threads: int,
) -> tuple[NDArray[np.uint16], NDArray[np.float64]]: ...
