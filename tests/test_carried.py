"""What the commands make of several labels and of columns that are carried along: info, decompress, train, predict."""

import csv
import json

import h5py
import numpy as np
import pytest

import zipml_codec
from zipml_codec.cli import main
from zipml_codec.errors import CorruptError, OptionError
from zipml_codec.export import decompress, predict_to_csv
from zipml_codec.formats.arrays import array_source
from zipml_codec.formats.columns import Options
from zipml_codec.formats.readers import open_source

ROWS = 400
rng = np.random.default_rng(0)
X = rng.normal(size=(ROWS, 3)).astype(np.float32)
Y = np.stack([X @ [1, 2, 3], X @ [-3, 0, 5], np.sign(X[:, 0])], axis=1).astype(np.float32)
TEXTS = np.array(["", 'say "so", twice', "line\nbreak", "ümlaut", "7", " padded "], object)[np.arange(ROWS) % 6]
KEPT = {
    "id": np.arange(ROWS) + 2**60,
    "a/b %.": TEXTS,
    "flag": np.arange(ROWS) % 3 == 0,
    "x0": np.arange(ROWS, dtype=np.float64) / 3,
    "half": (np.arange(ROWS) / 7).astype(np.float16),
}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Function that runs the command in an empty folder: what it printed, or the error's line."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code in (0, 2) and "Traceback" not in err, err
        return out if code == 0 else [line for line in err.splitlines() if "note:" not in line][-1]

    return command


def make(path, names=("p", "q", "sign"), columns=None, keep=KEPT, y=Y, **options):
    source = array_source(X, y, columns=columns, options=Options(keep=keep))
    source.label_names = names
    return zipml_codec.compress(source, path=path, **options)


def test_info_shows_labels_and_kept_columns(run):
    make("a").close()
    out = run("info", "a")
    assert "p, q, sign" in out and "id (int64), a/b %. (text of up to 15 bytes), flag (bool), x0 (float64), half (float16)" in out
    about = json.loads(run("info", "a", "--json"))
    assert (about["labels"], about["label_names"], about["has_labels"]) == (3, ["p", "q", "sign"], True)
    assert [kept["type"] for kept in about["kept"]] == ["int64", "text of up to 15 bytes", "bool", "float64", "float16"]
    assert about["ratio_to_float32"] == pytest.approx(ROWS * (4 * 6 + 8 + 15 + 1 + 8 + 2) / about["file_bytes"])
    make("b", names=None, keep=None).close()
    assert "3, without names" in run("info", "b") and "kept" not in run("info", "b")


