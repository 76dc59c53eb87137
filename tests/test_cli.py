"""The command `zipml`: each of its commands on small files, and one clear line for each kind of bad input."""

import contextlib
import errno
import gzip
import json
import logging
import os
import signal
import subprocess
import sys
import time
import warnings

import h5py
import numpy as np
import pytest

import zipml_codec
from zipml_codec.cli import main
from zipml_codec.errors import OptionError, OutputError
from zipml_codec.export import decompress
from zipml_codec.formats import container, writer

ROWS, FEATURES = 300, 4


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def zipml(folder, capsys):
    """Function that runs the command in this process and returns what it printed; it must succeed."""

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == 0, err
        assert "Traceback" not in err and all(line.startswith(("zipml: note: ", "epoch")) for line in err.splitlines()), err
        run.err = err
        return out

    return run


@pytest.fixture
def fails(folder, capsys):
    """Function that runs the command, which must fail with one line on stderr, code 2, and leave every file as it was."""

    def run(*arguments, says=(), code=2):
        before = files(folder)
        capsys.readouterr()
        got = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if not line.startswith(("zipml: note: ", "epoch"))]
        assert (got, out, len(lines)) == (code, "", 1), (got, out, err)
        assert lines[0].startswith("zipml: ") and "Traceback" not in err
        for part in (says,) if isinstance(says, str) else says:
            assert part in lines[0]
        assert files(folder) == before
        return lines[0]

    return run


