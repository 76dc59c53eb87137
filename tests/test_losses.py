"""Losses: slopes against finite differences; trained models against scikit-learn's; weights, classes and several targets."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_class_weight

import zipml_codec as zipml
from zipml_codec.classes import row_weights, signs_of
from zipml_codec.errors import DataError, OptionError
from zipml_codec.losses import LOSSES

EXACT = {  # written down anew
    "squared": lambda z, y: (z - y) ** 2 / 2,
    "lssvm": lambda z, y: (1 - y * z) ** 2 / 2,
    "logistic": lambda z, y: np.log1p(np.exp(-np.abs(z))) + np.maximum(-y * z, 0),
    "hinge": lambda z, y: np.where(y * z < 1, 1 - y * z, 0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_slopes(name):
    loss, h = LOSSES[name], 1e-5
    z = np.linspace(-30, 30, 2401) + 1e-3
    for y in (-1.0, 1.0) if loss.signs else (-2.5, 0.0, 7.0):
        labels = np.full_like(z, y)
        np.testing.assert_allclose(loss.value(z, labels), EXACT[name](z, y), rtol=1e-12, atol=1e-13)
        difference = (EXACT[name](z + h, y) - EXACT[name](z - h, y)) / (2 * h)
        np.testing.assert_allclose(loss.slope(z, labels), difference, rtol=1e-6, atol=1e-7)
        steepness = np.diff(loss.slope(z, labels)) / np.diff(z)
        assert (steepness >= -1e-12).all()  # convex
        if loss.squared:
            np.testing.assert_allclose(steepness, 1)
        else:  # what steps rely on
            assert (np.abs(loss.slope(z, labels)) <= 1).all()


def test_far_from_zero():
    """No overflow, and no warning, of which each would be an error here."""
    z = np.array([-1e300, -800.0, 800.0, 1e300])
    one = np.ones(4)
    np.testing.assert_array_equal(LOSSES["logistic"].slope(z, one), [-1, -1, 0, 0])
    np.testing.assert_array_equal(LOSSES["logistic"].value(z, one), [1e300, 800, 0, 0])
    np.testing.assert_array_equal(LOSSES["hinge"].slope(np.array([1.0, np.nextafter(1, 0)]), np.ones(2)), [0, -1])


# ---- Trained models against scikit-learn's ----

ROWS = 2000


def problem(seed=0, scales=True):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(ROWS, 8))
    Z[:, 1] += 0.6 * Z[:, 0]
    scale = np.array([1e-2, 0.3, 1, 5, 100, 1, 1, 1]) if scales else np.ones(8)
    X = (Z * scale + rng.normal(size=8) * scale).astype(np.float32)
    chance = 1 / (1 + np.exp(-(Z @ [1.5, -1, 0.5, 0.3, -0.8, 0, 0.2, 0] + 0.7)))
    return X, np.where(rng.random(ROWS) < chance, 1.0, -1.0)


def objective(loss, X, y, coef, intercept, strength, weights=None):
    """Mean loss plus ridge, in float64."""
    z = X.astype(np.float64) @ np.ravel(coef) + float(np.ravel(intercept)[0])
    return float(np.average(EXACT[loss](z, y), weights=weights)) + strength * float(np.square(coef).sum()) / 2


def by_sklearn(loss, X, y, strength, weights=None):
    wide = X.astype(np.float64)
    if loss == "logistic":
        return LogisticRegression(C=1 / strength / ROWS, solver="newton-cholesky", tol=1e-8).fit(wide, y, weights)
    if loss == "hinge":  # liblinear penalises the intercept, by 1 / scaling^2
        options = {"C": 1 / strength / ROWS, "loss": "hinge", "dual": True, "intercept_scaling": 30.0}
        return LinearSVC(**options, tol=1e-7, max_iter=1_000_000, random_state=0).fit(wide, y, weights)
    return Ridge(alpha=strength * ROWS, solver="svd").fit(wide, y, weights)


@pytest.mark.parametrize("strength", [1e-3, 1e-2])
@pytest.mark.parametrize("loss", ["squared", "lssvm", "logistic", "hinge"])
def test_objectives_on_exact_data(loss, strength):
    X, y = problem(scales=loss != "hinge")  # liblinear does not get there on such scales
    other = by_sklearn(loss, X, y, strength)
    model = zipml.train((X, y), loss=loss, strength=strength, epochs=100, batch=64)
    best = objective(loss, X, y, other.coef_, other.intercept_, strength)
    ours = objective(loss, X, y, model.coef, model.intercept, strength)
    assert ours <= 1.005 * best and (loss == "hinge" or ours >= best * (1 - 1e-6))
    assert model.info["objective"] == pytest.approx(ours, rel=2e-3)


@pytest.mark.parametrize(("loss", "debias"), [("lssvm", "auto"), ("logistic", "auto"), ("hinge", "auto"), ("hinge", "refetch")])
def test_objectives_from_8_bit_codes(tmp_path, loss, debias):
    """Within 1 % of the exact solution's objective, on the exact rows."""
    X, y = problem(1, scales=loss != "hinge")
    other = by_sklearn(loss, X, y, 1e-3)
    data = zipml.compress(X, y, path=tmp_path / "f", bits=8, samples=1, keep_exact=True)
    model = zipml.train(data, loss=loss, debias=debias, strength=1e-3, epochs=60, batch=64)
    best = objective(loss, X, y, other.coef_, other.intercept_, 1e-3)
    assert objective(loss, X, y, model.coef, model.intercept, 1e-3) <= 1.01 * best


