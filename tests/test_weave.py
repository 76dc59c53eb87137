"""Files of planes: as section 7 of FORMAT.md has them, by h5py and tests/reference.py alone; without bias; in all uses.

The kernels are held against the reference in test_weave_kernels.py; here it is the file, its reader, and training from it.
"""

import json
import multiprocessing
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import h5py
import minimal_reader
import numpy as np
import pytest
import reference as ref
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make_golden import rows_from
from sealing import edited
from workers import said, work

import zipml_codec as zipml
from zipml_codec import journal, stream
from zipml_codec.cli import main
from zipml_codec.errors import CorruptError, DataError, FormatError, OptionError
from zipml_codec.formats import header as header_module
from zipml_codec.formats import planes as planes_module
from zipml_codec.formats.arrays import array_source
from zipml_codec.formats.partial import Partial
from zipml_codec.formats.writer import ContainerWriter

FAR = 5.5  # standard deviations: a normal is farther from 0 once in 26 million


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def table(rows, features, seed=0):
    """Smooth, constant, whole-numbered, binary, far and heavy-tailed columns, and of three values."""
    rng = np.random.default_rng([seed, rows, features])
    X = rng.normal(size=(rows, features)).astype(np.float32) * np.float32(3)
    X[:, 1::8] = np.float32(0.1)
    X[:, 2::8] = rng.integers(-3, 9, X[:, 2::8].shape)
    X[:, 3::8] = rng.integers(0, 2, X[:, 3::8].shape)
    X[:, 4::8] += 1000
    X[:, 5::8] = np.exp(X[:, 5::8] / 2)
    X[:, 6::8] = 0
    X[:, 7::8] = rng.choice(np.float32([-1.5, 0.1, 7]), X[:, 7::8].shape)
    return X


@contextmanager
def chunks_of(size):
    before, header_module.CHUNK_BYTES = header_module.CHUNK_BYTES, size
    yield
    header_module.CHUNK_BYTES = before


class Stored:
    """What a file holds, by h5py and tests/reference.py alone."""

    def __init__(self, path):
        with h5py.File(path) as file:
            about = file.attrs
            self.rows, self.features, self.bits, self.coarsest, self.seed, self.first, self.chunk_rows = (
                int(about[name])
                for name in ("rows", "features", "bits", "coarsest", "seed", "row_offset", "chunk_rows")
            )
            assert (about["layout"], about["samples"], about["rounding"], about["zstd"]) == (
                "weave",
                1,
                "stochastic",
                0,
            )
            self.uniform, self.options = about["level_kind"] == "uniform", json.loads(about["options"])
            codes, self.arrays = file["codes"], {name: file[name][()] for name in file if name != "codes"}
            assert codes.shape == (self.bits, self.rows, ref.stride(self.features, 1))
            assert codes.chunks == (self.bits, self.chunk_rows, codes.shape[2])
            starts = range(0, self.rows, self.chunk_rows)
            self.chunks = [codes.id.read_direct_chunk((0, start, 0))[1] for start in starts]
            self.sums = ref.unweave(codes[()], self.features, self.bits).astype(int)
        self.levels = np.broadcast_to(self.arrays["levels"], (self.features, self.arrays["levels"].shape[1]))
        self.top = (2**self.coarsest - 1) * 2 ** (self.bits - self.coarsest)
        self.h = ref.dither(self.rows, self.features, 8, self.seed, self.first).astype(int)

    def codes(self, p):
        """Codes of precision p: the upper bits, less the dither's own."""
        return (self.sums >> (self.bits - p)) - (self.h >> (8 - (p - self.coarsest)))

    def levels_at(self, p):
        """Levels of precision p as the file would hold them: float32."""
        step = 2 ** (self.bits - p)
        if not self.uniform:
            return self.levels[:, ::step]
        if p == self.bits:
            return self.levels
        low, high = self.levels.astype(np.float64).T
        most = low + (high - low) / (2**self.bits - 1) * ((2**p - 1) * step)
        return np.stack([low, most], axis=1).astype(np.float32)

    def values(self, p):
        levels, codes = self.levels_at(p), self.codes(p)
        decode = (lambda: ref.decode_uniform(codes, *levels.T, p, 1)) if self.uniform else None
        return decode() if decode else ref.decode_table(codes, levels, p, 1)

    def encoded(self, X):
        """Codes of the data on the file's levels."""
        known = (self.bits, 1, self.seed, self.first)
        return (
            ref.encode_uniform(X, *self.levels.T, *known) if self.uniform else ref.encode_table(X, self.levels, *known)
        )

    def grid(self):
        """Levels in float64: uniform ones as they are meant, without float32's rounding."""
        if not self.uniform:
            return self.levels.astype(np.float64)
        low, high = self.levels.astype(np.float64).T
        return low[:, None] + np.arange(2**self.bits) * ((high - low) / (2**self.bits - 1))[:, None]


