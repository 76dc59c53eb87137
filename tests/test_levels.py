"""Levels by every method against brute force and a second solver; the sketch's excess over the optimum; rate and distortion."""

import numpy as np
import pytest
import reference

from zipml_codec import feature_levels, levels, optimal_levels, rate_distortion, statistics
from zipml_codec.errors import DataError, OptionError
from zipml_codec.exact import exact_levels
from zipml_codec.levels import METHODS, rounding_cost, sketched
from zipml_codec.statistics import ColumnStatistics

FOUND = [method for method in METHODS if method != "uniform"]
TINY = 5e-324


def small(generator, kind, n):
    """A few values of one kind."""
    return {
        "normal": lambda: generator.normal(size=n),
        "ties": lambda: generator.integers(0, 7, n).astype(float),
        "offset": lambda: generator.normal(size=n) + 1e6,
        "clusters": lambda: generator.normal(size=n) + generator.integers(0, 3, n) * 1e3,
        "heavy": lambda: generator.standard_cauchy(n),
        "two": lambda: generator.choice([-1.5, 2.25], n),
    }[kind]()


@pytest.mark.parametrize("method", FOUND)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["normal", "ties", "offset", "clusters", "heavy", "two"])
def test_brute_force(method, weighted, kind):
    """30 cases: exact is the optimum; so is the sketch but for float32 positions, each value having a cell; and merging."""
    generator = np.random.default_rng(1)
    for _ in range(30):
        x, intervals = small(generator, kind, generator.integers(2, 12)), int(generator.integers(1, 6))
        weights = generator.exponential(size=x.size) * 10.0 ** generator.integers(-6, 6) if weighted else None
        found = optimal_levels(x, intervals, weights, method)
        points, mass = reference.distinct(x, weights)
        best = reference.levels_cost(points, reference.dp_levels(points, intervals, mass), mass)
        if weights is None:
            brute = reference.levels_cost(x, reference.brute_force_levels(x, intervals))
            assert best == pytest.approx(brute, rel=1e-9, abs=1e-12 * np.ptp(x) ** 2 * x.size)
        scale = np.ptp(x) ** 2 * mass.sum()
        cost = reference.levels_cost(x, found.values, weights)
        slack = {"auto": 1e-12, "exact": 1e-12, "histogram": 2e-6, "merging": 1e-12}[method] * scale
        assert best - 1e-12 * scale <= cost <= best + slack
        assert abs(found.cost - cost) <= slack + 1e-12 * scale
        assert found.lower_bound <= min(found.cost, best + slack)
        assert found.method == ("exact" if method == "auto" else method)
        assert found.values[0] == x.min() and found.values[-1] == x.max()
        assert (np.diff(found.values) > 0).all() and len(found.values) <= intervals + 1


DISTRIBUTIONS = {
    "normal": lambda g, n: g.normal(size=n),
    "lognormal": lambda g, n: g.lognormal(size=n),
    "lognormal, sigma 3": lambda g, n: g.lognormal(sigma=3, size=n),
    "cauchy": lambda g, n: g.standard_cauchy(n),
    "pareto": lambda g, n: g.pareto(1.5, n),
    "student t2": lambda g, n: g.standard_t(2, n),
    "outlier above": lambda g, n: np.append(g.normal(size=n - 1), 1e12),
    "outlier below": lambda g, n: np.append(-1e12, g.normal(size=n - 1)),
    "offset 1e6": lambda g, n: g.normal(size=n) + 1e6,
    "offset 1e8": lambda g, n: g.normal(size=n) + 1e8,
    "poisson": lambda g, n: g.poisson(30, n).astype(float),
    "many integers": lambda g, n: g.integers(0, 100_000, n).astype(float),
    "constant but for few": lambda g, n: np.where(g.random(n) < 0.999, 7.0, g.normal(size=n)),
    "mostly zero, lognormal": lambda g, n: np.where(g.random(n) < 0.8, 0.0, g.lognormal(sigma=3, size=n)),
    "sorted": lambda g, n: np.sort(g.lognormal(size=n)),
    "sorted, falling": lambda g, n: np.sort(g.standard_cauchy(n))[::-1],
}
SIZE = 40_000


