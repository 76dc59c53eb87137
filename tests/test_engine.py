"""Training in integers through `train`: which engine serves, the same model on every machine, checkpoints, early stops."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import reference

import zipml_codec as zipml
from zipml_codec import arrays, checkpoint, engine, stream
from zipml_codec.errors import CorruptError, DataError, FormatError, OptionError, OutputError
from zipml_codec.kernels import simd

ROWS, FEATURES = 3000, 37


def rows(count=ROWS, features=FEATURES, noise=0.3, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(count, features)).astype(np.float32)
    X[:, ::5] = np.exp(X[:, ::5])
    w = generator.normal(size=features) / features**0.5
    return X, X @ w + noise * generator.normal(size=count)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """files(**options): the rows compressed so."""
    folder, made = tmp_path_factory.mktemp("engine"), {}

    def file(**options):
        key = tuple(sorted(options.items()))
        if key not in made:
            made[key] = folder / f"{len(made)}.zipml.h5"
            zipml.compress(*rows(), path=made[key], **options).close()
        return made[key]

    return file


# ---- Which engine serves ----


@pytest.mark.parametrize(
    ("options", "training", "wanted"),
    [
        ({"levels": "uniform"}, {}, "integer"),
        ({"levels": "uniform", "bits": 8, "samples": 1}, {}, "integer"),
        ({"grid": "byte"}, {}, "integer"),
        ({"grid": "byte", "shared_levels": True}, {}, "integer"),
        ({"grid": "none"}, {}, "float"),
        ({"grid": "byte", "bits": 8, "samples": 1}, {}, "float"),
        ({"levels": "uniform"}, {"model_bits": 32}, "float"),
        ({"levels": "uniform"}, {"model_bits": 16, "residual_bits": 8}, "integer"),
        ({"levels": "uniform"}, {"debias": "collapsed"}, "float"),
        ({"levels": "uniform"}, {"debias": "double-sampling"}, "float"),
    ],
)
def test_which_engine(files, options, training, wanted):
    info = zipml.train(files(**options), epochs=1, **training).info
    assert info["engine"] == wanted
    assert (info["residual_bits"] < 32) == (wanted == "integer")


def test_float_rows_take_the_dense_engine():
    assert zipml.train(rows(), epochs=1).info["engine"] == "dense"
    assert zipml.train(rows(), epochs=1, gradient_bits=8).info["engine"] == "float"


@pytest.mark.parametrize(
    "options",
    [{"levels": "uniform"}, {"grid": "byte"}, {"bits": 6, "grid": "byte"}, {"bits": 5, "samples": 1, "grid": "byte"}],
)
def test_integer_form_is_what_codes_decode_to(files, options):
    """low + step * u is m(t), within what float32 levels can differ from the grid."""
    with zipml.open(files(**options)) as data:
        low, step, table = engine.integer_form(data.codec)
        codes = data.codes()
        u = codes if table is None else np.take_along_axis(table.T, codes.astype(np.intp), axis=0)
        np.testing.assert_allclose(low + step * u, data.decode(), rtol=0, atol=engine.OFF_GRID * np.abs(step).max())
        span = (data.high.astype(float) - data.low) * 1e-6
        assert (np.abs(low + step * u - data.decode()) <= span + 1e-6 * np.abs(data.decode())).all()


def test_levels_off_the_grid_have_no_integer_form():
    levels = np.sort(np.random.default_rng(0).random((3, 8)), axis=1)
    assert engine.integer_form(zipml.Codec(levels, 4, 2)) is None


def test_dense_training_is_the_float_engine_s(monkeypatch):
    """Mean and scale folded into the model: the same sums but for rounding."""
    data = rows()
    dense = zipml.train(data, epochs=5)
    monkeypatch.setattr(engine, "DenseEngine", engine.FloatEngine)
    general = zipml.train(data, epochs=5)
    np.testing.assert_allclose(dense.coef, general.coef, rtol=2e-4, atol=2e-5)


# ---- The same solution ----


@pytest.mark.parametrize("name", ["cal_housing", "cpu_small", "cod_rna", "gas_drift", "mnist_4v9"])
def test_real_data_in_integers_lose_nothing(real, tmp_path, name):
    """6 bits, model and residuals of 8, gradient of 32 and 8 bits, the same steps: within 1 % of float32 training."""
    ratios = {32: [], 8: []}
    for seed in range(2):
        X, y = real(name)
        order = np.random.default_rng(seed).permutation(len(X))
        train, test = order[: int(0.7 * len(X))], order[int(0.7 * len(X)) :]
        exact = zipml.train((X[train], y[train]), strength=1e-3, penalty_units="standard", seed=seed)
        best = np.mean((exact.decision(X[test]) - y[test]) ** 2)
        data = zipml.compress(X[train], y[train], path=tmp_path / f"{seed}", bits=6, samples=2, grid="byte", seed=seed)
        for gradient_bits in ratios:
            bits = {"model_bits": 8, "residual_bits": 8, "gradient_bits": gradient_bits}
            model = zipml.train(data, strength=1e-3, penalty_units="standard", seed=seed, step=exact.info["step"], **bits)
            assert model.info["engine"] == "integer"
            ratios[gradient_bits].append(np.mean((model.decision(X[test]) - y[test]) ** 2) / best)
    means = [float(np.mean(ratio)) for ratio in ratios.values()]
    print(f"{name}: test loss over float32 training's, gradient of 32 and 8 bits: {np.round(means, 4)}")
    assert max(means) <= 1.01


@pytest.mark.parametrize("features", [10, 100, 1000])
def test_synthetic_data_in_integers_lose_nothing(tmp_path, features):
    """The paper's Synthetic n: 10,000 rows, y = Xw + noise 0.3, |w| = 1; 6 bits."""
    generator = np.random.default_rng(features)
    X = generator.normal(size=(20_000, features)).astype(np.float32)
    w = generator.normal(size=features)
    y = X @ (w / np.linalg.norm(w)) + 0.3 * generator.normal(size=len(X))
    exact = zipml.train((X[:10_000], y[:10_000]))
    data = zipml.compress(X[:10_000], y[:10_000], path=tmp_path / "s", bits=6, samples=1, levels="uniform")
    model = zipml.train(data, model_bits=8, residual_bits=8, gradient_bits=8)
    ours, best = (np.mean((m.decision(X[10_000:]) - y[10_000:]) ** 2) for m in (model, exact))
    print(f"Synthetic {features}: test loss over float32 training's {ours / best:.4f}")
    assert model.info["engine"] == "integer" and ours <= 1.01 * best


