"""The exact copy (`keep_exact`): every row back bit for bit, by number, from shards, after a kill, around damage."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

import zipml_codec as zipml
from zipml_codec.cli import main
from zipml_codec.errors import CorruptError, DataError, OptionError, RowError
from zipml_codec.formats import container

ROWS, FEATURES, CHUNK = 3000, 7, 250


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 1 << 10)
    monkeypatch.chdir(tmp_path)


def table(rows=ROWS, features=FEATURES, seed=0):
    """Rows with all that float32 has but NaN and infinity: subnormals, -0, the largest."""
    X = np.random.default_rng(seed).normal(size=(rows, features)).astype(np.float32)
    X[::11, 0] = -0.0
    X[1::11, -1] *= np.float32(1e-3)
    return X, np.arange(rows, dtype=np.float32)


def made(path="f", rows=ROWS, features=FEATURES, seed=0, **options):
    X, y = table(rows, features, seed)
    return X, zipml.compress(X, y, path=path, keep={"id": np.arange(rows)}, keep_exact=True, **options)


def same(a, b):
    """Bit for bit: -0 is not 0."""
    assert a.dtype == np.float32 and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("zstd", [None, 3])
@pytest.mark.parametrize("features", [1, 7, 300])
def test_all_rows_bit_for_bit(zstd, features):
    X, data = made(features=features, rows=700, zstd=zstd)
    assert data.has_exact_copy
    same(data.exact_rows(), X)
    for rows in (slice(3, 3), slice(100, 600), slice(None, None, -7), [5], [], [699, 0, -1, 5, 5, 300], X[:, 0] > 0):
        same(data.exact_rows(rows), X[rows])
    with pytest.raises(RowError, match="0..699"):
        data.exact_rows([700])
    same(pickle.loads(pickle.dumps(data)).exact_rows([4]), X[[4]])


def test_codes_are_those_without_it_and_the_file_is_larger_by_the_rows():
    X, data = made("with")
    y = np.arange(ROWS, dtype=np.float32)
    without = zipml.compress(X, y, path="without", keep={"id": np.arange(ROWS)})
    np.testing.assert_array_equal(data.packed(), without.packed())
    np.testing.assert_array_equal(data.kept["id"], without.kept["id"])
    assert not without.has_exact_copy and 0 <= data.file_bytes - without.file_bytes - X.nbytes < 8192
    with pytest.raises(OptionError, match=r"without has no exact copy of its rows: compress with keep_exact=True \(--keep-"):
        without.exact_rows([0])


def test_what_is_exact_is_what_was_rounded():
    """float64 as float32; dropped rows are not there; clipped values are those after it."""
    X, y = table(500)
    wide = X.astype(np.float64) * (1 + 1e-12)
    wide[7, 2] = np.nan
    data = zipml.compress(wide, y, path="a", keep_exact=True, nonfinite="drop")
    same(data.exact_rows(), np.delete(wide, 7, axis=0).astype(np.float32))
    codec = zipml.Codec.uniform(np.full(FEATURES, -0.5), np.full(FEATURES, 0.5), 4, 2)
    data = zipml.compress(X, y, path="b", keep_exact=True, levels=codec, clip=True)
    same(data.exact_rows(), np.clip(X, -0.5, 0.5, dtype=np.float32))
    decoded, width = data.decode(), np.diff(codec.levels, axis=1).max()
    assert np.abs(decoded - data.exact_rows()).max() <= width * (1 + 1e-6)


def test_only_rows_that_are_wanted_are_read(monkeypatch):
    """Once a chunk was checked, a row costs its own bytes, neighbours one read."""
    X, data = made(rows=700)
    reads, read = [], data._file._read_into
    monkeypatch.setattr(data._file, "_read_into", lambda view, *rest: (reads.append(len(view)), read(view, *rest)))
    same(data.exact_rows([300, 10]), X[[300, 10]])
    size = data.chunk_rows
    assert size < 300 and sorted(reads) == [4 * FEATURES * size] * 2
    reads.clear()
    same(data.exact_rows([301]), X[[301]])
    same(data.exact_rows([301, 303, 11]), X[[301, 303, 11]])
    assert sorted(reads) == [28, 28, 84]


def test_threads():
    X, data = made()
    rows = [np.random.default_rng(seed).integers(0, ROWS, 200) for seed in range(64)]
    with ThreadPoolExecutor(8) as pool:
        for at, found in zip(rows, pool.map(data.exact_rows, rows), strict=True):
            same(found, X[at])


@pytest.mark.parametrize("zstd", [None, 1])
def test_shards_and_joining(zstd):
    X, _ = made("one", zstd=zstd)
    _, parts = made("parts", shard_rows=333, zstd=zstd)
    assert parts.has_exact_copy and parts.shards == 10
    rows = np.random.default_rng(0).permutation(ROWS)[:500]
    same(parts.exact_rows(), X)
    same(parts.exact_rows(rows), X[rows])
    same(zipml.open("parts/shard-00002.zipml.h5").exact_rows([1, 0]), X[[667, 666]])
    parts.verify()
    zipml.concat(["parts"], path="joined").close()
    assert Path("joined").read_bytes() == Path("one").read_bytes()
    more, other = made("more", 400, seed=1, levels="one", clip=True)
    both = zipml.concat(["one", "more"], path="cut", shard_rows=450)
    same(both.exact_rows(), np.concatenate([X, other.exact_rows()]))
    both.verify()
    zipml.compress(more, np.arange(400), path="less", keep={"id": np.arange(400)}, levels="one", clip=True).close()
    with pytest.raises(DataError, match="less: an exact copy of the rows: none, but yes in one: choose .* with keep_exact or"):
        zipml.concat(["one", "less"], path="bad")


@pytest.mark.parametrize("zstd", [None, 1])
def test_flips_are_found(zstd):
    """A flipped bit anywhere in the copy: verify and reading that chunk's rows say where, others are as they were."""
    X, data = made(zstd=zstd)
    content, place = Path("f").read_bytes(), data._file.rowwise["exact"].offset
    for row in (0, 249, 250, 1777, 2999):
        at = place + 28 * row + int(np.random.default_rng(row).integers(28))
        Path("f").write_bytes(content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])
        first = row // CHUNK * CHUNK
        where = f"the dataset 'exact', rows {first} to {first + CHUNK - 1} .*does not match its digest"
        damaged = zipml.open("f")
        with pytest.raises(CorruptError, match=where):
            damaged.verify()
        with pytest.raises(CorruptError, match=where):
            damaged.exact_rows([first + 5])
        with pytest.raises(CorruptError, match=where):
            damaged.exact_rows([first + 5])  # and again: it was not taken for checked
        rest = np.delete(np.arange(ROWS), slice(first, first + CHUNK))
        same(damaged.exact_rows(rest[::-1]), X[rest[::-1]])
        np.testing.assert_array_equal(damaged.decode(), data.codec.decode(damaged.packed()))


