"""Training: kernels against the reference's estimators, estimators against their theory, solutions against closed forms."""

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import reference

import zipml_codec as zipml
from zipml_codec import debias, order, stream
from zipml_codec.engine import make_engine
from zipml_codec.errors import CorruptError, DataError, DivergenceError, FormatError, OptionError
from zipml_codec.kernels import sgd as kernel
from zipml_codec.kernels import simd
from zipml_codec.model import is_compressed
from zipml_codec.plan import Plan, schedule
from zipml_codec.sgd import curvature_of

N = 7
ESTIMATORS = {"naive": kernel.MEAN, "diagonal": kernel.MEAN, "collapsed": kernel.COLLAPSED, "double-sampling": kernel.DOUBLE}


def problem(rows=6, features=N, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.uniform(-1, 1, (rows, features)).astype(np.float32)
    return X, generator.normal(size=rows), generator.normal(size=features)


def codec_of(kind, bits, samples, features=N):
    if kind == "uniform":
        return zipml.Codec.uniform(np.full(features, -1), np.full(features, 1), bits, samples)
    s = (2**bits - 1) // samples
    levels = np.sort(np.random.default_rng(5).uniform(-0.9, 0.9, (features, s - 1)), axis=1)
    return zipml.Codec(np.pad(levels, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, 1))), bits, samples)


def kernel_gradient(codec, packed, y, x, estimator, noise=None, draw_seed=0):
    """Gradient at x of one full-batch step of the kernel, unstandardised (mean 0, std 1), no intercept."""
    rows = stream.code_rows(codec, np.zeros(codec.features), np.ones(codec.features), ESTIMATORS[estimator], draw_seed)
    rows.hold(packed, np.asarray(y, np.float32), np.arange(len(packed), dtype=np.uint64))
    curvature = np.zeros(codec.features) if noise is None else -noise
    state = kernel.State(codec.features, len(packed), curvature.astype(np.float32))
    state.weights[: codec.features] = x
    start = state.weights.copy()
    state.run(rows, np.arange(len(packed), dtype=np.uintp), np.ones(1, np.float32), 1)
    return (start - state.weights)[: codec.features].astype(np.float64)


