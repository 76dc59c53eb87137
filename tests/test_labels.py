"""Several labels, and columns carried through exactly: from every source to the file, whatever the blocks, and lazily back."""

import gc
import pickle
import tracemalloc

import numpy as np
import pytest

import zipml_codec as zipml
from zipml_codec import journal
from zipml_codec import rows as rows_module
from zipml_codec.errors import CorruptError, DataError, PrecisionWarning
from zipml_codec.formats.arrays import array_source
from zipml_codec.formats.columns import Options

ROWS = 1000
rng = np.random.default_rng(0)
X = rng.normal(size=(ROWS, 6)).astype(np.float32)
Y = rng.normal(size=(ROWS, 3)).astype(np.float32)
TEXTS = np.array(["" if row % 5 == 0 else f"{'ü' * (row % 9)}{row}" for row in range(ROWS)], object)
KEPT = {"id": np.arange(ROWS) * 2**50, "text": TEXTS, "flag": rng.random(ROWS) < 0.5, "half": X[:, 0].astype(np.float16)}


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 1 << 10)
    monkeypatch.setattr(rows_module, "BLOCK_BYTES", 1)  # blocks of 64 rows


def same(kept, wanted, rows=slice(None)):
    assert list(kept) == list(wanted)
    for name, column in wanted.items():
        assert kept[name].dtype == column.dtype and kept[name].tolist() == column[rows].tolist(), name


def blocks(sizes, dtype=np.float32):
    """The rows as (X, y, kept) in blocks of these sizes, over and over."""
    start, number = 0, 0
    while start < ROWS:
        end = start + sizes[number % len(sizes)]
        yield X[start:end].astype(dtype), Y[start:end], {name: column[start:end] for name, column in KEPT.items()}
        start, number = end, number + 1


@pytest.mark.parametrize("nonfinite", ["raise", "drop"])
@pytest.mark.parametrize("zstd", [None, 1])
def test_blocks_make_no_difference(tmp_path, small_blocks, nonfinite, zstd):
    with zipml.compress(X, Y, path=tmp_path / "a", keep=KEPT, nonfinite=nonfinite, zstd=zstd) as whole:
        np.testing.assert_array_equal(whole.labels, Y)
        same(whole.kept, KEPT)
        packed = whole.packed().tobytes()
        assert whole.labels_a_row == 3 and whole.chunks > 1
    for number, sizes in enumerate([[64], [1, 2, 63], [1000], [999, 1], [7]]):
        for dtype in (np.float32, np.float64):
            path = tmp_path / f"{number}{dtype.__name__}"
            with zipml.compress(blocks(sizes, dtype), path=path, nonfinite=nonfinite, zstd=zstd) as data:
                np.testing.assert_array_equal(data.labels, Y)
                same(data.kept, KEPT)
                assert data.packed().tobytes() == packed


def test_dropped_rows_are_dropped_everywhere(tmp_path, small_blocks):
    values, labels = X.copy(), Y.copy()
    values[3, 2], values[64, 0], labels[700, 1], labels[999, 2] = np.nan, np.inf, np.nan, -np.inf
    values[128:256] = np.nan  # blocks of which nothing is left
    good = np.isfinite(values).all(axis=1) & np.isfinite(labels).all(axis=1)
    with zipml.compress(values, labels, path=tmp_path / "a", keep=KEPT, nonfinite="drop") as data:
        assert data.shape[0] == good.sum() == ROWS - 132 and data.options["dropped_rows"] == 132
        np.testing.assert_array_equal(data.labels, labels[good])
        same(data.kept, KEPT, good)


def test_kept_columns_may_hold_anything(tmp_path):
    """NaN and infinity in a column that is only carried along drop no row; all bits stay, those of NaNs too."""
    odd = np.frombuffer(np.random.default_rng(0).bytes(8 * ROWS), np.float64)
    odd = np.where(np.arange(ROWS) % 3 == 0, np.nan, odd)
    for nonfinite in ("raise", "drop"):
        with zipml.compress(X, path=tmp_path / nonfinite, keep={"odd": odd}, nonfinite=nonfinite) as data:
            assert data.kept["odd"].tobytes() == odd.tobytes() and not data.has_labels


@pytest.mark.parametrize(
    ("at", "bad", "told"), [((5, 0), np.nan, r"row 6, label 'p': the label is nan"), ((900, 2), np.inf, r"row 901, label 'r'")]
)
def test_a_label_that_is_no_number_is_named(tmp_path, at, bad, told):
    labels = Y.astype(np.float64)
    labels[at] = bad
    source = array_source(X, labels)
    source.label_names = ("p", "q", "r")
    with pytest.raises(DataError, match=told):
        zipml.compress(source, path=tmp_path / "a")


