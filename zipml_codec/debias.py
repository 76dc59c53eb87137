"""How much of the rounding's noise to subtract from the curvature: debias="auto".

Every unbiased estimator lowers curvature: mean(m m') - D can turn indefinite where bits are few, columns collinear or rows
few, and SGD then diverges; keeping all of the bias is wrong elsewhere. So several shares c of D are tried side by side
on a part of the rows, and judged on the others by a loss that rounding does not bias:
mean (m.x - y)^2 - x'Dx, the same in expectation as the loss on the exact rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .engine import make_engine
from .kernels import sgd as kernel
from .order import WINDOW_BYTES
from .plan import Plan, schedule
from .sgd import Curvature, Fit, default_batch
from .stream import TrainingData, Window, noise_of

SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
PILOT_ROWS, PILOT_ROWS_A_FEATURE, PILOT_BYTES = 65536, 10, 256 << 20
PILOT_EPOCHS = 20
HELD_SHARE = 0.2
EFFECTIVE_ROWS = 10.0  # a feature, below which the curvature is too uncertain for anything to be subtracted from it
LOSS_FLOOR = -0.25  # of the labels' variance: a debiased training loss below it is the noise of an unstable model


def pilot_rows(data: TrainingData) -> int:
    """Rows that the choice is made on."""
    rows = max(PILOT_ROWS, PILOT_ROWS_A_FEATURE * data.shape[1])
    return max(2, min(rows, PILOT_BYTES // data.row_bytes))


def effective_rows(data: TrainingData, curvature: Curvature) -> float:
    """Rows a feature, as many as would tell the curvature of evenly long, exact rows as well as these tell it.

    An entry of mean m m' has a variance in proportion to (1 + D)^2 / K; and to mean |z|^4 / (mean |z|^2)^2, the inverse of
    the share of rows that matter where few long ones hold most of the variance.
    """
    varying = data.std > 0
    noise = float(np.mean(noise_of(data)[varying]))
    return data.shape[0] / max(curvature.tail, 1.0) / (1 + noise) ** 2 / np.count_nonzero(varying)


def choose_share(data: TrainingData, pilot: Window, plan: Plan, curvature: Curvature) -> tuple[float, str]:
    """The share c of the correction, and why.

    Parameters
    ----------
    data : TrainingData
    pilot : Window
        Training rows in random order.
    plan : Plan
        The run that the choice is for; its batch and step are adapted to the pilot's rows.
    curvature : Curvature
        Of the standardised rows.
    """
    if not noise_of(data).any():
        return 0.0, "the codes are exact, or rounded to nearest: there is no noise to correct"
    rows = effective_rows(data, curvature)
    if rows < EFFECTIVE_ROWS:
        return 0.0, f"{rows:.1f} effective rows a feature, fewer than {EFFECTIVE_ROWS:g}: curvature is too uncertain to correct"
    held = max(1, int(len(pilot.data) * HELD_SHARE))
    if len(pilot.data) - held < 2:
        return 0.0, "there are too few rows to judge the correction on"
    squares, added = np.full((held, len(SHARES)), np.inf), np.zeros(len(SHARES))
    orders = _orders(data, len(pilot.data), held, plan)
    for i in (0, *range(len(SHARES) - 1, 0, -1)):
        fit = _pilot(data, pilot, orders, replace(plan, share=SHARES[i]), curvature)
        squares[:, i], added[i] = _losses(data, pilot, held, fit)
        if i:
            share, reason = judge(squares, added)
            if share > SHARES[i]:  # this much less is no better, and the loss is convex in the share: nor is less still
                break
    return share, reason


def _orders(data: TrainingData, rows: int, held: int, plan: Plan) -> list[NDArray[np.uintp]]:
    """Orders of all rows, which came in random order, but the first `held`: random within what the caches hold."""
    generator = np.random.Generator(np.random.Philox(plan.seed))
    window = max(1, WINDOW_BYTES // data.row_bytes)
    parts = [np.arange(first, min(first + window, rows), dtype=np.uintp) for first in range(held, rows, window)]
    return [np.concatenate([generator.permutation(part) for part in parts]) for _ in range(min(plan.epochs, PILOT_EPOCHS))]


def _pilot(data: TrainingData, pilot: Window, orders: list[NDArray[np.uintp]], plan: Plan, curvature: Curvature) -> Fit:
    """Train an epoch in each order."""
    plan.batch = min(plan.batch, default_batch(len(orders[0])))
    plan.step = curvature.step(plan.batch)
    plan.epochs = len(orders)
    engine = make_engine(data, plan)
    steps_an_epoch = -(-len(orders[0]) // plan.batch)
    for epoch, order in enumerate(orders):
        steps = schedule(plan.schedule, plan.step, epoch, plan.epochs, steps_an_epoch)
        if not engine.run(pilot.of(order), steps, plan.threads)[2]:
            return Fit(engine.weights.astype(np.float64), engine.bias, False)
    return Fit(engine.weights.astype(np.float64), engine.bias, bool(np.isfinite(engine.weights).all()))


def _losses(data: TrainingData, pilot: Window, held: int, fit: Fit) -> tuple[NDArray[np.float64] | float, float]:
    """(m.x - y)^2 of each held-out row, with its weight, and x'Dx, means of the targets; infinite of a broken model."""
    if not fit.finite:
        return np.inf, 0.0
    rows, features = data.rows(kernel.MEAN, 0), data.shape[1]
    rows.hold(pilot.data[:held])
    with np.errstate(over="ignore", invalid="ignore"):
        x = np.atleast_2d(fit.weights)[:, :features]
        z = rows.values(1) @ x.astype(np.float32).T + fit.bias
        squares = np.square(z - pilot.labels[:held].reshape(held, -1)).mean(axis=1)
        own = 1.0 if pilot.weights is None else pilot.weights[:held].astype(np.float64)
        return squares * own, float(np.sum(noise_of(data) * x**2)) / len(x) * float(np.mean(own))


