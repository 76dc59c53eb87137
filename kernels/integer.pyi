from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

SQUARED: int
LOGISTIC: int
HINGE: int

def slab_rows(features: int, bits: int, batch: int) -> int: ...
def aligned_empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]: ...

class IntegerRows:
    count: int
    def __init__(
        self,
        features: int,
        bits: int,
        samples: int,
        stride: int,
        low: NDArray[np.float32],
        step: NDArray[np.float32],
        table: NDArray[np.uint8] | None = None,
    ) -> None: ...
    def hold(
        self, data: NDArray[np.uint8], labels: NDArray[np.float32], weights: NDArray[np.float32] | None = None
    ) -> None: ...

class IntegerState:
    weights: NDArray[np.float32]
    curvature: NDArray[np.float32]
    noise: NDArray[np.float32] | None
    bias: float
    steps: int
    def __init__(
        self,
        features: int,
        batch: int,
        curvature: NDArray[np.float32],
        noise: NDArray[np.float32] | None = None,
        model_bits: int = 8,
        gradient_bits: int = 32,
        residual_bits: int = 8,
        seed: int = 0,
        loss: int = 0,
        proximal: tuple[NDArray[np.float32] | None, ...] | None = None,
    ) -> None: ...
    @property
    def rounded(self) -> NDArray[np.float32]: ...
    @property
    def gradient(self) -> NDArray[np.float32]: ...
    def run(
        self, rows: IntegerRows, order: NDArray[np.uintp], steps: NDArray[np.float32], threads: int
    ) -> tuple[float, float, bool]: ...

class DenseState:
    weights: NDArray[np.float32]
    bias: float
    steps: int
    def __init__(
        self,
        features: int,
        batch: int,
        curvature: NDArray[np.float32],
        mean: NDArray[np.float32],
        scale: NDArray[np.float32],
        loss: int = 0,
        proximal: tuple[NDArray[np.float32] | None, ...] | None = None,
    ) -> None: ...
    def run(
        self,
        data: NDArray[np.float32],
        labels: NDArray[np.float32],
        order: NDArray[np.uintp],
        steps: NDArray[np.float32],
        threads: int,
        weights: NDArray[np.float32] | None = None,
    ) -> tuple[float, bool]: ...