def files(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def table(rows=ROWS, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(rows, FEATURES)).astype(np.float32)
    return X, (X @ np.arange(1, FEATURES + 1) + 0.1 * generator.normal(size=rows)).astype(np.float32)


def save_csv(path, X, y=None, names="abcd", label="target"):
    head = [*names[: X.shape[1]], *([label] if y is not None else [])]
    rows = X if y is None else np.column_stack([X, y])
    text = "\n".join([",".join(head), *(",".join(f"{value:.9g}" for value in row) for row in rows)]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture
def raw(folder):
    return save_csv(folder / "raw.csv.gz", *table())


@pytest.fixture
def packed(folder):
    """A compressed file with names and labels."""
    source = save_csv(folder / "source.csv", *table())
    assert main(["compress", str(source), "--label", "target", "-o", "f.zipml.h5"]) == 0
    return folder / "f.zipml.h5"


# What works.


def test_version_and_help(zipml):
    assert zipml("--version") == f"zipml {zipml_codec.__version__}\n"
    names = ("compress", "levels", "advise", "info", "verify", "decompress", "train", "predict", "demo", "bench")
    assert all(name in zipml() for name in names)
    for name in names:
        assert "Usage: zipml" in zipml(name, "--help")


def test_compress_several_files(zipml, fails, folder):
    """Shell's lists, folders and quoted patterns; columns by name or index."""
    os.mkdir("in")
    for number in (1, 2, 10):
        with open(f"in/part-{number}.csv", "w") as file:
            file.write("a,b,c,d\n" + "".join(f"{number},{i},{i * i},{i % 3}\n" for i in range(50)))
    for names in (["in"], ["in/*.csv"], ["in/part-1.csv", "in/part-2.csv", "in/part-10.csv"]):
        about = json.loads(zipml("compress", *names, "-o", "x.zipml.h5", "--overwrite", "--label=d", "--columns=c,0", "--json"))
        assert (about["rows"], about["features"]) == (150, 2)
        with zipml_codec.open("x.zipml.h5") as data:
            assert data.columns == ("c", "a") and data.labels.tolist() == [i % 3 for i in range(50)] * 3
            np.testing.assert_allclose(data.decode()[:, 1], np.repeat([1, 2, 10], 50), atol=3)
    assert json.loads(zipml("levels", "in", "--columns", "b", "--json"))["features"] == 1
    with open("in/part-3.csv", "w") as file:
        file.write("a,b,c,e\n1,2,3,4\n")
    fails("compress", "in", "-o", "y.zipml.h5", says=("part-3.csv: column 3 is 'e'", "part-1.csv it is 'd'"))


def test_compress_and_info(zipml, raw):
    out = zipml("compress", raw, "--label", "target", "-o", "a.zipml.h5")
    assert "300 x 4" in out and "ratio" in out and "dropped" not in out and "\x1b" not in out
    about = json.loads(zipml("info", "a.zipml.h5", "--json"))
    assert (about["rows"], about["features"], about["bits"], about["samples"], about["label_names"]) == (300, 4, 4, 2, ["target"])
    assert [feature["name"] for feature in about["per_feature"]] == list("abcd")
    out = zipml("info", "a.zipml.h5")
    assert "4 bits, 2 samples" in out and "and 1 more" not in out and "raw.csv.gz" in out
    out = zipml("info", "a.zipml.h5", "--features", 1)
    assert "and 3 more features" in out
    assert "all 300 rows in 1 chunk are" in zipml("verify", "a.zipml.h5")
    zipml("compress", raw, "-o", "one.zipml.h5", "--bits", 1, "--samples", 1)
    assert "1 bit, 1 sample, " in zipml("info", "one.zipml.h5")


def test_options_of_compress_reach_the_file(zipml, raw):
    options = ["--levels", "uniform", "--shared-levels", "--rounding", "nearest", "--bits", 3, "--seed", 5, "--zstd", 3]
    out = json.loads(zipml("compress", raw, "-o", "a", *options, "--threads", 1, "--json"))
    assert zipml.err == "" and out["rows"] == ROWS and out["ratio"] == out["input_bytes"] / out["output_bytes"]
    about = json.loads(zipml("info", "a", "--json"))
    assert (about["samples"], about["rounding"], about["levels"], about["seed"], about["zstd"]) == (1, "nearest", "uniform", 5, 3)
    assert about["shared_levels"] and not about["has_labels"] and about["features"] == 5
    zipml("compress", raw, "-o", "a", "--overwrite", "--samples", 3)
    assert json.loads(zipml("info", "a", "--json"))["samples"] == 3


@pytest.mark.parametrize("kind", ["npy", "npz", "h5"])
def test_binary_sources(zipml, folder, kind):
    X, y = table()
    if kind == "npy":
        np.save(folder / "s.npy", np.column_stack([X, y]))
    elif kind == "npz":
        np.savez(folder / "s.npz", data=X, other=X[:5], y=y)
    else:
        with h5py.File(folder / "s.h5", "w") as file:
            file["data"], file["other"], file["y"] = X, X[:5], y
    which = ["--label", "-1"] if kind == "npy" else ["--label", "y", "--dataset", "data"]
    zipml("compress", f"s.{kind}", "-o", "a", *which)
    with zipml_codec.open("a") as data:
        assert data.shape == X.shape
        np.testing.assert_array_equal(data.labels, y)
    zipml("train", "a", "-o", "m.npz", "--epochs", 2)
    zipml("predict", "m.npz", f"s.{kind}", "-o", "p.csv", *which)


def test_levels(zipml, raw, folder):
    """The table, and the same as JSON: what the errors of files of these levels are."""
    out = zipml("levels", raw, "--label", "target", "--features", 2)
    for says in ("uniform levels", "optimal levels", "Bits saved", "2 bits", "8 bits", "mean, over variance"):
        assert says in out
    assert "and 2 more features" in out
    about = json.loads(zipml("levels", raw, "--label", "target", "--bits", "3,5", "--json"))
    assert zipml.err == "" and (about["rows"], about["features"], about["bits"], about["samples"]) == (300, 4, [3, 5], 1)
    assert [row["name"] for row in about["per_feature"]] == list("abcd") and about["picture"] is about["saved_to"] is None
    for kind in ("uniform", "optimal"):
        for at, bits in enumerate(about["bits"]):
            options = ["--levels", kind, "--bits", bits, "--samples", 1, "--grid", "none", "--overwrite"]
            zipml("compress", raw, "--label", "target", "-o", "a", *options)
            with zipml_codec.open("a") as data:
                errors = [row[kind][at] for row in about["per_feature"]]
                np.testing.assert_allclose(errors, data.noise, rtol=1e-2)
                assert about["mean"][kind][at] == pytest.approx(np.mean(data.noise / data.std**2), rel=1e-2)
                np.testing.assert_allclose([row["variance"] for row in about["per_feature"]], data.std**2, rtol=1e-9)
    for row in about["per_feature"]:
        for good, plain, saved in zip(row["optimal"], row["uniform"], row["saved"], strict=True):
            assert good < plain and saved == pytest.approx(np.log2(plain / good) / 2)


@pytest.mark.parametrize(
    ("text", "widths"), [("4", [4]), ("2,4,8", [2, 4, 8]), ("2..5", [2, 3, 4, 5]), ("6-8, 2", [6, 7, 8, 2]), ("3,3..4", [3, 4])]
)
def test_widths(zipml, raw, text, widths):
    assert json.loads(zipml("levels", raw, "--bits", text, "--json"))["bits"] == widths


@pytest.mark.parametrize(
    "options", [[], ["--feature", "b"], ["--feature", "3"], ["--shared-levels"], ["--bits", "2", "--samples", "3"]]
)
def test_levels_drawn(zipml, raw, folder, options):
    pytest.importorskip("matplotlib")
    about = json.loads(zipml("levels", raw, "--label", "target", "--plot", "p.png", *options, "--json"))
    assert about["picture"] == "p.png" and (folder / "p.png").read_bytes().startswith(b"\x89PNG")
    assert about["shared_levels"] == ("--shared-levels" in options) and len(about["per_feature"]) in (1, 4)


def test_levels_saved_and_given_back(zipml, raw, folder):
    zipml("levels", raw, "--label", "target", "--bits", 3, "--samples", 2, "--save", "l")
    codec, names = zipml_codec.load_levels("l")
    assert (codec.bits, codec.samples, names) == (3, 2, tuple("abcd"))
    zipml("compress", raw, "--label", "target", "-o", "a", "--bits", 3, "--samples", 2)
    out = zipml("compress", raw, "--label", "target", "-o", "b", "--levels", "l")
    assert "3 bits, 2 samples" in out and "clipped" not in out
    with zipml_codec.open("a") as a, zipml_codec.open("b") as b:
        np.testing.assert_array_equal(b.packed(), a.packed())
    assert "clipped" not in zipml("info", "b")
    X, y = table()
    far = X.copy()
    far[5, 1], far[6, 1], far[9, 3] = 1e9, -1e9, 77
    save_csv(folder / "far.csv", far, y)
    out = zipml("compress", "far.csv", "--label", "target", "-o", "c", "--levels", "l", "--clip")
    assert "clipped values" in out
    with zipml_codec.open("c") as data:
        assert data.clipped.tolist() == [0, 2, 0, 1]
    assert "clipped values" in zipml("info", "c") and json.loads(zipml("info", "c", "--json"))["clipped"] == 3


def test_bits_by_target(zipml, raw):
    out = zipml("compress", raw, "--label", "target", "-o", "a", "--bits", "auto", "--target-error", 0.05, "--samples", 1)
    assert "relative error" in out and "at most 0.05 wanted" in out
    about = json.loads(zipml("info", "a", "--json"))
    noise = np.mean([row["noise"] / row["std"] ** 2 for row in about["per_feature"]])
    assert noise <= 0.0503 and about["options"]["target_error"] == 0.05
    assert f"{about['options']['grid_steps']} steps, " in zipml("info", "a")


def test_dropped_rows_are_counted(zipml, folder):
    X, y = table()
    X[3, 1], X[7, 0], X[8, 2] = np.nan, np.inf, -np.inf
    save_csv(folder / "s.csv", X, y)
    out = zipml("compress", "s.csv", "--label", "target", "-o", "a", "--nonfinite", "drop")
    assert "297 x 4" in out and "3 with NaN or infinity" in out
    assert "3 with NaN or infinity" in zipml("info", "a")


def test_one_row_and_constant_columns_decode_exactly(zipml, folder):
    save_csv(folder / "one.csv", np.array([[1.5, -2.25, 1e-3, 7e8]]))
    zipml("compress", "one.csv", "-o", "one")
    zipml("decompress", "one", "-o", "one.npy")
    np.testing.assert_array_equal(np.load("one.npy"), np.array([[1.5, -2.25, 1e-3, 7e8]], np.float32))
    X, _ = table()
    X[:, 1], X[:, 3] = 0.1, -3
    save_csv(folder / "c.csv", X)
    zipml("compress", "c.csv", "-o", "c")
    zipml("decompress", "c", "-o", "c.npy")
    np.testing.assert_array_equal(np.load("c.npy")[:, [1, 3]], X[:, [1, 3]])


@pytest.mark.parametrize("kind", ["npy", "csv", "h5", "hdf5"])
def test_decompress_gives_what_the_codec_decodes(zipml, packed, kind):
    out = zipml("decompress", packed, "-o", f"o.{kind}")
    with zipml_codec.open(packed) as data:
        X, y = data.decode(), data.labels
    assert "300 x 4" in out
    if kind == "npy":
        got, labels = np.load("o.npy"), np.load("o.labels.npy")
        assert "o.labels.npy: the labels" in out
    elif kind == "csv":
        with open("o.csv") as file:
            assert file.readline() == "a,b,c,d,target\n"
            rows = np.loadtxt(file, delimiter=",", dtype=np.float32)
        got, labels = rows[:, :-1], rows[:, -1]
    else:
        with h5py.File(f"o.{kind}") as file:
            got, labels = file["X"][()], file["labels"][()]
            assert list(file["X"].attrs["columns"]) == list("abcd") and file["labels"].attrs["name"] == "target"
    assert got.dtype == labels.dtype == np.float32
    np.testing.assert_array_equal(got, X)
    np.testing.assert_array_equal(labels, y)


@pytest.mark.parametrize("kind", ["npy", "csv", "h5"])
def test_decompress_in_many_chunks_without_names(folder, kind, monkeypatch):
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 512)
    monkeypatch.setattr("zipml_codec.export.TEXT_VALUES", 64)
    X, _ = table(1000)
    with zipml_codec.compress(X, path="a", zstd=1) as data:
        assert data.chunks > 3
        assert decompress(data, folder / f"o.{kind}") == [folder / f"o.{kind}"]
        decompress("a", f"o.{kind}", overwrite=True)
        wanted = data.decode()
    if kind == "npy":
        got = np.load("o.npy")
    elif kind == "csv":  # nothing has a name: no header
        got = np.loadtxt("o.csv", delimiter=",", dtype=np.float32)
    else:
        with h5py.File("o.h5") as file:
            assert list(file) == ["X"] and not file["X"].attrs
            got = file["X"][()]
    np.testing.assert_array_equal(got, wanted)


def test_names_of_any_kind_survive(folder):
    X, y = table()
    names = ['with "quotes", comma', "ümlaut [bold]", "line", "label"]
    with h5py.File("wide.h5", "w"):
        pass
    from zipml_codec.formats.arrays import array_source

    with zipml_codec.compress(array_source(X, y, columns=names), path="a") as data:
        decompress(data, "o.csv")
        decompress(data, "o.h5")
    source = zipml_codec.formats.readers.open_source("o.csv", label="label_")
    assert source.columns == tuple(names)
    with h5py.File("o.h5") as file:
        assert list(file["X"].attrs["columns"]) == names
    wide = np.zeros((2, 20_000), np.float32)
    with zipml_codec.compress(array_source(wide, columns=[f"feature {i}" for i in range(20_000)]), path="b") as data:
        decompress(data, "wide.h5", overwrite=True)
    with h5py.File("wide.h5") as file:
        assert len(file["X"].attrs["columns"]) == 20_000
    assert main(["info", "a"]) == 0


def test_train_and_predict(zipml, packed):
    out = zipml("train", packed, "--epochs", 5, "--test-fraction", 0.3, "-o", "m.npz")
    assert zipml.err.count("epoch ") == 5 and "test loss" in zipml.err
    assert all(part in out for part in ("train loss", "test loss", "share", "batch", "seconds per epoch", "m.npz"))
    assert "accuracy" not in out
    result = json.loads(zipml("train", packed, "--epochs", 2, "--json", "--batch", 32, "--debias", "naive"))
    assert result["batch"] == 32 and len(result["history"]) == 2 and result["output"] is None
    out = zipml("predict", "m.npz", packed, "-o", "p.csv")
    assert "300" in out and "mean squared error" in out
    with open("p.csv") as file:
        assert file.readline() == "prediction\n"
        got = np.loadtxt(file)
    np.testing.assert_array_equal(got, zipml_codec.Model.load("m.npz").predict(packed))
    zipml("predict", "m.npz", "source.csv", "-o", "q.csv")  # by name: the label is left out
    zipml("predict", "m.npz", "source.csv", "--label", "target", "-o", "r.csv")
    assert files(packed.parent)[packed.parent / "q.csv"] == files(packed.parent)[packed.parent / "r.csv"]


def test_predict_goes_by_the_names_of_columns(zipml, packed):
    """Raw or compressed: columns in another order, and one more, give the same predictions."""
    zipml("train", packed, "--epochs", 2, "-o", "m.npz")
    X, y = table()
    save_csv(packed.parent / "other.csv", np.column_stack([y, X[:, ::-1]]), names="edcba")
    zipml("compress", "source.csv", "-o", "b.zipml.h5", "--bits", 8, "--samples", 1)
    zipml("compress", "other.csv", "-o", "o.zipml.h5", "--bits", 8, "--samples", 1)
    model = zipml_codec.Model.load("m.npz")
    exact = model.predict("source.csv")
    for name in ("other.csv", "o.zipml.h5", "b.zipml.h5"):
        zipml("predict", "m.npz", name, "-o", f"{name}.p.csv")
        got = np.loadtxt(f"{name}.p.csv", skiprows=1)
        np.testing.assert_array_equal(got, model.predict(name))
        np.testing.assert_allclose(got, exact, atol=0.1 * np.std(exact))


def test_accuracy_where_labels_are_signs(zipml, folder):
    X, y = table()
    save_csv(folder / "s.csv", X, np.sign(y))
    zipml("compress", "s.csv", "--label", "target", "-o", "a")
    out = zipml("train", "a", "--loss", "lssvm", "--test-fraction", 0.3, "-o", "m.npz")
    assert "test accuracy" in out and out.count("rounded rows") == 2  # 300 rows keep fewer than 100 exactly
    assert "rounded rows" in zipml("predict", "m.npz", "a", "-o", "q.csv")
    assert "exact rows" in zipml("predict", "m.npz", "s.csv", "--label", "target", "-o", "p.csv")
    assert set((folder / "p.csv").read_text().splitlines()) == {"prediction", "1", "-1"}


def test_real_data(zipml, real_path):
    source = real_path("cal_housing")
    zipml("compress", source, "--label", "medianHouseValue", "-o", "h.zipml.h5")
    zipml("verify", "h.zipml.h5")
    zipml("train", "h.zipml.h5", "--epochs", 10, "--test-fraction", 0.3, "-o", "m.npz")
    zipml("predict", "m.npz", source, "-o", "p.csv", "--label", "medianHouseValue")
    got = np.loadtxt("p.csv", skiprows=1)
    with gzip.open(source, "rt") as file:
        y = np.loadtxt(file, delimiter=",", skiprows=1)[:, -1]
    assert np.corrcoef(got, y)[0, 1] > 0.75


def test_notes_and_state(zipml, folder):
    X = 1e9 + np.arange(300.0)[:, None]
    save_csv(folder / "s.csv", X.astype(np.float64) + 0.5 * (np.arange(300) % 3)[:, None])
    zipml("compress", "s.csv", "-o", "a")
    assert zipml.err.startswith("zipml: note: ") and "subtract a constant" in zipml.err
    assert logging.getLogger("zipml_codec").handlers == []
    with pytest.raises(UserWarning), warnings.catch_warnings():  # pytest's own filter is back
        warnings.warn("x", UserWarning, stacklevel=1)


# What does not: one line, code 2, nothing left behind.


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compress", "none.csv", "-o", "o"], "none.csv: no such file"),
        (["compress", "s.csv", "-o", "o", "--label", "targt"], ["targt", "did you mean 'target'"]),
        (["compress", "s.csv", "-o", "o", "--label", "9"], "no column with index 9"),
        (["compress", "s.csv", "-o", "o", "--dataset", "x"], "single table"),
        (["compress", "s.csv", "-o", "none/o"], "no folder"),
        (["compress", "s.csv", "-o", "."], "is a folder"),
        (["compress", "s.csv", "-o", "f.zipml.h5"], ["f.zipml.h5 exists", "--overwrite"]),
        (["compress", "s.csv", "-o", "o", "--bits", "9"], "bits must be 1..8"),
        (["compress", "s.csv", "-o", "o", "--bits", "0"], "bits must be 1..8"),
        (["compress", "s.csv", "-o", "o", "--bits", "two"], "--bits"),
        (["compress", "s.csv", "-o", "o", "--bits", "1"], "samples=2 do not fit in bits=1"),
        (["compress", "s.csv", "-o", "o", "--bits", "2", "--samples", "4"], "at most 3 samples"),
        (["compress", "s.csv", "-o", "o", "--samples", "0"], "samples must be"),
        (["compress", "s.csv", "-o", "o", "--rounding", "nearest", "--samples", "2"], "must be 1"),
        (["compress", "s.csv", "-o", "o", "--rounding", "up"], "'nearest'"),
        (["compress", "s.csv", "-o", "o", "--levels", "best"], "'optimal'"),
        (["compress", "s.csv", "-o", "o", "--nonfinite", "keep"], "'drop'"),
        (["compress", "s.csv", "-o", "o", "--zstd", "20"], "zstd"),
        (["compress", "s.csv", "-o", "o", "--seed", "-1"], "seed"),
        (["compress", "s.csv", "-o", "o", "--threads", "0"], "threads"),
        (["compress", "s.csv", "-o", "o", "--bits", "many"], ["--bits", "many"]),
        (["compress", "s.csv", "-o", "o", "--grid", "fine"], "'byte'"),
        (["compress", "s.csv", "-o", "o", "--target-error", "0.1"], "bits='auto'"),
        (["compress", "s.csv", "-o", "o", "--bits", "auto", "--target-error", "-1"], "target_error"),
        (["compress", "many.npy", "-o", "o", "--bits", "auto", "--target-error", "1e-12"], ["8 bits", "1e-12"]),
        (["compress", "s.csv", "-o", "o", "--clip"], "given levels"),
        (["compress", "s.csv", "-o", "o", "--levels", "narrow.csv"], "holds no levels"),
        (["compress", "s.csv", "-o", "o", "--levels", "f.zipml.h5"], ["5 features", "for 4"]),
        (["compress", "s.csv", "-o", "o", "--levels", "f.zipml.h5", "--clip"], ["5 features", "for 4"]),
        (["compress", "s.csv", "-o", "o", "--label", "a", "--levels", "f.zipml.h5"], ["column 0 is 'b'", "for 'a'"]),
        (
            ["compress", "far.csv", "-o", "o", "--levels", "f.zipml.h5"],
            ["row 2 (line 3)", "column 'c'", "1000.0", "outside of the given levels", "--clip"],
        ),
        (["compress", "nan.csv", "-o", "o", "--levels", "f.zipml.h5", "--clip"], ["row 3 (line 4)", "column 'c'", "nan"]),
        (["levels", "none.csv"], "no such file"),
        (["levels", "nan.csv"], ["row 3 (line 4)", "column 'c'", "nan"]),
        (["levels", "header.csv"], "no rows"),
        (["levels", "s.csv", "--bits", "x"], ["2..8", "'x'"]),
        (["levels", "s.csv", "--bits", ""], "2..8"),
        (["levels", "s.csv", "--bits", "8..2"], "no width"),
        (["levels", "s.csv", "--bits", "2..9999999999"], "bits"),
        (["levels", "s.csv", "--bits", "0"], "bits"),
        (["levels", "s.csv", "--bits", "1..4", "--samples", "3"], "samples=3"),
        (["levels", "s.csv", "--save", "l"], "one width"),
        (["levels", "s.csv", "--bits", "4", "--save", "taken.csv"], "exists"),
        (["levels", "s.csv", "--plot", "taken.csv"], "exists"),
        (["levels", "s.csv", "--plot", "none/p.png"], "no folder"),
        (["levels", "s.csv", "--plot", "p.png", "--feature", "z"], ["'z'", "a, b, c, d"]),
        (["levels", "s.csv", "--plot", "p.png", "--feature", "9"], "'9'"),
        (["levels", "s.csv", "--plot", "p.png", "--feature", "\u00b2"], "\u00b2"),
        (["compress", "f.zipml.h5", "-o", "o"], "zipml file already"),
        (["compress", "text.csv", "-o", "o"], ["row 2 (line 3)", "column 'b'", "'red'"]),
        (["compress", "nan.csv", "-o", "o"], ["row 3 (line 4)", "column 'c'", "nan", "--nonfinite drop"]),
        (["compress", "inf.csv", "-o", "o"], ["row 1 (line 2)", "column 'a'", "-inf"]),
        (["compress", "nan.csv", "-o", "o", "--label", "c"], ["row 3 (line 4)", "label 'c'"]),
        (["compress", "allnan.csv", "-o", "o", "--nonfinite", "drop"], "all 2 hold NaN"),
        (["compress", "empty.csv", "-o", "o"], "empty"),
        (["compress", "header.csv", "-o", "o"], "no rows"),
        (["compress", "empty.npy", "-o", "o"], "no rows"),
        (["compress", "ragged.csv", "-o", "o"], ["row 2 (line 3)", "3 cells, expected 4"]),
        (["compress", "s.csv"], "--output"),
        (["compress", "s.csv", "-o", "o", "--nonsense"], "--nonsense"),
        (["nonsense"], "nonsense"),
        (["info", "none"], "no such file"),
        (["info", "s.csv"], "not a zipml file"),
        (["info", "empty.csv"], "not a zipml file"),
        (["info", "."], "is a folder"),
        (["verify", "s.csv"], "not a zipml file"),
        (["decompress", "s.csv", "-o", "o.npy"], "not a zipml file"),
        (["decompress", "f.zipml.h5", "-o", "o.txt"], ".npy, .csv, .h5"),
        (["decompress", "f.zipml.h5", "-o", "taken.csv"], "exists"),
        (["decompress", "f.zipml.h5", "-o", "taken.npy"], "taken.labels.npy exists"),
        (["decompress", "f.zipml.h5", "-o", "none/o.csv"], "no folder"),
        (["train", "s.csv", "-o", "m"], "not a zipml file"),
        (["train", "nolabels", "-o", "m"], ["no labels", "--label"]),
        (["train", "f.zipml.h5", "-o", "m", "--loss", "lssvm"], ["row 1", "-1 and +1"]),
        (["train", "f.zipml.h5", "-o", "m", "--loss", "huber"], "'lssvm'"),
        (["train", "f.zipml.h5", "-o", "taken.csv"], "exists"),
        (["train", "f.zipml.h5", "-o", "m", "--epochs", "0"], "epochs"),
        (["train", "f.zipml.h5", "-o", "m", "--step", "-1"], "step"),
        (["train", "f.zipml.h5", "-o", "m", "--test-fraction", "1"], "test_fraction"),
        (["train", "f.zipml.h5", "-o", "m", "--model-bits", "7"], "model_bits"),
        (["train", "f.zipml.h5", "-o", "m", "--step", "1e30"], "diverges"),
        (["predict", "none", "s.csv", "-o", "o"], "no such file"),
        (["predict", "s.csv", "s.csv", "-o", "o"], "not a zipml model"),
        (["predict", "m.npz", "none.csv", "-o", "o"], "no such file"),
        (["predict", "m.npz", "narrow.csv", "-o", "o"], ["3 features", "the model 4"]),
        (["predict", "m.npz", "nan.csv", "-o", "o"], ["row 3", "column 'c'"]),
        (["predict", "m.npz", "s.csv", "-o", "taken.csv"], "exists"),
        (["predict", "m.npz", "f.zipml.h5", "-o", "o", "--label", "a"], "no label 'a'; there is 'target'"),
        (["demo", "--output", "s.csv"], "s.csv"),
    ],
    ids=lambda value: "-".join(value)[:60] if isinstance(value, list) else "",
)
def test_bad_input(fails, packed, folder, arguments, says):
    X, y = table(20)
    save_csv(folder / "s.csv", X, y)
    save_csv(folder / "narrow.csv", X[:, :3])
    np.save(folder / "many.npy", table(2000)[0])
    far = np.zeros((3, FEATURES), np.float32)
    far[1, 2] = 1000
    save_csv(folder / "far.csv", far)
    for name, row, column, value in (("nan", 2, 2, np.nan), ("inf", 0, 0, -np.inf)):
        bad = X.copy()
        bad[row, column] = value
        save_csv(folder / f"{name}.csv", bad)
    (folder / "text.csv").write_text("a,b\n1,2\n3,red\n")
    (folder / "allnan.csv").write_text("a,b\nnan,1\n2,inf\n")
    (folder / "header.csv").write_text("a,b\n")
    (folder / "ragged.csv").write_text("a,b,c,d\n1,2,3,4\n1,2,3\n")
    (folder / "empty.csv").touch()
    np.save(folder / "empty.npy", np.empty((0, 3)))
    for name in ("taken.csv", "taken.labels.npy"):
        (folder / name).write_text("precious")
    zipml_codec.compress(X, path="nolabels").close()
    zipml_codec.Model(np.ones(FEATURES), 0.0, columns=tuple("abcd")).save("m.npz")
    fails(*arguments, says=says)