@pytest.mark.parametrize("options", [{"levels": "uniform"}, {"grid": "byte"}, {"levels": "uniform", "bits": 3, "samples": 1}])
def test_same_model_on_any_threads_and_vector_level(files, options):
    """Bit for bit: 1, 2 and 3 threads, scalar and vectors."""
    found = {}
    for level in simd.levels():
        for threads in (1, 2, 3):
            with simd.use(level):
                model = zipml.train(files(**options), epochs=3, test_fraction=0.2, threads=threads, debias="diagonal", batch=100)
            found[level, threads] = (model.coef.tobytes(), model.intercept, [e["train_loss"] for e in model.history])
    assert model.info["engine"] == "integer" and len(set(map(str, found.values()))) == 1


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (5, 300), (70, 3)])
def test_small_and_odd_shapes(tmp_path, shape):
    X = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    X[:, -1] = 2.0  # constant
    data = zipml.compress(X, np.arange(len(X)), path=tmp_path / "a", levels="uniform")
    model = zipml.train(data, epochs=3, batch=1000)
    assert np.isfinite(model.coef).all() and model.coef[-1] == 0 and np.isfinite(model.intercept)


# ---- Checkpoints ----


def outcome(model):
    return model.coef.tobytes(), model.intercept, [{k: v for k, v in e.items() if k != "seconds"} for e in model.history]


