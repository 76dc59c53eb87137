"""Tables of levels for a file: the byte grid or anywhere, a width by its error, levels kept, given back, and clipped to."""

import io
import json
import zipfile

import h5py
import numpy as np
import pytest
import reference

from zipml_codec import Codec, compress, load_levels, optimal_levels, save_levels
from zipml_codec import open as open_file
from zipml_codec.errors import CorruptError, DataError, FormatError, OptionError, OutputError
from zipml_codec.exact import exact_levels
from zipml_codec.survey import scan, survey
from zipml_codec.tables import SNAP_LIMIT, choose_bits, ends_of, grid_steps, optimal_table, uniform_levels, variance_of

ROWS = 20_000


def columns(*kinds, rows=ROWS):
    generator = np.random.default_rng(1)
    make = {
        "normal": lambda: generator.normal(size=rows),
        "uniform": lambda: generator.random(rows),
        "skewed": lambda: generator.gamma(2, size=rows),
        "cauchy": lambda: generator.standard_cauchy(rows),
        "outlier": lambda: np.append(generator.normal(size=rows - 1), 1e6),
        "lognormal": lambda: generator.lognormal(sigma=2, size=rows),
        "constant": lambda: np.full(rows, 0.1),
    }
    return np.stack([make[kind]() for kind in kinds], axis=1).astype(np.float32)


TAME, HEAVY = columns("normal", "uniform", "skewed", "constant"), columns("normal", "cauchy", "outlier", "constant")


def file_of(X, path, **options):
    with compress(X, path=path, overwrite=True, **options) as data:
        data.packed()
        return data


def relative(data):
    """Mean over the columns that vary of the decoded values' squared error over the variance."""
    varies = data.std > 0
    return float((data.error[varies] / data.std[varies] ** 2).mean())


# ---- The byte grid ----


