"""One training run: its plan and its step sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SCHEDULES = ("cosine", "inverse")


@dataclass
class Plan:
    """One training run."""

    epochs: int
    batch: int
    step: float
    schedule: str = "cosine"
    strength: float = 0.0
    model_bits: int = 32
    gradient_bits: int = 32
    residual_bits: int = 8  # of training in integers
    engine: str = "float"  # "integer", "dense" or "float": zipml_codec/engine.py
    estimator: int = 0  # kernels.sgd.MEAN, COLLAPSED or DOUBLE
    share: float = 0.0  # c: how much of D is subtracted (diagonal)
    seed: int = 0
    threads: int = 1
    bias: float = 0.0  # where the intercept starts: the labels' mean


def schedule(name: str, first: float, epoch: int, epochs: int, steps_an_epoch: int) -> NDArray[np.float32]:
    """Step sizes of one epoch, counted from 0: cosine decay to zero over all epochs, or the paper's alpha / epoch."""
    if name == "inverse":
        return np.full(steps_an_epoch, first / (epoch + 1), np.float32)
    t: NDArray[np.float64] = (epoch * steps_an_epoch + np.arange(steps_an_epoch)) / (epochs * steps_an_epoch)
    return np.asarray(first * (1 + np.cos(np.pi * t)) / 2, np.float32)
