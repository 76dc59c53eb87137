"""Estimators as scikit-learn has them: `ZipMLRegressor` and `ZipMLClassifier`, trained from codes in memory or in a file."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import MAX_SEED, check_choice, check_integer, thread_count
from .classes import row_weights
from .dataset import Dataset
from .errors import DataError, FormatError, MissingDependencyError, OptionError
from .incremental import Portions
from .losses import LOSSES
from .memory import encode_rows
from .model import Model
from .penalties import make_penalty
from .plan import Plan
from .progress import Progress
from .training import print_epoch, train

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state, compute_sample_weight
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise MissingDependencyError(
        f"the estimators need scikit-learn 1.6 or newer: pip install 'zipml-codec[sklearn]' ({error})"
    ) from error

FEWEST_STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 4000, 20, 1000
ON_THE_BYTE_GRID = (
    6  # bits up to which optimal levels may lie where training in integers finds them (zipml_codec/tables.py)
)
OF_FILES = (str, PathLike, Dataset)
PARTIAL_DEBIAS = ("auto", "naive", "diagonal")


class _ZipML(BaseEstimator):  # type: ignore[misc]
    """What the two have alike."""

    model_: Model
    coef_: NDArray[np.float64]
    intercept_: Any

    def __init__(
        self,
        loss: str,
        *,
        penalty: str = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.5,
        bounds: Any = None,
        radius: float | None = None,
        penalty_units: str = "data",
        bits: int | None = 8,
        samples: int = 1,
        levels: Any = "auto",
        debias: str = "auto",
        debias_options: dict[str, Any] | None = None,
        solver: str = "sgd",
        max_iter: int | str = "auto",
        tol: float = 0.0,
        batch_size: int | None = None,
        eta0: float | None = None,
        learning_rate: str = "cosine",
        model_bits: int | str = "auto",
        gradient_bits: int = 32,
        warm_start: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.bounds = bounds
        self.radius = radius
        self.penalty_units = penalty_units
        self.bits = bits
        self.samples = samples
        self.levels = levels
        self.debias = debias
        self.debias_options = debias_options
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.batch_size = batch_size
        self.eta0 = eta0
        self.learning_rate = learning_rate
        self.model_bits = model_bits
        self.gradient_bits = gradient_bits
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _train(self, X: Any, y: Any, sample_weight: Any, shape: tuple[int, int]) -> Model:
        """Train on a file, or on checked rows and labels, and take the model over."""
        begun = self.warm_start and self.solver == "sgd" and hasattr(self, "model_")
        start = self.model_ if begun else None
        if start is not None and start.coef.shape[-1] != shape[1]:
            raise OptionError(
                f"warm_start goes on with {start.coef.shape[-1]} features; X has {shape[1]}: fit a fresh estimator"
            )
        seed, threads, epochs = self._seed(), self._threads(), self._epochs(shape[0])
        data: Any
        label, data = (y, X) if isinstance(X, Dataset) else (list(range(y.shape[1])) if y.ndim == 2 else None, (X, y))
        if not isinstance(X, Dataset) and self.bits is not None:
            data = encode_rows(X, y, **self._codes(seed), threads=threads)
        strong = self.penalty in ("l2", "l1", "elastic-net")
        with _Epochs(epochs, int(self.verbose)) as told:
            model = train(
                data,
                label=label,
                loss=self.loss,
                solver=self.solver,
                penalty=self.penalty,
                strength=self.alpha if strong else 0.0,
                l1_ratio=self.l1_ratio,
                bounds=self.bounds,
                radius=self.radius,
                penalty_units=self.penalty_units,
                sample_weight=sample_weight,
                epochs=epochs,
                batch=self.batch_size,
                step=self.eta0,
                schedule=self.learning_rate,
                debias=self.debias,
                **(self.debias_options or {}),
                model_bits=self.model_bits,
                gradient_bits=self.gradient_bits,
                start=start,
                tolerance=self.tol,
                threads=threads,
                seed=seed,
                progress=told,
            )
        self.n_iter_ = max(1, len(model.history))  # the normal equations take one pass
        self.__dict__.pop("_portions", None)
        return model

    def _codes(self, seed: int) -> dict[str, Any]:
        """How rows are encoded."""
        assert self.bits is not None
        levels = self.levels
        if isinstance(levels, str) and levels == "auto":
            levels = "optimal" if self.bits <= ON_THE_BYTE_GRID else "uniform"
        return {"bits": self.bits, "samples": self.samples, "levels": levels, "seed": seed}

    def _seed(self) -> int:
        """A seed as it is, else one drawn from the random state."""
        state = self.random_state
        if isinstance(state, int | np.integer) and 0 <= state <= MAX_SEED:
            return int(state)
        return int(check_random_state(state).randint(2**31 - 1))

    def _threads(self) -> int | None:
        if self.n_jobs is None or self.n_jobs == -1:
            return thread_count(None)
        if self.n_jobs < -1:
            return max(1, thread_count(None) + 1 + self.n_jobs)
        return thread_count(self.n_jobs)

    def _epochs(self, rows: int) -> int:
        """Epochs as given, or as many as take enough steps."""
        if isinstance(self.max_iter, str):
            check_choice("max_iter", self.max_iter, ("auto",))
            batch = self.batch_size or max(64, min(1024, rows // 128))
            return int(min(MOST_EPOCHS, max(FEWEST_EPOCHS, FEWEST_STEPS // -(-rows // min(batch, rows)))))
        return check_integer("max_iter", self.max_iter, 1)

    def _take(self, model: Model, features: int, columns: tuple[str, ...] | None) -> None:
        self.model_ = model
        if columns is not None:
            self.feature_names_in_ = np.array(columns, object)
        self.n_features_in_ = features

    def _file(self, X: Any) -> Dataset:
        return X if isinstance(X, Dataset) else Dataset(X)

    def _decision(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self)
        if not isinstance(X, OF_FILES):
            X = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        return self.model_.decision(X)

    def _portion(
        self, X: Any, y: NDArray[np.float32], weights: NDArray[np.float32] | None, shape: tuple[int, ...]
    ) -> None:
        """One portion of `partial_fit`: y of shape (rows,) or (rows, targets), the coefficients' shape being `shape`."""
        check_choice("debias", self.debias, PARTIAL_DEBIAS)
        if not hasattr(self, "_portions"):
            fresh = not hasattr(self, "model_")
            coef = np.zeros(shape) if fresh else self.model_.coef
            self._portions = Portions(coef, np.zeros(shape[:-1]) if fresh else self.model_.intercept)
        state, penalty = self._portions, make_penalty(
            self.penalty,
            self.alpha if self.penalty in ("l2", "l1", "elastic-net") else 0.0,
            self.l1_ratio,
            self.bounds,
            self.radius,
            self.penalty_units,
        )  # fmt: skip
        seed = (self._seed() + state.count) % (MAX_SEED + 1)
        plan = Plan(
            1, self.batch_size or 0, 0.0, "inverse", self.loss, penalty, seed=seed, threads=self._threads() or 1
        )
        codes = None if self.bits is None else self._codes(seed)
        state.add(X, y, weights, plan, step=self.eta0, debias=self.debias, codes=codes)
        self.n_iter_, self.clipped_ = 1, state.clipped

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted estimator to `path`: its model, as `Model.save` does, without a pickle.

        `load` brings it back; `zipml_codec.Model.load` and `zipml predict` read it as any model.

        Raises
        ------
        OptionError
            Class labels that are neither numbers, nor text, nor bool.
        """
        check_is_fitted(self)
        params = {name: value for name, value in self.get_params().items() if _plain(value)}
        about: dict[str, Any] = {"estimator": type(self).__name__, "params": params}
        classes = getattr(self, "classes_", None)
        if classes is not None:
            if not all(_plain(one) for one in classes.tolist()):
                raise OptionError(
                    f"classes of dtype {classes.dtype} cannot be saved: fit with labels that are numbers or text"
                )
            about |= {
                "classes": classes.tolist(),
                "classes_dtype": "O" if classes.dtype == object else classes.dtype.str,
            }
        names = getattr(self, "feature_names_in_", None)
        about |= {"feature_names": None if names is None else names.tolist(), "n_iter": self.n_iter_}
        about["one_column"] = bool(self.coef_.ndim > self.model_.coef.ndim)
        model = self.model_
        info = model.info | {"sklearn": about}
        Model(model.coef, model.intercept, model.loss, model.columns, model.history, info, model.classes).save(path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Any:
        """The estimator that `save` wrote.

        Raises
        ------
        FormatError, CorruptError
            As `Model.load`; or the file holds another kind of model.
        """
        model = Model.load(path)
        about = model.info.pop("sklearn", None)
        if about is None or about["estimator"] != cls.__name__:
            held = "a model alone: read it with Model.load" if about is None else f"a {about['estimator']}"
            raise FormatError(f"{path} holds no {cls.__name__}, but {held}")
        self = cls(**about["params"])
        names = about["feature_names"]
        self.n_iter_ = about["n_iter"]
        if about.get("classes") is not None:
            self.classes_ = np.array(about["classes"], np.dtype(about["classes_dtype"]))
        self._one_column = about["one_column"]
        self._take(model, model.coef.shape[-1], None if names is None else tuple(names))
        return self


class ZipMLRegressor(RegressorMixin, _ZipML):  # type: ignore[misc]
    """Linear regression by SGD from low-precision codes (ZipML).

    Minimises mean w (z - y)^2 / 2 + penalty(coef), z = intercept + coef . row: `alpha` is Ridge's divided by the number of rows,
    and Lasso's and ElasticNet's as it is.

    Parameters
    ----------
    loss : {"squared"}
    penalty, l1_ratio, bounds, radius, penalty_units
        As in `zipml_codec.train`.
    alpha : float
        The penalty's strength.
    bits : int or None
        Of a code, 1..8. None: train on exact float32 rows.
    samples, levels : int, str or Codec
        As in `zipml_codec.compress`; levels="auto" are optimal up to 6 bits and uniform above, where they lose as little and
        train several times as fast.
    debias, model_bits, gradient_bits
        As in `zipml_codec.train`.
    debias_options : dict, optional
        Of those debias that have some: degree, span, gap, sketch_size, failure, as in `zipml_codec.train`.
    solver : {"sgd", "normal"}
        normal: the exact solution of least squares, in one pass; see `zipml_codec.train`. `partial_fit` takes steps of SGD.
    max_iter : int or "auto"
        Epochs. auto: 4,000 steps, in 20 to 1,000 epochs.
    tol : float
        Stop when three epochs have brought the training loss down by less than this share; 0: never. The default schedule
        needs all of its epochs.
    batch_size, eta0, learning_rate
        `batch`, `step` and `schedule` of `zipml_codec.train`.
    warm_start : bool
        Begin with the model of the last fit.
    random_state : int, RandomState or None
        An int is the seed of rounding, order and all else as it is.
    n_jobs : int, optional
        Threads; results do not depend on them.
    verbose : int
        1: a bar on standard error where that is a terminal, else a line an epoch. 2: a line an epoch.

    Attributes
    ----------
    coef_ : ndarray of shape (features,), or (targets, features)
    intercept_ : float, or ndarray of shape (targets,)
    model_ : zipml_codec.Model
    n_iter_ : int
        Epochs.
    n_features_in_, feature_names_in_
    clipped_ : int
        After `partial_fit`: values beyond the levels of the first call, moved to the nearest.
    """

    def __init__(
        self,
        loss: str = "squared",
        *,
        penalty: str = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.5,
        bounds: Any = None,
        radius: float | None = None,
        penalty_units: str = "data",
        bits: int | None = 8,
        samples: int = 1,
        levels: Any = "auto",
        debias: str = "auto",
        debias_options: dict[str, Any] | None = None,
        solver: str = "sgd",
        max_iter: int | str = "auto",
        tol: float = 0.0,
        batch_size: int | None = None,
        eta0: float | None = None,
        learning_rate: str = "cosine",
        model_bits: int | str = "auto",
        gradient_bits: int = 32,
        warm_start: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(**given)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> ZipMLRegressor:
        """Train.

        Parameters
        ----------
        X : array_like of shape (rows, features), DataFrame, or a zipml file: path or Dataset
        y : array_like of shape (rows,), or (rows, targets)
            Of a file: None for its labels, the name or number of one of them, or a list.
        sample_weight : array_like of shape (rows,), or, of a file, the name of a kept column, optional

        Raises
        ------
        ValueError
            Data or options that do not fit; every error of this package for them is one.
        """
        check_choice("loss", self.loss, ("squared",))
        if isinstance(X, OF_FILES):
            _check_named(y)
            data = self._file(X)
            model, columns = self._train(data, _labels(data, y), sample_weight, data.shape), data.columns
            self._one_column = False
        else:
            X, y = self._checked(X, y, reset=True)
            weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
            self._one_column = y.ndim == 2 and y.shape[1] == 1
            model, columns = self._train(X, y[:, 0] if self._one_column else y, weights, X.shape), None
            model.columns = _names(self)
        self._take(model, model.coef.shape[-1], columns)
        return self

    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64], multi_output=True, y_numeric=True, reset=reset)
        return X, y

    def _take(self, model: Model, features: int, columns: tuple[str, ...] | None) -> None:
        super()._take(model, features, columns)
        self.coef_ = model.coef[None] if self._one_column else model.coef
        self.intercept_ = np.array([model.intercept]) if self._one_column else model.intercept

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> ZipMLRegressor:
        """One pass over a portion of the rows.

        The codec is fixed by the first call's levels: values beyond them are moved to the outermost level and counted in
        `clipped_`. Statistics to standardise by are of all rows so far; steps fall with the square root of the number of calls.
        After `fit` it goes on with that model, with levels of its own.
        """
        X, y = self._checked(X, y, reset=not hasattr(self, "n_features_in_"))
        y = np.asarray(y, np.float32)
        self._one_column = y.ndim == 2 and y.shape[1] == 1
        y = y[:, 0] if self._one_column else y
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        weights = row_weights(weights, None, y, None, False)
        self._portion(X, y, weights, (*y.shape[1:], X.shape[1]))
        state = self._portions
        self._take(Model(state.coef, state.intercept, self.loss, _names(self)), X.shape[1], None)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predictions, float64 (rows,), or (rows, targets), for an array, a DataFrame or a file."""
        decision = self._decision(X)
        return decision[:, None] if self._one_column else decision

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """R^2; for a file also of its own labels."""
        return float(super().score(X, _labels_of(X, y), sample_weight))

    def to_sklearn(self) -> Any:
        """A fitted `LinearRegression` of the same coefficients."""
        from sklearn.linear_model import LinearRegression

        check_is_fitted(self)
        return _plain_model(self, LinearRegression())