def sample(kind):
    return DISTRIBUTIONS[kind](np.random.default_rng(list(DISTRIBUTIONS).index(kind)), SIZE)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_excess_of_the_histogram(kind, weighted):
    """With 15 intervals at most 1e-3 over the certified optimum; its own cost and bound say so."""
    x = sample(kind)
    weights = np.random.default_rng(7).exponential(size=SIZE) if weighted else None
    found = optimal_levels(x, 15, weights, "histogram")
    _, _, best, _ = exact_levels(x, weights, 15)
    cost = rounding_cost(x, found.values, weights)
    assert best * (1 - 1e-12) <= cost <= (1 + 1e-3) * best
    assert found.cost == pytest.approx(cost, rel=2e-3)
    assert found.lower_bound <= found.cost and found.lower_bound <= best * (1 + 1e-5)
    if "outlier" not in kind and kind != "poisson":
        assert found.lower_bound >= 0.99 * best  # it proves something
    assert found.values[0] == x.min() and found.values[-1] == x.max() and len(found.values) == 16


@pytest.mark.parametrize("intervals", [1, 3, 63, 255])
@pytest.mark.parametrize("kind", ["normal", "lognormal", "cauchy", "pareto", "many integers"])
def test_histogram_with_other_numbers_of_levels(kind, intervals):
    x = sample(kind)
    found, best = optimal_levels(x, intervals, method="histogram"), exact_levels(x, None, intervals)[1]
    assert rounding_cost(x, found.values) <= best * (1 + (1e-3 if intervals <= 3 else 0.15 if intervals > 63 else 5e-3))
    assert found.lower_bound <= best * (1 + 1e-6)


def test_more_cells_cost_less():
    x = sample("lognormal")
    best = exact_levels(x, None, 31)[1]
    found = [optimal_levels(x, 31, method="histogram", cells=cells) for cells in (64, 256, 4096)]
    excess = [rounding_cost(x, one.values) / best - 1 for one in found]
    assert excess[0] > 3 * excess[1] > 9 * excess[2] > 0


def test_histogram_does_not_depend_on_threads_or_order():
    x = sample("cauchy")
    found = [optimal_levels(x, 15, method="histogram", threads=threads).values for threads in (1, 2, 3)]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_the_bound_holds_for_any_levels():
    """Of the sketch: for the optimum and for levels near it."""
    x = np.random.default_rng(2).lognormal(size=20_000)
    found, generator = optimal_levels(x, 9, method="histogram"), np.random.default_rng(3)
    assert 0.999 * found.cost < found.lower_bound
    for _ in range(50):
        near = np.sort(np.clip(found.values * generator.normal(1, 0.03, 10), x.min(), x.max()))
        near[[0, -1]] = x.min(), x.max()
        assert found.lower_bound <= reference.levels_cost(x, near)


@pytest.mark.parametrize("method", METHODS)
def test_weights_are_repetitions(method):
    """And a factor of all weights changes nothing but the cost."""
    generator = np.random.default_rng(4)
    x, counts = generator.normal(size=2000).astype(np.float32), generator.integers(1, 6, 2000)
    once = optimal_levels(x, 7, counts, method)
    again = optimal_levels(np.repeat(x, counts), 7, None, method)
    assert once.cost == pytest.approx(rounding_cost(x, once.values, counts), rel=1e-3)
    assert rounding_cost(x, once.values, counts) == pytest.approx(rounding_cost(x, again.values, counts), rel=1e-3)
    for factor in (2.0**-30, 2.0**30):
        scaled = optimal_levels(x, 7, counts * factor, method)
        np.testing.assert_allclose(scaled.values, once.values, rtol=1e-6)
        assert scaled.cost == pytest.approx(once.cost * factor, rel=1e-6)
        assert scaled.lower_bound == pytest.approx(once.lower_bound * factor, rel=1e-6)


