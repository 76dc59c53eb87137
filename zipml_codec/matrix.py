"""Steps of several targets at once, and all that looks at whole batches: decoded rows and BLAS.

One pass over the codes serves all targets. Here too are constraints that tie coefficients to each other (balls), slopes from
products of independent samples (`polynomial`) and from rows fetched exactly (`refetch`). Sums are BLAS's: another number of its
threads may move the last bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import OptionError
from .kernels import sgd as kernel
from .losses import LOSSES
from .plan import Plan
from .polynomial import Polynomial, approximate
from .refetch import Cells, Refetch, Sketch
from .stream import BLOCK, CodeRows, TrainingData, Window, inverse_std, noise_of

TARGET = 1 << 40  # apart are the numbers of the targets' rounded vectors


class MatrixEngine:
    """A model of (targets, features) on its way, in standardised units; `Engine`'s interface, with a bias a target."""

    def __init__(self, data: TrainingData, plan: Plan) -> None:
        self._data, self._plan, self._loss = data, plan, LOSSES[plan.loss]
        features = self._features = data.shape[1]
        self.targets = 1 if data.labels.ndim == 1 else data.labels.shape[1]
        shape = (self.targets, -(-features // BLOCK) * BLOCK)
        self._weights = np.zeros(shape[1:] if data.labels.ndim == 1 else shape, np.float32)
        self._bias = np.broadcast_to(np.asarray(plan.bias, np.float64), self.targets).copy()
        self.steps = 0
        self._noise = noise_of(data)
        self._rows = data.rows(kernel.MEAN, 0)
        self._draw_seed = plan.seed
        self._polynomial: Polynomial | None = None
        self._refetch: Refetch | None = None
        self.seen = self.fetched = 0
        self._slopes: dict[str, float] = {"rows": 0, "outside": 0, "bias": 0.0, "variance": 0.0}
        if plan.slopes == "chebyshev":
            self._polynomial = approximate(plan.loss, plan.polynomial)
        elif plan.slopes in ("refetch", "sketch"):
            assert isinstance(data, CodeRows)
            sketch = plan.slopes == "sketch"
            self._refetch = Sketch(data, plan.sketch_size, plan.failure, plan.seed, plan.threads) if sketch else Cells(data)

    @property
    def weights(self) -> NDArray[np.float32]:
        """The model, padded: (features,), or (targets, features) for labels of two dimensions; the array itself."""
        return self._weights

    @property
    def bias(self) -> Any:
        """The intercept, or those of all targets."""
        return float(self._bias[0]) if self._weights.ndim == 1 else self._bias.copy()

    @bias.setter
    def bias(self, value: Any) -> None:
        self._bias[:] = value

    def begin(self, epoch: int) -> None:
        """Fresh samples; what is reported is of the last epoch."""
        self._draw_seed = (self._plan.seed + 1 + epoch) % 2**64
        self.seen = self.fetched = 0
        self._slopes = dict.fromkeys(self._slopes, 0)

    def run(self, window: Window, steps: NDArray[np.float32], threads: int) -> tuple[float, float, bool]:
        """Steps over a window: sums of the targets' mean loss and of what rounding added to it; whether all is finite."""
        loss = noise = 0.0
        batch = self._plan.batch
        for number, start in enumerate(range(0, len(window.order), batch)):
            with np.errstate(over="ignore", invalid="ignore"):  # divergence is told by what comes back
                part_loss, part_noise = self._step(window, window.order[start : start + batch], float(steps[number]), threads)
            loss, noise = loss + part_loss, noise + part_noise
            if not (np.isfinite(part_loss) and np.isfinite(self._weights).all() and np.isfinite(self._bias).all()):
                return loss, noise, False
        return loss, noise, True

    def _step(self, window: Window, rows: NDArray[np.uintp], step: float, threads: int) -> tuple[float, float]:
        plan, loss, count = self._plan, self._loss, len(rows)
        master = np.atleast_2d(self._weights)[:, : self._features]
        x = self._rounded(master, plan.model_bits, 2 * self.steps)
        packed = window.data[rows]
        self._rows.hold(packed)
        values = self._rows.values(threads)
        y = window.labels[rows].reshape(count, self.targets).astype(np.float64)
        weight = np.ones((count, 1)) if window.weights is None else window.weights[rows].astype(np.float64)[:, None]
        z = values @ x.T + self._bias
        if self._polynomial is not None:
            slopes, values = self._of_samples(packed, window, rows, x, y, z, threads)
        else:
            if self._refetch is not None:
                z, values = self._fetched_rows(packed, window, rows, x, y, z, values, threads)
            slopes = loss.slope(z, y)
        slopes *= weight
        gradient = (slopes.astype(np.float32).T @ values) / np.float32(count)
        if loss.squared and plan.share:
            gradient -= (plan.share * self._noise).astype(np.float32) * x
        gradient = self._rounded(gradient, plan.gradient_bits, 2 * self.steps + 1)
        stepped = master.astype(np.float64) - step * gradient
        master[:] = plan.penalty.step(stepped, self._data.std, step)
        self._bias -= step * slopes.sum(axis=0) / count
        self.steps += 1
        total = float((loss.value(z, y) * weight).sum()) / self.targets
        added = float(np.sum(self._noise * np.square(x.astype(np.float64)))) / 2 / self.targets * float(weight.sum())
        return total, added if loss.squared else 0.0

    def _rounded(self, vectors: NDArray[Any], bits: int, number: int) -> NDArray[np.float32]:
        """Q of each target's vector (ZipML, section 2.1)."""
        if bits == 32:
            return vectors.astype(np.float32)
        levels = (1 << (bits - 1)) - 1
        given, seed = np.ascontiguousarray(vectors, np.float32), self._plan.seed
        most = np.abs(given).max(axis=1)
        numbers = [number + target * TARGET for target in range(len(given))]
        return np.stack([kernel.quantize(v, levels, float(m), seed, n) for v, m, n in zip(given, most, numbers, strict=True)])

    def _of_samples(
        self,
        packed: NDArray[np.uint8],
        window: Window,
        rows: NDArray[np.uintp],
        x: NDArray[np.float32],
        y: NDArray[np.float64],
        z: NDArray[np.float64],
        threads: int,
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Slopes from products of independent samples, and the sample that they belong to."""
        data, polynomial = self._data, self._polynomial
        assert isinstance(data, CodeRows) and polynomial is not None and window.numbers is not None
        drawn = data.codec.draw(packed, self._draw_seed, rows=window.numbers[rows], threads=threads)
        drawn -= data.mean.astype(np.float32)
        drawn *= inverse_std(data.std).astype(np.float32)
        degree = len(polynomial.powers) - 1
        margins = np.stack([y * (drawn[i] @ x.T + self._bias) for i in range(degree)]) if degree else np.empty((0, *y.shape))
        estimate, margin = polynomial.estimate(margins), y * z
        self._slopes["rows"] += y.size
        self._slopes["outside"] += float((np.abs(margin) > polynomial.span).sum())
        self._slopes["variance"] += float(np.square(estimate - polynomial(margin)).sum())
        self._slopes["bias"] += float(np.abs(polynomial(margin) - self._loss.slope(z, y) * y).sum())
        return y * estimate, drawn[degree]

    def _fetched_rows(
        self,
        packed: NDArray[np.uint8],
        window: Window,
        rows: NDArray[np.uintp],
        x: NDArray[np.float32],
        y: NDArray[np.float64],
        z: NDArray[np.float64],
        values: NDArray[np.float32],
        threads: int,
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Decisions and rows with those in exact form whose side of the hinge is open."""
        data, refetch = self._data, self._refetch
        assert isinstance(data, CodeRows) and refetch is not None and window.numbers is not None
        numbers = window.numbers[rows].astype(np.int64) - data.row_offset
        better = refetch.correct(z, numbers, x)
        open_ = (np.abs(1 - y * better) <= refetch.bound(packed, numbers, x, threads)).any(axis=1)
        self.seen, self.fetched = self.seen + len(rows), self.fetched + int(open_.sum())
        if not open_.any():
            return better, values
        exact = (data.exact_rows(numbers[open_]) - data.mean) * inverse_std(data.std)
        values = values.copy()
        values[open_] = exact
        better[open_] = exact @ x.T.astype(np.float64) + self._bias
        return better, values

    def report(self) -> dict[str, Any]:
        """What was found out on the way, in the last epoch: of rows fetched, of the polynomial's bias and variance."""
        out: dict[str, Any] = {}
        if self._refetch is not None:
            out["refetched"] = self.fetched / max(self.seen, 1)
            if isinstance(self._refetch, Sketch):
                out |= {"sketch_error": self._refetch.error, "sketch_failure": self._refetch.failure}
        if self._polynomial is not None:
            rows = max(self._slopes["rows"], 1)
            out["polynomial"] = {
                "powers": self._polynomial.powers.tolist(),
                "largest_error": self._polynomial.error,
                "outside_of_span": self._slopes["outside"] / rows,
                "mean_bias": self._slopes["bias"] / rows,
                "variance": self._slopes["variance"] / rows,
            }
        return out


def check_samples(samples: int, degree: int, name: str) -> None:
    """Refuse codes of too few samples for a degree."""
    if samples < degree + 1:
        raise OptionError(
            f"{name}: a polynomial of degree {degree} needs codes of {degree + 1} samples; these have {samples}: "
            f"compress with samples={degree + 1} (--samples), or take a lower degree"
        )
