"""Penalties: steps against brute force, projections against their KKT conditions, trained models against other solvers."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear, minimize_scalar, nnls
from sklearn.linear_model import ElasticNet, Lasso, Ridge

import zipml_codec as zipml
from zipml_codec.errors import OptionError
from zipml_codec.penalties import Penalty, make_penalty, project_l1, project_l2

STD = np.array([1e-3, 0.3, 1.0, 40.0, 1e4])
SEPARABLE = {
    "none": make_penalty("none"),
    "l2": make_penalty("l2", 0.7),
    "l1": make_penalty("l1", 0.4),
    "elastic-net": make_penalty("elastic-net", 0.5, 0.3),
    "elastic-net-1": make_penalty("elastic-net", 0.5, 1.0),
    "elastic-net-0": make_penalty("elastic-net", 0.5, 0.0),
    "nonnegative": make_penalty("nonnegative"),
    "box": make_penalty("box", bounds=(-0.5, [0.1, 0.2, 0.3, 0.4, 0.5])),
    "l1-bounded": make_penalty("l1", 0.4, bounds=(None, 0.3)),
    "net-bounded": make_penalty("elastic-net", 0.4, 0.6, bounds=(0.1, 2.0)),
    "standard": make_penalty("elastic-net", 0.4, 0.6, (-0.2, 0.3), None, "standard"),
}  # fmt: skip


def value_of(penalty, c):
    """The penalty of one coefficient in the units it is on, written down anew; bounds are left to the caller."""
    l1 = {"l1": 1.0, "elastic-net": penalty.l1_ratio}.get(penalty.kind, 0.0)
    l2 = {"l2": 1.0, "elastic-net": 1 - penalty.l1_ratio}.get(penalty.kind, 0.0)
    return penalty.strength * (l1 * abs(c) + l2 * c**2 / 2)


@pytest.mark.parametrize("name", SEPARABLE)
@pytest.mark.parametrize("step", [1e-3, 0.3, 20.0])
def test_a_step_minimises_what_it_should(name, step):
    """prox(v) = argmin |x - v|^2 / 2 + step * penalty(x / std), of each coefficient, found by search in the data's units."""
    penalty = SEPARABLE[name]
    v = np.random.default_rng(0).normal(size=len(STD)) * np.where(penalty.units == "data", STD, 1)
    found = penalty.step(v, STD, step)
    for f, std in enumerate(STD):
        unit = std if penalty.units == "data" else 1.0  # x = c * unit
        low, high = (np.broadcast_to(end if end is not None else fill, len(STD))[f]
                     for end, fill in ((penalty.low, -np.inf), (penalty.high, np.inf)))  # fmt: skip

        def cost(c, unit=unit, f=f):
            return (c * unit - v[f]) ** 2 / 2 + step * value_of(penalty, c)

        ends = sorted([0.0, 2 * v[f] / unit])
        a, b = max(low, ends[0] - 1e-9), min(high, ends[1] + 1e-9)
        candidates = [c for c in (low, high, 0.0) if np.isfinite(c) and low <= c <= high]
        if a < b:
            candidates.append(minimize_scalar(cost, bounds=(a, b), method="bounded", options={"xatol": 1e-13 * (1 + b - a)}).x)
        best = min(map(cost, candidates))
        got = found[f] / unit
        assert low - 1e-12 <= got <= high + 1e-12
        assert cost(got) <= best + 1e-9 * (1 + abs(best)), (name, f, got)
    several = penalty.step(np.stack([v, -v]), STD, step)
    np.testing.assert_array_equal(several, [found, penalty.step(-v, STD, step)])


def test_closed_forms():
    v = np.array([3.0, -0.2, 0.5])
    ones = np.ones(3)
    np.testing.assert_allclose(make_penalty("l1", 0.5).step(v, ones, 1.0), [2.5, 0, 0])
    np.testing.assert_allclose(make_penalty("l2", 0.5).step(v, ones, 2.0), v / 2)
    np.testing.assert_allclose(make_penalty("elastic-net", 1.0, 0.5).step(v, ones, 1.0), np.array([2.5, 0, 0]) / 1.5)
    np.testing.assert_allclose(make_penalty("nonnegative").step(v, ones, 9.0), [3, 0, 0.5])
    np.testing.assert_allclose(make_penalty("box", bounds=(-0.1, 1)).step(v, ones, 9.0), [1, -0.1, 0.5])
    np.testing.assert_allclose(make_penalty("l2-ball", radius=1.0).step(v, ones, 9.0), v / np.linalg.norm(v))
    np.testing.assert_allclose(make_penalty("l1-ball", radius=1.0).step(v, ones, 9.0), [1, 0, 0])
    np.testing.assert_allclose(make_penalty("l1", 0.5).step(v, np.array([0.1, 10, 1]), 0.1), [2.5, -0.195, 0.45])  # 1 / std


