"""Refetching: the bound holds always, slopes are the exact rows', the sketch fails no more often than it says, messages."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zipml_codec as zipml
from zipml_codec.errors import DataError, OptionError
from zipml_codec.kernels import sgd as kernel
from zipml_codec.losses import LOSSES
from zipml_codec.matrix import MatrixEngine
from zipml_codec.refetch import Cells, Sketch, error_of
from zipml_codec.stream import CodeRows, inverse_std


def made(path, rows=1200, features=6, seed=0, **options):
    """Classes that a plane all but separates, columns of several scales; the exact rows, standardised."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(rows, features))
    y = np.where(Z @ rng.normal(size=features) + 0.4 * rng.normal(size=rows) > 0, 1, -1)
    X = (Z * 10.0 ** rng.integers(-3, 4, features) + rng.normal(size=features)).astype(np.float32)
    data = zipml.compress(X, y, path=path, **{"keep_exact": True} | options)
    return data, (X - data.mean) * inverse_std(data.std), y.astype(np.float64)


def of_codes(rows, data):
    """Standardised decoded rows as the engine has them."""
    buffer = rows.rows(kernel.MEAN, 0)
    buffer.hold(data.packed())
    return np.asarray(buffer.values(1))


# ---- The bound ----

CODECS = st.tuples(st.sampled_from([1, 2, 3, 4, 6, 8]), st.integers(1, 3), st.sampled_from(["uniform", "optimal"]), st.booleans())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CODECS, st.integers(0, 2**32 - 1), st.sampled_from(["normal", "heavy", "far", "integers"]), st.integers(1, 40))
def test_the_bound_holds(tmp_path, codec, seed, kind, features):
    """|exact z - z| <= sum_f width_f |x_f| of each row's own intervals, whatever codec, rows and model; far from 0 too."""
    bits, samples, levels, shared = codec
    samples = min(samples, 2**bits - 1)
    rng = np.random.default_rng(seed)
    X = {
        "normal": lambda: rng.normal(size=(150, features)),
        "heavy": lambda: rng.standard_cauchy((150, features)),
        "far": lambda: 1e4 + rng.normal(size=(150, features)),
        "integers": lambda: rng.integers(0, 4, (150, features)),
    }[kind]().astype(np.float32)
    X[:, rng.integers(features)] = 7  # constant
    y = np.where(np.arange(150) % 2, 1, -1)
    options = {"bits": bits, "samples": samples, "levels": levels, "shared_levels": shared, "seed": seed, "overwrite": True}
    with zipml.compress(X, y, path=tmp_path / "f", keep_exact=True, **options) as data:
        rows = CodeRows(data)
        exact, decoded = (X - data.mean) * inverse_std(data.std), of_codes(rows, data)
        models = rng.normal(size=(4, features)) * 10.0 ** rng.integers(-6, 6, (4, features))
        x = np.concatenate([models, np.sign(exact[:1] - decoded[:1]), np.eye(features)[:3]]).astype(np.float32)  # and the worst
        numbers = np.arange(150)
        z = (decoded @ x.T).astype(np.float64)
        wanted = exact @ x.T.astype(np.float64)
        bound = Cells(rows).bound(data.packed(), numbers, x, 1)
        assert bound.shape == z.shape and (np.abs(wanted - z) <= bound).all()
        certain = Sketch(rows, 1, 1e-9, seed, 1)  # too small to say anything: |r| |x| about z itself
        assert certain.error == np.inf
        assert (np.abs(wanted - certain.correct(z, numbers, x)) <= certain.bound(data.packed(), numbers, x, 1) * (1 + 1e-6)).all()
        width = np.diff(data.levels.astype(np.float64), axis=1).max(axis=1) * inverse_std(rows.std)
        widest = np.abs(x.astype(np.float64)) @ width  # ZipML's own bound
        assert kind == "far" or (bound <= 1.01 * widest + 1e-4 * np.abs(x).sum(axis=1)).all()


# ---- Training ----


@pytest.fixture(params=[{}, {"zstd": 1, "bits": 3}, {"bits": 8, "samples": 1, "levels": "uniform"}, {"shard_rows": 500}], ids=str)
def problem(tmp_path, monkeypatch, request):
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 2048)
    return made(tmp_path / "f", **request.param)


