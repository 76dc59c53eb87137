"""`train`: from a compressed file, or from float rows for comparison, to a model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from .arrays import check_choice, check_integer, check_number, check_seed, thread_count
from .checkpoint import EVERY, Track
from .dataset import Dataset
from .debias import LOSS_FLOOR, SHARES, choose_share, pilot_rows
from .engine import engine_of
from .errors import DataError, OptionError
from .kernels import sgd as kernel
from .model import Model
from .order import held_out
from .plan import SCHEDULES, Plan
from .sgd import (
    Curvature,
    Fit,
    check_bits,
    check_step,
    curvature_of,
    default_batch,
    evaluate,
    run_to_the_end,
    sample_rows,
    standardised,
)
from .stream import CodeRows, FloatRows, Stream, TrainingData, Window, inverse_std, padded

LOSSES = ("squared", "lssvm")
PENALTIES = ("l2", "none")
DEBIAS = ("auto", "diagonal", "collapsed", "double-sampling", "naive")
ESTIMATORS = {"collapsed": kernel.COLLAPSED, "double-sampling": kernel.DOUBLE}

EXACT_ROWS = 100  # fewer say little about an accuracy

AUTO = ("auto",)
AUTO_BITS = 8
#: of a plan, what the user asks for: the rest is found
PLANNED = ("epochs", "batch", "schedule", "strength", "model_bits", "gradient_bits", "residual_bits", "seed")

logger = logging.getLogger("zipml_codec")


def train(
    data: Any,
    *,
    label: str | int | None = None,
    loss: str = "squared",
    penalty: str = "l2",
    strength: float = 0.0,
    epochs: int = 20,
    batch: int | None = None,
    step: float | None = None,
    schedule: str = "cosine",
    debias: str = "auto",
    model_bits: int | str = "auto",
    gradient_bits: int = 32,
    residual_bits: int | str = "auto",
    test_fraction: float = 0.0,
    tolerance: float = 0.0,
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: float = EVERY,
    resume: bool = False,
    threads: int | None = None,
    seed: int = 0,
    progress: bool | Callable[[dict[str, Any]], None] = False,
) -> Model:
    """Train a linear model by mini-batch SGD, straight from the codes.

    Minimises, over standardised coefficients x and a free intercept b0,

        mean over rows of (z - y)^2 / 2  +  strength * |x|^2 / 2,      z = b0 + sum_f x_f (a_f - mean_f) / std_f

    mean and std being those of the data before rounding; the model that comes back is in the data's own units.
    "lssvm" is the same objective with labels -1 and +1, the least-squares support vector machine, (1 - y z)^2 / 2.

    Parameters
    ----------
    data : Dataset, str or path, or tuple (X, y)
        A compressed file, or float rows: the same algorithm on exact data, to compare with.
    label : str or int, optional
        Which of several labels to train for: its name, or its number, counted from 0.
    loss : {"squared", "lssvm"}
    penalty : {"l2", "none"}
    strength : float
    epochs : int
    batch : int, optional
        Rows of a step. Default: a power of two near rows/128, within 64..1024.
    step : float, optional
        The first step size alpha. Default: 1 / max(L + R99/batch, R_max/batch), from the largest eigenvalue L and the row
        norms R of a sample of rows.
    schedule : {"cosine", "inverse"}
        Decay of the step over all epochs to zero, or alpha / epoch, the paper's.
    debias : {"auto", "diagonal", "collapsed", "double-sampling", "naive"}
        The gradient's estimator (ZipML, section 2.2). naive: as if codes were exact, biased by Var(m_f) x_f;
        double-sampling: the paper's, two samples drawn at random; collapsed: its expectation given the code (both need
        samples >= 2); diagonal: subtract the mean variance D, which the file holds. auto: diagonal with the share of D that
        serves best on held-out rows, none where that is unsure; `Model.info` says which and why.
    model_bits : {"auto", 32, 16, 8, 4}
        Unbiased rounding of the model before each batch (the paper's Q_m). Below 32, and with levels that are uniform or on the
        byte grid, everything is computed in integers, from the packed codes, at the speed of memory. auto: 8 bits so, which
        loses nothing, else 32.
    gradient_bits : {32, 16, 8, 4}
        Unbiased rounding of each gradient (Q_g).
    residual_bits : {"auto", 16, 8, 4}
        Unbiased rounding of the residuals z - y in integer training. auto: as the model's.
    test_fraction : float
        Share of rows, chosen by their numbers and the seed, that are not trained on but measured after each epoch.
    tolerance : float
        Stop early when three epochs have brought the test loss, or the training loss where no rows are held out, down by less
        than this share; 0: never.
    checkpoint : str or path, optional
        A file to keep the run's state in, every `checkpoint_every` seconds at the end of a window of rows, and at the end.
        It takes the place of an older checkpoint, of nothing else.
    checkpoint_every : float
    resume : bool
        Go on from the checkpoint, where there is one, to the same model, bit for bit, as without the interruption.
    threads : int, optional
        Default: the physical cores, or fewer where OMP_NUM_THREADS or threadpoolctl say so. Results do not depend on it.
    seed : int
    progress : bool or callable
        Print losses on standard error, or call with each epoch's entry of `Model.history`.

    Returns
    -------
    Model

    Notes
    -----
    Losses are those on codes less what rounding adds in expectation, for a model that does not depend on the rounding. On
    test rows that is so. On training rows it is not: a model trained with debias other than "naive" is fitted to the very noise
    that is subtracted, so that `train_loss` can be below the loss on the exact rows, and negative where bits or rows are few.
    An accuracy has no such correction. It is measured on those exact rows that the file keeps, held-out ones for
    "test_accuracy", where there are at least 100; else on rounded rows, as info["test_accuracy_on"] tells, and is then, at few
    bits, well below that on exact rows.

    Raises
    ------
    OptionError
        Options that do not fit, or that the data's samples do not allow; several labels, and none of them named.
    DataError
        No labels, labels other than -1 and +1 for lssvm, no training rows.
    OutputError
        The checkpoint cannot be written, or its name is that of another file.
    DivergenceError
        The step given is too large, even halved ten times.
    """
    check_choice("loss", loss, LOSSES)
    check_choice("penalty", penalty, PENALTIES)
    check_choice("schedule", schedule, SCHEDULES)
    check_choice("debias", debias, DEBIAS)
    test_fraction = check_number("test_fraction", test_fraction, 0, 0.99)
    given, bits = check_step(step), check_bits("model_bits", model_bits, AUTO)
    source = training_data(data, label)
    _check(source, loss, debias)
    workers, seed = thread_count(threads), check_seed(seed)
    stream = Stream(source, seed, test_fraction)
    if stream.train_rows < 1:
        raise DataError(f"{source.name}: no training rows are left by test_fraction={test_fraction}")
    size = default_batch(stream.train_rows) if batch is None else check_integer("batch", batch, 1)
    size = min(size, stream.train_rows)
    if resume and checkpoint is None:
        raise OptionError("resume goes on from a checkpoint: name it with checkpoint=")
    estimator = ESTIMATORS.get(debias, kernel.MEAN)
    model_width, residual_width = _widths(source, bits, check_bits("residual_bits", residual_bits, AUTO), estimator)
    plan = Plan(
        epochs=check_integer("epochs", epochs, 1),
        batch=size,
        step=given or 0.0,
        schedule=schedule,
        strength=check_number("strength", strength, 0) if penalty == "l2" else 0.0,
        model_bits=model_width,
        gradient_bits=int(check_bits("gradient_bits", gradient_bits, ())),
        residual_bits=residual_width,
        estimator=estimator,
        seed=seed,
        threads=workers,
    )
    plan.engine = engine_of(source, plan.model_bits, plan.gradient_bits, estimator)
    asked = _asked(source, plan, loss, debias, given, test_fraction)
    track = Track(
        None if checkpoint is None else Path(checkpoint),
        asked,
        check_number("tolerance", tolerance, 0, 1),
        check_number("checkpoint_every", checkpoint_every, 0),
    )
    saved = track.resume() if resume else None
    if saved is None:
        track.check()
    if saved is None:
        first_step, reason = _prepare(stream, plan, given, debias)
        logger.info("debias=%s: share %g of the correction: %s", debias, plan.share, reason)
    else:
        first_step, reason = saved.first_step, saved.reason
        plan = replace(saved.plan, threads=workers)
        logger.info("going on at epoch %d, step %d of %s", saved.cursor.epoch + 1, saved.cursor.steps, checkpoint)
    logger.info("training in %s", _engine_says(plan))
    on_epoch = progress if callable(progress) else print_epoch if progress else None
    fit, reason = _fit(stream, plan, first_step, on_epoch, debias == "auto", reason, track)
    info = {
        "label": source.label,
        "rows": source.shape[0],
        "train_rows": stream.train_rows,
        "test_rows": stream.test_rows,
        "batch": size,
        "step": plan.step,
        "schedule": schedule,
        "epochs": len(fit.history),
        "penalty": penalty,
        "strength": plan.strength,
        "debias": debias,
        "share": plan.share,
        "debias_reason": reason,
        "engine": plan.engine,
        "model_bits": plan.model_bits,
        "gradient_bits": plan.gradient_bits,
        "residual_bits": plan.residual_bits if plan.engine == "integer" else 32,
        "seed": seed,
    } | _final(stream, fit, workers, bool(np.isin(source.labels[:4096], (-1, 1)).all()))
    coef = fit.weights * inverse_std(source.std)
    return Model(coef, fit.bias - float(coef @ source.mean), loss, source.columns, fit.history, info)


def _widths(source: TrainingData, model_bits: int | str, residual_bits: int | str, estimator: int) -> tuple[int, int]:
    """Bits of model and residual, where they were left open: integers where the codes allow it."""
    if model_bits == "auto":
        integers = engine_of(source, AUTO_BITS, 32, estimator) == "integer"
        model_bits = AUTO_BITS if integers else 32
    if residual_bits == "auto":
        residual_bits = AUTO_BITS if model_bits == 32 else model_bits
    return int(model_bits), int(residual_bits)


def _asked(
    source: TrainingData, plan: Plan, loss: str, debias: str, step: float | None, test_fraction: float
) -> dict[str, Any]:
    """What makes one run another: options and data, in a form that JSON keeps."""
    values = np.concatenate([source.mean, source.std, source.noise])
    return {
        "label": source.label,
        "loss": loss,
        "debias": debias,
        "step": step,
        "test_fraction": test_fraction,
        **{name: getattr(plan, name) for name in PLANNED},
        "data": f"{source.shape[0]} x {source.shape[1]} rows, {xxhash.xxh3_64_hexdigest(values.tobytes())}",
    }


def _engine_says(plan: Plan) -> str:
    if plan.engine == "integer":
        return f"integers: model of {plan.model_bits} bits, residuals of {plan.residual_bits}"
    return "float32" + ("" if plan.engine == "dense" else ", rows decoded inside the cache")


def _prepare(stream: Stream, plan: Plan, given: float | None, debias: str) -> tuple[float, str]:
    """First step, share of the correction and where the intercept starts, from a sample of rows: into the plan."""
    source = stream.data
    pilot = stream.sample(pilot_rows(source))
    curvature = curvature_of(standardised(source, pilot, sample_rows(source.shape[1]), plan.threads))
    plan.bias = float(pilot.labels.mean(dtype=np.float64))
    plan.step = first_step = given or curvature.step(plan.batch)
    plan.share, reason = _share(source, pilot, plan, curvature, debias)
    return first_step, reason


def training_data(data: Any, label: str | int | None = None) -> TrainingData:
    """A Dataset, a path to one, or (X, y) as rows to train on."""
    if isinstance(data, str | PathLike):
        return CodeRows(Dataset(data), label)
    if isinstance(data, Dataset):
        return CodeRows(data, label)
    if isinstance(data, tuple) and len(data) == 2:
        return FloatRows(*data, label)
    raise OptionError(f"data must be a Dataset, the path of one, or a tuple (X, y); got {type(data).__name__}")


def _check(source: TrainingData, loss: str, debias: str) -> None:
    if debias in ESTIMATORS and source.samples < 2 and np.any(source.noise):
        raise OptionError(
            f"debias={debias!r} needs codes of samples >= 2; {source.name} has 1: use 'diagonal' or 'auto'"
        )
    if debias in ESTIMATORS and not np.any(source.noise):
        raise OptionError(f"debias={debias!r} has nothing to correct: {source.name} holds no stochastic codes")
    if loss == "lssvm":
        wrong = ~np.isin(source.labels, (-1, 1))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"{source.name}: row {row + 1}: the label is {source.labels[row]:g}; loss='lssvm' takes -1 and +1"
            )


def _share(source: TrainingData, pilot: Window, plan: Plan, curvature: Curvature, debias: str) -> tuple[float, str]:
    if debias == "auto":
        return choose_share(source, pilot, plan, curvature)
    return (1.0 if debias == "diagonal" else 0.0), "as asked"


def _fit(
    stream: Stream,
    plan: Plan,
    first_step: float,
    on_epoch: Callable[[dict[str, Any]], None] | None,
    fall_back: bool,
    reason: str,
    track: Track,
) -> tuple[Fit, str]:
    """The run on all rows; auto goes to the next smaller share where the outcome cannot be trusted."""
    variance = float(np.var(stream.data.labels, dtype=np.float64))
    while True:
        track.begin(plan, first_step, reason)
        fit = run_to_the_end(stream, plan, on_epoch, logger.warning, track)
        if not fall_back or plan.share == 0:
            return fit, reason
        if plan.step >= first_step and 2 * fit.history[-1]["train_loss"] >= LOSS_FLOOR * variance:
            return fit, reason
        smaller = max(share for share in SHARES if share < plan.share)
        reason = f"share {plan.share:g} was unstable on all rows; {smaller:g} instead"
        logger.warning("debias='auto': %s", reason)
        plan.share, plan.step = smaller, first_step


def _final(stream: Stream, fit: Fit, threads: int, signs: bool) -> dict[str, Any]:
    """Losses, and accuracies where labels are signs, of the finished model."""
    weights: NDArray[np.float32] = padded(fit.weights)
    out: dict[str, Any] = {}
    for name, test in (("train", False), ("test", True)):
        measured = evaluate(stream, weights, fit.bias, threads, test=test)
        if measured:
            out[f"{name}_loss"] = measured["loss"]
            if signs:
                right = _exactly_right(stream, fit, test=test)
                exact = stream.data.exact is None or len(right) >= EXACT_ROWS
                out[f"{name}_accuracy"] = float(right.mean()) if len(right) >= EXACT_ROWS else measured["accuracy"]
                out[f"{name}_accuracy_on"] = "exact rows" if exact else "rounded rows"
                out[f"{name}_accuracy_rows"] = len(right) if len(right) >= EXACT_ROWS else measured["rows"]
    return out


def _exactly_right(stream: Stream, fit: Fit, *, test: bool) -> NDArray[np.bool_]:
    """Whether the sign is right of each test or training row that the file keeps exactly."""
    data = stream.data
    if data.exact is None:
        return np.empty(0, bool)
    numbers, values = data.exact
    part = held_out(stream.seed, stream.test_fraction, 0, data.shape[0])[numbers] == test
    z = (values[part] - data.mean) * inverse_std(data.std) @ fit.weights + fit.bias
    right: NDArray[np.bool_] = (z >= 0) == (data.labels[numbers[part]] > 0)
    return right


def print_epoch(entry: dict[str, Any]) -> None:
    """One line an epoch on standard error."""
    import sys

    test = "" if entry["test_loss"] is None else f"  test loss {entry['test_loss']:.6g}"
    print(
        f"epoch {entry['epoch']:3d}  train loss {entry['train_loss']:.6g}{test}  {entry['seconds']:.3f} s",
        file=sys.stderr,
    )