def test_a_copy_that_changes_under_a_reader():
    X, data = made()
    same(data.exact_rows(), X)
    place = data._file.rowwise["exact"].offset
    with open("f", "r+b") as file:
        file.seek(place + 28 * 600)
        file.write(b"other")
    for rows in ([600], [600, 2]):
        with pytest.raises(CorruptError, match="rows 500 to 749"):
            data.exact_rows(rows)


@pytest.mark.parametrize("zstd", [None, 1])
def test_repair_drops_damaged_rows_only(zstd):
    X, data = made(zstd=zstd)
    content = bytearray(Path("f").read_bytes())
    for at in (data._file.rowwise["exact"].offset + 28 * 600, int(data._file.table[4, 0]) + 9):
        content[at] ^= 1
    Path("f").write_bytes(content)
    found = zipml.repair("f", "new")
    assert [(one.part, one.rows) for one in found.damage] == [("exact", (500, 749)), ("chunk 4", (1000, 1249))]
    rows = np.delete(np.arange(ROWS), [*range(500, 750), *range(1000, 1250)])
    with zipml.open("new") as new:
        new.verify()
        same(new.exact_rows(), X[rows])
        assert list(new.kept) == ["id", "row"]
        for name in new.kept:
            np.testing.assert_array_equal(new.kept[name], rows)
    assert zipml.repair("f", "small", without=["exact"]).lost_rows == [(1000, 1249)]
    with zipml.open("small") as new:
        assert not new.has_exact_copy and list(new.kept) == ["id", "row"] and len(new) == ROWS - 250
    with pytest.raises(OptionError, match="no 'what' to leave out: it has labels, exact, id"):
        zipml.repair("f", without=["what"])


def test_other_shapes_are_refused():
    """Of a file whose digests fit, but whose copy has not one value a feature."""
    made()[1].close()
    with h5py.File("f") as file:
        assert file["exact"].shape == (ROWS, FEATURES) and file["exact"].dtype == "<f4" and file["exact"].chunks is None
    reader = container.ContainerReader.__new__(container.ContainerReader)
    reader._descriptor = -1
    with zipml.open("f") as data, h5py.File("other", "w") as file:
        reader.header = data._file.header
        shapes = [(ROWS, FEATURES + 1), (ROWS, FEATURES), (ROWS - 1, FEATURES), (ROWS,)]
        for shape, dtype in zip(shapes, ("f4", "f8", "f4", "f4"), strict=True):
            bad = file.create_dataset(f"{shape}{dtype}", data=np.zeros(shape, dtype))
            with pytest.raises(CorruptError, match="the dataset 'exact' has type"):
                reader._row_place("exact", bad, np.zeros(12, np.uint64))


def test_commands(capsys):
    X, y = table(300)
    np.savez("s.npz", X=X, y=y)
    commands = [
        "compress s.npz --label y --keep-exact -o f", "info f", "verify f", "decompress f --exact -o e.npy",
        "decompress f -o d.npy", "compress s.npz --label y -o less", "decompress f --exact -o e.csv",
        "decompress f --exact -o e.h5",
    ]  # fmt: skip
    for command in commands:
        assert main(command.split()) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "exact copy" in out and "all rows in float32" in out and "of which exact rows" in out
    same(np.load("e.npy"), X)
    np.testing.assert_array_equal(np.loadtxt("e.csv", delimiter=",", skiprows=1, dtype=np.float32)[:, :FEATURES], X)
    with h5py.File("e.h5") as file:
        same(file["X"][()], X)
    np.testing.assert_array_equal(np.load("d.npy"), zipml.open("f").decode())
    assert main(["info", "f", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exact_bytes"] == X.nbytes
    assert main(["decompress", "less", "--exact", "-o", "x.npy"]) == 2
    assert "less has no exact copy" in capsys.readouterr().err
