"""Repair: every row whose bytes are as they were written comes back, with its number, and no other does."""

import json

import h5py
import numpy as np
import pytest
from sealing import outside, seal, unseal

import zipml_codec as zipml
from zipml_codec.cli import main
from zipml_codec.errors import CorruptError, FormatError, OptionError, OutputError
from zipml_codec.formats.arrays import array_source

ROWS, NAMES = 3000, ["a", "b", "c", "d", "e", "f", "grüß"]


@pytest.fixture(params=[{}, {"zstd": 3}, {"layout": "weave", "bits": 4}], ids=["plain", "zstd", "weave"])
def made(tmp_path, monkeypatch, request):
    """A file of 12 chunks, as (path, data, content)."""
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 1 << 10)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(ROWS, 7)).astype(np.float32), rng.normal(size=ROWS).astype(np.float32)
    path = tmp_path / "f.zipml.h5"
    zipml.compress(array_source(X, y, "X", NAMES), path=path, seed=7, **request.param).close()
    with zipml.open(path) as data:
        assert data.chunks == 12
        data.decode(), data.labels
        yield path, data, path.read_bytes()


def flipped(content, *places):
    changed = bytearray(content)
    for at in places:
        changed[at] ^= 1 << int(at) % 8
    return bytes(changed)


def rows_of(numbers):
    return np.concatenate([np.arange(250 * number, 250 * number + 250) for number in numbers])


def check(path, old, rows):
    """A new file has these rows of the old one, exactly, and their numbers, and is whole."""
    with zipml.open(path) as data:
        data.verify()
        np.testing.assert_array_equal(data.packed(), old.packed(rows))
        np.testing.assert_array_equal(data.decode(), old.decode(rows))
        if data.has_labels:
            np.testing.assert_array_equal(data.labels, old.labels[rows])
        names = data._file.kept_names
        assert names == (() if len(rows) == ROWS else ("row",))
        if names:
            np.testing.assert_array_equal(data._file.read_rows("kept_0"), rows)
        for name in ("low", "high", "mean", "std", "noise", "error", "levels"):
            np.testing.assert_array_equal(getattr(data, name), getattr(old, name))
        assert data.columns == old.columns and data.seed == old.seed
        exact = np.isin(old.sample_rows, rows)
        np.testing.assert_array_equal(rows[data.sample_rows], old.sample_rows[exact])
        np.testing.assert_array_equal(data.sample_values, old.sample_values[exact])
        assert data.options["repaired"]["rows"] == ROWS
        return data.options["repaired"]


def test_chunks_and_labels(made, tmp_path):
    path, old, content = made
    table, labels = old._file.table, old._file.rowwise["labels"].offset
    places = [table[2, 0] + 3, table[3, 0] + 9, table[11, 0] + 30, labels + 4 * 250 * 6, labels + 4 * 1999]
    path.write_bytes(flipped(content, *places))
    found = zipml.repair(path, tmp_path / "new")
    assert (found.rows, found.saved) == (ROWS, 7 * 250)
    assert found.lost_rows == [(500, 999), (1500, 1999), (2750, 2999)]
    assert [(one.part, one.rows) for one in found.damage] == [
        ("chunk 2", (500, 749)),
        ("chunk 3", (750, 999)),
        ("labels", (1500, 1749)),
        ("labels", (1750, 1999)),
        ("chunk 11", (2750, 2999)),
    ]
    about = check(tmp_path / "new", old, rows_of([0, 1, 4, 5, 8, 9, 10]))
    assert about["lost_rows"] == [[500, 999], [1500, 1999], [2750, 2999]]
    assert zipml.repair(path).damage == found.damage  # looking writes nothing
    assert zipml.repair(path, tmp_path / "unlabelled", without=["labels"]).saved == 9 * 250
    with zipml.open(tmp_path / "unlabelled") as data:
        assert not data.has_labels and data._file.kept_names == ("row",)
        np.testing.assert_array_equal(data.decode(), old.decode(rows_of([0, 1, 4, 5, 6, 7, 8, 9, 10])))


def test_a_repaired_file_can_be_repaired(made, tmp_path):
    path, old, content = made
    path.write_bytes(flipped(content, old._file.table[2, 0] + 3))
    zipml.repair(path, tmp_path / "new")
    with zipml.open(tmp_path / "new") as data:
        place = data._file.table[0, 0]
    (tmp_path / "new").write_bytes(flipped((tmp_path / "new").read_bytes(), place))
    zipml.repair(tmp_path / "new", tmp_path / "newer")
    with zipml.open(tmp_path / "newer") as data:
        assert data._file.kept_names == ("row", "row_2")
        np.testing.assert_array_equal(data.decode(), old.decode(data._file.read_rows("kept_0")))
        np.testing.assert_array_equal(data.labels, old.labels[data._file.read_rows("kept_0")])
        assert len(data) == ROWS - 500


