"""Images for the published FPGA designs: bit by bit as docs/fpga.md has them, there and back, and what is refused."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import reference
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

import zipml_codec
from zipml_codec import compress, export_image, fromimage, import_image, toimage
from zipml_codec.cli import main
from zipml_codec.codec import Codec
from zipml_codec.engine import integer_form
from zipml_codec.errors import CorruptError, DataError, FormatError, OptionError, OutputError
from zipml_codec.formats.fpga import Sidecar, open_image, zero_features
from zipml_codec.formats.vouched import vouched
from zipml_codec.hardware import hardware_form, hardware_intervals, tops_of
from zipml_codec.kernels import codes as codes_kernel
from zipml_codec.kernels import images as kernel
from zipml_codec.kernels import simd

# Q = 4, values in 0..1, 3 features: rows (q1, q2, label) that a simulation of the hardware was run on, and the lines it read
GOLDEN = [([8, 1, 3], [8, 2, 4], 0.5, 0x00432188, 0x00400000), ([8, 4, 0], [8, 3, 1], -0.25, 0x00103488, 0xFFE00000)]


def golden_lines():
    lines = np.zeros((2, 16), "<u4")
    lines[:, 0], lines[:, 15] = zip(*[row[3:] for row in GOLDEN], strict=True)
    return lines


def about(**changes):
    """A description of the golden image."""
    given = {
        "layout": "harp", "bits": 4, "signed": False, "rows": 2, "data_rows": 2, "features": 3, "data_features": 3, "bias": False,
        "indices": 1, "top": 8, "low": np.zeros(3), "high": np.ones(3), "labelled": True,
    }  # fmt: skip
    return Sidecar(**given | changes)


def source_of(features, **changes):
    """What a description says of the file that an image is made of."""
    zeros = [0.0] * features
    return {
        "samples": 2, "rounding": "stochastic", "shared_levels": False, "seed": 7, "row_offset": 0, "mean": zeros, "std": zeros,
        "noise": zeros, "error": zeros, "least": zeros, "greatest": [1.0] * features,
    } | changes  # fmt: skip


def put(folder, about, data, labels=None):
    """An image and its description, as any program may write them."""
    path = folder / "a.bin"
    files = {"image": {"file": "a.bin", "bytes": data.nbytes, "xxh3": f"{xxhash.xxh3_64_intdigest(data.tobytes()):016x}"}}
    path.write_bytes(data.tobytes())
    if labels is not None:
        (folder / "a.labels.bin").write_bytes(labels.tobytes())
        files["labels"] = {"xxh3": f"{xxhash.xxh3_64_intdigest(labels.tobytes()):016x}"}
    (folder / "a.bin.json").write_bytes(about.text(files))
    return path


@pytest.mark.parametrize(
    ("layout", "sizes"),
    [("harp", {91: (64, 64, 128, 192), 781: (256, 448, 832, 1600), 2001: (512, 1024, 2048, 4032)}),
     ("pynq", {91: (24, 32, 56, 104), 785: (112, 208, 408, 800)})],
)  # fmt: skip
def test_bytes_a_row(layout, sizes):
    for features, expected in sizes.items():
        assert tuple(about(layout=layout, features=features, bits=bits).row_bytes for bits in (1, 2, 4, 8)) == expected


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_zero_features_leave_room_for_the_label_and_are_the_fewest(bits):
    for features in range(1, 1030):
        added = zero_features(features, bits)
        fits = [1 <= (features + more) % (256 // bits) <= 240 // bits for more in range(added + 1)]
        assert fits[-1] and not any(fits[:-1])
        last = (features + added) % (256 // bits)
        assert 2 * bits * last + 32 <= 512
    assert zero_features(240 // bits, bits) == 0 and zero_features(240 // bits + 1, bits) == 16 // bits
    assert zero_features(256 // bits, bits) == 1


def test_reader(tmp_path):
    image = open_image(put(tmp_path, about(), golden_lines()))
    assert (image.layout, image.bits, image.rows, image.features, image.row_bytes, image.lines) == ("harp", 4, 2, 3, 64, 2)
    assert image.level_range == (0, 1) and not image.data.flags.writeable
    np.testing.assert_array_equal(image.copy(), golden_lines().view(np.uint8))
    np.testing.assert_array_equal(image.labels / 2.0**23, [row[2] for row in GOLDEN])
    for row, (first, second, *_) in enumerate(GOLDEN):
        codes = [(int(image.copy()[row].view("<u4")[0]) >> 4 * at) & 15 for at in range(6)]
        assert codes[0::2] == first and codes[1::2] == second


def test_level_range():
    assert about(signed=True).level_range == (-1, 1)
    assert about(bits=8, top=127).level_range == (0, 127 / 128)
    assert about(bits=8, top=127, signed=True).level_range == (-1, 63 / 64)


def test_reader_refuses(tmp_path):
    path, beside = put(tmp_path, about(), golden_lines()), tmp_path / "a.bin.json"
    good, text = path.read_bytes(), beside.read_text()
    with pytest.raises(FormatError, match=r"b\.bin.*zipml export"):
        open_image(tmp_path / "b.bin")
    for change, error, says in [
        ({"format": "x"}, FormatError, "describes no image"),
        ({"version": 2}, FormatError, "version 2.*newer"),
        *(({name: value}, CorruptError, "damaged") for name, value in [
            ("layout", "x"), ("bits", 3), ("rows", 0), ("rows", True), ("low", [0.0]), ("high", [0.0, float("nan"), 1.0]),
            ("features", 9000), ("features", 2), ("indices", "1"), ("top", 9), ("columns", ["a"]),
            ("columns", [1, 2, 3]), ("label_scale", 0.0),
            ("source", None), ("label", 5), ("data_rows", 1), ("data_rows", 2**63),
        ]),
        ({"rows": 3, "data_rows": 3}, CorruptError, "128 bytes, not the 192"),
        ({"image": None}, CorruptError, "digest"),
    ]:  # fmt: skip
        content = json.loads(text)
        del content["xxh3"]
        beside.write_bytes(vouched(content | change))
        with pytest.raises(error, match=says) as caught:
            open_image(path)
        assert "\n" not in str(caught.value)
    for old, new in (('"low":[0.0', '"low":[0.5'), ('"label_scale":1', '"label_scale":2'), ('"bias":false', '"bias":true')):
        assert old in text
        beside.write_text(text.replace(old, new))
        with pytest.raises(CorruptError, match="does not match its digest"):
            open_image(path)
    beside.write_text(text[:-9])
    with pytest.raises(CorruptError, match="damaged"):
        open_image(path)
    beside.write_text(text)
    path.write_bytes(good[:70] + b"\x01" + good[71:])
    with pytest.raises(CorruptError, match="digest"):
        open_image(path)
    path.unlink()
    with pytest.raises(FormatError, match="cannot read it"):
        open_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("name", ["a.bin", "a.bin.json"])
def test_pipes_are_refused_not_waited_for(tmp_path, name):
    path = put(tmp_path, about(), golden_lines())
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    command = "import sys, zipml_codec as z; z.train_on_board(sys.argv[1]) if sys.argv[2] else z.open_image(sys.argv[1])"
    for train in ("", "train"):
        done = subprocess.run([sys.executable, "-c", command, path, train], capture_output=True, text=True, timeout=60)
        assert "FormatError" in done.stderr and "a pipe" in done.stderr


# ---- the kernels ----


@pytest.mark.parametrize("level", simd.levels())
@pytest.mark.parametrize("pairs", [True, False], ids=["harp", "pynq"])
def test_rows_are_those_of_the_reference(level, pairs):
    generator = np.random.default_rng(0)
    for width, signed, samples, features, bias in [
        (1, False, 2, 63, True), (1, False, 1, 65, False), (2, True, 2, 64, True), (2, False, 5, 130, False),
        (4, False, 2, 91, False), (4, True, 4, 127, True), (4, True, 31, 3, False), (8, False, 2, 33, True),
        (8, True, 2, 200, False), (8, True, 1, 64, True),
    ]:  # fmt: skip
        if pairs and samples == 1:
            continue
        rows, seed, row_offset = 70, 2**63 + width, 2**32 - 5
        intervals = hardware_intervals(width, samples)
        bits = (intervals * samples).bit_length()
        top, offset = intervals * samples, 2 ** (width - 2) if signed else 0
        codes = generator.integers(0, 2**bits, (rows, features), dtype=np.uint8)
        tops = np.zeros(-(-features // 64) * 64, np.uint8)
        tops[:features] = np.where(generator.random(features) < 0.1, 0, top)
        stored = np.minimum(codes, tops[:features])
        up = reference.draw_ups(stored, samples, seed, reference.row_numbers(rows, row_offset))
        drawn = stored.astype(np.int64) // samples + up - offset
        if bias:
            drawn = np.concatenate([drawn, np.full((samples, rows, 1), 2 ** (width - 1) - offset)], axis=2)
        labels = generator.integers(-(2**31), 2**31, rows).astype(np.int32)
        for first in range(0, samples - pairs, 1 + pairs):
            zeros = zero_features(features + bias, width) if pairs else 0
            padded = np.pad(drawn, ((0, 0), (0, 0), (0, zeros)))
            if pairs:
                expected, back = reference.harp_rows(padded[first], padded[first + 1], labels, width), 4
            else:
                expected, back = reference.pynq_rows(padded[first], labels.view(np.float32), width), 8
            images = kernel.Rows(features, expected.shape[1], expected.shape[1] - back, width, pairs, offset, bias)
            packed = codes_kernel.pack(codes, bits)
            for threads in (1, 3):
                with simd.use(level):
                    words = labels.view(np.uint32)
                    got = images.fill(packed, bits, samples, first, tops, words, seed, row_offset, threads)
                    np.testing.assert_array_equal(got, expected)
                    levels = images.read(got, intervals, threads)
                sums = drawn[first : first + 1 + pairs, :, :features] + offset
                np.testing.assert_array_equal(levels, sums.sum(axis=0))
            if intervals > 1 and (sums == intervals).any():
                assert images.read(got, intervals - 1, 1) is None
    with pytest.raises(ValueError, match="do not fit"):
        kernel.Rows(64, 64, 60, 4, True, 0, True)


def test_harp_rows_of_the_reference_are_what_the_hardware_read():
    first, second, labels, *_ = zip(*GOLDEN, strict=True)
    stored = np.array(labels) * 2**23
    rows = reference.harp_rows(np.array(first), np.array(second), stored, 4)
    np.testing.assert_array_equal(rows, golden_lines().view(np.uint8))


@pytest.mark.parametrize("features", [1, 31, 32, 63, 64, 65, 96, 130])
@pytest.mark.parametrize("bias", [False, True])
def test_planes_are_those_of_the_reference(features, bias):
    generator = np.random.default_rng(features)
    x = generator.standard_normal((21, features)).astype(np.float32)
    x[:, 0] = 3
    low, high = x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)
    span = high - low
    share = np.where(span > 0, (x - low) / np.where(span > 0, span, 1), 0)
    values = (share * (2.0**32 - 1)).astype(np.uint64)
    assert values.max() == (2**32 - 1 if features > 1 else 0)
    stored = np.concatenate([values, np.full((21, int(bias)), 2**32 - 1, np.uint64)], axis=1)
    for threads in (1, 3):
        planes = kernel.weave(x, low, span, bias, threads)
        np.testing.assert_array_equal(planes.reshape(-1, 64), reference.mlweaving_lines(stored))
        back = kernel.unweave(planes, 21, low, span, bias, threads)
        np.testing.assert_array_equal(back, (low + values / (2.0**32 - 1) * span).astype(np.float32))
        assert (np.abs(back - x) <= span * 2.0**-32 + np.spacing(np.abs(x))).all()


# ---- levels ----


@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("shared", [False, True])
def test_levels_of_the_hardware(tmp_path, width, samples, shared):
    X = np.random.default_rng(0).standard_normal((200, 5)).astype(np.float32)
    X[:, 2] = 1
    with compress(X, path=tmp_path / "a.h5", levels=f"harp:{width}", samples=samples, shared_levels=shared) as data:
        intervals = 127 if (width, samples) == (8, 2) else 2 ** (width - 1)
        assert hardware_form(data.codec) == (width, intervals) and data.codec.is_shared == shared
        assert 2 ** (data.bits - 1) <= intervals * samples < 2**data.bits
        low, high = X.min(axis=0), X.max(axis=0)
        ends = [(low.min(), high.max())] if shared else zip(low, high, strict=True)
        for levels, (a, b) in zip(data.levels.astype(np.float64), ends, strict=True):
            expected = a + np.minimum(np.arange(len(levels)) / intervals, 1) * (np.float64(b) - a)
            np.testing.assert_allclose(levels, expected, rtol=0, atol=1e-6)
            assert levels[0] == a and levels[-1] == b
        if samples == 2:
            assert integer_form(data.codec) is not None


def test_other_levels_are_none_of_the_hardware():
    levels = np.linspace(0, 1, 9)[np.minimum(np.arange(16), 8)]
    assert hardware_form(Codec(levels[None], 5, 2)) == (4, 8)
    levels[3] += 1e-3
    assert hardware_form(Codec(levels[None], 5, 2)) is None
    assert hardware_form(Codec.uniform([0.0], [1.0], 4, 2)) is None


# ---- there and back ----

shapes = st.tuples(st.integers(1, 40), st.integers(1, 140))
layouts = st.sampled_from([("harp", 2), ("harp", 4), ("pynq", 1)])


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes, width=st.sampled_from([1, 2, 4, 8]), layout=layouts, signed=st.booleans(), shared=st.booleans(),
    bias=st.booleans(), indices=st.integers(1, 3), named=st.booleans(), scale=st.sampled_from([1.0, 0.5, -2.0]),
    seed=st.integers(0, 2**64 - 1),
)  # fmt: skip
def test_there_and_back(tmp_path_factory, shape, width, layout, signed, shared, bias, indices, named, scale, seed):
    name, samples = layout
    if width == 8 and name == "harp":
        samples = 2
    generator, folder = np.random.default_rng([*shape, width]), tmp_path_factory.mktemp("image")
    X = generator.standard_normal(shape).astype(np.float32)
    X[:, generator.random(shape[1]) < 0.2] = 2.5
    y = (generator.integers(-(2**20), 2**20, shape[0]) / 2**13).astype(np.float32)  # half of what 9.23 holds, exactly
    source = ({f"x {f}": X[:, f] for f in range(shape[1])}, {"": y}) if named else (X, y)
    if named:
        pandas = pytest.importorskip("pandas")
        source = (pandas.DataFrame(source[0]), pandas.Series(y, name="price"))
    options = {"levels": f"harp:{width}", "samples": samples, "shared_levels": shared, "seed": seed}
    indices = indices if name == "harp" else 1
    exported = {"signed": signed and width > 1, "bias": bias, "label_scale": scale, "seed": seed}
    exported["indices"] = max(indices, samples // 2)
    with compress(*source, path=folder / "a.h5", **options) as data:
        image = export_image(data, folder / "a.bin", name, **exported)
        assert open_image(folder / "a.bin").lines * image.line_bytes == (folder / "a.bin").stat().st_size
        np.testing.assert_array_equal(image.labels, (y * scale * (1 if name == "pynq" else 2**23)).astype(image.labels.dtype))
        import_image(folder / "a.bin", folder / "b.h5")
        with zipml_codec.open(folder / "b.h5") as back:
            assert (data.codes() <= tops_of(data.codec, hardware_form(data.codec)[1])).all()
            np.testing.assert_array_equal(back.codes(), data.codes())
            np.testing.assert_array_equal(back.decode(), data.decode())
            np.testing.assert_array_equal(back.labels, y)
            for part in ("levels", "low", "high", "mean", "std", "noise", "error"):
                np.testing.assert_array_equal(getattr(back, part), getattr(data, part), err_msg=part)
            for part in ("columns", "label_names", "bits", "samples", "rounding", "seed", "shape"):
                assert getattr(back, part) == getattr(data, part)
            back.verify()
            export_image(back, folder / "c.bin", name, **exported)
        assert (folder / "c.bin").read_bytes() == (folder / "a.bin").read_bytes()


def test_the_golden_image_there_and_back(tmp_path):
    """To a zipml file and, with a seed that deals the samples alike, to the lines that the hardware read."""
    path = put(tmp_path, about(source=source_of(3)), golden_lines())
    import_image(path, tmp_path / "a.h5")
    with zipml_codec.open(tmp_path / "a.h5") as data:
        codes = np.array([np.add(*row[:2]) for row in GOLDEN])
        np.testing.assert_array_equal(data.codes(), codes)
        np.testing.assert_array_equal(data.decode(), codes / 16)
        np.testing.assert_array_equal(data.labels, [0.5, -0.25])
        wanted = np.array([row[0] for row in GOLDEN])
        numbers = reference.row_numbers(2)
        seed = next(s for s in range(1000) if (codes // 2 + reference.draw_ups(codes, 2, s, numbers)[0] == wanted).all())
        image = export_image(data, tmp_path / "b.bin", "harp", seed=seed)
    assert (tmp_path / "b.bin").read_bytes() == golden_lines().tobytes() and image.row_bytes == 64


@pytest.mark.parametrize("layout", ["harp", "pynq"])
@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("beyond", [0, 1])
def test_the_last_line_at_its_limit(tmp_path, layout, width, beyond):
    features = 256 // width + 240 // width + beyond
    X = np.random.default_rng(0).random((9, features), np.float32)
    with compress(X, X[:, 0], path=tmp_path / "a.h5", levels=f"harp:{width}") as data:
        image = export_image(data, tmp_path / "a.bin", layout, seed=3)
        codes = data.codes()
        up = reference.draw_ups(codes, 2, 3, reference.row_numbers(9))
        zeros = 16 // width if beyond and layout == "harp" else 0
        samples = np.pad(codes // 2 + up, ((0, 0), (0, 0), (0, zeros)))
    assert image.features == features + zeros
    if layout == "harp":
        assert image.row_lines == 2 + beyond
        expected = reference.harp_rows(*samples, (X[:, 0] * np.float64(2**23)).astype(np.int32), width)
    else:
        expected = reference.pynq_rows(samples[0], X[:, 0], width)
    np.testing.assert_array_equal(image.copy(), expected)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("rows", "last_rows"), [(16, "raise"), (19, "drop"), (19, "pad"), (5, "pad")])
@pytest.mark.parametrize("bias", [False, True])
def test_mlweaving(tmp_path, exact, rows, last_rows, bias):
    X = np.random.default_rng(rows).standard_normal((rows, 70)).astype(np.float32)
    X[:, 9] = 4
    y = np.arange(rows, dtype=np.float32) - 2
    with compress(X, y, path=tmp_path / "a.h5", bits=3, keep_exact=exact) as data:
        image = export_image(data, tmp_path / "a.bin", "mlweaving", last_rows=last_rows, bias=bias)
        values = X if exact else data.decode()
    low, high = values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)
    if not exact:  # the levels' ends, which are those of the data
        low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
    scaled = (np.where(high > low, (values - low) / np.where(high > low, high - low, 1), 0) * (2.0**32 - 1)).astype(np.uint64)
    scaled = np.concatenate([scaled, np.full((rows, int(bias)), 2**32 - 1, np.uint64)], axis=1)
    kept = rows // 8 * 8 if last_rows == "drop" else rows
    np.testing.assert_array_equal(image.data.reshape(-1, 64), reference.mlweaving_lines(scaled[:kept]))
    assert image.rows % 8 == 0 and image.data_rows == rows and image.lines == image.rows // 8 * 2 * 32
    np.testing.assert_array_equal(image.labels[:kept], (y[:kept] * 2**23).astype(np.int32))
    assert not image.labels[kept:].any() and open_image(image.path).bias == bias
    for p in (1, 7):  # the first p planes are the value cut off to p bits
        bits = np.unpackbits(image.copy()[:, :, :p], axis=-1, bitorder="little").reshape(image.rows // 8, 2, p, 8, 64)
        cut = sum(bits[:, :, k].astype(np.uint64) << np.uint64(31 - k) for k in range(p))
        got = cut.transpose(0, 2, 1, 3).reshape(image.rows, 128)[:kept, : 70 + bias]
        np.testing.assert_array_equal(got, scaled[:kept] >> np.uint64(32 - p) << np.uint64(32 - p))
    assert import_image(image.path, tmp_path / "b.npy") == [tmp_path / "b.npy", tmp_path / "b.labels.npy"]
    import_image(image.path, tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as both:
        back, labels = both["X"], both["y"]
    np.testing.assert_array_equal(back, np.load(tmp_path / "b.npy"))
    np.testing.assert_array_equal(labels, np.load(tmp_path / "b.labels.npy"))
    np.testing.assert_array_equal(labels, y[:kept])
    assert back.dtype == np.float32 and (np.abs(back - values[:kept]) <= (high - low) * 2.0**-32 + np.spacing(np.abs(back))).all()


# ---- randomness ----


def samples_of(image, index):
    """q1 and q2 of a copy, as levels from 0: int64 (2, rows, features)."""
    bits = np.unpackbits(image.copy(index), axis=-1, bitorder="little")[:, : 2 * image.bits * image.features]
    fields = bits.reshape(image.rows, image.features, 2, image.bits).astype(np.int64) @ (1 << np.arange(image.bits))
    offset = 2 ** (image.bits - 2) if image.signed else 0
    return ((fields + offset) % 2**image.bits).transpose(2, 0, 1)[:, :, : image.data_features]


@pytest.mark.parametrize("how", ["codes", "exact", "samples", "requantized"])
def test_samples_are_unbiased_and_independent_given_the_data(tmp_path, how):
    """Means, and covariances of all samples of all copies, within five standard deviations of what independence gives."""
    rows, shares = 20000, np.array([0.0, 0.03, 0.21, 0.5, 0.77, 1.0])
    X = np.tile(shares, (rows, 1)).astype(np.float32)
    X[:2] = [[0] * 6, [1] * 6]
    levels = "optimal" if how == "requantized" else "harp:4"
    options = {"samples": 4 if how == "samples" else 2, "keep_exact": how in ("exact", "requantized"), "levels": levels}
    exported = {"requantize": True, "bits": 4} if how == "requantized" else {}
    with compress(X, path=tmp_path / "a.h5", **options) as data:
        image = export_image(data, tmp_path / "a.bin", "harp", indices=2, signed=True, seed=1, **exported)
    drawn = np.concatenate([samples_of(image, index) for index in range(2)])[:, 2:]
    scaled = shares * 8
    p, count = scaled - np.floor(scaled), rows - 2
    spread = np.sqrt(p * (1 - p))
    assert (np.abs(drawn.mean(axis=1) - scaled) <= 5 * spread / count**0.5).all()
    assert (drawn >= np.floor(scaled)).all() and (drawn <= np.ceil(scaled)).all()
    away = drawn - scaled
    for a in range(4):
        for b in range(a):
            together = (away[a] * away[b]).mean(axis=0)
            if how == "codes" and a // 2 != b // 2:  # assigned anew: a sample is either of the other copy's with chance 1/2
                expected = spread**2 / 2
                assert (np.abs(together - expected) <= 5 * spread / count**0.5).all()
            else:
                assert (np.abs(together) <= 5 * spread**2 / count**0.5).all(), (a, b)
    says = {"codes": "the same samples, assigned anew", "samples": "samples of their own"}
    assert image.source["copies"] == says.get(how, "fresh quantizations")


def test_the_same_bytes_for_any_threads_pieces_and_vector_level(tmp_path, monkeypatch):
    X = np.random.default_rng(0).standard_normal((700, 91)).astype(np.float32)
    asked = [
        ("harp", {"indices": 3}), ("pynq", {}), ("mlweaving", {"last_rows": "pad"}), ("harp", {"requantize": True, "bits": 2}),
    ]  # fmt: skip
    with compress(X, path=tmp_path / "a.h5", levels="harp:4", keep_exact=True) as data:
        for number, (layout, options) in enumerate(asked):
            said = []
            for level in simd.levels():
                for threads, size in [(1, 8 << 20), (2, 1)]:
                    monkeypatch.setattr(toimage, "PIECE_BYTES", size)
                    monkeypatch.setattr(fromimage, "PIECE_BYTES", size)
                    with simd.use(level):
                        path = tmp_path / f"{number}.bin"
                        export_image(data, path, layout, seed=5, threads=threads, overwrite=True, **options)
                    said.append((path.read_bytes(), path.with_name(path.name + ".json").read_bytes()))
                    if layout != "mlweaving":
                        import_image(path, tmp_path / "b.h5", threads=threads, overwrite=True)
                        said[-1] += ((tmp_path / "b.h5").read_bytes(),)
            assert all(other == said[0] for other in said)


def test_rows_of_a_shard_are_drawn_as_those_of_the_whole(tmp_path):
    X = np.random.default_rng(0).standard_normal((100, 5)).astype(np.float32)
    for name, rows in [("whole", None), ("shards", 30)]:
        with compress(X, path=tmp_path / name, levels="harp:4", shard_rows=rows) as data:
            export_image(data, tmp_path / f"{name}.bin", "harp")
    with zipml_codec.open(tmp_path / "shards" / "shard-00001.zipml.h5") as shard:
        part = export_image(shard, tmp_path / "part.bin", "harp")
    whole = open_image(tmp_path / "whole.bin")
    assert (tmp_path / "shards.bin").read_bytes() == whole.data.tobytes()
    np.testing.assert_array_equal(part.copy(), whole.copy()[30:60])


@pytest.mark.parametrize("exact", [True, False])
def test_requantized_rows_know_their_noise(tmp_path, exact):
    X = np.random.default_rng(0).random((8000, 3)).astype(np.float32)
    with compress(X, path=tmp_path / "a.h5", bits=5, levels="uniform", keep_exact=exact) as data:
        export_image(data, tmp_path / "a.bin", "harp", requantize=True, bits=4)
        before = 0 if exact else data.noise
    import_image(tmp_path / "a.bin", tmp_path / "b.h5")
    with zipml_codec.open(tmp_path / "b.h5") as back:
        measured = ((back.decode().astype(np.float64) - X) ** 2).mean(axis=0)
        np.testing.assert_allclose(back.error, measured, rtol=1e-4 if exact else 0.05)
        np.testing.assert_allclose(back.noise, (1 / 8) ** 2 / 6 / 2 + before, rtol=0.1)  # values spread evenly: w^2 / 6 a sample


@pytest.mark.parametrize(("layout", "samples", "left"), [("harp", 4, 2), ("harp", 5, 4), ("pynq", 2, 1)])
def test_fewer_samples_than_the_file_has(tmp_path, layout, samples, left):
    X = np.random.default_rng(0).random((8000, 3)).astype(np.float32)
    with compress(X, path=tmp_path / "a.h5", levels="harp:4", samples=samples) as data:
        image = export_image(data, tmp_path / "a.bin", layout, indices=max(1, left // 2))
        assert f"{left} of their {samples} samples" in image.source["values"]
        import_image(image.path, tmp_path / "b.h5")
        with zipml_codec.open(tmp_path / "b.h5") as back:
            assert back.samples == left and hardware_form(back.codec) == (4, 8)
            np.testing.assert_allclose(back.noise, data.noise * samples / left)
            measured = ((back.decode().astype(np.float64) - X) ** 2).mean(axis=0)
            np.testing.assert_allclose(back.error, measured, rtol=0.05)
            assert np.abs(back.decode() - data.decode()).max() < 1 / 8


# ---- what is refused ----


@pytest.fixture
def small(tmp_path):
    X = np.random.default_rng(0).standard_normal((17, 3)).astype(np.float32)
    with compress(X, X[:, 0], path=tmp_path / "a.h5", levels="harp:4") as data:
        yield data


@pytest.mark.parametrize(
    ("layout", "options", "says"),
    [
        ("x", {}, "layout must be one of 'harp', 'pynq', 'mlweaving'"),
        ("harp", {"bits": 3}, "bits must be one of 1, 2, 4, 8"),
        ("harp", {"bits": 8}, "those of 4 bits, not 8.*zipml export --requantize --bits-hw 8"),
        ("harp", {"requantize": True, "bits": 1, "signed": True}, "1 bit are 0 or 1"),
        ("harp", {"indices": 0}, "indices must be"),
        ("pynq", {"indices": 2}, "one copy"),
        ("harp", {"label": "z"}, "no label 'z'"),
        ("harp", {"label_scale": 0}, "label_scale=0"),
        ("harp", {"last_rows": "x"}, "last_rows must be one of"),
        ("mlweaving", {}, "multiple of 8 rows, not 17: leave out the last 1 with.*--last-rows drop.*add 7"),
        ("mlweaving", {"signed": True}, "leave out"),
        ("mlweaving", {"last_rows": "pad", "bits": 4}, "leave out"),
    ],
)
def test_options_that_do_not_fit(small, tmp_path, layout, options, says):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OptionError, match=says) as caught:
        export_image(small, tmp_path / "b.bin", layout, **options)
    assert "\n" not in str(caught.value) and sorted(tmp_path.iterdir()) == before


def test_levels_that_the_hardware_lacks(tmp_path):
    X = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    advice = "levels of 4 bits.*--levels harp:Q, or.*--requantize --bits-hw Q"
    for options, says in [({}, f"optimal {advice}"), ({"levels": "uniform"}, f"uniform {advice}")]:
        with compress(X, path=tmp_path / "a.h5", overwrite=True, **options) as data:
            with pytest.raises(OptionError, match=says):
                export_image(data, tmp_path / "a.bin", "harp")
            with pytest.raises(OptionError, match=r"bits=1, 2, 4 or 8 \(--bits-hw\)"):
                export_image(data, tmp_path / "a.bin", "harp", requantize=True)
            image = export_image(data, tmp_path / "a.bin", "pynq", requantize=True, bits=8, overwrite=True)
            assert image.source["values"] == "decoded means" and not image.labelled
    with compress(X, path=tmp_path / "b.h5", levels="harp:4", samples=1) as data:
        with pytest.raises(OptionError, match="one sample and harp takes two.*--samples 2"):
            export_image(data, tmp_path / "a.bin", "harp")
        with pytest.raises(OptionError, match="no labels, so no label 'y'"):
            export_image(data, tmp_path / "a.bin", "pynq", label="y")
    for levels, samples, says in [("harp:3", 2, "harp:1, harp:2"), ("harp:8", 3, "at most 2"), ("harp:4", 32, "at most 31")]:
        with pytest.raises(OptionError, match=says):
            compress(X, path=tmp_path / "c.h5", levels=levels, samples=samples)
    with pytest.raises(OptionError, match="leave bits=auto"):
        compress(X, path=tmp_path / "c.h5", levels="harp:4", bits="auto")


@pytest.mark.parametrize(
    ("layout", "most", "sizes"),  # harp, Q = 4: up to 60 features in a last line of 64
    [("harp", 8192, [(8188, False, True), (8187, True, True), (8188, True, False), (8189, False, False), (8192, False, False)]),
     ("pynq", 4096, [(4096, False, True), (4095, True, True), (4096, True, False), (4097, False, False)]),
     ("mlweaving", 32768, [(32768, False, True), (32768, True, False), (32769, False, False)])],
)  # fmt: skip
def test_too_many_features(tmp_path, layout, most, sizes):
    for features, bias, fits in sizes:
        X = np.linspace(0, 1, 8 * features, dtype=np.float32).reshape(8, features)
        with compress(X, path=tmp_path / "a.h5", levels="harp:4", overwrite=True) as data:
            if fits:
                image = export_image(data, tmp_path / "a.bin", layout, bias=bias, overwrite=True)
                assert image.features == features + bias <= most
                continue
            with pytest.raises(OptionError, match=rf"more than {layout}'s {most:,}: compress fewer columns \(--columns\)"):
                export_image(data, tmp_path / "b.bin", layout, bias=bias)


@pytest.mark.parametrize("layout", ["harp", "mlweaving"])
def test_labels_out_of_range(tmp_path, layout):
    X = np.random.default_rng(0).random((8, 3), np.float32)
    last, beyond = np.nextafter(np.float32([256, -256]), np.float32([0, -300]))
    for label, fits in [(256, False), (last, True), (-256, True), (beyond, False), (1e30, False)]:
        y = np.full(8, label, np.float32)
        with compress(X, y, path=tmp_path / "a.h5", levels="harp:4", overwrite=True) as data:
            if fits:
                image = export_image(data, tmp_path / "a.bin", layout, overwrite=True)
                np.testing.assert_array_equal(image.labels, np.int64(y.astype(np.float64) * 2**23))
            else:
                with pytest.raises(DataError, match=r"row 0: the label.*-256..256.*--label-scale"):
                    export_image(data, tmp_path / "b.bin", layout)
                scaled = export_image(data, tmp_path / "a.bin", layout, overwrite=True, label_scale=1 / float(label))
                np.testing.assert_array_equal(scaled.labels, 2**23)
    y = np.full(8, -1 / 3, np.float32)
    with compress(X, y, path=tmp_path / "a.h5", levels="harp:4", overwrite=True) as data:
        assert export_image(data, tmp_path / "a.bin", layout, overwrite=True).labels[0] == -int(np.float64(-y[0]) * 2**23)


def test_an_image_with_levels_above_its_top(tmp_path):
    lines = golden_lines()
    lines[0, 0] |= 0xF
    path = put(tmp_path, about(source=source_of(3)), lines)
    with pytest.raises(CorruptError, match="a level is above 8"):
        import_image(path, tmp_path / "a.h5")
    for change in [
        *({"samples": samples} for samples in (4, 1, 0, -2, 2.0, "2", [2], 10**400)),
        {"rounding": "x"}, {"mean": [0.0]}, {"seed": -1}, {"row_offset": None},
    ]:  # fmt: skip
        path = put(tmp_path, about(source=source_of(3, **change)), golden_lines())
        with pytest.raises(CorruptError, match="damaged"):
            import_image(path, tmp_path / "a.h5")
    assert not list(tmp_path.glob("a.h5*"))


def test_a_full_disk_leaves_nothing(small, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("zipml_codec.export.write_at", full)
    for layout in ("harp", "mlweaving"):
        with pytest.raises(OutputError, match="no space left"):
            export_image(small, tmp_path / "b.bin", layout, last_rows="pad")
        assert sorted(tmp_path.iterdir()) == before


# ---- the commands ----


def run(capsys, *arguments):
    """Exit code, standard output, and standard error of a command."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    return (code, *capsys.readouterr())