# ---- Weights ----


@pytest.mark.parametrize("loss", ["squared", "lssvm", "logistic", "hinge"])
def test_weights_are_repeated_rows(loss):
    X, y = problem(2, scales=False)
    count = np.random.default_rng(0).integers(0, 4, ROWS)
    weighted = zipml.train((X, y), loss=loss, strength=1e-3, sample_weight=count, epochs=100, batch=64)
    repeated = zipml.train((np.repeat(X, count, axis=0), np.repeat(y, count)), loss=loss, strength=1e-3, epochs=100, batch=64)
    a, b = (objective(loss, X, y, model.coef, model.intercept, 1e-3, count) for model in (weighted, repeated))
    plain = zipml.train((X, y), loss=loss, strength=1e-3, epochs=100, batch=64)
    assert a == pytest.approx(b, rel=1e-3) and objective(loss, X, y, plain.coef, plain.intercept, 1e-3, count) > a
    np.testing.assert_allclose(weighted.coef, repeated.coef, atol=0.05)
    scaled = zipml.train((X, y), loss=loss, strength=1e-3, sample_weight=count * 8.0, epochs=3)
    np.testing.assert_allclose(scaled.coef, zipml.train((X, y), loss=loss, strength=1e-3, sample_weight=count, epochs=3).coef)


def test_balanced_classes_are_sklearns():
    X, y = problem(3, scales=False)
    keep = (y > 0) | (np.arange(ROWS) % 5 == 0)
    X, y = X[keep], y[keep]
    expected = dict(zip((-1.0, 1.0), compute_class_weight("balanced", classes=np.array([-1.0, 1]), y=y), strict=True))
    weights = row_weights(None, "balanced", y.astype(np.float32), None, True)
    np.testing.assert_allclose(weights, [expected[label] for label in y], rtol=1e-6)
    of_dict = row_weights(None, {-1: 3.0}, y.astype(np.float32), None, True)
    assert of_dict[y < 0][0] / of_dict[y > 0][0] == pytest.approx(3)
    assert of_dict.mean() == pytest.approx(1)
    other = LogisticRegression(C=1 / 1e-3 / len(y), class_weight="balanced", tol=1e-8).fit(X.astype(np.float64), y)
    model = zipml.train((X, y), loss="logistic", strength=1e-3, class_weight="balanced", epochs=100, batch=64)
    a = objective("logistic", X, y, model.coef, model.intercept, 1e-3, weights)
    b = objective("logistic", X, y, other.coef_, other.intercept_, 1e-3, weights)
    assert b * (1 - 1e-6) <= a <= 1.005 * b


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sample_weight": np.ones(3)}, r"shape \(2000,\), not \(3,\)"),
        ({"sample_weight": np.full(ROWS, -1.0)}, "row 1 is -1"),
        ({"sample_weight": np.where(np.arange(ROWS) == 7, np.nan, 1)}, "row 8 is nan"),
        ({"sample_weight": np.zeros(ROWS)}, "all weights of training rows are 0"),
        ({"class_weight": "fair"}, "'balanced'"),
        ({"class_weight": {5: 1.0}}, "names 5; the classes are -1, 1"),
        ({"class_weight": {1: -1.0}}, "not negative"),
        ({"class_weight": "balanced", "loss": "squared"}, "class_weight is for one label of classes"),
        ({"sample_weight": "w"}, "rows of an array have none"),
    ],
)
def test_weights_that_do_not_fit(options, text):
    with pytest.raises(OptionError, match=text):
        zipml.train(problem(), **{"loss": "logistic", "epochs": 1} | options)


# ---- Classes and targets ----