@pytest.mark.parametrize("method", ["exact", "merging", "uniform"])
def test_cost_is_of_the_values(method):
    x = sample("lognormal")[:5000]
    for weights in (None, np.random.default_rng(5).exponential(size=5000)):
        found = optimal_levels(x, 12, weights, method)
        assert found.cost == pytest.approx(reference.levels_cost(x, found.values, weights), rel=1e-11)
        assert found.lower_bound <= found.cost * (1 + 1e-12)


def test_uniform():
    found = optimal_levels([3.0, -1.0, 0.25, 2.0], 8, method="uniform")
    np.testing.assert_array_equal(found.values, np.linspace(-1, 3, 9))
    assert found.cost == 0.25 * 0.25 and found.lower_bound == 0


def test_merging_takes_gamma():
    """More ends to choose from never cost more here, and merging is near the optimum."""
    x = sample("lognormal")[:6000]
    best, costs = exact_levels(x, None, 15)[1], [optimal_levels(x, 15, method="merging", gamma=g).cost for g in (0.2, 3.0, 30.0)]
    assert costs[0] > costs[1] > costs[2] >= best * (1 - 1e-12) and costs[2] < 1.001 * best


def test_auto_takes_the_histogram_for_many_values(monkeypatch):
    monkeypatch.setattr(levels, "EXACT_VALUES", 1000)
    x = np.random.default_rng(6).normal(size=1001)
    assert optimal_levels(x, 5).method == "histogram" and optimal_levels(x[1:], 5).method == "exact"


@pytest.mark.parametrize("method", METHODS)
def test_degenerate_values(method):
    """Constant, two values, fewer values than levels, the least numbers of float64: levels that cost nothing."""
    for x in ([3.0], [3.0] * 9, [0.0, -0.0], [TINY] * 3, [-1e300] * 2):
        found = optimal_levels(x, 5, method=method)
        assert found.values.tolist() == [x[0]] and found.cost == found.lower_bound == 0
    for x in ([1.0, 2.0, 2.0], [-1e308, 1e308], [0.0, TINY], [-TINY, TINY], [1.0, np.nextafter(1, 2)]):
        found = optimal_levels(x, 5, method=method)
        assert found.values[0] == min(x) and found.values[-1] == max(x) and found.cost == 0
        assert len(found.values) <= 6
    if method != "uniform":
        few = np.repeat([1.0, 2.5, 2.75, 8.0], 5)
        assert optimal_levels(few, 200, method=method).cost <= 1e-5
        assert rounding_cost(few, optimal_levels(few, 4, method=method).values) <= 1e-5
        tiny = np.arange(6) * TINY
        assert optimal_levels(tiny, 5, method=method).values.tolist() == tiny.tolist()


@pytest.mark.parametrize("power", [-1050, -600, 600, 1020])
def test_histogram_at_any_power_of_two(power):
    """A power of two moves nothing but the unit: where squares leave float64, too."""
    x = np.round(np.random.default_rng(8).normal(size=5000) * 2**12) / 2**12
    one, other = optimal_levels(x, 15, method="histogram"), optimal_levels(np.ldexp(x, power), 15, method="histogram")
    np.testing.assert_allclose(np.ldexp(other.values, -power), one.values, rtol=0, atol=max(1e-5, 2.0 ** (-1073 - power)))
    assert np.isfinite(other.values).all()