def test_newer_version(fails, monkeypatch):
    with monkeypatch.context() as patch:
        for module in (container, writer):
            patch.setattr(module, "VERSION", 2)
        zipml_codec.compress(*table(), path="new").close()
    for command in (["info", "new"], ["verify", "new"], ["decompress", "new", "-o", "o.npy"], ["train", "new"]):
        fails(*command, says=["version 2", "newer"])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated(fails, packed, share):
    content = packed.read_bytes()
    packed.write_bytes(content[: int(share * len(content))])
    for command in (["info"], ["verify"], ["decompress", "-o", "o.csv"], ["train", "-o", "m"]):
        told = fails(command[0], packed, *command[1:], says="f.zipml.h5").rpartition("f.zipml.h5")[2]
        assert any(words in told for words in ("truncated", "cut off", "not a zipml file")), told


def test_flipped_bit(fails, folder, monkeypatch):
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 512)
    X, y = table(1000)
    zipml_codec.compress(X, y, path="f").close()
    with zipml_codec.open("f") as data:
        at = int(data._file.table[2, 0]) + 100
    content = bytearray((folder / "f").read_bytes())
    content[at] ^= 4
    (folder / "f").write_bytes(content)
    zipml_codec.Model(np.ones(FEATURES), 0.0).save("m.npz")
    for command in (
        ["verify", "f"], *(["decompress", "f", "-o", f"o.{kind}"] for kind in ("npy", "csv", "h5")),
        ["train", "f", "-o", "m"], ["predict", "m.npz", "f", "-o", "p.csv"],
    ):  # fmt: skip
        fails(*command, says=["chunk 2", "does not match its digest"])


