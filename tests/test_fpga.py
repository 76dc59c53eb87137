"""Images for the published FPGA designs: bit by bit as docs/fpga.md has them, there and back, and what is refused."""

import json

import numpy as np
import pytest
import xxhash

from zipml_codec.errors import CorruptError, FormatError
from zipml_codec.formats.fpga import Sidecar, open_image, zero_features

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


def put(folder, about, data, labels=None):
    """An image and its description, as any program may write them."""
    path = folder / "a.bin"
    files = {"image": {"file": "a.bin", "bytes": data.nbytes, "xxh3": f"{xxhash.xxh3_64_intdigest(data.tobytes()):016x}"}}
    path.write_bytes(data.tobytes())
    if labels is not None:
        (folder / "a.labels.bin").write_bytes(labels.tobytes())
        files["labels"] = {"xxh3": f"{xxhash.xxh3_64_intdigest(labels.tobytes()):016x}"}
    (folder / "a.bin.json").write_text(json.dumps(about.content(files)))
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
            ("features", 9000), ("features", 2), ("indices", "1"), ("columns", ["a"]), ("label_scale", 0.0), ("source", None),
        ]),
        ({"rows": 3}, CorruptError, "128 bytes, not the 192"),
        ({"image": None}, CorruptError, "digest"),
    ]:  # fmt: skip
        beside.write_text(json.dumps(json.loads(text) | change))
        with pytest.raises(error, match=says) as caught:
            open_image(path)
        assert "\n" not in str(caught.value)
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
