"""Levels: the grid's optimum against the reference, the histogram against NumPy, whatever the blocks."""

import numpy as np
import pytest
import reference

from zipml_codec import optimal_levels, statistics
from zipml_codec.errors import DataError, OptionError
from zipml_codec.levels import grid_steps, rounding_cost
from zipml_codec.statistics import ColumnStatistics, Histogram

VALUES = {
    "normal": lambda g: g.normal(size=500),
    "offset": lambda g: g.normal(size=500) + 1e8,
    "tiny": lambda g: g.normal(size=500) * 1e-30,
    "ties": lambda g: g.integers(0, 9, 500).astype(float),
    "clusters": lambda g: np.concatenate([g.normal(size=250), g.normal(size=250) + 50]),
    "lognormal": lambda g: g.lognormal(size=500),
}


@pytest.mark.parametrize("intervals", [1, 2, 3, 7, 15])
@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("weighted", [False, True])
def test_grid_optimum(kind, intervals, weighted):
    """Cells are four to a step, so what the levels cost is the grid's optimum but for the spread inside a cell."""
    generator = np.random.default_rng(1)
    x = VALUES[kind](generator)
    weights = generator.exponential(size=x.size) if weighted else None
    found = optimal_levels(x, intervals, weights=weights, steps=intervals * 30)
    best = reference.levels_cost(x, reference.grid_levels(x, intervals * 30, intervals, weights), weights)
    assert found.values[0] == x.min() and found.values[-1] == x.max() and np.all(np.diff(found.values) > 0)
    assert len(found.values) <= intervals + 1
    assert found.cost == pytest.approx(reference.levels_cost(x, found.values, weights), rel=1e-9)
    slack = reference.levels_cost(x, np.array([x.min(), x.max()]), weights) / (intervals * 120)
    assert best * (1 - 1e-9) <= found.cost <= 1.02 * best + slack


def test_finer_grids_approach_the_exact_optimum():
    x = np.random.default_rng(0).normal(size=2000)
    exact = reference.levels_cost(x, reference.divide_and_conquer_levels(x, 7))
    excess = [optimal_levels(x, 7, steps=steps).cost / exact - 1 for steps in (35, 140, 560, 4200)]
    assert np.all(np.diff(excess) < 0) and excess[-1] < 1e-3


def test_degenerate_values():
    assert optimal_levels([3.0], 5).values.tolist() == [3.0]
    assert optimal_levels([3.0] * 9, 5).cost == 0
    two = optimal_levels([1.0, 2.0, 2.0], 5)
    assert two.values[[0, -1]].tolist() == [1.0, 2.0] and two.cost == 0
    assert optimal_levels([5e-324, 1e-323], 3).cost == 0


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        ([], {}, DataError, "empty"),
        ([1, np.nan], {}, DataError, r"x\[1\] is nan"),
        ([np.inf, 1], {}, DataError, r"x\[0\] is inf"),
        ([1, 2], {"weights": [1, 0]}, DataError, r"weights\[1\].*positive"),
        ([1, 2], {"weights": [-1, 1]}, DataError, r"weights\[0\]"),
        ([1, 2], {"weights": [1]}, DataError, "1 for 2"),
        ([1, 2], {"intervals": 0}, OptionError, "intervals"),
        ([1, 2], {"intervals": 256}, OptionError, "intervals"),
        ([1, 2], {"steps": 3}, OptionError, "steps"),
    ],
)
def test_bad_input(x, options, error, message):
    with pytest.raises(error, match=message):
        optimal_levels(x, **{"intervals": 4, **options})


def test_rounding_cost_is_the_sum():
    x, levels = np.array([0.0, 0.25, 0.5, 1.0]), np.array([0.0, 0.5, 1.0])
    assert rounding_cost(x, levels) == 0.25 * 0.25
    assert rounding_cost(x, levels, [1, 3, 1, 1]) == 3 * 0.25 * 0.25


@pytest.mark.parametrize("bits", range(1, 9))
def test_grid_steps(bits):
    for samples in range(1, 2**bits):
        steps, intervals = grid_steps(bits, samples), (2**bits - 1) // samples
        assert steps % intervals == 0 and steps >= intervals  # uniform levels are candidates
        if bits <= 6 and samples < 5:
            assert steps * samples <= 255  # the mean of the samples is a byte


def cell_counts(histogram, x):
    """What the histogram says its cells mean, counted by NumPy."""
    out = np.zeros(histogram.counts.shape)
    for f in np.flatnonzero(histogram.spread):
        cell = np.floor(np.ldexp(x[:, f].astype(np.float64), -int(histogram.exponent[f]))) - histogram.first[f]
        out[f] = np.bincount(cell.astype(int), minlength=histogram.cells)
    return out


COLUMNS = np.random.default_rng(3)
TABLE = np.stack(
    [
        COLUMNS.normal(size=3000),
        COLUMNS.normal(size=3000).cumsum(),  # the range grows all along
        np.where(np.arange(3000) < 2000, 7.0, COLUMNS.normal(size=3000)),  # constant for a long time
        np.full(3000, -2.5),
        COLUMNS.integers(0, 5, 3000),
        COLUMNS.standard_cauchy(3000),
        COLUMNS.normal(size=3000) * 1e-20,
        1e6 + COLUMNS.integers(0, 1000, 3000),
    ],
    axis=1,
).astype(np.float32)