WRITES = [
    ["compress", "s.csv", "-o", "o"],
    ["compress", "s.csv", "-o", "o", "--zstd", "1"],
    ["compress", "s.csv", "-o", "f.zipml.h5", "--overwrite"],
    ["decompress", "f.zipml.h5", "-o", "o.npy"],
    ["decompress", "f.zipml.h5", "-o", "o.csv"],
    ["decompress", "f.zipml.h5", "-o", "o.h5"],
    ["train", "f.zipml.h5", "-o", "m2.npz", "--epochs", "1"],
    ["predict", "m.npz", "s.csv", "-o", "p.csv"],
]


@pytest.mark.parametrize("call", ["pwrite", "posix_fallocate", "fsync"])
@pytest.mark.parametrize("arguments", WRITES, ids=" ".join)
def test_disk_full(fails, packed, folder, monkeypatch, call, arguments):
    save_csv(folder / "s.csv", table()[0])
    zipml_codec.Model(np.ones(FEATURES), 0.0).save("m.npz")
    used = []

    def full(*_):
        used.append(call)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    if call != "fsync" and (arguments[0] == "train" or "--zstd" in arguments):
        pytest.skip("written by numpy or HDF5")
    if call == "posix_fallocate" and arguments[-1].endswith(".csv"):
        pytest.skip("the size of text is not known beforehand")
    fails(*arguments, says="No space left" if arguments[0] == "train" else "no space left")
    assert used


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of its own, where this process may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("cannot mount a file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size", ["4k", "32k", "128k"])
def test_disk_really_full(zipml, fails, folder, size):
    X, y = table(60_000)
    np.savez(folder / "s.npz", X=X, y=y)
    zipml("compress", "s.npz", "--label", "y", "--bits", 8, "--samples", 1, "-o", "f")
    zipml("train", "f", "--epochs", 1, "-o", "m.npz")
    with small_disk(folder / "disk", size):
        for zstd in ([], ["--zstd", "1"]) if size != "4k" else ():
            fails("compress", "s.npz", "--bits", 8, "--samples", 1, "-o", "disk/o", *zstd, says="no space left")
        for kind in ("npy", "csv", "h5"):
            fails("decompress", "f", "-o", f"disk/o.{kind}", says="no space left")
        fails("predict", "m.npz", "f", "-o", "disk/p.csv", says="no space left")