@pytest.mark.parametrize("features", [1, 7, 64, 150])
@pytest.mark.parametrize(("kind", "bits", "samples"), [("uniform", 4, 2), ("table", 3, 2), ("table", 5, 3), ("uniform", 8, 3)])
def test_kernel_gradients_are_the_formulas(kind, bits, samples, features):
    X, y, x = problem(5, features)
    codec = codec_of(kind, bits, samples, features)
    packed = codec.encode(X, seed=3)
    codes, mean = codec.codes(packed), codec.decode(packed).astype(np.float64)
    interval = np.minimum(codes // samples, codec.intervals - 1)
    width = np.take_along_axis(np.diff(codec.levels, axis=1), interval.T.astype(int), axis=1).T
    first, second = codec.draw(packed, seed=11)[:2]
    noise = np.linspace(0.1, 0.2, features)
    expected = {
        "naive": reference.naive(mean, x, y),
        "collapsed": reference.collapsed(mean, reference.collapse(codes, width, samples), x, y),
        "double-sampling": reference.double_sampling(first, second, x, y),
        "diagonal": reference.diagonal(mean, noise, x, y),
    }
    for name, gradient in expected.items():
        got = kernel_gradient(codec, packed, y, x, name, noise if name == "diagonal" else None, draw_seed=11)
        np.testing.assert_allclose(got, gradient, rtol=2e-4, atol=2e-4, err_msg=name)


@pytest.mark.parametrize(("kind", "samples"), [("uniform", 2), ("table", 2), ("table", 3)])
def test_expectation_and_variance_of_the_estimators(kind, samples):
    """Over encodings and draws: naive is off by Var(m_f) x_f, the others by nothing; collapsed varies less than double."""
    X, y, x = problem(3)
    codec = codec_of(kind, 3, samples)
    exact = X.T.astype(np.float64) @ (X @ x - y) / len(X)
    levels = codec.levels.astype(np.float64)
    upper = np.stack([np.clip(np.searchsorted(row, X[:, f], side="right"), 1, len(row) - 1) for f, row in enumerate(levels)], 1)
    u, low = (np.take_along_axis(levels.T, at, axis=0) for at in (upper, upper - 1))
    variance = ((u - X) * (X - low) / samples).mean(axis=0)
    gradients = {name: [] for name in ESTIMATORS}
    for seed in range(3000):
        packed = codec.encode(X, seed=seed)
        for name in ESTIMATORS:
            noise = variance if name == "diagonal" else None
            gradients[name].append(kernel_gradient(codec, packed, y, x, name, noise, draw_seed=seed + 10**6))
    for name, values in gradients.items():
        values = np.array(values)
        error = values.std(axis=0) / np.sqrt(len(values))
        bias = variance * x if name == "naive" else 0
        assert np.all(np.abs(values.mean(axis=0) - exact - bias) < 5 * error + 1e-6), name
    naive = np.array(gradients["naive"])
    assert np.abs(naive.mean(axis=0) - exact).max() > 10 * (naive.std(axis=0) / np.sqrt(len(naive))).max()  # the bias is seen
    spread = {name: np.var(values, axis=0).sum() for name, values in gradients.items()}
    assert spread["collapsed"] < 0.9 * spread["double-sampling"]


def linear_data(rows=4000, features=20, noise=0.1, seed=0):
    generator = np.random.default_rng(seed)
    X = (generator.normal(size=(rows, features)) * generator.uniform(0.5, 20, features) + 100).astype(np.float32)
    y = (X - 100) @ generator.normal(size=features) + noise * generator.normal(size=rows)
    return X, y


def test_float_training_reaches_the_closed_form():
    X, y = linear_data()
    model = zipml.train((X, y), strength=0.05, penalty_units="standard", epochs=200)
    coef, intercept = reference.normal_equations(X, y, 0.05)
    np.testing.assert_allclose(model.coef * X.std(axis=0), coef * X.std(axis=0), rtol=1e-3, atol=1e-2)
    assert model.intercept == pytest.approx(intercept, rel=2e-3)
    np.testing.assert_allclose(model.predict(X), X.astype(np.float64) @ model.coef + model.intercept)


def test_diagonal_reaches_the_debiased_closed_form(tmp_path):
    """With a full batch and many epochs, SGD on codes solves (H_m - D + strength) x = mean z y."""
    X, y = linear_data(rows=1500, features=6)
    data = zipml.compress(X, y, path=tmp_path / "a.zipml.h5", bits=3, samples=1)
    model = zipml.train(data, strength=0.1, penalty_units="standard", epochs=1500, batch=1500, debias="diagonal")
    m = data.decode().astype(np.float64)
    Z = (m - data.mean) / data.std
    D = data.noise / data.std**2
    hessian = Z.T @ Z / len(Z) - np.outer(Z.mean(0), Z.mean(0)) - np.diag(D) + 0.1 * np.eye(6)
    weights = np.linalg.solve(hessian, (Z - Z.mean(0)).T @ (y - y.mean()) / len(Z))
    np.testing.assert_allclose(model.coef * data.std, weights, rtol=5e-3)


def test_same_model_for_any_threads_and_vector_level(tmp_path):
    X, y = linear_data(rows=3000, features=100)
    for bits, levels in [(4, "optimal"), (5, "uniform")]:
        data = zipml.compress(X, y, path=tmp_path / f"{bits}.zipml.h5", bits=bits, levels=levels)
        models = []
        for level, threads in itertools.product(simd.levels(), (1, 2, 3)):
            with simd.use(level):
                models.append(zipml.train(data, epochs=2, batch=1024, debias="double-sampling", threads=threads))
        for model in models[1:]:
            assert np.array_equal(model.coef, models[0].coef)
            assert model.intercept == models[0].intercept


def test_trainings_at_once_share_the_helpers(tmp_path):
    """More threads than processors, several callers at a time: whoever finds the helpers taken works alone, to the same bits."""
    X, y = linear_data(rows=3000, features=100)
    data = zipml.compress(X, y, path=tmp_path / "a.zipml.h5")
    alone = zipml.train(data, epochs=4, batch=1024, debias="naive", threads=1)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(zipml.train, data, epochs=4, batch=1024, debias="naive", threads=count) for count in (2, 3, 8, 16)]
        for job in jobs:
            assert np.array_equal(job.result().coef, alone.coef)


