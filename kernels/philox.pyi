import numpy as np
from numpy.typing import ArrayLike, NDArray

ENCODE: int
DRAW: int
ORDER: int
SPLIT: int
SAMPLE: int
MODEL: int
EXPORT: int

def words(counters: ArrayLike, seed: int) -> NDArray[np.uint32]: ...
def keys(seed: int, purpose: int, column: int, first: int, count: int) -> NDArray[np.uint64]: ...
