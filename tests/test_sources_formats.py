"""Readers that lean on pyarrow and zarr: Parquet, Feather, Arrow and polars tables, libsvm text, Zarr, folders; and bad files."""

import bz2
import gzip
import io
import os
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from test_sources import drain, expect, matrix, rows_of, save_text

from zipml_codec import compress
from zipml_codec.arrays import thread_count
from zipml_codec.errors import DataError, MissingDependencyError, OptionError, SourceError
from zipml_codec.formats.readers import as_source, open_source
from zipml_codec.formats.sources import Source, as_text
from zipml_codec.formats.streams import in_order

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
import pyarrow.feather  # noqa: E402
import pyarrow.parquet  # noqa: E402


def table(rows=23):
    """Columns of many types, and what they are as float64."""
    rng = np.random.default_rng(3)
    columns = {
        "f8": rng.normal(size=rows), "f4": rng.normal(size=rows).astype("f4"), "f2": rng.normal(size=rows).astype("f2"),
        "i1": rng.integers(-99, 99, rows, "i1"), "u8": rng.integers(0, 2**63, rows, "u8"), "b": rng.integers(0, 2, rows) > 0,
        "id": np.array([f"ä{i}\n" for i in range(rows)], object), "big": np.arange(rows) + 2**62,
    }  # fmt: skip
    return pa.table(columns), columns


def write(path, data, **options):
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(data, path, row_group_size=7, **options)
    else:
        pyarrow.feather.write_feather(data, path, chunksize=7, **options)
    return path


@pytest.fixture(params=["x.parquet", "x.feather", "table", "polars", "pandas"])
def given(request, tmp_path):
    """given(table): the same table as a file, or in memory."""

    def make(data):
        if request.param == "polars":
            return pytest.importorskip("polars").from_arrow(data)
        if request.param == "pandas":
            return pytest.importorskip("pandas") and data.to_pandas()
        return data if request.param == "table" else write(tmp_path / request.param, data)

    return make


@pytest.mark.parametrize("rows", [1, 5, 7, 1000])
def test_arrow_columns(given, rows):
    data, columns = table()
    for options, features, labels, kept in (
        ({"keep": "id,big", "label": "b"}, ["f8", "f4", "f2", "i1", "u8"], ["b"], ["id", "big"]),
        ({"columns": "f2,f4"}, ["f2", "f4"], [], []),
        ({"columns": [3], "label": ["f8", "b"], "keep": ["u8", "i1", "f2", "id"]}, ["i1"], ["f8", "b"], ["u8", "i1", "f2", "id"]),
    ):
        for start in (0, 3, 7, 22):
            with as_source(given(data), **options) as source:
                assert isinstance(source, Source) and source.columns == tuple(features) and source.rows == 23
                values, got_labels, got_kept = rows_of(source, start, rows)
                wanted = np.stack([columns[name] for name in features], axis=1)
                assert values.dtype == wanted.dtype
                np.testing.assert_array_equal(values, wanted[start:])
                if labels:
                    wanted = np.stack([columns[name] for name in labels], axis=1)
                    np.testing.assert_array_equal(got_labels.reshape(len(values), -1), wanted[start:])
                    assert source.label_names == tuple(labels)
                for name in kept:
                    assert got_kept[name].tolist() == columns[name][start:].tolist()
                    assert got_kept[name].dtype == columns[name].dtype or name == "id"
                assert list(source.blocks(9, 23)) == []
                assert source.place(3, 0).endswith(f"row 4, column '{features[0]}'")
                assert source.identity() == source.identity() is not None


def test_arrow_missing_values(given):
    data = pa.table({"f": pa.array([1.5, None], pa.float32()), "i": pa.array([None, 2], pa.int64()), "b": pa.array([True, None])})
    with as_source(given(data.select(["f", "i"]))) as source:
        np.testing.assert_array_equal(rows_of(source)[0], [[1.5, np.nan], [np.nan, 2]])
    if not hasattr(given(data), "iloc"):  # pandas makes objects of it
        with as_source(given(data)) as source:
            np.testing.assert_array_equal(rows_of(source)[0], [[1.5, np.nan, 1], [np.nan, 2, np.nan]])
        with pytest.raises(DataError, match="row 1, column 'i': a missing value; fill it to keep"):
            rows_of(as_source(given(data), columns="f", keep="i"))