def test_a_range_that_float32_does_not_hold():
    found = optimal_levels(np.append(np.random.default_rng(9).normal(size=3000), 1e300), 3, method="histogram")
    assert np.isfinite(found.values).all() and found.values[-1] == 1e300
    assert 0 <= found.lower_bound <= found.cost < np.inf


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        ([], {}, DataError, "empty"),
        ([1, np.nan], {}, DataError, r"x\[1\] is nan"),
        ([np.inf, 1], {}, DataError, r"x\[0\] is inf"),
        ([[1, 2], [3, -np.inf]], {}, DataError, r"x\[3\] is -inf"),
        ([1, 2], {"weights": [1, 0]}, DataError, r"weights\[1\] is 0.*positive"),
        ([1, 2], {"weights": [-1, 1]}, DataError, r"weights\[0\] is -1"),
        ([1, 2], {"weights": [1, np.nan]}, DataError, r"weights\[1\] is nan"),
        ([1, 2], {"weights": [np.inf, 1]}, DataError, r"weights\[0\] is inf"),
        ([1, 2], {"weights": [1]}, DataError, "1 for 2"),
        ([1, 2], {"intervals": 0}, OptionError, "intervals"),
        ([1, 2], {"intervals": 256}, OptionError, "intervals"),
        ([1, 2], {"intervals": 3.5}, OptionError, "intervals"),
        ([1, 2], {"method": "best"}, OptionError, "'exact', 'histogram', 'merging'"),
        ([1, 2], {"cells": 63}, OptionError, "cells"),
        ([1, 2], {"cells": 1 << 16}, OptionError, "cells"),
        ([1, 2], {"gamma": 0}, OptionError, "gamma"),
        ([1, 2], {"gamma": np.nan}, OptionError, "gamma"),
        ([1, 2], {"threads": 0, "method": "histogram"}, OptionError, "threads"),
    ],
)
def test_bad_input(x, options, error, message):
    methods = [options["method"]] if "method" in options else METHODS
    for method in methods:
        with pytest.raises(error, match=message):
            optimal_levels(x, **{"intervals": 4, **options, "method": method})


def test_bad_input_of_rate_distortion():
    for x, weights, message in (([], None, "empty"), ([np.nan], None, r"x\[0\]"), ([1, 2], [1, -2], r"weights\[1\]")):
        with pytest.raises(DataError, match=message):
            rate_distortion(x, weights)
    for most in (0, 256):
        with pytest.raises(OptionError, match="most"):
            rate_distortion([1, 2], most=most)


@pytest.mark.parametrize("kind", ["normal", "ties", "offset", "clusters", "heavy", "two"])
@pytest.mark.parametrize("weighted", [False, True])
def test_rate_distortion(kind, weighted):
    """Every number of intervals at once: the second solver's cost of each; it falls, ever more slowly."""
    generator = np.random.default_rng(10)
    x = small(generator, kind, 60)
    weights = generator.exponential(size=60) if weighted else None
    cost = rate_distortion(x, weights, most=70)
    points, mass = reference.distinct(x, weights)
    best = [reference.levels_cost(points, reference.dp_levels(points, s, mass), mass) for s in range(1, 71)]
    tolerance = 1e-12 * np.ptp(x) ** 2 * mass.sum()
    np.testing.assert_allclose(cost, best, rtol=1e-9, atol=tolerance)
    assert (np.diff(cost) <= 0).all() and cost[-1] <= tolerance
    assert (np.diff(cost, 2) >= -tolerance).all()


@pytest.mark.parametrize("kind", ["normal", "lognormal", "cauchy", "outlier above"])
def test_rate_distortion_from_a_sketch(kind):
    """Near the certified optimum, not rising, and convex but for rounding."""
    x = sample(kind)
    cost = rate_distortion(x)
    assert cost.shape == (255,) and (np.diff(cost) <= 0).all()
    for s in (1, 2, 7, 15):
        assert cost[s - 1] == pytest.approx(exact_levels(x, None, s)[1], rel=2e-3)
    assert (np.diff(cost, 2) >= -1e-9 * cost[:-2]).all()


def test_rounding_cost_is_the_sum():
    x, table = np.array([0.0, 0.25, 0.5, 1.0]), np.array([0.0, 0.5, 1.0])
    assert rounding_cost(x, table) == 0.25 * 0.25
    assert rounding_cost(x, table, [1, 3, 1, 1]) == 3 * 0.25 * 0.25
    assert rounding_cost([], table) == 0 and rounding_cost([1.0], [1.0]) == 0


