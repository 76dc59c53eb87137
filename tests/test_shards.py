"""Shards: the same rows as one file, in any number of files; joined again, cut anew; damage, and nothing half-written."""

import json
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash
from workers import draw_some

import zipml_codec as zipml
from zipml_codec import stream
from zipml_codec.cli import main
from zipml_codec.errors import CorruptError, DataError, FormatError, OptionError, OutputError
from zipml_codec.formats import shards, shardwriter
from zipml_codec.formats.arrays import array_source

ROWS, FEATURES, N = 2500, 37, 333
OF_ROWS = ("low", "high", "mean", "std", "noise", "error")
NAMES = [f"c{number}" for number in range(FEATURES)]


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 8 << 10)
    monkeypatch.chdir(tmp_path)


def table(rows=ROWS, seed=0):
    X = np.random.default_rng(seed).normal(size=(rows, FEATURES)).astype(np.float32)
    X[:, 3] = 0.5
    return X, np.arange(rows)


def both(n=N, rows=ROWS, **options):
    """The same rows as one file and as shards."""
    X, y = table(rows)
    one = zipml.compress(array_source(X, y, "X", NAMES), path="one", **options)
    return X, one, zipml.compress(array_source(X, y, "X", NAMES), path="parts", shard_rows=n, **options)


def shard(number, folder="parts"):
    return zipml.open(Path(folder) / f"shard-{number:05d}.zipml.h5")