def test_compress_where_not_even_the_header_fits(folder):
    np.save(folder / "s.npy", table()[0])
    with small_disk(folder / "disk", "4k"):
        done = process("compress", "s.npy", "-o", "disk/o")
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_errors_of_python(fails, packed, monkeypatch, capsys):
    for error, says, code in (
        (MemoryError("4 TiB"), "not enough memory: 4 TiB", 2),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied", 2),
        (KeyboardInterrupt(), "interrupted", 130),
        (ZeroDivisionError("of two\nlines"), "ZeroDivisionError: of two lines", 1),
    ):
        def broken(*_, error=error, **__):
            raise error

        monkeypatch.setattr("zipml_codec.cli.Dataset", broken)
        fails("info", packed, says=says, code=code)
    monkeypatch.setenv("ZIPML_DEBUG", "1")
    assert main(["info", str(packed)]) == 1
    assert "Traceback" in capsys.readouterr().err


# As a process of its own.


def process(*arguments, **options):
    command = [sys.executable, "-m", "zipml_codec", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_as_a_process(packed):
    done = process("verify", packed)
    assert (done.returncode, done.stderr) == (0, "") and "as they were written" in done.stdout
    done = process("info", packed)
    assert done.returncode == 0 and "\x1b" not in done.stdout
    done = process("info", "none")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "zipml: none: there is no such file\n")
    done = process("compress", "s", "-o", "o", "--bits", "x")
    assert done.returncode == 2 and 1 <= len(done.stderr.splitlines()) <= 2