def test_labels_that_float32_moves_are_named(tmp_path):
    labels = Y.astype(np.float64) + [0, 1e9, 1e10]
    with pytest.warns(PrecisionWarning, match=r"labels 1 and 1 more: float32 moves them"):
        zipml.compress(X, labels, path=tmp_path / "a")


def test_names_of_labels(tmp_path):
    path = tmp_path / "x.csv"
    names = ["a", "b", "c", "d", "e", "f", "y,1", "y2"]
    np.savetxt(path, np.concatenate([X, Y[:, :2]], axis=1), delimiter=",", header='a,b,c,d,e,f,"y,1",y2', comments="")
    for label, wanted in [(["y2", "y,1"], ("y2", "y,1")), ("y2", ("y2",)), ([-2, 0], ("y,1", "a")), (None, None)]:
        with zipml.compress(path, path=tmp_path / "a", label=label, overwrite=True) as data:
            assert data.label_names == wanted
            assert data.columns == tuple(name for name in names if name not in (wanted or ()))
            if wanted:
                expected = np.concatenate([X, Y], axis=1)[:, [names.index(name) for name in wanted]]
                np.testing.assert_array_equal(data.labels, expected if len(wanted) > 1 else expected[:, 0])
    with zipml.compress(X, Y[:, :1], path=tmp_path / "b") as data:
        assert data.labels.shape == (ROWS,) and data.label_names is None


@pytest.mark.parametrize("zstd", [None, 1])
@pytest.mark.parametrize("after", [3, 12, 20, 30], ids=["statistics", "more of them", "codes", "more codes"])
def test_an_interrupted_compression_goes_on_with_them(tmp_path, monkeypatch, small_blocks, after, zstd):
    """Types found so far, the longest text among them, and what is written of each column: all of it is kept with the state."""
    zipml.compress(X, Y, path=tmp_path / "a", keep=KEPT, zstd=zstd).close()
    monkeypatch.setattr(journal, "EVERY", 0.0)
    monkeypatch.setattr(journal, "SHARE", float("inf"))
    tick, ticks = journal.Journal.tick, []

    def stop(self, state):
        tick(self, state)
        ticks.append(1)
        if len(ticks) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(journal.Journal, "tick", stop)
        zipml.compress(X, Y, path=tmp_path / "b", keep=KEPT, zstd=zstd)
    assert (tmp_path / "b.partial.journal").exists()
    zipml.compress(X, Y, path=tmp_path / "b", keep=KEPT, zstd=zstd, resume=True).close()
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_batches_have_all_labels(tmp_path, small_blocks):
    with zipml.compress(X, Y, path=tmp_path / "a") as data:
        for batch in data.batches(64):
            np.testing.assert_array_equal(batch.y, Y[batch.rows])


# ---- Types ----


def one_column(*parts):
    """Blocks of rows with a kept column `c` in these parts."""
    start = 0
    for part in parts:
        yield X[start : start + len(part)], None, {"c": np.asarray(part)}
        start += len(part)


def texts(*items):
    return np.array(items, object)


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        (([1, 2], np.array([3, 4], np.int8)), np.array([1, 2, 3, 4])),
        ((np.array([255], np.uint8), np.array([-1], np.int8)), np.array([255, -1], np.int16)),
        ((np.array([1.5], np.float16), np.array([0.1], np.float64)), np.array([1.5, 0.1])),
        (([1, -22], texts("x"), [3]), texts("1", "-22", "x", "3")),
        ((texts("a"), [-(10**18)]), texts("a", str(-(10**18)))),
        ((np.array(["ä", "bb"]), texts("c" * 5000)), texts("ä", "bb", "c" * 5000)),
        ((np.array(["ü".encode(), b""]),), texts("ü", "")),
        ((texts("", ""), texts("")), texts("", "", "")),
        (([True, False],), np.array([True, False])),
        ((np.arange(3, dtype=">i4"),), np.arange(3, dtype=np.int32)),
        ((texts("x" * 65535),), texts("x" * 65535)),
    ],
)
@pytest.mark.parametrize("zstd", [None, 1])
def test_one_type_for_all_blocks(tmp_path, parts, wanted, zstd):
    with zipml.compress(one_column(*parts), path=tmp_path / "a", zstd=zstd) as data:
        assert data.kept["c"].dtype == wanted.dtype and data.kept["c"].tolist() == wanted.tolist()
        if wanted.dtype.kind != "O":
            assert data.kept.dtypes == {"c": wanted.dtype}


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ((np.array([1], np.uint64), [2]), r"column 'c' is uint64 up to row 1, and int64 after it"),
        (([1, 2], [0.5]), r"is int64 up to row 2, and float64 after it"),
        (([True], [2]), r"is bool up to row 1, and int64 after it"),
        (([0.5], texts("a")), r"is float64 up to row 1, and text after it"),
        ((texts("a", "b\0c"),), r"row 2, column 'c': a text with a zero byte"),
        ((texts("a"), np.array(["b", "b\0c"])), r"row 3, column 'c': a text with a zero byte"),
        ((texts("a", "ü" * 40000),), r"row 2, column 'c': a text of 80000 bytes, at most 65535 are kept"),
        ((texts("\ud800"),), r"column 'c': '\\ud800' is not text in Unicode"),
        ((texts("a", None),), r"row 2: None is neither number nor text"),
        ((np.array(["2020-01-01"], "M8[D]"),), r"datetime64"),
    ],
)
def test_what_cannot_be_kept(tmp_path, monkeypatch, parts, told):
    monkeypatch.setattr(rows_module, "MOST_ROWS", 1)
    monkeypatch.setattr(rows_module, "GROUP", 1)
    with pytest.raises(DataError, match=told) as caught:
        zipml.compress(one_column(*parts), path=tmp_path / "a")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