OPTIONS = [
    {},
    {"zstd": 3},
    {"keep_exact": True},
    {"bits": 3, "samples": 1, "rounding": "nearest", "levels": "uniform", "seed": 7},
    {"bits": 8, "samples": 3, "shared_levels": True, "threads": 2},
    {"layout": "weave", "bits": 5, "seed": 7},
    {"layout": "weave", "bits": 3, "coarsest": 1, "keep_exact": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("n", [1, 64, N, 2499, ROWS, 9999])
def test_shards_are_the_rows_of_the_one_file(n, options):
    rows = 12 if n == 1 else ROWS
    X, one, data = both(n, rows, **options)
    codes, labels, start = one.codes(), one.labels, 0
    for number in range(-(-rows // n)):
        with shard(number) as part, h5py.File(part.path) as raw:
            here = slice(start, start + len(part))
            assert len(part) == min(n, rows - start) and part.row_offset == start and part.seed == one.seed
            np.testing.assert_array_equal(part.codes(), codes[here])
            np.testing.assert_array_equal(part.packed(), one.packed()[here])
            np.testing.assert_array_equal(part.labels, labels[here])
            np.testing.assert_array_equal(part.levels, one.levels)
            assert part.columns == one.columns and part.options == one.options and raw.attrs["format"] == "zipml"
            exact = X[here].astype(np.float64)
            np.testing.assert_array_equal([part.low, part.high], [X[here].min(axis=0), X[here].max(axis=0)])
            np.testing.assert_allclose(part.mean, exact.mean(axis=0), rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(part.std, exact.std(axis=0), rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(part.error, ((part.decode() - exact) ** 2).mean(axis=0), rtol=1e-4, atol=1e-9)
            start += len(part)
    assert start == rows and data.shards == -(-rows // n)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_folder_is_read_as_the_one_file(options):
    _, one, data = both(**options)
    for name in (*OF_ROWS, "levels", "labels", "sample_rows", "sample_values"):
        np.testing.assert_array_equal(getattr(data, name), getattr(one, name), err_msg=name)
    assert (data.shape, data.columns, data.options, data.chunk_rows, data.row_offset) == (
        one.shape, one.columns, one.options, one.chunk_rows, one.row_offset,
    )  # fmt: skip
    rows = [0, -1, 332, 333, 334, 333, 2000, 5]
    for at in (None, rows, slice(300, 700), slice(None, None, -7), 5, []):
        np.testing.assert_array_equal(data.packed(at), one.packed(at))
        np.testing.assert_array_equal(data.decode(at), one.decode(at))
        np.testing.assert_array_equal(data.draw(at, seed=5), one.draw(at, seed=5))
    np.testing.assert_array_equal(data[rows], one[rows])
    for number in range(one.chunks):
        np.testing.assert_array_equal(data.read_chunk(number), one.read_chunk(number))
    for mine, theirs in zip(data.batches(64, seed=3, epoch=2), one.batches(64, seed=3, epoch=2), strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
    data.verify()


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("options", [{}, {"zstd": 1}, {"levels": "uniform"}], ids=str)
def test_training_gives_the_same_model(monkeypatch, options, mapped):
    """Rows that fit into one window, and mapped ones: chunks begin at pages, so that shards can lie in one array."""
    if mapped:
        monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 2 << 20)
        monkeypatch.setattr(stream, "KEPT_BYTES", 1 << 10)
        monkeypatch.setattr(stream, "PIECE_BYTES", 1 << 14)
    rows, n = (40_000, 9_000) if mapped else (ROWS, N)
    _, one, data = both(n, rows, **options)
    for more in ({"debias": "double-sampling"}, {"test_fraction": 0.2}):
        theirs, ours = (zipml.train(part, epochs=2, batch=64, **more) for part in (one, data))
        np.testing.assert_array_equal(ours.coef, theirs.coef)
        assert ours.intercept == theirs.intercept and ours.info["train_loss"] == theirs.info["train_loss"]
    whole = data.map_rows()
    assert whole is not None if mapped and "zstd" not in options else True
    if whole is not None:
        places = data.places.of(np.arange(rows, dtype=np.uintp))
        np.testing.assert_array_equal(whole[places], one.packed())
        np.testing.assert_array_equal(data.places.spread(one.labels)[places], one.labels)
        odd = shards.Places(np.array([0, 5, 7]), np.array([0, 3, 9]), 20, 0)  # shards that are not alike
        assert odd.of(np.arange(9, dtype=np.uintp)).tolist() == [0, 1, 2, 3, 4, 8, 9, 16, 17]


def test_clipped_values_are_counted_a_shard():
    X, y = table()
    zipml.compress(X[:500] / 2, path="narrow").close()
    one = zipml.compress(X, y, path="one", levels="narrow", clip=True)
    data = zipml.compress(X, y, path="parts", levels="narrow", clip=True, shard_rows=N)
    low, high = one.low, one.high
    for number in range(data.shards):
        rows = X[number * N : (number + 1) * N]
        with shard(number) as part:
            np.testing.assert_array_equal(part.clipped, ((rows < low) | (rows > high)).sum(axis=0))
    np.testing.assert_array_equal(data.clipped, one.clipped)
    for source, n in (("parts", 500), ("one", 77)):
        again = zipml.concat([source], path=f"{source}-{n}", shard_rows=n)
        counts = [shard(number, f"{source}-{n}").clipped for number in range(again.shards)]
        np.testing.assert_array_equal(np.sum(counts, axis=0), one.clipped)


def test_threads_pickles_and_processes(monkeypatch):
    monkeypatch.setattr(shards, "OPEN", 2)
    _, one, data = both()
    expected = [draw_some(one, seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(draw_some, [data] * 8, range(8))) == expected
    assert draw_some(pickle.loads(pickle.dumps(data)), 3) == expected[3]
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.starmap_async(draw_some, [(data, seed) for seed in range(4)]).get(timeout=60) == expected[:4]


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_shards_open_few_files(monkeypatch, count):
    monkeypatch.setattr(shards, "OPEN", count // 16)
    X, y = table(3 * count)
    with zipml.compress(X, y, path="parts", shard_rows=3) as data:
        assert data.shards == count
        files = Path("/proc/self/fd")
        before = len(list(files.iterdir())) if files.is_dir() else 0
        np.testing.assert_array_equal(np.sort(data.labels), y)
        rows = np.random.default_rng(0).permutation(3 * count)
        np.testing.assert_array_equal(data.decode(rows)[np.argsort(rows)], data.decode())
        if files.is_dir():
            assert len(list(files.iterdir())) <= before + shards.OPEN


# ---- The manifest, from FORMAT.md, section 6 ----


def test_manifest():
    both()
    text = Path("parts/manifest.json").read_bytes()
    content = json.loads(text)
    assert text[-28:] == b',"xxh3":"%016x"}\n' % xxhash.xxh3_64_intdigest(text[:-28])
    assert content["format"] == "zipml-shards" and content["version"] == 1
    with h5py.File("one") as file:
        header = {name: str(value) if isinstance(value, str) else int(value) for name, value in file.attrs.items()
                  if name not in ("format", "version", "xxh3")}  # fmt: skip
        assert content["header"] == header
        for name in OF_ROWS:
            np.testing.assert_array_equal(np.array(content["arrays"][name], file[name].dtype), file[name][:])
    assert sum(entry["rows"] for entry in content["shards"]) == ROWS
    for entry in content["shards"]:
        assert Path("parts", entry["file"]).stat().st_size == entry["bytes"]
        with h5py.File(Path("parts", entry["file"])) as file:
            assert f"{int(file.attrs['xxh3']):016x}" == entry["xxh3"]


def test_every_byte_of_the_manifest_is_vouched_for():
    both()[2].close()
    path = Path("parts/manifest.json")
    text = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(text), 200).tolist():
        path.write_bytes(text[:at] + bytes([text[at] ^ 1 << at % 8]) + text[at + 1 :])
        with pytest.raises(FormatError, match=r"manifest\.json"):
            zipml.open("parts")
    for cut in (0, 1, len(text) // 2, len(text) - 1):
        path.write_bytes(text[:cut])
        with pytest.raises(CorruptError, match=r"manifest\.json"):
            zipml.open("parts")


def test_damaged_exchanged_and_missing_shards_are_named(monkeypatch):
    _, one, data = both()
    data.close()
    second, third = (Path(f"parts/shard-0000{number}.zipml.h5") for number in (2, 3))
    content, other = second.read_bytes(), third.read_bytes()
    second.unlink()
    with pytest.raises(FormatError, match=r"shard-00002.*rows 666 to 998.*missing"):
        zipml.open("parts")
    second.write_bytes(content[:-1])
    with pytest.raises(CorruptError, match=r"shard-00002.*rows 666 to 998.*bytes"):
        zipml.open("parts")
    second.write_bytes(other)
    monkeypatch.setattr(shards, "read_manifest", lambda folder: shards.Manifest.parse((folder / "manifest.json").read_bytes()))
    with zipml.open("parts") as data:  # as if sizes were the same
        np.testing.assert_array_equal(data.decode([0, 999]), one.decode([0, 999]))  # the others serve
        with pytest.raises(CorruptError, match=r"shard-00002.*shard 2 \(rows 666 to 998\).*exchanged"):
            data.decode([700])
    for at in np.random.default_rng(0).integers(0, len(content), 60).tolist():
        second.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        with pytest.raises(CorruptError, match="shard-00002"), zipml.open("parts") as data:
            data.verify()
    second.write_bytes(content)
    with zipml.open("parts") as data:
        data.verify()
    with pytest.raises(FormatError, match="closed"):
        data.decode([2000])


def test_folders_that_are_no_shards(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        with pytest.raises(FormatError, match=name):
            zipml.open(name)
    Path("empty/manifest.json").write_text("{}")
    with pytest.raises(FormatError, match="lists no shards"):
        zipml.open("empty")


# ---- Writing ----


def files(folder="."):
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def test_the_same_data_give_the_same_bytes():
    X, y = table()
    zipml.compress(X, y, path="parts", shard_rows=N, threads=1)
    zipml.compress(X, y, path="again", shard_rows=N, threads=2)
    assert list(files("parts").values()) == list(files("again").values())
    blocks = zipml.compress(iter([(X[:700], y[:700]), (X[700:], y[700:])]), path="blocks", shard_rows=N)
    np.testing.assert_array_equal(blocks.packed(), zipml.open("again").packed())


def test_existing_folders(tmp_path):
    X, y = table()
    zipml.compress(X, y, path="parts", shard_rows=N).close()
    before = files()
    with pytest.raises(OutputError, match="exists"):
        zipml.compress(X, y, path="parts", shard_rows=500)
    Path("parts/notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="other files"):
        zipml.compress(X, y, path="parts", shard_rows=500, overwrite=True)
    Path("parts/notes.txt").unlink()
    Path("file").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        zipml.compress(X, y, path="file", shard_rows=500, overwrite=True)
    Path("file").unlink()
    assert files() == before
    with zipml.open("parts") as old:
        first = old.decode([0])
        with zipml.compress(X[:1200], y[:1200], path="parts", shard_rows=500, overwrite=True) as new:
            assert new.shape[0] == 1200 and len(files("parts")) == 4
        np.testing.assert_array_equal(old.decode([0]), first)  # a shard that was open stays readable
    (tmp_path / "ready").mkdir()
    zipml.compress(X, y, path="ready", shard_rows=500).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "ready"]


def test_folders_change_places_without_the_systems_help(monkeypatch):
    monkeypatch.setattr(shardwriter.ctypes, "CDLL", lambda *_, **__: None)
    X, y = table()
    zipml.compress(X, y, path="parts", shard_rows=N).close()
    zipml.compress(X[:900], y[:900], path="parts", shard_rows=N, overwrite=True).close()
    assert os.listdir() == ["parts"] and len(files("parts")) == 4


def test_errors_on_the_way_leave_nothing(monkeypatch):
    X, y = table()
    for bad, error in ((0, OptionError), (1.5, OptionError), (True, OptionError)):
        with pytest.raises(error, match="shard_rows"):
            zipml.compress(X, y, path="parts", shard_rows=bad)
    monkeypatch.setattr(shardwriter, "MOST_SHARDS", 10)
    with pytest.raises(OptionError, match="250 or more"):
        zipml.compress(X, y, path="parts", shard_rows=100)
    stages = [(shardwriter.ShardedWriter, "_begin"), (shardwriter.ShardedWriter, "_end"), (shardwriter.PartialFolder, "publish")]
    for kind, stage in stages:
        with monkeypatch.context() as patch:
            original, calls = getattr(kind, stage), []

            def fails(self, *arguments, original=original, calls=calls):
                calls.append(1)
                if len(calls) == 3 or original.__name__ == "publish":
                    raise OSError(28, "No space left on device")
                return original(self, *arguments)

            patch.setattr(kind, stage, fails)
            with pytest.raises(OSError, match="space"):
                zipml.compress(X, y, path="parts", shard_rows=N)
        assert not os.listdir()


def test_a_second_writer_is_refused_and_a_killed_ones_rest_removed():
    X, y = table()
    os.mkdir("parts.partial")
    Path("parts.partial/shard-00000.zipml.h5").write_text("half")
    Path("parts.partial/mine").write_text("mine")
    with pytest.raises(OutputError, match="in the way"):
        zipml.compress(X, y, path="parts", shard_rows=N)
    Path("parts.partial/mine").unlink()
    lock = os.open("parts.partial", os.O_RDONLY)
    assert shardwriter.locks(lock)
    with pytest.raises(OutputError, match="another process"):
        zipml.compress(X, y, path="parts", shard_rows=N)
    os.close(lock)
    zipml.compress(X, y, path="parts", shard_rows=N).verify()
    assert os.listdir() == ["parts"]


# ---- concat ----


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_all_shards_give_the_one_file(options):
    _, one, _ = both(**options)
    zipml.concat(["parts"], path="joined").close()
    assert Path("joined").read_bytes() == Path("one").read_bytes()
    zipml.concat(["one"], path="cut", shard_rows=400).verify()
    zipml.concat(["cut"], path="cut", shard_rows=900, overwrite=True).verify()  # in its own place
    zipml.concat(["cut"], path="joined", overwrite=True).close()
    assert Path("joined").read_bytes() == Path("one").read_bytes()
    single = zipml.concat(sorted(Path("parts").glob("*.h5")), path="singles")  # statistics from the shards' own
    np.testing.assert_array_equal(single.packed(), one.packed())
    np.testing.assert_array_equal(single.sample_values, one.sample_values)
    assert single.options == one.options
    for name in OF_ROWS:
        np.testing.assert_allclose(getattr(single, name), getattr(one, name), rtol=1e-6, atol=1e-12, err_msg=name)


def test_files_of_other_data_and_seeds_are_joined():
    X, y = table(4000)
    cuts = [slice(0, 2000), slice(2000, 2003), slice(2003, 4000)]
    zipml.compress(X, path="levels").close()
    for number, cut in enumerate(cuts):
        zipml.compress(X[cut], y[cut], path=f"{number}", levels="levels", seed=number, shard_rows=700 if number == 2 else None)
    data = zipml.concat(["0", "1", "2"], path="all")
    parts = [zipml.open(str(number)) for number in range(3)]
    np.testing.assert_array_equal(data.packed(), np.concatenate([part.packed() for part in parts]))
    np.testing.assert_array_equal(data.labels, y)
    exact = X.astype(np.float64)
    np.testing.assert_array_equal([data.low, data.high], [X.min(axis=0), X.max(axis=0)])
    np.testing.assert_allclose(data.mean, exact.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(data.std, exact.std(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(data.error, ((data.decode() - exact) ** 2).mean(axis=0), rtol=1e-4, atol=1e-9)
    assert data.std[3] == 0
    np.testing.assert_array_equal(data.sample_values, X[data.sample_rows])
    counts = [np.sum((data.sample_rows >= cut.start) & (data.sample_rows < cut.stop)) for cut in cuts]
    total = sum(counts)
    assert total > 0 and counts[1] == 0 and abs(counts[0] - counts[2]) <= 1
    assert [(part["rows"], part["seed"]) for part in data.options["parts"]] == [(2000, 0), (3, 1), (1997, 2)]
    assert (data.seed, data.row_offset) == (0, 0)
    zipml.train(data, epochs=1)


def test_same_random_numbers_are_told(caplog):
    X, y = table()
    zipml.compress(X, y, path="a").close()
    zipml.concat(["a", "a"], path="twice").close()
    assert "same random numbers" in caplog.text


def test_sources_that_do_not_fit_are_refused():
    X, y = table()
    names = [*NAMES[:-1], "other"]
    made = {
        "first": (array_source(X, y, "X", NAMES), {}),
        "narrow": (X[:, :-1], {}),
        "renamed": (array_source(X, y, "X", names), {}),
        "unlabelled": (array_source(X, None, "X", NAMES), {}),
        "wide": (array_source(X, y, "X", NAMES), {"bits": 5}),
        "shared": (array_source(X, y, "X", NAMES), {"shared_levels": True}),
        "moved": (array_source(X + 1, y, "X", NAMES), {}),
    }
    for name, (source, options) in made.items():
        zipml.compress(source, path=name, **options).close()
    says = {
        "narrow": "features", "renamed": "column 36 is 'other', but 'c36'", "unlabelled": "labels",
        "wide": "bits.*--levels first", "shared": "shared.*--levels first", "moved": "column 'c0': level.*--levels first",
    }  # fmt: skip
    for name, text in says.items():
        with pytest.raises(DataError, match=f"{name}: .*{text}"):
            zipml.concat(["first", name], path="out")
    with pytest.raises(FormatError, match="nothing"):
        zipml.concat(["first", "nothing"], path="out")
    with pytest.raises(OptionError, match="at least one"):
        zipml.concat([], path="out")
    assert not any(name.startswith("out") for name in os.listdir())


def test_a_damaged_source_leaves_nothing():
    both()[2].close()
    path = Path("parts/shard-00004.zipml.h5")
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        content[file["codes"].id.get_chunk_info(0).byte_offset + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptError, match="shard-00004"):
        zipml.concat(["parts"], path="out")
    with pytest.raises(CorruptError, match="shard-00004"):
        zipml.concat(["parts"], path="out", shard_rows=100)
    assert sorted(os.listdir()) == ["one", "parts"]


# ---- The command ----


def test_commands(capsys):
    X, y = table()
    np.savetxt("x.csv", np.column_stack([X[:300], y[:300]]), delimiter=",", header=",".join([*NAMES, "y"]), comments="")
    commands = [
        "compress x.csv --label y -o parts --shard-rows 70 --json", "compress x.csv --label y -o one", "info parts",
        "verify parts", "train parts --epochs 1 -o m.npz", "predict m.npz parts -o p.csv", "decompress parts -o d.npy",
        "levels x.csv --bits 2", "compress x.csv --label y -o more --levels parts --seed 1", "concat parts more -o all",
        "concat parts -o joined", "concat one -o cut --shard-rows 100",
    ]  # fmt: skip
    for command in commands:
        assert main(command.split()) == 0, (command, capsys.readouterr().err)
    out = capsys.readouterr().out
    assert "shards" in out and "3 shards" in out
    assert Path("joined").read_bytes() == Path("one").read_bytes()
    np.testing.assert_array_equal(np.load("d.npy"), zipml.open("one").decode())
    Path("empty").mkdir()
    bad = (("info empty", "manifest"), ("compress x.csv -o parts --shard-rows 9", "exists"), ("verify x", "no such"))
    for command, text in bad:
        assert main(command.split()) == 2
        err = capsys.readouterr().err.strip().splitlines()
        assert text in err[-1] and err[-1].startswith("zipml: ")


def test_labels_and_kept_columns():
    X, _ = table(700)
    Y = np.stack([np.arange(700), -np.arange(700)], axis=1).astype(np.float32)

    def frame(rows, width):
        pandas = pytest.importorskip("pandas")
        out = pandas.DataFrame(X[rows], columns=NAMES)
        out["a"], out["b"], out["id"] = Y[rows, 0], Y[rows, 1], np.arange(700)[rows]
        out["name"] = [f"{'é' * (number % width)}{number}" for number in range(700)[rows]]
        return out

    chosen = {"label": ["a", "b"], "keep": ["id", "name"]}
    one = zipml.compress(frame(slice(None), 5), path="one", **chosen)
    data = zipml.compress(frame(slice(None), 5), path="parts", shard_rows=99, **chosen)
    wide = zipml.compress(frame(slice(0, 300), 9), path="wide", levels="one", seed=1, **chosen)
    np.testing.assert_array_equal(data.labels, Y)
    assert data.label_names == one.label_names == ("a", "b") and list(data.kept) == ["id", "name"]
    for name in data.kept:
        np.testing.assert_array_equal(data.kept[name], one.kept[name])
        np.testing.assert_array_equal(data.kept.rows(90, 205)[name], one.kept[name][90:205])
    np.testing.assert_array_equal(zipml.train(data, label="b", epochs=1).coef, zipml.train(one, label="b", epochs=1).coef)
    zipml.concat(["parts"], path="joined").close()
    assert Path("joined").read_bytes() == Path("one").read_bytes()
    both = zipml.concat(["parts", "wide"], path="both")
    for name in both.kept:
        np.testing.assert_array_equal(both.kept[name], np.concatenate([one.kept[name], wide.kept[name]]))
    both.verify()


def test_outputs_take_no_place_of_a_shard_that_is_read(tmp_path):
    X = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)
    zipml.compress(X, path=tmp_path / "a", shard_rows=32, levels="harp:4").close()
    before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    shard = next(path for path in before if path.suffix == ".h5")
    for work in (
        lambda: zipml.export.decompress(tmp_path / "a", shard, overwrite=True),
        lambda: zipml.export_image(tmp_path / "a", shard, "harp", overwrite=True),
        lambda: zipml.export_image(tmp_path / "a", tmp_path / "a" / "manifest", "harp", overwrite=True),
    ):
        with pytest.raises(OutputError, match="is what is read"):
            work()
    assert {path: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


def test_joining_a_folder_over_one_of_its_shards_is_refused(tmp_path):
    X = np.arange(300, dtype=np.float32).reshape(100, 3)
    zipml.compress(X, path=tmp_path / "s", shard_rows=30).close()
    before = (tmp_path / "s" / "shard-00001.zipml.h5").read_bytes()
    for name in ("shard-00001.zipml.h5", "manifest.json"):
        with pytest.raises(OutputError, match="is what is read"):
            zipml.concat([tmp_path / "s"], path=tmp_path / "s" / name, overwrite=True)
    assert (tmp_path / "s" / "shard-00001.zipml.h5").read_bytes() == before
    zipml.open(tmp_path / "s").verify()
