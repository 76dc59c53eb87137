"""Finding levels: optimal_levels of 2^20 values beside a sort of them; one pass of statistics beside numpy's reductions."""

import numpy as np
import pytest

from zipml_codec import optimal_levels
from zipml_codec.arrays import thread_count
from zipml_codec.codec import interval_count
from zipml_codec.compress import block_rows
from zipml_codec.statistics import ColumnStatistics

VALUES = 1 << 20
SHAPE = (463_715, 90)  # YearPredictionMSD, the paper's largest regression set


@pytest.fixture(scope="module")
def sample():
    return np.random.Generator(np.random.SFC64(1)).standard_normal(VALUES, np.float32)


@pytest.fixture(scope="module")
def table():
    return np.random.Generator(np.random.SFC64(2)).standard_normal(SHAPE, np.float32)


def scan(x, threads, histogram=True):
    """Statistics, block by block as compress takes them."""
    found, size = ColumnStatistics(x.shape[1], histogram=histogram), block_rows(x.shape[1])
    for start in range(0, len(x), size):
        found.add(x[start : start + size], threads)
    return found


@pytest.mark.parametrize("intervals", [3, 15, 255], ids=lambda s: f"intervals={s}")
def test_optimal_levels(measure, sample, intervals):
    found = measure(
        f"optimal_levels N=2^20, {intervals} intervals",
        lambda: optimal_levels(sample, intervals),
        values=sample.size,
        nbytes=sample.nbytes,
        unit="float32 in",
        peers={"np.sort": (lambda: np.sort(sample), sample.size)},
        rounds=5,
    )
    assert 2 <= len(found.values) <= intervals + 1


@pytest.mark.parametrize("histogram", [True, False], ids=["histogram", "moments"])
def test_statistics(measure, table, threads, histogram):
    found = measure(
        f"ColumnStatistics {SHAPE[0]:,} x {SHAPE[1]}{'' if histogram else ', no histogram'}, {threads or 'all'} thr.",
        lambda: scan(table, thread_count(threads), histogram),
        values=table.size,
        nbytes=table.nbytes,
        unit="float32 in",
        threads=threads,
        peers={"numpy min, max, mean": (lambda: (table.min(0), table.max(0), table.mean(0)), table.size)},
    )
    np.testing.assert_array_equal(found.low, table.min(0))


@pytest.mark.parametrize("bits", [4, 8], ids=lambda bits: f"bits={bits}")
def test_levels_of_columns(measure, table, bits):
    threads = thread_count(None)
    found = scan(table[:65536], threads)
    levels = measure(
        f"levels of {SHAPE[1]} columns from histograms, {bits} bits k=1",
        lambda: found.optimal_levels(bits, 1, interval_count(bits, 1), False, threads),
        values=SHAPE[1],
        nbytes=4 * found.histogram.counts.size,
        unit="counts",
    )
    assert levels.shape == (SHAPE[1], 2**bits)
