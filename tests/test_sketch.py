"""The sketch against its NumPy twin (FORMAT.md, section 5): the same integers for any blocks, threads and vector level."""

import numpy as np
import pytest
import reference

from zipml_codec import sketch as module
from zipml_codec.errors import OptionError
from zipml_codec.kernels import columns as kernel
from zipml_codec.kernels import simd
from zipml_codec.sketch import Sketch, add_cells, position, regroup
from zipml_codec.statistics import ColumnStatistics

RNG = np.random.default_rng(3)
N = 9000
COLUMNS = {
    "normal": RNG.normal(size=N),
    "walk": RNG.normal(size=N).cumsum(),  # the range grows all along
    "late": np.where(np.arange(N) < 4000, 7.0, RNG.normal(size=N)),  # constant for a long time
    "constant": np.full(N, -2.5),
    "integers": RNG.integers(0, 5, N),
    "cauchy": RNG.standard_cauchy(N) ** 3,
    "small": RNG.normal(size=N) * 1e-20,
    "offset": 1e6 + RNG.integers(0, 1000, N),
    "denormal": RNG.integers(-50, 50, N) * 1.4e-45,
    "huge": RNG.normal(size=N).clip(-2, 2) * 1.5e38,
    "outlier": np.where(np.arange(N) == 5000, -1e30, RNG.normal(size=N)),
    "zeros": np.where(np.arange(N) % 3 > 0, 0.0, np.where(np.arange(N) % 2 > 0, -0.0, RNG.exponential(size=N))),
    "mostly zero": np.where(RNG.random(N) < 0.9, 0.0, np.where(np.arange(N) == 10, 1e12, RNG.lognormal(size=N))),
}
TABLE = np.stack(list(COLUMNS.values()), axis=1).astype(np.float32)
FEATURES = TABLE.shape[1]


def learn(x, size=4096, threads=1, **options):
    """Statistics of rows offered in blocks."""
    found = ColumnStatistics(x.shape[1], **options)
    for start in range(0, len(x), size):
        assert found.add(np.ascontiguousarray(x[start : start + size]), threads)
    found.segments(slice(0, 1))  # counts what waits
    return found


def expected(x, cells=None, units=None):
    """The twin's sketch of every column."""
    cells = cells or reference.sketch_cells(x.shape[1])
    units = units or [reference.sketch_units(x[:, f], x.shape[1]) for f in range(x.shape[1])]
    return units, [reference.sketch(x[:, f], *units[f], cells) for f in range(x.shape[1])]


def assert_equal(sketch, twin):
    """Bit by bit."""
    units, columns = twin
    np.testing.assert_array_equal(sketch.pivot, [c for c, _ in units])
    assert sketch.exponent.tolist() == [g for _, g in units]
    for f, (e, first, count, total, least, most) in enumerate(columns):
        assert (sketch.shift[f], sketch.first[f]) == (e, first), f
        cells = sketch.room[0, f]
        assert not cells[sketch.cells :].view(np.uint8).any()  # the padding
        cells = cells[: sketch.cells]
        np.testing.assert_array_equal(cells["count"], count, err_msg=str(f))
        np.testing.assert_array_equal(cells["offsets"], total)
        used = count > 0
        np.testing.assert_array_equal((~cells["bottom"])[used], least[used])
        np.testing.assert_array_equal(cells["top"][used], most[used])
        assert not cells[~used].copy().view(np.uint8).any()


@pytest.fixture(scope="module")
def twin():
    return expected(TABLE)


@pytest.mark.parametrize("level", simd.levels())
@pytest.mark.parametrize(("size", "threads"), [(64, 1), (192, 2), (1024, 3), (N, 1), (N, 2)])
def test_twin(twin, level, size, threads, monkeypatch):
    """Whether features or rows are shared among threads, too."""
    with simd.use(level):
        assert_equal(learn(TABLE, size, threads).sketch, twin)
        if threads > 1:
            monkeypatch.setattr(module, "NARROW", 0)
            assert_equal(learn(TABLE, size, threads).sketch, twin)


