"""Readers of users' data: what they yield, how much at a time, and what they say when it is wrong."""

import gzip
import importlib.util
import json
import os
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from zipml_codec.errors import DataError, MissingDependencyError, OptionError, SourceError
from zipml_codec.formats.arrays import array_source
from zipml_codec.formats.iterables import iterable_source
from zipml_codec.formats.readers import as_source, open_source
from zipml_codec.formats.sources import Block, Source

DTYPES = ["?", "i1", "u1", "i2", "u4", "i8", "f2", "f4", "f8"]
SIZES = [1, 3, 7, 10, 1000]


def gather(source, rows):
    """One pass; every block within `rows`."""
    blocks = list(source.blocks(rows))
    assert all(0 < len(block.values) <= rows for block in blocks)
    values = np.concatenate([block.values for block in blocks])
    assert {block.labels is None for block in blocks} in ({True}, {False})
    labels = None if blocks[0].labels is None else np.concatenate([block.labels for block in blocks])
    return values, labels


def expect(source, values, labels=None, rows=7):
    """Two passes give the arrays, bit by bit, and the attributes fit. Closes the source."""
    for _ in range(2):
        got, got_labels = gather(source, rows)
        np.testing.assert_array_equal(got, values)
        assert got.dtype == values.dtype.newbyteorder("=")
        if labels is None:
            assert got_labels is None
        else:
            np.testing.assert_array_equal(got_labels, labels)
    assert (source.rows, source.features) == values.shape
    source.close()


def matrix(rows=10, features=4, dtype="f4"):
    return (np.random.default_rng(5).normal(size=(rows, features)) * 50).astype(dtype)


def save_text(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def drain(source, rows=1000):
    for _ in source.blocks(rows):
        pass


def drain_and_close(source):
    with source:
        drain(source)


# Arrays.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", SIZES)
def test_array(dtype, rows):
    X, y = matrix(dtype=dtype), np.arange(10)
    expect(array_source(X), X, rows=rows)
    expect(array_source(X, y), X, y, rows)
    expect(array_source(X[::-1, ::2], y[:, None]), X[::-1, ::2], y, rows)
    expect(array_source(np.asfortranarray(X).astype(np.dtype(dtype).newbyteorder(">")), list(y)), X, y, rows)


def test_array_attributes_and_place():
    source = array_source(matrix(), np.zeros(10), columns=["a", "b", "", "d"])
    assert isinstance(source, Source)
    assert (source.name, source.columns, source.label_name) == ("X", ("a", "b", "", "d"), None)
    assert (source.rows, source.features, source.nbytes, source.bytes_read()) == (10, 4, 160, None)
    assert source.place(16, 1) == "X: row 17, column 'b'"
    assert source.place(16, 2) == "X: row 17, column index 2"
    assert source.place(0, None) == "X: row 1, label"


def test_array_is_not_copied(tmp_path):
    np.save(tmp_path / "a.npy", matrix())
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    for block in array_source(mapped).blocks(3):
        assert np.shares_memory(block.values, mapped)


def test_sliceable_dataset_is_sliced_only():
    class Dataset:
        """Like h5py's: slices give arrays, and converting it whole is a fault here."""

        def __init__(self, array):
            self.array, self.shape, self.dtype, self.asked = array, array.shape, array.dtype, []

        def __len__(self):
            return len(self.array)

        def __getitem__(self, key):
            self.asked.append(key)
            return self.array[key]

        def __array__(self, *_, **__):
            raise AssertionError("read whole")

    X, y = Dataset(matrix()), Dataset(np.arange(10.0))
    expect(as_source(X, y), X.array, y.array, 4)
    assert X.asked[:3] == [slice(0, 4), slice(4, 8), slice(8, 10)]


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros(3), None, r"X: shape \(3,\) is 1-D; reshape"),
        (np.zeros(0), None, r"X: no rows"),
        (np.zeros((2, 3, 4)), None, r"X: shape \(2, 3, 4\) is not \(rows, features\)"),
        (np.zeros((3, 0)), None, r"X: no features, the shape is \(3, 0\)"),
        (np.zeros((0, 3)), None, r"X: no rows, the shape is \(0, 3\)"),
        (np.array([["a"]]), None, "X: dtype <U1 is not a real number type; encode"),
        (np.array([[None]]), None, "X: dtype object"),
        (np.zeros((2, 2), complex), None, "X: dtype complex128 .* two columns"),
        (np.zeros((2, 2), "M8[s]"), None, "X: dtype datetime64.* turn times"),
        (np.zeros((2, 2), "m8[s]"), None, "X: dtype timedelta64.* turn durations"),
        (np.zeros((2, 2), [("a", "f4")]), None, "X: structured dtype with fields a"),
        ([[1, 2], [3]], None, "X: cannot be made an array"),
        (np.ma.masked_array([[1.0, 2.0]], [[0, 1]]), None, "X: a masked array"),
        (np.zeros((3, 2)), np.zeros(4), r"labels of X: shape \(4,\) does not fit 3 rows"),
        (np.zeros((3, 2)), np.zeros((2, 3)), r"labels of X: shape \(2, 3\) does not fit 3 rows"),
        (np.zeros((3, 2)), np.zeros((3, 0)), r"labels of X: shape \(3, 0\) does not fit 3 rows"),
        (np.zeros((3, 2)), ["a", "b", "c"], "labels of X: dtype <U1"),
    ],
)
def test_array_errors(X, y, message):
    with pytest.raises(DataError, match=message):
        array_source(X, y)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="longdouble is float64 here")
def test_longdouble():
    with pytest.raises(DataError, match="cast to float64 first"):
        array_source(np.zeros((2, 2), np.longdouble))


def test_column_names_of_another_number():
    with pytest.raises(DataError, match="2 column names for 4 features"):
        array_source(matrix(), columns=["a", "b"])


def test_rows_and_close():
    source = array_source(matrix())
    with pytest.raises(OptionError, match="at least one row"):
        source.blocks(0)
    with source:
        pass
    with pytest.raises(SourceError, match="X: the source is closed"):
        source.blocks(1)


def test_sparse():
    sparse = pytest.importorskip("scipy.sparse")
    for X in (sparse.csr_matrix(np.eye(3)), sparse.coo_array(np.eye(3))):
        with pytest.raises(DataError, match="X: a sparse matrix"):
            as_source(X)


# Data frames.


class Frame:
    """What a pandas frame offers of what is used, for installations without pandas."""

    def __init__(self, columns):
        self.data, self.columns = columns, list(columns)
        self.dtypes = [values.dtype for values in columns.values()]
        self.largest = 0

    @property
    def iloc(self):
        return self

    def __len__(self):
        return len(self.data[self.columns[0]])

    def __getitem__(self, rows):
        part = Frame({name: values[rows] for name, values in self.data.items()})
        self.largest = max(self.largest, len(part))
        return part

    def to_numpy(self, dtype):
        return np.stack([values.astype(dtype) for values in self.data.values()], axis=1)


