"""Reading text and Parquet into float32 blocks beside pyarrow's own reading of the same file, from the page cache.

512 MB of text (ZIPML_BENCH_TEXT_MB) of 1, 50 and 1,000 columns, a quarter of it gzipped, half of its values in Parquet;
libsvm beside scikit-learn's reader on a part. The issue's aim is to take at most 1.3 times pyarrow's time: 0.77 in the table.
"""

import os

import numpy as np
import pytest

from zipml_codec.formats.readers import open_source
from zipml_codec.rows import block_rows

pa = pytest.importorskip("pyarrow")
import pyarrow.csv  # noqa: E402
import pyarrow.parquet  # noqa: E402

MB = int(os.environ.get("ZIPML_BENCH_TEXT_MB", "512"))
CELL = 8.3  # bytes of text a value


def make(cols, values):
    """A table of normal values with four decimals."""
    generator = np.random.Generator(np.random.SFC64(0))
    rows = max(1, int(values // cols))
    return pa.table({f"c{i}": np.round(generator.standard_normal(rows) * 50, 4) for i in range(cols)})


def read(path):
    """Every row of a source as float32: as it comes, or in a buffer of a block."""
    with open_source(path) as source:
        size, count = block_rows(source.features), 0
        buffer = np.empty((size, source.features), np.float32)
        for block in source.blocks(size):
            if block.values.dtype != np.float32 or not block.values.flags.c_contiguous:
                np.copyto(buffer[: len(block.values)], block.values, casting="unsafe")
            count += block.values.size
    return count


@pytest.mark.parametrize("packed", ["", ".gz"], ids=["plain", "gz"])
@pytest.mark.parametrize("cols", [1, 50, 1000])
def test_csv(measure, tmp_path, cols, packed):
    data = make(cols, MB * 1e6 / CELL / (4 if packed else 1))
    path = tmp_path / f"x.csv{packed}"
    with pa.OSFile(str(path), "wb") as raw:
        if packed:
            with pa.CompressedOutputStream(raw, "gzip") as out:
                pyarrow.csv.write_csv(data, out)
        else:
            pyarrow.csv.write_csv(data, raw)
    values = data.num_rows * data.num_columns
    del data

    def streamed():
        return sum(batch.num_rows for batch in pyarrow.csv.open_csv(path)) * cols

    got = measure(
        f"CSV{packed}, {cols} columns",
        lambda: read(path),
        values=values,
        nbytes=path.stat().st_size,
        unit="file",
        peers={"pyarrow read_csv": (lambda: pyarrow.csv.read_csv(path).num_rows, values), "open_csv": (streamed, values)},
    )
    assert got == values
    path.unlink()


@pytest.mark.parametrize("codec", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("cols", [1, 50, 1000])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_parquet(measure, tmp_path, cols, codec, kind):
    data = make(cols, MB * 1e6 / CELL / 2)
    data = data.cast(pa.schema([(name, getattr(pa, kind)()) for name in data.column_names]))
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(data, path, compression=codec, use_dictionary=False)
    values = data.num_rows * data.num_columns
    del data

    def batches():
        with pyarrow.parquet.ParquetFile(path) as file:
            return sum(batch.num_rows for batch in file.iter_batches(block_rows(cols))) * cols

    got = measure(
        f"Parquet {codec} {kind}, {cols} columns",
        lambda: read(path),
        values=values,
        nbytes=path.stat().st_size,
        unit="file",
        peers={
            "pyarrow iter_batches": (batches, values),
            "read_table": (lambda: pyarrow.parquet.read_table(path).num_rows, values),
        },
    )
    assert got == values
    path.unlink()


def test_libsvm(measure, tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    generator = np.random.Generator(np.random.SFC64(0))
    rows, features, filled = MB * 60, 1000, 30
    path, part = tmp_path / "x.svm", tmp_path / "part.svm"
    with path.open("w") as file, part.open("w") as small:
        for start in range(0, rows, 1000):
            step = features // filled
            where = generator.integers(0, step, (1000, filled)) + np.arange(filled) * step + 1
            numbers = np.round(generator.standard_normal((1000, filled)), 4)
            lines = ["1 " + " ".join(map("%d:%g".__mod__, zip(*row, strict=True))) for row in zip(where, numbers, strict=True)]
            text = "\n".join(lines) + "\n"
            file.write(text)
            if start < rows // 10:
                small.write(text)
    values = rows * filled

    def theirs():
        return datasets.load_svmlight_file(str(part))[0].shape[0]

    part_rows = -(-rows // 10 // 1000) * 1000
    got = measure(
        f"libsvm, {features} columns, {filled} of them in a row",
        lambda: read(path),
        values=values,
        nbytes=path.stat().st_size,
        unit="file",
        peers={"scikit-learn": (theirs, part_rows * filled)},
    )
    assert got > 0
    path.unlink()
    part.unlink()
