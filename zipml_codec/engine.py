"""What takes the steps: training in integers from the codes, in float32 from decoded codes, or from float32 rows.

One interface for the three kernels. Integers where the codes allow it: levels are uniform or on the byte grid
(zipml_codec/tables.py), and the gradient's estimator uses the codes' means.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .codec import Codec
from .kernels import integer as integer_kernel
from .kernels import sgd as kernel
from .losses import LOSSES
from .matrix import MatrixEngine
from .nested import GRID_BITS, nested_steps
from .plan import Plan
from .stream import CodeRows, FloatRows, TrainingData, Window, inverse_std, noise_of
from .tables import grid_steps

PACED_VALUES = 1 << 22  # of a window, from which on its time says something
#: steps of tables that are cut out of nested levels
NESTED_GRIDS = tuple(sorted({nested_steps(bits) << (GRID_BITS - bits) for bits in range(2, GRID_BITS)}))
OFF_GRID = 0.05  # steps that float32 may have moved a level off the byte grid


T = TypeVar("T")


class Engine(Protocol):
    """A model on its way, in standardised units."""

    bias: Any  # float, or one a target
    steps: int

    @property
    def weights(self) -> NDArray[np.float32]:
        """The model, padded; the array itself."""

    def begin(self, epoch: int) -> None:
        """Before the first window of an epoch."""

    def run(self, window: Window, steps: NDArray[np.float32], threads: int) -> tuple[float, float, bool]:
        """Steps over a window: the sum of losses, what rounding added to it in expectation, whether all is finite."""


def make_engine(data: TrainingData, plan: Plan) -> Engine:
    """The engine that a plan names, with a zero model; see `engine_of`."""
    if plan.engine == "matrix":
        return MatrixEngine(data, plan)
    if plan.engine == "integer" and isinstance(data, CodeRows):
        return IntegerEngine(data, plan)
    if plan.engine == "dense" and isinstance(data, FloatRows):
        return DenseEngine(data, plan)
    return FloatEngine(data, plan)


def engine_of(data: TrainingData, model_bits: int, gradient_bits: int, estimator: int, whole: bool = False) -> str:
    """Which engine serves: "integer", "dense" (float32 rows in float32), "float", or "matrix" for what looks at whole batches."""
    if whole or data.labels.ndim == 2:
        return "matrix"
    if isinstance(data, CodeRows) and model_bits < 32 and estimator == kernel.MEAN and integer_form(data.codec):
        return "integer"
    if isinstance(data, FloatRows) and model_bits == 32 and gradient_bits == 32:
        return "dense"
    return "float"


def integer_form(codec: Codec) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8] | None] | None:
    """Codes as low + step * u, u the code itself or a byte from a table: (low, step, table), or None.

    low, step : ndarray of shape (features or 1,), float64
    table : ndarray of shape (features or 1, 2**bits), uint8, or None where u is the code
    """
    low, high = codec.bounds[:, 0].astype(np.float64), codec.bounds[:, -1].astype(np.float64)
    if codec.is_uniform:
        return low, (high - low) / (codec.intervals * codec.samples), None
    own = grid_steps(codec.bits, codec.samples) * codec.samples
    if not own:
        return None
    span = np.where(high > low, high - low, 1.0)
    (values,) = codec.values()
    shares = (values.astype(np.float64) - low[:, None]) / span[:, None]
    for steps in (own, *(NESTED_GRIDS if codec.samples == 1 else ())):
        nearest = np.rint(shares * steps)
        if np.abs(shares * steps - nearest).max() <= OFF_GRID:
            return low, (high - low) / steps, nearest.astype(np.uint8)
    return None


class _OfState:
    """What the kernels' states have alike."""

    _state: Any

    @property
    def weights(self) -> NDArray[np.float32]:
        """The model, padded; the array itself."""
        weights: NDArray[np.float32] = self._state.weights
        return weights

    @property
    def bias(self) -> float:
        """The intercept."""
        return float(self._state.bias)

    @bias.setter
    def bias(self, value: float) -> None:
        self._state.bias = value

    @property
    def steps(self) -> int:
        """Steps taken."""
        return int(self._state.steps)

    @steps.setter
    def steps(self, value: int) -> None:
        self._state.steps = value