@pytest.mark.parametrize("name", SEPARABLE)
def test_the_kernels_parts_are_the_same_step(name):
    """(shrink, ridge, low, high) in float32 units of training say what `step` does."""
    penalty, step = SEPARABLE[name], 0.3
    parts = penalty.proximal(STD)
    if name == "none":
        assert parts is None
        return
    shrink, ridge, low, high = (part if part is None else part.astype(np.float64) for part in parts)
    v = np.random.default_rng(1).normal(size=len(STD)) * STD
    x = v if shrink is None else np.sign(v) * np.maximum(np.abs(v) - step * shrink, 0)
    x = x if ridge is None else x / (1 + step * ridge)
    x = np.clip(x, -np.inf if low is None else low, np.inf if high is None else high)
    np.testing.assert_allclose(x, penalty.step(v, STD, step), rtol=1e-5)


def test_balls_leave_the_kernels_out():
    assert make_penalty("l1-ball", radius=1).proximal(STD) is None and make_penalty("l2-ball", radius=1).proximal(STD) is None


# ---- Projections ----

EXTREME = st.floats(-1e12, 1e12).map(lambda value: 0.0 if abs(value) < 1e-12 else value)
SCALES = st.one_of(st.just(0.0), st.floats(-9, 9).map(lambda power: 10.0**power))
CASES = st.integers(1, 8).flatmap(
    lambda n: st.tuples(st.lists(EXTREME, min_size=n, max_size=n), st.lists(SCALES, min_size=n, max_size=n))
)
RADII = st.floats(-9, 9).map(lambda power: 10.0**power)


def arrays(case):
    return tuple(np.array(part, np.float64) for part in case)


@settings(max_examples=300, deadline=None)
@given(CASES, RADII)
@example(([1.0, 1.0], [1e8, 1.0]), 1e-9)  # the first breakpoint and its threshold are one float64
@example(([1e12], [1e9]), 1e-9)
@example(([0.0, 1.0, 1.0], [0.0, 1.0, 1e8]), 1.0)  # sums of squares that float64 does not tell apart
@example(([5.0, 5.0, 5.0], [1.0, 1.0, 1.0]), 1.0)  # ties
def test_l1_projection_meets_its_conditions(case, radius):
    """Feasible, and x = sign(v) max(|v| - lambda w, 0) for one lambda >= 0, 0 only where v is feasible itself."""
    v, w = arrays(case)
    x = project_l1(v, w, radius)
    size = w @ np.abs(x)
    assert size <= radius * (1 + 1e-9)
    np.testing.assert_array_equal(x[w == 0], v[w == 0])
    if w @ np.abs(v) <= radius:
        np.testing.assert_array_equal(x, v)
        return
    assert (x * v >= 0).all() and (np.abs(x) <= np.abs(v) * (1 + 1e-12)).all()
    # the multiplier: bisected on |x(lambda)| = radius in extended precision
    wide, scale = np.abs(v).astype(np.longdouble), w.astype(np.longdouble)
    low, high = np.longdouble(0), (wide[w > 0] / scale[w > 0]).max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if scale @ np.maximum(wide - middle * scale, 0) > radius else (low, middle)
    expected = np.sign(v) * np.where(w > 0, np.maximum(wide - high * scale, 0), wide).astype(np.float64)
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-13 * np.abs(v).max())


