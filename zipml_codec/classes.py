"""Labels that are classes: as -1 and +1, one versus rest for more than two; and the weights of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import DataError, OptionError

MAX_CLASSES = 1000


def signs_of(labels: NDArray[np.float32], loss: str, where: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Labels as -1 and +1, and the classes that they are.

    Parameters
    ----------
    labels : ndarray of shape (rows,), or (rows, targets)
        -1 and +1; 0 and 1; or more than two classes, whole numbers. Of several targets each is of the first two kinds.
    loss : str
        For the message.
    where : str
        What messages call the data.

    Returns
    -------
    signs : ndarray of shape (rows,), or (rows, classes) for more than two, float32
        In a column, +1 for rows of that class.
    classes : ndarray, float64
        Ascending; of several targets (targets, 2), those of each.

    Raises
    ------
    DataError
        Other labels, or only one class.
    """
    if labels.ndim == 2:
        columns = [signs_of(column, loss, f"{where}, label {number}") for number, column in enumerate(labels.T)]
        if any(signs.ndim == 2 for signs, _ in columns):
            raise DataError(f"{where}: one of several labels has more than two classes: train for it alone")
        return np.stack([signs for signs, _ in columns], axis=1), np.stack([classes for _, classes in columns])
    classes = np.unique(labels).astype(np.float64)
    if len(classes) == 1:
        raise DataError(f"{where}: all labels are {classes[0]:g}: there is one class only, and nothing to tell apart")
    if len(classes) == 2:
        if classes.tolist() in ([-1, 1], [0, 1]):
            return np.where(labels == classes[1], np.float32(1), np.float32(-1)), classes
        raise DataError(f"{where}: labels are {classes[0]:g} and {classes[1]:g}; loss={loss!r} takes -1 and +1, or 0 and 1")
    wrong = labels != np.floor(labels)
    if len(classes) > MAX_CLASSES or wrong.any():
        row = int(np.argmax(wrong if wrong.any() else ~np.isin(labels, (-1, 1))))
        raise DataError(
            f"{where}: row {row + 1}: the label is {labels[row]:g}; loss={loss!r} takes -1 and +1, 0 and 1, or the whole numbers "
            f"of up to {MAX_CLASSES:,} classes"
        )
    return np.where(labels[:, None] == classes.astype(np.float32), np.float32(1), np.float32(-1)), classes


def row_weights(
    sample_weight: ArrayLike | None,
    class_weight: Any,
    labels: NDArray[np.float32],
    counted: NDArray[np.bool_] | None,
    signs: bool,
) -> NDArray[np.float32] | None:
    """Weights of rows whose mean is 1 over those that are counted; None where all are alike.

    Parameters
    ----------
    sample_weight : array_like of shape (rows,), optional
        Not negative.
    class_weight : {None, "balanced"} or dict
        Balanced: each class as much as any other, rows / (classes * rows of the class); or the weight of each class, others 1.
    labels : ndarray of shape (rows,)
    counted : ndarray of shape (rows,), bool, optional
        The training rows.
    signs : bool
        Whether labels are classes.
    """
    if sample_weight is None and class_weight is None:
        return None
    rows = len(labels)
    weights = np.ones(rows)
    if sample_weight is not None:
        try:
            weights = np.array(sample_weight, np.float64)
        except (TypeError, ValueError):
            raise OptionError("sample_weight must be one number a row") from None
        if weights.shape != (rows,):
            raise OptionError(f"sample_weight must be one number a row: shape ({rows},), not {weights.shape}")
        wrong = ~np.isfinite(weights) | (weights < 0)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise OptionError(f"sample_weight of row {row + 1} is {weights[row]:g}: weights are finite, and not negative")
    if class_weight is not None:
        weights = weights * _of_classes(class_weight, labels, counted, signs)
    mean = float((weights if counted is None else weights[counted]).mean())
    if mean <= 0:
        raise OptionError("all weights of training rows are 0: there is nothing to train on")
    return (weights / mean).astype(np.float32)


def _of_classes(
    class_weight: Any, labels: NDArray[np.float32], counted: NDArray[np.bool_] | None, signs: bool
) -> NDArray[np.float64]:
    if not signs or labels.ndim != 1:
        raise OptionError("class_weight is for one label of classes: loss='lssvm', 'logistic' or 'hinge'")
    classes, number = np.unique(labels, return_inverse=True)
    if isinstance(class_weight, Mapping):
        unknown = [name for name in class_weight if name not in classes.tolist()]
        if unknown:
            raise OptionError(f"class_weight names {unknown[0]!r}; the classes are {', '.join(f'{one:g}' for one in classes)}")
        of_class = np.array([class_weight.get(float(one), 1.0) for one in classes], np.float64)
        if not np.isfinite(of_class).all() or (of_class < 0).any():
            raise OptionError("class_weight: weights are finite, and not negative")
    elif class_weight == "balanced":
        count = np.bincount(number if counted is None else number[counted], minlength=len(classes))
        of_class = count.sum() / (np.count_nonzero(count) * np.maximum(count, 1))
    else:
        raise OptionError(f"class_weight must be None, 'balanced', or a dict of classes and weights; got {class_weight!r}")
    return np.asarray(of_class[number])
