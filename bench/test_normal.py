"""Products of all pairs of columns: of 4-bit codes in integers, beside NumPy's float32 X.T @ X on as many threads."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from zipml_codec.arrays import thread_count
from zipml_codec.kernels.gram import Gram

ROWS, FEATURES, BITS, STRIDE = 200_000, 1_000, 4, 512


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 256, (ROWS, STRIDE), np.uint8)
    return codes, generator.standard_normal((ROWS, 1), np.float32), generator.standard_normal((ROWS, FEATURES), np.float32)


@pytest.mark.parametrize("table", [False, True], ids=["uniform", "table"])
def test_gram(measure, data, threads, table, blas_pause):
    """Of 200,000 x 1,000; NumPy takes half of the products, as this does."""
    codes, y, x = data
    entries = np.random.default_rng(1).integers(0, 256, (FEATURES, 1 << BITS)).astype(np.uint8) if table else None

    def ours():
        Gram(FEATURES, BITS, STRIDE, entries).add(codes, y, thread_count(threads))

    def numpy_s():
        with threadpool_limits(threads):
            x.T @ x

    measure(
        f"Gram matrix {ROWS:,} x {FEATURES:,} {BITS} bits {'table' if table else 'uniform'}, {threads or 'all'} thr. (aim 1)",
        ours,
        values=ROWS * FEATURES,
        nbytes=ROWS * STRIDE,
        unit="codes",
        threads=threads,
        peers={"numpy float32 X.T @ X": (numpy_s, ROWS * FEATURES)},
        pause=blas_pause,
    )