@pytest.mark.parametrize("kind", ["refetch", "sketch"])
def test_slopes_are_the_exact_rows(problem, monkeypatch, kind):
    """At every step, for every row, the slope is that of the exact row: always, and for the sketch all but `failure`."""
    data, exact, _ = problem
    original, seen = MatrixEngine._fetched_rows, [0, 0]

    def checked(self, packed, window, rows, x, y, z, values, threads):
        better, new = original(self, packed, window, rows, x, y, z, values, threads)
        numbers = window.numbers[rows].astype(np.int64) - data.row_offset
        wanted = exact[numbers] @ x.T.astype(np.float64) + self._bias
        slope = LOSSES["hinge"].slope
        seen[0] += len(rows)
        seen[1] += int((slope(better, y) != slope(wanted, y)).sum())
        fetched = np.flatnonzero((new != values).any(axis=1))
        np.testing.assert_allclose(new[fetched], exact[numbers[fetched]], rtol=1e-6, atol=1e-6)
        return better, new

    monkeypatch.setattr(MatrixEngine, "_fetched_rows", checked)
    model = zipml.train(data, loss="hinge", debias=kind, epochs=5, strength=1e-3, test_fraction=0.1, failure=0.05)
    assert seen[0] == 5 * model.info["train_rows"] and seen[1] <= (0 if kind == "refetch" else 0.05 * seen[0])
    assert 0 < model.info["refetched"] <= 1
    if kind == "sketch":
        assert model.info["sketch_failure"] == 0.05 and model.info["sketch_error"] == error_of(128, 0.05)


def test_the_model_is_that_of_exact_signs(problem):
    """Steps of whole data, by NumPy: slopes of exact rows; rows exact where the bound leaves the side open, decoded elsewhere."""
    data, exact, y = problem
    epochs, count = 25, len(data)
    options = {"penalty": "none", "epochs": epochs, "batch": count, "step": 0.5, "schedule": "inverse"}
    model = zipml.train(data, loss="hinge", debias="refetch", **options)
    rows = CodeRows(data)
    decoded, cells, numbers = of_codes(rows, data).astype(np.float64), Cells(rows), np.arange(count)
    x, bias = np.zeros(data.shape[1]), 0.0
    for epoch in range(epochs):
        z = decoded @ x + bias
        open_ = np.abs(1 - y * z) <= cells.bound(data.packed(), numbers, x.astype(np.float32)[None], 1)[:, 0]
        slopes = np.where(y * (exact @ x + bias) < 1, -y, 0.0)
        used = np.where(open_[:, None], exact, decoded)
        x, bias = x - 0.5 / (epoch + 1) * slopes @ used / count, bias - 0.5 / (epoch + 1) * slopes.mean()
    got = model.coef * data.std
    np.testing.assert_allclose(got, x, rtol=2e-3, atol=2e-4)
    assert model.info["refetched"] == pytest.approx(open_.mean(), abs=0.003)


@pytest.mark.parametrize("loss", ["hinge", "logistic", "lssvm"])
def test_accuracies_are_of_the_exact_copy(problem, monkeypatch, loss):
    """Few bits move rows over the plane: with a copy of all rows, those are what accuracies are of, whatever the estimator."""
    data, _, y = problem
    monkeypatch.setattr("zipml_codec.training.EXACT_BLOCK", 100)
    model = zipml.train(data, loss=loss, epochs=3, test_fraction=0.3)
    right = model.predict(data.exact_rows()) == y
    total = sum(model.info[f"{part}_accuracy"] * model.info[f"{part}_rows"] for part in ("train", "test"))
    assert total == pytest.approx(right.sum(), abs=1)
    for part in ("train", "test"):
        assert model.info[f"{part}_accuracy_on"] == "exact rows"
        assert model.info[f"{part}_accuracy_rows"] == model.info[f"{part}_rows"]


@pytest.mark.parametrize("levels", ["uniform", "optimal"])
def test_shares_are_plausible(tmp_path, levels):
    """More bits leave fewer rows open, and a sketch fewer than the intervals' bound."""
    shares = {}
    for bits in (3, 5, 8):
        data, _, _ = made(tmp_path / f"f{bits}", rows=3000, features=8, bits=bits, samples=1, levels=levels)
        for kind in ("refetch", "sketch"):
            options = {"penalty_units": "standard", "strength": 0.1, "sketch_size": 256}
            shares[kind, bits] = zipml.train(data, loss="hinge", debias=kind, epochs=4, **options).info["refetched"]
    assert shares["refetch", 3] > shares["refetch", 5] > shares["refetch", 8] > 0
    assert all(shares["sketch", bits] < shares["refetch", bits] for bits in (3, 5, 8))
    assert shares["refetch", 8] < 0.3 and shares["sketch", 8] < 0.05