def test_threads_that_count_apart():
    """Few features: threads share the rows, their number may change on the way, and growth finds what they counted."""
    x = np.concatenate([TABLE * np.float32(scale) for scale in (1e-3, 1, 1, 1)])[:, :5].copy()
    assert 4 * reference.sketch_cells(5) <= N and x.shape[1] <= 2 * module.NARROW
    learnt = ColumnStatistics(5)
    for block, threads in zip(np.array_split(x, 4), (2, 1, 3, 2), strict=True):
        assert learnt.add(block, threads)
    assert learnt.sketch._apart is not None
    learnt.segments()
    assert_equal(learnt.sketch, expected(x))


@pytest.mark.parametrize("features", [1, 63, 64, 65, 200])
def test_any_number_of_features(features):
    x = RNG.standard_cauchy((300, features)).astype(np.float32)
    assert_equal(learn(x, 128).sketch, expected(x))


@pytest.mark.parametrize("rows", [1, 2, 5, 63, 64, 65])
def test_few_rows(rows):
    x = np.ascontiguousarray(TABLE[-rows:])
    assert_equal(learn(x).sketch, expected(x))


@pytest.mark.parametrize("cells", [64, 100, 4096])
def test_growth(cells):
    """A range that grows from nothing to all of float32: cells merge again and again, and nothing is lost."""
    x = (RNG.choice([-1.0, 1.0], 1500) * np.logspace(-3, 30, 1500))[:, None].astype(np.float32)
    grown = Sketch(1, cells)
    for start in range(0, len(x), 20):
        grown.add(x[start : start + 20], x[: start + 20].min(axis=0), x[: start + 20].max(axis=0), 1)
    shifts = int(grown.shift[0])
    assert shifts > 20 - np.log2(cells / 64)
    assert_equal(grown, expected(x, cells))


def test_regroup_in_one_step_or_many():
    """Cells of 2**3 keys on cells of 2**9: places and ends as if counted there."""
    keys = RNG.integers(-5000, 5000, 3000)

    def counted(shift, first, cells=1 << 12):
        out = np.zeros(cells, kernel.CELL)
        cell, place = (keys >> shift) - first, (keys & ((1 << shift) - 1)).astype(np.uint32)
        np.add.at(out["count"], cell, 1)
        np.add.at(out["offsets"], cell, place.astype(np.uint64))
        np.maximum.at(out["top"], cell, place)
        np.maximum.at(out["bottom"], cell, ~place)
        return out

    start = counted(3, -5000 >> 3)
    once = regroup(start, 3, -5000 >> 3, 9, -5000 >> 9)
    steps = start
    for shift in range(3, 9):
        steps = regroup(steps, shift, -5000 >> shift, shift + 1, -5000 >> (shift + 1))
    np.testing.assert_array_equal(once, counted(9, -5000 >> 9))
    np.testing.assert_array_equal(steps, once)
    np.testing.assert_array_equal(regroup(start, 3, -5000 >> 3, 3, (-5000 >> 3) - 7), counted(3, (-5000 >> 3) - 7))


def test_cells_add_up():
    low, high = TABLE.min(axis=0), TABLE.max(axis=0)
    whole = learn(TABLE).sketch
    total = np.zeros_like(whole.room[0])
    for part in np.array_split(TABLE, 7):
        own = whole.alike()
        own.add(part, low, high, 1)
        assert (own.shift == whole.shift).all()
        add_cells(total, own.room[0])
    np.testing.assert_array_equal(total, whole.room[0])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_merge(twin, order):
    """Three parts of other ranges, sketched apart and merged in any order: the sketch of all rows."""
    cuts = [slice(0, 1024), slice(1024, 3000), slice(3000, N)]
    first = Sketch(FEATURES)
    first.add(TABLE[cuts[0]], TABLE[cuts[0]].min(axis=0), TABLE[cuts[0]].max(axis=0), 1)
    parts, low, high = [], [], []
    for cut in cuts:
        part = first.alike()
        low.append(TABLE[cut].min(axis=0))
        high.append(TABLE[cut].max(axis=0))
        part.add(TABLE[cut], low[-1], high[-1], 1)
        parts.append(part)
    total = first.alike()
    for count in range(1, 4):
        before = parts[order[count - 1]].room.copy()
        seen = order[:count]
        total.merge(parts[order[count - 1]], np.min([low[i] for i in seen], axis=0), np.max([high[i] for i in seen], axis=0))
        np.testing.assert_array_equal(parts[order[count - 1]].room, before)
    assert_equal(total, twin)