def test_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).random((32, 90), np.float32)
    np.savez("a.npz", X=X, y=X[:, 0])
    assert run(capsys, "compress", "a.npz", "--label", "y", "--levels", "harp:4", "--keep-exact", "-o", "a.h5")[0] == 0
    assert "harp:4, 9 a feature" in run(capsys, "info", "a.h5")[1]
    code, out, _ = run(capsys, "export", "a.h5", "--layout", "harp", "-o", "a.bin", "--indices", 2, "--range", 11, "--bias")
    assert code == 0 and "90 and a bias" in out and "fresh quantizations" in out and "-1..1" in out
    image = open_image("a.bin")
    assert image.signed and image.indices == 2 and image.columns is None and image.label == "y"
    code, out, _ = run(capsys, "export", "a.h5", "--layout", "mlweaving", "-o", "m.bin", "--json")
    assert code == 0 and json.loads(out)["bytes"] == 4 * 2 * 32 * 64 and json.loads(out)["source"] == "the exact copy"
    for source, target in [("a.bin", "b.h5"), ("m.bin", "m.npz")]:
        code, out, _ = run(capsys, "import", source, "-o", target, "--json")
        assert code == 0 and list(json.loads(out)["written"]) == [target]
    assert run(capsys, "compress", "m.npz", "--label", "y", "-o", "m.h5")[0] == 0
    assert run(capsys, "verify", "b.h5")[0] == 0
    for name in ("w.npy", "v.labels.npy"):
        assert run(capsys, "export", "a.h5", "--layout", "mlweaving", "-o", name)[0] == 0
    for arguments, says in [
        (["export", "a.h5", "--layout", "harp", "-o", "a.bin"], "a.bin exists"),
        (["export", "a.h5", "--layout", "harp", "-o", "c.bin", "--range", "10"], "--range must be 01"),
        (["export", "a.h5", "--layout", "harp", "-o", "a.h5", "--overwrite"], "is what is read"),
        (["export", "x.h5", "--layout", "harp", "-o", "c.bin"], "x.h5"),
        (["import", "m.bin", "-o", "c.h5"], "name an .npy or .npz"),
        (["import", "a.bin", "-o", "c.npy"], "name a zipml file"),
        (["import", "a.bin", "-o", "b.h5"], "b.h5 exists"),
        (["import", "a.bin", "-o", "a.bin", "--overwrite"], "is what is read"),
        (["import", "a.npz", "-o", "c.h5"], "a.npz.json"),
        (["import", "m.bin", "-o", "c.npz", "--zstd", "3"], "leave it out"),
        (["import", "w.npy", "-o", "w.labels.npy", "--overwrite"], "is what is read"),
        (["import", "v.labels.npy", "-o", "v.npy", "--overwrite"], "is what is read"),
    ]:
        code, out, err = run(capsys, *arguments)
        assert code == 2 and not out and says in err and len(err.splitlines()) == 1, err
    assert not list(tmp_path.glob("c.*"))
