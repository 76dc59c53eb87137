"""`train`: from a compressed file, or from float rows for comparison, to a model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from operator import index
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from . import normal
from .arrays import check_choice, check_integer, check_number, check_seed, thread_count
from .checkpoint import EVERY, Track
from .classes import row_weights, signs_of
from .dataset import Dataset
from .debias import LOSS_FLOOR, SHARES, choose_share, pilot_rows
from .engine import engine_of
from .errors import DataError, OptionError
from .kernels import sgd as kernel
from .losses import LOSSES
from .matrix import check_samples
from .model import Model
from .order import held_out
from .penalties import Penalty, make_penalty
from .plan import SCHEDULES, Plan
from .polynomial import MAX_DEGREE, Options, approximate
from .sgd import (
    Curvature,
    Fit,
    Stage,
    check_bits,
    check_step,
    curvature_of,
    default_batch,
    evaluate,
    right_rows,
    run_to_the_end,
    sample_rows,
    standardised,
)
from .stream import CodeRows, FloatRows, Label, Stream, TrainingData, Window, inverse_std, padded

DEBIAS = ("auto", "diagonal", "collapsed", "double-sampling", "naive", "chebyshev", "refetch", "sketch")
SOLVERS = ("sgd", "normal")
OF_SLOPES = ("chebyshev", "refetch", "sketch")  # for losses that are not squared
ESTIMATORS = {"collapsed": kernel.COLLAPSED, "double-sampling": kernel.DOUBLE}

EXACT_ROWS = 100  # fewer say little about an accuracy
EXACT_BLOCK = 8192  # rows of an exact copy at a time

AUTO = ("auto",)
AUTO_BITS = 8
#: of a plan, what the user asks for: the rest is found
PLANNED = ("epochs", "batch", "schedule", "model_bits", "gradient_bits", "residual_bits", "seed", "sketch_size", "failure")

logger = logging.getLogger("zipml_codec")


def train(
    data: Any,
    *,
    label: Label = None,
    loss: str = "squared",
    solver: str = "sgd",
    penalty: str = "l2",
    strength: float = 0.0,
    l1_ratio: float = 0.5,
    bounds: Any = None,
    radius: float | None = None,
    penalty_units: str = "data",
    sample_weight: Any = None,
    class_weight: Any = None,
    epochs: int = 20,
    batch: int | None = None,
    step: float | None = None,
    schedule: str = "cosine",
    debias: str = "auto",
    degree: int = 3,
    span: float = 4.0,
    gap: float = 0.25,
    sketch_size: int = 128,
    failure: float = 0.01,
    model_bits: int | str = "auto",
    gradient_bits: int = 32,
    residual_bits: int | str = "auto",
    precision: int | str | Sequence[int] | None = None,
    start: Model | None = None,
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

    Minimises, over coefficients c in the data's units and a free intercept,

        mean over rows of w loss(z, y)  +  penalty(c),      z = intercept + c . a

    in standardised coordinates, x_f = c_f std_f: mean and std are those of the data before rounding, and are never stored.

    Parameters
    ----------
    data : Dataset, str or path, or tuple (X, y)
        A compressed file, or float rows: the same algorithm on exact data, to compare with.
    label : str or int, or list of them, optional
        Which of several labels to train for: its name, or its number, counted from 0. A list: several at once, one pass over
        the codes for all of them.
    loss : {"squared", "lssvm", "logistic", "hinge"}
        (z - y)^2 / 2; for classes, labels -1 and +1, or 0 and 1, or more than two whole numbers, one versus rest:
        (1 - y z)^2 / 2, the least-squares support vector machine; log(1 + exp(-y z)); max(0, 1 - y z).
    solver : {"sgd", "normal"}
        normal: squared losses with no penalty or l2, exactly: one pass sums up products of all pairs of columns, in integers
        where codes allow it and rows have no weights, and a linear system is solved. debias is auto, diagonal or naive;
        epochs, steps and bits of the model are of no effect.
    penalty : {"l2", "none", "l1", "elastic-net", "nonnegative", "box", "l2-ball", "l1-ball"}
        strength |c|^2 / 2; strength |c|_1; strength (l1_ratio |c|_1 + (1 - l1_ratio) |c|^2 / 2); c >= 0; low <= c <= high;
        |c| <= radius; |c|_1 <= radius. By proximal steps, the intercept left out.
    strength, l1_ratio : float
    bounds : pair (low, high), optional
        Numbers, one a feature, or None; with penalty="box", and with any other that is not a ball.
    radius : float, optional
    penalty_units : {"data", "standard"}
        Whether the penalty is on c, or on standardised coefficients c_f std_f.
    sample_weight : array_like of shape (rows,), or str, optional
        w, scaled to a mean of 1; or the name of a kept column that holds it. The correction of `debias` takes weights for
        independent of a row's values, but for "collapsed".
    class_weight : {None, "balanced"} or dict, optional
    epochs : int
    batch : int, optional
        Rows of a step. Default: a power of two near rows/128, within 64..1024.
    step : float, optional
        The first step size alpha. Default: 1 / max(L + R99/batch, R_max/batch), from the largest eigenvalue L and the row
        norms R of a sample of rows; 5 / L for the logistic loss and the hinge.
    schedule : {"cosine", "inverse"}
        Decay of the step over all epochs to zero, or alpha / epoch, the paper's.
    debias : {"auto", "diagonal", "collapsed", "double-sampling", "naive", "chebyshev", "refetch", "sketch"}
        The gradient's estimator. For squared losses (ZipML, section 2.2): naive, as if codes were exact, biased by
        Var(m_f) x_f; double-sampling: the paper's, two samples drawn at random; collapsed: its expectation given the code (both
        need samples >= 2); diagonal: subtract the mean variance D, which the file holds. auto: diagonal with the share of D
        that serves best on held-out rows, none where that is unsure; `Model.info` says which and why.
        For the logistic loss and the hinge (section 4) auto is naive, on the mean code, and there are chebyshev: slopes as
        polynomials of a degree, from products of independent samples, with samples >= degree + 1; and, for the hinge and files
        with an exact copy (`keep_exact`), refetch: rows are fetched exactly where rounding may have moved them over the hinge;
        sketch: fewer of them, by random projections, each wrong with a probability of `failure`.
    degree, span, gap : int, float, float
        Of chebyshev: the polynomial's degree, the margins -span..span that it is fitted on, and how near the hinge it is not.
    sketch_size, failure : int, float
        Of sketch: numbers that it keeps of each row in memory.
    model_bits : {"auto", 32, 16, 8, 4}
        Unbiased rounding of the model before each batch (the paper's Q_m). Below 32, and with levels that are uniform or on the
        byte grid, everything is computed in integers, from the packed codes, at the speed of memory. auto: 8 bits so, which
        loses nothing, else 32.
    gradient_bits : {32, 16, 8, 4}
        Unbiased rounding of each gradient (Q_g).
    residual_bits : {"auto", 16, 8, 4}
        Unbiased rounding of the residuals z - y in integer training. auto: as the model's.
    precision : int, str or sequence of int, optional
        Of a file that was compressed with layout="weave": bits to read of each value, and no more is touched of the file.
        Several, (2, 4, 8) or "2:4:8": as many stages of about as many epochs each, coarse at first, under one schedule of steps.
        Default: all bits, or those that a Dataset was opened with.
    start : Model, optional
        Where to begin from, instead of zero.
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
    An accuracy has no such correction. It is measured on those exact rows that the file keeps (with `keep_exact` all of them),
    held-out ones for "test_accuracy", where there are at least 100; else on rounded rows, as info["test_accuracy_on"] tells, and
    is then, at few bits, well below that on exact rows. Losses are always those on rounded rows.

    Raises
    ------
    OptionError
        Options that do not fit, or that the data's samples do not allow; several labels, and none of them named.
    DataError
        No labels, labels that are no classes, one class only, no training rows.
    OutputError
        The checkpoint cannot be written, or its name is that of another file.
    DivergenceError
        The step given is too large, even halved ten times.
    """
    check_choice("loss", loss, tuple(LOSSES))
    check_choice("solver", solver, SOLVERS)
    chosen = make_penalty(penalty, strength, l1_ratio, bounds, radius, penalty_units)
    check_choice("schedule", schedule, SCHEDULES)
    check_choice("debias", debias, DEBIAS)
    test_fraction = check_number("test_fraction", test_fraction, 0, 0.99)
    given, bits = check_step(step), check_bits("model_bits", model_bits, AUTO)
    polynomial = Options(
        check_integer("degree", degree, 0, MAX_DEGREE),
        check_number("span", span, 0, open_low=True),
        check_number("gap", gap, 0),
    )
    widths = precisions(precision)
    said = {} if widths == (None,) else {"precision": list(widths)}
    source, *earlier = (training_data(data, label, bits) for bits in (widths[-1], *widths[:-1]))
    workers, seed = thread_count(threads), check_seed(seed)
    classes = _set_labels(source, loss, sample_weight, class_weight, seed, test_fraction)
    for other in earlier:
        other.labels, other.weights = source.labels, source.weights
    chosen.bounds(source.std)  # refuses bounds of another length
    for one in (source, *earlier):
        _check(one, loss, debias, polynomial)
    stream = Stream(source, seed, test_fraction)
    if stream.train_rows < 1:
        raise DataError(f"{source.name}: no training rows are left by test_fraction={test_fraction}")
    if earlier and (solver == "normal" or checkpoint is not None or resume):
        raise OptionError("several precisions go with solver='sgd', and without checkpoint (--checkpoint) and resume")
    if earlier and check_integer("epochs", epochs, 1) < len(widths):
        raise OptionError(f"epochs={epochs} are fewer than the {len(widths)} precisions: take more epochs, or fewer precisions")
    if solver == "normal":
        if checkpoint is not None or resume:
            raise OptionError("solver='normal' keeps no checkpoint: it is one pass; leave out checkpoint (--checkpoint), resume")
        return _normal(stream, loss, chosen, debias, classes, workers, bool(progress), said)
    size = default_batch(stream.train_rows) if batch is None else check_integer("batch", batch, 1)
    size = min(size, stream.train_rows)
    if resume and checkpoint is None:
        raise OptionError("resume goes on from a checkpoint: name it with checkpoint= (--checkpoint)")
    estimator = ESTIMATORS.get(debias, kernel.MEAN)
    whole = chosen.ball or debias in OF_SLOPES
    residuals = check_bits("residual_bits", residual_bits, AUTO)
    model_width, residual_width = _widths(source, bits, residuals, estimator, whole)
    plan = Plan(
        epochs=check_integer("epochs", epochs, 1),
        batch=size,
        step=given or 0.0,
        schedule=schedule,
        loss=loss,
        penalty=chosen,
        model_bits=model_width,
        gradient_bits=int(check_bits("gradient_bits", gradient_bits, ())),
        residual_bits=residual_width,
        estimator=estimator,
        slopes=debias if debias in OF_SLOPES else "codes",
        polynomial=polynomial,
        sketch_size=check_integer("sketch_size", sketch_size, 1, 65536),
        failure=check_number("failure", failure, 0, 1, open_low=True),
        seed=seed,
        threads=workers,
    )
    plan.engine = engine_of(source, plan.model_bits, plan.gradient_bits, estimator, whole)
    if plan.engine == "matrix" and estimator != kernel.MEAN:
        raise OptionError(f"debias={debias!r} is for one label, and penalties that are no balls: use 'diagonal' or 'auto'")
    begin = None if start is None else _beginning(start, source)
    asked = _asked(source, plan, debias, given, test_fraction, begin)
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
    stages = []
    for number, other in enumerate(earlier, 1):
        model_width, residual_width = _widths(other, bits, residuals, estimator, whole)
        own = replace(plan, model_bits=model_width, residual_bits=residual_width)
        own.engine = engine_of(other, model_width, own.gradient_bits, estimator, whole)
        stages.append(Stage(number * plan.epochs // len(widths), Stream(other, seed, test_fraction), own))
        _prepare(stages[-1].stream, own, plan.step, debias)
    logger.info("training in %s", _engine_says(plan))
    on_epoch = progress if callable(progress) else print_epoch if progress else None
    fit, reason = _fit(stream, plan, first_step, on_epoch, debias == "auto", reason, track, begin, stages)
    info = {
        "solver": "sgd",
        "label": source.label,
        "rows": source.shape[0],
        "train_rows": stream.train_rows,
        "test_rows": stream.test_rows,
        "batch": size,
        "step": plan.step,
        "schedule": schedule,
        "epochs": len(fit.history),
        "penalty": penalty,
        "strength": chosen.strength,
        "debias": debias,
        "share": plan.share,
        "debias_reason": reason,
        "engine": plan.engine,
        "model_bits": plan.model_bits,
        "gradient_bits": plan.gradient_bits,
        "residual_bits": plan.residual_bits if plan.engine == "integer" else 32,
        "seed": seed,
    } | said
    return _model(stream, fit, loss, chosen, classes, info, workers)


def precisions(asked: int | str | Sequence[int] | None) -> tuple[int | None, ...]:
    """Precisions of the stages of a run; (None,): one, of all bits.

    Raises
    ------
    OptionError
    """
    if asked is None:
        return (None,)
    try:
        parts: Any = asked.split(":") if isinstance(asked, str) else [asked] if np.ndim(asked) == 0 else asked
        found = tuple(int(part) if isinstance(part, str) else index(part) for part in parts)
    except (TypeError, ValueError):
        found = ()
    if not found:
        raise OptionError(f"precision must be a number of bits, or several as 2:4:8; got {asked!r}")
    return found


def _normal(
    stream: Stream,
    loss: str,
    penalty: Penalty,
    debias: str,
    classes: NDArray[np.float64] | None,
    threads: int,
    progress: bool,
    said: dict[str, Any],
) -> Model:
    """The model by the normal equations."""
    source = stream.data
    if not LOSSES[loss].squared:
        raise OptionError(f"solver='normal' is for loss='squared' or 'lssvm'; loss={loss!r} takes solver='sgd'")
    if penalty.kind not in ("l2", "none") or penalty.low is not None or penalty.high is not None:
        raise OptionError("solver='normal' takes penalty='l2' or 'none', without bounds; solver='sgd' takes all")
    if debias not in ("auto", "diagonal", "naive"):
        raise OptionError(f"solver='normal' takes debias='auto', 'diagonal' or 'naive'; got {debias!r}")
    begun = time.perf_counter()
    ridge = penalty.shares[1] * penalty.scale(source.std) ** 2
    weights, bias, share, reason = normal.fit(stream, debias, ridge, threads, progress)
    fit = Fit(weights[0], float(bias[0]), True) if source.labels.ndim == 1 else Fit(weights, bias, True)
    info = {
        "solver": "normal",
        "label": source.label,
        "rows": source.shape[0],
        "train_rows": stream.train_rows,
        "test_rows": stream.test_rows,
        "penalty": penalty.kind,
        "strength": penalty.strength,
        "debias": debias,
        "share": share,
        "debias_reason": reason,
        "seconds": time.perf_counter() - begun,
    } | said
    return _model(stream, fit, loss, penalty, classes, info, threads)


def _model(
    stream: Stream,
    fit: Fit,
    loss: str,
    penalty: Penalty,
    classes: NDArray[np.float64] | None,
    info: dict[str, Any],
    threads: int,
) -> Model:
    """The model in the data's units, with what it was measured to be worth."""
    source = stream.data
    info |= fit.report | _final(stream, fit, loss, threads)
    info["objective"] = info["train_loss"] + penalty.value(fit.weights, source.std)
    coef = penalty.within(fit.weights * inverse_std(source.std))
    return Model(coef, fit.bias - coef @ source.mean, loss, source.columns, fit.history, info, classes)


def _set_labels(
    source: TrainingData, loss: str, sample_weight: Any, class_weight: Any, seed: int, test_fraction: float
) -> NDArray[np.float64] | None:
    """Turn labels into -1 and +1 where they are classes, which are returned, and set the rows' weights."""
    original, signs = source.labels, LOSSES[loss].signs
    if isinstance(sample_weight, str):
        sample_weight = source.kept_column(sample_weight)
    counted = ~held_out(seed, test_fraction, 0, source.shape[0]) if test_fraction else None
    source.weights = row_weights(sample_weight, class_weight, original, counted, signs)
    if not signs:
        return None
    source.labels, classes = signs_of(original, loss, source.name)
    return classes


def _beginning(start: Model, source: TrainingData) -> tuple[NDArray[np.float64], Any]:
    """A model in standardised units."""
    shape = (*source.labels.shape[1:], source.shape[1])
    if start.coef.shape != shape:
        several = f"{shape[0]} targets, " if len(shape) == 2 else ""
        raise OptionError(f"start is {start!r}; {source.name} has {several}{shape[-1]} features: begin without it")
    return start.coef * source.std, start.intercept + start.coef @ source.mean


def _widths(
    source: TrainingData, model_bits: int | str, residual_bits: int | str, estimator: int, whole: bool
) -> tuple[int, int]:
    """Bits of model and residual, where they were left open: integers where the codes allow it."""
    if model_bits == "auto":
        integers = engine_of(source, AUTO_BITS, 32, estimator, whole) == "integer"
        model_bits = AUTO_BITS if integers else 32
    if residual_bits == "auto":
        residual_bits = AUTO_BITS if model_bits == 32 else model_bits
    return int(model_bits), int(residual_bits)


def _asked(
    source: TrainingData,
    plan: Plan,
    debias: str,
    step: float | None,
    test_fraction: float,
    begin: tuple[NDArray[np.float64], Any] | None,
) -> dict[str, Any]:
    """What makes one run another: options and data, in a form that JSON keeps."""
    values = np.concatenate([source.mean, source.std, source.noise])
    beside = [source.weights, *([] if begin is None else map(np.asarray, begin))]
    digests = [None if array is None else xxhash.xxh3_64_hexdigest(np.ascontiguousarray(array).tobytes()) for array in beside]
    return {
        "label": source.label,
        "loss": plan.loss,
        **{"penalty" if name == "kind" else name: value for name, value in asdict(plan.penalty).items()},
        **asdict(plan.polynomial),
        "weights and start": digests,
        "debias": debias,
        "step": step,
        "test_fraction": test_fraction,
        **{name: getattr(plan, name) for name in PLANNED},
        "data": f"{source.shape[0]} x {source.shape[1]} rows, {xxhash.xxh3_64_hexdigest(values.tobytes())}",
    }


def _engine_says(plan: Plan) -> str:
    if plan.engine == "integer":
        return f"integers: model of {plan.model_bits} bits, residuals of {plan.residual_bits}"
    if plan.engine == "matrix":
        return "float32, whole batches decoded"
    return "float32" + ("" if plan.engine == "dense" else ", rows decoded inside the cache")


def _prepare(stream: Stream, plan: Plan, given: float | None, debias: str) -> tuple[float, str]:
    """First step, share of the correction and where the intercept starts, from a sample of rows: into the plan."""
    source = stream.data
    loss, few = LOSSES[plan.loss], sample_rows(source.shape[1])
    judged = loss.squared and bool(np.any(source.noise))  # else curvature is all that is wanted
    pilot = stream.sample(pilot_rows(source) if judged else few)
    curvature = curvature_of(standardised(source, pilot, few, plan.threads))
    if loss.squared:
        means: Any = pilot.labels.mean(axis=0, dtype=np.float64)
        plan.bias = means.tolist()
    elif pilot.labels.ndim == 2:
        plan.bias = [0.0] * pilot.labels.shape[1]
    plan.step = first_step = given or (curvature.step(plan.batch) if loss.squared else curvature.bounded_step)
    plan.share, reason = _share(source, pilot, plan, curvature, debias)
    return first_step, reason


def training_data(data: Any, label: Label = None, precision: int | None = None) -> TrainingData:
    """A Dataset, a path to one, or (X, y) as rows to train on; of planes at a precision."""
    if isinstance(data, str | PathLike):
        return CodeRows(Dataset(data, precision=precision), label)
    if isinstance(data, Dataset):
        return CodeRows(data if precision is None else data.at(precision), label)
    if precision is not None:
        raise OptionError("precision is of a file's codes; these rows are read as they are")
    if isinstance(data, CodeRows | FloatRows):
        return data
    if isinstance(data, tuple) and len(data) == 2:
        return FloatRows(*data, label)
    raise OptionError(f"data must be a Dataset, the path of one, or a tuple (X, y); got {type(data).__name__}")


def _check(source: TrainingData, loss: str, debias: str, polynomial: Options) -> None:
    """Refuse an estimator that the loss or the data do not allow."""
    if LOSSES[loss].squared:
        if debias in OF_SLOPES:
            raise OptionError(f"debias={debias!r} is for loss='logistic' or 'hinge'; loss={loss!r} takes 'diagonal' or 'auto'")
    elif debias in ("diagonal", *ESTIMATORS):
        raise OptionError(
            f"loss={loss!r} cannot be debiased by {debias!r}: its slope is not linear; use 'naive', 'chebyshev'"
            + (", 'refetch' or 'sketch'" if loss == "hinge" else "")
        )
    if debias in ESTIMATORS and source.samples < 2 and np.any(source.noise):
        raise OptionError(
            f"debias={debias!r} needs codes of samples >= 2; {source.name} has 1: use 'diagonal' or 'auto'"
        )
    if debias in (*ESTIMATORS, *OF_SLOPES) and not np.any(source.noise):
        raise OptionError(f"debias={debias!r} has nothing to correct: {source.name} holds no stochastic codes")
    if debias == "chebyshev":
        check_samples(source.samples, polynomial.degree, source.name)
        approximate(loss, polynomial)
    if debias in ("refetch", "sketch"):
        if loss != "hinge":
            raise OptionError(f"debias={debias!r} is for loss='hinge', whose slope needs a sign alone; loss={loss!r} needs all")
        if not isinstance(source, CodeRows) or not source.has_exact_copy:
            need = "compress with keep_exact=True (--keep-exact)"
            raise OptionError(f"debias={debias!r}: {source.name} has no exact copy of its rows: {need}")
        source.numbered = True


def _share(source: TrainingData, pilot: Window, plan: Plan, curvature: Curvature, debias: str) -> tuple[float, str]:
    if not LOSSES[plan.loss].squared:
        return 0.0, "as asked" if debias != "auto" else f"what rounding does to loss={plan.loss!r} cannot be subtracted"
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
    begin: tuple[NDArray[np.float64], Any] | None,
    stages: Sequence[Stage] = (),
) -> tuple[Fit, str]:
    """The run on all rows; auto goes to the next smaller share where the outcome cannot be trusted."""
    variance = float(np.var(stream.data.labels, axis=0, dtype=np.float64).mean())
    while True:
        track.begin(plan, first_step, reason)
        fit = run_to_the_end(stream, plan, on_epoch, logger.warning, track, begin, stages)
        if not fall_back or plan.share == 0:
            return fit, reason
        if plan.step >= first_step and 2 * fit.history[-1]["train_loss"] >= LOSS_FLOOR * variance:
            return fit, reason
        smaller = max(share for share in SHARES if share < plan.share)
        reason = f"share {plan.share:g} was unstable on all rows; {smaller:g} instead"
        logger.warning("debias='auto': %s", reason)
        plan.share, plan.step = smaller, first_step
        for stage in stages:
            stage.plan.share = min(stage.plan.share, smaller)


def _final(stream: Stream, fit: Fit, loss: str, threads: int) -> dict[str, Any]:
    """Losses, and accuracies where labels are classes, of the finished model."""
    weights = np.stack([padded(row) for row in fit.weights]) if fit.weights.ndim == 2 else padded(fit.weights)
    signs = bool(np.isin(stream.data.labels[:4096], (-1, 1)).all())
    out: dict[str, Any] = {}
    for name, test in (("train", False), ("test", True)):
        measured = evaluate(stream, loss, weights, fit.bias, threads, test=test)
        if measured:
            out[f"{name}_loss"] = measured["loss"]
            if signs:
                right = _exactly_right(stream, fit, test=test)
                exact = stream.data.exact is None or len(right) >= EXACT_ROWS
                out[f"{name}_accuracy"] = float(right.mean()) if len(right) >= EXACT_ROWS else measured["accuracy"]
                out[f"{name}_accuracy_on"] = "exact rows" if exact else "rounded rows"
                out[f"{name}_accuracy_rows"] = len(right) if len(right) >= EXACT_ROWS else measured["rows"]
    return out


def _exactly_right(stream: Stream, fit: Fit, *, test: bool) -> NDArray[np.float64]:
    """Whether the class is right, or the share of several labels, of each test or training row that the file keeps exactly."""
    data = stream.data
    part = held_out(stream.seed, stream.test_fraction, 0, data.shape[0]) == test

    def right(numbers: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float64]:
        z = (values - data.mean) * inverse_std(data.std) @ fit.weights.T + fit.bias
        return right_rows(data, z, data.labels[numbers])

    if isinstance(data, CodeRows) and data.has_exact_copy:
        rows = np.flatnonzero(part)
        blocks = [rows[at : at + EXACT_BLOCK] for at in range(0, len(rows), EXACT_BLOCK)]
        return np.concatenate([np.empty(0), *(right(block, data.exact_rows(block)) for block in blocks)])
    if data.exact is None:
        return np.empty(0)
    numbers, values = data.exact
    return right(numbers[part[numbers]], values[part[numbers]])


def print_epoch(entry: dict[str, Any]) -> None:
    """One line an epoch on standard error."""
    import sys

    precision = f"{entry['precision']} bits  " if "precision" in entry else ""
    test = "" if entry["test_loss"] is None else f"  test loss {entry['test_loss']:.6g}"
    print(
        f"epoch {entry['epoch']:3d}  {precision}train loss {entry['train_loss']:.6g}{test}  {entry['seconds']:.3f} s",
        file=sys.stderr,
    )