@pytest.mark.parametrize("zstd", [None, 3])
def test_windows_cut_nothing(tmp_path, monkeypatch, zstd):
    """Small windows, mapped and read, with rows left over from one to the next: every training row once, whole batches."""
    X, _ = linear_data(rows=5003, features=30)
    y = np.arange(5003.0)
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 3000)
    data = zipml.compress(X, y, path=tmp_path / "a.zipml.h5", bits=8, samples=2, levels="uniform", zstd=zstd)
    assert data.chunks > 50
    source = stream.CodeRows(data)
    monkeypatch.setattr(stream, "KEPT_BYTES", 1)
    monkeypatch.setattr(stream, "PIECE_BYTES", 1)
    monkeypatch.setattr(order, "UNIT_BYTES", 2000)
    monkeypatch.setattr(order, "WINDOW_BYTES", 1)
    assert (source.whole() is None) == (zstd is not None)
    for fraction in (0.0, 0.3):
        rows = stream.Stream(source, seed=4, test_fraction=fraction)
        train = [window for window in rows.batches(0, 64)]
        assert len(train) > 5 and all(len(window.order) % 64 == 0 for window in train[:-1])
        seen = np.concatenate([window.labels[window.order] for window in train])
        test = [window.labels[window.order] for window in rows.windows(0, test=True)]
        held = np.concatenate(test) if test else np.empty(0)
        assert len(seen) == rows.train_rows and len(held) == rows.test_rows
        np.testing.assert_array_equal(np.sort(np.concatenate([seen, held])), y)
        for window in train:
            assert np.array_equal(window.labels[window.order], window.numbers[window.order].astype(np.float32))
            decoded = data.codec.decode(window.data[window.order])
            assert np.abs(decoded - X[window.numbers[window.order].astype(int)]).max() < 2


TARGETS = [  # data, bits, samples, most test loss over the closed form's on float32
    ("cod_rna", 2, 1, 1.03),
    ("cod_rna", 4, 2, 1.01),
    ("cal_housing", 4, 2, 1.03),
    ("cpu_small", 5, 2, 1.03),
    ("mnist_4v9", 4, 2, 1.03),
]


def split(X, y, seed):
    order = np.random.default_rng(seed).permutation(len(X))
    cut = int(0.7 * len(X))
    return X[order[:cut]], y[order[:cut]], X[order[cut:]], y[order[cut:]]


@pytest.mark.parametrize(("name", "bits", "samples", "most"), TARGETS)
def test_real_data_reach_the_closed_form(real, tmp_path, name, bits, samples, most):
    """Mean of three splits: rows shuffled, 70/30, standardised, ridge 1e-3, debias auto."""
    ratios = []
    for seed in range(3):
        X, y, X_test, y_test = split(*real(name), seed)
        coef, intercept = reference.normal_equations(X, y, 1e-3)
        best = np.mean((X_test @ coef + intercept - y_test) ** 2)
        data = zipml.compress(X, y, path=tmp_path / f"{seed}.zipml.h5", bits=bits, samples=samples, seed=seed)
        model = zipml.train(data, strength=1e-3, penalty_units="standard", seed=seed)
        ratios.append(np.mean((model.decision(X_test) - y_test) ** 2) / best)
    print(f"{name}, {bits} bits, k={samples}: test loss over float32's closed form {np.mean(ratios):.4f} {np.round(ratios, 4)}")
    assert np.mean(ratios) <= most


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_gas_drift_is_never_worse_than_naive(real, tmp_path, bits):
    """Outliers and collinear columns: auto stays finite, and within 5 % of naive."""
    X, y, X_test, y_test = split(*real("gas_drift"), 0)
    data = zipml.compress(X, y, path=tmp_path / "gas.zipml.h5", bits=bits, samples=1 if bits == 2 else 2)
    losses = {}
    for name in ("auto", "naive"):
        model = zipml.train(data, strength=1e-3, penalty_units="standard", debias=name)
        losses[name] = np.mean((model.decision(X_test) - y_test) ** 2)
    assert np.isfinite(losses["auto"]) and losses["auto"] <= 1.05 * losses["naive"]


