"""Losses of a linear model, z = b0 + x . a, and their slopes in z."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Loss:
    """A convex loss of a row: `value(z, y)` and `slope(z, y)`, its derivative in z.

    Attributes
    ----------
    name : str
    kernel : int
        Its number in the kernels (kernels/sgd.pyx).
    signs : bool
        Whether labels are classes, -1 and +1.
    squared : bool
        Whether rounding adds x'Dx / 2 to it in expectation, and D x to its gradient, which can be subtracted. Slopes of others
        are within -1..1, so that no row, however long, throws a model far off.
    """

    name: str
    kernel: int
    signs: bool
    squared: bool
    value: Callable[[Float, Float], Float]
    slope: Callable[[Float, Float], Float]


def _square(z: Float, y: Float) -> Float:
    return np.square(z - y) / 2


def _difference(z: Float, y: Float) -> Float:
    return z - y


def _logistic(z: Float, y: Float) -> Float:
    return np.logaddexp(0, -y * z)


def _logistic_slope(z: Float, y: Float) -> Float:
    margin = y * z
    small = np.exp(-np.abs(margin))  # never overflows
    return np.asarray(-y * np.where(margin >= 0, small, 1.0) / (1 + small))


def _hinge(z: Float, y: Float) -> Float:
    return np.maximum(1 - y * z, 0)


def _hinge_slope(z: Float, y: Float) -> Float:
    return np.where(y * z < 1, -y, 0.0)


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("squared", 0, False, True, _square, _difference),
        Loss("lssvm", 0, True, True, _square, _difference),
        Loss("logistic", 1, True, False, _logistic, _logistic_slope),
        Loss("hinge", 2, True, False, _hinge, _hinge_slope),
    )
}
