"""The compiled codec against tests/reference.py (bit by bit, every SIMD level) and against theory (z-scores)."""

import pickle
from itertools import combinations, pairwise, product

import numpy as np
import pytest
import reference as ref

from zipml_codec import Codec
from zipml_codec.errors import DataError, OptionError
from zipml_codec.kernels import codes as kernel
from zipml_codec.kernels import philox, simd

SIMD = simd.levels()
KINDS = ("uniform", "table")
ALL = [(bits, k) for bits in range(1, 9) for k in sorted({1, 2, 3, 7, 2**bits - 1}) if k < 2**bits]
SHAPES = [(1, 1), (3, 5), (17, 63), (64, 64), (65, 65), (5, 200), (130, 129)]
PLACES = list(product((0, 7, 2**32 - 3, 2**40), (0, 2**63 + 5)))  # row offsets and seeds
FLOAT_MAX = np.finfo(np.float32).max


class Pair:
    """A codec, and the reference on the same levels."""

    def __init__(self, kind, levels, bits, samples, rounding="stochastic"):
        self.kind, self.levels = kind, np.asarray(levels, np.float32)
        self.bits, self.samples, self.rounding = bits, samples, rounding
        self.intervals, self.features = ref.intervals(bits, samples), len(self.levels)
        if kind == "uniform":
            self.args = (self.levels[:, 0].copy(), self.levels[:, -1].copy(), bits, samples)
            self.levels = ref.uniform_levels(*self.args)
            self.codec = Codec.uniform(*self.args, rounding=rounding)
        else:
            self.args = (self.levels, bits, samples)
            self.codec = Codec(self.levels, bits=bits, samples=samples, rounding=rounding)

    @classmethod
    def random(cls, kind, bits, samples, features, rounding="stochastic"):
        """Random levels; features 4, 9, ... are constant, and tables 3, 8, ... repeat the last level."""
        rng = np.random.default_rng([bits, samples, features])
        s = ref.intervals(bits, samples)
        levels = np.sort(rng.normal(size=(features, s + 1)) * rng.lognormal(size=(features, 1)), axis=1)
        levels[4::5] = levels[4::5, :1]
        levels[3::5, -(s // 2 + 1) :] = levels[3::5, -1:]
        return cls(kind, levels, bits, samples, rounding)

    def values(self, rows, seed=0):
        """Values in range (rows, n); one in eight is exactly on a level."""
        rng, shape = np.random.default_rng([seed, rows]), (rows, self.features)
        low, high = self.levels[:, 0], self.levels[:, -1]
        X = np.float32(low + rng.random(shape) * (high.astype(np.float64) - low))
        on = self.levels[np.arange(self.features), rng.integers(0, self.intervals + 1, size=shape)]
        return np.clip(np.where(rng.random(shape) < 1 / 8, on, X), low, high)

    def reference(self, name, *args, **options):
        return getattr(ref, f"{name}_{self.kind}")(args[0], *self.args, *args[1:], **options)

    def check(self, X, seed=0, row_offset=0, threads=(None,)):
        """Bytes, codes, means and draws are the reference's at every SIMD level and number of threads."""
        place = {"seed": seed, "row_offset": row_offset}
        codes = self.reference("encode", X, **place, rounding=self.rounding)
        packed, mean = ref.pack(codes, self.bits), self.reference("decode", codes)
        drawn = self.reference("draw", codes, **place)
        for level in SIMD:
            with simd.use(level):
                for count in threads:
                    got = self.codec.encode(X, **place, threads=count)
                    same(got, packed, f"encode, {level}, {count} threads")
                same(self.codec.codes(packed), codes, f"codes, {level}")
                same(self.codec.decode(packed), mean, f"decode, {level}")
                same(self.codec.draw(packed, **place), drawn, f"draw, {level}")


def same(got, expected, what):
    """Equal in dtype, shape and every bit."""
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), what
    if got.dtype == np.float32:
        got, expected = np.ascontiguousarray(got).view(np.uint32), np.ascontiguousarray(expected).view(np.uint32)
    np.testing.assert_array_equal(got, expected, err_msg=what)


def assert_standard_normal(z, what=""):
    """No |z| of 5 or more: for the counts tested here, less than 1 chance in 100 for a right implementation."""
    z = np.asarray(z)
    assert np.isfinite(z).all(), what
    assert np.abs(z).max() < 5, (
        f"{what}: |z| = {np.abs(z).max():.2f} at {np.unravel_index(np.abs(z).argmax(), z.shape)}"
    )


# ---- Bit by bit ----


@pytest.mark.parametrize("level", SIMD)
def test_philox_words(level):
    rng = np.random.default_rng(0)
    with simd.use(level):
        for m in (0, 1, 15, 16, 17, 100):
            counter = rng.integers(0, 2**32, size=(m, 4), dtype=np.uint32)
            for seed in (0, 1, 2**32, 2**63 + 5, 2**64 - 1):
                same(philox.words(counter, seed), ref.philox4x32(counter, (seed % 2**32, seed // 2**32)), f"{m} {seed}")


@pytest.mark.parametrize("level", SIMD)
@pytest.mark.parametrize("bits", range(1, 9))
def test_pack_and_unpack(bits, level):
    rng = np.random.default_rng(bits)
    with simd.use(level):
        for rows, features in [(0, 3), (1, 1), *SHAPES, (3, 1000)]:
            codes = rng.integers(0, 2**bits, size=(rows, features)).astype(np.uint8)
            least = -(-features * bits // 8)
            for stride in (least, ref.stride(features, bits), least + 1, 64 * (least // 64 + 2)):
                packed = kernel.pack(codes, bits, stride)
                same(packed, ref.pack(codes, bits, stride), f"{rows} x {features}, stride {stride}")
                same(kernel.unpack(packed, features, bits), codes, f"{rows} x {features}, stride {stride}")


@pytest.mark.parametrize(("bits", "samples"), ALL)
@pytest.mark.parametrize("kind", KINDS)
def test_bit_identical_to_the_reference(kind, bits, samples):
    """Every shape, each at one of the places; over all bits and samples every shape meets every place."""
    first = ALL.index((bits, samples)) + KINDS.index(kind)
    for number, (rows, features) in enumerate(SHAPES):
        pair = Pair.random(kind, bits, samples, features)
        row_offset, seed = PLACES[(first + number) % len(PLACES)]
        pair.check(pair.values(rows, first), seed, row_offset, threads=(1, 2, 3))


@pytest.mark.parametrize(
    ("bits", "samples", "rows", "features"), [(4, 2, 20_011, 9), (8, 1, 1_500, 70), (6, 2, 2, 4_099)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_bit_identical_in_many_rows_or_columns(kind, bits, samples, rows, features):
    """Enough rows that threads share them, enough columns for blocks of columns."""
    pair = Pair.random(kind, bits, samples, features)
    pair.check(pair.values(rows), seed=3, row_offset=2**32 - rows // 2, threads=(None, 1, 2, 3))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_nearest_rounding(kind, bits):
    pair = Pair.random(kind, bits, 1, 67, rounding="nearest")
    X = pair.values(40)
    pair.check(X, threads=(1, 2))
    same(pair.codec.encode(X, seed=1), pair.codec.encode(X, seed=2, row_offset=9), "no randomness")


@pytest.mark.parametrize(("bits", "samples"), [(1, 1), (2, 2), (4, 1), (4, 2), (6, 3), (8, 1), (8, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_extreme_ranges(kind, bits, samples):
    """Huge offsets, tiny ranges, ranges of one float32 step, and the largest range that float32 can hold."""
    tiny = np.nextafter(np.float32(1), np.float32(2))
    ranges = [(1e8, 1e8 + 96), (-1e8, 1e8), (1e8, 3e8), (0, 1e-30), (-1e-30, 1e-30), (0, 1e-36), (1, tiny)]
    ranges += [(0, FLOAT_MAX), (-FLOAT_MAX, 0), (-FLOAT_MAX / 2, FLOAT_MAX / 2), (FLOAT_MAX / 2, FLOAT_MAX)]
    levels = ref.uniform_levels(*np.float32(ranges).T, bits, samples)
    assert np.isfinite(levels).all()
    levels.sort(axis=1)
    pair = Pair(kind, levels, bits, samples)
    pair.check(pair.values(200), seed=11, row_offset=5, threads=(1, 2))


def test_constant_columns_and_repeated_last_level():
    values = np.float32([0, -0.1, 3.25, 1e8, -1e-30, FLOAT_MAX])
    X = np.tile(values, (70, 1))
    for bits, samples in [(1, 1), (4, 2), (8, 1), (8, 3)]:
        s = ref.intervals(bits, samples)
        for kind in KINDS:
            codec = Pair(kind, np.repeat(values[:, None], s + 1, axis=1), bits, samples).codec
            packed = codec.encode(X, seed=1)
            np.testing.assert_array_equal(codec.decode(packed), X)
            np.testing.assert_array_equal(codec.draw(packed, seed=2), np.tile(X, (samples, 1, 1)))
    levels = np.float32([[0, 1, 5, 5, 5, 5, 5, 5]])
    codec = Codec(levels, bits=4, samples=2)
    X = np.tile(np.float32([[0], [1], [5]]), (300, 1))
    np.testing.assert_array_equal(codec.decode(codec.encode(X, seed=3)), X)
    np.testing.assert_array_equal(codec.codes(codec.encode(X, seed=3)), X // 2 * 2 + 2 * (X == 1))  # one code a level: 0, 2, 4


# ---- Values on levels ----


def awkward_ranges(bits, samples, count):
    """Ranges whose top, in float32 arithmetic, falls furthest below s intervals: (hi - lo) * inv < s."""
    rng, s = np.random.default_rng(bits), ref.intervals(bits, samples)
    low = rng.normal(size=20_000).astype(np.float32)
    high = low + rng.uniform(0.1, 3, size=20_000).astype(np.float32)
    inv = (s / (high.astype(np.float64) - low)).astype(np.float32)
    worst = np.argsort((high - low) * inv)[:count]
    return np.stack([low, high], axis=1)[worst]


@pytest.mark.parametrize(("bits", "samples"), [(1, 1), (3, 2), (4, 1), (4, 2), (4, 3), (8, 1), (8, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_minimum_and_maximum_decode_exactly(kind, bits, samples):
    """In every row, not in most: the ranges are chosen so that a maximum which may round down does so here."""
    ends, s = awkward_ranges(bits, samples, 256), ref.intervals(bits, samples)
    if kind == "table":  # the last interval is the awkward one
        top = awkward_ranges(1, 1, 256)
        ends = np.append(top[:, :1] - np.arange(s - 1, -1, -1), top[:, 1:], axis=1)
    pair = Pair(kind, ends, bits, samples)
    for X in (pair.levels[:, 0], pair.levels[:, -1]):
        X = np.tile(X, (2000, 1))
        packed = pair.codec.encode(X, seed=17)
        np.testing.assert_array_equal(pair.codec.decode(packed), X)
        np.testing.assert_array_equal(pair.codec.draw(packed)[-1], X)


@pytest.mark.parametrize(("bits", "samples"), [(1, 1), (3, 1), (4, 2), (5, 4), (8, 1), (8, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_values_on_levels_never_move(kind, bits, samples):
    """Tables: all levels below the last. Uniform: ranges s * k * 2**e, whose levels float32 arithmetic hits exactly."""
    s, features = ref.intervals(bits, samples), 40
    if kind == "table":
        levels = np.sort(np.random.default_rng(bits).normal(size=(features, s + 1)).astype(np.float32), axis=1)
    else:
        low = np.float32(s * samples * 2.0 ** (np.arange(features) % 9 - 4)) * (np.arange(features) % 3 - 1)
        levels = np.stack([low, low + np.float32(s * samples * 2.0 ** (np.arange(features) % 9 - 4))], axis=1)
    pair = Pair(kind, levels, bits, samples)
    for i in range(s):
        X = np.tile(pair.levels[:, i], (max(20_000 // features // s, 8), 1))
        packed = pair.codec.encode(X, seed=i)
        np.testing.assert_array_equal(pair.codec.codes(packed), samples * i)
        np.testing.assert_array_equal(pair.codec.decode(packed), X)


# ---- Statistics against theory ----


@pytest.mark.parametrize(("bits", "samples"), [(b, k) for b in range(1, 9) for k in (1, 2, 3, 15) if k < 2**b])
@pytest.mark.parametrize("kind", KINDS)
def test_mean_and_variance_of_the_rounding(kind, bits, samples):
    """E[Q(a)] = a and Var(Q(a)) = (u - a)(a - l) / k, and no value leaves its interval."""
    rng, rows, features = np.random.default_rng([bits, samples]), 20_000, 24
    s = ref.intervals(bits, samples)
    levels = np.cumsum(rng.uniform(0.5, 2, size=(features, s + 1)), axis=1) - rng.uniform(0, s, size=(features, 1))
    pair = Pair(kind, levels, bits, samples)
    cell = rng.integers(0, s, size=features)
    low, high = (pair.levels[np.arange(features), i].astype(np.float64) for i in (cell, cell + 1))
    a = np.float32(low + rng.uniform(0.03, 0.97, size=features) * (high - low))
    decoded = pair.codec.decode(pair.codec.encode(np.tile(a, (rows, 1)), seed=bits * samples)).astype(np.float64)
    share, p = (decoded - low) / (high - low), (a - low) / (high - low)
    assert share.min() >= 0
    assert share.max() <= 1
    variance = p * (1 - p) / samples
    fourth = variance**2 * (3 + (1 - 6 * p * (1 - p)) / (samples * p * (1 - p)))  # central moment of a binomial share
    assert_standard_normal((share.mean(axis=0) - p) / np.sqrt(variance / rows), "mean")
    squared = np.mean((share - p) ** 2, axis=0)
    assert_standard_normal((squared - variance) / np.sqrt((fourth - variance**2) / rows + 1e-12), "variance")


@pytest.mark.parametrize(("bits", "samples"), [(8, 1), (4, 2), (3, 7)])
def test_roundings_of_neighbours_and_seeds_are_independent(bits, samples):
    """No correlation between features (16 and 64 apart share counters and blocks), successive rows, or seeds."""
    rows, features = 8_000, 130
    low, high = np.zeros(features, np.float32), np.full(features, ref.intervals(bits, samples), np.float32)
    codec = Codec.uniform(low, high, bits, samples)
    X = np.full((rows, features), 0.4, np.float32)

    def standardised(seed, row_offset=0):
        up = codec.codes(codec.encode(X, seed=seed, row_offset=row_offset)).astype(np.float64)
        return (up - 0.4 * samples) / np.sqrt(samples * 0.4 * 0.6)

    one = standardised(5)
    between = one.T @ one / np.sqrt(rows)
    assert_standard_normal(between[np.triu_indices(features, 1)], "features")
    assert_standard_normal((one[1:] * one[:-1]).sum(axis=0) / np.sqrt(rows - 1), "rows")
    for what, other in (("seeds", (6, 0)), ("high half of seeds", (5 + 2**32, 0)), ("row offsets", (5, 2**32))):
        assert_standard_normal((one * standardised(*other)).sum(axis=0) / np.sqrt(rows), what)


@pytest.mark.parametrize(("bits", "samples"), [(2, 2), (4, 2), (4, 3), (8, 2), (8, 7)])
@pytest.mark.parametrize("kind", KINDS)
def test_drawn_samples_are_unbiased_and_pairwise_independent(kind, bits, samples):
    """Given a, over encoding and drawing: every sample has mean a, every pair covariance 0."""
    rng, rows, features, s = np.random.default_rng([bits, samples]), 20_000, 8, ref.intervals(bits, samples)
    levels = np.cumsum(rng.uniform(0.5, 2, size=(features, s + 1)), axis=1)
    pair = Pair(kind, levels, bits, samples)
    cell = rng.integers(0, s, size=features)
    low, high = (pair.levels[np.arange(features), i].astype(np.float64) for i in (cell, cell + 1))
    a = np.float32(low + rng.uniform(0.1, 0.9, size=features) * (high - low))
    p = (a - low) / (high - low)
    packed = pair.codec.encode(np.tile(a, (rows, 1)), seed=1)
    drawn = pair.codec.draw(packed, seed=2)
    assert drawn.shape == (samples, rows, features)
    up = drawn == high.astype(np.float32)
    np.testing.assert_array_equal(drawn, np.where(up, high.astype(np.float32), low.astype(np.float32)))
    np.testing.assert_array_equal(up.sum(axis=0), pair.codec.codes(packed) - samples * cell)
    centred = (up - p) / np.sqrt(p * (1 - p))
    assert_standard_normal(centred.mean(axis=1) * np.sqrt(rows), "mean")
    for i, j in combinations(range(samples), 2):
        assert_standard_normal(np.mean(centred[i] * centred[j], axis=0) * np.sqrt(rows), f"samples {i} and {j}")


@pytest.mark.parametrize("samples", [2, 3, 5])
def test_draws_are_exchangeable(samples):
    """Given a code, every assignment of its ups to the samples is equally likely, independently for every value."""
    rows, features = 10_000, 34
    codec = Codec.uniform(np.zeros(features, np.float32), np.ones(features, np.float32), 3, samples)
    for up in range(1, samples):
        packed = ref.pack(np.full((rows, features), up, np.uint8), 3)
        drawn = codec.draw(packed, seed=up) > 0
        np.testing.assert_array_equal(drawn.sum(axis=0), up)
        patterns = list(combinations(range(samples), up))
        share = 1 / len(patterns)
        for pattern in patterns:
            found = np.all(drawn == np.isin(np.arange(samples), pattern)[:, None, None], axis=0)
            assert_standard_normal((found.mean(axis=0) - share) / np.sqrt(share * (1 - share) / rows), str(pattern))
        first = (drawn[0] - up / samples) / np.sqrt(up / samples * (1 - up / samples))
        assert_standard_normal((first.T @ first / np.sqrt(rows))[np.triu_indices(features, 1)], "features")
        assert_standard_normal((first[1:] * first[:-1]).sum(axis=0) / np.sqrt(rows - 1), "rows")


# ---- Pieces, kinds of input, errors ----


@pytest.mark.parametrize(("bits", "samples"), [(3, 1), (4, 2), (8, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_the_whole(kind, bits, samples):
    pair = Pair.random(kind, bits, samples, 70)
    X, start = pair.values(300), 2**32 - 100
    whole = pair.codec.encode(X, seed=4, row_offset=start)
    drawn = pair.codec.draw(whole, seed=8, row_offset=start)
    for cuts in ([0, 300], [0, 1, 64, 65, 200, 300], list(range(0, 301, 20))):
        pieces = [slice(*cut) for cut in pairwise(cuts)]
        encoded = [pair.codec.encode(X[piece], seed=4, row_offset=start + piece.start) for piece in pieces]
        same(np.concatenate(encoded), whole, str(cuts))
        parts = [pair.codec.draw(whole[piece], seed=8, row_offset=start + piece.start) for piece in pieces]
        same(np.concatenate(parts, axis=1), drawn, str(cuts))


@pytest.fixture
def pair():
    return Pair.random("uniform", 4, 2, 33)


def test_attributes():
    for bits, samples in ALL:
        for kind, features in product(KINDS, (1, 33, 128)):
            codec = Pair.random(kind, bits, samples, features).codec
            assert (codec.bits, codec.samples, codec.features) == (bits, samples, features)
            assert codec.intervals == ref.intervals(bits, samples)
            assert codec.stride == ref.stride(features, bits)


@pytest.mark.parametrize(
    "how", ["read-only", "memmap", "Fortran", "float64", "rows", "columns", "backwards", "transposed"]
)
def test_kinds_of_input(pair, how, tmp_path):
    X = pair.values(50)
    expected = pair.codec.encode(X, seed=1)
    if how == "read-only":
        given = X.copy()
        given.flags.writeable = False
    elif how == "memmap":
        X.tofile(tmp_path / "X")
        given = np.memmap(tmp_path / "X", np.float32, mode="r", shape=X.shape)
    elif how == "Fortran":
        given = np.asfortranarray(X)
    elif how == "float64":
        given = X.astype(np.float64)
    elif how == "transposed":
        given = np.ascontiguousarray(X.T).T
    else:
        wide = np.full((100, 66), np.nan, np.float32)  # what lies between must not be read
        given = {"rows": wide[::2, :33], "columns": wide[:50, ::2], "backwards": wide[49::-1, 32::-1]}[how]
        given[...] = X
    before = given.copy()
    same(pair.codec.encode(given, seed=1), expected, how)
    np.testing.assert_array_equal(given, before)


def test_kinds_of_packed_input(pair, tmp_path):
    packed = pair.codec.encode(pair.values(50))
    packed.tofile(tmp_path / "packed")
    mapped = np.memmap(tmp_path / "packed", np.uint8, mode="r", shape=packed.shape)
    frozen, spread = packed.copy(), np.repeat(packed, 2, axis=0)[::2]
    frozen.flags.writeable = False
    for given in (mapped, frozen, spread, np.asfortranarray(packed)):
        for method in (pair.codec.decode, pair.codec.codes, pair.codec.draw):
            same(np.asarray(method(given)), method(packed), str(type(given)))


@pytest.mark.parametrize("kind", KINDS)
def test_empty(kind):
    pair = Pair.random(kind, 4, 2, 33)
    packed = pair.codec.encode(np.empty((0, 33), np.float32), threads=2)
    same(packed, np.empty((0, pair.codec.stride), np.uint8), "encode")
    same(pair.codec.codes(packed), np.empty((0, 33), np.uint8), "codes")
    same(pair.codec.decode(packed), np.empty((0, 33), np.float32), "decode")
    same(pair.codec.draw(packed), np.empty((2, 0, 33), np.float32), "draw")


@pytest.mark.parametrize("level", SIMD)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_values_are_named(kind, level):
    pair = Pair.random(kind, 4, 2, 35)
    X = pair.values(40)
    low, high, infinity = pair.levels[:, 0], pair.levels[:, -1], np.float32(np.inf)
    with simd.use(level):
        for row, column in [(0, 0), (3, 2), (17, 16), (39, 33), (12, 34)]:
            below, above = np.nextafter(low[column], -infinity), np.nextafter(high[column], infinity)
            for value in (np.nan, infinity, -infinity, below, above, FLOAT_MAX):
                bad = X.copy()
                bad[row, column] = value
                for threads in (1, 2):
                    with pytest.raises(DataError, match=rf"(?is)(?=.*\brow\D*{row}\b)(?=.*\bcolumn\D*{column}\b)"):
                        pair.codec.encode(bad, threads=threads)


def test_wrong_shapes(pair):
    packed = pair.codec.encode(pair.values(4))
    for X in (np.zeros((4, 32)), np.zeros((4, 34)), np.zeros(33), np.zeros((2, 4, 33))):
        with pytest.raises((DataError, OptionError)):
            pair.codec.encode(X.astype(np.float32))
    for method in (pair.codec.decode, pair.codec.codes, pair.codec.draw):
        for wrong in (packed[:, :-1], packed[0], np.pad(packed, ((0, 0), (0, 1)))):
            with pytest.raises((DataError, OptionError)):
                method(wrong)


def test_rows_of_a_draw(pair):
    """One number a row: fewer would be read beyond their end."""
    packed = pair.codec.encode(pair.values(40))
    expected = pair.codec.draw(packed, seed=3, row_offset=5)
    for rows in (np.arange(5, 45), range(5, 45), np.arange(5, 45, dtype=np.int16), np.arange(5, 85, dtype=np.uint64)[:40]):
        same(pair.codec.draw(packed, seed=3, rows=rows), expected, str(type(rows)))
    for rows in (np.arange(39, dtype=np.uint64), np.arange(41), [[1] * 40], np.arange(40) - 1, np.arange(40.0)):
        with pytest.raises(OptionError, match="rows"):
            pair.codec.draw(packed, rows=rows)
    with pytest.raises(OptionError, match="row_offset"):
        pair.codec.draw(packed, row_offset=2**64)


@pytest.mark.parametrize(("bits", "samples"), [(0, 1), (9, 1), (-1, 1), (4, 0), (4, -1), (4, 16), (1, 2), (8, 256)])
def test_bad_bits_and_samples(bits, samples):
    with pytest.raises(OptionError):
        Codec.uniform(np.zeros(3, np.float32), np.ones(3, np.float32), bits, samples)
    with pytest.raises(OptionError):
        Codec(np.tile(np.arange(16, dtype=np.float32), (3, 1)), bits=bits, samples=samples)


def test_bad_levels():
    good = np.tile(np.arange(8, dtype=np.float32), (3, 1))
    Codec(good, bits=3, samples=1)
    swapped, not_a_number, infinite = good.copy(), good.copy(), good.copy()
    swapped[1, 3:5] = swapped[1, 4:2:-1]
    not_a_number[2, 4], infinite[0, 7] = np.nan, np.inf
    for levels in (
        swapped,
        good[:, ::-1],
        not_a_number,
        infinite,
        good[:, :7],
        good[0],
        np.pad(good, ((0, 0), (0, 1))),
        1e300 * good.astype(np.float64),
        [[0, 1], [0]],
        "levels",
    ):
        with pytest.raises((OptionError, DataError)):
            Codec(levels, bits=3, samples=1)
    for low, high in [([0, 1], [1, 0.5]), ([0, np.nan], [1, 1]), ([0, 0], [1, np.inf]), ([0, 0, 0], [1, 1])]:
        with pytest.raises((OptionError, DataError)):
            Codec.uniform(np.float32(low), np.float32(high), 3, 1)
    with pytest.raises(OptionError, match="low"):
        Codec.uniform("low", 1, 3, 1)


def test_levels_are_the_codecs_own():
    levels = np.tile(np.arange(8, dtype=np.float32), (3, 1))
    codec = Codec(levels, bits=3, samples=1)
    levels[:] = 0
    same(codec.levels, np.tile(np.arange(8, dtype=np.float32), (3, 1)), "levels")


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["uniform", "table"])
def test_pickled_codecs_give_the_same_bytes(kind, shared):
    X = np.random.default_rng(0).uniform(-1, 1, (50, 70)).astype(np.float32)
    count = 1 if shared else 70
    if kind == "uniform":
        codec = Codec.uniform(np.full(count, -1), np.full(count, 1), 3, 2, features=70)
    else:
        codec = Codec(np.tile([-1, -0.5, 0.1, 1], (count, 1)), 3, 2, features=70)
    again = pickle.loads(pickle.dumps(codec))
    assert repr(again) == repr(codec) and (again.is_uniform, again.is_shared) == (kind == "uniform", shared)
    np.testing.assert_array_equal(again.encode(X, seed=4), codec.encode(X, seed=4))
    np.testing.assert_array_equal(again.decode(again.encode(X)), codec.decode(codec.encode(X)))


def test_bad_rounding():
    low, high = np.zeros(3, np.float32), np.ones(3, np.float32)
    for samples, rounding in [(1, "upwards"), (2, "nearest")]:
        with pytest.raises(OptionError):
            Codec.uniform(low, high, 4, samples, rounding=rounding)


def test_errors_are_value_errors():
    assert issubclass(OptionError, ValueError)
    assert issubclass(DataError, ValueError)