def test_version_imports_nothing_heavy():
    done = process("--version")
    assert done.returncode == 0
    code = "import sys; from zipml_codec.cli import main; main(['--version']); print([m for m in sys.modules if m in %r])"
    heavy = ("matplotlib", "sklearn", "scipy", "pandas", "pyarrow")
    done = subprocess.run([sys.executable, "-c", code % (heavy,)], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.skipif(os.name == "nt", reason="no SIGPIPE or SIGINT")
def test_a_reader_that_leaves(packed):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "zipml_codec", "info", str(packed)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=60)
    os.close(write)
    assert done.stderr == b""


@pytest.mark.skipif(os.name == "nt", reason="no SIGPIPE or SIGINT")
def test_interrupted(folder):
    X, y = table(200_000)
    np.savez(folder / "s.npz", X=X, y=y)
    zipml_codec.compress(X, y, path="f").close()
    for arguments in (["train", "f", "--epochs", "100000", "--debias", "naive", "-o", "m.npz"],):
        before = set(folder.iterdir())
        command = [sys.executable, "-m", "zipml_codec", *arguments]  # naive: no pilot runs before the first line
        heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}  # a background job ignores it
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heard) as child:
            assert child.stderr.readline()  # the first note or epoch: it is under way
            time.sleep(0.1)
            child.send_signal(signal.SIGINT)
            try:
                out, err = child.communicate(timeout=30)
            finally:
                child.kill()
        last = [line for line in err.splitlines() if not line.startswith(("zipml: note", "epoch"))]
        assert (child.returncode, out, last) == (130, "", ["zipml: interrupted; nothing was written"])
        assert set(folder.iterdir()) == before


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM")
@pytest.mark.parametrize("arguments", WRITES, ids=" ".join)
def test_terminated_while_writing(fails, packed, folder, monkeypatch, arguments):
    save_csv(folder / "s.csv", table()[0])
    zipml_codec.Model(np.ones(FEATURES), 0.0).save("m.npz")
    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_DFL:
        pytest.skip("SIGTERM is handled by whoever runs the tests")

    def stop(*_):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL  # it would end the tests
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(os, "fsync", stop)
    fails(*arguments, says="terminated", code=143)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("arguments", WRITES, ids=" ".join)
