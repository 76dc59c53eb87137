import numpy as np
from numpy.typing import NDArray

def windows(
    units: NDArray[np.int64], unit: int, window: int, rows: int, seed: int, column: int, first: int, threads: int
) -> NDArray[np.uint64]: ...
def shuffle(values: NDArray[np.uint64], seed: int, column: int, window: int) -> None: ...
