import numpy as np
from numpy.typing import NDArray

MAX_STEP: int

def harp(
    rows: NDArray[np.uint8], x: NDArray[np.int32], next: NDArray[np.int32], bits: int, is_signed: bool, step: int, mask: int
) -> int: ...
def pynq(
    rows: NDArray[np.uint8], x: NDArray[np.int32], next: NDArray[np.int32], bits: int, is_signed: bool, step: int, mask: int
) -> int: ...
def mlweaving(
    data: NDArray[np.uint8], labels: NDArray[np.int32], x: NDArray[np.int32], next: NDArray[np.int32], planes: int, step: int,
    mask: int,
) -> int: ...
def floats(
    a1: NDArray[np.float64], a2: NDArray[np.float64], labels: NDArray[np.float64], x: NDArray[np.float64],
    next: NDArray[np.float64], step: float, number: int, mask: int, last: int,
) -> None: ...
def decode(
    rows: NDArray[np.uint8], features: int, bits: int, is_signed: bool, at: int, step: int
) -> NDArray[np.float64]: ...