def test_merge_refuses_what_does_not_fit():
    low, high = TABLE.min(axis=0), TABLE.max(axis=0)
    one, moved, waiting = learn(TABLE).sketch, learn(TABLE[::-1] + np.float32(1)).sketch, Sketch(FEATURES)
    before = one.room.copy()
    with pytest.raises(OptionError, match=r"different pivots and units .*feature 0 has .* 2\*\*"):
        one.merge(moved, low, high)
    with pytest.raises(OptionError, match="the other sketch still waits"):
        one.merge(waiting, low, high)
    with pytest.raises(OptionError, match="this sketch still waits"):
        waiting.merge(one, low, high)
    with pytest.raises(OptionError, match=f"{FEATURES} features, 2048 cells and of {FEATURES} features, 64 cells"):
        other = Sketch(FEATURES, 64)
        other.add(TABLE, low, high, 1)
        one.merge(other, low, high)
    units = one.alike()
    units.exponent[4] += 1
    with pytest.raises(OptionError, match="feature 4"):
        one.merge(units, low, high)
    np.testing.assert_array_equal(one.room, before)


@pytest.mark.parametrize("columns", [["normal", "walk", "constant", "integers"], ["normal", "outlier", "offset"]])
def test_shared(columns):
    """One pivot and unit for all; merged, the sketch of all values as one column."""
    x = np.ascontiguousarray(TABLE[:, [list(COLUMNS).index(name) for name in columns]])
    learnt = learn(x, shared=True)
    unit = reference.sketch_units(x)
    assert_equal(learnt.sketch, expected(x, units=[unit] * x.shape[1]))
    merged = learnt.segments()
    one = Sketch(1, learnt.sketch.cells)
    one.pivot[:], one.exponent[:], one._waiting = unit[0], unit[1], None
    low, high = x.min(keepdims=True)[0], x.max(keepdims=True)[0]
    one.add(x.reshape(-1, 1), low, high, 1)
    single = one.segments(low, high)
    for name in ("weight", "left", "right", "variance", "low", "high", "pivot", "unit"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(single, name))
    assert merged.weight.sum() == x.size


def segment_values(segments, f):
    """Middles in the column's own unit, and weights."""
    used = segments.weight[f] > 0
    middle = (segments.left[f] + segments.right[f])[used] / 2
    return segments.pivot[f] + middle * segments.unit[f], segments.weight[f][used]


@pytest.mark.parametrize("name", COLUMNS)
def test_segments(name):
    """Weights are rows; the mean and the ends of the column, to a float32's last bit."""
    f = list(COLUMNS).index(name)
    x, learnt = TABLE[:, f].astype(np.float64), learn(TABLE)
    segments = learnt.segments()
    middle, weight = segment_values(segments, f)
    unit, far = segments.unit[f], np.abs(TABLE[:, f].astype(np.float64) - segments.pivot[f])
    bit = 2.0**-22 * (unit + far)  # of 1 + |d|
    assert weight.sum() == N
    assert segments.low[f] * unit + segments.pivot[f] == pytest.approx(x.min(), rel=1e-15, abs=0)
    assert segments.high[f] * unit + segments.pivot[f] == pytest.approx(x.max(), rel=1e-15, abs=0)
    assert abs(middle @ weight / N - x.mean()) <= bit.mean()
    assert (np.diff(segments.left[f][segments.weight[f] > 0]) >= 0).all()
    assert (segments.left[f] <= segments.right[f]).all()
    moment = (weight * ((middle - segments.pivot[f]) ** 2)).sum()
    inside = (segments.weight[f] * segments.variance[f]).sum() * unit**2
    exact = ((x - segments.pivot[f]) ** 2).sum()
    assert moment - 2 * (bit * far).sum() <= exact <= moment + inside + 2 * (bit * (far + bit)).sum()


