"""Least squares by its normal equations: one pass over the codes, in integers where they allow it, and one linear system.

With standardised means z of the codes, D what rounding added to their squares in expectation, and a share c of it taken off,

    (mean z z' - c diag(D) + diag(ridge)) x = mean z y,      z and y less their means.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .debias import EFFECTIVE_ROWS, HELD_SHARE, SHARES, effective_rows, judge, pilot_rows
from .engine import integer_form
from .errors import DataError, OptionError
from .kernels import gram
from .kernels import sgd as kernel
from .progress import Progress, no_progress
from .sgd import curvature_of, sample_rows, standardised
from .stream import CodeRows, Stream, TrainingData, inverse_std, noise_of

MEMORY_SHARE = 4  # n x n float64 may take this part of the machine's memory
BLOCK_VALUES = 8 << 20  # of rows that are added together

logger = logging.getLogger("zipml_codec")
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Means of rows in standardised units, and second moments about them.

    Attributes
    ----------
    rows : float
        Their weight.
    mean : ndarray of shape (features,)
    square : ndarray of shape (features, features)
    label : ndarray of shape (targets,)
    cross : ndarray of shape (targets, features)
    """

    rows: float
    mean: Float
    square: Float
    label: Float
    cross: Float


class IndefiniteError(OptionError):
    """What is left of the second moments, less D, is no longer positive definite."""


class _Integers:
    """Sums of u u', value = low + step u, exactly; those with labels in float64, row after row."""

    def __init__(self, data: CodeRows, targets: int) -> None:
        form = integer_form(data.codec)
        assert form is not None
        scale = inverse_std(data.std)
        self._low, self._step = (form[0] - data.mean) * scale, form[1] * scale
        self._sums = gram.Gram(data.shape[1], data.codec.bits, data.codec.stride, form[2], targets)
        self._label = np.zeros(targets)

    def add(self, rows: NDArray[Any], labels: NDArray[np.float32], weights: NDArray[np.float32] | None, threads: int) -> None:
        """Add packed rows."""
        self._sums.add(np.ascontiguousarray(rows), np.ascontiguousarray(labels), threads)
        self._label += labels.sum(axis=0, dtype=np.float64)

    def moments(self) -> Moments:
        """What was added."""
        sums, features = self._sums, len(self._low)
        u, label = sums.sums[:features] / sums.rows, self._label / sums.rows
        square = sums.matrix() / sums.rows - np.outer(u, u)
        cross = sums.cross[:, :features] / sums.rows - np.outer(label, u)
        step = self._step
        return Moments(sums.rows, self._low + step * u, square * np.outer(step, step), label, cross * step)


class _Floats:
    """Sums of decoded rows, by BLAS in float64: in float32 a badly conditioned system loses its last digits."""

    def __init__(self, data: TrainingData, targets: int) -> None:
        features = data.shape[1]
        self._rows = data.rows(kernel.MEAN, 0)
        self._weight, self._label, self._mean = 0.0, np.zeros(targets), np.zeros(features)
        self._square, self._cross = np.zeros((features, features)), np.zeros((targets, features))

    def add(self, rows: NDArray[Any], labels: NDArray[np.float32], weights: NDArray[np.float32] | None, threads: int) -> None:
        """Add rows, packed or float32."""
        self._rows.hold(np.ascontiguousarray(rows))
        z = self._rows.values(threads).astype(np.float64)
        own = np.ones(len(z)) if weights is None else weights.astype(np.float64)
        weighted = z if weights is None else z * own[:, None]
        self._weight += float(own.sum())
        self._label += own @ labels.astype(np.float64)
        self._mean += weighted.sum(axis=0)
        self._square += weighted.T @ z
        self._cross += labels.T.astype(np.float64) @ weighted

    def moments(self) -> Moments:
        """What was added."""
        weight, mean, label = self._weight, self._mean / self._weight, self._label / self._weight
        square = self._square / weight - np.outer(mean, mean)
        return Moments(weight, mean, (square + square.T) / 2, label, self._cross / weight - np.outer(label, mean))


def _sums(data: TrainingData) -> _Integers | _Floats:
    targets = 1 if data.labels.ndim == 1 else data.labels.shape[1]
    integers = isinstance(data, CodeRows) and data.weights is None and integer_form(data.codec) is not None
    return _Integers(data, targets) if integers and isinstance(data, CodeRows) else _Floats(data, targets)


