"""Training on rows that come in portions: what `partial_fit` does with each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .codec import Codec
from .debias import effective_rows
from .engine import engine_of
from .errors import DivergenceError
from .losses import LOSSES
from .memory import MemoryRows, encode_rows
from .parts import merged
from .plan import Plan
from .sgd import curvature_of, default_batch, run_to_the_end, sample_rows, standardised
from .stream import FloatRows, Stream, inverse_std

SLOWER = 0.5  # power of the number of portions that steps fall with


@dataclass
class Portions:
    """What is known after some portions: levels, statistics of all rows so far, the model in the data's units.

    The levels are those of the first portion; later values beyond them are moved to the nearest and counted. Steps are those
    that each portion allows, less with the square root of the number of portions before it.
    """

    coef: NDArray[np.float64]
    intercept: Any
    codec: Codec | None = None
    count: int = 0
    rows: int = 0
    clipped: int = 0
    statistics: dict[str, NDArray[Any]] | None = None
    loss: float = 0.0

    def add(
        self,
        X: NDArray[Any],
        y: NDArray[np.float32],
        weights: NDArray[np.float32] | None,
        plan: Plan,
        *,
        step: float | None,
        debias: str,
        codes: dict[str, Any] | None,
    ) -> None:
        """One pass over a portion.

        Parameters
        ----------
        X : ndarray of shape (rows, features)
        y : ndarray of shape (rows,), or (rows, targets)
            -1 and +1 where they are classes.
        weights : ndarray of shape (rows,), optional
        plan : Plan
            Batch 0: from the number of rows.
        step : float, optional
            The first portion's step. Default: from each portion.
        debias : {"auto", "naive", "diagonal"}
            auto: diagonal where the portion has rows enough.
        codes : dict, optional
            Options of `encode_rows`; None: exact rows.
        """
        source = self._source(X, y, codes, plan)
        source.weights = weights
        self._learn(source, X)
        stream, squared = Stream(source, plan.seed, 0.0), LOSSES[plan.loss].squared
        plan.engine = engine_of(source, plan.model_bits, plan.gradient_bits, plan.estimator, plan.penalty.ball)
        plan.batch = min(plan.batch or default_batch(len(X)), len(X))
        curvature = curvature_of(standardised(source, stream.sample(len(X)), sample_rows(X.shape[1]), plan.threads))
        own = curvature.step(plan.batch) if squared else min(curvature.bounded_step, 1.0)
        plan.step = (step or own) / (1 + self.count) ** SLOWER
        if squared and source.noise.any() and debias != "naive":
            plan.share = 1.0 if debias == "diagonal" or effective_rows(source, curvature) > 100 else 0.0
        if squared and not self.count and not np.any(self.coef):
            self.intercept = y.mean(axis=0, dtype=np.float64)
        begin = (self.coef * source.std, self.intercept + self.coef @ source.mean)
        fit = run_to_the_end(stream, plan, None, lambda _: None, begin=begin)
        self.coef = fit.weights * inverse_std(source.std)
        self.intercept = fit.bias - self.coef @ source.mean
        if not np.isfinite(self.coef).all():
            raise DivergenceError("partial_fit left the finite numbers: give a smaller eta0, or larger portions")
        self.count, self.rows = self.count + 1, self.rows + len(X)
        self.loss = fit.history[-1]["train_loss"]

    def _source(
        self, X: NDArray[Any], y: NDArray[np.float32], codes: dict[str, Any] | None, plan: Plan
    ) -> MemoryRows | FloatRows:
        if codes is None:
            return FloatRows(X, y, list(range(y.shape[1])) if y.ndim == 2 else None)
        if self.codec is not None:
            codes = {"seed": codes["seed"], "levels": self.codec, "clip": True}
        source = encode_rows(X, y, **codes, threads=plan.threads)
        self.codec, self.clipped = source.codec, self.clipped + source.clipped
        return source

    def _learn(self, source: MemoryRows | FloatRows, X: NDArray[Any]) -> None:
        """Mean and std of all rows so far, by which the source's are standardised."""
        own = {"mean": source.mean, "std": source.std, "noise": source.noise, "error": source.noise}
        own |= {"low": X.min(axis=0).astype(np.float32), "high": X.max(axis=0).astype(np.float32)}
        before = [] if self.statistics is None else [(self.rows, self.statistics)]
        self.statistics = merged([*before, (len(X), own)])
        source.mean, source.std = self.statistics["mean"], self.statistics["std"]