class Stop(Exception):
    """The end of a run, in the middle."""


@pytest.mark.parametrize("options", [{"levels": "uniform"}, {"grid": "none"}, {"levels": "uniform", "zstd": 3}])
@pytest.mark.parametrize("stop_at", [1, 2, 5, 9])
def test_resume_is_bit_for_bit(files, tmp_path, monkeypatch, options, stop_at):
    """Stopped after any window, mapped or read, and gone on with: the uninterrupted run's model, history and info."""
    monkeypatch.setattr(stream, "KEPT_BYTES", 1)
    monkeypatch.setattr(stream, "PIECE_BYTES", 1)
    monkeypatch.setattr("zipml_codec.order.WINDOW_BYTES", 1)
    monkeypatch.setattr("zipml_codec.order.UNIT_BYTES", 2000)
    file, kept = files(**options), tmp_path / "c.npz"
    training = {"epochs": 4, "batch": 70, "test_fraction": 0.25, "strength": 1e-3, "penalty_units": "standard", "seed": 5}
    whole = zipml.train(file, **training)
    taken, step = [], checkpoint.Track.step

    def stopping(self, *state):
        step(self, *state)
        taken.append(1)
        if len(taken) == stop_at:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Track, "step", stopping)
        with pytest.raises(Stop):
            zipml.train(file, **training, checkpoint=kept, checkpoint_every=0)
    saved = checkpoint.read(kept)[1]
    assert saved.taken > 0 and (saved.cursor.steps > 0 or saved.cursor.epoch > 0)
    resumed = zipml.train(file, **training, checkpoint=kept, resume=True)
    assert outcome(resumed) == outcome(whole) and resumed.info == whole.info
    assert outcome(zipml.train(file, **training, checkpoint=kept, resume=True)) == outcome(whole)  # of a finished run


@pytest.mark.slow
def test_killed_runs_go_on_to_the_same_model(tmp_path):
    """kill -9 at random moments, until a run comes to its end."""
    file, kept, model = tmp_path / "a.zipml.h5", tmp_path / "c.npz", tmp_path / "m.npz"
    zipml.compress(*rows(60_000, 64), path=file, levels="uniform").close()
    program = textwrap.dedent(f"""
        import zipml_codec as zipml
        m = zipml.train({str(file)!r}, epochs=60, batch=64, test_fraction=0.1, debias="diagonal", checkpoint={str(kept)!r},
                        checkpoint_every=0, resume=True)
        m.save({str(model)!r})
    """)
    generator, kills = np.random.default_rng(0), 0
    while not model.exists():
        before = kept.stat().st_mtime_ns if kept.exists() else 0
        child = subprocess.Popen([sys.executable, "-c", program])
        while kills < 12 and child.poll() is None:  # until it has kept another state, and a moment more
            if kept.exists() and kept.stat().st_mtime_ns != before:
                time.sleep(0.05 * generator.random())
                child.send_signal(signal.SIGKILL)
                kills += child.wait() == -signal.SIGKILL
        child.wait()
    assert kills > 0
    whole = zipml.train(file, epochs=60, batch=64, test_fraction=0.1, debias="diagonal")
    assert outcome(zipml.Model.load(model)) == outcome(whole)


def test_a_checkpoint_of_another_run_is_refused(files, tmp_path):
    kept, file = tmp_path / "c.npz", files(levels="uniform")
    zipml.train(file, epochs=2, checkpoint=kept)
    changes = {"epochs": 3, "seed": 1, "strength": 0.1, "model_bits": 16, "test_fraction": 0.5, "debias": "naive"}
    for change in ({name: value} for name, value in changes.items()):
        with pytest.raises(OptionError, match=f"another run: {next(iter(change))} was"):
            zipml.train(file, **{"epochs": 2, **change}, checkpoint=kept, resume=True)
    with pytest.raises(OptionError, match="data was"):
        zipml.train(files(grid="byte"), epochs=2, checkpoint=kept, resume=True)
    with pytest.raises(OptionError, match=r"name it with checkpoint= \(--checkpoint\)"):
        zipml.train(file, resume=True)


