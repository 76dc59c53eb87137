"""The order of an epoch: every row once, epochs unlike each other, and batches as like independent samples as theory says.

Rows are sorted by value, the worst case. Theory: a window is W of m units drawn without replacement, a batch is B of its n
rows drawn without replacement. With S^2 the variance of the units' means (m - 1 in the denominator) and s^2 that of all rows,

    V = Var(mean of a window) = S^2 / W * (1 - W/m),
    Var(mean of a batch) = V + (s^2 - V) * n/(n - 1) * (1/B - 1/n),

the mean over windows of their own variance being s^2 - V. Independent sampling has s^2 / B.
"""

import re

import numpy as np
import pytest
import reference as ref

from zipml_codec import order
from zipml_codec.formats.header import chunk_rows_for
from zipml_codec.kernels import simd

SIGMAS = 4.5
CASES = {  # rows, unit, row bytes, batch, epochs
    "few units, drawn without replacement": (32 * 64, 64, (8 << 20) // (64 * 16), 64, 600),
    "one window holds all": (16 * 64, 64, 512, 32, 600),
    "eight chunks a window": (64 * 256, 256, 8192, 128, 400),
    "units of one row": (4096, 1, (8 << 20) // 512, 64, 300),
}


def expected(values, unit, window, batch):
    """Var(mean of a batch) as above, relative to independent sampling. Whole units, windows and batches."""
    means = values.reshape(-1, unit).mean(axis=1)
    units, size = len(means), min(window, len(means))
    n, variance = size * unit, values.var()
    of_window = means.var(ddof=1) / size * (1 - size / units)
    of_batch = of_window + (variance - of_window) * n / (n - 1) * (1 / batch - 1 / n)
    return of_batch / (variance / batch)


def observed(values, unit, row_bytes, batch, epochs):
    """The same from epochs as they come, with its standard error; epochs are independent, windows of one are not."""
    squares = []
    for epoch in range(epochs):
        shuffled = np.concatenate(list(order.EpochOrder(len(values), unit, row_bytes, 1, epoch).shuffled()))
        whole = len(shuffled) // batch * batch
        means = values[shuffled[:whole]].reshape(-1, batch).mean(axis=1)
        squares.append(np.mean((means - values.mean()) ** 2) / (values.var() / batch))
    return np.mean(squares), np.std(squares, ddof=1) / np.sqrt(epochs)


@pytest.mark.parametrize("case", CASES)
def test_batches_of_sorted_rows_vary_as_theory_says(case):
    rows, unit, row_bytes, batch, epochs = CASES[case]
    values = np.sort(np.random.default_rng(0).standard_normal(rows))
    window = order.EpochOrder(rows, unit, row_bytes, 1, 0).window
    assert rows % (min(window, rows // unit) * unit) == 0 and min(window * unit, rows) % batch == 0
    theory = expected(values, unit, window, batch)
    found, error = observed(values, unit, row_bytes, batch, epochs)
    assert error < 0.05 * theory
    assert abs(found - theory) < SIGMAS * error


@pytest.mark.parametrize("chunks", [False, True], ids=["mapped", "whole chunks"])
@pytest.mark.parametrize("batch", [256, 1024])
def test_what_the_module_says_of_a_million_sorted_rows(batch, chunks):
    """1e6 rows of 512 bytes. Theory is for whole units and windows; the shorter last ones here move it by under 1%."""
    rows, row_bytes = 1_000_000, 512
    unit = chunk_rows_for(rows, row_bytes) if chunks else order.unit_rows(row_bytes)
    values = np.arange(rows, dtype=np.float64)
    window = order.EpochOrder(rows, unit, row_bytes, 1, 0).window
    theory = expected(values[: rows // unit * unit], unit, window, batch)
    found, error = observed(values, unit, row_bytes, batch, 40)
    assert error < 0.1 * theory
    assert abs(found - theory) < SIGMAS * error
    said = re.search(
        r"batches of 256 and 1024 vary ([\d.]+) and ([\d.]+) times[^;]*;[^;]*read whole ([\d.]+) and ([\d.]+) times",
        " ".join(order.__doc__.split()),
    )
    assert said is not None, order.__doc__
    text = said.group(1 + (batch == 1024) + 2 * chunks)
    places = len(text.partition(".")[2])
    assert text == f"{theory:.{places}f}"


@pytest.mark.parametrize(("rows", "unit"), [(1, 1), (7, 100), (1000, 1), (1000, 7), (4097, 64), (100_001, 128)])
def test_every_row_comes_once(rows, unit):
    for epoch in (0, 1, 2**31 - 2):
        parts = list(order.EpochOrder(rows, unit, (1 << 20) // unit, 2**64 - 1, epoch).shuffled())
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(rows))


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 4096, 100_001])
def test_any_threads_vector_level_and_cut_give_the_specified_order(rows):
    """100,001 rows: seven windows, the shorter unit in one that is not the last."""
    unit, row_bytes, seed, epoch = 128, 8192, 2**63 + 5, 7
    made = order.EpochOrder(rows, unit, row_bytes, seed, epoch)
    expected = []
    for number, start in enumerate(range(0, len(made.units), made.window)):
        numbers = (made.units[start : start + made.window, None] * unit + np.arange(unit)).ravel()
        expected.append(ref.shuffled(numbers[numbers < rows], seed, 2 * epoch + 1, number))
    assert rows < 100_000 or (len(expected) > 7 and len(expected[-1]) % unit == 0)
    for level in simd.levels():
        with simd.use(level):
            for threads in (1, 2, 5):
                np.testing.assert_array_equal(made.rows_of(0, made.windows, threads), np.concatenate(expected))
            np.testing.assert_array_equal(np.concatenate(list(made.shuffled())), np.concatenate(expected))


@pytest.mark.parametrize("unit", [1, 16, 128])
def test_epochs_are_unlike_each_other(unit):
    """Places of a row in two epochs: a correlation of mean 0 and, of permutations of m units, a variance below 1/(m - 1).

    A row's place is that of its window, which follows its unit's, and a random one within: the first alone is common to a
    unit's rows, so that rows of one unit are m numbers, not K, and what is random within only lowers the correlation.
    """
    rows, epochs = 128 * 256, 24
    places = np.empty((epochs, rows))
    for epoch in range(epochs):
        parts = order.EpochOrder(rows, unit, (8 << 20) // (unit * 16), 3, epoch).shuffled()
        places[epoch, np.concatenate(list(parts))] = np.arange(rows)
    pairs = np.corrcoef(places)[np.triu_indices(epochs, 1)]
    limit = 1 / np.sqrt(rows // unit - 1)
    assert np.abs(pairs).max() < 5 * limit
    assert abs(pairs.mean()) < SIGMAS * limit / np.sqrt(len(pairs))
    assert np.mean(pairs**2) < (1 + SIGMAS * np.sqrt(2 / len(pairs))) * limit**2
    alone = np.corrcoef(places, np.arange(rows))[-1, :-1]  # nor like the file's own order
    assert np.abs(alone).max() < 5 * limit
