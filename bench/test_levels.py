"""Finding levels: the sketch's beside a sort of the same values; a whole matrix's beside numpy's reductions of it."""

import numpy as np
import pytest

from zipml_codec import optimal_levels
from zipml_codec.arrays import thread_count
from zipml_codec.exact import exact_levels
from zipml_codec.levels import rounding_cost
from zipml_codec.rows import block_rows
from zipml_codec.statistics import ColumnStatistics
from zipml_codec.tables import optimal_table

VALUES = 1 << 20
INTERVALS = 15
SHAPE = (463_715, 90)  # YearPredictionMSD, the paper's largest regression set
KINDS = {"normal": "standard_normal", "lognormal": "lognormal", "cauchy": "standard_cauchy"}


@pytest.fixture(scope="module")
def table():
    return np.random.Generator(np.random.SFC64(2)).standard_normal(SHAPE, np.float32)


def scan(x, threads, sketch=True):
    """Statistics, block by block as compress takes them."""
    found, size = ColumnStatistics(x.shape[1], sketch=sketch), block_rows(x.shape[1])
    for start in range(0, len(x), size):
        found.add(x[start : start + size], threads)
    return found


def reductions(x):
    """What numpy takes to read the matrix three times."""
    return {"numpy min, max, mean": (lambda: (x.min(0), x.max(0), x.mean(0)), x.size)}


@pytest.mark.parametrize("kind", KINDS)
def test_histogram(measure, kind, threads):
    """Unsorted float64, cells = 4096. 1 / (the ratio to np.sort) is the time in sorts; 0.7 is what is aimed at."""
    x = getattr(np.random.Generator(np.random.SFC64(1)), KINDS[kind])(size=VALUES)
    found = measure(
        f"optimal_levels histogram {kind} N=2^20, {INTERVALS + 1} levels, {threads or 'all'} thr. (aim {1 / 0.7:.2f})",
        lambda: optimal_levels(x, INTERVALS, method="histogram", threads=threads),
        values=x.size,
        nbytes=x.nbytes,
        unit="float64 in",
        threads=threads,
        peers={"np.sort": (lambda: np.sort(x), x.size)},
        rounds=7,
    )
    excess = rounding_cost(x, found.values) / exact_levels(x, None, INTERVALS)[1] - 1
    print(f"\n{kind}: excess over the exact optimum {excess:.2g}")
    assert -1e-12 <= excess <= 1e-3


@pytest.mark.parametrize("sketch", [True, False], ids=["sketch", "moments"])
def test_statistics(measure, table, threads, sketch):
    found = measure(
        f"ColumnStatistics {SHAPE[0]:,} x {SHAPE[1]}{'' if sketch else ', no sketch'}, {threads or 'all'} thr.",
        lambda: scan(table, thread_count(threads), sketch),
        values=table.size,
        nbytes=table.nbytes,
        unit="float32 in",
        threads=threads,
        peers=reductions(table),
    )
    np.testing.assert_array_equal(found.low, table.min(0))


def test_levels_of_a_matrix(measure, table, threads):
    """Statistics, sketches and 4-bit tables of all columns in one scan: at most 4 times numpy's three is aimed at, 0.25."""
    workers = thread_count(threads)
    found = measure(
        f"scan and 4-bit tables {SHAPE[0]:,} x {SHAPE[1]}, {threads or 'all'} thr. (aim 0.25)",
        lambda: optimal_table(scan(table, workers), 4, 1, workers),
        values=table.size,
        nbytes=table.nbytes,
        unit="float32 in",
        threads=threads,
        peers=reductions(table),
        rounds=5,
    )
    assert found.levels.shape == (SHAPE[1], 16)


@pytest.mark.parametrize("bits", [4, 8], ids=lambda bits: f"bits={bits}")
def test_levels_of_columns(measure, table, bits):
    threads = thread_count(None)
    found = scan(table[:65536], threads)
    chosen = measure(
        f"levels of {SHAPE[1]} columns from sketches, {bits} bits k=1",
        lambda: optimal_table(found, bits, 1, threads),
        values=SHAPE[1],
        nbytes=found.sketch.room.nbytes,
        unit="cells",
    )
    assert chosen.levels.shape == (SHAPE[1], 2**bits)
