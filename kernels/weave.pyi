import numpy as np
from numpy.typing import NDArray

def weave(packed: NDArray[np.uint8], features: int, bits: int, planes: NDArray[np.uint8], threads: int) -> None: ...
def unweave_chunks(
    buffer: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    counts: NDArray[np.int64],
    firsts: NDArray[np.uint64],
    chunk_rows: int,
    pitch: int,
    features: int,
    precision: int,
    spread: int,
    seed: int,
    packed: NDArray[np.uint8],
    threads: int,
) -> None: ...
def dither(
    packed: NDArray[np.uint8], features: int, bits: int, spread: int, seed: int, first: int, subtract: bool, threads: int
) -> None: ...
def count(packed: NDArray[np.uint8], features: int, bits: int, counts: NDArray[np.uint64], threads: int) -> None: ...
