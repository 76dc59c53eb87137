"""One epoch of SGD in integers from packed codes, beside the best float32 kernel and numpy: rows shuffled within windows.

Codes are random: speed does not depend on them. Float32 rows are fewer, but exceed the caches; rates are per feature.
"""

import numpy as np
import pytest

from zipml_codec.arrays import thread_count
from zipml_codec.codec import row_stride
from zipml_codec.kernels import integer
from zipml_codec.order import epoch_rows

SIZES = {1024: (200_000, 65_536), 90: (1_000_000, 500_000)}  # features: rows of codes, of float32
BATCHES = [1024, 256]
CASES = [(4, "uniform"), (2, "uniform"), (8, "uniform"), (6, "uniform"), (3, "uniform"), (4, "table")]
CASE_IDS = [f"{kind}-{bits}bits" for bits, kind in CASES]
STEP = 1e-3


@pytest.fixture(scope="module", params=SIZES, ids=lambda features: f"features-{features}")
def floats(request):
    """X float32 with its labels and the order of an epoch: one size at a time."""
    features = request.param
    rows = SIZES[features][1]
    generator = np.random.Generator(np.random.SFC64(0))
    X = integer.aligned_empty((rows, features), np.float32)
    generator.standard_normal(dtype=np.float32, out=X)
    return X, generator.standard_normal(rows, np.float32), epoch_rows(rows, 4 * features)


def float_epoch(floats, batch, threads):
    """An epoch of the float32 kernel, as a peer."""
    X, y, order = floats
    rows, features = X.shape
    steps, ones = np.full(-(-rows // batch), STEP, np.float32), np.ones(features, np.float32)

    def epoch():
        state = integer.DenseState(features, batch, 0 * ones, 0 * ones, ones)
        loss, finite = state.run(X, y, order, steps, threads)
        assert finite
        return loss / rows

    return epoch, X.size


def numpy_epoch(floats, batch):
    """Mini-batches of neighbouring rows in numpy, as a peer: what it costs at least."""
    X, y, _ = floats

    def epoch():
        w, bias = np.zeros(X.shape[1], np.float32), np.float32(0)
        for start in range(0, len(X), batch):
            rows = X[start : start + batch]
            e = rows @ w + bias - y[start : start + batch]
            w -= np.float32(STEP / len(rows)) * (e @ rows)
            bias -= np.float32(STEP) * e.mean()

    return epoch, X.size


@pytest.fixture(scope="module")
def codes():
    """codes(features, bits, kind): rows held by the kernel, their bytes, the order of an epoch. The last one is kept."""
    kept = {}

    def made(features, bits, kind):
        key = features, bits, kind
        if key not in kept:
            kept.clear()
            rows, size = SIZES[features][0], row_stride(features, bits)
            generator = np.random.default_rng(bits)
            data = integer.aligned_empty((rows, size), np.uint8)
            data.reshape(8, -1)[:] = generator.integers(0, 256, data.size // 8, np.uint8)
            step = np.full(features, 2.0 / (2**bits - 1) if kind == "uniform" else 2 / 255, np.float32)
            table = np.sort(generator.integers(0, 256, (features, 2**bits), np.uint8), axis=1)
            held = integer.IntegerRows(
                features, bits, 1, size, np.full(features, -1, np.float32), step, table if kind == "table" else None
            )
            held.hold(data, generator.standard_normal(rows).astype(np.float32))
            kept[key] = held, data.nbytes, epoch_rows(rows, size)
        return kept[key]

    return made


def code_epoch(held, order, features, batch, threads, precision):
    steps, zeros = np.full(-(-len(order) // batch), STEP, np.float32), np.zeros(features, np.float32)

    def epoch():
        state = integer.IntegerState(features, batch, zeros, None, precision, 32, precision)
        loss, _, finite = state.run(held, order, steps, threads)
        assert finite
        return loss / len(order)

    return epoch


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: f"batch-{batch}")
def test_float32(measure, blas_pause, floats, batch, threads):
    X, count = floats[0], threads or thread_count(None)
    epoch, values = float_epoch(floats, batch, count)
    loss = measure(
        f"float32 kernel, n {X.shape[1]}, batch {batch}, {count} threads",
        epoch,
        values=values,
        nbytes=X.nbytes,
        unit="float32 in",
        threads=count,
        peers={"numpy": numpy_epoch(floats, batch)},
        pause=blas_pause,
    )
    assert np.isfinite(loss)


@pytest.mark.parametrize("precision", [8, 16], ids=lambda bits: f"model-{bits}")
@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: f"batch-{batch}")
@pytest.mark.parametrize(("bits", "kind"), CASES, ids=CASE_IDS)
def test_codes(measure, floats, codes, bits, kind, batch, precision, threads):
    features, count = floats[0].shape[1], threads or thread_count(None)
    if precision == 16 and bits != 4:
        pytest.skip("16 bits of model and residual: at 4 bits of data only")
    held, nbytes, order = codes(features, bits, kind)
    epoch = code_epoch(held, order, features, batch, count, precision)
    loss = measure(
        f"{bits} bits {kind}, model {precision}, n {features}, batch {batch}, {count} threads",
        epoch,
        values=len(order) * features,
        nbytes=nbytes,
        unit="codes",
        threads=count,
        peers={"float32": float_epoch(floats, batch, count)},
    )
    assert np.isfinite(loss)