def test_frame_by_blocks():
    frame = Frame({"a": np.arange(10, dtype="i2"), "b": np.arange(10) > 4, "c": np.arange(10, dtype="f4")})
    source = as_source(frame, np.arange(10))
    assert source.columns == ("a", "b", "c")
    expected = np.stack([np.arange(10), np.arange(10) > 4, np.arange(10)], axis=1).astype("f4")
    expect(source, expected, np.arange(10), 3)
    assert frame.largest == 3
    with pytest.raises(DataError, match="X: column 'b': dtype <U1"):
        as_source(Frame({"a": np.zeros(1), "b": np.array(["x"])}))


def test_pandas():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2, 3], "b": [True, False, True], "c": [0.5, 1.5, 2.5]}, index=[7.0, 5.0, 6.0])
    source = as_source(frame, frame["a"])
    assert source.columns == ("a", "b", "c")
    expect(source, np.array([[1, 1, 0.5], [2, 0, 1.5], [3, 1, 2.5]]), [1, 2, 3], 2)
    for kept, told in (
        (pandas.array([2**60 + 1, 1, None], dtype="Int64"), "row 3, column 'k': a missing value; fill it to keep"),
        (pandas.array(["x", None, "y"], dtype="string"), "row 2, column 'k': a missing value"),
        (pandas.date_range("2024", periods=3), "column 'k': dtype datetime64.* turn times into numbers"),
        (pandas.timedelta_range("1s", periods=3), "column 'k': dtype timedelta64.* turn durations into numbers"),
    ):
        with pytest.raises(DataError, match=told):
            drain(as_source(pandas.DataFrame({"a": [1, 2, 3], "k": kept}), keep="k"))
    whole = pandas.DataFrame({"a": [1, 2], "k": pandas.array([2**60 + 1, 1], dtype="Int64"), "c": pandas.Categorical(["x", "y"])})
    kept = next(as_source(whole, keep="k,c").blocks(2)).kept
    assert kept["k"].dtype == np.int64 and kept["k"].tolist() == [2**60 + 1, 1] and kept["c"].tolist() == ["x", "y"]
    with pytest.raises(DataError, match="columns with index 0 and 1 have the same name 'a'"):
        as_source(pandas.DataFrame([[1, 2]], columns=["a", "a"]))
    missing = pandas.DataFrame({"a": pandas.array([1, None], dtype="Int64"), "b": [1.0, 2.0]})
    expect(as_source(missing), np.array([[1, 1], [np.nan, 2]]))
    for column in (["x", "y"], pandas.Categorical(["x", "y"]), pandas.array(["x", "y"], dtype="string")):
        with pytest.raises(DataError, match="X: column 'b'"):
            as_source(pandas.DataFrame({"a": [1, 2], "b": column}))


# Iterables.


class Loader:
    """Iterated afresh every time; `passes` holds what each pass yields, the last one repeats."""

    def __init__(self, *passes):
        self.passes, self.started = passes, 0

    def __iter__(self):
        self.started += 1
        return iter(self.passes[min(self.started, len(self.passes)) - 1])


def cut(X, *edges):
    return np.split(X, edges)


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("kind", [iter, list, Loader])
@pytest.mark.parametrize("dtype", ["?", "u1", "f2", ">f4", "f8"])
def test_iterable(kind, rows, dtype, tmp_path):
    X, y = matrix(20, dtype=dtype), np.arange(20, dtype="i2")
    expect(iterable_source(kind(cut(X, 1, 9, 9, 12)), tmp_path), X, rows=rows)
    pairs = list(zip(cut(X, 4, 11), cut(y[:, None], 4, 11), strict=True))
    source = iterable_source(kind(pairs), tmp_path)
    assert (source.rows, source.features, source.nbytes) == (None, None, None)
    expect(source, X, y, rows)
    assert source.nbytes == X.nbytes
    assert source.place(2, 3) == "blocks: row 3, column index 3"
    source.close()


def test_blocks_of_several_dtypes(tmp_path):
    with iterable_source(iter([np.ones((2, 2), "u1"), np.ones((2, 2), "f4")]), tmp_path) as source:
        for _ in range(2):
            assert [block.values.dtype for block in source.blocks(9)] == ["u1", "f4"]


def test_reused_buffer_is_not_seen():
    def fill():
        buffer = np.empty((2, 2))
        for number in range(3):
            buffer[:] = number
            yield buffer

    with iterable_source(fill()) as source:
        blocks = list(source.blocks(2))
    assert [block.values[0, 0] for block in blocks] == [0, 1, 2]


def test_iterator_is_read_once_and_as_needed(tmp_path):
    pulled = []

    def generate():
        for number in range(5):
            pulled.append(number)
            yield np.full((4, 2), number)

    source = iterable_source(generate(), tmp_path)
    assert pulled == []
    first = source.blocks(3)
    next(first)
    assert pulled == [0]
    # Side by side: the second pass overtakes the first.
    second = source.blocks(4)
    assert [next(second).values[0, 0] for _ in range(3)] == [0, 1, 2]
    assert np.concatenate([block.values for block in first])[:, 0].tolist() == [0] + [
        n for n in range(1, 5) for _ in range(4)
    ]
    assert [block.values[0, 0] for block in second] == [3, 4]
    assert pulled == [0, 1, 2, 3, 4]
    source.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc/self/fd")
def test_spool_is_there_and_is_removed(tmp_path):
    def spools():
        found = []
        for file in Path("/proc/self/fd").iterdir():
            try:
                if str(file.readlink()).startswith(str(tmp_path)):
                    found.append(file.stat().st_size)
            except OSError:
                continue
        return found

    source = iterable_source(iter([matrix(8)]), tmp_path)
    assert spools() == []
    drain(source)
    (size,) = spools()
    assert 8 * 4 * 4 <= size <= 8 * 4 * 4 + 64
    running = source.blocks(2)
    next(running)
    source.close()
    assert spools() == [] and list(tmp_path.iterdir()) == []
    with pytest.raises(SourceError, match="closed"):
        source.blocks(1)


def test_closed_within_a_pass(tmp_path):
    source = iterable_source(iter([matrix(3), matrix(3)]), tmp_path)
    running = source.blocks(3)
    next(running)
    source.close()
    with pytest.raises(SourceError, match="closed"):
        next(running)


def test_iterable_that_need_not_be_spooled_is_not(tmp_path):
    drain(iterable_source([matrix()], tmp_path / "missing"))
    for folder in (tmp_path / "missing", ""):
        with pytest.raises(SourceError, match=r"spool_dir '(.*missing)?' is not a folder"):
            iterable_source(iter([matrix()]), folder)


def test_spool_on_a_full_disk(tmp_path, monkeypatch):
    import tempfile

    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(SourceError, match=r"block 1 cannot be spooled to .*No space left.* room, or give .* starts anew"):
        drain(iterable_source(iter([matrix()]), tmp_path))


