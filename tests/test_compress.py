"""Compression: every source to the same bytes, statistics and noise against exact data, bad data that leave nothing behind."""

import subprocess
import sys
import time
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import reference as ref

from zipml_codec import compress
from zipml_codec import open as open_file
from zipml_codec.errors import DataError, OptionError, PrecisionWarning
from zipml_codec.kernels import simd
from zipml_codec.tables import grid_steps


def table(rows=700, features=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, features)).astype(np.float32) * np.float32(3)
    X[:, 1::4] = np.float32(0.1)
    return X, rng.normal(size=rows).astype(np.float32)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, X, y=None, **options):
    with compress(X, y, path=path, overwrite=True, **options) as data:
        return data


class Blocks:
    """Blocks of one size, as often as wanted."""

    def __init__(self, X, y=None, size=100):
        self.X, self.y, self.size = X, y, size

    def __iter__(self):
        for start in range(0, len(self.X), self.size):
            part = slice(start, start + self.size)
            yield self.X[part] if self.y is None else (self.X[part], self.y[part])


# ---- Sources ----


def memmap(X, path):
    np.save(path / "X.npy", X)
    return np.load(path / "X.npy", mmap_mode="r")


SOURCES = {
    "memmap": memmap,
    "fortran": lambda X, _: np.asfortranarray(X),
    "float64": lambda X, _: X.astype(np.float64),
    "strided": lambda X, _: np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
    "backwards": lambda X, _: X[::-1].copy()[::-1],
    "big endian": lambda X, _: X.astype(">f4"),
    "list": lambda X, _: X.tolist(),
    "blocks": lambda X, _: Blocks(X),
    "one block": lambda X, _: [X],
    "generator": lambda X, _: (block for block in Blocks(X, size=64)),
    "mixed dtypes": lambda X, _: [X[:10], X[10:300].astype(np.float64), np.asfortranarray(X[300:])],
    "one buffer": lambda X, _: one_buffer(X),
}


def one_buffer(X):
    """Fills the same buffer again and again, as loaders do."""
    buffer = np.empty((100, X.shape[1]), np.float32)
    for block in Blocks(X):
        buffer[: len(block)] = block
        yield buffer[: len(block)]


def comparable(data):
    """All that a file holds but for the name of its source."""
    with open_file(data.path) as file:
        names = ("levels", "low", "high", "mean", "std", "noise", "error", "sample_rows", "sample_values")
        arrays = [getattr(file, name).tobytes() for name in names]
        labels = None if file.labels is None else file.labels.tobytes()
        return file.shape, file.packed().tobytes(), arrays, labels, file.options | {"source": ""}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.filterwarnings("ignore::zipml_codec.errors.PrecisionWarning")
def test_any_source_gives_the_same_file(tmp_path, kind):
    X, _ = table()
    expected = comparable(write(tmp_path / "a", X))
    assert comparable(write(tmp_path / "b", SOURCES[kind](X, tmp_path))) == expected
    assert {*names(tmp_path)} - {"X.npy"} == {"a", "b"}  # nothing of a spool


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int32, np.int64, np.uint64, np.float16])
def test_any_number_gives_the_same_file(tmp_path, dtype):
    X = np.random.default_rng(0).integers(0, 2 if dtype is bool else 100, size=(300, 4)).astype(dtype)
    data = write(tmp_path / "a", X, X[:, 0])
    assert comparable(data) == comparable(write(tmp_path / "b", X.astype(np.float32), X[:, 0].astype(np.float32)))


def test_labels_in_blocks_and_columns(tmp_path):
    X, y = table()
    expected = comparable(write(tmp_path / "a", X, y))
    for labels in (y, y.astype(np.float64), y.tolist(), y[:, None]):
        assert comparable(write(tmp_path / "b", X, labels)) == expected
    assert comparable(write(tmp_path / "b", Blocks(X, y))) == expected
    assert comparable(write(tmp_path / "b", iter(Blocks(X, y, 64)))) == expected
    for bad in (y[:-1], np.zeros((len(y), 0)), y[:, None, None]):
        with pytest.raises(DataError):
            compress(X, bad, path=tmp_path / "c")