def test_a_shard_alone_and_more_than_two_classes(tmp_path):
    """Rows are numbered from row_offset there; and a row is fetched where one of the classes leaves it open."""
    made(tmp_path / "parts", shard_rows=500)[0].close()
    with zipml.open(tmp_path / "parts" / "shard-00001.zipml.h5") as part:
        assert part.row_offset == 500
        assert zipml.train(part, loss="hinge", debias="refetch", epochs=2).info["refetched"] > 0
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 4)).astype(np.float32)
    y = np.argmax(X[:, :3], axis=1)
    data = zipml.compress(X, y, path=tmp_path / "three", keep_exact=True, bits=4, samples=1)
    model = zipml.train(data, loss="hinge", debias="refetch", epochs=8)
    assert model.coef.shape == (3, 4) and 0 < model.info["refetched"] <= 1
    assert np.mean(model.predict(X) == y) > 0.9


# ---- The sketch ----


def test_its_error_is_the_lemmas():
    for size, failure in ((64, 0.1), (128, 0.01), (1000, 1e-6)):
        e = error_of(size, failure)
        fails = [4 * np.exp(-size * (t**2 / 4 - t**3 / 6)) for t in (e, e - 1e-4)]
        assert fails[0] <= failure < fails[1] * (1 + 1e-2)
    assert error_of(1, 0.01) == np.inf and error_of(512, 0.01) < error_of(128, 0.01)


@pytest.mark.parametrize("failure", [0.5, 0.05])
def test_it_fails_less_often_than_it_says(tmp_path, failure):
    """Over 300 projections, for all rows and models that do not depend on the projection."""
    data, exact, _ = made(tmp_path / "f", rows=60, features=20, bits=3, samples=1)
    rows = CodeRows(data)
    decoded, numbers = of_codes(rows, data), np.arange(60)
    x = np.random.default_rng(1).normal(size=(3, 20)).astype(np.float32)
    x = np.concatenate([x, (exact[:3] - decoded[:3]).astype(np.float32)])  # along a row's own rest: the largest z there can be
    z, wanted = (decoded @ x.T).astype(np.float64), exact @ x.T.astype(np.float64)
    size = 64
    assert error_of(size, failure) < 1
    failed, off = 0, []
    for seed in range(300):
        sketch = Sketch(rows, size, failure, seed, 1)
        better = sketch.correct(z, numbers, x)
        failed += int((np.abs(wanted - better) > sketch.bound(data.packed(), numbers, x, 1)).sum())
        off.append(better - wanted)
    assert failed / (300 * wanted.size) <= failure
    off = np.array(off)
    assert np.abs(off.mean(axis=0)).max() < 5 * (off.std(axis=0) / np.sqrt(300)).max()  # unbiased over projections


# ---- Messages ----


def test_messages(tmp_path):
    data, _, _ = made(tmp_path / "f", samples=2)
    less, _, _ = made(tmp_path / "less", keep_exact=False)
    X, y = data.decode(), data.labels
    cases = [
        (less, {"loss": "hinge", "debias": "refetch"}, "less has no exact copy of its rows: compress with keep_exact=True"),
        (less, {"loss": "hinge", "debias": "sketch"}, "no exact copy"),
        ((X, y), {"loss": "hinge", "debias": "refetch"}, "holds no stochastic codes"),
        (data, {"loss": "logistic", "debias": "refetch"}, "'refetch' is for loss='hinge', whose slope needs a sign alone"),
        (data, {"loss": "squared", "debias": "sketch"}, "takes 'diagonal' or 'auto'"),
        (data, {"loss": "logistic", "debias": "diagonal"}, "loss='logistic' cannot be debiased by 'diagonal': its slope is not"),
        (data, {"loss": "hinge", "debias": "collapsed"}, "cannot be debiased by 'collapsed': .* 'refetch' or 'sketch'"),
        (data, {"loss": "hinge", "debias": "double-sampling"}, "cannot be debiased"),
        (data, {"loss": "hinge", "debias": "sketch", "sketch_size": 0}, "sketch_size"),
        (data, {"loss": "hinge", "debias": "sketch", "failure": 0}, "failure"),
        (data, {"loss": "what"}, "loss"),
    ]
    for source, options, text in cases:
        with pytest.raises(OptionError, match=text):
            zipml.train(source, epochs=1, **options)
    for labels, text in (
        (np.ones(1200), "all labels are 1: there is one class only"),
        (np.where(y > 0, 1, 2), r"labels are 1 and 2; loss='hinge' takes -1 and \+1, or 0 and 1"),
        (np.arange(1200) % 3 + 0.5, "row 1: the label is 0.5; .* the whole numbers"),
        (np.stack([y, np.ones(1200)], axis=1), "label 1: all labels are 1"),
    ):
        several = [0, 1] if labels.ndim == 2 else None
        with pytest.raises(DataError, match=text):
            zipml.train((X, labels), loss="hinge", epochs=1, label=several)