@pytest.mark.parametrize("kind", [iter, list])
@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "blocks: no rows"),
        ([np.zeros((0, 3))], "blocks: no rows"),
        ([np.zeros((2, 0))], "block 1: no features"),
        ([np.zeros((1, 2)), np.zeros((1, 3))], "block 2: 3 features, the blocks before have 2"),
        ([np.zeros((1, 2)), np.zeros(2)], r"block 2: shape \(2,\) is not .* yield 2-D blocks"),
        ([np.array([["a"]])], "block 1: dtype <U1"),
        ([(np.zeros((1, 2)), [1]), np.zeros((1, 2))], "block 2: no labels, the blocks before have some"),
        ([np.zeros((1, 2)), (np.zeros((1, 2)), [1])], "block 2: labels, the blocks before have none"),
        ([(np.zeros((2, 2)), [1])], r"block 1: labels: shape \(1,\) does not fit 2 rows"),
    ],
)
def test_iterable_errors(kind, items, message):
    with pytest.raises(DataError, match=message):
        drain_and_close(iterable_source(kind(items)))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ([matrix(3), matrix(3), matrix(1)], "blocks: block 3 goes beyond the 6 rows of an earlier pass"),
        ([matrix(3), matrix(2)], "blocks: ended after block 2 with 5 rows, short of the 6 rows"),
        ([], "blocks: ended after block 0 with 0 rows, short of the 6 rows"),
    ],
)
def test_passes_that_differ(second, message):
    source = iterable_source(Loader([matrix(3), matrix(3)], second))
    drain(source)
    with pytest.raises(DataError, match=message):
        drain(source)


def test_iterator_that_fails_is_not_taken_for_ended(tmp_path):
    def generate():
        yield matrix(3)
        raise ZeroDivisionError

    source = iterable_source(generate(), tmp_path)
    with pytest.raises(ZeroDivisionError):
        drain(source)
    with pytest.raises(SourceError, match="an earlier pass failed at block 2"):
        drain_and_close(source)


# Dispatch.


def test_as_source_dispatch(tmp_path):
    X, y = matrix(), np.arange(10)
    np.save(tmp_path / "x.npy", X)
    for given in (tmp_path / "x.npy", str(tmp_path / "x.npy"), X, cut(X, 3), iter(cut(X, 3)), Loader([X])):
        expect(as_source(given, spool_dir=tmp_path), X)
    expect(as_source(X.tolist(), y), X.astype("f8"), y)
    expect(as_source([(X, y)]), X, y)
    source = as_source(X)
    assert as_source(source) is source
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["X"], file["y"] = X, y
        expect(as_source(file["X"], file["y"]), X, y)
        with pytest.raises(OptionError, match=r"a File is not a path.*; pass one of its datasets"):
            as_source(file)


def test_as_source_refuses(tmp_path):
    for given in (3, None, b"abc", {"a": 1}, object()):
        with pytest.raises(OptionError, match=f"X: a {type(given).__name__} is not a path"):
            as_source(given)
    for given in (tmp_path / "x.npy", array_source(matrix()), iter([])):
        with pytest.raises(OptionError, match="y: goes with arrays only"):
            as_source(given, [1])
    with pytest.raises(DataError, match=r"X: no rows"):
        as_source([])
    with pytest.raises(DataError, match="X: cannot be made an array"):
        as_source([[1, [2]], [3, 4]])


def test_pipes_and_what_is_being_written_are_no_sources(tmp_path):
    os.mkfifo(tmp_path / "x.csv")
    with pytest.raises(SourceError, match="a pipe or a device, which can be read only once"):
        open_source(tmp_path / "x.csv")
    (tmp_path / "x.csv").unlink()
    np.save(tmp_path / "a.npy", matrix())
    for name in ("o.h5.partial", "o.h5.partial.journal"):  # of a compression into the folder, which is to be resumed
        (tmp_path / name).write_bytes(b"x")
    expect(open_source(tmp_path), matrix())


def test_groups_and_series_are_no_sources():
    class Group:
        keys = None

        def __iter__(self):
            return iter(["X"])

    with pytest.raises(OptionError, match="a Group is not .*; pass one of its datasets"):
        as_source(Group())
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for series in (pandas.Series([1.0, 2.0]), polars.Series([1.0, 2.0])):
        with pytest.raises(DataError, match="a Series is no table of columns"):
            as_source(series)


def test_user_defined_source_is_taken():
    class Own:
        name, columns, label_name, label_names, features, rows, nbytes = "own", None, None, None, 1, 1, 8

        def blocks(self, rows, start=0):
            yield Block(np.zeros((1, 1)), None)

        def place(self, row, column, label=0):
            return ""

        def identity(self):
            return None

        def bytes_read(self):
            return None

        def close(self):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.close()

    own = Own()
    assert as_source(own) is own


# Files in general.


def test_file_errors(tmp_path):
    with pytest.raises(SourceError, match=r"none\.npy: no such file"):
        open_source(tmp_path / "none.npy")
    with pytest.raises(SourceError, match=r": no files, or only hidden ones"):
        open_source(tmp_path)
    with pytest.raises(SourceError, match="no such file"):
        open_source("")
    (tmp_path / "x.xlsx").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"no format that is read; those are \.npy, \.npz, \.csv, .*\.hdf5"):
        open_source(tmp_path / "x.xlsx")
    (tmp_path / "x.csv").write_bytes(b"1,2\n")
    with pytest.raises(OptionError, match=r"dataset='X' is for \.npz, \.h5 and \.zarr"):
        open_source(tmp_path / "x.csv", dataset="X")


def test_file_gone_between_passes(tmp_path):
    X = matrix()
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", X=X)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["X"] = X
    save_text(tmp_path / "x.csv", "1,2\n")
    names = ["x.npy", "x.npz", "x.h5"] + (["x.csv"] if importlib.util.find_spec("pyarrow") else [])
    for name in names:
        source = open_source(tmp_path / name)
        drain(source)
        (tmp_path / name).unlink()
        with pytest.raises(SourceError, match=rf"{name}: (no such file|cannot be .*No such file)"):
            drain(source)