@pytest.mark.parametrize("levels", ["optimal", "uniform"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (2, 3), (1000, 1), (3, 20_000), (65_537, 1)])
def test_extreme_shapes(tmp_path, shape, levels):
    X = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    with compress(X, path=tmp_path / "a", levels=levels, bits=3, samples=1) as data:
        assert data.shape == shape and data.decode().shape == shape
        data.verify()
        assert (np.abs(data.decode() - X) <= np.ptp(X, axis=0)).all()
        if len(X) <= 2:  # every value is a feature's least or greatest
            np.testing.assert_array_equal(data.decode(), X)
            assert not data.noise.any() and not data.error.any()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("levels", ["optimal", "uniform"])
def test_constant_columns_are_exact(tmp_path, levels, shared):
    X = np.tile(np.array([0.1, -1e30, 0, 3e38, 7, 1e-40], np.float32), (200, 1))
    X = X[:, [0] * 6] if shared else X
    with compress(X, path=tmp_path / "a", levels=levels, shared_levels=shared) as data:
        np.testing.assert_array_equal(data.decode(), X)
        assert not data.std.any() and not data.noise.any() and not data.error.any()


def test_lost_precision_is_told(tmp_path):
    X = np.random.default_rng(0).normal(size=(100, 3)) + np.array([0, 1e8, 0])
    with pytest.warns(PrecisionWarning, match=r"column 1.*subtract") as caught:
        compress(X, path=tmp_path / "a").close()
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compress(X[:, ::2], path=tmp_path / "b").close()
        compress(np.full((10, 2), 0.1), path=tmp_path / "c").close()  # no constant can be subtracted that helps


@pytest.mark.parametrize("levels", ["optimal", "uniform"])
def test_a_column_beyond_float32_levels_is_named(tmp_path, levels):
    X = np.random.default_rng(0).normal(size=(100, 3)) * np.array([1, 1e-41, 1])
    path = tmp_path / "x.csv"
    path.write_text("a,tiny,c\n" + "".join(",".join(map(repr, row)) + "\n" for row in X.astype(np.float32).tolist()))
    for source, name in ((X.astype(np.float32), "column 1"), (path, "column 'tiny'")):
        with pytest.raises(DataError, match=f"{name}: the range .*e-41 is too narrow .*: multiply the column by a constant"):
            compress(source, path=tmp_path / "a", levels=levels)
    X[:, 1] = np.linspace(-3e38, 3e38, 100)
    with pytest.raises(DataError, match=r"column 1: the range -3e\+38\.\.3e\+38 is too wide"):
        compress(X.astype(np.float32), path=tmp_path / "a", levels=levels)


@pytest.mark.parametrize("y", [1e9 + np.arange(3000.0), 2**30 + np.arange(3000)])
@pytest.mark.parametrize("nonfinite", ["raise", "drop"])
def test_lost_precision_of_labels_is_told(tmp_path, y, nonfinite):
    """Float32 has steps of 64 at 1e9, and of 128 at 2**30. Moving all alike, or by 1e-8 of the range, is nothing to tell."""
    X = np.random.default_rng(0).normal(size=(3000, 2)).astype(np.float32)
    with pytest.warns(PrecisionWarning, match=r"labels: .*by up to (6|128).*range of 2999; subtract") as caught:
        compress(X, y, path=tmp_path / "a", nonfinite=nonfinite).close()
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i, fine in enumerate((y - y[0], np.full(3000, 1e9 + 1), y[0] + 1e9 * X[:, 0].astype(float), y % 7)):
            compress(X, fine, path=tmp_path / f"b{i}").close()


# ---- The same bytes ----


@pytest.mark.parametrize("zstd", [None, 1])
@pytest.mark.parametrize(
    "options", [{}, {"levels": "uniform", "shared_levels": True}, {"shared_levels": True, "bits": 7}], ids=str
)
def test_bytes_do_not_depend_on_how_they_were_made(tmp_path, options, zstd):
    X, y = table(70_000, 6)
    path = tmp_path / "f"

    def made(source, *labels, **more):
        compress(source, *labels, path=path, overwrite=True, zstd=zstd, **options, **more).close()
        return path.read_bytes()

    whole = made(X, y)
    assert all(made(X, y, threads=threads) == whole for threads in (1, 2, 5))
    by_blocks = made(Blocks(X, y, 70_000))
    assert all(made(Blocks(X, y, size)) == by_blocks for size in (33, 1000, 65_536))
    for level in simd.levels():
        with simd.use(level):
            assert made(X, y) == whole, level