@pytest.mark.parametrize("bits", range(1, 9))
def test_grid_steps(bits):
    for samples in range(1, 2**bits):
        steps, intervals = grid_steps(bits, samples), (2**bits - 1) // samples
        assert steps % intervals == 0 and steps * samples <= 255  # uniform levels are candidates; the samples' mean is a byte
        assert (steps > 0) == (bits <= 6 and 255 // samples >= 2 * intervals)
        assert steps == 0 or steps + intervals > 255 // samples  # the finest such grid


def assert_on_grid(data, steps):
    """All that codes decode to is a byte's multiple of (high - low) / (steps * samples) above low, to float32's rounding."""
    table = data.codec.values()[0].astype(np.float64)
    low, high = (np.float64(end) for end in (data.codec.bounds[:, :1], data.codec.bounds[:, -1:]))
    span = np.where(high > low, high - low, 1)
    marks = (table - low) / span * steps * data.samples
    bit = 2.0**-23 * np.maximum(np.abs(low), np.abs(high)) / span * steps * data.samples
    assert (np.abs(marks - np.round(marks)) <= bit + 1e-9).all() and bit.max() < 0.01
    assert marks.min() == 0 and marks.max() == pytest.approx(steps * data.samples) and steps * data.samples <= 255


@pytest.mark.parametrize(("bits", "samples"), [(2, 1), (3, 1), (4, 1), (4, 2), (5, 2), (5, 1)])
@pytest.mark.parametrize("shared", [False, True])
def test_grid_where_it_costs_little(tmp_path, bits, samples, shared):
    """And the options say so; levels are the best on that grid, which the reference knows."""
    X = columns("normal", "skewed") if shared else TAME
    data = file_of(X, tmp_path / "a", bits=bits, samples=samples, shared_levels=shared)
    steps = grid_steps(bits, samples)
    assert data.options["grid_steps"] == steps and 1 <= data.options["snapping"] <= SNAP_LIMIT
    assert_on_grid(data, steps)
    values = [X.ravel()] if shared else list(X.T)
    for x, levels in zip(values, data.levels, strict=True):
        if np.ptp(x) > 0:
            best = reference.levels_cost(x, reference.grid_levels(x, steps, data.codec.intervals))
            assert best * (1 - 1e-5) <= reference.levels_cost(x, levels) <= 1.005 * best


@pytest.mark.parametrize(("bits", "samples"), [(2, 1), (4, 1), (4, 2)])
def test_anywhere_where_the_grid_costs_much(tmp_path, bits, samples):
    """An outlier: 255 steps of the range have one for the bulk. The levels are within 1e-3 of the optimum instead."""
    X = HEAVY[:, 2:]
    data = file_of(X, tmp_path / "a", bits=bits, samples=samples)
    assert data.options["grid_steps"] == 0 and data.options["snapping"] > SNAP_LIMIT
    for x, levels in zip(X.T.astype(np.float64), data.levels, strict=True):
        if np.ptp(x) > 0:
            best = exact_levels(x, None, data.codec.intervals)[1]
            assert reference.levels_cost(x, levels) <= best * (1 + 1e-3)


def test_an_outlier_keeps_its_column_off_the_grid(tmp_path):
    """Its variance hides that the grid has one step for all else: the bulk decides too."""
    X = np.random.default_rng(0).normal(size=(20_000, 2)).astype(np.float32)
    calm = file_of(X, tmp_path / "a", bits=2, samples=1)
    X[7, 0] = 1e6
    data = file_of(X, tmp_path / "b", bits=2, samples=1)
    assert calm.options["grid_steps"] == 255 and data.options["grid_steps"] == 0 and data.options["snapping"] < 1.01
    byte = file_of(X, tmp_path / "c", bits=2, samples=1, grid="byte")
    bulk = np.delete(X[:, 0], 7)
    noise, drowned = (reference.levels_cost(bulk, made.levels[0]) / len(bulk) for made in (data, byte))
    assert noise < 10 < 1000 < drowned


@pytest.mark.parametrize("shared", [False, True])
def test_grid_as_wanted(tmp_path, shared):
    """The option decides; snapping is what the grid costs either way."""
    for X in (TAME, HEAVY):
        byte = file_of(X, tmp_path / "a", grid="byte", shared_levels=shared)
        none = file_of(X, tmp_path / "b", grid="none", shared_levels=shared)
        auto = file_of(X, tmp_path / "c", grid="auto", shared_levels=shared)
        assert byte.options["grid_steps"] == grid_steps(4, 2) and none.options["grid_steps"] == 0
        assert none.options["snapping"] == 1
        assert_on_grid(byte, grid_steps(4, 2))
        snapping = byte.options["snapping"]
        assert auto.options["snapping"] == snapping
        chosen = byte if snapping <= SNAP_LIMIT and X is TAME else none
        np.testing.assert_array_equal(auto.levels, chosen.levels)
        if shared:
            costs = [reference.levels_cost(X.ravel(), data.levels[0]) for data in (byte, none)]
        else:
            costs = [
                sum(reference.levels_cost(X[:, f], data.levels[f]) / data.std[f] ** 2 for f in np.flatnonzero(data.std))
                for data in (byte, none)
            ]
        assert snapping == pytest.approx(costs[0] / costs[1], rel=1e-2)


def test_no_grid_for_many_codes(tmp_path):
    for bits, samples in ((7, 1), (8, 1), (6, 1), (8, 2)):
        data = file_of(TAME, tmp_path / "a", bits=bits, samples=samples, grid="auto")
        assert data.options["grid_steps"] == grid_steps(bits, samples)
        assert (data.options["grid_steps"] > 0) == (bits == 6)


def test_uniform_files_say_nothing_of_a_grid(tmp_path):
    options = file_of(TAME, tmp_path / "a", levels="uniform").options
    assert not {"grid_steps", "snapping", "target_error"} & options.keys()


@pytest.mark.parametrize("shared", [False, True])
def test_variance_of_given_levels(shared):
    """What the sketch says levels cost, against the sum over all values."""
    statistics = scan(HEAVY[:, :3], shared=shared)
    for bits in (2, 4, 6):
        table = optimal_table(statistics, bits, 1, 1, "none")
        uniform = uniform_levels(*ends_of(statistics), 2**bits - 1)
        for levels, found in ((table.levels, table.variance), (uniform, variance_of(statistics, uniform))):
            values = [HEAVY[:, :3].ravel()] if shared else list(HEAVY[:, :3].T)
            exact = [reference.levels_cost(x, row.astype(np.float64)) / len(x) for x, row in zip(values, levels, strict=True)]
            np.testing.assert_allclose(found, exact, rtol=1e-2)


def test_survey():
    statistics = scan(TAME)
    found = survey(statistics, (2, 4), 2 - 1, 1)
    for row, bits in enumerate((2, 4)):
        for f in range(3):
            x, s = TAME[:, f].astype(np.float64), 2**bits - 1
            assert found.optimal[row, f] * ROWS == pytest.approx(exact_levels(x, None, s)[1], rel=1e-3)
            uniform = reference.levels_cost(x, np.linspace(x.min(), x.max(), s + 1))
            assert found.uniform[row, f] * ROWS == pytest.approx(uniform, rel=5e-3)
            ratio = found.uniform[row, f] / found.optimal[row, f]
            assert 4 ** found.saved()[row, f] == pytest.approx(ratio)
    assert not found.saved()[:, 3].any() and not found.optimal[:, 3].any()
    varies = found.optimal[:, :3] / TAME[:, :3].var(axis=0, dtype=np.float64)
    np.testing.assert_allclose(found.relative(found.optimal), varies.mean(axis=1), rtol=1e-6)


# ---- A width by its error ----


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("levels", ["optimal", "uniform"])
@pytest.mark.parametrize("target", [0.2, 0.01, 5e-4])
def test_bits_by_target(tmp_path, target, levels, samples):
    """The file meets it; with one bit less it does not. The error is its expectation but for the noise of a mean of 20,000."""
    data = file_of(TAME, tmp_path / "a", bits="auto", target_error=target, levels=levels, samples=samples)
    assert data.options["target_error"] == target
    achieved = relative(data)
    expected = float((data.noise[:3] / data.std[:3] ** 2).mean())
    width = np.diff(data.levels.astype(np.float64), axis=1).max(axis=1)[:3] / samples
    sigma = float(np.sqrt((width**2 * data.noise[:3] / ROWS / data.std[:3] ** 4).sum())) / 3
    assert abs(achieved - expected) <= 6 * sigma
    assert expected <= target * 1.005
    if 2 ** (data.bits - 1) - 1 >= samples and data.bits > 1:
        less = file_of(TAME, tmp_path / "b", bits=data.bits - 1, levels=levels, samples=samples)
        assert float((less.noise[:3] / less.std[:3] ** 2).mean()) > target * 0.995
    else:
        assert (samples == 2 and data.bits == 2) or data.bits == 1


def test_the_default_target(tmp_path):
    one = file_of(TAME, tmp_path / "a", bits="auto")
    assert one.options["target_error"] == 0.01 and one.bits == file_of(TAME, tmp_path / "a", bits="auto", target_error=0.01).bits
    constant = file_of(TAME[:, 3:], tmp_path / "a", bits="auto", samples=1)
    assert constant.bits == 1 and not constant.noise.any()


def test_no_width_meets_it(tmp_path):
    with pytest.raises(OptionError, match=r"8 bits have a relative error of 0\.0001\d*, more than target_error=1e-09"):
        compress(TAME, path=tmp_path / "a", bits="auto", target_error=1e-9)
    assert not list(tmp_path.iterdir())
    bits, error = choose_bits(scan(TAME), "optimal", 1, 1e-4, 1)
    assert error <= 1e-4 and bits <= 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": "many"}, "'auto'"),
        ({"bits": "auto", "target_error": 0}, "target_error"),
        ({"bits": "auto", "target_error": np.nan}, "target_error"),
        ({"bits": 4, "target_error": 0.1}, "bits='auto'"),
        ({"bits": "auto", "samples": 0}, "samples"),
        ({"grid": "fine"}, "'byte'"),
        ({"clip": True}, "given levels"),
        ({"levels": "none.npz"}, "'none.npz'"),
    ],
)
def test_options(tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        compress(TAME, path=tmp_path / "a", **options)
    assert not list(tmp_path.iterdir())


# ---- Levels that are kept ----


def codecs():
    """Uniform and table, of each feature and shared."""
    low, high = TAME.min(axis=0), TAME.max(axis=0)
    table = np.sort(np.random.default_rng(2).normal(size=(4, 8)), axis=1)
    return [
        Codec.uniform(low, high, 3, 1, "nearest"), Codec.uniform(-9, 99, 5, 3, features=4),
        Codec(table, 4, 2), Codec(table[:1], 3, 1, features=4),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("names", [None, ("a", "b", "ü", '"')])
def test_levels_come_back(tmp_path, number, names):
    codec = codecs()[number]
    save_levels(tmp_path / "l", codec, names)
    other, columns = load_levels(tmp_path / "l")
    assert columns == names and repr(other) == repr(codec) and other.rounding == codec.rounding
    assert other.is_shared == codec.is_shared and other.is_uniform == codec.is_uniform
    np.testing.assert_array_equal(other.bounds, codec.bounds)
    assert [path.name for path in tmp_path.iterdir()] == ["l"]
    with pytest.raises(OutputError, match="exists"):
        save_levels(tmp_path / "l", codec)
    save_levels(tmp_path / "l", codecs()[0], overwrite=True)
    assert load_levels(tmp_path / "l")[0].bits == 3


@pytest.mark.parametrize("levels", ["uniform", "optimal"])
@pytest.mark.parametrize("shared", [False, True])
def test_levels_of_a_zipml_file(tmp_path, levels, shared):
    data = file_of(TAME, tmp_path / "a", levels=levels, shared_levels=shared, bits=3, samples=1)
    codec, names = load_levels(tmp_path / "a")
    assert names is None and repr(codec) == repr(data.codec)
    np.testing.assert_array_equal(codec.bounds, data.codec.bounds)


def rewrite(path, **changes):
    """The file with other contents of its JSON text."""
    with np.load(path) as content:
        bounds, about = content["bounds"], json.loads(content["about"].tobytes())
    about.update(changes)
    np.savez(path, bounds=about.pop("bounds", bounds), about=np.frombuffer(json.dumps(about).encode(), np.uint8))


def test_files_that_hold_no_levels(tmp_path):
    good = tmp_path / "good.npz"
    save_levels(good, codecs()[2])
    content = good.read_bytes()

    def refused(error, message, data=None, name="bad.npz"):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(error, match=message) as caught:
            load_levels(tmp_path / name)
        assert name in str(caught.value)

    refused(FormatError, "cannot read levels: No such file")
    for foreign in (b"", b"a,b\n1,2\n", b"PK\x03\x04", np.random.default_rng(0).bytes(3000)):
        refused(FormatError, "holds no levels", foreign)
    array = io.BytesIO()
    np.save(array, np.arange(4.0))
    refused(FormatError, "holds no levels", array.getvalue())
    np.savez(tmp_path / "bad.npz", X=np.arange(3))
    refused(FormatError, "holds no levels")
    for share in (0.2, 0.5, 0.99):
        refused(FormatError, "holds no levels|damaged", content[: int(share * len(content))])
    for about in ("[]", "{}", "3", "nonsense"):
        np.savez(tmp_path / "bad.npz", bounds=np.zeros((1, 2)), about=np.frombuffer(about.encode(), np.uint8))
        refused(FormatError, "holds no levels")
    with zipfile.ZipFile(good) as archive:
        at = archive.getinfo("bounds.npy").header_offset + 200
    flipped = bytearray(content)
    flipped[at] ^= 8
    refused(CorruptError, "damaged", bytes(flipped))

    def changed(error, message, **changes):
        (tmp_path / "bad.npz").write_bytes(content)
        rewrite(tmp_path / "bad.npz", **changes)
        refused(error, message)

    changed(FormatError, "holds no levels", format="other")
    changed(FormatError, r"levels of version 2; this zipml-codec reads up to 1", version=2)
    changed(CorruptError, "bits", bits=12)
    changed(CorruptError, "features", features=9)
    changed(CorruptError, "finite", bounds=np.full((4, 8), np.nan))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.arange(3)
    refused(FormatError, "not a zipml file", name="other.h5")


def test_nothing_is_left_of_levels_that_cannot_be_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="cannot write the levels: No space left"):
        save_levels(tmp_path / "l", codecs()[0])
    assert not list(tmp_path.iterdir())


# ---- Levels that are given ----


@pytest.mark.parametrize("number", range(4))
def test_given_levels_code_as_the_codec_does(tmp_path, number):
    codec = codecs()[number]
    X = np.clip(TAME, codec.bounds[:, 0], codec.bounds[:, -1])
    save_levels(tmp_path / "l", codec)
    for given in (codec, tmp_path / "l", str(tmp_path / "l")):
        data = file_of(X, tmp_path / "a", levels=given, seed=7)
        with open_file(tmp_path / "a") as file:
            np.testing.assert_array_equal(file.packed(), codec.encode(X, seed=7))
        np.testing.assert_array_equal(data.codec.bounds, codec.bounds)
        assert (data.bits, data.samples, data.rounding) == (codec.bits, codec.samples, codec.rounding)
        assert data.clipped is None and "grid_steps" not in data.options
        assert data.options["levels"] == ("given" if given is codec else "l")
    np.testing.assert_array_equal(data.low, X.min(axis=0))


def test_given_levels_of_another_file(tmp_path):
    """The same data with a file's own levels: the same codes, noise and error."""
    one = file_of(TAME, tmp_path / "a", bits=5)
    other = file_of(TAME, tmp_path / "b", levels=tmp_path / "a")
    for name in ("levels", "noise", "error", "low", "std"):
        np.testing.assert_array_equal(getattr(other, name), getattr(one, name))
    with open_file(tmp_path / "a") as a, open_file(tmp_path / "b") as b:
        np.testing.assert_array_equal(a.packed(), b.packed())


@pytest.mark.parametrize("row", [0, 700, ROWS - 1])
@pytest.mark.parametrize("table", [False, True])
def test_values_outside_are_named(tmp_path, row, table):
    X = TAME.copy()
    low, high = X.min(axis=0), X.max(axis=0)
    codec = Codec(uniform_levels(low, high, 7), 3, 1) if table else Codec.uniform(low, high, 3, 1)
    X[row, 2] = high[2] + 1
    outside = rf"row {row + 1}, column index 2: {high[2] + 1}.* is outside of the given levels, .*clip=True"
    with pytest.raises(DataError, match=outside):
        compress(X, path=tmp_path / "a", levels=codec)
    X[row, 2], X[row, 0] = high[2], low[0] - 1
    with pytest.raises(DataError, match=rf"row {row + 1}, column index 0: -"):
        compress(X, path=tmp_path / "a", levels=codec)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["array", "blocks"])