@pytest.mark.parametrize("extension", [".npy", ".npz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".h5", ".hdf5"])
def test_empty_and_foreign_content(tmp_path, extension):
    path = tmp_path / f"x{extension.upper()}"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"the file is empty \(0 bytes\)"):
        open_source(path)
    path.write_bytes(b"\xff\xfe\x80 no such thing" * 9)
    with pytest.raises(DataError, match=r"not |UTF-16"):
        drain(open_source(path))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("1\n")
    path.chmod(0)
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source(path)


# npy.


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [*DTYPES, ">f4", ">i2"])
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_npy(tmp_path, order, dtype, rows):
    X = np.asarray(matrix(23, 5, dtype), order=order)
    np.save(tmp_path / "x.npy", X)
    expect(open_source(tmp_path / "x.npy"), X, rows=rows)
    for label, index in ((0, 0), (-1, 4), ("2", 2), ("-5", 0)):
        source = open_source(tmp_path / "x.npy", label=label)
        expect(source, np.delete(X, index, axis=1), X[:, index], rows)
    source = open_source(tmp_path / "x.npy", label=1)
    path = tmp_path / "x.npy"
    assert source.place(0, 0) == f"{path}: row 1, column index 0"
    assert source.place(0, 1) == f"{path}: row 1, column index 2"
    assert source.place(0, None) == f"{path}: row 1, label (column index 1)"
    assert source.nbytes == path.stat().st_size


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_is_read_by_blocks(tmp_path, monkeypatch, order):
    """Nothing is mapped, and no more is read for a block than it takes."""
    X = np.asarray(matrix(1000, 8), order=order)
    path = tmp_path / "x.npy"
    np.save(path, X)
    source = open_source(path)
    opened = []
    real_open = Path.open

    def counting_open(*args, **kwargs):
        opened.append(real_open(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(Path, "open", counting_open)
    monkeypatch.setattr(np, "memmap", None)
    passing = source.blocks(10)
    block = next(passing)
    (file,) = opened
    last_column = 0 if order == "C" else 7 * 1000 * 4
    assert file.tell() == path.stat().st_size - X.nbytes + last_column + (10 * 8 * 4 if order == "C" else 10 * 4)
    held = block.values if block.values.base is None else block.values.base
    assert held.nbytes == block.values.nbytes == 10 * 8 * 4
    passing.close()
    assert file.closed


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), r"shape \(3,\) is 1-D; reshape"),
        (np.zeros((3, 0)), "no features"),
        (np.zeros((0, 3)), "no rows"),
        (np.zeros((2, 2), [("a", "f4"), ("b", "f4")]), "structured dtype with fields a, b"),
        (np.zeros((2, 2), [("ж", "f4")]), "structured dtype"),
        (np.array([[None]]), "dtype object"),
        (np.zeros((2, 2), "c8"), "dtype complex64"),
    ],
)
def test_npy_errors(tmp_path, array, message):
    with pytest.warns(UserWarning) if array.dtype.names == ("ж",) else no_warning():
        np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=rf"x\.npy: {message}"):
        open_source(tmp_path / "x.npy")


def no_warning():
    import contextlib

    return contextlib.nullcontext()


def test_npy_truncated(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, matrix())
    data = path.read_bytes()
    for size in range(1, len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(DataError, match="truncated" if size >= len(data) - 160 else "damaged"):
            open_source(path)
    path.write_bytes(data)
    source = open_source(path)
    path.write_bytes(data[:-1])
    with pytest.raises(DataError, match="truncated, the data ends early"):
        drain(source)


def test_npy_versions(tmp_path):
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, matrix(), version=(2, 0))
    expect(open_source(path), matrix())
    path.write_bytes(path.read_bytes().replace(b"NUMPY\2", b"NUMPY\4"))
    with pytest.raises(DataError, match=r"x\.npy: npy version 4\.0 is newer than this reader"):
        open_source(path)


