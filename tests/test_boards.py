"""The boards' integer trainers: bit for bit what docs/boards.md says, and training from images beside float64."""

import json
import logging

import numpy as np
import pytest
import reference
import xxhash

import zipml_codec as zipml
from zipml_codec.boards import Run, train_on_board
from zipml_codec.cli import main
from zipml_codec.errors import DataError, FormatError, OptionError
from zipml_codec.formats.fpga import Sidecar, open_image
from zipml_codec.kernels import boards

CODES = [(1, False), (2, False), (4, False), (8, False), (2, True), (4, True), (8, True)]


def levels(generator, shape, bits, signed):
    """Random levels, and that of 1.0."""
    one = 2 ** (bits - 2) if signed else 2 ** (bits - 1)
    return generator.integers(-one if signed else 0, one + 1, shape), one


def models(generator, features, size):
    """A model to start from, of int32 below `size`."""
    return generator.integers(-size, size, features).astype(np.int32)


def test_the_golden_vector_of_the_hardware():
    lines = np.zeros((2, 16), "<u4")
    lines[:, 0], lines[:, 15] = (0x00432188, 0x00103488), (0x00400000, 0xFFE00000)
    x, later = np.zeros((2, 3), np.int32)
    assert boards.harp(lines.view(np.uint8), x, later, 4, False, 4, 0) == 0
    assert x.tolist() == later.tolist() == [112640, 9472, 112384]
    q1, q2, labels = np.array([[8, 1, 3], [8, 4, 0]]), np.array([[8, 2, 4], [8, 3, 1]]), np.array([2**22, -(2**21)])
    np.testing.assert_array_equal(reference.harp_rows(q1, q2, labels, 4), lines.view(np.uint8))
    assert reference.harp_epoch(q1, q2, labels, 8, 4, 0, [0, 0, 0]) == ([112640, 9472, 112384], 0)