@pytest.mark.parametrize("name", ["cal_housing", "cpu_small", "cod_rna", "gas_drift", "mnist_4v9"])
def test_whole_path_on_real_data(real_path, tmp_path, name):
    """Compress the file, verify, train, predict from the compressed file and from the raw one."""
    path = real_path(name)
    label = {"cal_housing": "medianHouseValue", "cpu_small": "usr", "cod_rna": "y"}.get(name, "y")
    source = zipml.formats.readers.open_source(path, label=label)
    data = zipml.compress(source, path=tmp_path / "a.zipml.h5")
    data.verify()
    model = zipml.train(data, loss="lssvm" if name in ("cod_rna", "mnist_4v9") else "squared", test_fraction=0.3)
    assert model.info["test_rows"] == pytest.approx(0.3 * data.shape[0], rel=0.05)
    if model.loss == "lssvm":
        assert model.info["test_accuracy"] > 0.9
    else:
        assert model.info["train_loss"] < 0.9 * np.var(data.labels, dtype=np.float64) / 2
    predictions = model.predict(data)
    assert predictions.shape == (data.shape[0],) and np.isfinite(predictions).all()
    if data.columns is not None:  # a raw file's columns are found by name, its label left out
        raw = model.decision(path)
        assert np.corrcoef(raw, model.decision(data))[0, 1] > 0.9


def test_debiased_test_loss_is_the_loss_on_exact_rows(tmp_path):
    """What training reports for held-out rows, from codes, is what the exact rows give, to within the noise of a mean."""
    X, y = linear_data(rows=30000, features=20, noise=5.0)
    data = zipml.compress(X, y, path=tmp_path / "a.zipml.h5", bits=3, samples=1)
    model = zipml.train(data, test_fraction=0.5, epochs=5, debias="diagonal")
    held = order.held_out(0, 0.5, 0, len(X))
    exact = (model.decision(X[held]) - y[held]) ** 2 / 2
    plain = (model.decision(data)[held] - y[held]) ** 2 / 2
    error = np.std(plain - exact) / np.sqrt(held.sum())
    assert abs(model.info["test_loss"] - exact.mean()) < 4 * error
    assert plain.mean() - exact.mean() > 50 * error  # what is reported would be wrong without the correction
    assert [entry["epoch"] for entry in model.history] == [1, 2, 3, 4, 5]
    assert model.history[-1]["test_loss"] == pytest.approx(model.info["test_loss"], rel=1e-5)


def test_accuracy_is_that_of_exact_rows_where_there_are_enough(tmp_path):
    """The held-out rows that the file keeps exactly, from 100 on; else rounded ones, and info says so."""
    X, y = linear_data(rows=150_000, features=4, noise=5)
    y = np.where(y > np.median(y), 1.0, -1.0)
    data = zipml.compress(X, y, path=tmp_path / "a.zipml.h5", bits=8, samples=1)
    model = zipml.train(data, loss="lssvm", test_fraction=0.0, epochs=2, debias="naive")
    numbers = data.sample_rows
    right = model.predict(data.sample_values) == y[numbers]
    assert (model.info["train_accuracy"], model.info["train_accuracy_on"]) == (right.mean(), "exact rows")
    assert model.info["train_accuracy_rows"] == len(numbers) >= 100
    split_model = zipml.train(data, loss="lssvm", test_fraction=0.7, epochs=2, debias="naive")
    held = order.held_out(0, 0.7, 0, len(X))[numbers]
    assert held.sum() >= 100 > (~held).sum()
    assert split_model.info["test_accuracy"] == np.mean((split_model.predict(data.sample_values) == y[numbers])[held])
    assert (split_model.info["test_accuracy_on"], split_model.info["train_accuracy_on"]) == ("exact rows", "rounded rows")
    small = zipml.compress(X[:1000], y[:1000], path=tmp_path / "b.zipml.h5", bits=2, samples=1)
    model = zipml.train(small, loss="lssvm", test_fraction=0.3, epochs=2, debias="naive")
    held = order.held_out(0, 0.3, 0, 1000)
    assert model.info["test_accuracy_on"] == "rounded rows" and model.info["test_accuracy_rows"] == held.sum()
    assert model.info["test_accuracy"] == pytest.approx(np.mean((model.predict(small) == y[:1000])[held]), abs=2 / held.sum())
    exact = zipml.train((X, y), loss="lssvm", epochs=1)
    assert exact.info["train_accuracy_on"] == "exact rows"
    assert exact.info["train_accuracy"] == pytest.approx(np.mean(exact.predict(X) == y), abs=1e-3)


