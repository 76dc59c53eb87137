"""Losses and weights of rows in the three trainers: values and slopes of the exact formulas, weights as repeated rows."""

import numpy as np
import pytest
import reference

from zipml_codec.kernels import integer, sgd, simd

LOSSES = {"squared": sgd.SQUARED, "logistic": sgd.LOGISTIC, "hinge": sgd.HINGE}
TINY = 2.0**-125  # logistic slopes below are 0: float32's last normal numbers


def exact_loss(loss, z, y):
    """In float64."""
    m = y * z
    return {
        "squared": lambda: (z - y) ** 2 / 2,
        "logistic": lambda: np.maximum(-m, 0) + np.log1p(np.exp(-np.abs(m))),
        "hinge": lambda: np.maximum(0, 1 - m),
    }[loss]()


def exact_slope(loss, z, y):
    m = y * z
    with np.errstate(over="ignore"):
        logistic = -y * np.where(m >= 0, np.exp(-np.abs(m)), 1) / (1 + np.exp(-np.abs(m)))
    return {"squared": z - y, "logistic": logistic, "hinge": np.where(m < 1, -y, 0.0)}[loss]


def raw_rows(X, y, weights=None):
    padded = -(-X.shape[1] // 64) * 64
    rows = sgd.Rows(X.shape[1], mean=np.zeros(padded, np.float32), scale=np.ones(padded, np.float32))
    rows.hold(X, y, weights=weights)
    return rows


def sgd_row(loss, z, y):
    """(slope, value) of one row of one feature that is z, the model 1: a step of 1 moves the bias 0 by the slope."""
    state = sgd.State(1, 1, np.zeros(1, np.float32), loss=loss)
    state.weights[0] = 1
    value, _, _ = state.run(raw_rows(np.array([[z]], np.float32), np.array([y], np.float32)), np.zeros(1, np.uintp),
                            np.ones(1, np.float32), 1)  # fmt: skip
    return -state.bias, value


def dense_row(loss, z, y):
    state = integer.DenseState(1, 1, np.zeros(1, np.float32), np.zeros(1), np.ones(1), loss=loss)
    state.weights[0] = 1
    row, label = np.array([[z]], np.float32), np.array([y], np.float32)
    value, _ = state.run(row, label, np.zeros(1, np.uintp), np.ones(1, np.float32), 1)
    return -state.bias, value


def integer_row(loss, z, y):
    """The bias is z, and the model 0: the gradient of a feature that is 1 is the slope."""
    rows = integer.IntegerRows(1, 8, 1, 1, np.ones(1, np.float32), np.zeros(1, np.float32))
    rows.hold(np.zeros((1, 1), np.uint8), np.array([y], np.float32))
    state = integer.IntegerState(1, 1, np.zeros(1, np.float32), residual_bits=16, loss=loss)
    state.bias = z
    value, _, _ = state.run(rows, np.zeros(1, np.uintp), np.ones(1, np.float32), 1)
    return state.gradient[0], value


ONE_ROW = {"sgd": sgd_row, "dense": dense_row, "integer": integer_row}


@pytest.mark.parametrize("kernel", ONE_ROW)
@pytest.mark.parametrize("loss", LOSSES)
def test_slopes_and_values(loss, kernel):
    """Within 1e-6 of themselves, at every level, from z = -100 to 100 and beyond."""
    generator = np.random.default_rng(0)
    at = np.concatenate([
        generator.uniform(-100, 100, 150), generator.normal(0, 2, 100), np.linspace(-1.5, 1.5, 25),
        [86.9, 87, 87.1, -87, 1e10, -1e10, 0, -0.0, 1, 1e-30, -1e-30, 1e-45],
        np.nextafter(np.float32(1), np.float32([0, 2])),
    ]).astype(np.float32)  # fmt: skip
    found = {}
    for level in simd.levels():
        with simd.use(level):
            found[level] = np.array([[ONE_ROW[kernel](LOSSES[loss], z, y) for z in at] for y in (-1, 1)])
    for other in found.values():
        np.testing.assert_array_equal(other, found["scalar"])
    z, y = at.astype(float), np.array([[-1.0], [1.0]])
    slope, value = found["scalar"][..., 0], found["scalar"][..., 1]
    np.testing.assert_allclose(slope, exact_slope(loss, z, y), rtol=1e-6, atol=TINY)
    np.testing.assert_allclose(value, exact_loss(loss, z, y), rtol=1e-6, atol=TINY if loss == "logistic" else 1e-7)


@pytest.mark.parametrize("kernel", ONE_ROW)
@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_slopes_are_differences_of_the_exact_loss(loss, kernel):
    """Central differences in float64, away from the hinge's edge."""
    z = np.float32(np.linspace(-100, 100, 160))
    for y in (-1, 1):
        slope = np.array([ONE_ROW[kernel](LOSSES[loss], at, y)[0] for at in z])
        h, at = 1e-5, z.astype(float)
        difference = (exact_loss(loss, at + h, y) - exact_loss(loss, at - h, y)) / (2 * h)
        smooth = np.abs(y * at - 1) > 2 * h
        np.testing.assert_allclose(slope[smooth], difference[smooth], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kernel", ONE_ROW)
@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_predictions_without_end(loss, kernel):
    """At the largest float32 and at infinity: 0 or the margin, never NaN; a prediction that is NaN shows in the value."""
    for z in (3e38, -3e38, np.inf, -np.inf):
        for y in (-1, 1):
            slope, value = ONE_ROW[kernel](LOSSES[loss], z, y)
            assert slope == (0 if y * z > 0 else -y)
            assert value == (0 if y * z > 0 else np.float32(abs(z)))
    assert np.isnan(ONE_ROW[kernel](LOSSES[loss], np.nan, 1)[1])


def problem(rows, features, seed=0):
    generator = np.random.default_rng([rows, features, seed])
    X = generator.standard_normal((rows, features)).astype(np.float32)
    y = np.where(generator.random(rows) < 0.5, -1, 1).astype(np.float32)
    return generator, X, y


@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("rows", "features", "batch"), [(301, 130, 77), (40, 1, 3), (70, 700, 1024)])
def test_float_trainers_take_the_exact_steps(rows, features, batch, loss, weighted):
    """Both, the same bits at every level and number of threads, and nearly the steps of float64."""
    generator, X, y = problem(rows, features)
    weights = generator.uniform(0, 2, rows).astype(np.float32) if weighted else None
    order, curvature = generator.permutation(rows).astype(np.uintp), np.full(features, 0.01, np.float32)
    steps = np.full(-(-rows // batch), 0.5 / (4 + features / batch), np.float32)
    noise = generator.uniform(0, 0.1, features).astype(np.float32)
    w, x, bias, value, spread = np.ones(rows) if weights is None else weights.astype(float), np.zeros(features), 0.0, 0.0, 0.0
    for start, step in zip(range(0, rows, batch), steps.astype(float), strict=True):
        at = order[start : start + batch]
        Z = X[at].astype(float)
        z = Z @ x + bias
        value += np.sum(w[at] * exact_loss(loss, z, y[at]))
        spread += np.sum(w[at]) * (noise.astype(float) @ x**2) / 2
        e = w[at] * exact_slope(loss, z, y[at])
        x = x - step * (Z.T @ e / len(at) + 0.01 * x)
        bias -= step * e.mean()
    found = {"sgd": [], "dense": []}
    for level in simd.levels():
        for threads in (1, 2, 3):
            with simd.use(level):
                state = sgd.State(features, batch, curvature, noise, loss=LOSSES[loss])
                total, noisy, finite = state.run(raw_rows(X, y, weights), order, steps, threads)
                assert finite
                assert noisy == pytest.approx(spread, rel=1e-3)
                found["sgd"].append([*state.weights, state.bias, total])
                dense = integer.DenseState(features, batch, curvature, np.zeros(features), np.ones(features), loss=LOSSES[loss])
                total, finite = dense.run(X, y, order, steps, threads, weights)
                assert finite
                found["dense"].append([*dense.weights, dense.bias, total])
    for results in found.values():
        np.testing.assert_allclose(results[0], np.r_[x, np.zeros(-features % 64), bias, value], rtol=1e-4, atol=1e-5)
        for other in results[1:]:
            np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_are_repeated_rows(loss):
    """One batch, weights 0..3, whose mean is not 1: the divisor is the number of rows, so the step is scaled by it."""
    generator, X, y = problem(64, 90)
    weights = generator.integers(0, 4, 64)
    twice = np.repeat(np.arange(64), weights)
    start = generator.normal(0, 0.1, 90)

    def once(X, y, weights, step):
        state = sgd.State(90, len(X), np.zeros(90, np.float32), np.ones(90, np.float32), loss=LOSSES[loss])
        state.weights[:90] = start
        value, noise, _ = state.run(raw_rows(X, y, weights), np.arange(len(X), dtype=np.uintp), np.array([step], np.float32), 2)
        return [*(state.weights[:90] - start), state.bias, value, noise]

    weighted = once(X, y, weights.astype(np.float32), 64)
    repeated = once(np.ascontiguousarray(X[twice]), y[twice], None, len(twice))
    np.testing.assert_allclose(weighted, repeated, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("estimator", [sgd.MEAN, sgd.COLLAPSED, sgd.DOUBLE])
def test_weights_of_packed_rows(estimator):
    """One row of weight 3 moves the model as far as one of weight 1 with three times the step; collapsed corrections too."""
    generator = np.random.default_rng(3)
    codes = generator.integers(0, 16, (1, 70)).astype(np.uint8)
    table = np.sort(generator.standard_normal((70, 16)), axis=1).astype(np.float32)
    moved = []
    for weight, step in ((3, 0.25), (1, 0.75)):
        rows = sgd.Rows(70, 4, 2, 35, table=table, correction=np.abs(table) if estimator == sgd.COLLAPSED else None,
                        estimator=estimator, draw_seed=5)  # fmt: skip
        rows.hold(reference.pack(codes, 4, 35), np.ones(1, np.float32), np.zeros(1, np.uint64), np.full(1, weight, np.float32))
        state = sgd.State(70, 1, np.zeros(70, np.float32))
        state.weights[:70] = 1
        state.run(rows, np.zeros(1, np.uintp), np.array([step], np.float32), 1)
        moved.append([*(state.weights[:70] - 1), state.bias])
    np.testing.assert_allclose(moved[0], moved[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_divergence_is_seen(loss):
    """Of a loss that is 0 at an infinite prediction, too."""
    _, X, y = problem(64, 20)
    X[:, 0] = 1e38 * y
    steps, order = np.full(8, 1e30, np.float32), np.tile(np.arange(64, dtype=np.uintp), 4)
    state = sgd.State(20, 32, np.zeros(20, np.float32), loss=LOSSES[loss])
    assert not state.run(raw_rows(X, y), order, steps, 2)[2]
    dense = integer.DenseState(20, 32, np.zeros(20), np.zeros(20), np.ones(20), loss=LOSSES[loss])
    assert not dense.run(X, y, order, steps, 2)[1]


def test_refusals():
    _, X, y = problem(10, 3)
    for make in (
        lambda: sgd.State(3, 1, np.zeros(3), loss=3),
        lambda: integer.IntegerState(3, 1, np.zeros(3), loss=-1),
        lambda: integer.DenseState(3, 1, np.zeros(3), np.zeros(3), np.ones(3), loss=3),
    ):
        with pytest.raises(ValueError, match="LOGISTIC"):
            make()
    rows = integer.IntegerRows(3, 8, 1, 3, np.zeros(3), np.ones(3))
    dense = integer.DenseState(3, 5, np.zeros(3), np.zeros(3), np.ones(3))
    short = np.ones(9, np.float32)
    for hold in (
        lambda: raw_rows(X, y, short),
        lambda: rows.hold(np.zeros((10, 3), np.uint8), y, short),
        lambda: dense.run(X, y, np.arange(10, dtype=np.uintp), np.ones(2, np.float32), 1, short),
    ):
        with pytest.raises(ValueError, match="9 weights for 10 rows"):
            hold()


# ---- Proximal steps ----


def moved(kernel, start, eta, proximal, threads=1):
    """Coefficients, padding included, after one step of size eta whose gradient is 0: the row is."""
    features = len(start)
    X, order, steps = np.zeros((1, features), np.float32), np.zeros(1, np.uintp), np.array([eta], np.float32)
    y = np.full(1, -1, np.float32)
    if kernel == "sgd":
        state = sgd.State(features, 1, np.zeros(features, np.float32), proximal=proximal)
        state.weights[:features] = start
        state.run(raw_rows(X, y), order, steps, threads)
    elif kernel == "dense":
        state = integer.DenseState(features, 1, np.zeros(features), np.zeros(features), np.ones(features), proximal=proximal)
        state.weights[:features] = start
        state.run(X, y, order, steps, threads)
    else:
        rows = integer.IntegerRows(features, 8, 1, features, X[0], np.zeros(features, np.float32))
        rows.hold(np.zeros((1, features), np.uint8), y)
        state = integer.IntegerState(features, 1, np.zeros(features, np.float32), proximal=proximal)
        state.weights[:features] = start
        state.run(rows, order, steps, threads)
    return state.weights.copy()


@pytest.mark.parametrize("kernel", ONE_ROW)
def test_proximal_step_is_its_closed_form(kernel):
    """argmin of (v - x)^2 / (2 eta) + shrink |v| + ridge v^2 / 2 over low..high, with any of the four left out."""
    generator = np.random.default_rng(0)
    features, eta = 131, np.float32(0.25)
    start = np.r_[generator.normal(0, 1, features - 3), 0, 0.25, -0.25].astype(np.float32)
    shrink, ridge = (generator.uniform(0, 2, features).astype(np.float32) for _ in range(2))
    shrink[-2:] = 1  # onto the threshold
    low, high = -generator.uniform(0, 1, features).astype(np.float32), generator.uniform(0, 1, features).astype(np.float32)
    low[:5], high[5:10] = -np.inf, np.inf
    for mask in range(16):
        parts = [part if mask >> i & 1 else None for i, part in enumerate((shrink, ridge, low, high))]
        given = [np.zeros(features) if part is None else part.astype(float) for part in parts[:2]]
        ends = [-np.inf if parts[2] is None else low, np.inf if parts[3] is None else high]
        x = start.astype(float)
        v = np.sign(x) * np.maximum(np.abs(x) - 0.25 * given[0], 0) / (1 + 0.25 * given[1])
        expected = np.clip(v, *ends)
        found = {}
        for level in simd.levels():
            with simd.use(level):
                padded = moved(kernel, start, eta, tuple(parts), threads=2)
            assert not padded[features:].any()
            found[level] = padded[:features]
        for other in found.values():
            np.testing.assert_array_equal(other, found["scalar"])
        np.testing.assert_allclose(found["scalar"], expected, rtol=1e-6, atol=1e-7)
        around = expected[:, None] + np.linspace(-0.1, 0.1, 41)  # and nothing near it is lower
        around = np.clip(around, *[end if np.isscalar(end) else end[:, None] for end in ends])
        cost = [
            (at - x[:, None]) ** 2 / 0.5 + given[0][:, None] * np.abs(at) + given[1][:, None] * at**2 / 2
            for at in (around, expected[:, None])
        ]
        assert np.all(cost[0] >= cost[1] - 1e-6)


@pytest.mark.parametrize("kernel", ONE_ROW)
def test_proximal_step_comes_after_the_gradient(kernel):
    """A start outside of the box meets the rows as it is."""
    start, eta, x = np.full(3, 2, np.float32), 0.5, np.array([0.5, 0.25, 0.125])
    features = np.array([[0.5, 0.25, 0.125]], np.float32)
    box = (None, None, np.full(3, -1, np.float32), np.full(3, 1.25, np.float32))
    y = np.full(1, -1, np.float32)
    order, steps = np.zeros(1, np.uintp), np.array([eta], np.float32)
    slope = start.astype(float) @ x + 1
    if kernel == "sgd":
        state = sgd.State(3, 1, np.zeros(3, np.float32), proximal=box)
        state.weights[:3] = start
        state.run(raw_rows(features, y), order, steps, 1)
    elif kernel == "dense":
        state = integer.DenseState(3, 1, np.zeros(3), np.zeros(3), np.ones(3), proximal=box)
        state.weights[:3] = start
        state.run(features, y, order, steps, 1)
    else:
        rows = integer.IntegerRows(3, 8, 1, 3, np.zeros(3, np.float32), features[0])
        rows.hold(np.ones((1, 3), np.uint8), y)
        state = integer.IntegerState(3, 1, np.zeros(3, np.float32), model_bits=16, residual_bits=16, proximal=box)
        state.weights[:3] = start
        state.run(rows, order, steps, 1)
    np.testing.assert_allclose(state.bias, -eta * slope, rtol=1e-3)
    np.testing.assert_allclose(state.weights[:3], np.clip(start - eta * slope * x, -1, 1.25), rtol=1e-3)


@pytest.mark.parametrize("kernel", ["sgd", "dense", "integer"])
def test_a_box_does_not_hide_divergence(kernel):
    """NaN stays NaN through the proximal step."""
    ones = np.ones(5, np.float32)
    for parts in ((ones, None, None, None), (None, ones, None, None), (None, None, -ones, None), (ones, ones, -ones, ones)):
        start = np.array([1, np.nan, 0, 2, -1], np.float32)
        assert np.isnan(moved(kernel, start, 0.5, parts)[1])


def test_refused_proximal_parts():
    for parts in ((None, None, None), (np.ones(2), None, None, None), (None, None, 1.0, None), (None,) * 5):
        for make in (
            lambda parts=parts: sgd.State(3, 1, np.zeros(3), proximal=parts),
            lambda parts=parts: integer.IntegerState(3, 1, np.zeros(3), proximal=parts),
            lambda parts=parts: integer.DenseState(3, 1, np.zeros(3), np.zeros(3), np.ones(3), proximal=parts),
        ):
            with pytest.raises(ValueError, match="shrink, ridge, low, high"):
                make()