@pytest.mark.parametrize(("bits", "signed"), CODES)
@pytest.mark.parametrize(("rows", "shift", "mask"), [(1, 0, 0), (21, 0, 0), (21, 9, 3), (16, 5, 7), (5, 31, 15)])
def test_harp_bit_for_bit(bits, signed, rows, shift, mask):
    generator = np.random.default_rng([bits, signed, rows, shift])
    wrapped = 0
    for features, size in ((1, 2**31), (7, 2**24), (512 // bits + 5, 2**23), (240 // bits, 2**31)):
        start = models(generator, features, size)
        x, later, expected = start.copy(), start.copy(), start.tolist()
        copies = []
        for _ in range(2):
            q1, one = levels(generator, (rows, features), bits, signed)
            q2, _ = levels(generator, (rows, features), bits, signed)
            labels = models(generator, rows, max(size, 2**23))
            copies.append((q1, q2, labels, reference.harp_rows(q1, q2, labels, bits)))
        for epoch in range(3):
            q1, q2, labels, lines = copies[epoch % 2]
            expected, lost = reference.harp_epoch(q1, q2, labels, one, shift, mask, expected)
            assert boards.harp(lines, x, later, bits, signed, shift, mask) == lost
            assert x.tolist() == later.tolist() == expected
            wrapped += lost
    assert wrapped or rows == 1, "no register has wrapped: the test is of less than it should be"


@pytest.mark.parametrize(("bits", "signed"), CODES)
@pytest.mark.parametrize(("rows", "shift", "mask"), [(1, 0, 0), (21, 0, 0), (21, 9, 3), (16, 5, 7), (5, 31, 15)])
def test_pynq_bit_for_bit(bits, signed, rows, shift, mask):
    generator = np.random.default_rng([bits, signed, rows, shift])
    for features, size, label in ((1, 2**31, 1e3), (7, 2**24, 1.0), (130, 2**23, 1.0), (64 // bits, 2**31, 1e30), (9, 9, 1e-6)):
        q, one = levels(generator, (rows, features), bits, signed)
        labels = (generator.normal(size=rows) * label).astype(np.float32)
        words = reference.pynq_rows(q, labels, bits)
        x, later = models(generator, features, size), models(generator, features, size)
        expected = x.tolist(), later.tolist()
        for _ in range(3):
            *expected, lost = reference.pynq_epoch(q, labels, one, shift, mask, *expected)
            assert boards.pynq(words, x, later, bits, signed, shift, mask) == lost
            assert (x.tolist(), later.tolist()) == tuple(expected)
        if mask >= rows:
            assert x.tolist() != later.tolist() or shift == 31, "a batch that has not ended is not in the model yet"


@pytest.mark.parametrize("planes", [1, 2, 3, 5, 8, 13, 16, 24, 31, 32])
@pytest.mark.parametrize(("groups", "chunks", "shift", "batch"), [(1, 1, 0, 8), (3, 2, 4, 8), (3, 1, 7, 16), (2, 3, 31, 64)])
def test_mlweaving_bit_for_bit(planes, groups, chunks, shift, batch):
    generator = np.random.default_rng([planes, groups, chunks, shift])
    for features, size, label in ((64 * chunks, 2**31, 2**31), (64 * chunks - 9, 2**23, 2**23), (64 * chunks - 63, 40, 40)):
        v = np.zeros((8 * groups, 64 * chunks), np.uint32)
        v[:, :features] = generator.integers(0, 2**32, (8 * groups, features), np.uint32)
        data, labels = reference.mlweaving_lines(v[:, :features]).ravel(), models(generator, 8 * groups, label)
        x, later = models(generator, 64 * chunks, size), models(generator, 64 * chunks, size)
        expected = x.tolist(), later.tolist()
        for _ in range(2):
            *expected, lost = reference.mlweaving_epoch(v, labels, planes, shift, batch, *expected)
            assert boards.mlweaving(data, labels, x, later, planes, shift, batch - 1) == lost
            assert (x.tolist(), later.tolist()) == tuple(expected)


def test_codes_that_no_level_has_are_what_the_cores_make_of_them():
    """RTL/qfixed_dot_product.vhd: of 2 bits 3 is 1.0 and -2 nothing; of more, the top bit alone is what it is, not minus that."""
    odd = [(2, False, 3, 1.0), (2, True, 2, 0.0), (4, True, 8, 2.0), (4, False, 9, -7 / 8), (8, False, 128, 1.0)]
    for bits, signed, code, value in odd:
        row = np.zeros((1, 16), np.uint8)
        row[0, 0] = code
        np.testing.assert_array_equal(boards.decode(row, 1, bits, signed, 0, 1), [[value]])


def test_decoded_values_are_the_levels():
    generator = np.random.default_rng(0)
    for bits, signed in CODES:
        (q1, one), (q2, _) = (levels(generator, (5, 600), bits, signed) for _ in range(2))
        lines = reference.harp_rows(q1, q2, np.zeros(5, int), bits)
        np.testing.assert_array_equal(boards.decode(lines, 600, bits, signed, 0, 2), q1 / one)
        np.testing.assert_array_equal(boards.decode(lines, 600, bits, signed, 1, 2), q2 / one)


@pytest.mark.parametrize("mask", [0, 3])
def test_float_sgd(mask):
    generator = np.random.default_rng(mask)
    a1, a2, labels = generator.normal(size=(11, 5)), generator.normal(size=(11, 5)), generator.normal(size=11)
    x, later = np.zeros((2, 5))
    expected, pending = np.zeros((2, 5))
    for row in range(11):
        pending = pending - (a1[row] @ expected - labels[row]) * a2[row] / 16
        if row & mask == mask or row == 10:
            expected = pending
    for first, last in ((0, 4), (4, 4), (4, 11)):
        boards.floats(a1[first:last], a2[first:last], labels[first:last], x, later, 1 / 16, first, mask, 10)
    np.testing.assert_allclose(x, expected, rtol=1e-13)
    np.testing.assert_array_equal(x, later)


def test_the_kernels_refuse_what_does_not_fit():
    rows, x = np.zeros((2, 64), np.uint8), np.zeros(60, np.int32)
    for call in (
        lambda: boards.harp(rows, x, x.copy(), 4, False, 32, 0),
        lambda: boards.harp(rows, x, x.copy(), 4, False, 4, 2),
        lambda: boards.harp(rows, x, x[:9].copy(), 4, False, 4, 0),
        lambda: boards.harp(rows, x, x.copy(), 8, False, 4, 0),
        lambda: boards.harp(rows, x, x.copy(), 1, True, 4, 0),
        lambda: boards.pynq(rows[:, :32].copy(), x, x.copy(), 4, False, 4, 0),
        lambda: boards.mlweaving(rows[0], x[:8], np.zeros(64, np.int32), np.zeros(64, np.int32), 4, 4, 7),
        lambda: boards.decode(rows, 65, 8, False, 0, 1),
        lambda: boards.floats(np.zeros((1, 2)), np.zeros((1, 3)), np.zeros(1), np.zeros(2), np.zeros(2), 1.0, 0, 0, 0),
    ):
        with pytest.raises(ValueError):
            call()


# ---- Training from images ----


def write_image(folder, layout, X, y, *, bits=8, signed=False, label_scale=1.0, indices=1, seed=0, **changes):
    """An image of rows X with a bias, stochastically rounded, and its description, as docs/fpga.md has them: the path."""
    low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
    share = (X - low) / np.where(high > low, high - low, 1)
    n, b, zeros = X.shape[1] + 1, y * label_scale, 0
    files = {}
    if layout == "mlweaving":
        v = np.column_stack([share, np.ones(len(X))])
        data = reference.mlweaving_lines((v * (2**32 - 1)).astype(np.uint32))
        files["labels"] = np.trunc(b * 2**23).astype("<i4")
        bits, top = 32, 2**32 - 1
    else:
        top, offset = 2 ** (bits - 1), 2 ** (bits - 2) if signed else 0
        generator, copies = np.random.default_rng(seed), []
        zeros = 1 if layout == "harp" and n % (256 // bits) == 0 else 0
        for _ in range(indices):
            q1, q2 = (np.floor(share * top + generator.random(X.shape)).astype(int) - offset for _ in range(2))
            q1, q2 = (np.column_stack([q, np.full(len(X), top - offset), np.zeros((len(X), zeros), int)]) for q in (q1, q2))
            if layout == "harp":
                copies.append(reference.harp_rows(q1, q2, np.trunc(b * 2**23).astype(int), bits))
            else:
                copies.append(reference.pynq_rows(q1, b, bits))
        data = np.concatenate(copies)
    about = Sidecar(**{
        "layout": layout, "bits": bits, "signed": signed, "rows": len(X), "data_rows": len(X), "features": n + zeros,
        "data_features": n - 1, "bias": True, "indices": indices, "top": top, "low": low, "high": high, "labelled": True,
        "label_scale": label_scale, "columns": [f"x{f}" for f in range(n - 1)],
    } | changes)  # fmt: skip
    path = folder / f"{layout}.bin"
    said = {}
    for name, array in {"image": data, **files}.items():
        place = path if name == "image" else folder / f"{layout}.labels.bin"
        place.write_bytes(array.tobytes())
        said[name] = {"file": place.name, "bytes": array.nbytes, "xxh3": f"{xxhash.xxh3_64_intdigest(array.tobytes()):016x}"}
    (folder / f"{path.name}.json").write_bytes(about.text(said))
    return path


def small(rows=48, features=5, seed=3):
    """Rows, and labels that depend on them linearly, but for noise."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(rows, features)).astype(np.float32)
    return X, X @ np.linspace(-1, 1, features) / 4 + 0.5 + generator.normal(size=rows) / 50


LAYOUTS = [("harp", {}), ("harp", {"signed": True, "bits": 4}), ("pynq", {"bits": 4}), ("mlweaving", {})]


@pytest.mark.parametrize(("layout", "options"), LAYOUTS)
def test_training_is_the_epochs_of_the_image(tmp_path, layout, options):
    """The registers are those of the reference, epoch after epoch, which decodes the image's values by itself."""
    X, y = small()
    copies = {"indices": 2} if layout == "harp" else {}
    path = write_image(tmp_path, layout, X, y, **options, **copies)
    planes = 7 if layout == "mlweaving" else None
    model = train_on_board(path, layout, epochs=3, step_shift=6, minibatch=8, precision=planes)
    x = later = [0] * (64 if layout == "mlweaving" else 6)
    bits, signed = options.get("bits", 8), options.get("signed", False)
    top, offset = 2 ** (bits - 1), 2 ** (bits - 2) if signed else 0
    share = (X - X.min(axis=0).astype(np.float64)) / (X.max(axis=0).astype(np.float64) - X.min(axis=0))
    fixed, generator, q = np.trunc(y * 2**23).astype(int), np.random.default_rng(0), []
    for _ in range(4):
        drawn = np.floor(share * top + generator.random(X.shape)).astype(int) - offset
        q.append(np.column_stack([drawn, np.full(48, top - offset)]))
    v = np.zeros((48, 64), np.uint32)
    v[:, :6] = np.column_stack([share, np.ones(48)]) * (2**32 - 1)
    for epoch in range(3):
        if layout == "harp":
            x, _ = reference.harp_epoch(q[epoch % 2 * 2], q[epoch % 2 * 2 + 1], fixed, top - offset, 6, 7, x)
            later = x
        elif layout == "pynq":
            x, later, _ = reference.pynq_epoch(q[0], y, top, 6, 7, x, later)
        else:
            x, later, _ = reference.mlweaving_epoch(v, fixed, 7, 6, 8, x, later)
    assert model.info["registers"] == later[:6] and model.info["wrapped"] == 0
    assert [entry["epoch"] for entry in model.history] == [1, 2, 3] and model.columns == ("x0", "x1", "x2", "x3", "x4")


@pytest.mark.parametrize(("layout", "options"), LAYOUTS)
def test_the_model_is_in_the_units_of_the_data(tmp_path, layout, options):
    """Labels over the scale, and of each column low and high: what the board's values give, to rounding of float64."""
    X, y = small()
    X[:, 2] = 7  # a constant column is the range's lowest value
    model = train_on_board(write_image(tmp_path, layout, X, y * 100, label_scale=1 / 64, **options), epochs=2, precision=None)
    x = np.array(model.info["registers"]) / 2**23
    low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
    lowest, highest = model.info["range"]
    values = lowest + (X - low) / np.where(high > low, high - low, 1) * (highest - lowest)
    expected = (values @ x[:5] + x[5]) * 64
    np.testing.assert_allclose(model.decision(X), expected, rtol=1e-6 if layout == "mlweaving" else 1e-9, atol=1e-6)
    assert model.coef[2] == 0


def test_planes_that_are_cut_off_are_half_a_cell_in_the_mean(tmp_path):
    X, y = small(800)[0], small(800)[0].mean(axis=1).astype(np.float64)
    path = write_image(tmp_path, "mlweaving", X, y)
    model = train_on_board(path, precision=2, step_shift=7, epochs=60)
    seen = np.minimum(np.floor((X - X.min(axis=0)) / np.ptp(X, axis=0) * 4) / 4, 0.75)
    x = np.array(model.info["registers"]) / 2**23
    loss = np.mean((seen @ x[:5] + x[5] * 0.75 - y) ** 2) / 2
    assert model.history[-1]["train_loss"] == pytest.approx(loss, rel=1e-4)
    shift = x[:5].sum() / 8  # what a model that takes the cut-off values for the data's would be off by
    assert abs(np.mean(model.decision(X) - y)) < shift / 5


@pytest.mark.parametrize(("layout", "options"), [*LAYOUTS, ("harp", {"bits": 2}), ("harp", {"bits": 1})])
@pytest.mark.parametrize("name", ["cal_housing", "cod_rna"])
def test_the_board_stays_near_float64_on_real_data(tmp_path, real, name, layout, options):
    """|x - y| <= T sqrt(n) (2 + n / 2^s) / 2^23 after T rows of n features: each floor loses less than 2^-23 (docs/boards.md)."""
    X, y = real(name)
    chosen = np.random.default_rng(5).permutation(len(X))[:1024]
    X, y = X[chosen], y[chosen]
    scale = 2.0 ** -np.ceil(np.log2(np.abs(y).max()))
    path = write_image(tmp_path, layout, X, y, label_scale=scale, **options)
    run = Run(open_image(path), None, 9 if layout == "mlweaving" else None, None)
    epochs = 20
    history = [run.epoch(epoch) for epoch in range(epochs)]
    n = run.image.features
    bound = epochs * len(X) * np.sqrt(n) * (2 + n / 2**run.shift) / 2**23
    distance = np.linalg.norm(run.model - run.float_next)
    assert distance < bound and distance < 0.02 * np.linalg.norm(run.float_next)
    for entry in history:
        assert entry["wrapped"] == 0
        assert entry["train_loss"] == pytest.approx(entry["float_loss"], rel=0.01, abs=1e-4)
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_a_register_that_wraps_is_seen_and_the_advice_helps(tmp_path, caplog):
    X, y = small(400, 20)
    for layout, options in LAYOUTS:
        path = write_image(tmp_path, layout, X, y, **options)
        with caplog.at_level(logging.WARNING):
            model = train_on_board(path, step_shift=0, epochs=3)
        assert model.info["wrapped"] > 0
        told = caplog.records[-1].getMessage()
        assert "wrapped around" in told
        shift = int(told.partition("--step-shift ")[2].partition(",")[0])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            model = train_on_board(path, step_shift=shift, epochs=30)
        assert model.info["wrapped"] == 0 and not caplog.records
        assert model.history[-1]["train_loss"] < model.history[0]["train_loss"]


def test_labels_near_the_end_of_the_registers_wrap_at_any_step(tmp_path, caplog):
    X, y = np.full((64, 2), 1, np.float32), np.full(64, 255.0)
    X[0] = 0
    path = write_image(tmp_path, "pynq", X, y, label_scale=2.0)  # float32 labels: 510 is no value of 9.23
    model = train_on_board(path, epochs=40)
    assert model.info["wrapped"] > 0
    assert "export labels of a smaller scale" in caplog.records[-1].getMessage()


def test_divergence_of_float64_is_told_as_none(tmp_path):
    X, y = small(400)
    model = train_on_board(write_image(tmp_path, "harp", X, y), step_shift=0, epochs=9)
    assert model.history[-1]["float_loss"] is None and model.info["model_distance"] is None
    assert np.isfinite(model.history[-1]["train_loss"])


def test_what_a_design_does_not_have_is_refused(tmp_path):
    X, y = small()
    harp, woven = write_image(tmp_path, "harp", X, y), write_image(tmp_path, "mlweaving", X, y)
    for call, says in (
        (lambda: train_on_board(harp, "pynq"), "image for harp: take --engine harp"),
        (lambda: train_on_board(harp, "arria"), "engine must be one of"),
        (lambda: train_on_board(harp, precision=4), "precision is of --engine mlweaving"),
        (lambda: train_on_board(harp, minibatch=12), "power of two"),
        (lambda: train_on_board(harp, minibatch=2**17), "minibatch must be 1..65536"),
        (lambda: train_on_board(harp, step_shift=32), "step_shift must be 0..31"),
        (lambda: train_on_board(harp, epochs=0), "epochs must be at least 1"),
        (lambda: train_on_board(woven, precision=33), "precision must be 1..32"),
        (lambda: train_on_board(woven, minibatch=4), "minibatch must be 8..1024"),
        (lambda: train_on_board(woven, minibatch=64), "48 rows, and no batch would ever end"),
    ):
        with pytest.raises(OptionError, match=says) as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no labels to train on"):
        train_on_board(write_image(tmp_path, "pynq", X, y * 0, labelled=False))
    with pytest.raises(FormatError):
        train_on_board(write_image(tmp_path, "harp", X, y, data_features=8200, features=8201))
    (tmp_path / "text.bin").write_text("no image")
    with pytest.raises(FormatError, match="zipml export"):
        train_on_board(tmp_path / "text.bin")


def test_the_command(tmp_path, capsys):
    X, y = small()
    for layout in ("harp", "pynq", "mlweaving"):
        path, saved = write_image(tmp_path, layout, X, y), tmp_path / f"{layout}.npz"
        arguments = ["train", str(path), "--engine", layout, "--epochs", "3", "--step-shift", "6", "--minibatch", "16"]
        model = train_on_board(path, epochs=3, step_shift=6, minibatch=16)
        assert main([*arguments, "-o", str(saved)]) == 0
        out, err = capsys.readouterr()
        assert not err and "board loss" in out and "float64 loss" in out and f"{model.history[-1]['train_loss']:.6g}" in out
        np.testing.assert_array_equal(zipml.Model.load(saved).coef, model.coef)
        assert main([*arguments, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["registers"] == model.info["registers"] and said["mask"] == 15
        assert [entry["train_loss"] for entry in said["history"]] == [entry["train_loss"] for entry in model.history]
    for more, says in (
        (["--engine", "harp", "--penalty", "l1"], "--engine harp has no --penalty"),
        (["--engine", "harp", "--debias", "naive"], "no --debias"),
        (["--engine", "harp", "--precision", "4"], "precision is of --engine mlweaving"),
        (["--step-shift", "4"], "--step-shift is of --engine"),
        ([], "--engine harp trains from it"),
    ):
        assert main(["train", str(tmp_path / "harp.bin"), *more]) == 2
        assert says in capsys.readouterr().err


def test_losses_of_pairs_of_samples_are_those_of_the_rows(tmp_path):
    """In expectation over rounding: with the model at hand, the mean over many copies is the loss on the exact rows."""
    X, y = small(100)
    model = train_on_board(write_image(tmp_path, "harp", X, y, bits=2, indices=64), epochs=1)
    x = np.array(model.info["registers"]) / 2**23
    run = Run(open_image(tmp_path / "harp.bin"), None, None, None)
    run.next[:] = model.info["registers"]
    found = np.array([run.losses(index)[0] for index in range(64)])
    low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
    exact = np.mean(((X - low) / (high - low) @ x[:5] + x[5] - y) ** 2) / 2
    assert abs(found[1:].mean() - exact) < 4 * found[1:].std() / np.sqrt(63)  # the model has seen copy 0
    assert found[1:].std() < exact / 4


def test_a_zipml_file_is_trained_from_as_its_image(tmp_path, capsys):
    X, y = small(50)
    path = tmp_path / "a.zipml.h5"
    zipml.compress(X, np.column_stack([y, 5 * y]), path=path, levels="harp:4")
    assert main(["train", str(path), "--engine", "harp", "--label", "1", "--epochs", "3", "-o", str(tmp_path / "m.npz")]) == 0
    image = tmp_path / "a.bin"
    scale = 2.0 ** -np.ceil(np.log2(np.abs(5 * y).max()))
    options = ["--layout", "harp", "--bias", "--label", "1", "--label-scale", str(scale)]
    assert main(["export", str(path), *options, "-o", str(image)]) == 0
    model = train_on_board(image, epochs=3)
    assert zipml.Model.load(tmp_path / "m.npz").info["registers"] == model.info["registers"]
    capsys.readouterr()
    for arguments, says in (
        (["train", str(path), "--engine", "harp"], "label"),
        (["train", str(path), "--engine", "pynq", "--label", "9"], "label"),
        (["train", str(image), "--engine", "harp", "--seed", "1"], "give label and seed to `zipml export`"),
    ):
        assert main(arguments) == 2
        assert says in capsys.readouterr().err
    with pytest.raises(OptionError, match="for any board"):
        train_on_board(path)
    zipml.compress(X, path=tmp_path / "b.zipml.h5")
    with pytest.raises(DataError, match="no labels to train on"):
        train_on_board(tmp_path / "b.zipml.h5", "harp")
    zipml.compress(X[:49], y[:49], path=tmp_path / "c.zipml.h5")
    with pytest.raises(OptionError, match="--levels harp:"):
        train_on_board(tmp_path / "c.zipml.h5", "harp")
    assert train_on_board(tmp_path / "c.zipml.h5", "mlweaving", precision=4, epochs=1).info["rows"] == 48