@settings(max_examples=300, deadline=None)
@given(CASES, RADII)
@example(([1.0, 1.0], [1e6, 1e-6]), 1e-7)
@example(([1e12, 1e-12], [1e9, 1e-9]), 1e-9)
def test_l2_projection_meets_its_conditions(case, radius):
    """On the ball's edge, and x = v / (1 + lambda w^2) for one lambda >= 0, unless v is feasible itself."""
    v, w = arrays(case)
    x = project_l2(v, w, radius)
    np.testing.assert_array_equal(x[w == 0], v[w == 0])
    if np.square(w * v).sum() <= radius**2:
        np.testing.assert_array_equal(x, v)
        return
    assert math.isclose(float(np.sqrt(np.square(w * x).sum())), radius, rel_tol=1e-9)
    used = (w > 0) & (x != 0)
    f = np.flatnonzero(used)[np.argmax((w * w)[used])]  # where the multiplier shows most
    multiplier = (v[f] / x[f] - 1) / w[f] ** 2
    assert multiplier >= 0
    np.testing.assert_allclose(x, v / (1 + multiplier * w**2), rtol=1e-6)


@pytest.mark.parametrize("kind", ["l1-ball", "l2-ball"])
def test_projections_against_a_generic_solver(kind):
    from scipy.optimize import minimize

    rng = np.random.default_rng(3)
    for _ in range(20):
        n = int(rng.integers(2, 6))
        v, w, radius = rng.normal(size=n) * 3, rng.uniform(0.2, 3, n), float(rng.uniform(0.2, 2))
        if kind == "l2-ball":
            x = project_l2(v, w, radius)
            limits = [{"type": "ineq", "fun": lambda x, w=w, r=radius: r**2 - np.square(w * x).sum()}]
            other = minimize(lambda x, v=v: np.square(x - v).sum(), np.zeros(n), constraints=limits, tol=1e-12).x
        else:  # x = p - q, both not negative
            x = project_l1(v, w, radius)
            limits = [{"type": "ineq", "fun": lambda z, w=w, r=radius, n=n: r - w @ (z[:n] + z[n:])}]
            split = minimize(lambda z, v=v, n=n: np.square(z[:n] - z[n:] - v).sum(), np.full(2 * n, 0.01), constraints=limits,
                             bounds=[(0, None)] * (2 * n), tol=1e-12).x  # fmt: skip
            other = split[:n] - split[n:]
        np.testing.assert_allclose(x, other, atol=2e-4)
        assert np.square(x - v).sum() <= np.square(other - v).sum() + 1e-4