def test_arrow_errors(given):
    data = pa.table({"a": [1.0], "t": ["x"], "d": pa.array([1], pa.timestamp("s"))})
    with pytest.raises(DataError, match=r"column 't': (type (large_)?string|dtype object|dtype str).* (is not|numbers)"):
        as_source(given(data))
    with pytest.raises(DataError, match="no column 'A'; did you mean 'a'"):
        as_source(given(data), columns="A")
    with pytest.raises(DataError, match="no rows"):
        as_source(given(data.slice(1)), columns="a")
    if not hasattr(given(data), "iloc"):
        with pytest.raises(DataError, match=r"column 'd': type timestamp.* is neither number nor text"):
            as_source(given(data), columns="a", keep="d")


@pytest.mark.parametrize("name", ["x.parquet", "x.feather"])
def test_arrow_files_damaged(tmp_path, name):
    path = write(tmp_path / name, table(500)[0])
    content = path.read_bytes()
    for size in (1, 4, 8, 100, len(content) // 2, len(content) - 9, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match=rf"{name}: not the format that its extension says, or damaged or truncated"):
            drain(open_source(path, columns="f8"))
    path.write_bytes(content)
    source = open_source(path, columns="f8")
    write(path, table(400)[0])
    with pytest.raises(DataError, match="the file was changed after it was opened"):
        drain(source)
    path.unlink()
    with pytest.raises(SourceError, match="no such file any more"):
        drain(source)


def test_parquet_reads_row_groups_and_columns_that_are_wanted(tmp_path):
    """A damaged column, and damaged row groups before the start, are not noticed."""
    rows = 10_000
    data = pa.table({"a": np.arange(rows) * 1.0, "t": [f"{i:050}" for i in range(rows)]})
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(data, path, row_group_size=1000, compression="none", use_dictionary=False)
    about = pyarrow.parquet.read_metadata(path)
    content = bytearray(path.read_bytes())
    for group in range(10):
        column = about.row_group(group).column(1)
        content[column.data_page_offset : column.data_page_offset + 99] = bytes(99)
    for group in range(5):
        column = about.row_group(group).column(0)
        content[column.data_page_offset : column.data_page_offset + 99] = b"\xff" * 99
    path.write_bytes(content)
    assert rows_of(open_source(path, columns="a"), 5003, 999)[0][:, 0].tolist() == list(range(5003, rows))
    with pytest.raises(DataError, match="damaged"):
        drain(open_source(path, columns="a"))


def test_parquet_row_group_is_not_held(tmp_path):
    """Of one row group of 128 MB, a page a column and some blocks: what Arrow's pool held at most tells."""
    values = np.random.default_rng(0).random(2_000_000, "f4")
    path = tmp_path / "x.parquet"
    data = pa.table({f"c{i}": values for i in range(16)})
    pyarrow.parquet.write_table(data, path, row_group_size=len(values), use_dictionary=False)
    code = f"""
import pyarrow
from zipml_codec.formats.readers import open_source
with open_source({str(path)!r}) as source:
    print(sum(len(block.values) for block in source.blocks(65536)), pyarrow.default_memory_pool().max_memory())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    rows, most = map(int, done.stdout.split())
    assert rows == len(values) and most < 64e6


def test_record_batch_reader(tmp_path):
    data, columns = table()
    reader = pa.RecordBatchReader.from_batches(data.schema, data.to_batches(max_chunksize=5))
    with as_source(reader, spool_dir=tmp_path, label="i1", columns="f8,f4", keep="id,u8") as source:
        assert source.columns == ("f8", "f4") and source.label_name == "i1"
        for _ in range(2):
            values, labels, kept = rows_of(source, 4)
            np.testing.assert_array_equal(values[:, 0], columns["f8"][4:])
            assert labels.tolist() == columns["i1"][4:].tolist() and kept["id"].tolist() == columns["id"][4:].tolist()


def test_compress_takes_tables(tmp_path, given):
    data, columns = table(300)
    with compress(as_source(given(data), label="f8", columns="f4,i1"), path=tmp_path / "x.zipml.h5") as done:
        assert done.shape == (300, 2) and done.columns == ("f4", "i1")
        np.testing.assert_array_equal(done.labels, columns["f8"].astype("f4"))


def test_without_pyarrow_and_zarr(tmp_path, monkeypatch):
    write(tmp_path / "x.parquet", table()[0])
    save_text(tmp_path / "x.svm", "1 1:2\n")
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / ".zarray").write_text("{}")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "zarr", None)
    for name, extra in (("x.parquet", "io"), ("x.svm", "io"), ("x.zarr", "zarr")):
        with pytest.raises(MissingDependencyError, match=rf"pip install 'zipml-codec\[{extra}\]'"):
            open_source(tmp_path / name)


# Threads.


def test_work_in_order():
    """Results in order whatever each takes; errors of items and of work where their results would be; few items ahead."""
    made, closed = [], []

    def items(fail=None):
        try:
            for number in range(20):
                if number == fail:
                    raise ZeroDivisionError
                made.append(number)
                yield number
        finally:
            closed.append(True)

    def work(number):
        time.sleep(0.002 * (number % 3 == 0))
        if number == 12:
            raise KeyError(number)
        return number * number

    got = []
    with pytest.raises(KeyError):
        for result in in_order(work, items()):
            got.append(result)
    assert got == [n * n for n in range(12)]
    got = []
    with pytest.raises(ZeroDivisionError):
        for result in in_order(work, items(fail=7)):
            got.append(result)
    assert got == [n * n for n in range(7)] and len(closed) == 2
    made.clear()
    running = in_order(lambda number: number, items())
    assert next(running) == 0 and len(made) <= thread_count(None) + 3
    running.close()
    assert len(closed) == 3


# Compressed text.


def packed(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    if path.suffix == ".zst":
        data = pytest.importorskip("zstandard").ZstdCompressor().compress(data)
    elif path.suffix == ".bz2":
        data = bz2.compress(data)
    elif path.suffix == ".gz":
        data = gzip.compress(data)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("end", ["gz", "zst", "bz2"])
def test_compressed_csv(tmp_path, end):
    X = matrix(5000, 4, "f8")
    text = "a,b,c,d\n" + "\n".join(",".join(map(repr, row)) for row in X.tolist())
    path = packed(tmp_path / f"x.csv.{end}", text)
    expect(open_source(path), X, rows=999)
    np.testing.assert_array_equal(rows_of(open_source(path), 4321, 999)[0], X[4321:])
    whole = path.read_bytes()
    # Two streams one after the other are one text, as gzip, zstd and bzip2 themselves have it.
    packed(path, text + "\n")
    path.write_bytes(path.read_bytes() + packed(tmp_path / f"y.csv.{end}", text[8:]).read_bytes())
    expect(open_source(path), np.concatenate([X, X]))
    for size in (len(whole) - 1, len(whole) - 9, len(whole) // 2, 20):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=rf"x\.csv\.{end}: damaged or truncated"):
            drain(open_source(path))
    path.write_bytes(text.encode())
    with pytest.raises(DataError, match=rf"x\.csv\.{end}: not .*-compressed, as its extension says"):
        open_source(path)


# Separators, kept columns and spellings in CSV.


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " ", "   "])
@pytest.mark.parametrize("header", ["a b", ""])
def test_separators(tmp_path, separator, header):
    X = matrix(50, 2, "f8")
    lines = [separator.join(map(repr, row)) for row in X.tolist()]
    if separator == "   ":
        lines = [f"  {line} " for line in lines]
    expect(open_source(save_text(tmp_path / "x.csv", "\n".join(([header.replace(" ", separator)] if header else []) + lines))), X)


def test_kept_columns_of_csv(tmp_path):
    """Every cell as it was written: integers that int64 gives back, all others as text."""
    cells = {
        "int": ["1", "-5", "0", str(2**63 - 1), str(-(2**63))],
        "zeros": ["1", "007", "2", "3", "4"],
        "plus": ["1", "+1", "2", "-0", "3"],
        "wide": [str(2**63), "1", "2", "3", "4"],
        "text": ["", "NA", '"a,""b"', "ä", " x "],
        "float": ["1.0", "1e3", "nan", "", "2"],
    }
    rows = enumerate(zip(*cells.values(), strict=True))
    text = "x," + ",".join(cells) + "\n" + "".join(f"{i}," + ",".join(row) + "\n" for i, row in rows)
    with open_source(save_text(tmp_path / "x.csv", text), columns="x", keep=",".join(cells)) as source:
        values, _, kept = rows_of(source)
    assert values.ravel().tolist() == [0, 1, 2, 3, 4]
    assert kept["int"].dtype == "i8" and kept["int"].tolist() == [int(cell) for cell in cells["int"]]
    assert kept["text"].tolist() == ["", "NA", 'a,"b', "ä", " x "]
    for name in ("zeros", "plus", "wide", "float"):
        assert kept[name].dtype == object and kept[name].tolist() == cells[name]


def test_kept_column_that_turns_to_text_far_into_the_file(tmp_path):
    cells = [str(i) for i in range(200_000)]
    cells[150_000] = "x1"
    source = open_source(save_text(tmp_path / "x.csv", "a,b\n" + "".join(f"{i},{c}\n" for i, c in enumerate(cells))), keep="b")
    blocks = list(source.blocks(10**6))
    assert {block.kept["b"].dtype for block in blocks} == {np.dtype("i8"), np.dtype(object)}
    assert np.concatenate([as_text(block.kept["b"]) for block in blocks]).tolist() == cells


def test_kept_and_a_feature(tmp_path):
    path = save_text(tmp_path / "x.csv", "a,b\n1,02\n3,04\n")
    values, _, kept = rows_of(open_source(path, columns="b,a", keep="b"))
    assert values.tolist() == [[2, 1], [4, 3]] and kept["b"].tolist() == ["02", "04"]


def test_text_columns_left_out(tmp_path):
    path = save_text(tmp_path / "x.csv", "a,t,b\n1,x,2\n3,y,4\n")
    assert rows_of(open_source(path, columns="a,b"))[0].tolist() == [[1, 2], [3, 4]]


NANS = ["NaN", "nan", "NAN", "NA", "N/A", "n/a", "null", "NULL", "None", "<NA>", "#N/A", "-nan", "-NaN", "", " NA ", '""']


@pytest.mark.parametrize("text", NANS)
def test_spellings_of_nan(tmp_path, text):
    for line in (f"1,{text}", f"{text},1"):
        for rest in ("2,3\n4,5", ""):
            values = rows_of(open_source(save_text(tmp_path / "x.csv", f"a,b\n{line}\n{rest}\n")))[0]
            assert np.isnan(values[0]).sum() == 1 and not np.isnan(values[1:]).any()
    with pytest.raises(DataError, match=r"x\.csv: row 2 \(line 3\), column 'b': the value is nan, or missing: "):
        compress(save_text(tmp_path / "x.csv", f"a,b\n1,2\n3,{text}\n"), path=tmp_path / "y.zipml.h5")


@pytest.mark.parametrize("text", ["inf", "-inf", "Inf", "+Infinity", "INF", "1e999"])
def test_spellings_of_infinity(tmp_path, text):
    assert np.isinf(rows_of(open_source(save_text(tmp_path / "x.csv", f"a,b\n1,{text}\n")))[0][0, 1])


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (lambda: gzip.compress(b"1,2\n"), "x.csv", "gzip-compressed, not what .csv says; rename it to end in .gz"),
        (lambda: bz2.compress(b"1,2\n"), "x.svm", "bzip2-compressed, not what .svm says"),
        (lambda: parquet_bytes(), "x.csv", "a Parquet file, not what .csv says; rename it to end in .parquet"),
        (lambda: parquet_bytes(), "x.npy", "a Parquet file, not what .npy says"),
        (lambda: npy_bytes(), "x.csv", "a NumPy array, not what .csv says; rename it to end in .npy"),
        (lambda: npy_bytes(), "x.h5", "a NumPy array, not what .h5 says"),
        (lambda: b"PK\3\4" + bytes(99), "x.csv", "a zip archive, as .npz and Excel workbooks are, not what .csv says"),
        (lambda: "a,b\n1,2\n".encode("utf-16"), "x.csv", "UTF-16 text; save it as UTF-8"),
        (lambda: "a,b\n1,2\n".encode("utf-16-le"), "x.csv", "not text, it holds NUL bytes; UTF-16 is not read, save it as UTF-8"),
        (lambda: b"1,2\n", "x.parquet", "not the format that its extension says"),
        (lambda: b"1,2\n", "x.feather", "not the format that its extension says"),
        (lambda: b"1,2\n", "x.zarr.zip", "a zip archive without a Zarr array"),
        (lambda: b"", "x.parquet", r"the file is empty \(0 bytes\)"),
        (lambda: b"", "x.svm.gz", r"the file is empty \(0 bytes\)"),
        (lambda: gzip.compress(b""), "x.csv.gz", "no rows, only blank lines"),
    ],
)
def test_wrong_extension(tmp_path, content, name, message):
    (tmp_path / name).write_bytes(content())
    with pytest.raises(DataError, match=f"{name}: .*{message}"):
        open_source(tmp_path / name)


def parquet_bytes():
    out = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"a": [1.0]}), out)
    return out.getvalue()


def npy_bytes():
    out = io.BytesIO()
    np.save(out, matrix())
    return out.getvalue()


def test_duplicate_names_in_parquet(tmp_path):
    write(tmp_path / "x.parquet", pa.Table.from_arrays([pa.array([1.0])] * 2, names=["a", "a"]))
    with pytest.raises(DataError, match=r"x\.parquet: columns with index 0 and 1 have the same name 'a'"):
        open_source(tmp_path / "x.parquet")


def test_quoted_cells(tmp_path):
    text = '"a","b, c"\r\n"1","2.5"\r\n"-3",""\r\n'
    source = open_source(save_text(tmp_path / "x.csv", text))
    assert source.columns == ("a", "b, c")
    expect(source, np.array([[1, 2.5], [-3, np.nan]]))
    source = open_source(tmp_path / "x.csv", keep="b, c")
    assert rows_of(source)[2]["b, c"].tolist() == ["2.5", ""]
    for before in (0, 100_000, 131_070):  # the quoted cell within a chunk of text, and over its end
        text = "a,b\n" + "1,22\n" * before + '1,2\n1,"x\n2,y"\n' + "1,2\n" * 200_000
        where = rf"x\.csv: row {before + 2} \(line {before + 3}\)"
        with pytest.raises(DataError, match=f"{where}: cannot be split into cells: .*; a row is one line"):
            drain(open_source(save_text(tmp_path / "x.csv", text), columns="a", keep="b"))
    text = 'a,b\n1,5" pipe\n2,3"\n3,"6"" pipe"\n'
    assert rows_of(open_source(save_text(tmp_path / "x.csv", text), keep="b"))[2]["b"].tolist() == ['5" pipe', '3"', '6" pipe']


# libsvm.


def svm(X, y, base, ending="\n"):
    pairs = [[f"{j + base}:{v!r}" for j, v in enumerate(row) if v] for row in X.tolist()]
    return ending.join(" ".join([repr(float(t)), *row]) for row, t in zip(pairs, y, strict=True))


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("name", ["x.svm", "x.libsvm.gz", "x.svmlight.zst", "x.svm.bz2"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n# note 3:4\n\n"])
def test_libsvm(tmp_path, base, name, ending):
    datasets = pytest.importorskip("sklearn.datasets")
    rng = np.random.default_rng(7)
    X = np.where(rng.random((500, 9)) < 0.4, rng.normal(size=(500, 9)), 0)
    X[0], X[4], y = rng.normal(size=9), 0, rng.integers(-1, 2, 500)
    path = packed(tmp_path / name, svm(X, y, base, ending))
    expect(open_source(path), X, y, 77)
    theirs, their_y = datasets.load_svmlight_file(io.BytesIO(svm(X, y, base, ending).encode()))
    np.testing.assert_array_equal(theirs.toarray(), X)
    np.testing.assert_array_equal(their_y, y)
    source = open_source(path, columns="2,-1", keep=["0"])
    values, _, kept = rows_of(source, 123, 50)
    np.testing.assert_array_equal(values, X[123:, [2, 8]])
    np.testing.assert_array_equal(kept["0"], X[123:, 0])
    assert source.rows == 500 and source.bytes_read() == source.nbytes
    line = 4 if "note" in ending else 2
    assert source.place(1, 0).endswith(f"row 2 (line {line}), index {2 + base}")


def test_libsvm_qid(tmp_path):
    path = save_text(tmp_path / "x.svm", f"1 qid:3 1:2 2:5\n0 qid:{2**60 + 1} # none\n-1 qid:3 2:1 \n")
    values, labels, kept = rows_of(open_source(path, keep="qid"))
    assert values.tolist() == [[2, 5], [0, 0], [0, 1]] and labels.tolist() == [1, 0, -1]
    assert kept["qid"].tolist() == [3, 2**60 + 1, 3] and kept["qid"].dtype == "i8"
    assert rows_of(open_source(path))[2] == {}
    with pytest.raises(DataError, match=r"x\.svm: row 2 \(line 2\): 0 qid, and each line needs one"):
        open_source(save_text(tmp_path / "x.svm", "1 qid:3 1:2\n1 1:3\n"), keep="qid")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 1:2\n1 3:1 2:5\n", r"row 2 \(line 2\): index 2 comes after 3; indices must ascend"),
        ("# c\n1 1:2\n\n1 3:1 3:5\n", r"row 2 \(line 4\): index 3 comes twice"),
        ("1 1:2\nx 1:2\n", r"row 2 \(line 2\): the label 'x' is not a number"),
        ("1:2 2:3\n", r"row 1 \(line 1\): the label '1:2' is not a number; a line starts with its label"),
        ("1,2 1:3\n", r"the label '1,2' is not a number; several labels are not read"),
        ("1 1:2 5\n", "'5' is not index:value"),
        ("1 1:2:3\n", "'1:2:3' is not index:value"),
        ("1 1: 2\n", "'1:' is not index:value"),
        ("1 1::2\n", "'1::2' is not index:value"),
        ("1 -1:2\n", "'-1:2' is not index:value"),
        ("1 1.5:2\n", "'1.5:2' is not index:value"),
        ("1 1:a\n", "'1:a' is not index:value"),
        ("1 inf:2\n", "'inf:2' is not index:value"),
        ("1 nan:2 3:1\n", "'nan:2' is not index:value"),
        ("\x1c", r"row 1 \(line 1\): the label .* is not a number"),
        ("1 1:2 qid:3\n1 qid:x 2:3\n", r"row 2 \(line 2\): 'qid:x' is not index:value"),
        ("1\n2\n", "no features, no line has an index:value"),
        ("# 1\n\n", "no rows, only blank lines and comments"),
        ("1 1:2\n3 \xff\n".encode("latin-1"), r"row 2 \(line 2\): .* is not index:value"),
    ],
)
@pytest.mark.parametrize("rows_before", [0, 60_000])
def test_libsvm_errors(tmp_path, text, message, rows_before):
    if rows_before and message.startswith("no "):
        return
    text = text if isinstance(text, bytes) else text.encode()
    if rows_before:
        message = message.split("): ")[-1]
    with pytest.raises(DataError, match=rf"x\.svm: .*{message}"):
        open_source(save_text(tmp_path / "x.svm", b"1 1:0.25 7:1\n" * rows_before + text))
    with pytest.raises(OptionError, match="each line's first number is the label"):
        open_source(save_text(tmp_path / "x.svm", b"1 1:2\n"), label=0)


def test_libsvm_changed_between_passes(tmp_path):
    source = open_source(save_text(tmp_path / "x.svm", "1 1:2\n1 2:3\n"))
    for text in ("1 1:2\n", "1 1:2\n1 3:3\n", "1 1:2\n" * 3):
        save_text(tmp_path / "x.svm", text)
        with pytest.raises(DataError, match="the file was changed"):
            drain(source)


# Zarr.


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", ["x.zarr", "x.zarr.zip", "plain"])
@pytest.mark.parametrize("chunks", [(4, 2), (16, 5), (23, 5)])
def test_zarr(tmp_path, version, name, chunks):
    zarr = pytest.importorskip("zarr")
    X, y, ids = matrix(23, 5), np.arange(46.0).reshape(23, 2), np.arange(23, dtype="u8") + 2**63
    path = tmp_path / name
    store = zarr.storage.ZipStore(path, mode="w") if path.suffix == ".zip" else path
    group = zarr.create_group(store, zarr_format=version)
    for key, array, size in (("g/X", X, chunks), ("g/y", y, (5, 2)), ("ids", ids, (5,))):
        group.create_array(key, data=array, chunks=size)
    if path.suffix == ".zip":
        store.close()
    for rows in (1, 3, 9, 1000):
        expect(open_source(path, dataset="g/X"), X, rows=rows)
    source = open_source(path, dataset="g/X", label="y,-1", keep="ids")
    for start in (0, 5, 22):
        values, labels, kept = rows_of(source, start, 6)
        np.testing.assert_array_equal(values, X[start:, :-1])
        np.testing.assert_array_equal(labels, np.column_stack([y, X[:, -1]])[start:])
        assert kept["ids"].tolist() == ids[start:].tolist() and kept["ids"].dtype == "u8"
    assert source.place(4, 1) == f"{path}[g/X]: row 5, column index 1"
    assert source.identity() == open_source(path, dataset="g/X", label="y,-1", keep="ids").identity()
    with pytest.raises(DataError, match=r"several 2-D arrays, name one with dataset=; there are g/X \(23x5 float32\), g/y"):
        open_source(path)
    with pytest.raises(DataError, match="no array 'z'; the 2-D ones are g/X"):
        open_source(path, dataset="z")


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_array_alone(tmp_path, version):
    zarr = pytest.importorskip("zarr")
    X, path = matrix(30, 4), tmp_path / "x.zarr"
    zarr.create_array(path, data=X, chunks=(7, 4), zarr_format=version)
    expect(open_source(path), X)
    expect(open_source(path, label=1), np.delete(X, 1, axis=1), X[:, 1])
    expect(as_source(zarr.open(path, mode="r")), X)
    before = open_source(path).identity()
    chunk = next(file for file in path.rglob("*") if file.is_file() and "zarr" not in file.name and not file.name.startswith("."))
    chunk.write_bytes(b"damaged")
    assert open_source(path).identity() != before
    with pytest.raises(DataError, match=r"x\.zarr: not a Zarr array or group, or damaged"):
        drain(open_source(path))
    (path / ("zarr.json" if version == 3 else ".zarray")).write_text("{")
    with pytest.raises(DataError, match=r"x\.zarr: not a Zarr array or group, or damaged"):
        open_source(path)


def test_zarr_sharded(tmp_path):
    zarr = pytest.importorskip("zarr")
    X = matrix(100, 6)
    zarr.create_array(tmp_path / "x.zarr", data=X, chunks=(5, 3), shards=(20, 6))
    for rows in (3, 25, 1000):
        expect(open_source(tmp_path / "x.zarr"), X, rows=rows)


# Several files.


def parts(tmp_path, kind, edges=(0, 9, 10, 23), names=("part-1", "part-2", "part-10")):
    data = table()[0]
    for name, start, stop in zip(names, edges, edges[1:], strict=False):
        piece = data.slice(start, stop - start).select(["f8", "f4", "i1", "big"])
        path = tmp_path / f"{name}{kind}"
        if kind == ".csv":
            path.write_text("f8,f4,i1,big\n" + "".join(",".join(map(repr, row.values())) + "\n" for row in piece.to_pylist()))
        else:
            write(path, piece)
    return tmp_path


@pytest.mark.parametrize("kind", [".csv", ".parquet", ".feather"])
@pytest.mark.parametrize("how", ["folder", "pattern", "list"])
def test_several_files(tmp_path, kind, how):
    parts(tmp_path, kind)
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / ".hidden").write_text("")
    columns = table()[1]
    names = [f"part-{number}{kind}" for number in (1, 2, 10)]
    paths = {"folder": tmp_path, "pattern": tmp_path / f"part-*{kind}", "list": [tmp_path / name for name in names]}
    source = as_source(paths[how], label="i1", keep="big")
    X = np.column_stack([columns["f8"], columns["f4"].astype("f8")])
    assert source.rows == (None if kind == ".csv" else 23) and source.columns == ("f8", "f4")
    for _ in range(2):
        for start in (0, 4, 9, 10, 22):
            values, labels, kept = rows_of(source, start, 4)
            np.testing.assert_array_equal(values, X[start:])
            assert labels.tolist() == columns["i1"][start:].tolist() and kept["big"].tolist() == columns["big"][start:].tolist()
            assert list(source.blocks(5, 23)) == []
    assert source.rows == 23 and source.nbytes == sum(file.stat().st_size for file in tmp_path.glob("part*"))
    for row, name, at in ((8, "part-1", 9), (9, "part-2", 1), (22, "part-10", 13)):
        assert source.place(row, 0).startswith(f"{tmp_path / name}{kind}: row {at}")
    assert [os.path.basename(part["files"][0][0]) for part in source.identity()["parts"]] == names


def test_several_matrices(tmp_path):
    zarr = pytest.importorskip("zarr")
    X = matrix(40)
    (tmp_path / "sub").mkdir()
    np.save(tmp_path / "a.npy", X[:10])
    np.savez(tmp_path / "b.npz", X[10:20])
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["X"] = X[20:30]
    zarr.create_array(tmp_path / "sub" / "d.zarr", data=X[30:])
    expect(open_source(tmp_path), X, rows=3)
    with compress(tmp_path, path=tmp_path.parent / "out.zipml.h5") as data:
        assert data.shape == X.shape


def test_several_libsvm_files_agree_on_their_indices(tmp_path):
    save_text(tmp_path / "1.svm", "1 1:5\n")
    save_text(tmp_path / "2.svm.gz", "2 3:7\n")
    expect(open_source(tmp_path), np.array([[5.0, 0, 0], [0, 0, 7]]), [1, 2])
    save_text(tmp_path / "3.svm", "3 0:1\n")
    expect(open_source(tmp_path), np.array([[0, 5.0, 0, 0], [0, 0, 0, 7], [1, 0, 0, 0]]), [1, 2, 3])


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("a,b\n1,2\n", "a,c\n1,2\n", r"2\.csv: column 1 is 'c', in .*1\.csv it is 'b'; files that are read together have"),
        ("a,b\n1,2\n", "b,a\n1,2\n", r"2\.csv: column 0 is 'b', in .*1\.csv it is 'a'"),
        ("a,b\n1,2\n", "1,2\n", r"2\.csv: its columns have no names, in .*1\.csv they have names"),
        ("1,2\n", "a,b\n1,2\n", r"2\.csv: its columns have names, in .*1\.csv they have no names"),
        ("1,2\n", "1,2,3\n", r"2\.csv: 3 features, .*1\.csv has 2"),
        ("a,b\n1,2\n", "a,b\n1,x\n", r"2\.csv: row 1 \(line 2\), column 'b': 'x' is not a number"),
        ("a,b\n1,2\n", "", r"2\.csv: the file is empty"),
        ("a,b\n1,2\n", "a,b\n", r"2\.csv: no rows, there is only a header"),
    ],
)
def test_files_that_differ(tmp_path, first, second, message):
    save_text(tmp_path / "1.csv", first)
    save_text(tmp_path / "2.csv", second)
    with pytest.raises(DataError, match=message):
        drain(open_source(tmp_path))


def test_folders_that_are_mixed(tmp_path):
    with pytest.raises(SourceError, match="no files, or only hidden ones"):
        open_source(tmp_path)
    with pytest.raises(SourceError, match=r"\*\.csv: no files"):
        open_source(tmp_path / "*.csv")
    save_text(tmp_path / "1.csv", "1,2\n")
    save_text(tmp_path / "readme.md", "hello")
    with pytest.raises(SourceError, match=r"readme\.md: a file that is not read beside \.csv; .* by a pattern such as '\*\.csv'"):
        open_source(tmp_path)
    expect(open_source(tmp_path / "*.csv"), np.array([[1.0, 2]]))
    expect(open_source([tmp_path / "*.csv", tmp_path / "1.csv"]), np.array([[1.0, 2], [1, 2]]))
    with pytest.raises(OptionError, match="no files to read"):
        open_source([])
    write(tmp_path / "2.parquet", pa.table({"k": pa.array([1, 2], pa.int32()), "x": [1.0, 2]}))
    write(tmp_path / "3.parquet", pa.table({"k": pa.array([1, 2], pa.float32()), "x": [1.0, 2]}))
    with pytest.raises(DataError, match=r"3\.parquet: column 'k' is kept as float32, in .*2\.parquet it is int32; cast one"):
        drain(open_source(tmp_path / "*.parquet", keep="k"))


# Rows beyond 2^31, simulated.


class _Huge:
    """A dataset of 2^31 + 5 rows of which each is computed when it is sliced."""

    shape, dtype = (2**31 + 5, 2), np.dtype("f4")

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        numbers = np.arange(rows.start, min(rows.stop, len(self)), dtype="i8")
        return np.stack([numbers % 1000, numbers // 2**20], axis=1).astype("f4")


def test_more_rows_than_int32(tmp_path):
    source = as_source(_Huge(), label=0)
    assert source.rows == 2**31 + 5
    values, labels, _ = rows_of(source, 2**31 - 3)
    assert values[:, 0].tolist() == [2047] * 3 + [2048] * 5 and labels.tolist() == [(2**31 - 3 + i) % 1000 for i in range(8)]
    assert source.place(2**31 + 2, 0) == "X: row 2147483651, column index 1"
    # A file with holes, read where they end.
    path, rows = tmp_path / "x.npy", 2**31 + 5
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (rows, 2)})
        start = file.tell()
        file.truncate(start + 2 * rows)
        file.seek(start + 2 * (2**31 + 1))
        file.write(bytes(range(8)))
    assert rows_of(open_source(path), 2**31 - 1)[0].tolist() == [[0, 0]] * 2 + [[0, 1], [2, 3], [4, 5], [6, 7]]
