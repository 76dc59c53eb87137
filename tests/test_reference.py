"""The reference held against mathematics: published vectors, enumeration and brute force."""

from itertools import combinations, permutations, product

import numpy as np
import pytest
import reference as ref

BITS_AND_SAMPLES = [(bits, k) for bits in range(1, 9) for k in sorted({1, 2, 3, 7, 2**bits - 1}) if k < 2**bits]


# ---- Randomness ----


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter, key, expected):
    counter, key, expected = (
        np.array([int(word, 16) for word in v.split()], np.uint32) for v in (counter, key, expected)
    )
    np.testing.assert_array_equal(ref.philox4x32(counter, key), expected)
    np.testing.assert_array_equal(ref.philox4x32(np.tile(counter, (3, 2, 1)), key), np.tile(expected, (3, 2, 1)))


def test_words_follow_the_counter_rule_one_by_one():
    seed, rows = 2**63 + 5, np.array([0, 7, 2**32 - 1, 2**32, 2**40 + 3], np.uint64)
    got = ref.words(seed, rows, 130, ref.DRAW, 3)
    assert got.shape == (5, 130, 3)
    assert got.dtype == np.uint32
    for r, f, w in product(range(5), [0, 15, 16, 17, 63, 64, 79, 80, 127, 128, 129], range(3)):
        row = int(rows[r])
        counter = np.array([16 * (f // 64) + f % 16, row % 2**32, row // 2**32, 1 * 65536 + w], np.uint32)
        assert got[r, f, w] == ref.philox4x32(counter, (seed % 2**32, seed // 2**32))[f % 64 // 16]


def test_words_never_repeat_and_pieces_agree():
    rows = ref.row_numbers(6, 2**32 - 3)
    np.testing.assert_array_equal(rows, [2**32 - 3 + i for i in range(6)])
    whole = ref.words(1, rows, 200, ref.ENCODE, 4)
    assert len(np.unique(whole)) >= whole.size - 2  # 4,800 of 2**32: a shared counter would show at once
    np.testing.assert_array_equal(ref.words(1, rows[4:], 70, ref.ENCODE, 2), whole[4:, :70, :2])
    assert ref.words(1, rows[:0], 3, ref.ENCODE, 2).shape == (0, 3, 2)


# ---- Codes ----


@pytest.mark.parametrize(("bits", "samples"), BITS_AND_SAMPLES)
def test_codes_fit_and_no_interval_is_wasted(bits, samples):
    s = ref.intervals(bits, samples)
    assert s >= 1
    assert s * samples + 1 <= 2**bits < (s + 1) * samples + 1


def every_sample(monkeypatch, R, samples):
    """Make `words` give every tuple of `samples` equally spaced R-bit integers (8 of them), one a row."""
    tuples = np.array(list(product(range(8), repeat=samples)), np.uint64) * np.uint64(2**R // 8)

    def words(seed, rows, features, purpose, count):
        if R == 24:
            w = tuples << np.uint64(8)
        else:
            padded = np.pad(tuples, ((0, 0), (0, samples % 2)))
            w = padded[:, ::2] | padded[:, 1::2] << np.uint64(16)
        assert w.shape[1] == count
        return np.repeat(w.astype(np.uint32)[:, None], features, axis=1)

    monkeypatch.setattr(ref, "words", words)
    return len(tuples)


@pytest.mark.parametrize(("bits", "samples"), [(1, 1), (2, 2), (2, 3), (4, 1), (4, 2), (4, 3), (5, 2), (8, 3)])
@pytest.mark.parametrize("kind", ["uniform", "table"])
def test_mean_and_variance_over_every_outcome(monkeypatch, kind, bits, samples):
    """E[m] = a and Var(m) = (u - a)(a - l) / k exactly, where p is a multiple of 1/8 and so are the random numbers."""
    s = ref.intervals(bits, samples)
    rows = every_sample(monkeypatch, ref.random_bits(bits, samples), samples)
    a = np.arange(8 * s + 1, dtype=np.float32) * samples
    low, high = np.zeros_like(a), np.full_like(a, 8 * s * samples)
    levels = np.tile(np.arange(s + 1, dtype=np.float32) * 8 * samples, (len(a), 1))
    X = np.tile(a, (rows, 1))
    if kind == "uniform":
        codes = ref.encode_uniform(X, low, high, bits, samples)
        m = ref.decode_uniform(codes, low, high, bits, samples)
    else:
        codes = ref.encode_table(X, levels, bits, samples)
        m = ref.decode_table(codes, levels, bits, samples)
    m, a = m.astype(np.float64), a.astype(np.float64)
    below, above = np.floor(a / (8 * samples)) * 8 * samples, np.ceil(a / (8 * samples)) * 8 * samples
    np.testing.assert_allclose(m.mean(axis=0), a, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(m.var(axis=0), (above - a) * (a - below) / samples, rtol=1e-5, atol=1e-6)
    up = codes.astype(int) - samples * np.minimum(a // (8 * samples), s - 1).astype(int)
    np.testing.assert_array_equal(up.mean(axis=0) / samples, a / (8 * samples) - np.minimum(a // (8 * samples), s - 1))


@pytest.mark.parametrize(("bits", "samples"), BITS_AND_SAMPLES)
def test_levels_and_ends(bits, samples):
    """Decoded ends are exact; a value on a table's level or at lo stays, on other uniform levels but for rounding."""
    rng, n = np.random.default_rng(bits * 256 + samples), 200
    s, R = ref.intervals(bits, samples), ref.random_bits(bits, samples)
    low = rng.normal(size=n).astype(np.float32)
    high = (low + rng.uniform(0.5, 2, size=n)).astype(np.float32)
    ends = np.repeat(np.array([[0], [s * samples]], np.uint8), n, axis=1)
    levels = ref.uniform_levels(low, high, bits, samples)
    for decoded in (ref.decode_uniform(ends, low, high, bits, samples), ref.decode_table(ends, levels, bits, samples)):
        np.testing.assert_array_equal(decoded, [low, high])
    np.testing.assert_array_equal(levels[:, [0, -1]].T, [low, high])
    inner = levels[:, :-1].T
    np.testing.assert_array_equal(
        ref.encode_table(inner, levels, bits, samples), np.repeat(samples * np.arange(s)[:, None], n, axis=1)
    )
    assert not ref.encode_uniform(low[None], low, high, bits, samples).any()
    moved = ref.encode_uniform(levels.T, low, high, bits, samples) - samples * np.arange(s + 1)[:, None]
    assert np.abs(moved).max() <= samples
    assert np.mean(moved != 0) <= 8 * (s + 1) * samples * 2.0**-24 + samples * 2.0**-R + 5 / moved.size


def test_nearest_is_the_nearest_level():
    rng = np.random.default_rng(0)
    levels = np.sort(rng.normal(size=(5, 16)).astype(np.float32), axis=1)
    X = rng.uniform(levels[:, 0], levels[:, -1], size=(300, 5)).astype(np.float32)
    codes = ref.encode_table(X, levels, 4, 1, rounding="nearest")
    np.testing.assert_array_equal(codes, np.abs(X[..., None] - levels).argmin(axis=-1))
    codes = ref.encode_uniform(X, levels[:, 0], levels[:, -1], 4, 1, rounding="nearest")
    even = ref.uniform_levels(levels[:, 0], levels[:, -1], 4, 1)
    np.testing.assert_array_equal(codes, np.abs(X[..., None] - even).argmin(axis=-1))


def test_constant_and_repeated_levels():
    constant = np.full((4, 2), 3.25, np.float32)
    low = high = constant[0]
    codes = ref.encode_uniform(constant, low, high, 4, 2)
    np.testing.assert_array_equal(ref.decode_uniform(codes, low, high, 4, 2), constant)
    table = np.full((2, 8), 3.25, np.float32)
    codes = ref.encode_table(constant, table, 4, 2)
    np.testing.assert_array_equal(ref.decode_table(codes, table, 4, 2), constant)
    table = np.array([[0, 1, 5, 5, 5, 5, 5, 5]], np.float32)
    X = np.array([[0], [1], [5], [0.5], [3]], np.float32)
    decoded = ref.decode_table(ref.encode_table(X, table, 4, 2, seed=3), table, 4, 2)
    np.testing.assert_array_equal(decoded[:3], X[:3])
    assert decoded[3] in (0, 0.5, 1)
    assert decoded[4] in (1, 3, 5)


@pytest.mark.parametrize("samples", [1, 2, 3, 5])
def test_draw_hands_out_every_assignment_equally_often(samples):
    rows = 20_000
    for up in range(samples):
        codes = np.full((rows, 1), samples + up, np.uint8)
        drawn = ref.draw_ups(codes, samples, 9, ref.row_numbers(rows))[..., 0]
        np.testing.assert_array_equal(drawn.sum(axis=0), up)
        patterns = list(combinations(range(samples), up))
        share = 1 / len(patterns)
        for pattern in patterns:
            count = np.all(drawn == np.isin(np.arange(samples), pattern)[:, None], axis=0).sum()
            assert abs(count - rows * share) <= 5 * np.sqrt(rows * share * (1 - share)), (up, pattern)


def test_draws_average_to_the_decoded_value():
    rng = np.random.default_rng(1)
    low, high = np.float32([0, -3, 1e8]), np.float32([1, 5, 2e8])
    levels = np.sort(rng.normal(size=(3, 86)).astype(np.float32), axis=1)
    codes = rng.integers(0, 256, size=(50, 3)).astype(np.uint8)
    drawn, m = ref.draw_uniform(codes, low, high, 8, 3), ref.decode_uniform(codes, low, high, 8, 3)
    np.testing.assert_allclose(drawn.mean(axis=0, dtype=np.float64), m, rtol=1e-6, atol=1e-6)
    drawn, m = ref.draw_table(codes, levels, 8, 3), ref.decode_table(codes, levels, 8, 3)
    np.testing.assert_allclose(drawn.mean(axis=0, dtype=np.float64), m, rtol=1e-6, atol=1e-6)


# ---- Rows in bytes ----


@pytest.mark.parametrize("bits", range(1, 9))
def test_pack_puts_feature_f_at_bit_b_f_and_unpack_inverts(bits):
    rng = np.random.default_rng(bits)
    for features in (1, 3, 5, 8, 63, 64, 65, 200):
        codes = rng.integers(0, 2**bits, size=(4, features)).astype(np.uint8)
        packed = ref.pack(codes, bits)
        assert packed.shape == (4, ref.stride(features, bits))
        for row, data in zip(codes, packed, strict=True):
            number = sum(int(code) << bits * f for f, code in enumerate(row))
            assert int.from_bytes(data.tobytes(), "little") == number
        np.testing.assert_array_equal(ref.unpack(packed, features, bits), codes)
        wide = ref.pack(codes, bits, stride=256)
        assert wide.shape == (4, 256)
        np.testing.assert_array_equal(ref.unpack(wide, features, bits), codes)


def test_stride():
    sizes = {1: 1, 55: 55, 56: 64, 57: 64, 64: 64, 65: 65, 111: 111, 112: 128, 128: 128, 447: 448, 449: 512, 513: 576}
    assert {size: ref.stride(size, 8) for size in sizes} == sizes
    assert ref.stride(3, 3) == 2


# ---- Levels ----


@pytest.mark.parametrize("trial", range(12))
def test_dynamic_programs_equal_brute_force(trial):
    rng = np.random.default_rng(trial)
    N = rng.integers(1, 10)
    x = [rng.normal(size=N), rng.lognormal(sigma=2, size=N), rng.integers(0, 5, size=N) + 1e6][trial % 3]
    for s in (1, 2, 3, 4, 9):
        best = ref.levels_cost(x, ref.brute_force_levels(x, s), exact=True)
        for levels in (ref.dp_levels(x, s), ref.divide_and_conquer_levels(x, s)):
            assert len(levels) <= s + 1
            assert np.all(np.diff(levels) > 0)
            assert (levels[0], levels[-1]) == (x.min(), x.max())
            assert ref.levels_cost(x, levels, exact=True) <= best * (1 + 1e-12) + 1e-25


@pytest.mark.parametrize("s", [2, 3, 7, 15])
def test_divide_and_conquer_equals_dynamic_program_with_weights(s):
    rng = np.random.default_rng(s)
    x, weights = rng.lognormal(size=300), rng.uniform(0, 3, size=300)
    expected = ref.levels_cost(x, ref.dp_levels(x, s, weights), weights)
    got = ref.levels_cost(x, ref.divide_and_conquer_levels(x, s, weights), weights)
    assert got == pytest.approx(expected, rel=1e-12)


def test_weights_are_repetitions():
    rng = np.random.default_rng(5)
    x, times = rng.normal(size=40), rng.integers(1, 5, size=40)
    repeated = np.repeat(x, times)
    levels = ref.dp_levels(repeated, 4)
    np.testing.assert_array_equal(ref.dp_levels(x, 4, times), levels)
    assert ref.levels_cost(x, levels, times) == pytest.approx(ref.levels_cost(repeated, levels), rel=1e-12)
    assert float(ref.levels_cost(x, levels, times, exact=True)) == pytest.approx(ref.levels_cost(x, levels, times))


def test_no_levels_anywhere_beat_levels_at_points():
    """ZipML, lemma 3: the best of a fine grid of level positions is no better than the best among the points."""
    x = np.sort(np.random.default_rng(2).normal(size=7))
    grid = np.linspace(x[0], x[-1], 60)
    best = min(ref.levels_cost(x, [x[0], a, b, x[-1]]) for a, b in combinations(grid[1:-1], 2))
    assert ref.levels_cost(x, ref.dp_levels(x, 3)) <= best * (1 + 1e-12)


def test_grid_levels_equal_brute_force_on_the_grid():
    rng = np.random.default_rng(3)
    for s in (1, 2, 3):
        x = rng.lognormal(size=30)
        grid = np.append(x.min() + np.arange(12) * (x.max() - x.min()) / 12, x.max())
        best = min(ref.levels_cost(x, [grid[0], *inner, grid[-1]]) for inner in combinations(grid[1:-1], s - 1))
        levels = ref.grid_levels(x, 12, s)
        assert np.isin(levels, grid).all()
        assert ref.levels_cost(x, levels) == pytest.approx(best, rel=1e-12)
    fine = ref.levels_cost(x, ref.grid_levels(x, 600, 3))
    assert ref.levels_cost(x, ref.dp_levels(x, 3)) == pytest.approx(fine, rel=2e-2)


def test_levels_of_one_value():
    for levels in (
        ref.dp_levels([2.5] * 3, 4),
        ref.divide_and_conquer_levels([2.5] * 3, 4),
        ref.grid_levels([2.5], 8, 4),
    ):
        np.testing.assert_array_equal(levels, [2.5])
        assert ref.levels_cost([2.5] * 3, levels) == 0


# ---- Gradients ----


@pytest.mark.parametrize("samples", [2, 3, 4, 5])
def test_collapse_is_the_mean_over_ordered_pairs(samples):
    """E[Q1 Q2 | t] over every ordered pair of different samples, less m^2."""
    low, width = 1.5, 0.75
    for up in range(samples):
        values = [low + width * (j < up) for j in range(samples)]
        pairs = [a * b for a, b in permutations(values, 2)]
        expected = np.mean(pairs) - np.mean(values) ** 2
        got = ref.collapse(np.array([[2 * samples + up]], np.uint8), width, samples)
        np.testing.assert_allclose(got, [[expected]], rtol=1e-12, atol=1e-14)


def outcomes(a, low, high, samples):
    """Every outcome of stochastic rounding of the row a: (probability, ups (n,)) for the counts of samples up."""
    p = (a - low) / (high - low)
    for up in product(range(samples + 1), repeat=len(a)):
        up = np.array(up)
        choose = np.array([len(list(combinations(range(samples), u))) for u in up])
        yield np.prod(choose * p**up * (1 - p) ** (samples - up)), up


def test_expectations_of_the_gradients_of_one_row():
    """By enumeration: naive is off by Var(m) x; double sampling, collapsed and diagonal are right."""
    a, x, target, k = np.array([0.3, 0.9, -0.2]), np.array([1.0, -2.0, 0.5]), 0.7, 2
    low, high = np.array([0.0, 0.5, -1.0]), np.array([1.0, 1.5, 0.25])
    exact, noise = a * (a @ x - target), (high - a) * (a - low) / k
    means = dict.fromkeys(("naive", "collapsed", "diagonal"), 0.0)
    for probability, up in outcomes(a, low, high, k):
        m = low + (high - low) * up / k
        correction = ref.collapse(up % k, high - low, k)
        means["naive"] += probability * ref.naive(m, x, target)
        means["collapsed"] += probability * ref.collapsed(m, correction, x, target)
        means["diagonal"] += probability * ref.diagonal(m, noise, x, target)
    np.testing.assert_allclose(means["naive"], exact + noise * x, rtol=1e-12)
    np.testing.assert_allclose(means["collapsed"], exact, rtol=1e-12)
    np.testing.assert_allclose(means["diagonal"], exact, rtol=1e-12)
    single = list(outcomes(a, low, high, 1))
    double = sum(
        p * q * ref.double_sampling(low + (high - low) * u, low + (high - low) * v, x, target)
        for (p, u), (q, v) in product(single, repeat=2)
    )
    np.testing.assert_allclose(double, exact, rtol=1e-12)


def test_gradients_of_a_matrix_are_means_over_rows():
    rng = np.random.default_rng(4)
    first, second, target, x = rng.normal(size=(6, 3)), rng.normal(size=(6, 3)), rng.normal(size=6), rng.normal(size=3)
    correction, noise = rng.normal(size=(6, 3)), rng.uniform(size=3)
    for whole, row in [
        (ref.naive(first, x, target), lambda r: ref.naive(first[r], x, target[r])),
        (
            ref.double_sampling(first, second, x, target),
            lambda r: ref.double_sampling(first[r], second[r], x, target[r]),
        ),
        (ref.collapsed(first, correction, x, target), lambda r: ref.collapsed(first[r], correction[r], x, target[r])),
        (ref.diagonal(first, noise, x, target), lambda r: ref.diagonal(first[r], noise, x, target[r])),
    ]:
        np.testing.assert_allclose(whole, np.mean([row(r) for r in range(6)], axis=0), rtol=1e-12)


@pytest.mark.parametrize("corrected", [False, True])
def test_normal_equations_are_stationary(corrected):
    rng = np.random.default_rng(6)
    X = rng.normal(size=(40, 4)) * [1, 10, 0.1, 1] + [0, 5, -3, 0]
    X[:, 3] = 0.1
    y, strength = rng.normal(size=40) + X[:, 1], 0.3
    scale = np.array([*X[:, :3].std(axis=0), 1.0])
    D = np.array([0.2, 0.1, 0.3, 0.5]) * scale**2 if corrected else None
    coef, intercept = ref.normal_equations(X, y, strength, D)
    assert coef[3] == 0
    Z, x = (X - X.mean(axis=0)) / scale, coef * scale
    residual = X @ coef + intercept - y
    assert residual.mean() == pytest.approx(0, abs=1e-12)
    gradient = Z.T @ residual / len(Z) + strength * x - (0 if D is None else D / scale**2 * x)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)
