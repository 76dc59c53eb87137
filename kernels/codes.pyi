import numpy as np
from numpy.typing import ArrayLike, NDArray

GROUP: int

def pack(codes: ArrayLike, bits: int, stride: int | None = None, threads: int = 1) -> NDArray[np.uint8]: ...
def unpack(packed: ArrayLike, features: int, bits: int, threads: int = 1) -> NDArray[np.uint8]: ...

class Coder:
    def __init__(
        self,
        features: int,
        bits: int,
        samples: int,
        stride: int,
        levels: tuple[NDArray[np.float32], ...],
        values: tuple[NDArray[np.float32], ...],
        uniform: bool,
        shared: bool,
    ) -> None: ...
    def encode(
        self,
        x: NDArray[np.float32],
        out: NDArray[np.uint8],
        seed: int,
        first_row: int,
        nearest: bool,
        threads: int,
        noise: NDArray[np.float32] | None = None,
        error: NDArray[np.float32] | None = None,
    ) -> bool: ...
    def decode(self, packed: NDArray[np.uint8], out: NDArray[np.float32], threads: int) -> None: ...
    def draw(
        self,
        packed: NDArray[np.uint8],
        out: NDArray[np.float32],
        seed: int,
        first_row: int,
        rows: NDArray[np.uint64] | None,
        threads: int,
    ) -> None: ...