@pytest.mark.parametrize("where", ["superblock", "everywhere", "mean", "names", "attributes"])
def test_a_damaged_structure_comes_back_from_its_copy(made, tmp_path, where):
    path, old, content = made
    (end, _), *_ = unseal(content)[1]
    mean = content.index(old.mean.tobytes())
    places = {
        "superblock": [0, 4, 9, 20, 41],
        "everywhere": range(0, end, 5),
        "mean": [mean, mean + 9],
        "names": [content.index(json.dumps(NAMES)[:9].encode())],
        "attributes": [content.index(b"level_kind") + at for at in range(9)],
    }
    path.write_bytes(flipped(content, *places[where]))
    with pytest.raises(CorruptError, match=f"first at byte {min(places[where])}"):
        zipml.open(path)
    found = zipml.repair(path, tmp_path / "new")
    assert [(one.part, one.reason) for one in found.damage] == [("structure", "restored from its copy")]
    check(tmp_path / "new", old, np.arange(ROWS))


@pytest.mark.parametrize("cut", [1, 8, 50, 200])
def test_a_seal_that_is_cut_off_or_damaged(made, tmp_path, cut):
    path, old, content = made
    for damaged in (content[:-cut], flipped(content, len(content) - cut)):
        path.write_bytes(damaged)
        found = zipml.repair(path, tmp_path / "new", overwrite=True)
        assert found.saved == ROWS and found.damage
        check(tmp_path / "new", old, np.arange(ROWS))


@pytest.mark.parametrize(("count", "labels"), [(0, 0), (0, 2), (1, 2), (2, 2), (3, 1), (8, 0), (13, 2), (40, 3)])
def test_rows_before_the_cut_survive_whatever_is_kept(tmp_path, monkeypatch, count, labels):
    """HDF5 adds to a group's structures as names are added, which must not happen behind the chunks."""
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 1 << 10)
    X = np.random.default_rng(0).normal(size=(ROWS, 7)).astype(np.float32)
    path = tmp_path / "f"
    y, keep = X[:, :labels] if labels else None, {f"k{i}": np.arange(ROWS) for i in range(count)}
    with zipml.compress(X, y, path=path, keep=keep) as data:
        offset, size = data._file.table[-1, :2].tolist()
        for missing, saved in ((0, ROWS), (1, ROWS - 250)):
            (tmp_path / "cut").write_bytes(path.read_bytes()[: offset + size - missing])
            assert zipml.repair(tmp_path / "cut", tmp_path / "new", overwrite=True).saved == saved
            with zipml.open(tmp_path / "new") as new:
                np.testing.assert_array_equal(new.decode(), data.decode()[:saved])


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_rows_before_the_cut_survive_without_an_index(tmp_path, monkeypatch, share):
    """HDF5's index of more than 64 chunks is among them, its root even behind what it indexes: digests tell where they are."""
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 1 << 16)
    X = np.random.default_rng(0).normal(size=(140 << 10, 64)).astype(np.float32)
    path = tmp_path / "f"
    with zipml.compress(X, X[:, 0], path=path, bits=8, samples=1, levels="uniform") as data:
        assert data.chunks == 140
        (first, last), size, values = data._file.table[[0, -1], 0].tolist(), 1 << 16, data.decode()
        cut = int(first + share * (last - first))
        whole = int(np.count_nonzero(data._file.table[:, 0] + size <= cut))
        content = bytearray(path.read_bytes()[:cut])
    content[int(data._file.table[1, 0])] ^= 1
    (tmp_path / "cut").write_bytes(content)
    found = zipml.repair(tmp_path / "cut", tmp_path / "new")
    assert found.saved == (whole - 1) * 1024
    with zipml.open(tmp_path / "new") as new:
        np.testing.assert_array_equal(new.kept["row"], np.delete(np.arange(whole * 1024), slice(1024, 2048)))
        np.testing.assert_array_equal(new.decode(), values[new.kept["row"]])
        np.testing.assert_array_equal(new.labels, X[new.kept["row"], 0])


