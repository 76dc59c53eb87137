"""train() end to end: an epoch from a file beside the kernel alone, float32 rows and scikit-learn; time to a given loss.

y = X w + 0.3 noise, |w| = 1, normal columns. Files are in the page cache. No peer is given an advantage for our sake: the
kernel has aligned rows in memory, and its order before its time begins; scikit-learn is given its rows as float32.
"""

import os
import statistics as st
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from zipml_codec import Dataset, compress, concat, train
from zipml_codec.engine import make_engine
from zipml_codec.kernels import integer
from zipml_codec.order import epoch_rows
from zipml_codec.plan import Plan, schedule
from zipml_codec.sgd import run
from zipml_codec.stream import CodeRows, FloatRows, Stream, Window

ROWS = int(os.environ.get("ZIPML_BENCH_ROWS", "200000"))
FEATURES = int(os.environ.get("ZIPML_BENCH_FEATURES", "1024"))
ROUNDS = int(os.environ.get("ZIPML_BENCH_ROUNDS", "3"))
TEST_ROWS, BLOCK_ROWS, SKLEARN_ROWS = 20_000, 8192, 20_000
NOISE, BITS, THREADS = 0.3, 4, 2
BATCHES = [1024, 256]
EPOCHS, FIRST = 8, 2  # of a run; those before FIRST check digests and meet cold caches
TRIED, NEAR = (1, 2, 3, 5, 8), 0.01
FILES = [("uniform", 2), ("optimal", 2), ("uniform", 1), ("optimal", 1)]  # levels, samples
FILE_IDS = [f"{levels}-k{samples}" for levels, samples in FILES]


