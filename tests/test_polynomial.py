"""Slopes as polynomials: how near they are, the estimate's expectation over all codes, what is reported, messages."""

import itertools
import math
import warnings

import numpy as np
import pytest

import zipml_codec as zipml
from zipml_codec import Codec
from zipml_codec.errors import OptionError
from zipml_codec.matrix import MatrixEngine
from zipml_codec.plan import Plan
from zipml_codec.polynomial import MAX_DEGREE, Options, Polynomial, approximate, margin_slope
from zipml_codec.stream import CodeRows, Stream, Window, inverse_std


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_how_near_the_slope(loss):
    """The error that is told is that on a fine grid; more degrees are nearer, and near the best there is."""
    errors = []
    for degree in (1, 3, 5, 9, 15):
        found = approximate(loss, Options(degree, 4.0, 0.25))
        u = np.linspace(-4, 4, 20001)
        u = u[np.abs(u - 1) >= 0.25] if loss == "hinge" else u
        error = np.abs(found(u) - margin_slope(loss, u)).max()
        assert len(found.powers) == degree + 1 and found.error == pytest.approx(error, rel=0.02)
        errors.append(error)
    assert all(a > b for a, b in itertools.pairwise(errors))
    if loss == "logistic":  # analytic: errors fall geometrically, with the poles at +-i pi: by (pi/4 + hypot(pi/4, 1)) a degree
        rate = math.pi / 4 + math.hypot(math.pi / 4, 1)
        assert errors[-1] < errors[2] / rate**8
        ours = np.polynomial.chebyshev.Chebyshev.interpolate(lambda x: margin_slope("logistic", 4 * x), 9)
        best = np.abs(ours(u / 4) - margin_slope("logistic", u)).max()
        assert errors[3] <= 1.5 * best
    else:
        assert approximate(loss, Options(9, 4.0, 1.0)).error < errors[3]


def test_slopes_are_the_losses():
    u = np.linspace(-5, 5, 101)
    h = 1e-6
    for loss, value in (("logistic", lambda u: np.logaddexp(0, -u)), ("hinge", lambda u: np.maximum(1 - u, 0))):
        keep = np.abs(u - 1) > 2 * h
        np.testing.assert_allclose(margin_slope(loss, u)[keep], ((value(u + h) - value(u - h)) / 2 / h)[keep], atol=1e-6)
    assert margin_slope("logistic", np.array([1e4, -1e4])).tolist() == [-0.0, -1.0]


def test_options_of_all_kinds_make_one_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for degree, span, gap in itertools.product((0, 1, 8, MAX_DEGREE), (1.5, 4.0, 50.0), (0.0, 0.4)):
            for found in (approximate(loss, Options(degree, span, gap)) for loss in ("logistic", "hinge")):
                assert np.isfinite(found.powers).all() and np.isfinite(found.error)


def enumerated(a, levels, k):
    """All codes and all assignments of the ups of one row: probability, and samples (k, features)."""
    every = np.arange(len(a))
    interval = np.array([np.searchsorted(own, value, "right") - 1 for own, value in zip(levels, a, strict=True)])
    low, high = levels[every, interval], levels[every, interval + 1]
    p = (a - low) / (high - low)
    for ups in itertools.product(range(k + 1), repeat=len(a)):
        chance = math.prod(math.comb(k, up) * q**up * (1 - q) ** (k - up) for up, q in zip(ups, p, strict=True))
        choices = [list(itertools.combinations(range(k), up)) for up in ups]  # which samples go up
        share = chance / math.prod(map(len, choices))
        for taken in itertools.product(*choices):
            up = np.array([[j in one for one in taken] for j in range(k)])
            yield share, np.where(up, high, low)


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
@pytest.mark.parametrize(("features", "degree"), [(1, 3), (2, 0), (2, 1), (2, 3), (3, 2)])
@pytest.mark.parametrize("y", [-1.0, 1.0])
def test_expectation_by_enumeration(tmp_path, monkeypatch, loss, features, degree, y):
    """Over all roundings, and all assignments of the ups, the engine's slope times its row is y p(y z) a in the mean."""
    k = degree + 1
    codec = Codec.uniform(np.full(features, -1), np.full(features, 1), 4, k)
    levels = codec.levels.astype(np.float64)
    rng = np.random.default_rng(features + degree)
    a, x, bias = rng.uniform(-1, 1, features), rng.normal(size=features), 0.3
    chance, drawn = zip(*enumerated(a, levels, k), strict=True)
    chance, drawn = np.array(chance), np.stack(drawn)
    assert chance.sum() == pytest.approx(1) and len(chance) == 2 ** (k * features)
    np.testing.assert_allclose(np.einsum("i,ijf->jf", chance, drawn), np.tile(a, (k, 1)))  # each sample is unbiased
    X = rng.uniform(-1, 1, (50, features)).astype(np.float32)
    with zipml.compress(X, np.sign(rng.normal(size=50)), path=tmp_path / "f", levels=codec) as data:
        rows = CodeRows(data)
        rows.mean, rows.std = np.zeros(features), np.ones(features)  # the data's units
        engine = MatrixEngine(rows, Plan(1, 1, 1.0, loss=loss, slopes="chebyshev", polynomial=Options(degree)))
        engine.bias = bias
        count = len(chance)
        packed, numbers = np.zeros((count, data.stride), np.uint8), np.arange(count, dtype=np.uint64)
        window = Window(packed, np.full(count, y, np.float32), numbers, numbers.astype(np.uintp))
        monkeypatch.setattr(Codec, "draw", lambda *_, **__: np.ascontiguousarray(drawn.transpose(1, 0, 2), np.float32))
        labels = np.full((count, 1), y)
        weights = x.astype(np.float32)[None]
        slopes, values = engine._of_samples(packed, window, window.order, weights, labels, labels, 1)
    p = approximate(loss, Options(degree))
    u = y * (a @ weights[0].astype(np.float64) + bias)
    np.testing.assert_allclose((chance[:, None] * slopes * values).sum(axis=0), y * p(u) * a, rtol=1e-4, atol=1e-6)
    assert (chance * slopes[:, 0]).sum() == pytest.approx(y * p(u), rel=1e-4)  # and the intercept's
    variance = (chance * np.square(slopes[:, 0])).sum() - p(u) ** 2
    assert np.isfinite(variance) and variance >= -1e-9 and (variance > 1e-6) == (degree > 0)