class Changing:
    """Blocks whose kept column is another one in the second pass."""

    def __init__(self, *columns):
        self.columns = iter(columns)

    def __iter__(self):
        column = np.asarray(next(self.columns))
        yield X[: len(column)], None, {"c": column}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (texts("a", "b"), texts("a", "bc")),
        (texts("a", "b"), texts("a", "\0")),
        (np.array([1, 2], np.int8), np.array([1, 2000])),
        ([1, 2], [1.0, 2.0]),
        ([1, 2], texts("1", "2")),
        (np.array([1, 2], np.uint8), np.array([1, 2], np.int8)),
    ],
)
def test_a_source_that_changes_between_passes(tmp_path, first, second):
    with pytest.raises(DataError, match=r"column 'c'"):
        zipml.compress(Changing(first, second), path=tmp_path / "a")
    assert not list(tmp_path.iterdir())


# ---- Reading ----


def test_columns_are_read_when_asked_for(tmp_path):
    rows = 200_000
    keep = {"id": np.arange(rows), "name": np.array([f"{row:09}" for row in range(rows)], object)}
    with zipml.compress(np.ones((rows, 64), np.uint8), path=tmp_path / "a", bits=8, samples=1, keep=keep) as data:
        del keep
        gc.collect()
        tracemalloc.start()
        fresh = zipml.open(data.path)
        assert list(fresh.kept) == ["id", "name"] and "id" in fresh.kept and "other" not in fresh.kept and len(fresh.kept) == 2
        assert repr(fresh.kept) == "Kept({'id': int64, 'name': text of up to 9 bytes})"
        part = fresh.kept.rows(199_990, 199_993)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (1 << 20) + 2 * 17 * data.chunk_rows < 17 * rows  # what is kept of a chunk of rows, and its copy
        assert part["id"].tolist() == [199_990, 199_991, 199_992] and part["name"].tolist() == [f"{r:09}" for r in part["id"]]
        assert fresh.kept["id"] is fresh.kept["id"] and fresh.kept["id"][-1] == rows - 1
        same(pickle.loads(pickle.dumps(fresh)).kept, {"id": np.arange(rows), "name": data.kept["name"]})
        with pytest.raises(KeyError, match="other"):
            fresh.kept["other"]
        fresh.close()


@pytest.mark.parametrize("read", [lambda kept: kept["name"], lambda kept: kept.rows(0, 3)], ids=["all", "some"])
def test_a_damaged_column_is_told_when_it_is_read(tmp_path, read):
    keep = {"id": np.arange(ROWS), "name": np.array([f"{row:09}" for row in range(ROWS)], object)}
    zipml.compress(X, path=tmp_path / "a.zipml.h5", keep=keep).close()
    with zipml.open(tmp_path / "a.zipml.h5") as data:
        place = data._file.rowwise["kept_1"].offset
    with (tmp_path / "a.zipml.h5").open("r+b") as file:
        file.seek(place + 9 * 900)
        file.write(b"x")
    with zipml.open(tmp_path / "a.zipml.h5") as data:
        assert data.kept["id"][7] == 7
        with pytest.raises(CorruptError, match=r"a\.zipml\.h5: the dataset 'kept_1', rows 0 to 999 .* does not match its digest"):
            read(data.kept)
        with pytest.raises(CorruptError, match="kept_1"):
            data.verify()


def test_options_reach_the_source(tmp_path):
    source = array_source(np.column_stack([X, Y]), options=Options(label=[6, 7], keep=["8"], columns=[0, 2]))
    with zipml.compress(source, path=tmp_path / "a") as data:
        assert data.shape == (ROWS, 2) and data.labels_a_row == 2 and list(data.kept) == ["8"]
        packed = data.packed().tobytes()
    with zipml.compress(np.column_stack([X, Y]), path=tmp_path / "b", label=[6, 7], keep=["8"], columns=[0, 2]) as data:
        np.testing.assert_array_equal(data.labels, Y[:, :2])
        np.testing.assert_array_equal(data.kept["8"], Y[:, 2])
        assert data.packed().tobytes() == packed
