"""The Gram kernel against NumPy's integers, and solver="normal" against closed forms."""

import logging

import numpy as np
import pytest
import reference

import zipml_codec as zipml
from zipml_codec.errors import DataError, OptionError
from zipml_codec.kernels import gram, simd
from zipml_codec.normal import IndefiniteError, Moments, solve


def sums(codes, bits, labels, table=None, threads=1, cuts=()):
    features = codes.shape[1]
    stride = reference.stride(features, bits)
    packed = reference.pack(codes, bits, stride)
    found = gram.Gram(features, bits, stride, table, labels.shape[1])
    for part in np.split(np.arange(len(codes)), cuts):
        found.add(packed[part], labels[part], threads)
    return found


@pytest.mark.parametrize("level", simd.levels())
@pytest.mark.parametrize("table", ["", "own", "shared"])
@pytest.mark.parametrize(
    ("rows", "features", "bits"),
    [(1, 1, 1), (3, 1, 8), (5, 17, 2), (511, 64, 3), (512, 65, 4), (1030, 130, 5), (700, 33, 6), (513, 16, 7), (1025, 81, 8)],
)  # fmt: skip
def test_products_of_columns_are_exact(level, table, rows, features, bits):
    generator = np.random.default_rng([rows, features, bits])
    codes = generator.integers(0, 1 << bits, (rows, features)).astype(np.uint8)
    shape = (1 if table == "shared" else features, 1 << bits)
    entries = generator.integers(0, 256, shape).astype(np.uint8) if table else None
    u = (codes if entries is None else entries[0 if table == "shared" else np.arange(features), codes]).astype(np.int64)
    y = generator.normal(size=(rows, 2)).astype(np.float32)
    first = None
    for threads, cuts in ((1, ()), (2, (1,)), (3, (rows // 3, rows // 2))):
        with simd.use(level):
            found = sums(codes, bits, y, entries, threads, cuts)
        np.testing.assert_array_equal(found.matrix(), u.T @ u)
        np.testing.assert_array_equal(found.sums[:features], u.sum(axis=0))
        assert not found.sums[features:].any() and found.rows == rows
        np.testing.assert_allclose(found.cross[:, :features], y.T.astype(np.float64) @ u, rtol=1e-12, atol=1e-9)
        first = found.cross if first is None else first
        np.testing.assert_array_equal(found.cross, first)  # row after row, however they are cut


@pytest.mark.parametrize("level", simd.levels())
def test_the_greatest_bytes_do_not_overflow(level):
    codes = np.full((5000, 20), 255, np.uint8)
    codes[:, 3] = 0
    with simd.use(level):
        found = sums(codes, 8, np.zeros((5000, 1), np.float32), threads=2)
    np.testing.assert_array_equal(found.matrix(), codes.T.astype(np.int64) @ codes.astype(np.int64))


def test_gram_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="at least one"):
        gram.Gram(0, 4, 8)
    with pytest.raises(ValueError, match="table of shape"):
        gram.Gram(3, 4, 8, np.zeros((2, 16), np.uint8))
    with pytest.raises(ValueError, match="a row has 8 bytes"):
        gram.Gram(3, 4, 8).add(np.zeros((2, 4), np.uint8), np.zeros((2, 1), np.float32), 1)


def data_of(rows=3000, features=12, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(rows, features)) @ (np.eye(features) + 0.2 * generator.normal(size=(features, features)))
    X = (X * np.geomspace(0.01, 100, features) + 3).astype(np.float32)
    X[:, 4] = 7  # a constant one
    y = X / X.std(axis=0).clip(1e-3) @ generator.normal(size=(features, 2)) + generator.normal(size=(rows, 2))
    return X, y.astype(np.float32)


def closed_form(V, y, mean, std, ridge, noise, weights=None):
    """(coef, intercept) of mean w (c.v + b - y)^2 / 2 - c noise c / 2 + c ridge c / 2, in float64."""
    V, y = V.astype(np.float64), y.astype(np.float64)
    w = np.ones(len(V)) if weights is None else weights / weights.mean()
    used = std > 0
    Z = (V[:, used] - mean[used]) / std[used]
    middle, label = w @ Z / len(Z), w @ y / len(Z)
    H = (Z - middle).T @ (w[:, None] * (Z - middle)) / len(Z) + np.diag((ridge - noise[used]) / std[used] ** 2)
    x = np.linalg.solve(H, (Z - middle).T @ (w[:, None] * (y - label)) / len(Z))
    coef = np.zeros((V.shape[1], y.shape[1]))
    coef[used] = x / std[used][:, None]
    return coef.T, label - middle @ x - (mean[used] / std[used]) @ x


@pytest.mark.parametrize("made", [
    {"levels": "uniform"}, {"levels": "optimal"}, {"levels": "optimal", "grid": "none"}, {"levels": "uniform", "samples": 1},
    {"bits": 8, "levels": "optimal"}, {"zstd": 3}, {"shard_rows": 700}, {"shared_levels": True, "bits": 8},
])  # fmt: skip
@pytest.mark.parametrize("debias", ["diagonal", "naive"])
@pytest.mark.filterwarnings("ignore::zipml_codec.errors.PrecisionWarning")
def test_the_closed_form(tmp_path, made, debias):
    X, y = data_of()
    with zipml.compress(X, y, path=tmp_path / "f", **({"bits": 5} | made)) as data:
        noise = data.noise if debias == "diagonal" else np.zeros(12)
        model = zipml.train(data, label=[0, 1], solver="normal", debias=debias, strength=0.01, penalty_units="data")
        coef, intercept = closed_form(data.decode(), y, data.mean, data.std, 0.01, noise)
    scale = np.abs(coef * X.std(axis=0)).max()
    np.testing.assert_allclose(model.coef * X.std(axis=0), coef * X.std(axis=0), atol=1e-6 * scale)
    np.testing.assert_allclose(model.intercept, intercept, rtol=1e-5, atol=1e-5 * scale)
    assert model.info["share"] == (debias == "diagonal") and not model.coef[:, 4].any()


def test_weights_splits_and_float_rows(tmp_path):
    X, y = data_of()
    weights = np.random.default_rng(1).uniform(0, 2, len(X))
    coef, _ = closed_form(X, y, X.mean(axis=0, dtype=float), X.std(axis=0, dtype=float), 0, np.zeros(12), weights)
    model = zipml.train((X, y), label=[0, 1], solver="normal", sample_weight=weights)
    np.testing.assert_allclose(model.coef * X.std(axis=0), coef * X.std(axis=0), atol=2e-5)
    with zipml.compress(X, y[:, 0], path=tmp_path / "f", bits=6) as data:
        one = zipml.train(data, solver="normal", sample_weight=weights, debias="naive", test_fraction=0.3)
        other = zipml.train(data, solver="normal", sample_weight=np.ones(len(X)), debias="naive", test_fraction=0.3)
        plain = zipml.train(data, solver="normal", debias="naive", test_fraction=0.3)
    assert np.abs(one.coef - plain.coef).max() > 1e-4 > np.abs((other.coef - plain.coef) * X.std(axis=0)).max()
    assert plain.info["test_rows"] and plain.info["train_rows"] + plain.info["test_rows"] == len(X)


def test_sgd_comes_to_the_same(tmp_path):
    X, y = data_of(features=8)
    with zipml.compress(X, y[:, 0], path=tmp_path / "f", bits=4) as data:
        exact = zipml.train(data, solver="normal", debias="diagonal", strength=0.05, penalty_units="standard")
        sgd = zipml.train(data, debias="diagonal", strength=0.05, penalty_units="standard", epochs=200, batch=3000)
    np.testing.assert_allclose(sgd.coef * X.std(axis=0), exact.coef * X.std(axis=0), atol=5e-3)
    assert exact.info["objective"] <= sgd.info["objective"] + 1e-6


def test_collinear_columns_have_the_shortest_solution():
    X, y = data_of(features=6)
    both = np.hstack([X, X])
    model = zipml.train((both, y[:, 0]), solver="normal")
    np.testing.assert_allclose(model.coef[:6], model.coef[6:], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(model.predict(both), zipml.train((X, y[:, 0]), solver="normal").predict(X), atol=1e-3)


def test_indefinite_equations(tmp_path, caplog):
    """Two columns that are one, rounded apart: less their noise, their difference has no variance left."""
    generator = np.random.default_rng(0)
    a = generator.normal(size=(4000, 1))
    X = np.hstack([a, a, a, generator.normal(size=(4000, 2))]).astype(np.float32)
    y = X.sum(axis=1)
    with zipml.compress(X, y, path=tmp_path / "f", bits=2, samples=1, levels="uniform") as data:
        with caplog.at_level(logging.WARNING):
            model = zipml.train(data, solver="normal")
        assert model.info["share"] < 1 and np.isfinite(model.coef).all()
    square = np.array([[1.0, 0.99], [0.99, 1.0]])
    moments = Moments(10, np.zeros(2), square, np.zeros(1), np.ones((1, 2)))
    with pytest.raises(IndefiniteError, match="debias='auto' or 'naive', more strength, fewer features or more bits"):
        solve(moments, np.full(2, 0.1), 1.0, np.zeros(2))
    assert np.isfinite(solve(moments, np.full(2, 0.1), 1.0, np.full(2, 0.1))[0]).all()


def test_few_rows_are_not_corrected(tmp_path):
    X, y = data_of(rows=60)
    with zipml.compress(X, y[:, 0], path=tmp_path / "f", bits=3) as data:
        model = zipml.train(data, solver="normal", strength=1e-3, penalty_units="standard")
    assert model.info["share"] == 0 and "effective rows" in model.info["debias_reason"]


def test_refusals(tmp_path, monkeypatch):
    X, y = data_of(rows=100)
    sign = np.sign(y[:, 0] - y[:, 0].mean())
    for message, labels, options in (
        ("loss='logistic' takes solver='sgd'", sign, {"loss": "logistic"}),
        ("takes penalty='l2' or 'none'", y[:, 0], {"penalty": "l1", "strength": 1}),
        ("without bounds", y[:, 0], {"bounds": (0, None)}),
        ("takes debias='auto', 'diagonal' or 'naive'", y[:, 0], {"debias": "double-sampling"}),
        ("keeps no checkpoint: it is one pass", y[:, 0], {"checkpoint": tmp_path / "run.npz"}),
        ("keeps no checkpoint: it is one pass", y[:, 0], {"resume": True}),
        ("solver must be one of", y[:, 0], {"solver": "cholesky"}),
    ):
        with zipml.compress(X, labels, path=tmp_path / "f", overwrite=True) as data, pytest.raises(OptionError, match=message):
            zipml.train(data, **({"solver": "normal"} | options))
    monkeypatch.setattr("zipml_codec.normal.MEMORY_SHARE", 1 << 40)
    with pytest.raises(DataError, match="take solver='sgd'"):
        zipml.train((X, y[:, 0]), solver="normal")
