"""One epoch of SGD on squared loss: straight from codes, the same kernel on float32 rows, and plain numpy, batch for batch."""

import numpy as np
import pytest

from zipml_codec import compress, train
from zipml_codec.arrays import thread_count
from zipml_codec.kernels import sgd as kernel
from zipml_codec.order import epoch_rows
from zipml_codec.stream import code_rows, inverse_std, padded

BATCHES = [64, 256, 1024]
EPOCHS, TRAIN_BATCH, STRENGTH = 3, 256, 1e-3
CASES = [(levels, bits) for levels in ("uniform", "optimal") for bits in (2, 4, 8)]
CASE_IDS = [f"{levels}-bits={bits}" for levels, bits in CASES]


def step_size(features, batch):
    """Small enough for the data of conftest: largest eigenvalue below 4, rows of squared norm near 1.25 features."""
    return 1 / (4 + 2 * features / batch)


def numpy_epoch(X, y, batch):
    """Mini-batch SGD as one writes it in numpy, rows as they lie in memory: what it costs at least. Mean loss."""
    w, bias, step, loss = np.zeros(X.shape[1], np.float32), np.float32(0), np.float32(step_size(X.shape[1], batch)), 0.0
    for start in range(0, len(X), batch):
        rows = X[start : start + batch]
        e = rows @ w + bias - y[start : start + batch]
        loss += float(e @ e) / 2
        w -= step * (e @ rows / np.float32(len(rows)) + np.float32(STRENGTH) * w)
        bias -= step * e.mean()
    return loss / len(X)


@pytest.fixture(scope="module")
def peer(data):
    """peer(batch): the numpy epoch as a peer."""
    return lambda batch: {"numpy": (lambda: numpy_epoch(data.X, data.y, batch), data.X.size)}


def epoch_of(rows, buffer, data, batch, row_bytes):
    """One epoch of kernels.sgd over rows in memory, in the order that train takes them; returns the mean loss."""
    count, features = data.X.shape
    order = epoch_rows(count, row_bytes)
    steps = np.full(-(-count // batch), step_size(features, batch), np.float32)
    curvature, threads = np.full(features, STRENGTH, np.float32), thread_count(None)
    rows.hold(buffer, data.y, np.arange(count, dtype=np.uint64))

    def epoch():
        state = kernel.State(features, batch, curvature)
        loss, _, finite = state.run(rows, order, steps, threads)
        assert finite
        return loss / count

    return epoch


@pytest.fixture(scope="module")
def float_epoch(data, statistics):
    """float_epoch(batch): an epoch of the same kernel on float32 rows."""
    rows = kernel.Rows(data.X.shape[1], mean=padded(statistics.mean), scale=padded(inverse_std(statistics.std)))
    return lambda batch: epoch_of(rows, data.X, data, batch, data.X.strides[0])


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: f"batch={batch}")
def test_numpy(measure, data, batch):
    loss = measure(
        f"epoch numpy float32, batch {batch}",
        lambda: numpy_epoch(data.X, data.y, batch),
        values=data.X.size,
        nbytes=data.X.nbytes,
        unit="float32 in",
    )
    assert np.isfinite(loss)


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: f"batch={batch}")
def test_float_rows(measure, blas_pause, data, float_epoch, peer, batch):
    loss = measure(
        f"epoch kernel float32, batch {batch}",
        float_epoch(batch),
        values=data.X.size,
        nbytes=data.X.nbytes,
        unit="float32 in",
        peers=peer(batch),
        pause=blas_pause,
    )
    assert np.isfinite(loss)


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: f"batch={batch}")
@pytest.mark.parametrize(("levels", "bits"), CASES, ids=CASE_IDS)
def test_codes(measure, blas_pause, data, statistics, codec, packed, float_epoch, peer, levels, bits, batch):
    coder, buffer = codec(levels, bits, 1), packed(levels, bits, 1)
    rows = code_rows(coder, statistics.mean, statistics.std, kernel.MEAN)
    epoch = epoch_of(rows, buffer, data, batch, coder.stride)
    loss = measure(
        f"epoch kernel {levels} {bits} bits, batch {batch}",
        epoch,
        values=data.X.size,
        nbytes=buffer.nbytes,
        unit="codes",
        peers=peer(batch) | {"kernel float32": (float_epoch(batch), data.X.size)},
        pause=blas_pause,
    )
    assert np.isfinite(loss)


def measure_train(measure, blas_pause, data, peer, name, source, nbytes, unit):
    """Two lines: the whole call, with what it does before and after its epochs; and one epoch as it reports it."""
    model = measure(
        f"train() whole, {EPOCHS} epochs, {name}",
        lambda: train(source, epochs=EPOCHS, batch=TRAIN_BATCH, strength=STRENGTH, penalty_units="standard", debias="naive"),
        values=EPOCHS * data.X.size,
        nbytes=EPOCHS * nbytes,
        unit=unit,
        peers=peer(TRAIN_BATCH),
        parts={
            f"train() an epoch, {name}": (
                lambda model: sorted(entry["seconds"] for entry in model.history)[EPOCHS // 2],
                data.X.size,
                nbytes,
            )
        },
        rounds=2,
        pause=blas_pause,
    )
    assert len(model.history) == EPOCHS


def test_train_float(measure, blas_pause, data, peer):
    measure_train(measure, blas_pause, data, peer, "float32", (data.X, data.y), data.X.nbytes, "float32 in")


@pytest.mark.parametrize(("levels", "bits"), CASES, ids=CASE_IDS)
def test_train(measure, blas_pause, data, peer, levels, bits):
    path = data.folder / "train.zipml.h5"
    with compress(data.X, data.y, path=path, bits=bits, samples=1, levels=levels, overwrite=True) as made:
        nbytes = len(made) * made.stride
    measure_train(measure, blas_pause, data, peer, f"file {levels} {bits} bits", str(path), nbytes, "codes")
