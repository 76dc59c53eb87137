import numpy as np
from numpy.typing import NDArray

class Gram:
    gram: NDArray[np.int64]
    sums: NDArray[np.int64]
    cross: NDArray[np.float64]
    rows: int
    def __init__(
        self, features: int, bits: int, stride: int, table: NDArray[np.uint8] | None = None, targets: int = 1
    ) -> None: ...
    def add(self, packed: NDArray[np.uint8], labels: NDArray[np.float32], threads: int) -> None: ...
    def matrix(self) -> NDArray[np.int64]: ...