def test_sketched_weights_are_those_of_the_kernel():
    """Weights of one: the same mass and mean, and the same segments where each value has a key of its own."""
    x = sample("cauchy")
    ends = x.min(), x.max()
    plain, weighed = sketched(x, None, 1024, 2, ends), sketched(x, np.ones(SIZE), 1024, 2, ends)
    shape = (1, -1, 3)
    np.testing.assert_allclose(plain.weight.reshape(shape).sum(axis=2), weighed.weight.reshape(shape).sum(axis=2))
    mean = [np.sum((s.left + s.right) / 2 * s.weight) for s in (plain, weighed)]
    assert mean[0] == pytest.approx(mean[1], rel=1e-9)
    few = np.arange(-40.0, 40.0)
    plain, weighed = sketched(few, None, 64, 1, (-40, 39)), sketched(few, np.ones(80), 64, 1, (-40, 39))
    for name in ("weight", "left", "right", "variance"):
        np.testing.assert_array_equal(getattr(weighed, name), getattr(plain, name))


# ---- Of every column ----


KINDS = ("normal", "lognormal", "cauchy", "poisson", "offset 1e6")
MATRIX = np.stack([sample(kind) for kind in KINDS], axis=1).astype(np.float32)


def test_feature_levels_of_a_matrix():
    found, exact = feature_levels(MATRIX, 7), feature_levels(MATRIX, 7, "exact")
    uniform = feature_levels(MATRIX, 7, "uniform")
    assert found.values.shape == exact.values.shape == uniform.values.shape == (5, 8)
    for f, x in enumerate(MATRIX.T.astype(np.float64)):
        best = exact_levels(x, None, 7)[1]
        assert exact.cost[f] == pytest.approx(best, rel=1e-12)
        assert rounding_cost(x, found.values[f]) <= (1 + 1e-3) * best
        assert found.cost[f] == pytest.approx(rounding_cost(x, found.values[f]), rel=2e-3)
        assert uniform.cost[f] == pytest.approx(rounding_cost(x, uniform.values[f]), rel=2e-2) and uniform.cost[f] > best
        for one in (found, exact, uniform):
            assert one.lower_bound[f] <= one.cost[f] * (1 + 1e-12) and one.lower_bound[f] <= best * (1 + 1e-6)
            assert one.values[f, 0] == x.min() and one.values[f, -1] == x.max() and (np.diff(one.values[f]) >= 0).all()
    np.testing.assert_allclose(uniform.values[0], np.linspace(MATRIX[:, 0].min(), MATRIX[:, 0].max(), 8), rtol=1e-6)


def test_feature_levels_of_any_source(tmp_path):
    """A path and blocks, read once, give what the matrix gives."""
    np.save(tmp_path / "x.npy", MATRIX)
    whole = feature_levels(MATRIX, 5)
    for source in (tmp_path / "x.npy", (MATRIX[i : i + 999] for i in range(0, len(MATRIX), 999)), MATRIX.astype(np.float64)):
        other = feature_levels(source, 5, threads=1)
        for name in ("values", "cost", "lower_bound"):
            np.testing.assert_array_equal(getattr(other, name), getattr(whole, name))


@pytest.mark.parametrize("method", ["histogram", "exact", "uniform"])
def test_shared_levels(method):
    """One row, for all values as if they were one column."""
    x = np.ascontiguousarray(MATRIX[:, :2])
    found = feature_levels(x, 9, method, shared=True)
    assert found.values.shape == (1, 10) and found.cost.shape == found.lower_bound.shape == (1,)
    best = exact_levels(x.ravel().astype(np.float64), None, 9)[1]
    cost = rounding_cost(x, found.values[0])
    assert found.cost[0] == pytest.approx(cost, rel=2e-3)
    if method == "uniform":
        np.testing.assert_allclose(found.values[0], np.linspace(x.min(), x.max(), 10), rtol=1e-6)
    else:
        assert best * (1 - 1e-12) <= cost <= (1 + 1e-3) * best