@dataclass
class Problem:
    """X (rows, features) float32, y; exact test rows; a folder for files."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    folder: Path

    def loss(self, coef, intercept):
        """Mean squared error on the exact test rows."""
        return float(np.mean((self.X_test @ coef.astype(np.float32) + intercept - self.y_test) ** 2, dtype=np.float64))

    def least(self):
        """Test loss of the least-squares solution on all float32 rows, from normal equations summed block by block."""
        n = self.X.shape[1]
        gram, moment = np.zeros((n + 1, n + 1)), np.zeros(n + 1)
        for start in range(0, len(self.X), BLOCK_ROWS):
            block = self.X[start : start + BLOCK_ROWS].astype(np.float64)
            block = np.concatenate([block, np.ones((len(block), 1))], axis=1)
            gram += block.T @ block
            moment += self.y[start : start + BLOCK_ROWS] @ block
        solution = np.linalg.solve(gram, moment)
        return self.loss(solution[:n], solution[n])


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    generator = np.random.Generator(np.random.SFC64(0))
    w = generator.standard_normal(FEATURES)
    w = (w / np.linalg.norm(w)).astype(np.float32)

    def made(rows):
        X = generator.standard_normal((rows, FEATURES), np.float32)
        return X, X @ w + np.float32(NOISE) * generator.standard_normal(rows, np.float32)

    yield Problem(*made(ROWS), *made(TEST_ROWS), folder := tmp_path_factory.mktemp("train"))
    for path in folder.iterdir():
        path.unlink()


@pytest.fixture(scope="module")
def least(problem):
    return problem.least()


@pytest.fixture(scope="module")
def file_of(problem):
    """file_of(levels, samples): path of the compressed file, made block by block."""

    @cache
    def made(levels, samples):
        path = problem.folder / f"{levels}-{samples}.zipml.h5"
        starts = range(0, ROWS, BLOCK_ROWS)
        blocks = [(problem.X[start : start + BLOCK_ROWS], problem.y[start : start + BLOCK_ROWS]) for start in starts]
        compress(blocks, path=path, bits=BITS, samples=samples, levels=levels).close()
        return str(path)

    return made


@pytest.fixture(scope="module")
def planes_of(problem):
    """planes_of(coarsest): path of a file of planes of uniform levels, 8 bits, read at `coarsest` bits and more."""

    @cache
    def made(coarsest):
        path = problem.folder / f"planes-{coarsest}.zipml.h5"
        starts = range(0, ROWS, BLOCK_ROWS)
        blocks = [(problem.X[start : start + BLOCK_ROWS], problem.y[start : start + BLOCK_ROWS]) for start in starts]
        compress(blocks, path=path, layout="weave", coarsest=coarsest, levels="uniform").close()
        return str(path)

    return made


# --- peers and what counts of a run -------------------------------------------------------------------------------


def an_epoch(model_or_fit):
    return st.median(entry["seconds"] for entry in model_or_fit.history[FIRST:])


def all_epochs(model_or_fit):
    return sum(entry["seconds"] for entry in model_or_fit.history)


@pytest.fixture(scope="module")
def float_run(problem):
    """float_run(batch, epochs): a function that trains on float32 rows as train does, without its preparations."""
    stream = Stream(FloatRows(problem.X, problem.y), 0, 0.0)

    def made(batch, epochs):
        step = 1 / (1.2 + FEATURES / batch)
        return lambda: run(stream, Plan(epochs, batch, step, engine="dense", threads=THREADS))

    return made


def kernel_epochs(path, batch):
    """The integer engine on an aligned copy of the file's packed rows, the order made before: seconds of each epoch."""
    data = Dataset(path)
    rows, packed = CodeRows(data), integer.aligned_empty((ROWS, data.stride), np.uint8)
    packed[:] = data.packed()
    plan = Plan(EPOCHS, batch, 1 / (1.2 + FEATURES / batch), model_bits=8, engine="integer", threads=THREADS)
    windows = [
        Window(
            packed,
            rows.labels,
            None,
            epoch_rows(ROWS, data.stride, 0, epoch),
        )
        for epoch in range(EPOCHS - FIRST)
    ]

    def epochs():
        engine, seconds = make_engine(rows, plan), []
        for epoch, window in enumerate(windows):
            steps = schedule("cosine", plan.step, epoch, EPOCHS, -(-ROWS // batch))
            begun = time.perf_counter()
            finite = engine.run(window, steps, THREADS)[2]
            seconds.append(time.perf_counter() - begun)
            assert finite
        return seconds

    return epochs, ROWS * FEATURES, st.median


def sklearn_rows(problem):
    """One partial_fit on some of the rows."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = problem.X[:SKLEARN_ROWS], problem.y[:SKLEARN_ROWS]
    return lambda: linear_model.SGDRegressor(eta0=1e-4, learning_rate="constant").partial_fit(X, y), X.size


# --- an epoch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: f"batch-{batch}")
def test_float32(measure, blas_pause, problem, batch):
    model = measure(
        f"train(), {EPOCHS} epochs: float32, batch {batch}",
        lambda: train((problem.X, problem.y), epochs=EPOCHS, batch=batch, threads=THREADS),
        values=EPOCHS * problem.X.size,
        nbytes=EPOCHS * problem.X.nbytes,
        unit="float32 in",
        peers={"scikit-learn": sklearn_rows(problem)},
        parts={f"an epoch: float32, batch {batch}": (an_epoch, problem.X.size, problem.X.nbytes)},
        rounds=2,
        pause=blas_pause,
    )
    assert model.info["engine"] == "dense"


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: f"batch-{batch}")
@pytest.mark.parametrize(("levels", "samples"), FILES[:2], ids=FILE_IDS[:2])
def test_file(measure, blas_pause, problem, file_of, float_run, levels, samples, batch):
    path, name = file_of(levels, samples), f"{levels} k={samples}"
    nbytes = ROWS * Dataset(path).stride
    model = measure(
        f"train(), {EPOCHS} epochs: {name}, batch {batch}",
        lambda: train(path, epochs=EPOCHS, batch=batch, threads=THREADS),
        values=EPOCHS * problem.X.size,
        nbytes=EPOCHS * nbytes,
        unit="codes",
        peers={
            "scikit-learn": sklearn_rows(problem),
            "float32": (float_run(batch, FIRST + 2), problem.X.size, an_epoch),
            "kernel": kernel_epochs(path, batch),
        },
        parts={f"an epoch: {name}, batch {batch}": (an_epoch, problem.X.size, nbytes)},
        pause=blas_pause,
    )
    assert model.info["engine"] == "integer"


@pytest.mark.parametrize("shards", [8, 100])
def test_shards(measure, blas_pause, problem, file_of, tmp_path, shards):
    """The same epochs from one file and from shards of it."""
    one, many = file_of("optimal", 2), tmp_path / "many"
    concat([one], path=many, shard_rows=-(-ROWS // shards)).close()
    nbytes = ROWS * Dataset(one).stride
    run_of = {path: lambda path=path: train(path, epochs=EPOCHS, batch=1024, threads=THREADS) for path in (one, many)}
    model = measure(
        f"train(), {EPOCHS} epochs: {shards} shards",
        run_of[many],
        values=EPOCHS * problem.X.size,
        nbytes=EPOCHS * nbytes,
        unit="codes",
        peers={"one file": (run_of[one], problem.X.size, an_epoch)},
        parts={f"an epoch: {shards} shards": (an_epoch, problem.X.size, nbytes)},
        pause=blas_pause,
    )
    assert model.coef.tobytes() == run_of[one]().coef.tobytes()


@pytest.mark.parametrize(("coarsest", "precision"), [(2, 2), (2, 4), (4, 4)])
def test_planes(measure, blas_pause, problem, planes_of, coarsest, precision):
    """An epoch at a precision, digests checked before, beside one that reads all 8 bits of the same file."""
    path = planes_of(coarsest)
    few, whole = Dataset(path, precision=precision), Dataset(path)
    name = f"{precision} of 8 bits, planes from {coarsest} bits on"
    nbytes = precision * whole.file_codes // 8
    run_of = {data: lambda data=data: train(data, epochs=EPOCHS, batch=1024, threads=THREADS) for data in (few, whole)}
    model = measure(
        f"train(), {EPOCHS} epochs: {name}",
        run_of[few],
        values=EPOCHS * problem.X.size,
        nbytes=EPOCHS * nbytes,
        unit="codes",
        peers={"8 of 8 bits": (run_of[whole], problem.X.size, an_epoch)},
        parts={f"an epoch: {name}": (an_epoch, problem.X.size, nbytes)},
        pause=blas_pause,
    )
    assert model.info["engine"] == "integer"


# --- time to a loss ------------------------------------------------------------------------------------------------


def fewest_epochs(problem, least, source, precision=None):
    """The fewest epochs of TRIED, a run each, that end within NEAR of the least test loss, or the last; and how far above."""
    for epochs in [epochs for epochs in TRIED if epochs >= str(precision).count(":") + 1]:
        model = train(source, epochs=epochs, threads=THREADS, precision=precision)
        excess = problem.loss(model.coef, model.intercept) / least - 1
        if excess <= NEAR:
            break
    return epochs, excess, model


@pytest.fixture(scope="module")
def float_epochs(problem, least):
    """What float32 rows need: epochs, excess, model."""
    return fewest_epochs(problem, least, (problem.X, problem.y))


@pytest.mark.parametrize("checked", [False, True], ids=["digests", "checked"])
@pytest.mark.parametrize(("levels", "samples"), FILES, ids=FILE_IDS)
def test_time_to_loss(
    measure, benchmark, blas_pause, problem, least, file_of, float_run, float_epochs, levels, samples, checked
):
    """Sums of epochs' seconds; the line of the whole call adds what comes before and after them, ours alone."""
    most, float_excess, float_model = float_epochs
    assert float_excess <= NEAR
    path = file_of(levels, samples)
    source = Dataset(path) if checked else path
    epochs, excess, model = fewest_epochs(problem, least, source)
    reached = excess <= NEAR
    name = f"{levels} k={samples}{', checked' if checked else ''}, {epochs} epochs"
    values, nbytes = epochs * problem.X.size, epochs * ROWS * Dataset(path).stride
    batch = float_model.info["batch"]
    measure(
        f"train(): {name}",
        lambda: train(source, epochs=epochs, threads=THREADS),
        values=values,
        nbytes=nbytes,
        unit="codes",
        peers={f"float32 to 1% ({most} epochs)": (float_run(batch, most), values, all_epochs)},  # the same work: to get there
        parts={f"{'' if reached else 'not '}to 1%: {name}, {excess:+.2%}": (all_epochs, values, nbytes)},
        rounds=2 * ROUNDS + 1,  # of few and short epochs
        pause=blas_pause,
    )
    benchmark.extra_info.update(
        reached=reached,
        epochs=epochs,
        excess=excess,
        share=model.info["share"],
        batch=batch,
        float32_epochs=most,
        float32_excess=float_excess,
        least_loss=least,
    )


@pytest.mark.parametrize("precision", ["2", "4", "8", "2:4:8", "2:8", "4:8"])
def test_precision_to_loss(measure, benchmark, blas_pause, problem, least, planes_of, precision):
    """Time to the loss at a fixed precision, and coarse at first, from one file; beside all 8 bits throughout."""
    source = Dataset(planes_of(2))
    epochs, excess, model = fewest_epochs(problem, least, source, precision)
    most = fewest_epochs(problem, least, source, "8")[0]
    reached, name = excess <= NEAR, f"precision {precision}, {epochs} epochs"
    values = epochs * problem.X.size
    measure(
        f"train(): {name}",
        lambda: train(source, epochs=epochs, threads=THREADS, precision=precision),
        values=values,
        nbytes=values,
        unit="values",
        peers={f"8 bits to 1% ({most} epochs)": (lambda: train(source, epochs=most, threads=THREADS), values, all_epochs)},
        parts={f"{'' if reached else 'not '}to 1%: {name}, {excess:+.2%}": (all_epochs, values, values)},
        rounds=2 * ROUNDS + 1,
        pause=blas_pause,
    )
    benchmark.extra_info.update(reached=reached, epochs=epochs, excess=excess, share=model.info["share"], least_loss=least)
