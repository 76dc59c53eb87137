"""Mini-batch SGD: schedules, step sizes from the data, epochs over a stream.

Everything here is in standardised units: z = bias + x . (a - mean) / std.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import check_choice, check_integer, check_number, check_seed
from .checkpoint import Cursor, Track
from .engine import Engine, make_engine
from .errors import DivergenceError
from .kernels import sgd as kernel
from .losses import LOSSES
from .matrix import MatrixEngine
from .plan import Plan, schedule
from .stream import Stream, TrainingData, Window, noise_of

SCALES = ("max", "l2")
CURVATURE_ROWS, CURVATURE_VALUES = 4096, 16 << 20
POWER_ITERATIONS = 30
HALVINGS = 10
EVALUATED_ROWS = 8192  # decoded together, for several targets
SMALLEST_BATCH, LARGEST_BATCH = 64, 1024


@dataclass(frozen=True)
class Curvature:
    """What step sizes are made from, measured on a sample of standardised rows a = (z, 1).

    `largest`: the largest eigenvalue of mean a a'; `norm99`, `norm_max`: percentile and maximum of |a|^2; `tail`:
    mean |z|^4 / (mean |z|^2)^2, by which long rows make the others count for less.
    """

    largest: float
    norm99: float
    norm_max: float
    tail: float

    def step(self, batch: int) -> float:
        """The first step: 1 / (L + R99/B), and no more than a batch with the longest row allows, 1 / (R_max / B)."""
        return 1 / max(self.largest + self.norm99 / batch, self.norm_max / batch)

    @property
    def bounded_step(self) -> float:
        """The first step where slopes are bounded: long rows do no harm, and curvature falls with the margins.

        4 / L is the inverse of the logistic loss's largest curvature. Measured best, logistic and hinge: anything from 1.5 / L to
        15 / L on cod_rna, 15 / L and 5 / L on MNIST's 4 and 9.
        """
        return 5 / self.largest


def default_batch(rows: int) -> int:
    """A power of two near rows/128, in 64..1024: enough steps in 20 epochs, few enough reductions."""
    return int(min(LARGEST_BATCH, max(SMALLEST_BATCH, 1 << max(rows // 128, 1).bit_length() - 1)))


def sample_rows(features: int) -> int:
    """Rows of the sample that curvature is measured on."""
    return max(2, min(CURVATURE_ROWS, CURVATURE_VALUES // features))


def curvature_of(standardised: NDArray[np.float32]) -> Curvature:
    """Curvature from standardised rows (m, n), by power iteration."""
    rows = np.concatenate([standardised, np.ones((len(standardised), 1), np.float32)], axis=1)
    norms = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    generator = np.random.Generator(np.random.Philox(0))
    vector = generator.standard_normal((rows.shape[1],)).astype(np.float32)
    largest = 0.0
    for _ in range(POWER_ITERATIONS):
        vector /= np.linalg.norm(vector)
        vector = rows.T @ (rows @ vector) / np.float32(len(rows))
        largest = float(np.linalg.norm(vector))
    own = norms - 1
    tail = float(np.mean(own**2) / max(np.mean(own) ** 2, 1e-30))
    return Curvature(largest, float(np.percentile(norms, 99)), float(norms.max()), tail)


def quantize_vector(v: ArrayLike, levels: int, scale: str = "max", seed: int = 0) -> NDArray[np.float32]:
    """Q(v): unbiased stochastic rounding of a vector (ZipML, section 2.1: the quantizer of model and gradient).

    Each v_i goes to one of the two multiples of M(v) / levels around it, at random so that E[Q(v)] = v.

    Parameters
    ----------
    v : array_like of shape (n,)
    levels : int
        Levels on each side of zero.
    scale : {"max", "l2"}
        M(v): the largest |v_i|, or the Euclidean norm.
    seed : int

    Returns
    -------
    ndarray of shape (n,), float32
    """
    vector = np.ascontiguousarray(v, dtype=np.float32).reshape(-1)
    size = np.abs(vector).max(initial=0) if check_choice("scale", scale, SCALES) == "max" else np.linalg.norm(vector)
    return kernel.quantize(vector, check_integer("levels", levels, 1, 32767), float(size), check_seed(seed), 0)


@dataclass
class Fit:
    """A model in standardised units and how it came about."""

    weights: NDArray[np.float64]  # (features,), or (targets, features)
    bias: Any  # float, or (targets,)
    finite: bool
    history: list[dict[str, Any]] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)  # of the engine


@dataclass
class Stage:
    """Epochs of a run before `until`, on other rows than the last ones: the same at a lower precision."""

    until: int
    stream: Stream
    plan: Plan


EpochEnd = Callable[[dict[str, Any]], None]


Beginning = tuple[NDArray[np.float64], Any]  # weights and intercept


def run(
    stream: Stream,
    plan: Plan,
    on_epoch: EpochEnd | None = None,
    track: Track | None = None,
    begin: Beginning | None = None,
    stages: Sequence[Stage] = (),
) -> Fit:
    """Train once, from zero or `begin`. Stops early, `finite` False, where the model leaves the finite numbers.

    `track`, where given, keeps checkpoints, and says where to go on from and when to stop. `stages` come before `stream`, in
    whose steps they are taken; only epochs of its precision say when to stop.
    """
    last, data = (stream, plan), stream.data
    if stages:
        stream, plan = stages[0].stream, stages[0].plan
    engine = make_engine(stream.data, plan)
    if begin is not None:
        engine.weights[..., : data.shape[1]], engine.bias = begin
    history: list[dict[str, Any]] = []
    steps_an_epoch = -(-stream.train_rows // plan.batch)
    at = Cursor() if track is None else track.start(engine, history)
    for epoch in range(at.epoch, plan.epochs):
        begun = time.perf_counter()
        now = next(((stage.stream, stage.plan) for stage in stages if epoch < stage.until), last)
        if now[0] is not stream:
            stream, plan = now
            engine = _gone_on(engine, stream.data, plan)
        engine.begin(epoch)
        steps = schedule(plan.schedule, last[1].step, epoch, plan.epochs, steps_an_epoch)
        for window in stream.batches(epoch, plan.batch, at.steps * plan.batch, plan.threads):
            part_loss, part_noise, finite = engine.run(window, steps[at.steps :], plan.threads)
            stream.data.settle()  # before anything is kept of what may have been other rows
            at.steps += -(-len(window.order) // plan.batch)
            at.loss, at.noise = at.loss + part_loss, at.noise + part_noise
            if not finite:
                return Fit(engine.weights[..., : data.shape[1]].astype(np.float64), engine.bias, False, history)
            if track is not None:
                track.step(engine, at, history)
        entry = {
            "epoch": epoch + 1,
            "train_loss": (at.loss - at.noise) / stream.train_rows,
            "test_loss": None,
            "seconds": time.perf_counter() - begun,
        }
        if stages:
            entry["precision"] = stream.data.bits
        if stream.test_rows:
            entry["test_loss"] = evaluate(stream, plan.loss, engine.weights, engine.bias, plan.threads, test=True)["loss"]
        history.append(entry)
        at = Cursor(epoch + 1)
        if on_epoch is not None:
            on_epoch(entry)
        own = [past for past in history if past["precision"] == stream.data.bits] if stages else history
        if track is not None and now is last and track.epoch(engine, at, own):
            break
    weights = engine.weights[..., : data.shape[1]].astype(np.float64)
    report = engine.report() if isinstance(engine, MatrixEngine) else {}
    return Fit(weights, engine.bias, bool(np.isfinite(weights).all()), history, report)


def _gone_on(engine: Engine, data: TrainingData, plan: Plan) -> Engine:
    """An engine for other rows that has the model, and goes on counting steps."""
    new = make_engine(data, plan)
    new.weights[..., : data.shape[1]] = engine.weights[..., : data.shape[1]]
    new.bias, new.steps = engine.bias, engine.steps
    return new


def run_to_the_end(
    stream: Stream,
    plan: Plan,
    on_epoch: EpochEnd | None,
    say: Callable[[str], None],
    track: Track | None = None,
    begin: Beginning | None = None,
    stages: Sequence[Stage] = (),
) -> Fit:
    """Train; where that diverges, again from zero with half the step."""
    for _ in range(HALVINGS + 1):
        fit = run(stream, plan, on_epoch, track, begin, stages)
        if fit.finite:
            return fit
        say(f"training diverged at step size {plan.step:.3g}: starting again with half of it")
        plan.step /= 2
    raise DivergenceError(
        f"{stream.data.name}: training diverges even at step size {plan.step:.3g}; give a smaller step"
    )


def evaluate(
    stream: Stream, loss: str, weights: NDArray[np.float32], bias: Any, threads: int, *, test: bool
) -> dict[str, float]:
    """Loss and accuracy of a model (padded float32 weights) on the test or the training rows, decoded; the mean of all targets.

    The mean of (z - y)^2 / 2 over codes exceeds that over the data by x'Dx / 2 in expectation, which is subtracted.
    Of classes one versus rest, an accuracy is that of the largest z; of several labels, the mean of theirs.
    """
    data, of = stream.data, LOSSES[loss]
    rows = data.rows(kernel.MEAN, 0)
    total = right = weight = 0.0
    count = 0
    several = weights.ndim == 2
    for window in stream.windows(0, test=test, threads=threads):
        if several:
            z = np.concatenate([
                _decisions(rows, window, window.order[at : at + EVALUATED_ROWS], weights, bias, threads)
                for at in range(0, len(window.order), EVALUATED_ROWS)
            ] or [np.empty((0, len(weights)))])  # fmt: skip
        else:
            rows.hold(window.data, window.labels)
            z = rows.predict(weights, bias, window.order, threads).astype(np.float64)
        y = window.labels[window.order].astype(np.float64)
        own = np.ones(len(y)) if window.weights is None else window.weights[window.order].astype(np.float64)
        values = of.value(z, y)
        total += float(np.sum((values.mean(axis=1) if several else values) * own))
        right += float(np.sum(right_rows(data, z, y)))
        weight, count = weight + float(own.sum()), count + len(y)
    data.settle()
    if not count:
        return {}
    x = np.atleast_2d(weights)[:, : data.shape[1]].astype(np.float64)
    added = float(np.sum(noise_of(data) * x**2)) / len(x) if of.squared else 0.0
    return {"loss": total / weight - added / 2 if weight else 0.0, "accuracy": right / count, "rows": count}


def right_rows(data: TrainingData, z: NDArray[np.float64], y: NDArray[Any]) -> NDArray[np.float64]:
    """Of each row, whether decisions z agree with y, -1 and +1: its class, one versus rest, or the share of several labels."""
    if z.ndim == 2 and not isinstance(data.label, list):
        return np.asarray(z.argmax(axis=1) == y.argmax(axis=1), np.float64)
    same = ((z >= 0) == (y > 0)).astype(np.float64)
    return np.asarray(same.mean(axis=1)) if z.ndim == 2 else same


def _decisions(
    rows: kernel.Rows, window: Window, order: NDArray[np.uintp], weights: NDArray[np.float32], bias: Any, threads: int
) -> NDArray[np.float64]:
    """Decisions of some rows for every target: (rows, targets)."""
    rows.hold(window.data[order])
    values = rows.values(threads)
    return np.asarray((values @ weights[:, : values.shape[1]].T).astype(np.float64) + bias)


def standardised(data: TrainingData, window: Window, count: int, threads: int) -> NDArray[np.float32]:
    """The first `count` rows of a window as standardised float32 values, less constant columns."""
    rows = data.rows(kernel.MEAN, 0)
    rows.hold(window.data[:count])
    out, varying = rows.values(threads), data.std > 0
    return np.ascontiguousarray(out if varying.all() else out[:, varying])


def check_bits(name: str, bits: Any, more: tuple[str, ...]) -> int | str:
    """Bits of a vector in training, or one of `more`."""
    chosen = check_choice(name, bits, (*more, *((16, 8, 4) if name == "residual_bits" else (32, 16, 8, 4))))
    return chosen if isinstance(chosen, str) else int(chosen)


def check_step(step: float | None) -> float | None:
    """A given first step, or None: from the data."""
    return None if step is None else check_number("step", step, 0, open_low=True)