class Pace:
    """Which number of threads is faster just now: all, or one.

    Kernels whose threads wait for each other every few microseconds lose many times over when another program holds a core.
    Results do not depend on the threads, so each window may have its own number: the faster one so far, the other being
    tried again from time to time, less often the longer it loses.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}  # a value, by number of threads
        self._windows, self._next, self._wait = 0, 1, 8

    def threads(self, most: int) -> int:
        """For the next window."""
        if most == 1 or not self._seconds:
            return most
        faster = min(self._seconds, key=lambda count: self._seconds[count])
        other = 1 if faster != 1 else most
        if other not in self._seconds or self._windows >= self._next:
            return other
        return faster

    def run(self, most: int, values: int, work: Callable[[int], T]) -> T:
        """What `work` gives for the next window, of so many values, with the threads that it is called with."""
        threads, begun = self.threads(most), time.perf_counter()
        result = work(threads)
        self.note(threads, values, time.perf_counter() - begun)
        return result

    def note(self, threads: int, values: int, seconds: float) -> None:
        """What a window took; small ones tell nothing."""
        if values < PACED_VALUES:
            return
        before = min(self._seconds.values(), default=0.0)
        tried = self._windows >= self._next
        self._seconds[threads] = seconds / values
        self._windows += 1
        if tried:
            lost = seconds / values > before
            self._wait = min(2 * self._wait, 256) if lost else 8
            self._next = self._windows + self._wait


class FloatEngine(_OfState):
    """Rows are decoded, or standardised, tile by tile inside the cache; float32 arithmetic.

    D is the variance of a code's mean; where the residual is of one sample, as in double-sampling, it varies `samples`
    times as much: mean (q.x + b0 - y)^2 exceeds the loss of the data by samples * x'Dx.
    """

    def __init__(self, data: TrainingData, plan: Plan) -> None:
        self._data, self._plan = data, plan
        noise = noise_of(data)
        of_residual = noise * data.samples if plan.estimator == kernel.DOUBLE else noise
        self._state = kernel.State(
            data.shape[1],
            plan.batch,
            (-plan.share * noise).astype(np.float32),
            of_residual.astype(np.float32) if LOSSES[plan.loss].squared else None,
            plan.model_bits,
            plan.gradient_bits,
            plan.seed,
            LOSSES[plan.loss].kernel,
            plan.penalty.proximal(data.std),
        )
        self._rows = data.rows(plan.estimator, 0)
        self._state.bias = plan.bias

    def begin(self, epoch: int) -> None:
        """Fresh samples for double sampling."""
        self._rows = self._data.rows(self._plan.estimator, (self._plan.seed + 1 + epoch) % 2**64)

    def run(self, window: Window, steps: NDArray[np.float32], threads: int) -> tuple[float, float, bool]:
        """Steps over a window."""
        self._rows.hold(window.data, window.labels, window.numbers, window.weights)
        loss, noise, finite = self._state.run(self._rows, window.order, steps, threads)
        return loss, noise, finite


class IntegerEngine(_OfState):
    """Codes, model and residuals as integers: kernels/integer_steps.c."""

    def __init__(self, data: CodeRows, plan: Plan) -> None:
        form = integer_form(data.codec)
        assert form is not None
        self._pace = Pace()
        low, step, table = form
        scale = inverse_std(data.std)
        noise = noise_of(data)
        features = self._features = data.shape[1]
        self._rows = integer_kernel.IntegerRows(
            features,
            data.codec.bits,
            data.codec.samples,
            data.codec.stride,
            np.broadcast_to((low - data.mean) * scale, features).astype(np.float32),
            np.broadcast_to(step * scale, features).astype(np.float32),
            table,
        )
        self._state = integer_kernel.IntegerState(
            features,
            plan.batch,
            (-plan.share * noise).astype(np.float32),
            noise.astype(np.float32) if LOSSES[plan.loss].squared else None,
            plan.model_bits,
            plan.gradient_bits,
            plan.residual_bits,
            plan.seed,
            LOSSES[plan.loss].kernel,
            plan.penalty.proximal(data.std),
        )
        self._state.bias = plan.bias

    def begin(self, epoch: int) -> None:
        """Nothing: rounding is numbered by the steps."""

    def run(self, window: Window, steps: NDArray[np.float32], threads: int) -> tuple[float, float, bool]:
        """Steps over a window."""
        self._rows.hold(window.data, window.labels, window.weights)
        count = self._features * len(window.order)
        found: tuple[float, float, bool] = self._pace.run(
            threads, count, lambda threads: self._state.run(self._rows, window.order, steps, threads)
        )
        return found


class DenseEngine(_OfState):
    """Float32 rows at the speed of memory: kernels/dense.c."""

    def __init__(self, data: FloatRows, plan: Plan) -> None:
        features = self._features = data.shape[1]
        self._pace = Pace()
        self._state = integer_kernel.DenseState(
            features,
            plan.batch,
            np.zeros(features, np.float32),
            data.mean.astype(np.float32),
            inverse_std(data.std).astype(np.float32),
            LOSSES[plan.loss].kernel,
            plan.penalty.proximal(data.std),
        )
        self._state.bias = plan.bias

    def begin(self, epoch: int) -> None:
        """Nothing."""

    def run(self, window: Window, steps: NDArray[np.float32], threads: int) -> tuple[float, float, bool]:
        """Steps over a window."""
        count = self._features * len(window.order)
        given = (window.data, window.labels, window.order, steps)
        loss, finite = self._pace.run(threads, count, lambda threads: self._state.run(*given, threads, window.weights))
        return loss, 0.0, finite