def test_rows_before_the_cut_survive(made, tmp_path):
    """Of a file that was cut off anywhere, all rows come back whose chunks and labels lie before the cut."""
    path, old, content = made
    table, labels = old._file.table, old._file.rowwise["labels"].offset
    seen = set()
    for size in range(int(labels) - 100, len(content), 1501):
        path.write_bytes(content[:size])
        ends = np.maximum(table[:, 0] + table[:, 1], labels + 4 * 250 * np.arange(1, 13))
        whole = np.flatnonzero(ends <= size)
        seen.add(len(whole))
        if len(whole) == 0 or size < int(table[0, 0]):
            with pytest.raises(CorruptError, match="nothing can be saved"):
                zipml.repair(path, tmp_path / "new", overwrite=True)
        else:
            found = zipml.repair(path, tmp_path / "new", overwrite=True)
            assert found.saved == 250 * len(whole)
            check(tmp_path / "new", old, rows_of(whole))
    assert 0 in seen and len(seen) > 5


@pytest.mark.parametrize(
    "gone", [["columns"], ["sample_values"], ["columns", "low"], ["noise"], ["mean", "std"], ["noise", "error"]], ids="-".join
)
def test_a_damaged_structure_without_a_copy(made, tmp_path, gone):
    """What decoding does not need is lost, or computed again from levels and decoded rows; the rows are not touched."""
    path, old, content = made
    inner, ranges, _ = unseal(content)
    with h5py.File(path) as file:
        there = [name for name in gone if name in file and file[name].size]
        places = [file[name].id.get_offset() for name in there]
    path.write_bytes(flipped(seal(inner, ranges), *places))
    if "sample_values" in gone and not there:
        pytest.skip("no exact rows in so small a file")
    found = zipml.repair(path, tmp_path / "new")
    assert found.saved == ROWS and set(there) <= {one.part for one in found.damage}
    with zipml.open(tmp_path / "new") as data:
        data.verify()
        np.testing.assert_array_equal(data.decode(), old.decode())
        np.testing.assert_array_equal(data.labels, old.labels)
        assert data.columns == (None if "columns" in gone else old.columns)
        decoded = old.decode().astype(np.float64)
        for name in ("low", "high", "mean", "std", "noise", "error"):
            if name not in gone:
                np.testing.assert_array_equal(getattr(data, name), getattr(old, name))
        if "mean" in gone:
            np.testing.assert_allclose(data.mean, decoded.mean(axis=0), atol=1e-9)
            np.testing.assert_allclose(data.std, decoded.std(axis=0), rtol=1e-6)
        if "noise" in gone:  # the expectation of `error` is `noise`
            np.testing.assert_allclose(data.noise, old.noise, rtol=0.25)
            np.testing.assert_allclose(data.error, old.error, rtol=0.25)


@pytest.mark.parametrize("name", ["levels", "digests", "row_digests"])
def test_what_nothing_can_replace(made, tmp_path, name):
    path, _, content = made
    inner, ranges, _ = unseal(content)
    with h5py.File(path) as file:
        place = file[name].id.get_offset()
    path.write_bytes(flipped(seal(inner, ranges), place))
    with pytest.raises(CorruptError, match="nothing can be saved"):
        zipml.repair(path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_kept_columns_and_several_labels(tmp_path, monkeypatch):
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 1 << 10)
    X = np.random.default_rng(0).normal(size=(ROWS, 7)).astype(np.float32)
    keep = {"id": np.arange(ROWS) * 3, "text": np.array([f"ü{n % 99}" for n in range(ROWS)]), "row": np.arange(ROWS) % 5}
    path, y = tmp_path / "f", np.stack([np.arange(ROWS), -np.arange(ROWS)], axis=1)
    with zipml.compress(X, y, path=path, keep=keep) as old:
        places = old._file.rowwise
        starts = {name: places[name].offset for name in places}
        sizes = {name: places[name].dtype.itemsize * 250 for name in places}
        expected = old.decode()
    names = dict(zip(old._file.kept_names, ("kept_0", "kept_1", "kept_2"), strict=True))
    damaged = [starts["labels"] + 3 * sizes["labels"], starts[names["text"]] + 7 * sizes[names["text"]] + 5]
    path.write_bytes(flipped(path.read_bytes(), *damaged))
    found = zipml.repair(path, tmp_path / "new")
    assert [(one.part, one.rows) for one in found.damage] == [("labels", (750, 999)), ("text", (1750, 1999))]
    for target, without, rows in [
        ("new", (), rows_of([0, 1, 2, 4, 5, 6, 8, 9, 10, 11])),
        ("newer", ("text",), rows_of([0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11])),
        ("newest", ("text", "labels"), np.arange(ROWS)),
    ]:
        zipml.repair(path, tmp_path / target, without=without, overwrite=True)
        with zipml.open(tmp_path / target) as data:
            data.verify()
            np.testing.assert_array_equal(data.decode(), expected[rows])
            assert (data.labels is None) if "labels" in without else np.array_equal(data.labels, y[rows])
            assert set(data.kept) == ({*keep} - {*without}) | ({"row_2"} if len(rows) < ROWS else set())
            for name in {*keep} - {*without}:
                np.testing.assert_array_equal(data.kept[name], keep[name][rows])
            if len(rows) < ROWS:
                np.testing.assert_array_equal(data.kept["row_2"], rows)


