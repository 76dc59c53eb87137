"""One training run: its plan and its step sizes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .penalties import Penalty
from .polynomial import Options

SCHEDULES = ("cosine", "inverse")


@dataclass
class Plan:
    """One training run."""

    epochs: int
    batch: int
    step: float
    schedule: str = "cosine"
    loss: str = "squared"
    penalty: Penalty = field(default_factory=Penalty)
    model_bits: int = 32
    gradient_bits: int = 32
    residual_bits: int = 8  # of training in integers
    engine: str = "float"  # "integer", "dense", "float" or "matrix": zipml_codec/engine.py
    estimator: int = 0  # kernels.sgd.MEAN, COLLAPSED or DOUBLE
    slopes: str = "codes"  # "codes", "chebyshev", "refetch" or "sketch": what a loss that is not squared takes its slopes from
    polynomial: Options = field(default_factory=Options)
    sketch_size: int = 128  # numbers a row, of slopes="sketch", and the probability that a row's bound fails
    failure: float = 0.01
    share: float = 0.0  # c: how much of D is subtracted (diagonal)
    seed: int = 0
    threads: int = 1
    bias: float | list[float] = 0.0  # where the intercept starts, or one a target: the labels' mean for a squared loss

    def __post_init__(self) -> None:
        if isinstance(self.penalty, dict):  # from a checkpoint
            self.penalty = Penalty(**self.penalty)
        if isinstance(self.polynomial, dict):
            self.polynomial = Options(**self.polynomial)


def schedule(name: str, first: float, epoch: int, epochs: int, steps_an_epoch: int) -> NDArray[np.float32]:
    """Step sizes of one epoch, counted from 0: cosine decay to zero over all epochs, or the paper's alpha / epoch."""
    if name == "inverse":
        return np.full(steps_an_epoch, first / (epoch + 1), np.float32)
    t: NDArray[np.float64] = (epoch * steps_an_epoch + np.arange(steps_an_epoch)) / (epochs * steps_an_epoch)
    return np.asarray(first * (1 + np.cos(np.pi * t)) / 2, np.float32)