def test_clip(tmp_path, shared, kind):
    """Each column's values beyond its outer levels are moved there, counted, and the rest is as if they had come so."""
    bounds = np.array([[-1, 1.5]] if shared else [[-1, 1.5], [0.1, 2], [0.5, 3], [0, 1]], np.float32)
    codec = Codec.uniform(bounds[:, 0], bounds[:, 1], 4, 1, features=4)
    source = TAME if kind == "array" else (TAME[i : i + 999] for i in range(0, ROWS, 999))
    moved = np.clip(TAME, bounds[:, 0], bounds[:, 1])
    data = file_of(source, tmp_path / "a", levels=codec, clip=True, seed=3)
    assert data.clipped.dtype == np.uint64
    np.testing.assert_array_equal(data.clipped, (moved != TAME).sum(axis=0))
    assert data.clipped[0] > 0 and data.clipped[3] == 0
    same = file_of(moved, tmp_path / "b", levels=codec, seed=3)
    assert same.clipped is None
    for name in ("low", "high", "mean", "std", "noise", "error"):
        np.testing.assert_array_equal(getattr(data, name), getattr(same, name))
    with open_file(tmp_path / "a") as a, open_file(tmp_path / "b") as b:
        np.testing.assert_array_equal(a.packed(), b.packed())
        a.verify()
        np.testing.assert_array_equal(a.clipped, data.clipped)
    with h5py.File(tmp_path / "a") as file, h5py.File(tmp_path / "b") as other:
        assert file["clipped"].dtype == np.dtype("<u8") and "clipped" not in other
    none = file_of(moved, tmp_path / "c", levels=codec, clip=True)
    np.testing.assert_array_equal(none.clipped, np.zeros(4, np.uint64))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_clip_moves_no_nan_and_no_infinity(tmp_path, bad):
    X, codec = TAME.copy(), Codec.uniform(np.zeros(4), np.ones(4), 4, 1)
    X[5, 1] = bad
    with pytest.raises(DataError, match=rf"row 6, column index 1: the value is {bad}"):
        compress(X, path=tmp_path / "a", levels=codec, clip=True)
    assert not list(tmp_path.iterdir())
    data = file_of(X, tmp_path / "a", levels=codec, clip=True, nonfinite="drop")
    kept = np.delete(X, 5, axis=0)
    np.testing.assert_array_equal(data.clipped, ((kept < 0) | (kept > 1)).sum(axis=0))