def test_bytes_do_not_depend_on_the_clock(tmp_path):
    X, y = table()
    for name in "ab":
        compress(X, y, path=tmp_path / name).close()
        time.sleep(1.1)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_sign_of_zero_does_not_depend_on_threads(tmp_path):
    X = np.abs(table(60_000, 3)[0])
    X[::7], X[5::11], X[0] = 0.0, -0.0, 5
    contents = set()
    for threads in (1, 2, 3, 4, 8) * 3:
        compress(X, path=tmp_path / "f", overwrite=True, threads=threads).close()
        with h5py.File(tmp_path / "f") as file:
            contents.add((file["low"][()].tobytes(), int(file.attrs["xxh3"])))
    assert len(contents) == 1


# ---- Values that are not numbers ----


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 1, 699, 70_001])
@pytest.mark.parametrize(
    "kind", [lambda X: X, Blocks, lambda X: X.astype(np.float64)], ids=["array", "blocks", "float64"]
)
def test_bad_values_are_named(tmp_path, bad, row, kind):
    X = np.resize(table()[0], (max(700, row + 5), 5))
    X[row, 3] = X[-1, 4] = bad
    with pytest.raises(DataError, match=rf"row {row + 1}, column index 3: the value is {bad}.*drop"):
        compress(kind(X), path=tmp_path / "a")
    assert names(tmp_path) == []


def test_values_beyond_float32_are_named(tmp_path):
    X = table()[0].astype(np.float64)
    X[6, 2] = -1e39
    with pytest.raises(DataError, match=r"row 7, column index 2: the value is -inf, or beyond float32: .*drop"):
        compress(X, path=tmp_path / "a")


@pytest.mark.parametrize("row", [0, 400, 66_000])
def test_bad_labels_are_named(tmp_path, row):
    X, y = table(70_000)
    y[row] = np.nan
    with pytest.raises(DataError, match=rf"row {row + 1}, label"):
        compress(X, y, path=tmp_path / "a")
    assert names(tmp_path) == []


@pytest.mark.parametrize("rows", [700, 70_000])
@pytest.mark.parametrize(
    "kind",
    [lambda *a: a, lambda *a: (Blocks(*a, 33),), lambda *a: (iter(Blocks(*a)),)],
    ids=["array", "blocks", "generator"],
)
def test_bad_rows_are_left_out(tmp_path, rows, kind):
    X, y = table(rows)
    rng = np.random.default_rng(1)
    bad = rng.choice(rows, 50, replace=False)
    X[bad[:20], rng.integers(0, 5, 20)], X[bad[20:40], 2], y[bad[40:]] = np.nan, -np.inf, np.inf
    good = np.setdiff1d(np.arange(rows), bad)
    data = write(tmp_path / "a", *kind(X, y), nonfinite="drop")
    assert data.shape == (len(good), 5)
    shape, *content, options = comparable(data)
    assert options.pop("dropped_rows") == 50 and options.pop("nonfinite") == "drop"
    *expected, other = comparable(write(tmp_path / "b", X[good], y[good]))
    assert [shape, *content] == expected and other.items() >= options.items()


def test_nothing_is_left(tmp_path):
    with pytest.raises(DataError, match="all 3"):
        compress(np.full((3, 2), np.nan), path=tmp_path / "a", nonfinite="drop")
    for empty in (np.empty((0, 3)), [], iter([]), [np.empty((0, 3))]):
        with pytest.raises(DataError, match=r"no rows|1-D"):
            compress(empty, path=tmp_path / "a")
    assert names(tmp_path) == []


class Changing:
    """Other blocks in the second pass."""

    def __init__(self, first, second):
        self.passes = iter([first, second])

    def __iter__(self):
        return iter([next(self.passes)])