def test_npy_label_errors(tmp_path):
    np.save(tmp_path / "x.npy", matrix())
    for label, message in (
        (4, "no column with index 4; 4 columns have indices -4 to 3"),
        ("-5", "no column with index -5"),
        ("price", "no column 'price'; the columns have no names, give an index"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(tmp_path / "x.npy", label=label)
    np.save(tmp_path / "x.npy", matrix(features=1))
    with pytest.raises(DataError, match="the label is the only column"):
        open_source(tmp_path / "x.npy", label=0)


# npz.


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rows", SIZES)
def test_npz(tmp_path, save, order, rows):
    path = tmp_path / "x.npz"
    X, y = np.asarray(matrix(23, dtype="u1"), order=order), np.arange(23, dtype="i1")
    save(path, data=X, y=y, column=y[:, None].astype("f4"), names=np.array(["a"]))
    with pytest.raises(DataError, match=r"several 2-D arrays, name one with dataset=; there are data \(23x4 uint8\)"):
        open_source(path)
    expect(open_source(path, dataset="data"), X, rows=rows)
    expect(open_source(path, label="column"), X, y, rows)
    expect(open_source(path, dataset="data", label="y"), X, y, rows)
    expect(open_source(path, dataset="data", label="-1"), X[:, :-1], X[:, -1], rows)
    source = open_source(path, dataset="data", label="y")
    assert source.label_name == "y"
    assert source.place(4, 1) == f"{path}[data]: row 5, column index 1"
    assert source.place(4, None) == f"{path}[y]: row 5"
    source = open_source(path, dataset="data", label=1)
    assert source.place(4, 1) == f"{path}[data]: row 5, column index 2"
    assert source.place(4, None) == f"{path}[data]: row 5, label (column index 1)"


def test_npz_takes_x_of_several(tmp_path):
    X = matrix()
    np.savez(tmp_path / "x.npz", A=X[:, :1], X=X)
    expect(open_source(tmp_path / "x.npz"), X)


def test_npz_is_streamed(tmp_path, monkeypatch):
    """Of a deflated member no more is asked for than a block, in pieces."""
    X = np.zeros((40_000, 50), "f4")
    np.savez_compressed(tmp_path / "x.npz", X=X)
    source = open_source(tmp_path / "x.npz")
    asked = []
    read = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n=-1: asked.append(n) or read(self, n))
    passing = source.blocks(10_000)
    next(passing)
    assert 0 < max(asked) <= 1 << 18 and min(asked) > 0
    assert 2_000_000 <= sum(asked) < 2_100_000
    passing.close()


def test_npz_errors(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, X=matrix(), y=np.arange(10), z=np.arange(9), o=np.array([None]), s=np.array(["a"] * 10))
    for options, message in (
        ({"dataset": "Y"}, r"no member 'Y'; there are X \(10x4 float32\), y \(10 int64\), z"),
        ({"dataset": "y"}, r"x\.npz\[y\]: shape \(10,\) is 1-D"),
        ({"dataset": "o"}, r"x\.npz\[o\]: shape \(1,\) is 1-D"),
        ({"label": "z"}, r"x\.npz\[z\]: shape \(9,\) does not fit 10 rows"),
        ({"label": "s"}, r"x\.npz\[s\]: dtype <U1"),
        ({"label": "Y"}, "no array 'Y' for the label; did you mean 'y'"),
        ({"label": 9}, r"x\.npz\[X\]: no column with index 9"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(path, **options)
    np.savez(path, y=np.arange(3))
    with pytest.raises(DataError, match=r"no 2-D array in it; there are y \(3 int64\)"):
        open_source(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match="no arrays in the archive"):
        open_source(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", "hello")
    with pytest.raises(DataError, match=r"x\.npz\[X\]: not an npy array"):
        open_source(path)


def test_npz_damaged(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, X=np.zeros((100, 9)))
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.npz: not an npz archive, or damaged: Bad CRC-32"):
        drain(open_source(path))
    path.write_bytes(data[:2000])
    with pytest.raises(DataError, match="not an npz archive, or damaged"):
        open_source(path)
    np.save(tmp_path / "x.npy", matrix())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", (tmp_path / "x.npy").read_bytes()[:-1])
    with pytest.raises(DataError, match=r"x\.npz\[X\]: truncated, 10x4 float32 takes 160 bytes"):
        open_source(path)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("member", ["X", "y"])
def test_npz_deflated_checksum(tmp_path, order, member):
    """zipfile compares it on the last byte that the header promises, so in every pass that runs to its end."""
    path = tmp_path / "x.npz"
    rng = np.random.default_rng(2)
    X, y = (rng.integers(0, 9, shape).astype("u1") for shape in ((5000, 9), 5000))
    np.savez_compressed(path, X=np.asarray(X, order=order), y=y)
    expect(open_source(path, label="y"), X, y, 777)
    data = bytearray(path.read_bytes())
    # The checksum in the central directory, 46 bytes that the name follows.
    data[data.rindex(f"{member}.npy".encode()) - 46 + 16] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"x\.npz: .*damaged: Bad CRC-32 for file '{member}\.npy'"):
        drain(open_source(path, label="y"), 777)


# HDF5.


@pytest.mark.parametrize("chunks", [None, (4, 2), (8, 5), (23, 5)])
@pytest.mark.parametrize("dtype", ["?", "u1", "f2", ">f4", "f8"])
@pytest.mark.parametrize("rows", SIZES)
def test_h5(tmp_path, chunks, dtype, rows):
    path = tmp_path / "x.h5"
    X, y = matrix(23, 5, dtype), np.arange(23)
    with h5py.File(path, "w") as file:
        file.create_dataset("g/X", data=X, chunks=chunks)
        file["g/y"] = y
        file["names"] = ["a"]
    expect(open_source(path), X, rows=rows)
    expect(open_source(path, dataset="g/X", label="y"), X, y, rows)
    expect(open_source(path, label="g/y"), X, y, rows)
    expect(open_source(path, dataset="/g/X", label=-2), np.delete(X, 3, axis=1), X[:, 3], rows)
    source = open_source(path, label="g/y")
    assert (source.label_name, source.nbytes) == ("g/y", path.stat().st_size)
    assert source.place(4, 1) == f"{path}[g/X]: row 5, column index 1"
    assert source.place(4, None) == f"{path}[g/y]: row 5"
    assert open_source(path, label=0).place(4, 0) == f"{path}[g/X]: row 5, column index 1"
    assert open_source(path, label=0).place(4, None) == f"{path}[g/X]: row 5, label (column index 0)"


def test_h5_blocks_are_whole_chunks(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("X", data=matrix(23), chunks=(4, 4))
    source = open_source(tmp_path / "x.h5")
    assert [len(block.values) for block in source.blocks(11)] == [8, 8, 7]
    assert [len(block.values) for block in source.blocks(3)] == [3] * 7 + [2]


def test_h5_errors(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["A"], file["B"], file["y"], file["z"] = matrix(), matrix(9), np.arange(10), np.arange(9)
        file["names"], file["empty"], file["deep"] = ["a"] * 10, h5py.Empty("f4"), np.zeros((2, 2, 2))
        file.create_group("g")
    for options, message in (
        ({}, r"several 2-D datasets, name one with dataset=; there are A \(10x4 float32\), B \(9x4 float32\)"),
        ({"dataset": "C"}, r"no dataset 'C'; the 2-D ones are A \(10x4 float32\), B"),
        ({"dataset": "g"}, "no dataset 'g'"),
        ({"dataset": "y"}, r"x\.h5\[y\]: shape \(10,\) is 1-D"),
        ({"dataset": "deep"}, r"x\.h5\[deep\]: shape \(2, 2, 2\) is not"),
        ({"dataset": "A", "label": "z"}, r"x\.h5\[z\]: shape \(9,\) does not fit 10 rows"),
        ({"dataset": "A", "label": "names"}, r"x\.h5\[names\]: dtype object"),
        ({"dataset": "A", "label": "yy"}, "no array 'yy' for the label; did you mean 'y'"),
        ({"dataset": "A", "label": 4}, r"x\.h5\[A\]: no column with index 4"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(path, **options)
    with h5py.File(path, "w") as file:
        file["y"] = np.arange(10)
    with pytest.raises(DataError, match="no 2-D dataset of numbers in it; there are y"):
        open_source(path)


@pytest.mark.parametrize("mark", ["zipml", b"zipml", np.bytes_(b"zipml")])
@pytest.mark.parametrize("name", ["x.h5", "x.HDF5"])
def test_zipml_file_is_refused(tmp_path, mark, name):
    path = tmp_path / name
    with h5py.File(path, "w") as file:
        file["codes"], file.attrs["format"] = matrix(dtype="u1"), mark
    for read in (open_source, as_source):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value) == (
            f"{path} is a zipml file already: open it with zipml_codec.open(), or `zipml decompress` it first"
        )


@pytest.mark.parametrize("mark", ["zip", b"\xff", 1, ["zipml", "a"], [1, 2], h5py.Empty("f4"), "time", "damaged"])
def test_h5_format_attribute_of_others(tmp_path, mark):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["X"] = matrix()
        if mark == "time":
            space = h5py.h5s.create(h5py.h5s.SCALAR)
            h5py.h5a.create(file.id, b"format", h5py.h5t.UNIX_D32LE, space)
        else:
            file.attrs["format"] = mark
    if mark == "damaged":
        data = path.read_bytes()
        assert data.count(b"GCOL") == 1
        path.write_bytes(data.replace(b"GCOL", b"gone"))
    expect(open_source(path), matrix())


def test_h5_changed_between_passes(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["X"] = matrix()
    source = open_source(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["Y"] = matrix()
    with pytest.raises(SourceError, match=r"x\.h5\[X\]: rows 1 to 10 cannot be read: .*doesn't exist[^?]*$"):
        drain(source)


def test_h5_truncated(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["X"] = matrix(1000)
    data = path.read_bytes()
    path.write_bytes(data[:5000])
    with pytest.raises(DataError, match=r"x\.h5: truncated"):
        open_source(path)


def test_h5_locked(tmp_path, monkeypatch):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["X"] = matrix()

    def refuse(*_, **__):
        raise BlockingIOError(11, "Unable to synchronously open file (unable to lock file, errno = 11)")

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(SourceError, match=r"locked, a program has it open for writing.*HDF5_USE_FILE_LOCKING"):
        open_source(path)


def test_h5_unknown_filter(tmp_path):
    """A dataset whose filter is not there says what to import."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=matrix(), chunks=(10, 4), compression="gzip")
    # The filter's number in the dataset's header, 1 for deflate, made one that nobody has.
    data = path.read_bytes()
    at = data.index(b"deflate") - 8
    assert data[at : at + 2] == b"\1\0"
    path.write_bytes(data[:at] + b"\xf0\x7f" + data[at + 2 :])
    with pytest.raises(SourceError, match=r"x\.h5\[X\]: rows 1 to 10 cannot be read: .*import hdf5plugin"):
        drain(open_source(path))


# CSV.


@pytest.fixture
def pyarrow():
    return pytest.importorskip("pyarrow", reason="pyarrow is not installed")


@pytest.mark.usefixtures("pyarrow")
@pytest.mark.parametrize("rows", [3, 1000])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("name", "separator"), [("x.csv", ","), ("x.csv.gz", ";"), ("x.csv", "\t"), ("x.TSV.gz", "\t")]
)
@pytest.mark.parametrize("last", [True, False])
def test_csv(tmp_path, rows, ending, bom, name, separator, last):
    X = matrix(23, 4, "f8")
    lines = [separator.join(map(repr, row)) for row in X.tolist()]
    header = separator.join(["a", '"b"', "c d", "-1"])
    table = bom + ending.join([header, *lines]) + (ending if last else "")
    path = save_text(tmp_path / name, table)
    expect(open_source(path), X, rows=rows)
    for label, index in (("a", 0), ("c d", 2), (1, 1), ("-2", 2), ("-1", 3)):
        source = open_source(path, label=label)
        names = ["a", "b", "c d", "-1"]
        assert source.label_name == names.pop(index)
        assert source.columns == tuple(names)
        assert (source.rows, source.features) == (None, 3)
        expect(source, np.delete(X, index, axis=1), X[:, index], rows)
    # Without a header.
    path = save_text(tmp_path / name, bom + ending.join(lines))
    source = open_source(path, label=1)
    assert (source.columns, source.label_name) == (None, None)
    expect(source, X[:, [0, 2, 3]], X[:, 1], rows)
    assert source.place(3, 1) == f"{path}: row 4 (line 4), column index 2"
    assert source.place(3, None) == f"{path}: row 4 (line 4), label (column index 1)"


@pytest.mark.usefixtures("pyarrow")
def test_csv_kinds_of_cells(tmp_path):
    path = save_text(tmp_path / "x.csv", 'a,b,c\n1,true,"3"\n-2e3,False, .5 \n,0,\nNA,,nan\n+7,TRUE,inf\n')
    expected = [[1, 1, 3], [-2000, 0, 0.5], [np.nan, 0, np.nan], [np.nan, np.nan, np.nan], [7, 1, np.inf]]
    expect(open_source(path), np.array(expected))
    expect(open_source(save_text(tmp_path / "y.csv", "true,2\nfalse,3\n")), np.array([[1.0, 2], [0, 3]]))
    expect(open_source(save_text(tmp_path / "z.csv", "x\n5\n6\n")), np.array([[5.0], [6]]))


@pytest.mark.usefixtures("pyarrow")
def test_csv_place_counts_blank_lines(tmp_path):
    path = save_text(tmp_path / "x.csv", "\n\na,b\n1,2\n\n\n3,4\n")
    source = open_source(path, label="b")
    expect(source, np.array([[1.0], [3]]), [2, 4])
    assert source.place(0, 0) == f"{path}: row 1 (line 4), column 'a'"
    assert source.place(1, None) == f"{path}: row 2 (line 7), label 'b'"
    path.unlink()
    assert source.place(1, 0) == f"{path}: row 2 (line 5), column 'a'"


BAD_TABLES = [
    (
        "a,ocean\n1,2\n3,NEAR BAY\n",
        r"row 2 \(line 3\), column 'ocean': 'NEAR BAY' is not a number; leave the column out with columns=",
    ),
    ("a,b\n\n1,2\n\n3,x\n", r"row 2 \(line 5\), column 'b': 'x'"),
    ("1,2\n3,x\n", r"row 2 \(line 2\), column index 1: 'x' is not a number"),
    ("a,b\n1,1_0\n", r"row 1 \(line 2\), column 'b': '1_0' is not a number"),
    ("a,b\n1,0x10\n", "column 'b': '0x10'"),
    ("a,b\n1,\u0663\n", "column 'b': '\u0663'"),
    ("a,b\n1," + "z" * 99 + "\n", "column 'b': 'z{37}...' is not"),
    ("a;b\n1,5;2\n", r"column 'a': '1,5' is not a number; decimal commas are not read"),
    ("a b\n1\n2 3\n", r"row 2 \(line 3\), column 'a b': '2 3' is not a number; cells are separated by comma"),
    ("a,b\n1,2\n1,true\n", r"row 2 \(line 3\), column 'b': 'true' is not a number; write 1 and 0"),
    ("a,b\n1,true\n1,7\n", r"row 2 \(line 3\), column 'b': '7' is not a number; the column starts with true"),
    ("a,b\n1,2\n3\n", r"row 2 \(line 3\): 1 cells, expected 2"),
    ("a,b\n1,2\n3,4,5\n", r"row 2 \(line 3\): 3 cells, expected 2"),
    ("a,b\n1,2\n   \n", r"row 2 \(line 3\): 1 cells, expected 2"),
    ('a,b\n1,2\n3,"4\n5,6\n', r"row 2 \(line 3\): cannot be split into cells"),
    ('a,"b\nc"\n1,2\n', "line 1: cannot be split into cells"),
    ("a,b,a\n1,2,3\n", "columns with index 0 and 2 have the same name 'a'"),
    ("a,,\n1,2,3\n", "columns with index 1 and 2 have the same empty name"),
    ("a,b\n", "no rows, there is only a header"),
    ("a,b\n\n\n", "no rows, there is only a header"),
    ("\n\n", "no rows, only blank lines"),
    ("größe,b\n1,2\n".encode("latin-1"), "not UTF-8 text"),
    (b"a,b\n1,2\n" + b"1,2\n" * 9000 + b"1,\xff\n", "not UTF-8 text"),
    ("a,b\n1,2\n".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
]


@pytest.mark.usefixtures("pyarrow")
@pytest.mark.parametrize(("table", "message"), BAD_TABLES)
@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_csv_errors(tmp_path, table, message, name):
    if name == "x.csv.gz" and message.startswith("UTF-16"):
        message = "not UTF-8 text"
    with pytest.raises(DataError, match=f"{name}: .*{message}" if "row" in message else message):
        drain(open_source(save_text(tmp_path / name, table)))


@pytest.mark.usefixtures("pyarrow")
def test_csv_error_far_into_the_file(tmp_path):
    """Named right where pyarrow works in many batches, and rows before it were yielded."""
    lines = ["a,b"] + [f"{i},{i}.25" for i in range(400_000)]
    lines[350_001] = "350000,oops"
    source = open_source(save_text(tmp_path / "x.csv.gz", "\n".join(lines)))
    seen = 0
    with pytest.raises(DataError, match=r"row 350001 \(line 350002\), column 'b': 'oops' is not a number"):
        for block in source.blocks(5000):
            seen += len(block.values)
    assert 0 < seen <= 350_000


@pytest.mark.usefixtures("pyarrow")
def test_csv_labels_by_unknown_name(tmp_path):
    path = save_text(tmp_path / "x.csv", "price,rooms,age\n1,2,3\n")
    for label, message in (
        ("prise", "no column 'prise'; did you mean 'price'"),
        ("zzzz", "no column 'zzzz'; there are 'price', 'rooms', 'age'"),
        (3, "no column with index 3; 3 columns have indices -3 to 2"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(path, label=label)


@pytest.mark.usefixtures("pyarrow")
def test_csv_memory_and_progress(tmp_path):
    """Blocks come before the file is read, small however large the file is, and progress is of the raw file."""
    row = ",".join(f"{i}.5" for i in range(20)) + "\n"
    names = ",".join(f"c{i}" for i in range(20)) + "\n"
    path = save_text(tmp_path / "x.csv", names + row * 200_000)
    size = path.stat().st_size
    assert size > 16 << 20
    source = open_source(path)
    assert source.bytes_read() is None and source.nbytes == size
    passing = source.blocks(1 << 30)
    block = next(passing)
    # A block comes of 512 KiB of text and a row begun before, whatever is asked for.
    assert len(block.values) * len(row) <= (1 << 19) + len(row)
    passing.close()
    largest, positions, count = 0, [], 0
    for block in source.blocks(1 << 30):
        largest = max(largest, len(block.values))
        count += len(block.values)
        positions.append(source.bytes_read())
    assert count == 200_000 and largest * len(row) <= (1 << 19) + len(row)
    assert positions == sorted(positions) and 0 < positions[0] < positions[-1] <= size
    assert source.bytes_read() == size


@pytest.mark.usefixtures("pyarrow")
def test_csv_row_longer_than_a_batch(tmp_path):
    X = np.random.default_rng(3).normal(size=(2, 20_000))
    text = "\n".join(",".join(map(repr, row)) for row in X.tolist())
    assert len(text) > 2 << 18
    expect(open_source(save_text(tmp_path / "x.csv", text)), X)


@pytest.mark.usefixtures("pyarrow")
def test_csv_long_lines(tmp_path, monkeypatch):
    path = save_text(tmp_path / "x.csv", "a,b\n1,2\n3," + "0" * (2 << 20) + "4\n")
    expect(open_source(path), np.array([[1.0, 2], [3, 4]]))
    monkeypatch.setattr("zipml_codec.formats.streams.LONGEST_LINE", 1 << 20)
    with pytest.raises(DataError, match=r"x\.csv: a line is over 1 MiB long, not a table"):
        drain(open_source(path))


@pytest.mark.usefixtures("pyarrow")
def test_gzip_errors(tmp_path):
    path = tmp_path / "x.csv.gz"
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(DataError, match="not gzip-compressed, as its extension says"):
        open_source(path)
    rng = np.random.default_rng(0)
    data = gzip.compress("\n".join(map(repr, rng.normal(size=50_000).tolist())).encode())
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.csv: gzip-compressed, not what \.csv says; rename it to end in \.gz"):
        open_source(tmp_path / "x.csv")
    path.write_bytes(data[:-9])
    with pytest.raises(DataError, match="damaged or truncated gzip data"):
        drain(open_source(path))
    path.write_bytes(data[:12])
    with pytest.raises(DataError, match="damaged or truncated gzip data"):
        open_source(path)
    broken = bytearray(data)
    broken[-6] ^= 1
    path.write_bytes(broken)
    with pytest.raises(DataError, match="damaged or truncated gzip data"):
        drain(open_source(path))


@pytest.mark.usefixtures("pyarrow")
def test_csv_changed_between_passes(tmp_path):
    path = save_text(tmp_path / "x.csv", "a,b\n1,2\n3,4\n")
    source = open_source(path)
    drain(source)
    save_text(path, "a,b\n1,2\n")
    with pytest.raises(DataError, match="1 rows, an earlier pass read 2; the file was changed"):
        drain(source)


def test_csv_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'zipml-codec\[io\]'"):
        open_source(save_text(tmp_path / "x.csv", "1,2\n"))


# Real data.


@pytest.fixture
def real():
    folder = os.environ.get("ZIPML_DATA")
    if not folder:
        pytest.skip("ZIPML_DATA does not name the folder of real data")
    return Path(folder)


@pytest.mark.usefixtures("pyarrow")
@pytest.mark.parametrize(
    ("name", "label", "shape"),
    [
        ("cal_housing.csv.gz", "medianHouseValue", (20640, 8)),
        ("cpu_small.csv.gz", "-1", (8192, 12)),
        ("cod_rna_train.csv.gz", 0, (59535, 8)),
    ],
)
def test_real_csv(real, name, label, shape):
    with gzip.open(real / name, "rt") as file:
        columns = file.readline().strip().split(",")
        table = np.loadtxt(file, delimiter=",")
    source = open_source(real / name, label=label)
    index = columns.index(label) if label in columns else int(label) % len(columns)
    assert source.label_name == columns[index]
    expect(source, np.delete(table, index, axis=1), table[:, index], 1009)
    assert (source.rows, source.features) == shape


@pytest.mark.parametrize(
    ("name", "label", "shape"),
    [("gas_drift_8batches.npz", "y", (6697, 128)), ("mnist_4v9_train.npz", "y", (11791, 784))],
)
def test_real_npz(real, name, label, shape):
    with np.load(real / name) as archive:
        X, y = archive["X"], archive[label]
    source = open_source(real / name, label=label)
    assert (source.rows, source.features) == shape
    expect(source, X, y, 1009)


# Several labels, selected columns, kept columns, and passes that start later.


def rows_of(source, start=0, rows=3):
    """A pass from `start`: values, labels, kept; every block within `rows`."""
    blocks = list(source.blocks(rows, start))
    assert all(0 < len(block.values) <= rows for block in blocks)
    labels = None if blocks[0].labels is None else np.concatenate([block.labels for block in blocks])
    kept = {key: np.concatenate([block.kept[key] for block in blocks]) for key in blocks[0].kept or {}}
    return np.concatenate([block.values for block in blocks]), labels, kept


def table_files(tmp_path, X):
    """The same matrix of whole numbers in every format of a matrix, by name."""
    np.save(tmp_path / "c.npy", X)
    np.save(tmp_path / "f.npy", np.asfortranarray(X))
    np.savez(tmp_path / "s.npz", X)
    np.savez_compressed(tmp_path / "d.npz", X)
    np.savez_compressed(tmp_path / "f.npz", np.asfortranarray(X))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("X", data=X, chunks=(4, 2))
    found = [open_source, lambda path, **options: as_source(X, **options)]
    names = ["c.npy", "f.npy", "s.npz", "d.npz", "f.npz", "x.h5"]
    if importlib.util.find_spec("pyarrow"):
        save_text(tmp_path / "x.csv", "\n".join(",".join(map(str, row)) for row in X.astype(int).tolist()))
        names.append("x.csv")
    return [(found[0], tmp_path / name) for name in names] + [(found[1], None)]


def test_columns_of_every_format(tmp_path):
    X = np.arange(46.0).reshape(23, 2) @ [[1, 0, 2, 0, 3], [0, 1, 0, 2, 0]]
    for read, path in table_files(tmp_path, X):
        for label, columns, keep, want, want_labels, want_kept in (
            ("1,-1", None, None, [0, 2, 3], [1, 4], []),
            ([4, "1"], "3,0", "2", [3, 0], [4, 1], [2]),
            (None, [1, 2], 3, [1, 2], [], [3]),
            (2, None, "0,-1", [1, 3], [2], [0, 4]),
            (None, "1,0", "0", [1, 0], [], [0]),
        ):
            for start in (0, 1, 5, 22):
                with read(path, label=label, columns=columns, keep=keep) as source:
                    values, labels, kept = rows_of(source, start)
                    np.testing.assert_array_equal(values, X[start:, want], err_msg=str(path))
                    if want_labels:
                        np.testing.assert_array_equal(labels, X[start:, want_labels if len(want_labels) > 1 else want_labels[0]])
                    assert (labels is None) == (not want_labels) and list(kept) == [str(index) for index in want_kept]
                    for index in want_kept:
                        np.testing.assert_array_equal(kept[str(index)], X[start:, index])
                    assert source.place(0, 0).endswith(f"column index {want[0]}")
                    if want_labels:
                        assert source.place(0, None, len(want_labels) - 1).endswith(f"label (column index {want_labels[-1]})")
                    assert list(source.blocks(9, 23)) == []
        for options, message in (
            ({"label": "1", "columns": "0,1"}, "the column with index 1 is a label and in columns"),
            ({"label": "1", "keep": "0,1"}, "the column with index 1 is a label and kept: leave it out of one"),
            ({"label": "1,1"}, "label: the column with index 1 is named twice"),
            ({"keep": ""}, "keep must be names or indices of columns"),
            ({"columns": [True]}, "columns must be names or indices"),
        ):
            with pytest.raises(OptionError, match=message):
                read(path, **options)
        with pytest.raises(DataError, match="no features, all columns are labels or kept"):
            read(path, label="0,1,2", keep="3,4")


def test_arrays_beside_the_matrix(tmp_path):
    X, y, ids, names = matrix(), np.arange(20).reshape(10, 2), np.arange(10, dtype="u8") + 2**63, np.array(list("abcdefghiö"))
    np.savez(tmp_path / "x.npz", X=X, y=y, ids=ids, names=names)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["X"], file["y"], file["ids"], file["names"] = X, y, ids, names.astype(object)
    for name in ("x.npz", "x.h5"):
        with pytest.raises(OptionError, match="'ids' is a label and kept"):
            open_source(tmp_path / name, dataset="X", label="ids", keep="ids")
        source = open_source(tmp_path / name, dataset="X", label="y,0", keep=["names", "ids", 1])
        values, labels, kept = rows_of(source, 4)
        np.testing.assert_array_equal(values, X[4:, 2:])
        np.testing.assert_array_equal(labels, np.column_stack([y, X[:, 0]])[4:])
        assert kept["ids"].dtype == "u8" and kept["ids"].tolist() == ids[4:].tolist()
        assert kept["names"].tolist() == names[4:].tolist() and kept["1"].tolist() == X[4:, 1].tolist()
        assert source.label_name is None and source.label_names == ("y[0]", "y[1]", "0")
        assert source.place(6, None, 1) == f"{tmp_path / name}[y]: row 7, column index 1"
        assert source.place(6, None, 2) == f"{tmp_path / name}[X]: row 7, label '0'"


def test_kept_arrays_in_memory(tmp_path):
    X, y, ids, texts = matrix(), np.arange(20.0).reshape(10, 2), np.arange(10), np.array(["", "ä\0", "b\n"] * 3 + ["x"], object)
    blocks = [(X[:4], y[:4], {"id": ids[:4], "t": texts[:4]}), (X[4:], y[4:], {"id": ids[4:], "t": texts[4:]})]
    for source in (
        as_source(X, y, keep={"id": ids, "t": texts}),
        as_source(blocks),
        as_source(iter(blocks), spool_dir=tmp_path),
        as_source(Loader(blocks)),
    ):
        for start in (0, 3, 9):
            values, labels, kept = rows_of(source, start)
            np.testing.assert_array_equal(values, X[start:])
            np.testing.assert_array_equal(labels, y[start:])
            assert kept["id"].tolist() == ids[start:].tolist() and kept["t"].tolist() == texts[start:].tolist()
        source.close()
    with pytest.raises(DataError, match=r"X: kept t: row 2: None is neither number nor text"):
        rows_of(as_source(X, keep={"t": np.array(["a", None] * 5, object)}))
    with pytest.raises(DataError, match=r"column to keep 't': shape \(3,\) does not fit 10 rows"):
        as_source(X, keep={"t": texts[:3]})
    with pytest.raises(DataError, match=r"block 2: columns to keep none, the blocks before have \['id', 't'\]"):
        drain(as_source([blocks[0], blocks[1][:2]]))
    with pytest.raises(DataError, match=r"block 2: labels a row: 1, the blocks before have 2"):
        drain(as_source([(X, y), (X, y[:, 0])]))
    with pytest.raises(OptionError, match=r"columns and keep are for files, arrays and DataFrames; an iterable yields"):
        as_source([X], keep="1")
    with pytest.raises(OptionError, match="either as y or as the columns that label= names"):
        as_source(X, y, label=0)


def test_frame_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": ["a", "b", "c"], "x": [1, 2, 3], "y": [0.5, 1.5, 2.5], "z": [True, False, True]})
    source = as_source(frame, label="y,z", keep="id")
    values, labels, kept = rows_of(source, 1)
    assert (source.columns, source.label_names, source.label_name) == (("x",), ("y", "z"), None)
    assert values.tolist() == [[2], [3]] and labels.tolist() == [[1.5, 0], [2.5, 1]] and kept["id"].tolist() == ["b", "c"]
    assert as_source(frame, label="z", columns="y,x").columns == ("y", "x")
    assert as_source(frame[["x"]], frame[["y", "z"]]).label_names == ("y", "z")


def test_identity(tmp_path):
    """Changes with the content, the options and the file; the same for the same."""
    X = matrix(1000, 300)
    other, tail = X.copy(), X.copy()
    other[0, 0] += 1
    tail[-1, -1] += 1
    found = [as_source(A, **options).identity() for A in (X, other, tail) for options in ({}, {"keep": {"a": X[:, 0]}})]
    assert len({str(one) for one in found}) == 6 and as_source(X).identity() == found[0]
    path = tmp_path / "x.npy"
    np.save(path, X)
    first = open_source(path).identity()
    assert first == open_source(path).identity() == json.loads(json.dumps(first))
    assert first["files"] == [[str(path), path.stat().st_size, path.stat().st_mtime_ns]]
    assert open_source(path, label=0).identity() != first
    os.utime(path, ns=(1, 1))
    assert open_source(path).identity() != first
    assert as_source([X]).identity() is None