def test_interrupted_while_writing(fails, packed, folder, monkeypatch, arguments):
    save_csv(folder / "s.csv", table()[0])
    zipml_codec.Model(np.ones(FEATURES), 0.0).save("m.npz")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    fails(*arguments, says="interrupted", code=130)


def test_export_in_python(packed):
    with pytest.raises(OptionError, match="extension"):
        decompress(packed, "o.parquet")
    decompress(packed, "o.npy")
    with pytest.raises(OutputError, match=r"o\.npy exists"):
        decompress(packed, "o.npy")
    decompress(packed, "o.npy", overwrite=True)


# The demo.


def test_demo(zipml, folder):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    result = json.loads(zipml("demo", "--rows", 300, "--json"))
    assert zipml.err == ""
    assert [row["bits"] for row in result["results"]] == 2 * [32, 8, 6, 4, 3, 2]
    assert (folder / "zipml-demo" / "zipml-demo.png").read_bytes().startswith(b"\x89PNG")
    assert sum(path.stat().st_size for path in (folder / "zipml-demo").iterdir()) < 5e6


@pytest.mark.slow
def test_demo_in_full(zipml, folder):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    out = zipml("demo", "--output", "there/below")
    assert "Synthetic 100" in out and "digits" in out and "zipml-demo.png" in out
    result = json.loads(zipml("demo", "--output", "there/below", "--json"))
    for row in result["results"]:
        assert row["relative_loss"] < {3: 1.05, 2: 1.5}.get(row["bits"], 1.02)