def moments_of(stream: Stream, threads: int, progress: Callable[..., Progress] = no_progress) -> Moments:
    """Moments of the training rows, in one pass."""
    data, sums = stream.data, _sums(stream.data)
    rows, features = data.shape
    together = max(1, BLOCK_VALUES // features // data.chunk_rows)  # chunks
    chunks = -(-rows // data.chunk_rows)
    with progress("summing up", rows, rows * data.row_bytes) as bar:
        for chunk in range(0, chunks, together):
            parts = [data.chunk(number) for number in range(chunk, min(chunk + together, chunks))]
            values = np.concatenate(parts) if len(parts) > 1 else parts[0]
            first = chunk * data.chunk_rows
            part = slice(first, first + len(values))
            labels = data.labels[part].reshape(len(values), -1)
            weights = None if data.weights is None else data.weights[part]
            if (kept := stream.training(part)) is not None:
                values, labels, weights = values[kept], labels[kept], None if weights is None else weights[kept]
            if len(values):
                sums.add(values, labels, weights, threads)
            bar.advance(part.stop - first)
    return sums.moments()


def solve(moments: Moments, noise: Float, share: float, ridge: Float) -> tuple[Float, Float]:
    """Weights (targets, features) and intercepts (targets,) in standardised units.

    Raises
    ------
    IndefiniteError
        `share` of the noise is more than there is in some direction.
    """
    used = np.diag(moments.square) > 0
    matrix = moments.square[np.ix_(used, used)] + np.diag((ridge - share * noise)[used])
    weights = np.zeros(moments.cross.shape)
    try:
        np.linalg.cholesky(matrix)
        weights[:, used] = np.linalg.solve(matrix, moments.cross[:, used].T).T
    except np.linalg.LinAlgError:
        if share * noise[used].max(initial=0) > 0:
            raise IndefiniteError(
                f"the normal equations less {share:g} times what rounding added are not positive definite: "
                "take debias='auto' or 'naive', more strength, fewer features or more bits"
            ) from None
        weights[:, used] = np.linalg.lstsq(matrix, moments.cross[:, used].T, rcond=None)[0].T  # collinear: the shortest of many
    return weights, moments.label - weights @ moments.mean


def choose(stream: Stream, ridge: Float, threads: int) -> tuple[float, str]:
    """The share of the noise to take off, and why: judged on held-out rows of a sample, as debias.py does for SGD."""
    data = stream.data
    noise = noise_of(data)
    if not noise.any():
        return 0.0, "the codes are exact, or rounded to nearest: there is no noise to correct"
    pilot = stream.sample(pilot_rows(data))
    curvature = curvature_of(standardised(data, pilot, sample_rows(data.shape[1]), threads))
    if (rows := effective_rows(data, curvature)) < EFFECTIVE_ROWS:
        return 0.0, f"{rows:.1f} effective rows a feature, fewer than {EFFECTIVE_ROWS:g}: curvature is too uncertain to correct"
    held = max(1, int(len(pilot.data) * HELD_SHARE))
    if len(pilot.data) - held < 2:
        return 0.0, "there are too few rows to judge the correction on"
    sums, labels = _sums(data), pilot.labels.reshape(len(pilot.labels), -1)
    sums.add(pilot.data[held:], labels[held:], None if pilot.weights is None else pilot.weights[held:], threads)
    moments, kept = sums.moments(), data.rows(kernel.MEAN, 0)
    kept.hold(pilot.data[:held])
    z = kept.values(threads)
    own = 1.0 if pilot.weights is None else pilot.weights[:held].astype(np.float64)
    squares, added = np.full((held, len(SHARES)), np.inf), np.zeros(len(SHARES))
    for i, share in enumerate(SHARES):
        try:
            x, bias = solve(moments, noise, share, ridge)
        except IndefiniteError:
            break
        squares[:, i] = np.square(z @ x.T + bias - labels[:held]).mean(axis=1) * own
        added[i] = float(np.sum(noise * x**2)) / len(x) * float(np.mean(own))
    return judge(squares, added)


def fit(
    stream: Stream, debias: str, ridge: Float, threads: int, progress: bool = False
) -> tuple[Float, Float, float, str]:
    """Least squares on the training rows.

    Parameters
    ----------
    stream : Stream
    debias : {"auto", "diagonal", "naive"}
    ridge : ndarray of shape (features,)
        Of x x / 2, in standardised units.
    threads : int
    progress : bool

    Returns
    -------
    weights, bias, share, reason
        Weights of shape (targets, features) and intercepts (targets,), in standardised units.

    Raises
    ------
    DataError
        Too many features for the machine's memory.
    IndefiniteError
        With debias="diagonal", see `solve`.
    """
    check_memory(stream.data)
    noise = noise_of(stream.data)
    if debias == "auto":
        share, reason = choose(stream, ridge, threads)
    else:
        share, reason = (1.0 if debias == "diagonal" else 0.0), "as asked"
    moments = moments_of(stream, threads, Progress.on_terminal if progress else no_progress)
    while True:
        try:
            weights, bias = solve(moments, noise, share, ridge)
            return weights, bias, share, reason
        except IndefiniteError:
            if debias != "auto":
                raise
            smaller = max(one for one in SHARES if one < share)
            reason = f"share {share:g} left all rows' equations indefinite; {smaller:g} instead"
            logger.warning("debias='auto': %s", reason)
            share = smaller


def check_memory(data: TrainingData) -> None:
    """Refuse matrices that do not fit."""
    features = data.shape[1]
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 16 << 30
    need = 3 * 8 * features**2
    if need > have // MEMORY_SHARE:
        raise DataError(
            f"{data.name}: solver='normal' needs {need / 1e9:.1f} GB for {features:,} features; take solver='sgd', or fewer"
        )