def test_cells_of_three_values_are_exact():
    """Groups of one to three values far apart, a group a cell: every value is a segment of no width."""
    x = np.concatenate([k * 50 + RNG.permutation([0, 0.25, 0.75])[: 1 + k % 3] for k in range(-200, 200)]).astype(np.float32)
    x = RNG.permutation(x)
    learnt = learn(x[:, None])
    count = learnt.sketch.room[0, 0]["count"]
    assert count.max() == 3 and np.count_nonzero(count == 3) > 100
    segments = learnt.segments()
    middle, weight = segment_values(segments, 0)
    assert (segments.left == segments.right).all() and (weight == 1).all() and not segments.variance.any()
    bit = 2.0**-21 * (segments.unit[0] + np.abs(np.sort(x) - segments.pivot[0]))
    assert (np.abs(middle - np.sort(x)) <= bit).all()


@pytest.mark.parametrize("exponent", [-20, 0, 30])
def test_position_inverts_keys(exponent):
    """The key of a key's position is that key, or its neighbour where 1 + |d| rounds to it; keys ascend with positions."""
    pivot, unit = np.float32(0), 2.0**exponent
    keys = np.unique(np.concatenate([RNG.integers(-(2**23) * 60, 2**23 * 60, 5000), np.arange(-50, 50)]))
    where = position(keys.astype(float))
    assert (np.diff(where) >= 0).all() and np.count_nonzero(np.diff(where) == 0) == 1  # keys 0 and -1 are both at 0
    values = (where * unit).astype(np.float32)
    n = len(values)
    back = kernel.keys(values, np.full(n, pivot), np.full(n, 1 / unit, np.float32))
    assert back[keys == -1] == 0  # its position is 0
    near = (np.abs(keys) < 2**23) & (keys != -1)
    assert near.sum() > 140
    np.testing.assert_array_equal(back[near], keys[near])
    assert (np.abs(back - keys) <= 1).all() and (np.diff(back) >= 0).all()
    np.testing.assert_array_equal(back, reference.sketch_keys(values, pivot, exponent))
    np.testing.assert_allclose(where * unit, reference.sketch_position(keys, pivot, exponent), rtol=1e-15, atol=0)
    halves = position(keys + 0.5)
    assert ((halves[keys >= 0] > where[keys >= 0]) & (halves[keys >= 0] < position(keys[keys >= 0] + 1.0))).all()


def test_zeros_have_one_key():
    values = np.array([0.0, -0.0, -1e-45, 1e-45], np.float32)
    assert kernel.keys(values, np.zeros(4, np.float32), np.ones(4, np.float32)).tolist() == [0, 0, -1, 0]


def test_an_outlier_among_the_first_rows_does_not_set_the_unit():
    """Mostly one value, some others, and one far away: the unit is that of the others."""
    x = np.zeros((2000, 1), np.float32)
    x[::7, 0] = RNG.normal(size=len(x[::7]))
    x[700] = 1e12
    assert learn(x).sketch.exponent[0] == learn(np.where(x > 1e6, 0, x)).sketch.exponent[0] in (1, 2, 3)


@pytest.mark.parametrize("features", [1, 5000, 10_000, 100_000, 200_000])
def test_memory_is_bounded(features):
    sketch = Sketch(features)
    assert sketch.cells == reference.sketch_cells(features)
    own = sketch.cells * kernel.CELL.itemsize * features
    assert own <= max(module.ROOM_BYTES, 64 * kernel.CELL.itemsize * features)
    assert sketch.room.nbytes <= own * 9 / 8
    assert sketch._first_rows * features * 4 <= max(module.PIVOT_BYTES, 64 * features * 4)