@pytest.mark.parametrize("missing", ["sklearn.datasets", "matplotlib.figure"])
def test_demo_names_what_is_missing(fails, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    fails("demo", says="pip install 'zipml-codec[all]'")


def test_no_command_replaces_what_it_reads(tmp_path, capsys):
    """--overwrite does not mean the source, by whatever name: after lossy compression it could not be made again."""
    table = tmp_path / "a.csv"
    table.write_text("".join(f"{i},{i * i % 7},{i % 3}\n" for i in range(200)))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.csv").write_bytes(table.read_bytes())
    (tmp_path / "linked.csv").symlink_to(table)
    (tmp_path / "twin.csv").hardlink_to(table)
    packed, model = tmp_path / "p.zipml.h5", tmp_path / "m.npz"
    assert main(["compress", str(table), "--label", "2", "-o", str(packed)]) == 0
    assert main(["train", str(packed), "--epochs", "1", "-o", str(model)]) == 0
    before = {path: path.read_bytes() for path in (table, tmp_path / "folder" / "b.csv", packed)}
    capsys.readouterr()
    for command in (
        ["compress", "a.csv", "-o", "a.csv"],
        ["compress", "a.csv", "-o", "./folder/../a.csv"],
        ["compress", "a.csv", "-o", "twin.csv"],
        ["compress", "linked.csv", "-o", "a.csv"],
        ["compress", "folder", "-o", "folder/b.csv"],
        ["compress", "*.csv", "folder/b.csv", "-o", "folder/b.csv"],
        ["predict", str(model), "a.csv", "--label", "2", "-o", "a.csv"],
        ["decompress", "p.zipml.h5", "-o", "p.zipml.h5"],
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            assert main([*command, "--overwrite"]) == 2, command
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1 and "is what is read: name another output" in errors[0], errors
        assert {path: path.read_bytes() for path in before} == before
        assert not list(tmp_path.rglob("*.partial*"))
    X = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (50, 3))
    X[:] = np.arange(150).reshape(50, 3)
    with pytest.raises(OutputError, match="is what is read"):
        zipml_codec.compress(X, path=tmp_path / "x.npy", overwrite=True)


def test_predict_reads_the_models_columns_alone(tmp_path):
    """Text beside them is no error: the features are chosen by name, in the model's order."""
    generator = np.random.default_rng(0)
    X = generator.normal(size=(300, 3)).astype(np.float32)
    rows = [[f"r{i}", *map(repr, map(float, x)), repr(float(x @ [1, 2, 3]))] for i, x in enumerate(X)]
    (tmp_path / "a.csv").write_text("id,a,b,c,y\n" + "".join(",".join(row) + "\n" for row in rows))
    (tmp_path / "b.csv").write_text("c,id,a,b\n" + "".join(f"{row[3]},{row[0]},{row[1]},{row[2]}\n" for row in rows))
    table, packed, model = (str(tmp_path / name) for name in ("a.csv", "p.zipml.h5", "m.npz"))
    assert main(["compress", table, "--label", "y", "--keep", "id", "--bits", "8", "-o", packed]) == 0
    assert main(["train", packed, "-o", model]) == 0
    expected = zipml_codec.Model.load(model).decision(X)
    for name in ("a.csv", "b.csv"):
        assert main(["predict", model, str(tmp_path / name), "-o", str(tmp_path / "out.csv"), "--overwrite"]) == 0
        np.testing.assert_allclose(np.genfromtxt(tmp_path / "out.csv", skip_header=1), expected, rtol=1e-6)