@pytest.mark.parametrize("project", [project_l1, project_l2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_model_that_diverged_is_projected_without_an_error(project, bad):
    """The trainer looks at the model after its step, and halves the step size."""
    with np.errstate(all="ignore"):
        assert project(np.array([1.0, bad]), np.ones(2), 1.0).shape == (2,)


# ---- Values, bounds, options ----


def test_values():
    std, c = np.array([0.5, 2.0, 0.0]), np.array([3.0, -4.0, 0.0])
    x = c * std
    assert make_penalty("l1", 0.1).value(x, std) == pytest.approx(0.7)
    assert make_penalty("l2", 0.1).value(x, std) == pytest.approx(1.25)
    assert make_penalty("elastic-net", 0.1, 0.2).value(x, std) == pytest.approx(0.02 * 7 + 0.08 * 12.5)
    assert make_penalty("l2", 0.1, units="standard").value(x, std) == pytest.approx(0.05 * (1.5**2 + 8**2))
    assert make_penalty("l1-ball", radius=7).value(x, std) == 0 and make_penalty("l1-ball", radius=6.9).value(x, std) == np.inf
    assert make_penalty("l2-ball", radius=5).value(x, std) == 0 and make_penalty("l2-ball", radius=4.9).value(x, std) == np.inf
    assert [make_penalty("box", bounds=(low, 3)).value(x, std) for low in (-4, -3.9)] == [0, np.inf]
    both = np.stack([x, 2 * x])  # of several targets the mean, as the loss is
    assert make_penalty("l1", 0.1).value(both, std) == pytest.approx((0.7 + 1.4) / 2)


def test_columns_that_are_constant():
    """Their coefficients stay 0 whatever the bounds, and are in nobody's way."""
    std = np.array([2.0, 0.0])
    for penalty in (make_penalty("box", bounds=(0.5, 3)), make_penalty("l1-ball", radius=9), make_penalty("l1", 1e-9)):
        assert penalty.step(np.array([2.0, 0.0]), std, 0.1)[1] == 0
        assert np.isfinite(penalty.value(np.array([2.0, 0.0]), std))
        parts = penalty.proximal(std)
        if parts is not None and parts[2] is not None:
            assert parts[2][1] <= 0 <= parts[3][1]


BAD = [
    ({"kind": "l3"}, "penalty"),
    ({"kind": "l2", "strength": -1}, "strength"),
    ({"kind": "l2", "strength": np.nan}, "strength"),
    ({"kind": "elastic-net", "strength": 1, "l1_ratio": 2}, "l1_ratio"),
    ({"kind": "nonnegative", "strength": 1}, "has no strength"),
    ({"kind": "none", "strength": 1}, "has no strength"),
    ({"kind": "l1-ball"}, r"needs radius= \(--radius\)"),
    ({"kind": "l1-ball", "radius": 0}, "radius"),
    ({"kind": "l2", "radius": 1}, "takes no radius"),
    ({"kind": "l2-ball", "radius": 1, "bounds": (0, 1)}, "goes with no bounds"),
    ({"kind": "box"}, r"needs bounds=\(low, high\) \(--bounds low,high\)"),
    ({"kind": "box", "bounds": 3}, "pair"),
    ({"kind": "box", "bounds": (1, 0)}, "low is above high"),
    ({"kind": "box", "bounds": ("a", 0)}, "low must be a number"),
    ({"kind": "box", "bounds": (np.nan, 0)}, "no NaN"),
    ({"kind": "box", "bounds": ([0, 0], [1, 1, 1])}, "low has 2 values, high 3"),
    ({"kind": "nonnegative", "bounds": (0, 1)}, "give one of the two"),
    ({"kind": "l2", "units": "feet"}, "penalty_units"),
]


@pytest.mark.parametrize(("options", "text"), BAD)
def test_options_that_do_not_fit(options, text):
    with pytest.raises(OptionError, match=text):
        make_penalty(**options)


# ---- Trained models against other solvers, on exact data ----

ROWS = 1500


@pytest.fixture(scope="module")
def problem():
    """Columns of very different scale, some correlated; one without effect and one constant."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(ROWS, 6))
    Z[:, 1] += 0.5 * Z[:, 0]
    scale = np.array([1e-2, 0.3, 1.0, 5.0, 200.0, 1.0])
    X = (Z * scale + np.array([0, 1, -2, 10, 300, 0])).astype(np.float32)
    y = (Z @ [1.5, -2.0, 0.7, 0.3, -1.0, 0.0] + 4 + 0.5 * rng.normal(size=ROWS)).astype(np.float32)
    return np.column_stack([X, np.full(ROWS, 3, np.float32)]), y


def objective(X, y, coef, intercept, penalty):
    """Mean loss plus penalty, anew, in float64."""
    loss = np.square(X.astype(np.float64) @ coef + intercept - y).mean() / 2
    return loss + sum(value_of(penalty, c) for c in coef)


def trained(X, y, **options):
    model = zipml.train((X, y), epochs=60, batch=64, **options)
    return model, np.asarray(model.coef, np.float64), float(model.intercept)


@pytest.mark.parametrize("strength", [1e-6, 1e-3, 0.1])
def test_ridge(problem, strength):
    X, y = problem
    other = Ridge(alpha=strength * ROWS, solver="svd").fit(X.astype(np.float64), y)
    model, coef, intercept = trained(X, y, penalty="l2", strength=strength)
    best = objective(X, y, other.coef_, other.intercept_, make_penalty("l2", strength))
    ours = objective(X, y, coef, intercept, make_penalty("l2", strength))
    assert best * (1 - 1e-6) <= ours <= 1.005 * best
    assert model.info["objective"] == pytest.approx(ours, rel=1e-3) and coef[-1] == 0


@pytest.mark.parametrize(("kind", "ratio"), [("l1", 1.0), ("elastic-net", 0.5)])
@pytest.mark.parametrize("strength", [1e-4, 0.01, 0.2])
def test_lasso_and_elastic_net(problem, kind, ratio, strength):
    X, y = problem
    wide = X.astype(np.float64)
    options = {"alpha": strength, "tol": 1e-10, "max_iter": 100_000}
    other = (Lasso(**options) if kind == "l1" else ElasticNet(l1_ratio=ratio, **options)).fit(wide, y)
    penalty = make_penalty(kind, strength, ratio)
    _, coef, intercept = trained(X, y, penalty=kind, strength=strength, l1_ratio=ratio)
    best, ours = (objective(X, y, c, b, penalty) for c, b in ((other.coef_, other.intercept_), (coef, intercept)))
    assert best * (1 - 1e-5) <= ours <= 1.005 * best
    std = X.std(axis=0, dtype=np.float64)
    np.testing.assert_allclose(coef * std, other.coef_ * std, atol=0.03)
    if strength >= 0.2:  # zeros: but for what the noise of the last small steps leaves
        assert other.coef_[5] == 0 and (np.abs(coef * std)[5:] < 1e-5).all()


def test_nonnegative_and_box(problem):
    X, y = problem
    wide = X.astype(np.float64)
    A, b = wide - wide.mean(axis=0), y - y.mean(dtype=np.float64)
    A = A[:, :-1]
    exact = nnls(A, b)[0]
    _, coef, intercept = trained(X, y, penalty="nonnegative")
    assert (coef >= 0).all()
    best = np.square(A @ exact - b).mean() / 2
    assert best * (1 - 1e-6) <= objective(X, y, coef, intercept, make_penalty("none")) <= 1.005 * best
    low, high = np.array([-50, -3.0, 0.1, 0, -1, 0.2]), np.array([60, 3.0, 0.5, 0.05, 0, 0.3])
    exact = lsq_linear(A, b, (low, high), tol=1e-12).x
    ends = tuple(np.append(end, 0.0).tolist() for end in (low, high))
    _, coef, intercept = trained(X, y, penalty="box", bounds=ends)
    assert (coef[:-1] >= low).all() and (coef[:-1] <= high).all()
    best = np.square(A @ exact - b).mean() / 2
    assert best * (1 - 1e-6) <= objective(X, y, coef, intercept, make_penalty("none")) <= 1.005 * best


def test_balls_are_their_multipliers_problem(problem):
    """Of the radius that Lasso's or Ridge's solution has, the least loss within the ball is that solution."""
    X, y = problem
    X = X / np.float32([1e-2, 0.3, 1, 5, 200, 1, 1])
    wide = X.astype(np.float64)
    plain = make_penalty("none")
    for kind, other in (("l1-ball", Lasso(alpha=0.2, tol=1e-10)), ("l2-ball", Ridge(alpha=0.3 * ROWS))):
        other.fit(wide, y)
        radius = float(np.abs(other.coef_).sum() if kind == "l1-ball" else np.linalg.norm(other.coef_))
        model, coef, intercept = trained(X, y, penalty=kind, radius=radius)
        best, ours = (objective(X, y, c, b, plain) for c, b in ((other.coef_, other.intercept_), (coef, intercept)))
        assert best * (1 - 1e-4) <= ours <= 1.005 * best
        np.testing.assert_allclose(coef, other.coef_, atol=0.01)
        assert np.isfinite(model.info["objective"])


def test_units(problem):
    """On standardised coefficients: Ridge on standardised columns."""
    X, y = problem
    std, mean = X.std(axis=0, dtype=np.float64), X.mean(axis=0, dtype=np.float64)
    Z = (X - mean)[:, :-1] / std[:-1]
    other = Ridge(alpha=0.2 * ROWS).fit(Z, y)
    _, coef, _ = trained(X, y, penalty="l2", strength=0.2, penalty_units="standard")
    np.testing.assert_allclose(coef[:-1] * std[:-1], other.coef_, atol=0.01)


def test_bounds_of_another_length(problem):
    with pytest.raises(OptionError, match="low has 2 values for 7 features"):
        zipml.train(problem, penalty="box", bounds=([0, 0], None), epochs=1)


def test_a_bounded_coefficient_of_a_constant_column(problem):
    X, y = problem
    model, coef, _ = trained(X, y, penalty="box", bounds=(0.05, 0.4))
    assert (coef >= 0.05).all() and (coef <= 0.4).all() and np.isfinite(model.info["objective"])
    assert Penalty("box", low=0.05, high=0.4).value(coef * X.std(axis=0, dtype=np.float64), X.std(axis=0)) == 0