@pytest.mark.parametrize(
    "change", [lambda X: X * 2, lambda X: X[:-1], lambda X: np.vstack([X, X]), lambda X: X[:, 1:], lambda X: X * np.nan]
)
def test_a_source_that_changes(tmp_path, change):
    with pytest.raises(DataError):
        compress(Changing(table()[0], change(table()[0])), path=tmp_path / "a")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "options",
    [
        {"bits": 0}, {"bits": 9}, {"bits": 4.0}, {"bits": True}, {"samples": 0}, {"bits": 2, "samples": 4}, {"levels": "best"},
        {"rounding": "up"}, {"rounding": "nearest", "samples": 2}, {"seed": -1}, {"seed": 2**64}, {"seed": 1.5}, {"zstd": 0},
        {"zstd": 20}, {"zstd": True}, {"threads": 0}, {"nonfinite": "keep"}, {"levels": np.arange(8.0)},
        {"rounding": ["nearest"]},
    ],
    ids=str,
)  # fmt: skip
def test_options_are_checked(tmp_path, options):
    with pytest.raises(OptionError, match=next(iter(options)) + "|samples"):
        compress(table()[0], path=tmp_path / "a", **options)
    assert names(tmp_path) == []


@pytest.mark.parametrize("threads", ["100000", "²", "0", "", "2,1"])
def test_threads_of_the_environment(tmp_path, monkeypatch, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert compress(table()[0], path=tmp_path / "a").shape == (700, 5)


def test_options_may_be_numpys(tmp_path):
    options = {"bits": np.int8(3), "samples": np.int64(1), "seed": np.uint64(7), "zstd": np.int64(3)}
    with compress(table()[0], path=tmp_path / "a", **options) as data:
        assert (data.bits, data.samples, data.seed) == (3, 1, 7)


# ---- What is learnt of the data ----


@pytest.mark.parametrize("offset", [0, 1e6, -3e4])
@pytest.mark.parametrize("threads", [1, 4])
def test_statistics(tmp_path, offset, threads):
    rng = np.random.default_rng(0)
    X = (rng.lognormal(size=(40_000, 7)) * np.geomspace(1, 1000, 7) + offset).astype(np.float32)
    data, exact = write(tmp_path / "a", X, threads=threads), X.astype(np.float64)
    np.testing.assert_array_equal(data.low, X.min(axis=0))
    np.testing.assert_array_equal(data.high, X.max(axis=0))
    centre = exact - np.float64(offset)
    np.testing.assert_allclose(data.mean - offset, centre.mean(axis=0), rtol=1e-9, atol=1e-9 * centre.std(axis=0).min())
    np.testing.assert_allclose(data.std, exact.std(axis=0), rtol=1e-9)


def bounds(data, X):
    """The levels around each value, float64."""
    levels = np.broadcast_to(data.levels, (X.shape[1], data.levels.shape[1])).astype(np.float64)
    i = np.stack(
        [np.clip(np.searchsorted(L, x, side="right") - 1, 0, len(L) - 2) for L, x in zip(levels, X.T, strict=True)],
        axis=1,
    )
    f = np.arange(X.shape[1])
    return levels[f, i], levels[f, i + 1]


@pytest.mark.parametrize("levels", ["optimal", "uniform"])
@pytest.mark.parametrize("exponent", [-80, 100])
def test_noise_of_columns_of_any_scale(tmp_path, levels, exponent):
    """A power of two scales levels exactly, and variances by its square: which float32, that rows are in, does not hold."""
    X = table()[0]
    with compress(X, path=tmp_path / "a", levels=levels) as one:
        with compress(X * np.float32(2.0**exponent), path=tmp_path / "b", levels=levels) as other:
            np.testing.assert_array_equal(other.codes(), one.codes())
            np.testing.assert_array_equal(other.noise, one.noise * 4.0**exponent)
            np.testing.assert_array_equal(other.error, one.error * 4.0**exponent)
            assert np.count_nonzero(one.noise) == 4  # column 1 is constant


@pytest.mark.parametrize(("bits", "samples"), [(1, 1), (3, 1), (8, 1), (4, 2), (3, 3), (5, 3)])
@pytest.mark.parametrize(
    ("levels", "shared"), [("optimal", False), ("optimal", True), ("uniform", False), ("uniform", True)]
)
def test_noise_and_error(tmp_path, bits, samples, levels, shared):
    rng = np.random.default_rng(bits)
    X = rng.normal(size=(20_000, 6)).astype(np.float32) * np.float32([1, 2, 1, 3, 1, 1])
    X[:, 4] = rng.integers(0, 4, len(X))
    X[:, 5] = 0.5
    with compress(
        X, path=tmp_path / "a", bits=bits, samples=samples, levels=levels, shared_levels=shared, seed=5
    ) as data:
        lower, upper = bounds(data, X)
        exact = X.astype(np.float64)
        noise = ((upper - exact) * (exact - lower)).mean(axis=0) / samples
        np.testing.assert_allclose(data.noise, noise, rtol=1e-5, atol=1e-7 * noise.max())
        error = ((data.decode() - exact) ** 2).mean(axis=0)
        np.testing.assert_allclose(data.error, error, rtol=1e-4, atol=1e-7 * error.max())
        # the noise is the error's expectation; a squared error is at most the interval's square
        width = (upper - lower).max(axis=0) / samples
        sigma = width * np.sqrt(noise / len(X))
        assert (np.abs(data.error - data.noise) <= 6 * sigma + 1e-12).all()


DISTRIBUTIONS = {
    "normal": lambda rng: rng.normal(size=30_000),
    "lognormal": lambda rng: rng.lognormal(size=30_000),
    "uniform": lambda rng: rng.random(30_000),
    "two peaks": lambda rng: np.append(rng.normal(size=20_000), rng.normal(20, 0.5, 10_000)),
    "laplace": lambda rng: rng.laplace(size=30_000) + 100,
    "zeros": lambda rng: np.maximum(rng.normal(size=30_000), 0),
    "integers": lambda rng: rng.poisson(3, 30_000),
    "outlier": lambda rng: np.append(rng.normal(size=29_999), 1e4),
}


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
@pytest.mark.parametrize(("bits", "samples"), [(2, 1), (3, 1), (4, 2), (4, 1), (5, 1), (8, 1)])
def test_optimal_levels(tmp_path, kind, bits, samples):
    """Never worse than uniform ones; the optimum on the grid; near the exact optimum, where the grid is fine enough for it."""
    x = DISTRIBUTIONS[kind](np.random.default_rng(3)).astype(np.float32)
    costs = {}
    for levels in ("optimal", "uniform"):
        data = write(tmp_path / "a", x[:, None], bits=bits, samples=samples, levels=levels)
        costs[levels] = ref.levels_cost(x, data.levels[0])
    assert costs["optimal"] <= costs["uniform"] * (1 + 1e-6)
    s = ref.intervals(bits, samples)
    if bits <= 5:  # the optimum on the grid, but for what cells of a histogram cannot tell
        on_grid = ref.levels_cost(x, ref.grid_levels(x, grid_steps(bits, samples), s))
        assert (
            costs["optimal"]
            <= (1.05 if kind in ("outlier", "integers", "zeros") else 1.01) * on_grid + 1e-6 * costs["uniform"]
        )
    if bits <= 4 and kind not in ("outlier", "integers", "zeros"):
        points, counts = np.unique(np.round((x.astype(np.float64) - x.min()) / np.ptp(x) * 800), return_counts=True)
        best = ref.dp_levels(points, s, counts)
        best = x.min() + best * np.ptp(x.astype(np.float64)) / 800
        best[[0, -1]] = x.min(), x.max()
        assert costs["optimal"] <= 1.02 * ref.levels_cost(x, best)


# ---- Memory ----

MEMORY = """
import sys
import zipml_codec
zipml_codec.compress(sys.argv[1], path=sys.argv[2])
# not ru_maxrss, which a child inherits from pytest
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(("rows", "limit"), [(25_000, 250), pytest.param(250_000, 424, marks=pytest.mark.slow)])
def test_memory_is_bounded(tmp_path, rows, limit):
    block = np.random.default_rng(0).normal(size=(5000, 1000)).astype(np.float32)
    source = tmp_path / "X.npy"
    array = np.lib.format.open_memmap(source, "w+", np.float32, (rows, 1000))
    for start in range(0, rows, 5000):
        array[start : start + 5000] = block
    del array
    command = [sys.executable, "-c", MEMORY, str(source), str(tmp_path / "f")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    source.unlink()
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < limit, f"{done.stdout} MiB"
    with open_file(tmp_path / "f") as data:
        assert data.shape == (rows, 1000)
