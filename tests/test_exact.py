"""Exact levels against brute force and a second solver, their certificate, their work; merging's guarantee."""

import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import reference

from zipml_codec.errors import DataError, OptionError
from zipml_codec.exact import distinct_values, exact_levels
from zipml_codec.kernels import exact as kernel
from zipml_codec.merging import IntervalCosts, levels_among_merged, merging_levels

SMALL = {
    "normal": lambda g, n: g.normal(size=n),
    "ties": lambda g, n: g.integers(0, 7, n).astype(float),
    "offset": lambda g, n: g.normal(size=n) + g.choice([1e6, -1e7, 1e8]),
    "clusters": lambda g, n: g.normal(size=n) + g.integers(0, 3, n) * g.choice([1e3, 1e6, 1e9]),
    "heavy": lambda g, n: g.standard_cauchy(n) ** 3,
    "subnormal": lambda g, n: g.integers(-40, 40, n) * 5e-324,
    "constant": lambda g, n: np.repeat(g.normal(), n),
    "two": lambda g, n: g.choice([-1.5, 2.25], n),
    "huge": lambda g, n: g.normal(size=n) * 1e300,
    "geometric": lambda g, n: 2.0 ** -g.integers(0, 60, n),
}


def brute_force(points, weights, intervals):
    """Least cost over every choice of inner levels, by direct sums."""
    i = np.arange(len(points))
    inside = (i >= i[:, None, None]) & (i <= i[None, :, None])
    V = np.sum(inside * weights * (points[None, :, None] - points) * (points - points[:, None, None]), axis=2)
    inner = min(intervals - 1, max(len(points) - 2, 0))
    chosen = np.array(list(combinations(i[1:-1], inner)), np.intp)
    chosen = chosen.reshape(len(chosen), inner)
    path = np.hstack([np.zeros((len(chosen), 1), np.intp), chosen, np.full((len(chosen), 1), len(points) - 1)])
    return V[path[:, :-1], path[:, 1:]].sum(axis=1).min()


@pytest.mark.parametrize("kind", SMALL)
def test_brute_force(kind):
    """200 cases a kind, half of them weighted. Float64 cannot hold the costs of subnormal and huge values: a unit of 2^k does."""
    generator = np.random.default_rng(list(SMALL).index(kind))
    for case in range(200):
        x = SMALL[kind](generator, generator.integers(1, 13))
        weights = generator.exponential(size=x.size) ** 3 if case % 2 else None
        intervals = int(generator.integers(1, 7))
        with np.errstate(over="ignore"):
            levels, cost, lower_bound, _ = exact_levels(x, weights, intervals)
        assert levels[0] == x.min() and levels[-1] == x.max()
        points, mass = reference.distinct(x, weights)
        assert len(levels) == min(intervals + 1, len(points)) and np.all(np.isin(levels, points)) and np.all(np.diff(levels) > 0)
        unit = {"subnormal": 1074, "huge": -1000}.get(kind, 0)
        scaled = np.ldexp(points, unit)
        best = brute_force(scaled, mass, intervals)
        tolerance = 1e-12 * np.ptp(scaled) ** 2 * mass.sum()
        assert reference.levels_cost(scaled, np.ldexp(levels, unit), mass) <= best + tolerance
        assert lower_bound <= cost
        if not unit:
            assert abs(cost - best) <= tolerance and best - tolerance <= lower_bound <= best + 1e-15 * tolerance + 1e-14 * best