def test_bad_input_of_feature_levels():
    bad = MATRIX[:100].copy()
    bad[41, 3] = np.nan
    with pytest.raises(DataError, match=r"row 42, column index 3: the value is nan"):
        feature_levels(bad, 3)
    with pytest.raises(DataError, match="no rows"):
        feature_levels(iter([np.empty((0, 3))]), 3)
    for options, message in (({"intervals": 0}, "intervals"), ({"intervals": 3, "method": "merging"}, "method")):
        with pytest.raises(OptionError, match=message):
            feature_levels(MATRIX, **options)


def test_a_column_of_fewer_values_repeats_its_last_level():
    x = np.stack([np.repeat([1.0, 2, 5], 10), np.full(30, -3.0)], axis=1)
    for method in ("histogram", "exact"):
        found = feature_levels(x, 6, method)
        np.testing.assert_array_equal(found.values[1], np.full(7, -3.0))
        assert found.values[0, -2] == 5 and rounding_cost(x[:, 0], found.values[0]) <= 1e-5 and found.cost.max() <= 1e-5


# ---- Statistics ----


def test_moments_do_not_depend_on_blocks_or_threads():
    outcomes = []
    for size, threads in [(64, 1), (128, 2), (3008, 3)]:
        learnt = ColumnStatistics(5)
        for start in range(0, 9000, size):
            learnt.add(np.ascontiguousarray(MATRIX[start : min(start + size, 9000)]), threads)
        outcomes.append((learnt.mean, learnt.std, *learnt.sample.take(50)))
    for other in outcomes[1:]:
        for one, same in zip(outcomes[0], other, strict=True):
            np.testing.assert_array_equal(same, one)
    np.testing.assert_allclose(outcomes[0][0], MATRIX[:9000].mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(outcomes[0][1], MATRIX[:9000].std(axis=0, dtype=np.float64), rtol=1e-9)


def test_statistics_without_a_sketch():
    learnt = ColumnStatistics(5, sketch=False)
    learnt.add(MATRIX, 1)
    with pytest.raises(ValueError, match="without a sketch"):
        learnt.segments()


def test_row_sample_is_uniform():
    """Each row is kept with the same probability, wherever it stands: 300 seeds, 100 of 3,000 rows each."""
    kept = np.zeros(3000)
    for seed in range(300):
        rows = statistics.RowSample(1, seed)
        rows.most = 100
        for start in range(0, 3000, 500):
            rows.add(np.arange(start, start + 500, dtype=np.float32)[:, None], start)
        numbers, values = rows.take(100)
        assert len(numbers) == 100 and np.array_equal(numbers, values[:, 0])
        kept[numbers] += 1
    thirds = kept.reshape(3, 1000).sum(axis=1)
    assert np.all(np.abs(thirds - 10_000) < 5 * np.sqrt(10_000 * 2 / 3))
    assert kept.max() < 40


@pytest.mark.parametrize("seed", [5, 23, 38, 51])
def test_bound_beside_an_outlier(seed):
    """Weighted values and one far away: many levels, some of them twice; the bound holds and the cost is that of the levels."""
    generator = np.random.default_rng(seed)
    n = int(generator.integers(200, 3000))
    x = np.append(generator.normal(size=n), 10.0 ** generator.integers(3, 13))
    weights = generator.random(x.size) + 0.01
    found, best = (optimal_levels(x, 255, weights, method=method) for method in ("histogram", "exact"))
    assert found.lower_bound <= best.cost * (1 + 1e-9)
    assert found.cost == pytest.approx(rounding_cost(x, found.values, weights), rel=0.2)


@pytest.mark.parametrize("power", [-1000, 1000])
def test_far_from_one(power):
    """What float64's squares do not hold: merging finds the levels of the same values near 1, and costs end in infinity or 0."""
    x = np.random.default_rng(0).normal(size=200)
    near, far = (optimal_levels(values, 15, method="merging").values for values in (x, np.ldexp(x, power)))
    assert np.array_equal(np.ldexp(near, power), far)
    assert np.all(rate_distortion(np.ldexp(x, power), most=15) == (np.inf if power > 0 else 0))
    assert np.array_equal(rate_distortion(np.ldexp(x, 505), most=15), np.ldexp(rate_distortion(x, most=15), 1010))
