"""`StochasticQuantizer`: rounding to a few levels as a step of scikit-learn's pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import MAX_SEED, as_rows, check_choice, check_integer, thread_count
from .codec import ROUNDINGS, Codec, interval_count
from .errors import DataError, MissingDependencyError
from .statistics import ColumnStatistics
from .tables import make_codec

try:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data
except ImportError as error:
    raise MissingDependencyError(
        f"StochasticQuantizer needs scikit-learn 1.6 or newer: pip install 'zipml-codec[sklearn]' ({error})"
    ) from error

OUTPUTS = ("values", "codes", "samples")
LEVELS = ("optimal", "uniform")


class StochasticQuantizer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Round each value at random, without bias, to levels learnt from its column.

    Parameters
    ----------
    bits : int
        Of a code, 1..8.
    samples : int
        Rounded samples that a code stands for.
    levels : {"optimal", "uniform"}, or Codec
        Of least rounding variance, equidistant, or given.
    rounding : {"stochastic", "nearest"}
    output : {"values", "codes", "samples"}
        Mean of the samples, float32 (rows, features); codes, uint8 (rows, features); the samples side by side, float32
        (rows, samples * features).
    random_state : int, RandomState or None
        An int is the seed as it is. Randomness is numbered by row: the same rows, from the first on, come out alike each time.

    Attributes
    ----------
    codec_ : zipml_codec.Codec
        Its levels reach from the least to the greatest value met in `fit`; what is beyond in `transform` goes to the outermost.
    n_features_in_, feature_names_in_
    """

    def __init__(
        self,
        bits: int = 4,
        *,
        samples: int = 2,
        levels: Any = "optimal",
        rounding: str = "stochastic",
        output: str = "values",
        random_state: Any = None,
    ) -> None:
        self.bits = bits
        self.samples = samples
        self.levels = levels
        self.rounding = rounding
        self.output = output
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = [] if self.output == "codes" else ["float32"]
        return tags

    def fit(self, X: ArrayLike, y: Any = None) -> StochasticQuantizer:
        """Learn levels from X, array_like of shape (rows, features)."""
        self.__dict__.pop("_statistics", None)
        return self._learn(X, reset=True)

    def partial_fit(self, X: ArrayLike, y: Any = None) -> StochasticQuantizer:
        """Learn levels from X and all rows before: from a stream, block by block."""
        return self._learn(X, reset=not hasattr(self, "_statistics"))

    def _learn(self, X: ArrayLike, reset: bool) -> StochasticQuantizer:
        interval_count(self.bits, self.samples)
        check_choice("output", self.output, OUTPUTS)
        check_choice("rounding", self.rounding, ROUNDINGS)
        x = as_rows(validate_data(self, X, dtype=np.float32, reset=reset))
        if isinstance(self.levels, Codec):
            self.codec_ = self.levels
            if self.codec_.features != x.shape[1]:
                raise DataError(f"X has {x.shape[1]} features; the codec's levels are for {self.codec_.features}")
        else:
            check_choice("levels", self.levels, LEVELS)
            if reset:
                self._statistics = ColumnStatistics(x.shape[1], sketch=self.levels == "optimal", sample=False)
            self._statistics.add(x, thread_count(None))
            self.codec_, _ = make_codec(
                self._statistics, self.levels, self.bits, self.samples, self.rounding, thread_count(None), "none"
            )
        if reset:
            self._seed = self._drawn_seed()
        return self

    def _drawn_seed(self) -> int:
        state = self.random_state
        if isinstance(state, int | np.integer) and 0 <= state <= MAX_SEED:
            return int(state)
        return int(check_random_state(state).randint(2**31 - 1))

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Rounded rows; see `output`."""
        check_is_fitted(self)
        x = as_rows(validate_data(self, X, dtype=np.float32, reset=False))
        codec = self.codec_
        packed = codec.encode(np.clip(x, codec.bounds[:, 0], codec.bounds[:, -1]), seed=self._seed)
        if self.output == "codes":
            return codec.codes(packed)
        if self.output == "samples":
            return np.concatenate(list(codec.draw(packed, seed=self._seed)), axis=1)
        return codec.decode(packed)

    def inverse_transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Values of what `transform` gives: of codes what they decode to, of samples their mean; values stay as they are."""
        check_is_fitted(self)
        codec, features = self.codec_, self.n_features_in_
        if self.output == "values":
            return as_rows(X, features)
        if self.output == "samples":
            x = as_rows(X, features * codec.samples)
            return np.asarray(x.reshape(len(x), codec.samples, features).mean(axis=1), np.float32)
        codes = np.asarray(X)
        top = codec.intervals * codec.samples
        if codes.ndim != 2 or codes.shape[1] != features or not np.isin(codes, np.arange(top + 1)).all():
            raise DataError(
                f"codes are whole numbers, 0..{top}, of shape (rows, {features}); got {codes.dtype} {codes.shape}"
            )
        codes = codes.astype(np.intp)
        if codec.is_uniform:
            low, step, high = codec.values()
            return np.where(codes == top, high, low + codes.astype(np.float32) * step)
        (table,) = codec.values()
        return np.asarray(table[0 if codec.is_shared else np.arange(features), codes])

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of the columns: those of the input; of samples with _sample0, _sample1, ... behind them."""
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        if self.output != "samples":
            return np.asarray(names, object)
        count = check_integer("samples", self.codec_.samples, 1)
        return np.array([f"{name}_sample{number}" for number in range(count) for name in names], object)