def test_random_damage_never_gives_other_rows(made, tmp_path):
    """Bytes written over at random, up to whole sectors: whatever is saved is as it was written."""
    path, old, content = made
    rng, saved = np.random.default_rng(5), []
    for number in range(60):
        changed = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            size = int(rng.choice([1, 16, 512]))
            at = int(rng.integers(0, len(content) - size))
            changed[at : at + size] = rng.bytes(size) if number % 2 else bytes(size)
        path.write_bytes(changed)
        try:
            found = zipml.repair(path, tmp_path / "new", overwrite=True)
        except FormatError as error:
            assert str(path) in str(error)
            continue
        saved.append(found.saved)
        with zipml.open(tmp_path / "new") as data:
            data.verify()
            kept = data._file.kept_names
            rows = data._file.read_rows("kept_0") if kept else np.arange(ROWS)
            np.testing.assert_array_equal(data.codes(), old.codes(rows))
            np.testing.assert_array_equal(data.decode(), old.decode(rows))
            np.testing.assert_array_equal(data.labels, old.labels[rows])
    assert len(saved) > 40 and min(saved) < max(saved)


def test_the_copy_is_the_structure(made):
    inner, ranges, copy = unseal(made[2])
    assert copy and len(copy) <= 8192 + sum(size for _, size in ranges) // 128 and len(outside(inner, ranges)) > len(copy)


def test_the_command(made, tmp_path, capsys):
    path, old, content = made
    path.write_bytes(flipped(content, old._file.table[4, 0] + 3))
    assert main(["repair", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "chunk 4" in shown and "1,000 to 1,249" in shown and "2,750 of 3,000 rows" in shown and "nothing was written" in shown
    assert main(["repair", str(path), "-o", str(tmp_path / "new"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], said["saved"], said["lost_rows"]) == (3000, 2750, [[1000, 1249]])
    assert said["damage"][0]["part"] == "chunk 4" and said["output"] == str(tmp_path / "new")
    check(tmp_path / "new", old, rows_of([0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]))
    assert main(["repair", str(tmp_path / "new")]) == 0
    assert "all 2,750 rows are as they were written, and all else is" in capsys.readouterr().out
    path.write_bytes(content[:600])
    assert main(["repair", str(path), "-o", str(tmp_path / "newer")]) == 2
    assert "nothing can be saved" in capsys.readouterr().err and not (tmp_path / "newer").exists()


def test_refusals(made, tmp_path):
    path, _, content = made
    with pytest.raises(OutputError, match="the damaged file itself"):
        zipml.repair(path, path, overwrite=True)
    assert path.read_bytes() == content
    (tmp_path / "there").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        zipml.repair(path, tmp_path / "there")
    with pytest.raises(OptionError, match="no 'weights' to leave out: it has labels"):
        zipml.repair(path, without=["weights"])
    for other in (b"", b"1,2,3\n" * 100, bytes(5000)):
        path.write_bytes(other)
        with pytest.raises(FormatError, match="not a zipml file"):
            zipml.repair(path, tmp_path / "new")
    with pytest.raises(FormatError, match="no such file"):
        zipml.repair(tmp_path / "missing", tmp_path / "new")


def test_what_is_told_where_nothing_survives(tmp_path, capsys, monkeypatch):
    """That rows without their labels would survive, and once that `zipml repair` may help."""
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).normal(size=(100, 7)).astype(np.float32)
    with zipml.compress(X, X[:, 0], path="f") as data:
        labels = data._file.rowwise["labels"].offset
    content = (tmp_path / "f").read_bytes()
    (tmp_path / "f").write_bytes(flipped(content, labels))
    with pytest.raises(CorruptError, match=r"in all their parts; without=labels \(--without\) saves more"):
        zipml.repair("f")
    assert zipml.repair("f", without=["labels"]).saved == 100
    for damaged in ((tmp_path / "f").read_bytes(), content[:-1]):
        (tmp_path / "f").write_bytes(damaged)
        assert main(["verify", "f"]) == 2
        assert capsys.readouterr().err.count("zipml repair") == 1
