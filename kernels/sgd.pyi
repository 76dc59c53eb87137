import numpy as np
from numpy.typing import NDArray

MEAN: int
COLLAPSED: int
DOUBLE: int
SQUARED: int
LOGISTIC: int
HINGE: int

class Rows:
    count: int
    def __init__(
        self,
        features: int,
        bits: int = 0,
        samples: int = 1,
        stride: int = 0,
        affine: tuple[NDArray[np.float32], ...] | None = None,
        table: NDArray[np.float32] | None = None,
        mean: NDArray[np.float32] | None = None,
        scale: NDArray[np.float32] | None = None,
        correction: NDArray[np.float32] | None = None,
        estimator: int = 0,
        draw_seed: int = 0,
    ) -> None: ...
    def hold(
        self,
        data: NDArray[np.uint8] | NDArray[np.float32],
        labels: NDArray[np.float32] | None = None,
        numbers: NDArray[np.uint64] | None = None,
        weights: NDArray[np.float32] | None = None,
    ) -> None: ...
    def predict(
        self, weights: NDArray[np.float32], bias: float, order: NDArray[np.uintp] | None, threads: int
    ) -> NDArray[np.float32]: ...
    def values(self, threads: int) -> NDArray[np.float32]: ...

class State:
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
        model_bits: int = 32,
        gradient_bits: int = 32,
        seed: int = 0,
        loss: int = 0,
        proximal: tuple[NDArray[np.float32] | None, ...] | None = None,
    ) -> None: ...
    def run(
        self, rows: Rows, order: NDArray[np.uintp], steps: NDArray[np.float32], threads: int
    ) -> tuple[float, float, bool]: ...

def quantize(v: NDArray[np.float32], levels: int, scale: float, seed: int, number: int) -> NDArray[np.float32]: ...