def judge(squares: NDArray[np.float64], added: NDArray[np.float64]) -> tuple[float, str]:
    """Choose among SHARES by the debiased losses of held-out rows.

    Parameters
    ----------
    squares : ndarray of shape (rows, models)
        (m.x - y)^2, infinite where a model diverged or was not tried. Model 0 is the one without correction.
    added : ndarray of shape (models,)
        x'Dx: what rounding added to the mean of each column in expectation.

    Returns
    -------
    share, reason : float, str
        A share is eligible where its loss is certain (above its standard error) and lower than without correction by
        more than the standard error of the paired difference. The least loss wins; a larger share that is as good within
        the error is preferred to it, being less biased.
    """
    count = len(squares)
    finite = np.asarray(np.isfinite(squares).all(axis=0))
    squares = np.where(finite, squares, 0.0)
    loss = squares.mean(axis=0) - added

    def error(a: int, b: int) -> float:
        return float(np.std(squares[:, a] - squares[:, b]) / np.sqrt(count))

    own = squares.std(axis=0) / np.sqrt(count)
    eligible = [0] if finite[0] else []
    for i in range(1, len(loss)):
        if finite[i] and loss[i] > own[i] and (not finite[0] or loss[i] - loss[0] + error(i, 0) < 0):
            eligible.append(i)
    if not eligible:
        return 0.0, "training diverges with every share of the correction, and without it"
    best = min(eligible, key=lambda i: loss[i])
    chosen = max(j for j in eligible if j >= best and loss[j] - loss[best] <= error(j, best))
    if chosen == 0:
        return 0.0, f"no share of the correction is surely better on {count:,} held-out rows"
    gain = f"{1 - loss[chosen] / loss[0]:.1%} less" if finite[0] and loss[0] > 0 else "finite"
    return SHARES[chosen], f"held-out loss is {gain} than without correction, on {count:,} rows"
