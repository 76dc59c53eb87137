import numpy as np
from numpy.typing import NDArray

BLOCK: int

class Rows:
    def __init__(
        self, features: int, row_bytes: int, label: int, width: int, pairs: bool, offset: int, bias: bool
    ) -> None: ...
    def fill(
        self,
        packed: NDArray[np.uint8],
        bits: int,
        samples: int,
        first: int,
        tops: NDArray[np.uint8],
        labels: NDArray[np.uint32] | None,
        seed: int,
        first_row: int,
        threads: int,
    ) -> NDArray[np.uint8]: ...
    def read(self, image: NDArray[np.uint8], top: int, threads: int) -> NDArray[np.uint8] | None: ...

def weave(
    x: NDArray[np.float32], low: NDArray[np.float64], span: NDArray[np.float64], bias: bool, threads: int
) -> NDArray[np.uint8]: ...
def unweave(
    lines: NDArray[np.uint8], rows: int, low: NDArray[np.float64], span: NDArray[np.float64], bias: bool, threads: int
) -> NDArray[np.float32]: ...