class ZipMLClassifier(ClassifierMixin, _ZipML):  # type: ignore[misc]
    """Linear classification by SGD from low-precision codes (ZipML), one versus rest for more than two classes.

    Minimises mean w loss(y z) + penalty(coef), z = intercept + coef . row, y in {-1, +1}: `alpha` is 1 / (C rows) of
    LogisticRegression and LinearSVC.

    Parameters
    ----------
    loss : {"logistic", "hinge", "lssvm"}
        Logistic regression; the support vector machine; the least-squares support vector machine.
    class_weight : dict, "balanced" or None
    penalty, alpha, l1_ratio, bounds, radius, penalty_units, bits, samples, levels, debias, debias_options, solver, max_iter, \
tol, batch_size, eta0, learning_rate, model_bits, gradient_bits, warm_start, random_state, n_jobs, verbose
        As in `ZipMLRegressor`.

    Attributes
    ----------
    classes_ : ndarray
        Labels of any kind that sorts: numbers, text.
    coef_ : ndarray of shape (1, features), or (classes, features)
    intercept_ : ndarray of shape (1,), or (classes,)
    model_ : zipml_codec.Model
        Its classes are `classes_` where these are numbers, else their places in it.
    n_iter_ : int
        Epochs.
    n_features_in_, feature_names_in_
    clipped_ : int
        After `partial_fit`: values beyond the levels of the first call, moved to the nearest.
    """

    def __init__(
        self,
        loss: str = "logistic",
        *,
        penalty: str = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.5,
        bounds: Any = None,
        radius: float | None = None,
        penalty_units: str = "data",
        class_weight: Any = None,
        bits: int | None = 8,
        samples: int = 1,
        levels: Any = "auto",
        debias: str = "auto",
        debias_options: dict[str, Any] | None = None,
        solver: str = "sgd",
        max_iter: int | str = "auto",
        tol: float = 0.0,
        batch_size: int | None = None,
        eta0: float | None = None,
        learning_rate: str = "cosine",
        model_bits: int | str = "auto",
        gradient_bits: int = 32,
        warm_start: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__", "class_weight")}
        super().__init__(**given)
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> ZipMLClassifier:
        """Train.

        Parameters
        ----------
        X : array_like of shape (rows, features), DataFrame, or a zipml file: path or Dataset
        y : array_like of shape (rows,)
            Labels of two or more classes. Of a file: None for its only label, or the name or number of one.
        sample_weight : array_like of shape (rows,), or, of a file, the name of a kept column, optional

        Raises
        ------
        ValueError
            Data or options that do not fit; every error of this package for them is one.
        """
        self._check_loss()
        if isinstance(X, OF_FILES):
            _check_named(y)
            data = self._file(X)
            if isinstance(y, list) or (y is None and data.labels_a_row > 1):
                raise OptionError(f"a classifier is for one label, and {data.path} has {data.labels_a_row}: name one with y=")
            labels = _labels_of(data, y)
            weights = data.kept[sample_weight] if isinstance(sample_weight, str) else sample_weight
            classes = np.unique(labels)
            model = self._train(data, _labels(data, y), self._weights(weights, labels), data.shape)
            self.classes_, columns = (
                classes.astype(np.int64) if (classes == np.floor(classes)).all() else classes,
                data.columns,
            )
        else:
            X, y = self._checked(X, y, reset=True)
            weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
            classes, codes = np.unique(y, return_inverse=True)
            if len(classes) < 2:
                raise DataError(
                    f"y holds one class only, {classes.tolist()[0]!r}, and nothing to tell apart: two classes are needed"
                )
            if self.warm_start and hasattr(self, "classes_") and not np.array_equal(classes, self.classes_):
                raise OptionError(
                    "warm_start goes on with the classes of the last fit; y has others: fit a fresh estimator"
                )
            model = self._train(X, codes.astype(np.float32), self._weights(weights, y), X.shape)
            self.classes_, columns, model.columns = classes, None, _names(self)
        self._take(model, model.coef.shape[-1], columns)
        return self

    def _check_loss(self) -> None:
        check_choice("loss", self.loss, tuple(name for name, loss in LOSSES.items() if loss.signs))

    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64], multi_output=True, reset=reset)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return X, y

    def _weights(self, sample_weight: Any, y: NDArray[Any]) -> NDArray[np.float64] | None:
        """Weights of rows times those of their classes."""
        if self.class_weight is None:
            return None if sample_weight is None else np.asarray(sample_weight, np.float64)
        of_class = np.asarray(compute_sample_weight(self.class_weight, y))
        return of_class if sample_weight is None else of_class * np.asarray(sample_weight, np.float64)

    def _take(self, model: Model, features: int, columns: tuple[str, ...] | None) -> None:
        if self.classes_.dtype.kind in "iuf":
            model.classes = self.classes_.astype(np.float64)
        super()._take(model, features, columns)
        self.coef_, self.intercept_ = np.atleast_2d(model.coef), np.atleast_1d(model.intercept)

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> ZipMLClassifier:
        """One pass over a portion of the rows; the first call names all classes.

        The codec is fixed by the first call's levels: values beyond them are moved to the outermost level and counted in
        `clipped_`. Statistics to standardise by are of all rows so far; steps fall with the square root of the number of calls.
        class_weight="balanced" cannot be told from a portion, and is refused. After `fit` it goes on with that model, with levels
        of its own.
        """
        self._check_loss()
        if isinstance(self.class_weight, str):
            raise OptionError(
                f"class_weight={self.class_weight!r} needs all rows: give partial_fit a dict, or sample_weight"
            )
        X, y = self._checked(X, y, reset=not hasattr(self, "n_features_in_"))
        known = getattr(self, "classes_", None)
        if known is None and classes is None:
            raise OptionError("classes: the first call of partial_fit names all classes")
        given: Any = known if classes is None else np.unique(np.asarray(classes))
        if known is not None and not np.array_equal(known, given):
            raise OptionError(f"classes: {given} are not those of the calls before, {known}")
        if len(given) < 2:
            raise DataError(f"classes holds one class only, {given.tolist()[0]!r}: two are needed")
        unknown = np.setdiff1d(y, given)
        if len(unknown):
            raise DataError(f"y holds {unknown.tolist()[0]!r}, which is none of classes")
        self.classes_ = given
        signs = np.where(y[:, None] == given, np.float32(1), np.float32(-1))
        signs = np.ascontiguousarray(signs[:, 1] if len(given) == 2 else signs)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        self._portion(
            X, signs, row_weights(self._weights(weights, y), None, signs, None, True), (*signs.shape[1:], X.shape[1])
        )
        state = self._portions
        places = np.arange(len(given), dtype=np.float64)
        self._take(Model(state.coef, state.intercept, self.loss, _names(self), classes=places), X.shape[1], None)
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Decisions z, float64 (rows,), positive for `classes_[1]`, or (rows, classes)."""
        return self._decision(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """The class of each row, (rows,), for an array, a DataFrame or a file."""
        decision = self._decision(X)
        place = decision.argmax(axis=1) if decision.ndim == 2 else (decision > 0).astype(np.intp)
        return np.asarray(self.classes_[place])

    @available_if(lambda self: self.loss == "logistic")  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of the classes, (rows, classes), by loss="logistic".

        Of more than two classes, those of one versus rest, scaled to add up to 1.
        """
        decision = self._decision(X)
        if decision.ndim == 1:
            return np.exp(-np.logaddexp(0, np.stack([decision, -decision], axis=1)))
        logs = -np.logaddexp(0, -decision)
        positive = np.exp(logs - logs.max(axis=1, keepdims=True))  # the largest is 1: the sum never vanishes
        return np.asarray(positive / positive.sum(axis=1, keepdims=True))

    @available_if(lambda self: self.loss == "logistic")  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Logarithms of `predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.predict_proba(X)))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy; for a file also of its own labels."""
        return float(super().score(X, _labels_of(X, y), sample_weight))

    def to_sklearn(self) -> Any:
        """A fitted `LogisticRegression`, for other losses a `LinearSVC`, of the same coefficients.

        Of more than two classes and loss="logistic", a `OneVsRestClassifier` of such: its probabilities are one versus rest too.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.preprocessing import LabelBinarizer
        from sklearn.svm import LinearSVC

        check_is_fitted(self)
        if self.loss != "logistic":
            return _plain_model(
                self, LinearSVC(loss="hinge" if self.loss == "hinge" else "squared_hinge"), self.classes_
            )
        if len(self.classes_) == 2:
            return _plain_model(self, LogisticRegression(), self.classes_)
        several = OneVsRestClassifier(LogisticRegression())
        several.estimators_ = []
        for coef, intercept in zip(self.coef_, self.intercept_, strict=True):
            one = _plain_model(self, LogisticRegression(), np.array([0, 1]))
            one.coef_, one.intercept_ = coef[None].copy(), np.array([intercept])
            several.estimators_.append(one)
        several.label_binarizer_ = LabelBinarizer(sparse_output=True).fit(self.classes_)
        several.classes_ = self.classes_.copy()
        several.n_features_in_ = self.n_features_in_
        if hasattr(self, "feature_names_in_"):
            several.feature_names_in_ = self.feature_names_in_
        return several


class _Epochs:
    """What is shown of the epochs: nothing, a bar, or lines."""

    def __init__(self, epochs: int, verbose: int) -> None:
        import sys

        self._epochs, self._bar = epochs, None
        self._lines = verbose >= 2 or (verbose == 1 and not sys.stderr.isatty())
        if verbose == 1 and not self._lines:
            self._bar = Progress("training", epochs, None)

    def __enter__(self) -> Any:
        return self._tell if self._lines or self._bar is not None else False

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)

    def _tell(self, entry: dict[str, Any]) -> None:
        if self._bar is None:
            print_epoch(entry)
        else:
            self._bar.advance(1, note=f"epoch {entry['epoch']} of {self._epochs}, loss {entry['train_loss']:.4g}")


def _plain_model(fitted: Any, plain: Any, classes: NDArray[Any] | None = None) -> Any:
    """A linear model of scikit-learn with the coefficients of ours."""
    plain.coef_, plain.intercept_ = fitted.coef_.copy(), np.copy(fitted.intercept_)
    plain.n_features_in_, plain.n_iter_ = fitted.n_features_in_, fitted.n_iter_
    if hasattr(fitted, "feature_names_in_"):
        plain.feature_names_in_ = fitted.feature_names_in_.copy()
    if classes is not None:
        plain.classes_, plain.n_iter_ = classes.copy(), np.array([fitted.n_iter_], np.int32)
    return plain


def _names(estimator: Any) -> tuple[str, ...] | None:
    """Names of the features, where the rows had them."""
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else tuple(names.tolist())


def _labels(data: Dataset, y: Any) -> Any:
    """Which of a file's labels are meant: all of them where none is named."""
    return list(range(data.labels_a_row)) if y is None and data.labels_a_row > 1 else y


def _check_named(y: Any) -> None:
    """Labels to train a file's rows for are the file's own."""
    if not (y is None or isinstance(y, str | int | list)):
        raise OptionError(f"y names labels of the file, by name or number, or is None for its own; got {type(y).__name__}")


def _labels_of(X: Any, y: Any) -> Any:
    """y, or a file's labels that it names."""
    if not isinstance(X, OF_FILES) or not (y is None or isinstance(y, str | int | list)):
        return y
    from .training import training_data

    data = X if isinstance(X, Dataset) else Dataset(X)
    return training_data(data, _labels(data, y)).labels


def _plain(value: Any) -> bool:
    """Whether JSON keeps it."""
    if isinstance(value, list | tuple):
        return all(_plain(one) for one in value)
    return value is None or isinstance(value, str | int | float | bool)