def test_a_checkpoint_replaces_no_other_file(files, tmp_path):
    """The data, above all, named as the checkpoint: refused before any work, and left as it is."""
    file = Path(files(grid="byte"))
    before = file.read_bytes()
    for resume in (False, True):
        with pytest.raises((OutputError, CorruptError), match=r"is not a checkpoint"):
            zipml.train(file, epochs=1, checkpoint=file, resume=resume)
    assert file.read_bytes() == before
    told = []
    for path, match in ((tmp_path / "none" / "c.npz", "no folder"), (tmp_path, "is a folder")):
        with pytest.raises(OutputError, match=match):
            zipml.train(file, epochs=1, checkpoint=path, progress=told.append)
    assert not told  # nothing was trained


def test_checkpoints_that_cannot_be(files, tmp_path, monkeypatch):
    file, kept = files(levels="uniform"), tmp_path / "c.npz"
    kept.write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(CorruptError, match=r"c\.npz is not a checkpoint"):
        zipml.train(file, checkpoint=kept, resume=True)
    zipml.train(file, epochs=1).save(kept)
    with pytest.raises(FormatError, match=r"c\.npz is not a checkpoint"):
        zipml.train(file, epochs=1, checkpoint=kept, resume=True)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="cannot write the checkpoint: No space"):
        zipml.train(file, epochs=1, checkpoint=tmp_path / "new.npz")
    assert not list(tmp_path.glob("*.partial"))


# ---- Early stop, threads, files that change ----


def test_pace_takes_the_faster_number_of_threads():
    """Two threads that lose are left, tried again ever less often, and taken up again when they win."""
    pace, size, chosen = engine.Pace(), 1 << 23, []
    for window in range(1000):
        threads = pace.threads(2)
        chosen.append(threads)
        disturbed = 100 <= window < 400
        pace.note(threads, size, {1: 2.0, 2: 30.0 if disturbed else 1.0}[threads])
    chosen = np.array(chosen)
    assert chosen[0] == 2 and np.mean(chosen[:100] == 2) > 0.8
    assert np.mean(chosen[110:400] == 1) > 0.9
    assert np.mean(chosen[700:] == 2) > 0.8
    assert engine.Pace().threads(1) == 1
    small = engine.Pace()
    small.note(2, 100, 1e9)
    assert small.threads(2) == 2


def test_early_stop(files):
    file = files(levels="uniform")
    full = zipml.train(file, epochs=40, schedule="inverse", test_fraction=0.3)
    early = zipml.train(file, epochs=40, schedule="inverse", test_fraction=0.3, tolerance=0.01)
    done = len(early.history)
    assert checkpoint.PATIENCE < done < 40 and early.info["epochs"] == done
    losses = [entry["test_loss"] for entry in full.history]
    assert losses[:done] == [entry["test_loss"] for entry in early.history]
    gains = [min(losses[: k - 3]) - min(losses[k - 3 : k]) <= 0.01 * abs(min(losses[: k - 3])) for k in range(4, done + 1)]
    assert gains[-1] and not any(gains[:-1])
    with pytest.raises(OptionError, match="tolerance"):
        zipml.train(file, tolerance=-1)