@pytest.mark.parametrize("samples", [2, 3])
@pytest.mark.parametrize("estimator", ["naive", "collapsed", "double-sampling"])
def test_history_subtracts_what_rounding_adds(tmp_path, samples, estimator):
    """At a given model: the noise is x'Var x, of the mean code or of one sample, and the loss less it is that on exact rows."""
    generator = np.random.default_rng(1)
    X, x = generator.normal(size=(20000, 10)).astype(np.float32), generator.normal(size=10).astype(np.float32)
    y = X @ x + 0.1 * generator.normal(size=20000)
    data = zipml.compress(X, y, path=tmp_path / "a.zipml.h5", bits=3, samples=samples, levels="uniform")
    source = stream.CodeRows(data)
    state = make_engine(source, Plan(1, 20000, 1.0, estimator=ESTIMATORS[estimator]))
    state.weights[:10] = x
    numbers = np.arange(20000, dtype=np.uint64)
    state.begin(5)
    window = stream.Window(data.packed(), data.labels, numbers, numbers.astype(np.uintp))
    loss, noise, finite = state.run(window, np.zeros(1, np.float32), 1)
    width = (data.high.astype(float) - data.low) / data.codec.intervals
    at = np.clip((X.astype(float) - data.low) / width, 0, data.codec.intervals)
    variance = np.mean((at - np.floor(at)) * (np.ceil(at) - at), axis=0) * (width / data.std) ** 2
    theory = np.sum(variance * x.astype(float) ** 2) / (1 if estimator == "double-sampling" else samples)
    exact = (X.astype(float) - data.mean) / data.std @ x - data.labels
    assert finite and noise / 20000 == pytest.approx(theory / 2, rel=1e-3)
    # over roundings r with E[r] = 0: mean of (exact + r)^2 - exact^2, r nearly normal of variance `theory`
    error = np.sqrt(np.mean(4 * theory * exact**2 + 2 * theory**2) / 20000) / 2
    assert abs((loss - noise) / 20000 - np.mean(exact**2) / 2) < 5 * error < 0.2 * theory


@pytest.mark.parametrize(("bits", "most"), [(16, 1.001), (8, 1.02), (4, 1.5)])
def test_low_precision_model_and_gradient(bits, most):
    X, y = linear_data(rows=8000, features=50, noise=20.0)
    exact = zipml.train((X, y), seed=1).info["train_loss"]
    assert zipml.train((X, y), seed=1, model_bits=bits, gradient_bits=bits).info["train_loss"] <= most * exact


@pytest.mark.parametrize("scale", ["max", "l2"])
@pytest.mark.parametrize("levels", [1, 7, 127])
def test_quantize_vector_is_unbiased(levels, scale):
    v = np.array([0.0, 1.0, -0.37, 0.001, -2.5, 0.7], np.float32)
    draws = np.array([zipml.quantize_vector(v, levels, scale, seed=seed) for seed in range(4000)], np.float64)
    unit = (np.abs(v).max() if scale == "max" else np.linalg.norm(v)) / levels
    code = np.abs(v) / unit
    variance = unit**2 * (np.ceil(code) - code) * (code - np.floor(code))
    np.testing.assert_allclose(draws / unit, np.round(draws / unit), atol=1e-4)  # on the grid
    assert np.all(np.abs(draws.mean(axis=0) - v) <= 5 * np.sqrt(variance / len(draws)) + 1e-5 * unit)
    np.testing.assert_allclose(draws.var(axis=0), variance, rtol=0.15, atol=1e-3 * unit**2)