def test_an_estimate_of_equal_margins_is_the_polynomial():
    p = approximate("logistic", Options(5))
    u = np.linspace(-6, 6, 13)
    np.testing.assert_allclose(p.estimate(np.tile(u, (5, 1))), p(u), rtol=1e-9)
    assert Polynomial(np.array([2.0]), 1.0, 0.0).estimate(np.empty((0, 4))).tolist() == [2.0] * 4


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 5)).astype(np.float32) + np.float32(3)
    y = np.sign((X - 3) @ [2.0, -1, 0.5, 0, 0] + 0.3 * rng.normal(size=600))
    with zipml.compress(X, y, path=tmp_path_factory.mktemp("p") / "f", bits=6, samples=4) as data:
        yield data


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_what_is_reported(file, loss):
    """Bias, variance and rows outside of the span, by the definition, from the very draws of that epoch."""
    rows = CodeRows(file)
    plan = Plan(1, 600, 0.0, loss=loss, slopes="chebyshev", polynomial=Options(3, 2.0), seed=5)
    engine = MatrixEngine(rows, plan)
    x, bias = np.array([2.0, -1, 0.5, 0.1, 0], np.float32), 0.2
    engine.weights[:5], engine.bias = x, bias
    engine.begin(7)
    (window,) = Stream(rows, 0, 0.0).windows(0)
    engine.run(window, np.zeros(1, np.float32), 1)
    told, scale = engine.report()["polynomial"], inverse_std(rows.std)
    drawn = (file.draw(seed=5 + 1 + 7).astype(np.float64) - file.mean) * scale
    y = file.labels.astype(np.float64)
    u, z = y * (drawn @ x + bias), y * ((file.decode() - file.mean) * scale @ x + bias)
    p = approximate(loss, Options(3, 2.0))
    estimate = p.estimate(u[:3])
    assert told["variance"] == pytest.approx(np.mean((estimate - p(z)) ** 2), rel=1e-3)
    assert told["mean_bias"] == pytest.approx(np.mean(np.abs(p(z) - margin_slope(loss, z))), rel=1e-2)
    assert told["outside_of_span"] == pytest.approx(np.mean(np.abs(z) > 2)) and 0 < told["outside_of_span"] < 1
    assert told["largest_error"] == p.error and told["powers"] == p.powers.tolist()


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_training_takes_it(file, loss):
    model = zipml.train(file, loss=loss, debias="chebyshev", epochs=5, strength=0.01)
    told = model.info["polynomial"]
    assert np.isfinite(model.coef).all() and model.info["train_accuracy"] > 0.85
    assert 0 < told["variance"] < 10 and 0 < told["mean_bias"] < 0.5
    other = zipml.train(file, loss=loss, debias="chebyshev", epochs=5, strength=0.01)
    np.testing.assert_array_equal(model.coef, other.coef)


def test_messages(file, tmp_path):
    X, y = file.decode(), file.labels
    two = zipml.compress(X, y, path=tmp_path / "two", samples=2)
    plain = zipml.compress(X, y, path=tmp_path / "plain", samples=1, rounding="nearest")
    cases = [
        (two, {}, "degree 3 needs codes of 4 samples; these have 2: compress with samples=4"),
        (file, {"degree": 4}, "degree 4 needs codes of 5 samples; these have 4"),
        (file, {"degree": 16}, "degree"),
        (file, {"degree": -1}, "degree"),
        (file, {"span": 0.0}, "span"),
        (file, {"gap": -1.0}, "gap"),
        (file, {"loss": "hinge", "gap": 3.5}, "gap=3.5 leaves no margins on one side of 1 within span=4: take a smaller"),
        (file, {"loss": "hinge", "span": 1.0}, "gap=0.25 leaves no margins on one side of 1 within span=1: .* or a larger span"),
        (file, {"loss": "squared"}, "is for loss='logistic' or 'hinge'; loss='squared' takes 'diagonal' or 'auto'"),
        (plain, {}, "holds no stochastic codes"),
        ((X, y), {}, "holds no stochastic codes"),
    ]
    for data, options, text in cases:
        with pytest.raises(OptionError, match=text.replace("(", r"\(")):
            zipml.train(data, **{"loss": "logistic", "debias": "chebyshev", "epochs": 1} | options)
    with pytest.raises(OptionError, match="its slope is a polynomial already"):
        approximate("squared", Options())