@pytest.mark.parametrize("loss", ["lssvm", "logistic", "hinge"])
def test_one_versus_rest(loss):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(ROWS, 5)).astype(np.float32)
    y = np.array([3, 5, 11])[np.argmax(X[:, :3] + 0.5 * rng.normal(size=(ROWS, 3)), axis=1)]
    options = {"loss": loss, "strength": 1e-2, "epochs": 60, "batch": 64}
    model = zipml.train((X, y), **options)
    assert model.classes.tolist() == [3, 5, 11] and model.coef.shape == (3, 5)
    objectives = []
    for number, name in enumerate(model.classes):
        sign = np.where(y == name, 1.0, -1.0)
        alone = zipml.train((X, sign), **options)
        np.testing.assert_allclose(model.coef[number], alone.coef, atol=2e-3)
        assert model.intercept[number] == pytest.approx(alone.intercept, abs=2e-3)
        objectives.append(alone.info["objective"])
    assert model.info["objective"] == pytest.approx(np.mean(objectives), rel=1e-3)
    if loss == "logistic":
        other = OneVsRestClassifier(LogisticRegression(C=1 / 1e-2 / ROWS, tol=1e-8)).fit(X, y)
        assert np.mean(model.predict(X) == other.predict(X)) > 0.99


@pytest.mark.parametrize("loss", ["squared", "lssvm", "logistic", "hinge"])
@pytest.mark.parametrize("penalty", [{}, {"penalty": "l1", "strength": 0.02}, {"penalty": "l2-ball", "radius": 0.4}], ids=str)
def test_several_targets_are_each_alone(tmp_path, loss, penalty):
    """One pass for all; float32's order of sums is all that may differ. From rows and from codes."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(800, 6)).astype(np.float32)
    Y = (X @ rng.normal(size=(6, 3)) + 0.3 * rng.normal(size=(800, 3))).astype(np.float32)
    Y = np.sign(Y) if loss != "squared" else Y
    data = zipml.compress(X, Y, path=tmp_path / "f", bits=4, samples=2)
    for source in ((X, Y), data):
        options = {"loss": loss, "epochs": 10, "batch": 50, "model_bits": 32, "debias": "naive", **penalty}
        together = zipml.train(source, label=[2, 0], **options)
        assert together.coef.shape == (2, 6)
        for number, label in enumerate((2, 0)):
            alone = zipml.train(source, label=label, **options)
            np.testing.assert_allclose(together.coef[number], alone.coef, rtol=2e-3, atol=2e-4)
            assert together.intercept[number] == pytest.approx(alone.intercept, rel=2e-3, abs=2e-4)


@pytest.mark.parametrize("loss", ["lssvm", "logistic", "hinge"])
def test_several_labels_keep_their_own_classes(tmp_path, loss):
    """Labels -1 and +1 beside 0 and 1: each is predicted as it was given, and the accuracy is the mean of theirs."""
    rng = np.random.default_rng(6)
    X = rng.normal(size=(900, 5)).astype(np.float32)
    Y = np.sign(X @ rng.normal(size=(5, 3)) + 0.5 * rng.normal(size=(900, 3))).astype(np.float32)
    Y[:, 1:] = Y[:, 1:] > 0
    model = zipml.train((X, Y), label=[0, 1, 2], loss=loss, epochs=10)
    assert model.classes.tolist() == [[-1, 1], [0, 1], [0, 1]]
    model.save(tmp_path / "model.npz")
    predicted = zipml.Model.load(tmp_path / "model.npz").predict(X)
    assert [set(column.tolist()) for column in predicted.T] == [{-1, 1}, {0, 1}, {0, 1}]
    assert model.info["train_accuracy"] == pytest.approx(np.mean(predicted == Y), abs=1e-3) and np.mean(predicted == Y) > 0.8
    data = zipml.compress(X, Y, path=tmp_path / "f", bits=8)
    from_codes = zipml.train(data, label=[0, 1, 2], loss=loss, epochs=10)
    assert from_codes.info["train_accuracy"] == pytest.approx(np.mean(from_codes.predict(X) == Y), abs=0.02)


def test_labels_of_classes():
    one = np.float32([0, 1, 1])
    assert signs_of(one, "hinge", "d")[0].tolist() == [-1, 1, 1]
    signs, classes = signs_of(np.float32([7, 3, 5]), "hinge", "d")
    assert classes.tolist() == [3, 5, 7] and signs.tolist() == [[-1, -1, 1], [1, -1, -1], [-1, 1, -1]]
    for labels, text in (
        ([1, 1], "all labels are 1: there is one class only"),
        ([2, 1], "labels are 1 and 2; loss='hinge' takes -1 and"),
        ([0.5, 1, 2], "row 1: the label is 0.5"),
        ([[1, 0], [2, 1], [3, 1]], "one of several labels has more than two classes"),
    ):
        with pytest.raises(DataError, match=f"d.*{text}"):
            signs_of(np.float32(labels), "hinge", "d")
    with pytest.raises(DataError, match="up to 1,000 classes"):
        signs_of(np.arange(1001, dtype=np.float32), "hinge", "d")


def test_a_label_is_named_once():
    X, y = problem()
    with pytest.raises(OptionError, match="names a label twice"):
        zipml.train((X, np.stack([y, -y], axis=1)), label=[0, -2])