def test_divergence_halves_the_step_and_says_so(tmp_path, caplog):
    X, y = linear_data(rows=500)
    good = zipml.train((X, y)).info["step"]
    with caplog.at_level(logging.WARNING, "zipml_codec"):
        model = zipml.train((X, y), step=64 * good)
    assert model.info["step"] < 64 * good and np.isfinite(model.coef).all()
    assert "diverged" in caplog.text
    with pytest.raises(DivergenceError, match="smaller step"):
        zipml.train((X, y), step=1e12)


def test_schedules():
    cosine = np.concatenate([schedule("cosine", 0.5, epoch, 4, 10) for epoch in range(4)])
    assert cosine[0] == 0.5 and np.all(np.diff(cosine) < 0) and cosine[20] == pytest.approx(0.25)
    assert np.all(schedule("inverse", 0.6, 2, 4, 5) == np.float32(0.2))


def test_curvature_is_the_largest_eigenvalue():
    generator = np.random.default_rng(0)
    Z = (generator.normal(size=(2000, 12)) @ generator.normal(size=(12, 12))).astype(np.float32)
    rows = np.c_[Z, np.ones(2000)]
    measured = curvature_of(Z)
    assert measured.largest == pytest.approx(np.linalg.eigvalsh(rows.T @ rows / 2000)[-1], rel=0.05)
    norms = np.square(rows).sum(axis=1)
    assert measured.norm_max == pytest.approx(norms.max(), rel=1e-5)
    own = norms - 1
    assert measured.tail == pytest.approx(np.mean(own**2) / np.mean(own) ** 2, rel=1e-4)
    assert measured.norm99 == pytest.approx(np.percentile(norms, 99), rel=1e-5)


def test_effective_rows_count_long_rows_and_noise():
    """K a feature for even, exact rows; a share of it where a tenth of the rows hold all variance, or noise is as large."""
    generator = np.random.default_rng(0)
    X = generator.choice([-1.0, 1.0], (5000, 10)).astype(np.float32)
    even = stream.FloatRows(X, np.zeros(5000))
    assert debias.effective_rows(even, curvature_of(X)) == pytest.approx(500, rel=0.01)
    X[500:] = 0
    long = stream.FloatRows(X, np.zeros(5000))
    assert debias.effective_rows(long, curvature_of(X)) == pytest.approx(50, rel=0.05)
    even.noise = even.std**2
    assert debias.effective_rows(even, curvature_of(np.ones((100, 10), np.float32))) == pytest.approx(125, rel=0.01)


def test_judge_prefers_the_sure_gain_and_no_other():
    generator = np.random.default_rng(0)
    base = generator.exponential(size=1000)
    models = len(debias.SHARES)
    none = np.zeros(models)
    better = np.stack([base * (1 - 0.05 * i) for i in range(models)], axis=1)
    assert debias.judge(better, none)[0] == 1.0
    worse = np.stack([base * (1 + 0.05 * i) for i in range(models)], axis=1)
    assert debias.judge(worse, none)[0] == 0.0
    broken = better.copy()
    broken[:, 3:] = np.inf  # diverged: those shares are out
    assert debias.judge(broken, none)[0] == debias.SHARES[2]
    unsure = np.stack([base] + [generator.permutation(base) for _ in range(models - 1)], axis=1)
    assert debias.judge(unsure, none)[0] == 0.0
    assert debias.judge(better, np.full(models, base.mean()))[0] == 0.0  # a debiased loss of zero or less is no certainty