def test_threads_by_default(monkeypatch):
    """OMP_NUM_THREADS and threadpoolctl are heard; a count that is given is taken."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert 1 <= arrays.thread_count(None) <= arrays.physical_cores() <= len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert arrays.thread_count(None) == 1 and arrays.thread_count(3) == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    threadpoolctl = pytest.importorskip("threadpoolctl")
    with threadpoolctl.threadpool_limits(1):
        assert arrays.thread_count(None) == 1


def test_workers_of_joblib_share_the_cores():
    """joblib tells its processes how many threads are theirs, by OMP_NUM_THREADS among others."""
    joblib = pytest.importorskip("joblib")
    counts = joblib.Parallel(2)(joblib.delayed(arrays.thread_count)(None) for _ in range(4))
    assert all(count <= max(1, joblib.cpu_count() // 2) for count in counts)


def test_both_engines_that_wait_are_paced(tmp_path, monkeypatch):
    """After a window on all threads, one is tried: each engine asks for each window."""
    used = []
    kept = engine.Pace.threads
    monkeypatch.setattr(engine, "PACED_VALUES", 1)
    monkeypatch.setattr(engine.Pace, "threads", lambda pace, most: used.append(kept(pace, most)) or used[-1])
    X, y = rows(2000)
    zipml.compress(X, y, path=tmp_path / "a", levels="uniform").close()
    for data, name in ((tmp_path / "a", "integer"), ((X, y), "dense")):
        used.clear()
        assert zipml.train(data, epochs=4, debias="naive", threads=2).info["engine"] == name
        assert used[:2] == [2, 1]


def test_a_mapped_file_is_checked_at_first_use(tmp_path, monkeypatch):
    """A flipped bit is told with its chunk before a model is made of it; a file cut short is told, not read beyond its end."""
    monkeypatch.setattr(stream, "KEPT_BYTES", 1)
    file = tmp_path / "a.zipml.h5"
    zipml.compress(*rows(20_000), path=file, levels="uniform").close()
    with zipml.open(file) as data:
        offset = int(data._file.table[-1, 0]) + 1000
    good = zipml.train(file, epochs=1, debias="naive")
    content = bytearray(file.read_bytes())
    content[offset] ^= 4
    bad = tmp_path / "b.zipml.h5"
    bad.write_bytes(content)
    with pytest.raises(CorruptError, match=r"b\.zipml\.h5: chunk \d+ \(rows .* does not match its digest"):
        zipml.train(bad, epochs=1, debias="naive")
    with zipml.open(file) as data:
        os.truncate(file, offset)
        with pytest.raises(CorruptError, match="truncated"):
            zipml.train(data, epochs=1, debias="naive")
    assert np.isfinite(good.coef).all()


def test_an_error_while_reading_ahead_reaches_the_caller():
    def items():
        yield 1
        raise DataError("here")

    from zipml_codec.ahead import read_ahead

    seen = []
    with pytest.raises(DataError, match="here"):
        for item in read_ahead(items()):
            seen.append(item)
    assert seen == [1]


def test_reading_ahead_ends_with_its_reader():
    from threading import active_count

    from zipml_codec.ahead import read_ahead

    before = active_count()
    endless = read_ahead(iter(range(10**9)))
    assert [next(endless) for _ in range(3)] == [0, 1, 2]
    endless.close()
    deadline = time.monotonic() + 10
    while active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert active_count() == before


def test_command_options(files, tmp_path, capfd):
    from zipml_codec.cli import main

    kept = tmp_path / "c.npz"
    options = ["train", str(files(levels="uniform")), "--epochs", "3", "--checkpoint", str(kept), "--resume"]
    assert main([*options, "--model-bits", "8", "--residual-bits", "16", "--tolerance", "0.0"]) == 0
    assert "integers" in capfd.readouterr().out and Path(kept).exists()
    assert main([*options, "--model-bits", "16"]) == 2
    assert "another run" in capfd.readouterr().err
    assert main(["train", str(files(levels="uniform")), "--model-bits", "7"]) == 2
    assert main(["train", str(files(levels="uniform")), "--model-bits", "few"]) == 2


def test_closed_form_from_integers(files):
    """Well-conditioned data: 60 epochs in integers come to the debiased closed form."""
    X, y = rows()
    with zipml.open(files(levels="uniform", bits=6)) as data:
        coef, intercept = reference.normal_equations(data.decode(), y, 0.0, data.noise)
        model = zipml.train(data, epochs=60, debias="diagonal", batch=64)
    difference = np.mean((X @ (model.coef - coef) + model.intercept - intercept) ** 2)
    assert difference < 0.002 * np.var(y)