@pytest.mark.parametrize("size", [64, 192, 1024, 3000])
@pytest.mark.parametrize("threads", [1, 2])
def test_histogram_counts_and_blocks(size, threads):
    """Exact counts up to float32 at a cell's edge, on cells that depend on the range alone."""
    learnt = ColumnStatistics(TABLE.shape[1])
    for start in range(0, len(TABLE), size):
        assert learnt.add(np.ascontiguousarray(TABLE[start : start + size]), threads)
    histogram = learnt.histogram
    counts = np.stack([histogram.weights(slice(f, f + 1))[0] for f in range(TABLE.shape[1])])
    spread = histogram.spread
    assert spread.tolist() == [True, True, True, False, True, True, True, True]
    assert np.all(counts[spread].sum(axis=1) == len(TABLE))
    moved = np.abs(counts.cumsum(axis=1) - cell_counts(histogram, TABLE).cumsum(axis=1))[spread].max(axis=1)
    assert np.all(moved <= 2), moved
    for f in np.flatnonzero(spread):
        cells = np.floor(np.ldexp(np.array([TABLE[:, f].min(), TABLE[:, f].max()], float), -int(histogram.exponent[f])))
        finer = np.floor(np.ldexp(np.array([TABLE[:, f].min(), TABLE[:, f].max()], float), 1 - int(histogram.exponent[f])))
        assert np.ptp(cells) < histogram.cells <= np.ptp(finer)
    np.testing.assert_array_equal(learnt.low, TABLE.min(axis=0))
    np.testing.assert_array_equal(learnt.high, TABLE.max(axis=0))
    np.testing.assert_allclose(learnt.mean, TABLE.mean(axis=0, dtype=np.float64), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(learnt.std, TABLE.std(axis=0, dtype=np.float64), rtol=1e-9)
    assert learnt.std[3] == 0


def test_moments_do_not_depend_on_blocks_or_threads():
    outcomes = []
    for size, threads in [(64, 1), (128, 2), (3008, 3)]:
        learnt = ColumnStatistics(TABLE.shape[1])
        for start in range(0, len(TABLE), size):
            learnt.add(np.ascontiguousarray(TABLE[start : start + size]), threads)
        outcomes.append((learnt.mean, learnt.std, learnt.sample.take(50)))
    for mean, std, sample in outcomes[1:]:
        np.testing.assert_array_equal(mean, outcomes[0][0])
        np.testing.assert_array_equal(std, outcomes[0][1])
        np.testing.assert_array_equal(sample[0], outcomes[0][2][0])
        np.testing.assert_array_equal(sample[1], outcomes[0][2][1])


def test_counts_beyond_32_bits(monkeypatch):
    """The 32-bit counts are emptied in time: simulated by a limit of 500 rows."""
    plain, small = ColumnStatistics(TABLE.shape[1]), ColumnStatistics(TABLE.shape[1])
    for start in range(0, len(TABLE), 192):
        plain.add(np.ascontiguousarray(TABLE[start : start + 192]), 1)
    monkeypatch.setattr(statistics, "COUNT_LIMIT", 500)
    for start in range(0, len(TABLE), 192):
        small.add(np.ascontiguousarray(TABLE[start : start + 192]), 1)
    assert small.histogram.counts.max() <= 500
    everything = slice(0, TABLE.shape[1])
    np.testing.assert_array_equal(small.histogram.weights(everything), plain.histogram.weights(everything))


def test_shared_cells_hold_all_columns():
    x = TABLE[:, [0, 3, 4]]
    learnt = ColumnStatistics(3)
    learnt.add(np.ascontiguousarray(x), 1)
    total, exponent, first = learnt.histogram.shared(learnt.low, learnt.high)
    cells = np.floor(np.ldexp(x.astype(np.float64), -exponent)).astype(int) - first
    expected = np.bincount(cells.ravel(), minlength=len(total))
    assert np.abs(total.cumsum() - expected.cumsum()).max() <= 2
    levels = learnt.optimal_levels(3, 1, 7, True, 1)
    assert levels.shape == (1, 8) and levels[0, 0] == x.min() and levels[0, -1] == x.max()


def test_wide_data_get_fewer_cells():
    assert Histogram(10).cells == 2048
    assert Histogram(200_000).cells == 256


def test_row_sample_is_uniform():
    """Each row is kept with the same probability, wherever it stands: 300 seeds, 100 of 3,000 rows each."""
    kept = np.zeros(3000)
    for seed in range(300):
        sample = statistics.RowSample(1, seed)
        sample.most = 100
        for start in range(0, 3000, 500):
            sample.add(np.arange(start, start + 500, dtype=np.float32)[:, None], start)
        numbers, rows = sample.take(100)
        assert len(numbers) == 100 and np.array_equal(numbers, rows[:, 0])
        kept[numbers] += 1
    thirds = kept.reshape(3, 1000).sum(axis=1)
    assert np.all(np.abs(thirds - 10_000) < 5 * np.sqrt(10_000 * 2 / 3))
    assert kept.max() < 40
