"""Integer SGD: the same bits at every vector level and number of threads, those of the specification; unbiased rounding."""

import os

import numpy as np
import pytest
import reference

from zipml_codec.kernels import integer, simd


class Problem:
    """Random codes, as bytes u and packed, with everything that steps need."""

    def __init__(self, rows, features, bits, samples=1, table=False, shared=False, seed=0, constant=(), loss="squared",
                 weighted=False, prox=(), **options):  # fmt: skip
        generator = np.random.default_rng([seed, rows, features, bits])
        self.rows, self.features, self.bits = rows, features, bits
        top = reference.intervals(bits, samples) * samples
        codes = generator.integers(0, top + 1, (rows, features)).astype(np.uint8)
        codes[:, list(constant)] = 0
        self.table = None
        self.u = codes
        if table:
            self.table = np.sort(generator.integers(0, 256, (1 if shared else features, 2**bits)).astype(np.uint8), axis=1)
            self.u = self.table[0 if shared else np.arange(features), codes]
        self.stride = reference.stride(features, bits)
        self.packed = reference.pack(codes, bits, self.stride)
        self.step = generator.uniform(0.5, 4, features).astype(np.float32) / np.float32(max(self.u.max(), 1))
        self.low = (-self.step * self.u.mean(axis=0) * generator.uniform(0.9, 1.1, features)).astype(np.float32)
        self.step[list(constant)] = self.low[list(constant)] = 0
        self.y = generator.standard_normal(rows).astype(np.float32)
        self.curvature = generator.uniform(-0.01, 0.1, features).astype(np.float32)
        self.loss, self.weights, self.proximal = loss, None, ()
        if loss != "squared":
            self.y = np.where(self.y < 0, -1, 1).astype(np.float32)
        if weighted:
            self.weights = generator.uniform(0, 2, rows).astype(np.float32) * (generator.random(rows) < 0.9)
        if prox:
            parts = {"shrink": (0, 0.1), "ridge": (0, 0.5), "low": (-0.5 / features**0.5, 0), "high": (0, 1 / features**0.5)}
            drawn = {name: generator.uniform(*ends, features).astype(np.float32) for name, ends in parts.items()}
            self.proximal = tuple(drawn[name] if name in prox else None for name in parts)
        self.samples = samples
        self.options = {"model_bits": 8, "residual_bits": 8, "gradient_bits": 32, "seed": 2**40 + seed} | options
        self.start = (generator.standard_normal(features) / features**0.5).astype(np.float32)

    def rows_held(self):
        rows = integer.IntegerRows(
            self.features, self.bits, self.samples, self.stride, self.low, self.step, self.table
        )
        rows.hold(self.packed, self.y, self.weights)
        return rows

    def state(self, batch, noise=None):
        options = self.options | {"loss": getattr(integer, self.loss.upper()), "proximal": self.proximal or None}
        return integer.IntegerState(self.features, batch, self.curvature, noise, **options)

    def run(self, order, steps, batch, threads, noise=None):
        state = self.state(batch, noise)
        state.weights[: self.features], state.bias, state.steps = self.start, 0.25, 7
        result = state.run(self.rows_held(), np.asarray(order, np.uintp), np.asarray(steps, np.float32), threads)
        assert state.steps == 7 + len(steps)
        return state, result

    def reference(self, order, steps, batch):
        o = self.options
        bits = (o["model_bits"], o["residual_bits"], o["gradient_bits"])
        return reference.integer_sgd(
            self.u, self.y, self.low, self.step, order, steps, batch, self.bits, self.curvature, *bits, o["seed"],
            self.start, 0.25, 7, self.loss, self.weights, self.proximal,
        )  # fmt: skip

    def check(self, order, batch, threads=(1, 2, 3)):
        """Every level and number of threads against the specification, to the bit."""
        steps = np.full(-(-len(order) // batch), 0.3 / max(4, self.features / batch * 4), np.float32)
        x, bias, model, gradient, loss = self.reference(order, steps, batch)
        for level in simd.levels():
            for count in threads:
                with simd.use(level):
                    state, (found, noise, finite) = self.run(order, steps, batch, count)
                name = f"{level}, {count} threads"
                assert finite and noise == 0
                np.testing.assert_array_equal(state.rounded, model, err_msg=name)
                np.testing.assert_array_equal(state.gradient, gradient, err_msg=name)
                np.testing.assert_array_equal(state.weights[: self.features], x, err_msg=name)
                assert state.bias == bias, name
                assert not state.weights[self.features :].any()
                np.testing.assert_allclose(found, loss, rtol=1e-12)


def shuffled(rows, seed=0):
    return np.random.default_rng(seed).permutation(rows)


@pytest.mark.parametrize("table", [False, True], ids=["uniform", "table"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_same_bits_everywhere(bits, table):
    Problem(300, 701, bits, table=table).check(shuffled(300), 130)


@pytest.mark.parametrize(("bits", "samples"), [(2, 3), (3, 2), (4, 2), (4, 7), (6, 3), (8, 2)])
def test_several_samples(bits, samples):
    Problem(90, 130, bits, samples).check(shuffled(90), 64)


@pytest.mark.parametrize("model_bits", [4, 8, 16])
@pytest.mark.parametrize("residual_bits", [4, 8, 16])
@pytest.mark.parametrize(("bits", "table"), [(1, False), (2, False), (3, False), (4, False), (4, True), (6, True), (8, False)])
def test_precisions(bits, table, residual_bits, model_bits):
    problem = Problem(150, 333, bits, table=table, model_bits=model_bits, residual_bits=residual_bits)
    problem.check(shuffled(150), 70, threads=(2,))


@pytest.mark.parametrize("gradient_bits", [4, 8, 16])
def test_rounded_gradient(gradient_bits):
    Problem(200, 1100, 4, gradient_bits=gradient_bits).check(shuffled(200), 100)


@pytest.mark.parametrize("table", [False, True], ids=["uniform", "table"])
@pytest.mark.parametrize("features", [1, 2, 63, 64, 65, 127, 128, 129, 513])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 8])
def test_widths(bits, features, table):
    Problem(37, features, bits, table=table).check(shuffled(37), 19, threads=(1, 3))


@pytest.mark.parametrize("bits", [4, 6])
def test_one_table_for_all(bits):
    Problem(100, 90, bits, table=True, shared=True).check(shuffled(100), 64)


@pytest.mark.parametrize("bits", [3, 4])
def test_small(bits):
    Problem(1, 1, bits).check([0], 1)
    Problem(1, 90, bits).check([0, 0, 0], 2)
    Problem(50, 17, bits).check(shuffled(50), 4096)  # a batch larger than the data
    Problem(50, 17, bits, constant=range(0, 17, 2)).check(shuffled(50), 16)
    Problem(50, 9, bits, constant=range(9)).check(shuffled(50), 16)


@pytest.mark.parametrize("batch", [1, 15, 16, 17, 64, 65, 256, 511, 512, 1024, 1500])
def test_batches(batch):
    Problem(1500, 70, 4).check(shuffled(1500), batch, threads=(1, 2, 5))


@pytest.mark.parametrize("model_bits", [8, 16])
@pytest.mark.parametrize("codes", [255, 128])
def test_no_overflow(codes, model_bits):
    features = 100_000
    problem = Problem(20, features, 8, model_bits=model_bits, residual_bits=model_bits)
    problem.packed[:, :features] = codes
    problem.u = np.full((20, features), codes)
    problem.start[:] = 1
    problem.step[:] = 1
    problem.y[:] = -1
    problem.check(np.arange(20), 20, threads=(2,))
    problem.start[:] = -1
    problem.check(np.arange(20), 20, threads=(2,))


def test_rows_at_the_end_of_memory():
    """The last row ends where its array ends: nothing beyond it is read into a result."""
    for bits in range(1, 9):
        problem = Problem(33, 70, bits)
        assert problem.stride == -(-70 * bits // 8) or problem.stride % 64 == 0
        problem.check(np.full(33, 32), 33, threads=(1,))


@pytest.mark.parametrize("skew", [0, 1, 16, 63])
def test_rows_anywhere_in_memory(skew):
    problem = Problem(100, 256, 4)
    room = integer.aligned_empty((problem.packed.size + 64,), np.uint8)
    assert room.ctypes.data % 64 == 0
    moved = room[skew : skew + problem.packed.size].reshape(problem.packed.shape)
    moved[:] = problem.packed
    problem.packed = moved
    problem.check(shuffled(100), 50, threads=(1, 2))


PARTS = ("shrink", "ridge", "low", "high")


@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
@pytest.mark.parametrize("prox", [(), PARTS], ids=["plain", "proximal"])
@pytest.mark.parametrize("loss", ["squared", "logistic", "hinge"])
def test_losses_weights_and_proximal_steps(loss, prox, weighted):
    Problem(301, 133, 4, loss=loss, weighted=weighted, prox=prox).check(shuffled(301), 70)
    options = {"loss": loss, "weighted": weighted, "prox": prox, "gradient_bits": 8, "model_bits": 16}
    Problem(90, 701, 6, table=True, **options).check(shuffled(90), 37)


@pytest.mark.parametrize("part", PARTS)
def test_parts_of_the_proximal_step(part):
    Problem(60, 70, 3, prox=(part,)).check(shuffled(60), 16, threads=(1, 2))
    Problem(60, 70, 3, prox=[name for name in PARTS if name != part]).check(shuffled(60), 16, threads=(1, 2))


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
@pytest.mark.parametrize("batch", [1, 15, 17, 65, 512])
def test_slabs_that_are_not_whole(batch, loss):
    """Lanes beyond the last row add nothing to a loss that is not 0 at a prediction of 0."""
    Problem(130, 9, 4, loss=loss, weighted=True).check(shuffled(130), batch, threads=(1, 2))


def test_noise_counts_weights():
    problem = Problem(100, 50, 4, weighted=True)
    noise = np.linspace(0, 1, 50).astype(np.float32)
    state, (_, found, _) = problem.run(np.arange(100), [0.1], 100, 2, noise)
    expected = problem.weights.sum(dtype=float) * np.sum(noise.astype(float) * state.rounded.astype(float) ** 2) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_resume():
    problem = Problem(400, 300, 4)
    order, steps = shuffled(400).astype(np.uintp), np.linspace(0.1, 0.01, 8).astype(np.float32)
    whole, _ = problem.run(order, steps, 50, 2)
    state = integer.IntegerState(300, 50, problem.curvature, **problem.options)
    state.weights[:300], state.bias, state.steps = problem.start, 0.25, 7
    state.run(problem.rows_held(), order[:150], steps[:3], 2)
    again = integer.IntegerState(300, 50, problem.curvature, **problem.options)
    again.weights[:], again.bias, again.steps = state.weights, state.bias, state.steps
    again.run(problem.rows_held(), order[150:], steps[3:], 1)
    np.testing.assert_array_equal(again.weights, whole.weights)
    assert again.bias == whole.bias


def test_prediction_is_that_of_the_rounded_model():
    problem = Problem(64, 500, 4, model_bits=4)
    state, (loss, noise, _) = problem.run(np.arange(64), [0.1], 64, 2, noise=np.full(500, 0.5, np.float32))
    values = problem.low.astype(float) + problem.step.astype(float) * problem.u
    x = state.rounded.astype(float)
    e = values @ x + 0.25 - problem.y
    np.testing.assert_allclose(loss, np.sum(e**2) / 2, rtol=1e-5)
    np.testing.assert_allclose(noise, 64 * 0.5 * np.sum(x**2) / 2, rtol=1e-5)
    np.testing.assert_allclose(state.bias, 0.25 - 0.1 * e.mean(), rtol=1e-5)


@pytest.mark.parametrize(("model_bits", "residual_bits"), [(4, 16), (16, 4), (8, 8)])
def test_rounding_is_unbiased(model_bits, residual_bits):
    """Over seeds: mean of model, prediction and gradient are the exact ones; the variance is that of stochastic rounding."""
    problem = Problem(16, 40, 4, model_bits=model_bits, residual_bits=residual_bits)
    draws, models, gradients = 3000, [], []
    problem.curvature[:] = 0
    for seed in range(draws):
        problem.options["seed"] = seed
        state, _ = problem.run(np.arange(16), [0.1], 16, 1)
        models.append(state.rounded.astype(float))
        gradients.append(state.gradient.astype(float))
    models, gradients = np.array(models), np.array(gradients)
    values = problem.low.astype(float) + problem.step.astype(float) * problem.u
    level_count = {4: 7, 8: 127, 16: 32639}

    def variance(v, levels):
        unit = np.abs(v).max() / levels
        part = np.abs(v) / unit % 1
        return unit**2 * part * (1 - part)

    w = problem.start.astype(float) * problem.step
    model_variance = variance(w, level_count[model_bits]) / problem.step.astype(float) ** 2
    z = (models.mean(axis=0) - problem.start) / np.sqrt(model_variance / draws + 1e-16)
    assert np.abs(z).max() < 5 and np.mean(z**2) < 2
    np.testing.assert_allclose(models.var(axis=0), model_variance, rtol=0.2, atol=1e-3 * model_variance.max())

    exact = values.T @ (values @ problem.start + 0.25 - problem.y) / 16
    z = (gradients.mean(axis=0) - exact) / np.sqrt(gradients.var(axis=0) / draws + 1e-14)
    assert np.abs(z).max() < 5 and np.mean(z**2) < 3
    # given the model, residuals are rounded independently of each other
    e = models @ values.T + 0.25 - problem.y
    added = np.mean([variance(row, level_count[residual_bits]) for row in e], axis=0)
    through_model = np.var(e @ values / 16, axis=0)
    expected = through_model + (values**2).T @ added / 16**2
    np.testing.assert_allclose(gradients.var(axis=0), expected, rtol=0.2)


def test_divergence_is_seen():
    problem = Problem(640, 50, 4)
    for threads in (1, 2):
        _, (_, _, finite) = problem_run_wild(problem, threads)
        assert not finite


def problem_run_wild(problem, threads):
    state = integer.IntegerState(problem.features, 64, problem.curvature, **problem.options)
    state.weights[: problem.features] = problem.start
    return state, state.run(
        problem.rows_held(), shuffled(640).astype(np.uintp), np.full(10, 1e20, np.float32), threads
    )


def test_refusals():
    problem = Problem(10, 20, 4)
    with pytest.raises(ValueError, match="bits"):
        integer.IntegerState(20, 5, problem.curvature, model_bits=32)
    with pytest.raises(ValueError, match="table"):
        integer.IntegerRows(20, 4, 1, 10, problem.low, problem.step, np.zeros((20, 8), np.uint8))
    with pytest.raises(ValueError, match="labels"):
        problem.rows_held().hold(problem.packed, problem.y[:5])
    state = integer.IntegerState(21, 5, np.zeros(21, np.float32))
    with pytest.raises(ValueError, match="features"):
        state.run(problem.rows_held(), np.arange(10, dtype=np.uintp), np.ones(2, np.float32), 1)
    state = integer.IntegerState(20, 5, problem.curvature)
    with pytest.raises(ValueError, match="2 steps"):
        state.run(problem.rows_held(), np.arange(10, dtype=np.uintp), np.ones(1, np.float32), 1)
    assert state.run(problem.rows_held(), np.empty(0, np.uintp), np.empty(0, np.float32), 1) == (0.0, 0.0, True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_fork():
    problem = Problem(600, 200, 4)
    order, steps = shuffled(600), np.full(5, 0.01)
    before, _ = problem.run(order, steps, 128, 2)
    child = os.fork()
    if child == 0:
        after, _ = problem.run(order, steps, 128, 2)
        os._exit(0 if np.array_equal(after.weights, before.weights) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(("rows", "features", "batch"), [(300, 130, 70), (5, 1, 2), (64, 64, 64), (600, 333, 300)])
def test_dense(rows, features, batch):
    """The float32 peer: the same bits at every level and number of threads, and nearly those of a plain step."""
    generator = np.random.default_rng(features)
    X = generator.standard_normal((rows, features)).astype(np.float32) + np.float32(0.5)
    y, mean, scale = X[:, 0].copy(), X.mean(axis=0), 1 / (X.std(axis=0) + np.float32(0.1))
    order, curvature = shuffled(rows).astype(np.uintp), np.full(features, 0.01, np.float32)
    steps = np.full(-(-rows // batch), 0.5 / (4 + features / batch), np.float32)
    x, bias, loss = np.zeros(features), 0.0, 0.0
    for start, step in zip(range(0, rows, batch), steps.astype(float), strict=True):
        at = order[start : start + batch]
        Z = (X[at].astype(float) - mean) * scale
        e = Z @ x + bias - y[at]
        loss += np.sum(e**2) / 2
        x = x - step * (Z.T @ e / len(at) + curvature * x)
        bias -= step * e.mean()
    found = []
    for level in simd.levels():
        for threads in (1, 2, 3):
            with simd.use(level):
                state = integer.DenseState(features, batch, curvature, mean, scale)
                total, finite = state.run(X, y, order, steps, threads)
            found.append(np.append(state.weights, [state.bias, total]))
            assert finite
    np.testing.assert_allclose(found[0], np.r_[x, np.zeros(-features % 64), bias, loss], rtol=1e-4, atol=1e-5)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