@pytest.mark.parametrize("zstd", [None, 1])
def test_decompress_to_csv(run, monkeypatch, zstd):
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 256)
    monkeypatch.setattr("zipml_codec.export.TEXT_VALUES", 64)
    with make("a", zstd=zstd) as data:
        assert data.chunks > 2
        run("decompress", "a", "-o", "o.csv")
        with open("o.csv", newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
        assert head == ["id", "a/b %.", "flag", "x0_", "half", "x0", "x1", "x2", "p", "q", "sign"]
        columns = list(zip(*rows, strict=True))
        assert [int(cell) for cell in columns[0]] == KEPT["id"].tolist()
        assert list(columns[1]) == TEXTS.tolist()
        assert list(columns[2]) == [str(flag) for flag in KEPT["flag"]]
        np.testing.assert_array_equal(np.array(columns[3], np.float64), KEPT["x0"])
        np.testing.assert_array_equal(np.array(columns[4]).astype(np.float16), KEPT["half"])
        np.testing.assert_array_equal(np.array(columns[5:8], np.float32).T, data.decode())
        np.testing.assert_array_equal(np.array(columns[8:], np.float32).T, Y)


def test_decompress_to_npy(run, tmp_path, monkeypatch):
    monkeypatch.setattr("zipml_codec.export.KEPT_ROWS", 64)
    with make("a", keep=KEPT | {"a?b %.": KEPT["id"], "empty": np.array([""] * ROWS)}) as data:
        out = run("decompress", "a", "-o", "o.npy")
        assert "o.labels.npy: the labels" in out and "o.kept.id.npy: the column id" in out
        np.testing.assert_array_equal(np.load("o.npy"), data.decode())
        np.testing.assert_array_equal(np.load("o.labels.npy"), Y)
        files = {name: name for name in ("id", "flag", "x0", "half", "empty")} | {"a/b %.": "a_b _.", "a?b %.": "a_b _._"}
        for name, file in files.items():
            got = np.load(f"o.kept.{file}.npy")
            assert got.tolist() == data.kept[name].tolist() and (got.dtype == data.kept[name].dtype or got.dtype.kind == "U")
        assert np.load("o.kept.empty.npy").dtype == "<U1" and np.load("o.kept.a_b _..npy").dtype == "<U15"
    assert len(list(tmp_path.glob("o.*"))) == 2 + len(files)
    (tmp_path / "o.npy").unlink()
    assert "o.labels.npy exists" in run("decompress", "a", "-o", "o.npy")


@pytest.mark.parametrize("count", [1, 3])
def test_decompress_to_h5(run, count):
    special = {"id": KEPT["id"], "a/b%": TEXTS, "": KEPT["flag"], ".": KEPT["x0"], "..": KEPT["half"], "n\0ul": KEPT["half"]}
    names = ("p", "q", "r")[:count]
    with make("a", names=names, y=Y[:, :count], keep=special) as data:
        run("decompress", "a", "-o", "o.h5")
        with h5py.File("o.h5") as file:
            np.testing.assert_array_equal(file["X"][()], data.decode())
            np.testing.assert_array_equal(file["labels"][()], data.labels)
            if count == 1:
                assert file["labels"].attrs["name"] == "p"
            else:
                assert list(file["labels"].attrs["columns"]) == list(names)
            assert set(file["kept"]) == {"id", "a%2Fb%25", "%", "%2E", "..", "n%00ul"}
            for found in file["kept"].values():
                wanted = data.kept[found.attrs["name"].replace("\u2400", "\0")]
                got = found.asstr()[()] if h5py.check_string_dtype(found.dtype) else found[()]
                assert got.dtype == wanted.dtype and got.tolist() == wanted.tolist()


def test_decompressed_files_can_be_compressed_again(run):
    """Codes decode to themselves, and everything beside them is what it was."""
    texts = np.array([f"t{row}" for row in range(ROWS)], object)
    make("a", columns=["u", "v", "w"], keep={"id": KEPT["id"], "name": texts}, bits=8, samples=1).close()
    run("decompress", "a", "-o", "o.h5")
    run("compress", "o.h5", "--dataset", "X", "--label", "labels", "--keep", "kept/id", "-o", "b")
    with zipml_codec.open("b") as data:
        np.testing.assert_array_equal(data.labels, Y)
        np.testing.assert_array_equal(next(iter(data.kept.values())), KEPT["id"])


def test_damage_leaves_nothing_half_written(run, tmp_path):
    with make("a", keep={"id": KEPT["id"]}) as data:
        place = data._file.rowwise["kept_0"].offset
    with open("a", "r+b") as file:
        file.seek(place)
        file.write(b"\xff")
    for kind in ("csv", "npy", "h5"):
        with pytest.raises(CorruptError, match="kept_0"):
            decompress("a", f"o.{kind}")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


# ---- Train and predict ----


def test_one_of_several_labels_is_trained_for(run):
    with make("a", bits=8, samples=1) as data:
        for label, number in [("p", 0), ("q", 1), (1, 1), ("1", 1), (-1, 2)]:
            model = zipml_codec.train(data, label=label, epochs=30, seed=1)
            with make("one", names=None, y=Y[:, number], keep=None, bits=8, samples=1, overwrite=True) as one:
                alone = zipml_codec.train(one, epochs=30, seed=1)
            np.testing.assert_array_equal(model.coef, alone.coef)
            assert model.info["label"] == ("p", "q", "sign")[number] and alone.info["label"] is None
        np.testing.assert_allclose(zipml_codec.train(data, label="q", epochs=50).coef, [-3, 0, 5], atol=0.05)
        exact = zipml_codec.train((X, Y), label=1, epochs=50)
        np.testing.assert_allclose(exact.coef, [-3, 0, 5], atol=0.01)
        assert exact.info["label"] == 1


@pytest.mark.parametrize(
    ("label", "told"),
    [
        (None, r"has 3 labels: name one of them with label= \(--label\); there are 'p', 'q', 'sign'"),
        ("r", "has no label 'r'; there are 'p', 'q', 'sign'"),
        (3, "has no label 3"),
        ("-4", "has no label '-4'"),
    ],
)
def test_a_label_that_is_not_there(run, label, told):
    with make("a") as data, pytest.raises(OptionError, match=rf"^a {told}"):
        zipml_codec.train(data, label=label)
    with pytest.raises(OptionError, match="^y has 3 labels.*0 to 2"):
        zipml_codec.train((X, Y))
    with make("b", names=None, y=Y[:, 0]) as data, pytest.raises(OptionError, match="no label 'p'; there is one, without a name"):
        zipml_codec.train(data, label="p")
    assert "has 3 labels: name one" in run("train", "a")


def test_a_checkpoint_is_of_one_label(run):
    with make("a") as data:
        first = zipml_codec.train(data, label="p", epochs=3, checkpoint="c")
        with pytest.raises(OptionError, match="label"):
            zipml_codec.train(data, label="q", epochs=3, checkpoint="c", resume=True)
        again = zipml_codec.train(data, label="p", epochs=3, checkpoint="c", resume=True)
        np.testing.assert_array_equal(first.coef, again.coef)


def test_predictions_stand_beside_kept_columns(run):
    make("a", columns=["u", "v", "w"], keep=KEPT | {"prediction": KEPT["id"]}).close()
    assert json.loads(run("train", "a", "--label", "q", "--json", "--epochs", 30, "-o", "m.npz"))["label"] == "q"
    model = zipml_codec.Model.load("m.npz")
    assert model.info["label"] == "q"
    out = run("predict", "m.npz", "a", "-o", "p.csv")
    assert "compared with" in out and " q" in out
    with open("p.csv", newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == [*KEPT, "prediction", "prediction_"]
    columns = list(zip(*rows, strict=True))
    np.testing.assert_array_equal(np.array(columns[-1], np.float64), model.predict("a"))
    assert [int(cell) for cell in columns[0]] == KEPT["id"].tolist() and list(columns[1]) == TEXTS.tolist()
    error = {name: np.mean((model.predict("a") - Y[:, number]) ** 2) for number, name in enumerate(("p", "q", "sign"))}
    for label, name in [(None, "q"), ("p", "p"), (2, "sign")]:
        done = predict_to_csv(model, "a", "p.csv", label=label, overwrite=True)
        assert done["label"] == name and done["mean_squared_error"] == pytest.approx(error[name])
    assert "has no label 'z'" in run("predict", "m.npz", "a", "-o", "r.csv", "--label", "z")
    assert "for raw data" in run("predict", "m.npz", "a", "-o", "r.csv", "--keep", "id")


def test_what_is_not_clear_is_not_compared(run):
    make("a", names=None, bits=8, samples=1).close()
    zipml_codec.train("a", label=1, epochs=3).save("m.npz")
    with make("b", names=("s", "t", "u"), bits=8, samples=1) as data:
        assert predict_to_csv(zipml_codec.Model.load("m.npz"), data.path, "p.csv") == {"rows": ROWS}
    make("c", names=("other",), y=Y[:, 1]).close()  # the only one
    assert predict_to_csv(zipml_codec.Model.load("m.npz"), "c", "q.csv")["label"] == "other"
    make("d", y=None, names=None).close()
    assert "d has no labels" in run("predict", "m.npz", "d", "-o", "r.csv", "--label", "p")


def test_predictions_for_raw_data(run):
    make("a", columns=["u", "v", "w"], bits=8, samples=1).close()
    run("train", "a", "--label", "p", "--epochs", 30, "-o", "m.npz")
    table = np.column_stack([np.arange(ROWS), X, Y[:, :2]])
    np.savetxt("raw.csv", table, delimiter=",", header="id,u,v,w,q,p", comments="", fmt=["%d"] + ["%.9g"] * 5)
    out = run("predict", "m.npz", "raw.csv", "-o", "p.csv", "--label", "q,p", "--keep", "id")
    assert "compared with" in out
    with open("p.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["id", "prediction"] and [float(row[0]) for row in rows] == list(range(ROWS))
    model, source = zipml_codec.Model.load("m.npz"), open_source("raw.csv")
    np.testing.assert_allclose([float(row[1]) for row in rows], model.predict(source), rtol=1e-12)
    done = predict_to_csv(model, "raw.csv", "q.csv", label=["q", "p"])
    wanted = np.mean((model.predict("raw.csv") - Y[:, 1]) ** 2)  # the column p holds the second label's values
    assert done["label"] == "p" and done["mean_squared_error"] == pytest.approx(wanted, rel=1e-6)