def test_model_files(tmp_path):
    X, y = linear_data(rows=300)
    model = zipml.train((X, y), epochs=2, test_fraction=0.2)
    model.save(tmp_path / "m.npz")
    again = zipml.Model.load(tmp_path / "m.npz")
    assert np.array_equal(again.coef, model.coef) and again.intercept == model.intercept
    assert again.history == model.history and again.info == model.info and again.loss == model.loss
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    (tmp_path / "text.npz").write_text("no model")
    whole = (tmp_path / "m.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.save(tmp_path / "array.npy", np.ones(3))
    for name in ("other.npz", "text.npz", "cut.npz", "absent.npz", "array.npy"):
        with pytest.raises(FormatError, match=name) as caught:
            zipml.Model.load(tmp_path / name)
        assert "pickle" not in str(caught.value) and "context manager" not in str(caught.value)


def test_hdf5_does_not_see_a_damaged_file_before_its_seal_is_checked(tmp_path, monkeypatch):
    X, y = linear_data(rows=300, features=4)
    path = tmp_path / "a.h5"
    zipml.compress(X, y, path=path).close()
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)

    def crash(*_, **__):
        raise AssertionError("HDF5 was given a file whose seal is broken")

    monkeypatch.setattr(h5py, "File", crash)
    with pytest.raises(CorruptError):
        zipml.Model(np.ones(4), 0.0).predict(path)
    assert is_compressed(path)


def test_options_of_numpy_go_into_a_model_file(tmp_path):
    model = zipml.train(linear_data(rows=300), epochs=np.int64(2), model_bits=np.int32(16))
    model.save(tmp_path / "m.npz")
    assert zipml.Model.load(tmp_path / "m.npz").info["epochs"] == 2


def test_bad_input(tmp_path):
    X, y = linear_data(rows=50, features=3)
    bare = zipml.compress(X, path=tmp_path / "bare.zipml.h5")
    single = zipml.compress(X, y, path=tmp_path / "single.zipml.h5", samples=1)
    nearest = zipml.compress(X, y, path=tmp_path / "nearest.zipml.h5", samples=1, rounding="nearest")
    bad_y = y.copy()
    bad_y[7] = np.nan
    cases = [
        (DataError, "no labels", bare, {}),
        (OptionError, "samples >= 2", single, {"debias": "collapsed"}),
        (OptionError, "nothing to correct", nearest, {"debias": "double-sampling"}),
        (DataError, "row 1.*-1 and \\+1", (X, y), {"loss": "lssvm"}),
        (DataError, r"y\[7\]", (X, bad_y), {}),
        (DataError, "50 rows, y 49", (X, y[:-1]), {}),
        (OptionError, "loss", (X, y), {"loss": "huber"}),
        (OptionError, "penalty", (X, y), {"penalty": "l3"}),
        (OptionError, "epochs", (X, y), {"epochs": 0}),
        (OptionError, "batch", (X, y), {"batch": 0}),
        (OptionError, "step", (X, y), {"step": -1.0}),
        (OptionError, "model_bits", (X, y), {"model_bits": 7}),
        (OptionError, "test_fraction", (X, y), {"test_fraction": 1.0}),
        (OptionError, "strength", (X, y), {"strength": -1}),
        (OptionError, "Dataset", 3, {}),
        (FormatError, "no such file", tmp_path / "absent.zipml.h5", {}),
    ]
    for error, message, data, options in cases:
        with pytest.raises(error, match=message):
            zipml.train(data, **options)
    model = zipml.train((X, y), epochs=1)
    with pytest.raises(DataError, match="4 features, the model 3"):
        model.predict(np.ones((2, 4)))


def test_nearest_rounding_trains_naively(tmp_path):
    X, y = linear_data(rows=500)
    data = zipml.compress(X, y, path=tmp_path / "n.zipml.h5", bits=6, samples=1, rounding="nearest")
    model = zipml.train(data)
    assert model.info["share"] == 0 and "no noise" in model.info["debias_reason"]


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_very_few_rows(tmp_path, rows):
    X, y = linear_data(rows=rows, features=4)
    model = zipml.train(zipml.compress(X, y, path=tmp_path / "a.zipml.h5"), epochs=3)
    assert np.isfinite(model.coef).all() and np.isfinite(model.intercept)