def check_levels(file, X):
    """Section 7's formulas."""
    b, P, top, L = file.bits, file.coarsest, file.top, file.levels
    low, high = X.min(axis=0) + np.float32(0), X.max(axis=0) + np.float32(0)
    if file.arrays["levels"].shape[0] < file.features:
        low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
    np.testing.assert_array_equal(L[:, 0], low)
    if file.uniform:
        hi, codes = L[:, 1], 2**b - 1
        span = hi.astype(np.float64) - low
        inverse = np.divide(codes, span, out=np.zeros_like(span), where=span > 0).astype(np.float32)
        inverse = np.where((hi - low) * inverse < codes, np.nextafter(inverse, np.float32(np.inf)), inverse)
        assert ((high - low) * np.where(span > 0, inverse, np.float32(0)) <= top).all()
        meant = low + (high.astype(np.float64) - low) * (codes / top)
        assert (np.abs(hi - meant) <= 4 * (2.0**-23 * np.maximum(np.abs(hi), np.abs(low)) + 2.0**-24 * span)).all()
        return
    w, coarse = 2 ** (b - P), L[:, : top + 1 : 2 ** (b - P)].astype(np.float64)
    for j, i in product(range(2**P - 1), range(w)):
        fine = coarse[:, j] + i * 2.0 ** (P - b) * (coarse[:, j + 1] - coarse[:, j])
        np.testing.assert_array_equal(L[:, j * w + i], fine.astype(np.float32))
    np.testing.assert_array_equal(L[:, top:], np.repeat(high[:, None], w, axis=1))
    G, spread = (2**P - 1) * (255 // 2 ** (6 - P) // (2**P - 1)) if P <= 6 else 0, coarse[:, -1] - coarse[:, 0]
    assert file.options["grid_steps"] in (0, G)
    if file.options["grid_steps"]:
        places = (coarse - coarse[:, :1]) / np.where(spread > 0, spread, 1)[:, None] * G
        assert np.abs(places - np.rint(places)).max() < 0.01


def check_file(path, X):
    """A file of planes is what section 7 says: levels, codes, planes, digests, noise; and what our reader gives is that."""
    file = Stored(path)
    check_levels(file, X)
    codes = file.encoded(X)
    assert codes.max() <= file.top
    np.testing.assert_array_equal(file.codes(file.bits), codes)
    for chunk, digests in zip(file.chunks, file.arrays["digests"], strict=True):
        size = file.chunk_rows * ref.stride(file.features, 1)
        assert len(chunk) == file.bits * size and len(digests) == file.bits
        for k in range(file.bits):
            assert xxhash.xxh3_64_intdigest(chunk[k * size : (k + 1) * size]) == digests[k]
    padded = np.pad(file.sums, ((0, len(file.chunks) * file.chunk_rows - file.rows), (0, 0)))
    woven = [ref.weave(part.astype(np.uint8), file.bits) for part in np.split(padded, len(file.chunks))]
    assert [part.tobytes() for part in woven] == file.chunks
    check_noise(file, X, codes)
    for p in range(file.coarsest, file.bits + 1):
        expected, values = file.codes(p), file.values(p)
        assert expected.min() >= 0 and expected.max() <= 2**p - 2 ** (p - file.coarsest)
        with zipml.open(path, precision=p) as data:
            assert (data.bits, data.stored_bits, data.coarsest) == (p, file.bits, file.coarsest)
            np.testing.assert_array_equal(data.codes(), expected)
            np.testing.assert_array_equal(data.decode(), values)
            noise = file.arrays["plane_noise"][p - file.coarsest] if p < file.bits else file.arrays["noise"]
            np.testing.assert_array_equal(data.noise, noise)
            np.testing.assert_array_equal(data.noises[p], noise)
        other = minimal_reader.read(path, p)
        np.testing.assert_array_equal(other["codes"], expected)
        np.testing.assert_array_equal(other["values"], values)
    return file


def check_noise(file, X, codes):
    """plane_noise is noise and the variance of rounding the codes to those of each precision, noise that of the data to all."""
    grid, feature, K = file.grid(), np.arange(file.features), file.rows
    assert file.arrays["plane_noise"].shape == (file.bits - file.coarsest, file.features)
    for p, found in enumerate(file.arrays["plane_noise"], file.coarsest):
        w, here = 2 ** (file.bits - p), np.zeros(file.features)
        for t in codes:
            below = t // w * w
            upper = np.minimum(below + w, 2**file.bits - 1)
            here += (grid[feature, upper] - grid[feature, t]) * (grid[feature, t] - grid[feature, below])
        np.testing.assert_allclose(found, file.arrays["noise"] + here / K, rtol=1e-9, atol=1e-30)
    exact = X.astype(np.float64)
    at = np.clip((grid[:, None, :] <= exact.T[:, :, None]).sum(axis=2) - 1, 0, file.top)  # (features, rows)
    below, above = (np.take_along_axis(grid, np.minimum(at + i, 2**file.bits - 1), axis=1).T for i in (0, 1))
    direct = np.maximum((above - exact) * (exact - below), 0).mean(axis=0)
    fuzz = 1e-3 * direct + 2.0**-21 * np.abs(grid).max(axis=1) * (grid[:, -1] - grid[:, 0])
    assert (np.abs(direct - file.arrays["noise"]) <= fuzz).all()


KINDS = [{"levels": "optimal"}, {"levels": "uniform"}, {"levels": "optimal", "shared_levels": True}]
KINDS += [{"levels": "uniform", "shared_levels": True}, {"levels": "optimal", "grid": "none"}]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
@pytest.mark.parametrize("bits", range(1, 9))
def test_files_are_those_of_the_specification(bits, kind):
    X = table(30, 8)
    for coarsest in range(1, bits + 1, 1 if len(kind) == 1 else 3):
        with chunks_of(11 * bits):
            zipml.compress(
                X, path="f", layout="weave", bits=bits, coarsest=coarsest, seed=bits, overwrite=True, **kind
            ).close()
        file = check_file("f", X)
        assert len(file.chunks) > 2 and file.uniform == (kind["levels"] == "uniform" or coarsest == 1)
        assert file.coarsest == coarsest and file.seed == bits


def test_a_file_of_rows_says_nothing_of_planes():
    zipml.compress(table(50, 8), path="f").close()
    with h5py.File("f") as file:
        assert not {"layout", "coarsest"} & set(file.attrs) and "plane_noise" not in file
    with zipml.open("f") as data:
        assert (data.layout, data.noises, data.stored_bits, data.coarsest) == ("rows", {}, 4, 4)


@pytest.mark.parametrize("coarsest", [2, 3, 4])
def test_optimal_levels_are_the_best_of_the_coarsest_precision(coarsest):
    rng, bits = np.random.default_rng(coarsest), 8
    X = np.stack([rng.normal(size=200), np.exp(rng.normal(size=200)), rng.random(200) ** 3], axis=1).astype(np.float32)
    zipml.compress(X, path="f", layout="weave", coarsest=coarsest, grid="byte").close()
    file = Stored("f")
    for f, column in enumerate(X.T):
        mine = file.levels[f, : file.top + 1 : 2 ** (bits - coarsest)]
        best = ref.grid_levels(column, file.options["grid_steps"], 2**coarsest - 1)
        assert ref.levels_cost(column, mine) <= 1.001 * ref.levels_cost(column, best)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_file_is_as_specified_and_the_rows_of_one(data):
    """All bits give the rows' layout on the same levels, code for code; each precision what the reference makes of it."""
    rows, features = data.draw(st.integers(1, 300), "rows"), data.draw(st.integers(1, 200), "features")
    bits = data.draw(st.integers(1, 8), "bits")
    options = {"bits": bits, "layout": "weave", "coarsest": data.draw(st.integers(1, bits), "coarsest")}
    options |= data.draw(st.sampled_from(KINDS))
    known = {"seed": data.draw(st.integers(0, 2**64 - 1), "seed"), "overwrite": True}
    first = data.draw(st.sampled_from([0, 1, 2**32 - 7, 2**40 + 3]), "row_offset")
    X, chunk = table(rows, features), data.draw(st.integers(1, 20_000), "chunk bytes")
    threads = data.draw(st.integers(1, 3), "threads")
    with chunks_of(chunk), rows_from(first):
        zipml.compress(X, path="f", threads=threads, **options, **known).close()
        zipml.compress(X, path="g", levels="f", **known).close()
    with zipml.open("f") as woven, zipml.open("g") as plain:
        assert woven.row_offset == plain.row_offset == first and woven.layout != plain.layout
        np.testing.assert_array_equal(woven.codes(), plain.codes())
        np.testing.assert_array_equal(woven.packed(), plain.packed())
        np.testing.assert_array_equal(woven.decode(), plain.decode())
        for name in ("noise", "error", "mean", "std", "low", "high", "levels"):
            np.testing.assert_array_equal(getattr(woven, name), getattr(plain, name))
        numbers = np.array(data.draw(st.lists(st.integers(0, woven.chunks - 1), min_size=1, max_size=5), "chunks"))
        together = np.concatenate([woven.read_chunk(number) for number in numbers.tolist()])
        np.testing.assert_array_equal(woven.read_chunks(numbers, threads), together)
    check_file("f", X)


# ---- Without bias ----


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_the_mean_over_the_dither_is_the_code_exactly(bits):
    """Every code with every dither, through the code that writes and reads planes: the mean of what is read is t / w."""
    features, repeats = 256, 16
    for coarsest in (1, 2, 4, 7) if bits == 8 else range(1, bits):
        spread, top = bits - coarsest, planes_module.top_code(bits, coarsest)
        assert top == 2**bits - 2**spread
        codes = np.repeat(np.arange(top + 1), repeats)
        rows = len(codes)
        about = header_module.Header(
            rows,
            features,
            bits,
            1,
            ref.stride(features, bits),
            rows,
            "uniform",
            "stochastic",
            3,
            5,
            0,
            "",
            "",
            "weave",
            coarsest,
        )
        packed = ref.pack(np.repeat(codes.astype(np.uint8)[:, None], features, axis=1), bits)
        planes = planes_module.woven(about, packed, rows, 0, 2)
        d = ref.unweave(planes_module.woven(about, np.zeros_like(packed), rows, 0, 1), features, bits)
        assert d.max() == 2**spread - 1
        t = np.repeat(codes[:, None], features, axis=1)
        for p in range(coarsest, bits + 1):
            start, number = np.zeros(1, np.int64), np.zeros(1, np.int64)
            read = planes_module.unwoven(about, p, planes[:p].reshape(-1), start, number, 2)
            found = ref.unpack(read, features, p).astype(int)
            outcome = np.full((top + 1, 2**spread), -1)
            outcome[t, d] = found
            assert (outcome >= 0).all() and (
                outcome[t, d] == found
            ).all()  # every pair is there, and decides what is read
            w = 2 ** (bits - p)
            every = np.arange(top + 1)
            assert (outcome.sum(axis=1) * w == every * 2**spread).all()
            below, above = every // w * w, -(-every // w) * w
            assert (
                ((outcome * w - every[:, None]) ** 2).sum(axis=1) == (above - every) * (every - below) * 2**spread
            ).all()


def columns_of_constant_gaps(rows):
    """Data on which a dither that features share would show: always in the middle of intervals, and levels that all share."""
    rng = np.random.default_rng(5)
    X = rng.random((rows, 12)).astype(np.float32)
    X[:, 1::4] = np.float32(0.17)
    X[:, 2::4] = np.where(rng.random(X[:, 2::4].shape) < 0.5, np.float32(0.31), np.float32(0.83))
    X[:, 3::4] = np.float32(0.62)
    X[0], X[1] = 0, 1
    return X


def correlation(errors):
    """How far, in standard deviations, the mean product of two features' errors is from 0: the largest over pairs."""
    rows, features = errors.shape
    second = errors**2
    spread = np.sqrt(np.maximum(second.T @ second / rows, 1e-300) / rows)
    z = np.abs(errors.T @ errors / rows) / spread
    return max(z[f, g] for f, g in product(range(features), repeat=2) if f < g)


@pytest.mark.parametrize("levels", ["optimal", "uniform"])
def test_no_precision_has_a_bias(levels):
    """Over 60,000 rows, fixed seeds: means, mean squares, products of two features. Of other seeds, one in 8,000 would fail."""
    rows = 60_000
    X = columns_of_constant_gaps(rows)
    data = zipml.compress(X, path="f", layout="weave", levels=levels, shared_levels=True, seed=11)
    exact = X.astype(np.float64)
    for p in range(2, 9):
        with data.at(p) as read:
            values, noise = read.decode().astype(np.float64), read.noise
            levels_p = read.levels.astype(np.float64)[0]
        errors = values - exact
        upper = np.clip(np.searchsorted(levels_p, exact, side="right"), 1, len(levels_p) - 1)
        meant = np.maximum((levels_p[upper] - exact) * (exact - levels_p[upper - 1]), 0)  # the variance of each value
        spread = np.sqrt(meant.mean(axis=0) / rows)
        assert (np.abs(errors.mean(axis=0)) <= FAR * spread + 1e-7).all()
        off = errors**2 - meant
        assert (np.abs(off.mean(axis=0)) <= FAR * off.std(axis=0) / np.sqrt(rows) + 1e-9).all()
        np.testing.assert_allclose(noise, meant.mean(axis=0), rtol=0.05)  # given the codes, it is an estimate too
        np.testing.assert_allclose((errors**2).mean(axis=0), noise, rtol=0.05)
        assert correlation(errors) < FAR
        products = values[:, :, None] * values[:, None, :] - exact[:, :, None] * exact[:, None, :]
        mean, deviation = products.mean(axis=0) - np.diag(noise), products.std(axis=0) + np.diag(meant.std(axis=0))
        assert (np.abs(mean) <= FAR * deviation / np.sqrt(rows) + 1e-6).all()


def test_a_dither_that_features_share_would_be_noticed():
    """What the test above looks for is there where all features have one dither, or where it is left out."""
    rows, w = 60_000, 16
    t = np.rint(columns_of_constant_gaps(rows) * 240).astype(int)
    d = np.random.default_rng(0).integers(0, w, (rows, 1))
    assert correlation(((t + d) // w * w - t).astype(float)) > 3 * FAR
    independent = np.random.default_rng(0).integers(0, w, t.shape)
    assert correlation(((t + independent) // w * w - t).astype(float)) < FAR
    left_out = (t // w * w - t).astype(float)
    assert (np.abs(left_out.mean(axis=0)) > 3 * FAR * w / np.sqrt(rows)).any()


# ---- Which bytes are read ----


@pytest.fixture
def touched(monkeypatch):
    """Function that starts anew to note what is read, or asked of the system, of files, and returns the list: (offset, end)."""
    noted = []
    preadv, pread, advise = os.preadv, os.pread, getattr(os, "posix_fadvise", None)

    def read_into(descriptor, buffers, offset, *rest):
        noted.append((offset, offset + sum(len(buffer) for buffer in buffers)))
        return preadv(descriptor, buffers, offset, *rest)

    def read(descriptor, size, offset):
        noted.append((offset, offset + size))
        return pread(descriptor, size, offset)

    def advised(descriptor, offset, size, advice):
        noted.append((offset, offset + size))
        return advise(descriptor, offset, size, advice)

    monkeypatch.setattr(os, "preadv", read_into)
    monkeypatch.setattr(os, "pread", read)
    if advise is not None:
        monkeypatch.setattr(os, "posix_fadvise", advised)

    def begin():
        noted.clear()
        return noted

    return begin


def covered(noted, size):
    """Which bytes of a file are in some ranges."""
    mask = np.zeros(size, bool)
    for start, end in noted:
        mask[start:end] = True
    return mask


def chunk_places(path):
    """Offset and bytes of each chunk."""
    with h5py.File(path) as file:
        codes = file["codes"].id
        return np.array(
            [[info.byte_offset, info.size] for info in map(codes.get_chunk_info, range(codes.get_num_chunks()))]
        )


@pytest.mark.parametrize(
    ("rows", "levels"), [(20_000, "uniform"), pytest.param(100_000, "optimal", marks=pytest.mark.slow)]
)
def test_the_first_planes_are_read_and_no_others(touched, rows, levels):
    """Of 200 columns with labels. A table of 256 levels a column is 5 % of 20,000 rows, so those have uniform ones."""
    X = np.random.default_rng(0).normal(size=(rows, 200)).astype(np.float32)
    zipml.compress(X, X.sum(axis=1), path="f", layout="weave", levels=levels).close()
    size, places = Path("f").stat().st_size, chunk_places("f")
    assert len(places) >= 2 and places[:, 1].sum() > 0.95 * size
    for p in (2, 4, 7):
        noted = touched()
        for use in (
            lambda data: data.decode(),
            lambda data: zipml.train(data, epochs=2),
            lambda data: list(data.batches(1000)),
            lambda data: (data[5], data[[17, rows - 1]], next(iter(data))),
            lambda data: zipml.train(data, solver="normal"),
        ):
            touched()
            with zipml.open("f", precision=p) as data:
                use(data)
            mask = covered(noted, size)
            assert mask.sum() <= (p / 8 + 0.03) * size
            for start, length in places.tolist():
                assert not mask[start + length * p // 8 : start + length].any()
        assert mask[places[0, 0] : places[0, 0] + places[0, 1] * p // 8].all()
    noted = touched()
    with zipml.open("f") as data:
        data.decode()
    assert all(covered(noted, size)[start : start + length].all() for start, length in places.tolist())


def spoilt(path, p, name):
    """A copy whose planes from p on are other bytes."""
    content = bytearray(Path(path).read_bytes())
    for start, length in chunk_places(path).tolist():
        with h5py.File(path) as file:
            low = start + length * p // int(file.attrs["bits"])
        content[low : start + length] = np.random.default_rng(low).bytes(start + length - low)
    Path(name).write_bytes(content)
    return name


@pytest.mark.parametrize("kept", [0, 1 << 30], ids=["windows", "in memory"])
@pytest.mark.parametrize("features", [536, 256], ids=["apart", "mapped"])
def test_low_planes_are_not_looked_at(monkeypatch, touched, features, kept):
    """Whatever they are: what is read at p is the same. Chunks of 256 columns follow one another, so that they are mapped."""
    monkeypatch.setattr(stream, "KEPT_BYTES", kept)
    monkeypatch.setattr("zipml_codec.order.WINDOW_BYTES", 1 << 12)
    monkeypatch.setattr(header_module, "CHUNK_BYTES", 1 << 17)
    X = np.random.default_rng(0).normal(size=(6000, features)).astype(np.float32)
    zipml.compress(X, X.sum(axis=1), path="f", layout="weave", keep={"id": np.arange(len(X))}).close()
    places = chunk_places("f")
    for p in (2, 5):
        spoilt("f", p, "g")
        noted = touched()
        models = []
        for path, threads in (("f", 1), ("g", 1), ("g", 2)):
            with zipml.open(path, precision=p) as data:
                assert data.chunks > 9 and (data._file.span is not None) == (features == 256)
                models.append(zipml.train(data, epochs=2, threads=threads))
                assert (data._file._mapping is not None) == (features == 256)
        for start, length in places.tolist():
            assert not covered(noted, 8 * 10**6)[start + length * p // 8 : start + length].any()
        assert len({model.coef.tobytes() for model in models}) == 1
        with zipml.open("f", precision=p) as one, zipml.open("g", precision=p) as other:
            np.testing.assert_array_equal(one.decode(), other.decode())
            np.testing.assert_array_equal(one[::-3], other[::-3])
            assert said_of(one) == said_of(other)
        for width in (p + 1, 8):
            for use in (lambda data: data.decode(), lambda data: zipml.train(data, epochs=1)):
                with zipml.open("g", precision=width) as data, pytest.raises(CorruptError, match=f"plane {p} does not"):
                    use(data)


def said_of(data):
    """Batches and draws, as bytes."""
    parts = [batch.X for batch in data.batches(64, seed=3)] + [data.draw([5, 1, 5], seed=2)]
    return [part.tobytes() for part in parts]


# ---- Training ----


def rows_of(data, path, zstd=0):
    """A file of rows that has what a reader of planes gives at its precision: packed codes, levels, noise."""
    about = replace(data._file.header, layout="rows", coarsest=0, zstd=zstd)
    assert about.bits == data.bits and about.row_size == data.stride
    names = ("levels", "low", "high", "mean", "std", "sample_rows", "sample_values")
    arrays = {name: array for name, array in data._file.arrays.items() if name in names}
    arrays |= {"sample_rows": data.sample_rows, "sample_values": data.sample_values}
    with Partial(Path(path), True) as partial:
        partial.begin(False)
        with ContainerWriter(partial, about, arrays, {"labels": data.labels.dtype}) as writer:
            writer.write_codes(data.packed())
            writer.write_rows("labels", data.labels)
            writer.finish(data.noise, data.error)
        partial.publish()
    return path


def regression(rows=3000, features=40, seed=0):
    rng = np.random.default_rng(seed)
    X = table(rows, features, seed)
    Z = (X - X.mean(axis=0)) / np.where(X.std(axis=0) > 0, X.std(axis=0), 1)
    return X, (Z @ rng.normal(size=features) + rng.normal(size=rows)).astype(np.float32)


def same_model(one, other):
    assert one.coef.tobytes() == other.coef.tobytes() and one.intercept == other.intercept
    assert [entry["train_loss"] for entry in one.history] == [entry["train_loss"] for entry in other.history]
    for name in ("share", "debias_reason", "engine", "step", "model_bits", "residual_bits", "train_loss"):
        assert one.info.get(name) == other.info.get(name)


HOW = [{}, {"debias": "diagonal", "model_bits": 32}, {"debias": "naive", "gradient_bits": 8, "test_fraction": 0.2}]
HOW += [{"loss": "logistic", "debias": "auto"}, {"penalty": "l1", "strength": 0.01, "batch": 7}, {"solver": "normal"}]


@pytest.mark.parametrize("how", HOW, ids=lambda how: "-".join(map(str, how.values())) or "default")
@pytest.mark.parametrize(("levels", "coarsest"), [("optimal", 2), ("uniform", 2), ("optimal", 4)])
def test_training_is_that_of_a_file_of_rows_with_the_same_codes(levels, coarsest, how):
    """The model is, bit for bit, the one from a file of rows that holds the codes, levels and noise of that precision."""
    X, y = regression(1000, 24)
    y = np.sign(y) if how.get("loss") == "logistic" else y
    grid = "byte" if levels == "optimal" else "auto"
    zipml.compress(X, y, path="f", layout="weave", levels=levels, coarsest=coarsest, seed=3, grid=grid).close()
    for p in range(coarsest, 9):
        with zipml.open("f", precision=p) as data:
            mine = zipml.train(data, epochs=3, seed=p, **how)
            rows_of(data, "g")
        with zipml.open("g") as rows:
            assert (rows.layout, rows.bits) == ("rows", p)
            same_model(mine, zipml.train(rows, epochs=3, seed=p, **how))
        same_model(mine, zipml.train("f", epochs=3, seed=p, precision=p, threads=1, **how))
        if not how and p <= 6:
            assert mine.info["engine"] == "integer"  # also where levels are optimal: their grids are made for it
        assert mine.info["train_loss"] > 0


@pytest.mark.parametrize("coarsest", range(1, 7))
def test_levels_up_to_six_bits_train_in_integers(coarsest):
    """FORMAT.md's steps of the coarsest levels are such that those of finer ones are bytes of a table too."""
    X, y = regression(300, 24)
    zipml.compress(X, y, path="f", layout="weave", coarsest=coarsest, grid="byte").close()
    for p in range(coarsest, 9):
        engine = zipml.train("f", epochs=1, precision=p).info["engine"]
        assert engine == ("integer" if p <= 6 or coarsest == 1 else "float")


@pytest.mark.parametrize("features", [536, 256], ids=["apart", "mapped"])
def test_windows_of_chunks_are_those_of_a_compressed_file(monkeypatch, features):
    """Files too large to be kept: chunks are read in the order of section 5, as those of a file that zstd has compressed."""
    monkeypatch.setattr(stream, "KEPT_BYTES", 0)
    monkeypatch.setattr("zipml_codec.order.WINDOW_BYTES", 1 << 12)
    monkeypatch.setattr(header_module, "CHUNK_BYTES", 1 << 17)
    X = np.random.default_rng(0).normal(size=(4000, features)).astype(np.float32)
    zipml.compress(X, X.sum(axis=1), path="f", layout="weave").close()
    for p in (2, 8):
        with zipml.open("f", precision=p) as data:
            assert data.chunks > 6
            models = [zipml.train(data, epochs=2, threads=threads, test_fraction=0.1) for threads in (1, 3)]
            rows_of(data, "g", zstd=1)
        same_model(*models)
        same_model(models[0], zipml.train("g", epochs=2, test_fraction=0.1))


@pytest.mark.parametrize("levels", ["optimal", "uniform"])
def test_the_model_does_not_depend_on_threads(levels):
    X, y = regression()
    zipml.compress(X, y, path="f", layout="weave", levels=levels).close()
    for precision in (2, 4, 8, "2:4:8"):
        models = [zipml.train("f", epochs=6, precision=precision, threads=threads) for threads in (1, 2, 5)]
        same_model(*models[:2])
        same_model(*models[1:])


def exact_loss(model, X, y):
    return float(np.mean((X.astype(np.float64) @ model.coef.astype(np.float64) + model.intercept - y) ** 2) / 2)


@pytest.mark.parametrize("how", [{}, {"model_bits": 32}, {"debias": "diagonal", "gradient_bits": 8}], ids=str)
@pytest.mark.parametrize("levels", ["optimal", "uniform"])
def test_stages_of_one_precision_are_one_run(levels, how):
    X, y = regression()
    zipml.compress(X, y, path="f", layout="weave", levels=levels).close()
    for p, again in ((8, "8:8"), (4, "4:4:4"), (2, (2, 2))):
        one, staged = (zipml.train("f", epochs=5, precision=precision, **how) for precision in (p, again))
        same_model(one, staged)
        assert {entry["precision"] for entry in staged.history} == {p} and "precision" not in one.history[0]
        assert one.info["precision"] == [p] and set(staged.info["precision"]) == {p}


def test_a_schedule_of_precisions():
    """Coarse epochs first, about as many of each, under one schedule of steps; it ends where all bits would have led."""
    X, y = regression(20_000)
    zipml.compress(X, y, path="f", layout="weave").close()
    seen = []
    model = zipml.train("f", epochs=10, precision="2:4:8", progress=seen.append)
    assert [entry["precision"] for entry in seen] == [2, 2, 2, 4, 4, 4, 8, 8, 8, 8]
    assert model.info["precision"] == [2, 4, 8]
    same_model(model, zipml.train("f", epochs=10, precision=[2, np.int64(4), 8]))
    with zipml.open("f", precision=5) as data:
        same_model(model, zipml.train(data, epochs=10, precision=(2, 4, 8)))
        narrow = zipml.train(data, epochs=10)
    assert narrow.coef.tobytes() != model.coef.tobytes()
    full = exact_loss(zipml.train("f", epochs=10), X, y)
    assert exact_loss(model, X, y) <= 1.005 * full
    assert exact_loss(zipml.train("f", epochs=10, precision="2:8"), X, y) <= 1.005 * full
    model.save("m")
    assert zipml.Model.load("m").info["precision"] == [2, 4, 8]


def test_only_the_last_precision_says_when_to_stop():
    X, y = regression()
    zipml.compress(X, y, path="f", layout="weave").close()
    seen = [entry["precision"] for entry in zipml.train("f", epochs=40, precision="2:8", tolerance=0.05).history]
    assert seen[:20] == [2] * 20 and 4 <= len(seen[20:]) < 20 and set(seen[20:]) == {8}


@pytest.mark.parametrize(
    "how", [{"debias": "refetch"}, {"debias": "sketch"}, {"debias": "naive"}], ids=lambda how: how["debias"]
)
def test_classes_in_stages(how):
    """Rows' numbers are known in every stage, which looks them up in the exact copy."""
    X, y = regression(2000, 12)
    zipml.compress(X, np.sign(y), path="f", layout="weave", keep_exact=True).close()
    one = zipml.train("f", loss="hinge", epochs=6, precision=8, **how)
    same_model(one, zipml.train("f", loss="hinge", epochs=6, precision="8:8", **how))
    staged = zipml.train("f", loss="hinge", epochs=6, precision="2:4:8", **how)
    assert staged.info["train_loss"] < 1.05 * one.info["train_loss"]


@pytest.mark.parametrize("name", ["cal_housing", "cpu_small", "cod_rna", "mnist_4v9"])
def test_four_of_eight_bits_train_as_well_as_a_file_of_four(real, name):
    X, y = real(name)
    zipml.compress(X, y, path="f", layout="weave").close()
    losses = [exact_loss(zipml.train("f", epochs=20, precision=4), X, y)]
    for samples in (2, 1):
        zipml.compress(X, y, path=f"g{samples}", bits=4, samples=samples).close()
        losses.append(exact_loss(zipml.train(f"g{samples}", epochs=20), X, y))
    float32 = exact_loss(zipml.train((X, y), epochs=20), X, y)
    shares = ", ".join(f"{loss / float32:.4f}" for loss in losses)
    print(f"\n{name}: of the float32 loss, 4 of 8 bits, files of 4 bits with 2 samples and 1: {shares}")
    assert losses[0] <= 1.01 * losses[1] and losses[0] <= 1.01 * losses[2], losses


# ---- Damage ----

ROWS = 990


def flip(path, at, content=None):
    changed = bytearray(Path(path).read_bytes() if content is None else content)
    changed[at] ^= 1 << at % 8
    Path(path).write_bytes(changed)


@pytest.fixture
def small():
    """A file of ten chunks of 5 bits, and where they are."""
    with chunks_of(1 << 10):
        X = table(ROWS, 30)
        zipml.compress(
            array_source(X, X[:, 0], "X", [f"c{i}" for i in range(30)]), path="f", layout="weave", bits=5
        ).close()
    places = chunk_places("f")
    with h5py.File("f") as file:
        assert len(places) > 9 and int(file.attrs["chunk_rows"]) * 20 == places[0, 1]
    return places


@pytest.mark.parametrize("plane", range(5))
def test_a_flipped_bit_is_told_where_its_plane_is_read(small, plane):
    """At precisions that do not read it all is well; others name the chunk, its rows and the plane, in one line."""
    with zipml.open("f") as data:
        expected = {p: data.at(p).decode() for p in range(2, 6)}
        size = data.chunk_rows
    chunk = 3 + plane % 2
    start, length = small[chunk].tolist()
    flip("f", start + length // 5 * plane + 11)
    rows, place = f"rows {chunk * size} to {chunk * size + size - 1}", f"bytes {start} to {start + length - 1}"
    said = rf"^(|/.*/)f: chunk {chunk} \({rows}, {place}\): plane {plane} does not match its digest[^\n]*$"
    for p in range(2, 6):
        uses = [lambda data: data.decode(), lambda data: data[::-1], lambda data: zipml.train(data, epochs=1)]
        uses += [
            lambda data: data[(chunk + 1) * size - 1],
            lambda data: list(data.batches(100)),
            lambda data: list(data),
        ]
        for use in uses:
            with zipml.open("f", precision=p) as data:
                np.testing.assert_array_equal(data[: chunk * size], expected[p][: chunk * size])
                if p <= plane:
                    use(data)
                    np.testing.assert_array_equal(data.decode(), expected[p])
                else:
                    with pytest.raises(CorruptError, match=said):
                        use(data)
        with zipml.open("f", precision=p) as data, pytest.raises(CorruptError, match=said):
            data.verify()  # of the whole file, whatever is read of it


def test_padding_is_vouched_for(small):
    """Rows that fill up the last chunk are digested like all others."""
    with zipml.open("f") as data:
        assert len(data) % data.chunk_rows
    flip("f", int(small[-1].sum()) - 1)
    with zipml.open("f", precision=4) as data:
        data.decode()
    with zipml.open("f") as data, pytest.raises(CorruptError, match="plane 4 does not match its digest"):
        data.decode()


def test_every_small_dataset_is_vouched_for(small):
    content = Path("f").read_bytes()
    with h5py.File("f") as file:
        names = [name for name in file if name not in ("codes", "labels")]
        places = {name: (file[name].id.get_offset(), file[name].nbytes) for name in names if file[name].nbytes}
    assert {"levels", "digests", "plane_noise", "noise", "columns", "low"} <= set(places)
    for name, (start, size) in places.items():
        for at in (start, start + size // 2, start + size - 1):
            flip("f", at, content)
            with pytest.raises(CorruptError, match=r"^f[^\n]*$"):
                with zipml.open("f", precision=2) as data:
                    data.sample_values, data.verify()
            assert name not in ("plane_noise", "levels") or not opens("f")


def opens(path):
    try:
        zipml.open(path, precision=3).close()
    except CorruptError:
        return False
    return True


def test_a_file_without_noise_of_its_planes(small):
    for change, says in (("gone", "'plane_noise' is missing"), ("shape", "plane_noise")):
        shutil.copy("f", "g")
        with edited(Path("g")) as file:
            old = file["plane_noise"][()]
            digest = file["plane_noise"].attrs["xxh3"]
            del file["plane_noise"]
            if change == "shape":
                file["plane_noise"] = old.T.copy()
                file["plane_noise"].attrs["xxh3"] = digest
        for p in (2, 5, None):
            with pytest.raises(CorruptError, match=f"^g[^\n]*{says}[^\n]*$"):
                zipml.open("g", precision=p)


@pytest.mark.parametrize(
    ("name", "value"), [("coarsest", 0), ("coarsest", 6), ("layout", "waves"), ("zstd", 1), ("samples", 2)]
)
def test_headers_that_make_no_sense(small, name, value):
    with edited(Path("f")) as file:
        file.attrs[name] = value if isinstance(value, str) else np.uint64(value)
    with pytest.raises(CorruptError, match=r"^f[^\n]*$"):
        zipml.open("f", precision=2)


def test_truncated_files_and_repair(small):
    """Cut off anywhere: no reading at any precision, and repair gives the rows whose planes all lie before the cut."""
    content = Path("f").read_bytes()
    with zipml.open("f") as data:
        expected, size = data.decode(), data.chunk_rows
        labels = data._file.rowwise["labels"].offset + 4 * ROWS
    assert labels < small[0, 0]
    for cut in range(0, len(content), 499):
        Path("g").write_bytes(content[:cut])
        for p in (2, 5):
            with pytest.raises(FormatError, match=r"^g[^\n]*$"):
                zipml.open("g", precision=p)
    for chunk, part in ((1, 0.1), (4, 0.9), (7, 0.999), (8, 0)):
        cut = int(small[chunk, 0] + part * small[chunk, 1])
        Path("g").write_bytes(content[:cut])
        assert zipml.repair("g", "h", overwrite=True).saved == chunk * size
        check_repaired("h", expected, np.arange(chunk * size))


def check_repaired(path, expected, rows):
    """The rows, and planes of them with the dither of their new numbers, and the noise of these rows."""
    with zipml.open(path) as data:
        data.verify()
        np.testing.assert_array_equal(data.decode(), expected[rows])
        np.testing.assert_array_equal(data.labels, table(ROWS, 30)[rows, 0])
    file = Stored(path)
    for p in range(2, 5):
        with zipml.open(path, precision=p) as data:
            np.testing.assert_array_equal(data.codes(), file.codes(p))
            np.testing.assert_array_equal(data.decode(), file.values(p))
    grid, here, w = file.grid(), np.zeros(30), 8
    for t in file.codes(5):
        below, feature = t // w * w, np.arange(30)
        upper = np.minimum(below + w, 31)
        here += (grid[feature, upper] - grid[feature, t]) * (grid[feature, t] - grid[feature, below])
    np.testing.assert_allclose(file.arrays["plane_noise"][0], file.arrays["noise"] + here / len(rows), rtol=1e-9)


def test_repair_leaves_out_chunks_of_damaged_planes(small):
    with zipml.open("f") as data:
        expected, size = data.decode(), data.chunk_rows
    for chunk, plane in ((2, 4), (5, 0), (6, 2)):
        flip("f", int(small[chunk, 0] + small[chunk, 1] // 5 * plane))
    found = zipml.repair("f", "g")
    assert [one.part for one in found.damage] == ["chunk 2", "chunk 5", "chunk 6"]
    kept = np.setdiff1d(np.arange(ROWS), np.concatenate([np.arange(c * size, (c + 1) * size) for c in (2, 5, 6)]))
    check_repaired("g", expected, kept)
    with zipml.open("g") as data:
        np.testing.assert_array_equal(data.kept["row"], kept)


# ---- Shards, and joining ----


@pytest.fixture(params=[{}, {"levels": "uniform", "bits": 5, "coarsest": 1}, {"bits": 3, "coarsest": 3}], ids=str)
def one(request, monkeypatch):
    """One file, its rows, and what it was made with."""
    monkeypatch.setattr(header_module, "CHUNK_BYTES", 2 << 10)
    X, y = regression(700, 20)
    options = {"layout": "weave", "seed": 9} | request.param
    data = zipml.compress(X, y, path="one", **options)
    yield data, (X, y), options
    data.close()


def same_at_every_precision(data, whole):
    for p in range(whole.coarsest, whole.stored_bits + 1):
        with data.at(p) as mine, whole.at(p) as theirs:
            for name in (
                "noise",
                "error",
                "levels",
                "low",
                "high",
                "mean",
                "std",
                "labels",
                "sample_rows",
                "sample_values",
            ):
                np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), err_msg=name)
            np.testing.assert_array_equal(mine.codes(), theirs.codes())
            for rows in ([5, 699, 63, 64, 5], slice(600, 50, -7), np.arange(700) % 3 == 0):
                np.testing.assert_array_equal(mine[rows], theirs[rows])
            for number in range(theirs.chunks):
                np.testing.assert_array_equal(mine.read_chunk(number), theirs.read_chunk(number))
            numbers = np.array([3, 0, theirs.chunks - 1])
            np.testing.assert_array_equal(mine.read_chunks(numbers, 2), theirs.read_chunks(numbers, 2))
            assert said_of(mine) == said_of(theirs) and said(mine) == said(theirs)


@pytest.mark.parametrize("n", [64, 333, 699])
def test_shards_are_the_one_file(one, n, monkeypatch):
    """Planes, statistics, reading and training at each precision; joined again they are the file, byte for byte."""
    whole, (X, y), options = one
    parts = zipml.compress(X, y, path="parts", shard_rows=n, **options)
    for p, noise in whole.noises.items():
        np.testing.assert_array_equal(parts.noises[p], noise)
    assert list(parts.noises) == list(whole.noises) and parts.layout == "weave"
    same_at_every_precision(parts, whole)
    with h5py.File("one") as file:
        planes = file["codes"][()]
    for number, start in enumerate(range(0, 700, n)):
        shard = Stored(f"parts/shard-{number:05d}.zipml.h5")
        assert shard.first == start
        np.testing.assert_array_equal(ref.weave(shard.sums.astype(np.uint8), shard.bits), planes[:, start : start + n])
        check_noise(shard, X[start : start + n], shard.codes(shard.bits))
    manifest = json.loads(Path("parts/manifest.json").read_text())
    assert manifest["arrays"]["plane_noise"] == whole._file.arrays["plane_noise"].tolist()
    assert (manifest["header"]["layout"], manifest["header"]["coarsest"]) == ("weave", whole.coarsest)
    widths = (whole.coarsest, whole.stored_bits)
    for kept in (0, 1 << 25):
        monkeypatch.setattr(stream, "KEPT_BYTES", kept)
        for precision in (*widths, widths):
            same_model(*(zipml.train(path, epochs=3, precision=precision) for path in ("parts", "one")))
    zipml.concat(["parts"], path="back").close()
    assert Path("back").read_bytes() == Path("one").read_bytes()


@pytest.mark.parametrize("n", [64, 333])
def test_files_are_cut_into_shards(one, n):
    whole, (X, y), options = one
    with zipml.concat(["one"], path="cut", shard_rows=n) as cut:
        cut.verify()
        same_at_every_precision(cut, whole)
    zipml.compress(X, y, path="parts", shard_rows=n, **options).close()
    for number in range(-(-700 // n)):
        with (
            h5py.File(f"cut/shard-{number:05d}.zipml.h5") as mine,
            h5py.File(f"parts/shard-{number:05d}.zipml.h5") as theirs,
        ):
            np.testing.assert_array_equal(mine["codes"][()], theirs["codes"][()])
    zipml.concat(["cut"], path="back").close()
    assert Path("back").read_bytes() == Path("one").read_bytes()


def test_files_of_other_seeds_are_joined(one):
    """Codes are what is joined; planes get the dither, and plane_noise the codes, of all rows."""
    whole, _, options = one
    low, high = whole.low, whole.high
    other = np.clip(table(150, 20, 5), low, high)
    zipml.compress(other, np.zeros(150), path="two", **options | {"levels": "one", "seed": 4}).close()
    joined = zipml.concat(["one", "two"], path="both")
    joined.verify()
    file = Stored("both")
    with zipml.open("two") as two:
        np.testing.assert_array_equal(file.codes(file.bits), np.concatenate([whole.codes(), two.codes()]))
        noise = (700 * whole.noise + 150 * two.noise) / 850
    np.testing.assert_allclose(joined.noise, noise, rtol=1e-12)
    grid, feature, t = file.grid(), np.arange(20), file.codes(file.bits)
    for p in range(file.coarsest, file.bits):
        with joined.at(p) as data:
            np.testing.assert_array_equal(data.codes(), file.codes(p))
        below = t // 2 ** (file.bits - p) * 2 ** (file.bits - p)
        upper = np.minimum(below + 2 ** (file.bits - p), 2**file.bits - 1)
        spread = (grid[feature, upper] - grid[feature, t]) * (grid[feature, t] - grid[feature, below])
        np.testing.assert_allclose(joined.noises[p], noise + spread.mean(axis=0), rtol=1e-9, atol=1e-30)


def test_files_of_other_planes_are_not_joined(capsys):
    X = np.random.default_rng(0).random((200, 5)).astype(np.float32)
    X[:2] = [[0] * 5, [1] * 5]
    codec = zipml.Codec.uniform(np.zeros(5), np.full(5, 2), 4, 1)
    for coarsest in (2, 3):
        zipml.compress(X, path=f"c{coarsest}", layout="weave", coarsest=coarsest, levels=codec).close()
    zipml.compress(X, path="rows", levels=codec).close()
    for sources, says in (
        (("c2", "c3"), "c3: coarsest: 3, but 2 in c2"),
        (("c2", "rows"), "rows: layout: rows, but weave in c2"),
    ):
        with pytest.raises(DataError, match=f"^{says}[^\n]*$"):
            zipml.concat(sources, path="new")
        assert main(["concat", *sources, "-o", "new"]) == 2
        assert says in capsys.readouterr().err and not Path("new").exists()


# ---- Interrupted ----


@pytest.mark.parametrize(
    "options", [{}, {"shard_rows": 500}, {"levels": "uniform", "bits": 5, "shard_rows": 250}], ids=str
)
def test_stopped_at_every_step_and_gone_on_with(monkeypatch, options):
    monkeypatch.setattr(journal, "EVERY", 0.0)
    monkeypatch.setattr(journal, "SHARE", float("inf"))
    monkeypatch.setattr("zipml_codec.rows.BLOCK_BYTES", 16384)
    monkeypatch.setattr(header_module, "CHUNK_BYTES", 4096)
    X = np.random.default_rng(0).normal(size=(1200, 12)).astype(np.float32)
    np.save("s.npy", X)
    options = {"layout": "weave"} | options
    tick, ticks, at = journal.Journal.tick, [], 0

    def count(self, state):
        tick(self, state)
        ticks.append(1)
        if len(ticks) == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(journal.Journal, "tick", count)
    zipml.compress("s.npy", path="f", **options).close()
    expected, steps = content("f"), len(ticks)
    assert steps > 8
    for at in range(1, steps + 1):
        ticks.clear()
        with pytest.raises(KeyboardInterrupt):
            zipml.compress("s.npy", path="f", **options)
        at = 0
        with zipml.compress("s.npy", path="f", resume=True, threads=1, **options) as data:
            assert data.at(2).decode().shape == (1200, 12)
        assert content("f") == expected
    with pytest.raises(KeyboardInterrupt):
        at = len(ticks) + 8
        zipml.compress("s.npy", path="f", **options)
    for changed in ({"coarsest": 3}, {"layout": "rows"}):
        with pytest.raises(OptionError, match=f"{next(iter(changed))} changed"):
            zipml.compress("s.npy", path="f", resume=True, **{"bits": 8, "samples": 1} | options | changed)


def content(path):
    """The bytes of a file, or of all files of a folder; it is gone then."""
    path = Path(path)
    if path.is_file():
        found = path.read_bytes()
        path.unlink()
        return found
    found = {entry.name: entry.read_bytes() for entry in path.iterdir()}
    shutil.rmtree(path)
    return found


# ---- A data set at a precision ----


@pytest.fixture
def made(monkeypatch):
    """A file of some chunks with labels, and what the reference reads of it at 3 bits."""
    monkeypatch.setattr(header_module, "CHUNK_BYTES", 4 << 10)
    X, y = regression(900, 21)
    zipml.compress(X, y, path="f.zipml.h5", layout="weave", keep={"id": np.arange(900)}, seed=2).close()
    file = Stored("f.zipml.h5")
    return file.codes(3), file.values(3)


ROWS_ASKED = [
    5,
    -1,
    [3, 899, 3, -900],
    slice(None),
    slice(100, 300),
    slice(800, 20, -13),
    np.arange(900) % 5 == 2,
    [],
    slice(9, 9),
]


def test_rows_of_every_kind(made):
    codes, values = made
    with zipml.open("f.zipml.h5", precision=3) as data:
        assert (data.shape, len(data), data.bits, data.samples, data.stored_bits) == ((900, 21), 900, 3, 1, 8)
        assert data.chunks > 5 and data.levels.shape == (21, 8)
        for rows in ROWS_ASKED:
            at = np.array(rows, int) if isinstance(rows, list) else rows
            np.testing.assert_array_equal(data[rows], values[at])
            at = [at] if isinstance(rows, int) else at
            np.testing.assert_array_equal(data.decode(rows), values[at])
            np.testing.assert_array_equal(data.decode(rows, threads=3), values[at])
            np.testing.assert_array_equal(data.codes(rows), codes[at])
            np.testing.assert_array_equal(data.packed(rows), ref.pack(codes[at].astype(np.uint8), 3))
            np.testing.assert_array_equal(data.draw(rows, seed=4), values[at][None])  # one sample is the mean
        np.testing.assert_array_equal(np.array(list(data)), values)
        seen = []
        for batch in data.batches(64, seed=5, epoch=2):
            np.testing.assert_array_equal(batch.X, values[batch.rows])
            np.testing.assert_array_equal(batch.y, data.labels[batch.rows])
            seen += batch.rows.tolist()
        assert sorted(seen) == list(range(900)) and seen != sorted(seen)
        assert data.kept["id"].tolist() == list(range(900)) and data.map_rows() is None


def test_at_opens_the_file_once_more(made, tmp_path, monkeypatch):
    _, values = made
    data = zipml.open("f.zipml.h5")
    read = data.at(3)
    monkeypatch.chdir("/")  # where a relative path would lead nowhere
    again = read.at(8).at(3)
    data.close()
    np.testing.assert_array_equal(read.decode(), values)
    np.testing.assert_array_equal(again.decode(), values)
    with pytest.raises(FormatError, match="closed"):
        data.decode()
    for one in (read, again, pickle.loads(pickle.dumps(read))):
        assert one.bits == 3 and "bits=3" in repr(one) and "(900, 21)" in repr(one)
        np.testing.assert_array_equal(one.noise, one.noises[3])
        np.testing.assert_array_equal(one.decode(), values)
        assert list(one.noises) == list(range(2, 9))
        assert all((a >= b).all() and (a > b).any() for a, b in pairwise(one.noises.values()))
        one.verify()
        one.close()


def test_threads_at_several_precisions(made):
    with zipml.open("f.zipml.h5") as data, ThreadPoolExecutor(6) as pool:
        readers = [data.at(p) for p in (2, 3, 8)]
        expected = [said(data.at(p)) for p in (2, 3, 8)]
        assert len(set(expected)) == 3
        assert list(pool.map(said, readers * 5)) == expected * 5


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_at_the_precision(made, method):
    with zipml.open("f.zipml.h5", precision=3) as data, zipml.open("f.zipml.h5") as full:
        expected = said(data), said(full)
        context = multiprocessing.get_context(method)
        results = context.SimpleQueue()
        worker = context.Process(target=work, args=(data, Path("f.zipml.h5").absolute(), results))
        worker.start()
        worker.join(60)
        assert worker.exitcode == 0 and results.get() == expected and said(data) == expected[0]


# ---- What is refused ----


@pytest.fixture
def refused(capsys):
    """Function that runs the command, which must fail with one line on stderr and code 2, and leave nothing."""

    def run(*arguments, says):
        before = sorted(Path().iterdir())
        capsys.readouterr()
        assert main(list(arguments)) == 2
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if not line.startswith("zipml: note: ")]
        assert out == "" and len(lines) == 1 and lines[0].startswith("zipml: ") and "damaged" not in err
        for part in (says,) if isinstance(says, str) else says:
            assert part in lines[0]
        assert sorted(Path().iterdir()) == before

    return run


@pytest.fixture
def files():
    X, y = regression(300, 6)
    np.savez("s.npz", X=X, y=y)
    zipml.compress(X, y, path="weave", layout="weave", coarsest=3).close()
    zipml.compress(X, y, path="shards", layout="weave", coarsest=3, shard_rows=100).close()
    zipml.compress(X, y, path="rows").close()
    return X, y


@pytest.mark.parametrize("name", ["weave", "shards"])
def test_precisions_that_a_file_does_not_have(files, refused, name):
    for precision in (9, 2, 0, -1):
        says = [f"{name} is read at 3 to 8 bits, not {precision}"] + ["(--coarsest)"] * (precision < 3)
        says += ["coarsest=2"] * (precision == 2)
        for call in (
            lambda precision=precision: zipml.open(name, precision=precision),
            lambda precision=precision: zipml.train(name, precision=precision),
            lambda precision=precision: zipml.train(name, precision=(3, precision, 8)),
            lambda precision=precision: zipml.open(name).at(precision),
        ):
            with pytest.raises(OptionError, match=rf"^(/.*/)?{says[0]}"):
                call()
        refused("decompress", name, f"--precision={precision}", "-o", "out.npy", says=says)
        refused("train", name, f"--precision={precision}", says=says)
    for precision in ("4", "x", 4.0, 8.0, [4]):
        with pytest.raises(OptionError, match=r"^precision must be an integer, 3\.\.8; got [^\n]*$"):
            zipml.open(name, precision=precision)
    with pytest.raises(OptionError, match="must be an integer"):
        zipml.open(name, precision=True)


def test_rows_have_no_precision(files, refused):
    for p in (3, 8):
        with pytest.raises(OptionError, match=r"^rows holds rows of 4 bits, read whole: .*--layout weave\)$"):
            zipml.open("rows", precision=p)
    says = ("rows holds rows of 4 bits", "--layout weave")
    refused("train", "rows", "--precision", "2", says=says)
    refused("train", "rows", "--precision", "2:4", says=says)
    refused("decompress", "rows", "--precision", "2", "-o", "out.npy", says=says)
    with zipml.open("rows", precision=4) as data:  # all bits it has
        assert data.bits == 4
    X, y = files
    with pytest.raises(OptionError, match=r"^precision is of a file's codes; [^\n]*$"):
        zipml.train((X, y), precision=4)


def test_precisions_that_are_none(files, refused):
    for precision in ("2:x:8", "x", "", ":", "4:", 4.5, (4.5, 8), [], [[4]], (4, None)):
        with pytest.raises(OptionError, match=r"^precision must be a number of bits, or several as 2:4:8; got [^\n]*$"):
            zipml.train("weave", precision=precision)
    refused(
        "train",
        "weave",
        "--precision",
        "2:x:8",
        says="precision must be a number of bits, or several as 2:4:8; got '2:x:8'",
    )
    refused("decompress", "weave", "--precision", "x", "-o", "out.npy", says="--precision")


def test_several_precisions_do_not_go_with_everything(files, refused):
    says = "several precisions go with solver='sgd', and without checkpoint"
    refused("train", "weave", "--precision", "4:8", "--solver", "normal", says=says)
    refused("train", "weave", "--precision", "4:8", "--checkpoint", "c", says=says)
    refused("train", "weave", "--precision", "3:4:8", "--epochs", "2", says="epochs=2 are fewer than the 3 precisions")
    zipml.train("weave", precision=4, solver="normal")
    zipml.train("weave", precision=4, checkpoint="c", epochs=2)
    with pytest.raises(OptionError, match=r"[^\n]*$"):  # of another precision, the noise is another
        zipml.train("weave", precision=5, checkpoint="c", epochs=2, resume=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--zstd", "3"], "leave zstd out"),
        (["--samples", "2"], "leave samples and rounding out"),
        (["--rounding", "nearest"], "leave samples and rounding out"),
        (["--bits", "auto"], "give them as a number"),
        (["--coarsest", "0"], "coarsest must be 1..8; got 0"),
        (["--coarsest", "9"], "coarsest must be 1..8; got 9"),
        (["--bits", "4", "--coarsest", "5"], "coarsest must be 1..4; got 5"),
        (["--coarsest", "x"], "--coarsest"),
        (["--bits", "9"], "bits must be 1..8"),
        (["--layout", "waves"], "layout must be one of 'rows', 'weave'; got 'waves'"),
        (["--layout", "rows", "--coarsest", "2"], "coarsest is of planes"),
        (["--levels", "rows"], "takes levels of one sample a code"),
        (
            ["--levels", "weave", "--coarsest", "2"],
            "the given levels are not nested, each interval of 2 bits cut evenly",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_planes_cannot_be_made_of(files, refused, arguments, says):
    refused("compress", "s.npz", "--label", "y", "--layout", "weave", "-o", "new", *arguments, says=says)


def test_levels_of_a_lower_precision_are_nested_at_a_higher_one(files):
    """What is cut evenly from 3 bits on is so from 5 bits on."""
    X, _ = files
    with zipml.compress(X, path="finer", layout="weave", levels="weave", coarsest=5) as data, zipml.open("weave") as old:
        np.testing.assert_array_equal(data.codes(), old.codes())
        for p in (5, 7):
            np.testing.assert_array_equal(data.noises[p], old.noises[p])


@pytest.mark.parametrize("levels", ["uniform", "optimal"])
def test_values_are_clipped_to_what_leaves_room(levels):
    X, _ = regression(300, 6)
    zipml.compress(X, path="f", layout="weave", levels=levels).close()
    with zipml.compress(X * np.float32(1.5), path="g", layout="weave", levels="f", clip=True) as data, zipml.open("f") as old:
        assert data.clipped.sum() > 0 and data.codes().max() == data.intervals
        assert (data.high <= old.high + 1e-5 * (old.high - old.low)).all() and (data.low >= old.low).all()
        data.verify()


def test_given_levels_must_leave_room(files, refused):
    X, _ = files
    low, high = X.min(axis=0), X.max(axis=0)
    tight = zipml.Codec.uniform(low, high, 8, 1)
    with pytest.raises(
        DataError, match=r"^feature 0 goes up to [^\n]*leaves room for the dither of layout='weave': [^\n]*$"
    ):
        zipml.compress(X, path="new", layout="weave", levels=tight)
    for coarsest in (2, 4):
        narrow = zipml.Codec.uniform(low, high * 3, 1, 1)
        with pytest.raises(
            OptionError, match=r"^the given levels have 1 bits, fewer than coarsest=[24] \(--coarsest\): [^\n]*$"
        ):
            zipml.compress(X, path="new", layout="weave", levels=narrow, coarsest=coarsest)
    uneven = np.sort(np.random.default_rng(0).normal(size=(6, 256)) * 1e4, axis=1).astype(np.float32)
    with pytest.raises(OptionError, match="the given levels are not nested"):
        zipml.compress(X, path="new", layout="weave", levels=zipml.Codec(uneven, 8, 1))
    with pytest.raises(DataError, match="outside of the given levels"):
        zipml.compress(X * 100, path="new", layout="weave", levels="weave", coarsest=3)
    assert not Path("new").exists()


@pytest.mark.parametrize("levels", ["optimal", "uniform"])
@pytest.mark.parametrize("seed", range(4))
def test_a_file_s_own_levels_serve_its_data_again(levels, seed):
    """Also where rounding puts the last level that leaves room below the value that it was made for."""
    X = np.random.default_rng(seed).normal(size=(200, 30)).astype(np.float32) * np.float32(10.0) ** np.arange(-15, 15)
    options = {"layout": "weave", "coarsest": 3, "seed": seed}
    zipml.compress(X, path="f", levels=levels, **options).close()
    zipml.compress(X, path="g", levels="f", **options).close()
    one, other = Stored("f"), Stored("g")
    assert one.chunks == other.chunks
    np.testing.assert_array_equal(one.arrays["plane_noise"], other.arrays["plane_noise"])


@pytest.mark.parametrize(
    "kind", [{}, {"levels": "uniform"}, {"coarsest": 7}, {"levels": "uniform", "coarsest": 8}], ids=str
)
def test_columns_at_the_ends_of_float32(kind):
    """The levels above the last are finite, and above it; where there are none, one line says which column it is."""
    for column in ([-3.4e38, -3.3e38], [3.4e38] * 2, [1, 1.0000001], [-0.0, 0, 1], [1e7, 1e7 + 1], [0, 1e-30]):
        X = np.array(column, np.float32)[:, None]
        zipml.compress(X, path="f", layout="weave", overwrite=True, **kind).close()
        check_file("f", X)
    for column, says in (([-3e38, 3e38], "too wide"), ([0, 1e-45], "too narrow"), ([0, 3.4028235e38], "too wide")):
        if says == "too narrow" or kind.get("levels") == "uniform" or column[0]:
            with pytest.raises(DataError, match=rf"^X: column 0: the range [^\n]* is {says} for float32 levels[^\n]*$"):
                zipml.compress(np.float32([column]).T, path="g", layout="weave", **kind | {"coarsest": 2})


# ---- The command ----


def test_the_command(capsys):
    X, y = regression(2000, 6)
    np.savez("s.npz", X=X, y=y)

    def run(*arguments):
        capsys.readouterr()
        assert main(list(arguments)) == 0
        found = capsys.readouterr()
        run.err = found.err
        return found.out

    out = run("compress", "s.npz", "--label", "y", "--layout", "weave", "-o", "f")
    assert "8 bits, 1 sample" in out and "read at 2 to 8 bits" in out
    with zipml.open("f") as data:
        assert (data.bits, data.samples, data.coarsest, data.layout) == (8, 1, 2, "weave")
        noises, std = data.noises, data.std
        total, decoded = data.chunks * data._file.header.chunk_bytes, {p: data.at(p).decode() for p in (3, 8)}
    shown = run("info", "f").splitlines()
    about = json.loads(run("info", "f", "--json"))
    assert about["layout"] == "weave" and [one["bits"] for one in about["precisions"]] == list(range(2, 9))
    for one in about["precisions"]:
        assert one["bytes"] == total * one["bits"] // 8
        own = np.mean([noise / s**2 if s else 0 for noise, s in zip(noises[one["bits"]], std, strict=True)])
        np.testing.assert_allclose(one["noise"], own, rtol=1e-12)
        line = next(line for line in shown if line.split()[:2] == [str(one["bits"]), "bits"])
        assert f"{one['noise']:.4g}" in line and f"{one['bytes']:,}" in line
    run("compress", "s.npz", "--label", "y", "-o", "rows")
    assert json.loads(run("info", "rows", "--json"))["precisions"] == [] and "precision" not in run("info", "rows")
    assert json.loads(run("info", "rows", "--json"))["layout"] == "rows"
    for precision, expected in (([], decoded[8]), (["--precision", "3"], decoded[3])):
        run("decompress", "f", *precision, "-o", "out.npy", "--overwrite")
        np.testing.assert_array_equal(np.load("out.npy"), expected)
    run("train", "f", "--precision", "2:4:8", "--epochs", "6", "-o", "m")
    lines = [line for line in run.err.splitlines() if line.startswith("epoch")]
    assert [line.split()[2:4] for line in lines] == [[bits, "bits"] for bits in "224488"]
    same_model(zipml.Model.load("m"), zipml.train("f", epochs=6, precision=(2, 4, 8)))
    said = json.loads(run("train", "f", "--precision", "2:4:8", "--epochs", "6", "--json"))
    assert said["precision"] == [2, 4, 8] and [entry["precision"] for entry in said["history"]] == [2, 2, 4, 4, 8, 8]
    run("train", "f", "--precision", "4", "--epochs", "2")
    assert " bits" not in run.err.splitlines()[-1]
    run("verify", "f")
    narrow = ["--layout", "weave", "--bits", "5", "--coarsest", "4", "--shard-rows", "900"]
    run("compress", "s.npz", "--label", "y", *narrow, "-o", "g")
    about = json.loads(run("info", "g", "--json"))
    assert [one["bits"] for one in about["precisions"]] == [4, 5] and about["shards"] == 3
    assert about["precisions"][1]["noise"] < about["precisions"][0]["noise"]
    assert json.loads(run("info", "f", "--json"))["bits"] == 8