@pytest.mark.parametrize("clip", [False, True])
def test_levels_for_other_columns(tmp_path, clip):
    codec = codecs()[1]
    for X in (TAME[:, :3], np.hstack([TAME, TAME])):
        with pytest.raises(DataError, match=f"has {X.shape[1]} features; the given levels are for 4"):
            compress(X, path=tmp_path / "a", levels=codec, clip=clip)
    assert not list(tmp_path.iterdir())
    (tmp_path / "x.csv").write_text("a,b,x,d\n1,2,3,4\n")
    save_levels(tmp_path / "l", codec, ("a", "b", "c", "d"))
    with pytest.raises(DataError, match="column 2 is 'x'; the given levels are for 'c'"):
        compress(tmp_path / "x.csv", path=tmp_path / "a", levels=tmp_path / "l", clip=clip)
    file_of(np.ones((3, 4)), tmp_path / "a", levels=tmp_path / "l", clip=clip)  # an array has no names


@pytest.mark.parametrize("options", [{"bits": "auto"}, {"shared_levels": True}])
def test_given_levels_have_their_own_options(tmp_path, options):
    with pytest.raises(OptionError, match="given levels have their own width"):
        compress(TAME, path=tmp_path / "a", levels=codecs()[1], **options)


def test_levels_from_values_are_levels_for_a_codec(tmp_path):
    """optimal_levels of a sample, given to new rows and clipped: unbiased within, and the noise is what they cost."""
    x = TAME[:, 0]
    levels = optimal_levels(x[:2000], 7).values.astype(np.float32)
    data = file_of(x[:, None], tmp_path / "a", levels=Codec(levels[None], 3, 1), clip=True)
    inside = np.clip(x, levels[0], levels[-1]).astype(np.float64)
    assert data.noise[0] * ROWS == pytest.approx(reference.levels_cost(inside, levels.astype(np.float64)), rel=1e-4)


def test_levels_that_leave_no_error_save_all(tmp_path, capsys):
    """Nine values far apart: 16 levels hold them all, and no number of uniform ones does."""
    from zipml_codec.cli import main

    X = np.random.default_rng(0).choice(np.float32([0, 1, 2.5, 7, 11, 90.3, 91, 400, 1000]), size=(500, 1))
    np.save(tmp_path / "x.npy", np.concatenate([X, np.random.default_rng(1).normal(size=(500, 1))], axis=1))
    assert main(["levels", str(tmp_path / "x.npy"), "--bits", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    first, second = found["per_feature"]
    assert first["optimal"] == [0] and first["uniform"][0] > 0 and first["saved"] == [None]
    assert found["mean"]["saved"] == second["saved"]
    assert main(["levels", str(tmp_path / "x.npy"), "--bits", "4"]) == 0 and " all" in capsys.readouterr().out