LARGE = {
    "normal": lambda g, n: g.normal(size=n),
    "lognormal": lambda g, n: g.lognormal(size=n),
    "cauchy": lambda g, n: g.standard_cauchy(n),
    "clusters": lambda g, n: g.normal(size=n) + 1e4 * g.integers(0, 3, n),
    "mirrored": lambda g, n: np.concatenate([(half := 5 + g.normal(size=n // 2)), -half]),
    "ties": lambda g, n: g.integers(0, 700, n).astype(float),
    "equidistant": lambda g, n: np.arange(n, dtype=float),
    "outlier": lambda g, n: np.append(g.normal(size=n - 1), 1e12),
}


@pytest.mark.parametrize(("size", "intervals"), [(20_000, 2), (20_000, 7), (5000, 16), (3000, 64), (2000, 255)])
@pytest.mark.parametrize("kind", LARGE)
def test_second_solver(kind, size, intervals):
    """The same cost as plain divide and conquer over all values, and a bound below it by no more than rounding."""
    generator = np.random.default_rng(size + intervals)
    x = LARGE[kind](generator, size)
    weights = generator.exponential(size=x.size) if intervals in (7, 64) else None
    levels, cost, lower_bound, _ = exact_levels(x, weights, intervals)
    best = reference.levels_cost(x, reference.divide_and_conquer_levels(x, intervals, weights), weights)
    assert reference.levels_cost(x, levels, weights) == pytest.approx(cost, rel=1e-11)
    assert cost <= best * (1 + 1e-11)
    assert lower_bound <= cost
    if kind == "outlier":  # a spread of 1e12: what is proven is relative to its square
        assert cost - lower_bound <= 1e-12 * np.ptp(x) ** 2
    else:
        assert lower_bound >= cost * (1 - 1e-9)
    assert lower_bound <= best


def test_bound_holds_for_any_choice():
    generator = np.random.default_rng(5)
    x = generator.lognormal(size=4000)
    levels, cost, lower_bound, _ = exact_levels(x, None, 9)
    for _ in range(50):
        near = np.sort(np.clip(levels * generator.normal(1, 0.02, levels.size), levels[0], levels[-1]))
        near[[0, -1]] = levels[[0, -1]]
        other = reference.levels_cost(x, near)
        assert lower_bound <= other and cost <= other


@pytest.mark.parametrize("offset", [0, 1e6, 1e8, -1e8])
def test_offset(offset):
    """N(0, 1) + 1e8, 16 levels: the excess over levels found with the same values near 0, both costs counted there."""
    x = np.random.default_rng(6).normal(size=20_000) + offset
    near = x - offset  # exact: all within a factor of two of the offset
    levels, cost, lower_bound, _ = exact_levels(x, None, 15)
    best = reference.levels_cost(near, exact_levels(near, None, 15)[0])
    assert reference.levels_cost(near, levels - offset) <= best * (1 + 1e-12)
    assert cost == pytest.approx(best, rel=1e-12) and cost * (1 - 1e-12) <= lower_bound <= cost


@pytest.mark.parametrize("power", [-1060, -500, 500, 1015])
def test_powers_of_two_change_nothing(power):
    x = np.round(np.random.default_rng(7).normal(size=3000) * 2**12)
    with np.errstate(over="ignore"):
        levels = exact_levels(np.ldexp(x, power - 12), None, 15)[0]
    np.testing.assert_array_equal(levels, np.ldexp(exact_levels(x, None, 15)[0], power - 12))


def test_weights_are_repetitions():
    generator = np.random.default_rng(8)
    x, counts = generator.normal(size=800), generator.integers(1, 9, 800)
    once = exact_levels(x, counts.astype(float), 12)
    repeated = exact_levels(np.repeat(x, counts), None, 12)
    np.testing.assert_array_equal(once[0], repeated[0])
    assert once[1] == pytest.approx(repeated[1], rel=1e-13)
    tiny = exact_levels(x, counts * 1e-300, 12)
    np.testing.assert_array_equal(tiny[0], once[0])
    assert tiny[1] == pytest.approx(once[1] * 1e-300, rel=1e-13)


def test_order_and_input_do_not_matter():
    x = np.random.default_rng(9).normal(size=5000)
    before = x.copy()
    found = exact_levels(x, None, 15)
    np.testing.assert_array_equal(x, before)
    for same in (np.sort(x), np.sort(x)[::-1], np.asfortranarray(np.stack([x, x], 1))[:, 0]):
        other = exact_levels(same, None, 15)
        np.testing.assert_array_equal(other[0], found[0])
        assert other[1:] == found[1:]
    mirrored = exact_levels(-x, None, 15)
    assert mirrored[1] == pytest.approx(found[1], rel=1e-14)


def test_degenerate():
    assert exact_levels(np.empty(0), None, 3)[0].size == 0
    assert exact_levels(np.array([2.0]), None, 3)[0].tolist() == [2.0]
    assert exact_levels(np.array([-0.0, 0.0]), np.array([1.0, 2.0]), 3)[0].tolist() == [0.0]
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(DataError, match="finite"):
            exact_levels(np.array([1.0, bad, 2.0]), None, 1)
    with pytest.raises(ValueError, match="an interval"):
        kernel.solve(np.array([1.0]), None, 0)
    with pytest.raises(ValueError, match="as many weights"):
        kernel.solve(np.array([1.0, 2.0]), np.array([1.0]), 1)


def test_distinct_values():
    generator = np.random.default_rng(10)
    x, weights = generator.integers(0, 50, 300).astype(float), generator.exponential(size=300)
    for mass in (None, weights):
        points, summed = distinct_values(x, mass)
        expected = reference.distinct(x, mass)
        np.testing.assert_array_equal(points, expected[0])
        np.testing.assert_allclose(summed, expected[1], rtol=1e-13)
    assert distinct_values(np.array([3.0, 1.0]))[1] is None


@pytest.mark.parametrize("intervals", [15, 63])
@pytest.mark.parametrize("kind", ["normal", "lognormal", "cauchy", "equidistant"])
def test_work_grows_with_the_logarithm(kind, intervals):
    """Interval costs computed, 16 times the values: a method that looked at all of them would need 16 times, 256 if quadratic."""
    counts = [exact_levels(LARGE[kind](np.random.default_rng(11), size), None, intervals)[3] for size in (1 << 13, 1 << 17)]
    assert counts[1] < 4 * counts[0] and counts[1] < 100 * intervals**2 * 17


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("kind", ["plain", "weighted", "repeated"])
def test_memory(kind):
    """24 bytes a value at most, the sorted copy among them, and 2 MB for lists of cells."""
    code = f"""
import re, numpy as np
from zipml_codec.exact import exact_levels
def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
N = 1 << 22
x = np.random.default_rng(0).normal(size=N)
if {kind == "repeated"}:
    np.round(x, 5, out=x)
weights = np.ones(N) if {kind == "weighted"} else None
exact_levels(x[:5000], None, 15)
used = kilobytes("VmRSS")
exact_levels(x, weights, 15)
print((kilobytes("VmHWM") - used) * 1024 / N)
"""
    grown = float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert 8 <= grown <= 24.5


@pytest.mark.parametrize("kind", ["normal", "lognormal", "cauchy", "clusters", "ties", "outlier"])
@pytest.mark.parametrize("weighted", [False, True])
def test_merging_guarantee(kind, weighted):
    """Its partition has few intervals and costs at most 1 + 1/gamma times the best one of k."""
    generator = np.random.default_rng(12)
    x = LARGE[kind](generator, 4000)
    weights = generator.exponential(size=x.size) ** 4 if weighted else None
    for k in (1, 2, 5, 16):
        best = exact_levels(x, weights, k)[1]
        for gamma in (0.1, 0.5, 1.0, 3.0):
            for delta in (0, 1, 10):
                ends = merging_levels(x, weights, k, gamma, delta)
                assert ends[0] == x.min() and ends[-1] == x.max() and np.all(np.isin(ends, x))
                assert len(ends) - 1 <= 2 * np.ceil((1 + gamma) * k) + max(delta, 1)
                assert reference.levels_cost(x, ends, weights) <= (1 + 1 / gamma) * best * (1 + 1e-12)


def test_merging_guarantee_is_needed():
    """Where k intervals cost nothing, merging must find that: groups of equal cost that pairs straddle."""
    x = np.repeat(np.array([0.0, 1.0, 10.0, 11.0, 50.0]), 7)
    assert reference.levels_cost(x, merging_levels(x, None, 4, 1.0, 0)) == 0
    spread = np.concatenate([np.linspace(0, 1, 100), np.linspace(1000, 1001, 100)])
    ends = merging_levels(spread, None, 3, 0.5, 0)
    assert reference.levels_cost(spread, ends) <= 3 * exact_levels(spread, None, 3)[1]


@pytest.mark.parametrize("kind", ["normal", "lognormal", "cauchy", "clusters"])
def test_levels_among_merged(kind):
    x = LARGE[kind](np.random.default_rng(13), 3000)
    for k in (2, 7, 16):
        ends, (levels, cost) = merging_levels(x, None, k, 3.0), levels_among_merged(x, None, k)
        best = exact_levels(x, None, k)[1]
        assert len(levels) == k + 1 and np.all(np.isin(levels, ends))
        assert cost == pytest.approx(reference.levels_cost(x, levels), rel=1e-10, abs=1e-18 * np.ptp(x) ** 2 * x.size)
        assert best * (1 - 1e-12) <= cost <= 1.1 * best
    assert levels_among_merged(np.array([1.0, 2.0]), None, 5)[1] == 0


def test_interval_costs():
    generator = np.random.default_rng(14)
    points, weights = np.unique(generator.normal(size=60)), generator.exponential(size=60)
    costs = IntervalCosts(points, weights)
    for low, high in [(0, 59), (3, 4), (3, 5), (10, 40)]:
        direct = reference.interval_cost(points[low : high + 1], points[low], points[high], weights[low : high + 1])
        assert float(costs(np.intp(low), np.intp(high))) == pytest.approx(direct, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("options", "name"), [((0, 1.0, 1), "k"), ((2, 0.0, 1), "gamma"), ((2, np.nan, 1), "gamma"), ((2, 1, -1), "delta")]
)
def test_merging_options(options, name):
    for function in (merging_levels, levels_among_merged):
        with pytest.raises(OptionError, match=name):
            function(np.array([1.0, 2.0, 3.0]), None, *options)
