"""A trained linear model in the user's own units: predict, save, load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset
from .errors import CorruptError, DataError, FormatError
from .formats.readers import as_source
from .formats.seal import MAGIC
from .formats.shards import is_sharded
from .publish import write_arrays

MODEL_VERSION = 1
BLOCK_ROWS = 8192


class Model:
    """A linear model: prediction = intercept + coef . row.

    Attributes
    ----------
    coef : ndarray of shape (features,), or (targets, features), float64
        Of several targets, or one for each of more than two classes.
    intercept : float, or ndarray of shape (targets,)
    loss : str
        "squared", or "lssvm", "logistic" or "hinge": predictions are then classes.
    classes : ndarray, or None
        What the labels were, ascending: -1 and +1 where nothing else is known. Of several targets (targets, 2), those of each.
    columns : tuple of str, or None
        Names of the features.
    history : list of dict
        An entry an epoch: epoch, train_loss, test_loss (None without test rows), seconds. Losses are means of
        (z - y)^2 / 2, as the rows were met in the epoch, less what rounding adds in expectation; test_loss likewise, at the
        epoch's end. With debias, train_loss can be below the loss on exact rows, and negative: the model is fitted to the
        noise whose expectation is subtracted (`train`, Notes).
    info : dict
        What training chose and measured: label (its name, if it had one), batch, step, debias, share, train_loss, test_loss,
        accuracies and what they were measured on: "exact rows" or "rounded rows".
    """

    def __init__(
        self,
        coef: NDArray[np.float64],
        intercept: Any,
        loss: str = "squared",
        columns: tuple[str, ...] | None = None,
        history: list[dict[str, Any]] | None = None,
        info: dict[str, Any] | None = None,
        classes: NDArray[np.float64] | None = None,
    ) -> None:
        self.coef, self.loss, self.columns = np.asarray(coef, np.float64), loss, columns
        self.intercept: Any = float(intercept) if self.coef.ndim == 1 else np.asarray(intercept, np.float64)
        self.classes = None if loss == "squared" else np.asarray((-1.0, 1.0) if classes is None else classes, np.float64)
        self.history, self.info = history or [], info or {}

    def decision(self, X: Any) -> NDArray[np.float64]:
        """Intercept + coef . row for the rows of an array, a `Dataset`, or a file, compressed or raw.

        Float64 (rows,), or (rows, targets).

        A file with column names is read by name: columns that the model does not know, a label say, are left out.
        """
        parts = [self.intercept + block @ self.coef.T for block in self._blocks(X)]
        return np.concatenate(parts) if parts else np.empty((0, *self.coef.shape[:-1]))

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predictions, float64 (rows,), or (rows, targets): the decision, or the class that it stands for."""
        return self.classes_of(self.decision(X))

    def classes_of(self, decision: NDArray[np.float64]) -> NDArray[np.float64]:
        """The class of each decision, NaN of NaN; the decision itself where there are no classes."""
        if self.classes is None:
            return decision
        if decision.ndim == 2 and self.classes.ndim == 1 and len(self.classes) == decision.shape[1] > 2:
            return np.where(np.isnan(decision).any(axis=1), np.nan, self.classes[decision.argmax(axis=1)])
        return np.where(np.isnan(decision), decision, np.where(decision >= 0, self.classes[..., 1], self.classes[..., 0]))

    def _blocks(self, X: Any) -> Iterator[NDArray[np.float64]]:
        if isinstance(X, str | PathLike) and is_compressed(Path(X)):
            with Dataset(X) as data:
                yield from self._blocks(data)
        elif isinstance(X, Dataset):
            chosen = self._columns_of(X.columns)
            self._check_width(X.shape[1] if chosen is None else len(chosen), str(X.path))
            for number in range(X.chunks):
                values = X.codec.decode(X.read_chunk(number))
                yield (values if chosen is None else values[:, chosen]).astype(np.float64)
        else:
            with as_source(X) as source:
                chosen = self._columns_of(source.columns)
                for block in source.blocks(BLOCK_ROWS):
                    values = block.values if chosen is None else block.values[:, chosen]
                    self._check_width(values.shape[1], source.name)
                    yield values.astype(np.float64)

    def _columns_of(self, columns: tuple[str, ...] | None) -> list[int] | None:
        """Where a source has all of the model's columns by name: their places."""
        if columns is None or self.columns is None or not set(self.columns) <= set(columns):
            return None
        return [columns.index(name) for name in self.columns]

    def _check_width(self, features: int, name: str) -> None:
        if features != self.coef.shape[-1]:
            raise DataError(f"{name} has {features} features, the model {self.coef.shape[-1]}")

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to `path`: an .npz of arrays and one JSON text, never a pickle."""
        target = Path(path)
        about = {
            "format": "zipml-model",
            "version": MODEL_VERSION,
            "loss": self.loss,
            "history": self.history,
            "info": self.info,
            "columns": None if self.columns is None else list(self.columns),
        }
        of_classes = {} if self.classes is None else {"classes": self.classes}
        write_arrays(target, "model", about, coef=self.coef, intercept=np.asarray(self.intercept), **of_classes)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Model:
        """Read a model that `save` wrote.

        Raises
        ------
        FormatError
            There is no such file, or it is no model, or of a newer version.
        CorruptError
            It is damaged.
        """
        source = Path(path)
        try:
            with source.open("rb") as file:
                if not is_zipfile(file):
                    raise FormatError(f"{source} is not a zipml model, or cut off")
                file.seek(0)
                with np.load(file, allow_pickle=False) as content:
                    if not hasattr(content, "files") or "about" not in content.files:
                        raise FormatError(f"{source} is not a zipml model")
                    about = json.loads(content["about"].tobytes().decode())
                    coef, intercept = content["coef"], content["intercept"]
                    classes = content["classes"] if "classes" in content.files else None
        except FormatError:
            raise
        except FileNotFoundError as error:
            raise FormatError(f"{source}: there is no such file") from error
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            EOFError,
            BadZipFile,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise CorruptError(f"{source} is not a zipml model, or damaged: {error}") from error
        if about.get("format") != "zipml-model":
            raise FormatError(f"{source} is not a zipml model")
        if about["version"] > MODEL_VERSION:
            raise FormatError(
                f"{source}: model version {about['version']}; this zipml-codec reads up to {MODEL_VERSION}"
            )
        columns = about["columns"]
        names = None if columns is None else tuple(columns)
        return cls(coef, intercept, about["loss"], names, about["history"], about["info"], classes)

    def __repr__(self) -> str:
        several = f"{len(self.coef)} targets, " if self.coef.ndim == 2 else ""
        return f"Model({several}{self.coef.shape[-1]} features, loss={self.loss!r})"


def is_compressed(path: Path) -> bool:
    """Whether a file is HDF5 that ends with a zipml file's seal, or has its mark, or is a folder of such files.

    HDF5 does not see a sealed file here: it can crash on a damaged one, which the reader finds out before.
    """
    import h5py

    if is_sharded(path):
        return True
    if path.is_fifo():  # opening it would wait for whoever writes to it
        return False
    try:
        with path.open("rb") as file:
            if file.read(8) != b"\x89HDF\r\n\x1a\n":
                return False
            file.seek(max(0, path.stat().st_size - len(MAGIC)))
            if file.read() == MAGIC:
                return True
        with h5py.File(path, "r") as content:
            return bool(content.attrs.get("format") == "zipml")
    except (OSError, RuntimeError, KeyError):
        return str(path).endswith(".zipml.h5")  # damaged: let the reader say how
