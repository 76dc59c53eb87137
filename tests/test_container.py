"""The container: against a reader that is made from FORMAT.md alone, other HDF5 readers, damage."""

import itertools
import json
import os
import re
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pyfive
import pytest
import xxhash
import zstandard
from sealing import edited, outside, seal, unseal

from zipml_codec import Dataset, compress
from zipml_codec import open as open_file
from zipml_codec.errors import CorruptError, FormatError
from zipml_codec.formats import header
from zipml_codec.formats.arrays import array_source
from zipml_codec.formats.columns import Options

BITS = [(1, 1), (3, 2), (4, 2), (5, 3), (8, 1)]
NAMES = ["plain", "with,comma", "grüß \U0001f40d", "", 'quo"te']
assert hdf5plugin.FILTERS["zstd"] == 32015  # importing it lets h5py read zstd chunks


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 1 << 10)


def table(rows=700, features=5, seed=0):
    """Rows of one constant, one integer and some smooth columns, and labels."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, features)).astype(np.float32) * np.float32(3)
    X[:, 1::4] = np.float32(0.1)
    X[:, 2::4] = rng.integers(-3, 9, size=X[:, 2::4].shape)
    return X, rng.normal(size=rows).astype(np.float32)


# ---- A reader from FORMAT.md: NumPy, h5py and xxhash ----


def xxh3(array):
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(array).tobytes())


def read_attributes(file):
    names = ("rows", "features", "bits", "samples", "stride", "chunk_rows", "seed", "row_offset", "zstd")
    header = {name: int(file.attrs[name]) for name in names}
    header |= {name: str(file.attrs[name]) for name in ("level_kind", "rounding", "tool", "options")}
    assert set(file.attrs) == {*header, "format", "version", "xxh3"}
    assert file.attrs["format"] == "zipml" and file.attrs["version"] == 1
    assert all(file.attrs[name].dtype == np.uint64 and file.attrs[name].shape == () for name in (*names, "xxh3"))
    return header


def read_datasets(file, header):
    """All datasets but codes, their digests and the header's checked (section 4)."""
    K, n = header["rows"], header["features"]
    size, chunks = header["chunk_rows"], -(-K // header["chunk_rows"])
    data = {name: file[name][()] for name in file if name != "codes"}
    count, s = len(data["sample_rows"]), (2 ** header["bits"] - 1) // header["samples"]
    width = 2 if header["level_kind"] == "uniform" else s + 1
    shapes = dict.fromkeys(("low", "high"), ("<f4", (n,))) | dict.fromkeys(
        ("mean", "std", "noise", "error"), ("<f8", (n,))
    )
    shapes |= {
        "levels": ("<f4", (len(data["levels"]), width)),
        "digests": ("<u8", (chunks,)),
        "sample_rows": ("<i8", (count,)),
    }
    shapes["sample_values"] = ("<f4", (count, n))
    optional = {name: ("|u1", data[name].shape) for name in ("columns", "label_names", "kept_names") if name in data}
    rows = [name for name in ("labels", "exact") if name in data]
    rows += [f"kept_{number}" for number in range(len(names(data, "kept_names")))]
    if rows:
        optional["row_digests"] = ("<u8", (len(rows), chunks))
    if "labels" in data:
        optional["labels"] = ("<f4", (K, *data["labels"].shape[1:]))
        assert data["labels"].shape[1:] == () or data["labels"].shape[1] >= 2
    if "exact" in data:
        optional["exact"] = ("<f4", (K, n))
    for name in (name for name in rows if name not in optional):
        array = data[name]
        assert array.dtype.kind in "biufS"
        assert array.dtype.kind != "S" or h5py.check_string_dtype(array.dtype).encoding == "utf-8"
        optional[name] = (array.dtype.newbyteorder("<").str, (K,))
    shapes |= optional
    assert {*data} == {*shapes}
    digests = {}
    for name, array in data.items():
        assert (array.dtype.str, array.shape) == shapes[name], name
        assert file[name].chunks is None
        if name in rows:
            found = [xxh3(part) for part in np.split(array, range(size, K, size))]
            assert found == data["row_digests"][rows.index(name)].tolist()
            continue
        digests[name] = f"{xxh3(array):016x}"
        assert int(file[name].attrs["xxh3"]) == xxh3(array), name
    types = {name: data[name].dtype.str + "".join(f"*{size}" for size in data[name].shape[1:]) for name in rows}
    text = json.dumps({"digests": digests, "header": header, "row_arrays": types}, sort_keys=True, separators=(",", ":"))
    assert xxhash.xxh3_64_intdigest(text.encode("ascii")) == int(file.attrs["xxh3"])
    return data


def names(data, dataset):
    """Names of columns, labels or kept columns."""
    return json.loads(data[dataset].tobytes()) if dataset in data else []


def kept_columns(data):
    """Kept columns by name; text as str."""
    columns = {name: data[f"kept_{number}"] for number, name in enumerate(names(data, "kept_names"))}
    return {
        name: column if column.dtype.kind != "S" else np.array([text.decode() for text in column.tolist()], object)
        for name, column in columns.items()
    }


def read_codes(packed, header):
    n, b = header["features"], header["bits"]
    used = -(-n * b // 8)
    line = -(-used // 64) * 64
    assert header["stride"] == (line if 8 * (line - used) <= line else used)
    bits = np.unpackbits(packed, axis=1, bitorder="little")
    assert not bits[:, n * b :].any()
    return (bits[:, : n * b].reshape(len(packed), n, b) << np.arange(b, dtype=np.uint8)).sum(axis=2)


def decode(t, levels, header):
    k, s = header["samples"], (2 ** header["bits"] - 1) // header["samples"]
    levels = np.broadcast_to(levels, (header["features"], levels.shape[1]))
    if header["level_kind"] == "uniform":
        lo, hi = levels.T
        step = ((hi.astype(np.float64) - lo) / (s * k)).astype(np.float32)
        return np.where(t == s * k, hi, lo + t.astype(np.float32) * step)
    f, (i, up) = np.arange(header["features"]), np.divmod(t, k)
    below, above = (levels[f, np.minimum(i + j, s)].astype(np.float64) for j in (0, 1))
    return (below + up / k * (above - below)).astype(np.float32)


def read(path):
    """Header, datasets, codes and decoded rows of a file."""
    content, ranges, copy = unseal(path.read_bytes())
    assert seal(content, ranges, copy) == path.read_bytes()
    assert zstandard.ZstdDecompressor().decompress(copy) == outside(content, ranges)
    with h5py.File(path, "r") as file:
        header = read_attributes(file)
        data = read_datasets(file, header)
        codes = file["codes"]
        assert codes.dtype == np.uint8 and codes.shape == (header["rows"], header["stride"])
        assert codes.chunks == (header["chunk_rows"], header["stride"])
        filters = codes.id.get_create_plist()
        found = [filters.get_filter(i)[:3] for i in range(filters.get_nfilters())]
        assert found == ([(32015, 1, (header["zstd"],)), (3, 0, ())] if header["zstd"] else [])
        packed = codes[()]
        places = [(c.byte_offset, c.size) for c in map(codes.id.get_chunk_info, range(codes.id.get_num_chunks()))]
        arrays = [file[name] for name in file if name in ("labels", "exact", "sample_values") or re.fullmatch(r"kept_\d+", name)]
        places += [(array.id.get_offset(), array.nbytes) for array in arrays if array.size]
        covered, free = ({at for o, size in r for at in range(o, o + size)} for r in (ranges, places))
        assert covered == free and ranges == sorted(ranges)
    padded = np.zeros((len(data["digests"]) * header["chunk_rows"], header["stride"]), np.uint8)
    padded[: len(packed)] = packed
    assert [xxh3(chunk) for chunk in np.split(padded, len(data["digests"]))] == data["digests"].tolist()
    t = read_codes(packed, header)
    assert t.max() <= (2 ** header["bits"] - 1) // header["samples"] * header["samples"]
    return header, data, t, decode(t, data["levels"], header)


@pytest.mark.parametrize(("bits", "samples"), BITS)
@pytest.mark.parametrize("levels", ["optimal", "uniform"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("zstd", [None, 3])
def test_a_reader_from_the_specification(tmp_path, small_chunks, bits, samples, levels, shared, zstd):
    X, y = table()
    for labelled, named in itertools.product([False, True], repeat=2):
        source = array_source(X, y if labelled else None, "X", NAMES if named else None)
        path = tmp_path / f"{labelled}{named}.zipml.h5"
        with compress(
            source,
            path=path,
            bits=bits,
            samples=samples,
            levels=levels,
            shared_levels=shared,
            zstd=zstd,
            seed=2**64 - 1,
        ) as ours:
            header, data, t, values = read(path)
            np.testing.assert_array_equal(ours.codes(), t)
            np.testing.assert_array_equal(ours.decode(), values)
            assert (header["seed"], header["zstd"], header["level_kind"]) == (
                2**64 - 1,
                zstd or 0,
                "uniform" if levels == "uniform" else "table",
            )
            assert (
                len(data["levels"]) == (1 if shared else 5) and ours.chunks == len(data["digests"]) > 1
            ) or bits == 1
            assert (ours.columns, "columns" in data) == ((tuple(NAMES), True) if named else (None, False))
            assert ("labels" in data) == ours.has_labels == labelled
            if labelled:
                np.testing.assert_array_equal(data["labels"], y)
                np.testing.assert_array_equal(ours.labels, y)
            if named:
                assert json.loads(data["columns"].tobytes()) == NAMES
            for name in ("mean", "std", "noise", "error", "low", "high", "sample_rows", "sample_values"):
                np.testing.assert_array_equal(getattr(ours, name), data[name])
            np.testing.assert_array_equal(data["sample_values"], X[data["sample_rows"]])
            assert (np.diff(data["sample_rows"]) > 0).all()


def some_kept(rows=700):
    """A column of every type that is kept exactly, with its extremes."""
    rng = np.random.default_rng(5)
    columns = {}
    for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        about = np.iinfo(kind)
        columns[kind] = rng.integers(about.min, about.max, rows, kind, endpoint=True)
        columns[kind][:2] = about.min, about.max
    for kind in ("float16", "float32", "float64"):
        columns[kind] = rng.normal(size=rows).astype(kind)
        columns[kind][:4] = np.nan, -np.inf, -0.0, np.finfo(kind).smallest_subnormal
    columns["bool"] = rng.random(rows) < 0.5
    texts = ["", " ", "a", "\U0001f40d" * 9, "line\nbreak", 'quo"te,', "e\u0301", "\ufeffx", "x" * 300]
    columns["text / of.all %kinds\0"] = np.array([texts[i % len(texts)] for i in range(rows)], object)
    columns[""] = np.array([f"U {i}" for i in range(rows)])
    return columns


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("zstd", [None, 3])
def test_labels_and_kept_columns_as_specified(tmp_path, small_chunks, count, zstd):
    X, _ = table()
    y = np.random.default_rng(1).normal(size=(700, count)).astype(np.float32)
    kept, path = some_kept(), tmp_path / "f.zipml.h5"
    with compress(X, y, path=path, keep=kept, zstd=zstd, keep_exact=count == 3) as ours:
        _, data, _, values = read(path)
        assert ("exact" in data) == ours.has_exact_copy == (count == 3)
        if ours.has_exact_copy:
            assert data["exact"].tobytes() == ours.exact_rows().tobytes() == X.tobytes()
        np.testing.assert_array_equal(ours.decode(), values)
        np.testing.assert_array_equal(data["labels"], y[:, 0] if count == 1 else y)
        np.testing.assert_array_equal(ours.labels, data["labels"])
        columns = kept_columns(data)
        assert list(columns) == list(ours.kept) == list(kept)
        for name, wanted in kept.items():
            for found in (columns[name], ours.kept[name]):
                assert found.dtype == (wanted.dtype if wanted.dtype.kind != "U" else object)
                assert found.tolist() == wanted.tolist() or found.tobytes() == wanted.tobytes(), name
        with pyfive.File(path) as other:
            np.testing.assert_array_equal(other["labels"][:], data["labels"])
            for number, name in enumerate(kept):
                wanted = data[f"kept_{number}"]
                assert other[f"kept_{number}"][:].astype(wanted.dtype).tobytes() == wanted.tobytes(), name


def test_nearest_rounding_is_said(tmp_path):
    compress(table()[0], path=tmp_path / "f", samples=1, rounding="nearest", levels="uniform").close()
    header, data, _, values = read(tmp_path / "f")
    assert header["rounding"] == "nearest" and not data["noise"].any()
    step = (data["high"].astype(np.float64) - data["low"]) / 15
    assert (np.abs(values - table()[0]) <= step * (0.5 + 1e-5) + 1e-7).all()


OTHERS = {
    "id": np.arange(2**53, 2**53 + 700),
    "flag": np.arange(700) % 3 == 0,
    "half": np.arange(700, dtype=np.float16) / 8,
    "text": np.array([f"row {number} ü" for number in range(700)]),
}


@pytest.mark.parametrize("zstd", [None, 5])
@pytest.mark.parametrize("labels", [1, 3])
def test_other_readers(tmp_path, small_chunks, zstd, labels):
    """Every row, label and kept column by plain h5py, with its public plugin where chunks are compressed, and by pyfive."""
    path = tmp_path / "f.zipml.h5"
    X, y = table()
    y = y if labels == 1 else np.stack([y, y + 1, -y], axis=1)
    with compress(X, y, path=path, zstd=zstd, keep=OTHERS) as ours:
        packed = ours.packed()
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["codes"][()], packed)
        np.testing.assert_array_equal(file["codes"][5:600:7], packed[5:600:7])
        np.testing.assert_array_equal(file["labels"][()], y)
        names = json.loads(file["kept_names"][()].tobytes())
        for number, name in enumerate(names):
            column = file[f"kept_{number}"]
            column = column.asstr()[()] if name == "text" else column[()]
            np.testing.assert_array_equal(column, OTHERS[name])
            assert name == "text" or column.dtype == OTHERS[name].dtype
    if zstd is None:
        with pyfive.File(path) as other:
            np.testing.assert_array_equal(other["codes"][:], packed)
            np.testing.assert_array_equal(other["labels"][:], y)
            assert other.attrs["rows"] == 700 and other.attrs["format"] in ("zipml", b"zipml")
            for number, name in enumerate(names):
                column = other[f"kept_{number}"][:]
                if name == "text":
                    column = np.char.decode(np.asarray(column).astype("S"), "utf-8")
                np.testing.assert_array_equal(column, OTHERS[name])


@pytest.mark.parametrize("zstd", [None, 1])
def test_large_chunks_are_page_aligned(tmp_path, monkeypatch, zstd):
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 1 << 18)
    X = np.random.default_rng(0).random((9000, 250), np.float32)
    compress(X, np.zeros(9000), path=tmp_path / "f", zstd=zstd).close()
    with h5py.File(tmp_path / "f") as file:
        chunks = [file["codes"].id.get_chunk_info(i) for i in range(file["codes"].id.get_num_chunks())]
    assert len(chunks) > 3
    assert all(chunk.byte_offset % 4096 == 0 for chunk in chunks)


@pytest.mark.parametrize(
    ("rows", "features", "bits"),
    [
        (1, 1, 4),
        (100, 10, 4),
        (5000, 37, 3),
        (20_000, 130, 2),
        (12_000, 1000, 4),
        pytest.param(100_000, 1000, 4, marks=pytest.mark.slow),
    ],
)
def test_codes_take_their_bits(tmp_path, rows, features, bits):
    """3 % + 64 KiB beyond the rows' bytes (where a row is padded to whole lines, those lines); labels are part of it."""
    block = np.random.default_rng(0).normal(size=(1000, features)).astype(np.float32)
    blocks = [(block[: rows - start], block[: rows - start, 0]) for start in range(0, rows, 1000)]
    with compress(blocks, path=tmp_path / "f", bits=bits, samples=1) as data:
        used = -(-features * bits // 8)
        line = -(-used // 64) * 64
        stride = line if 8 * (line - used) <= line else used
        assert data.shape == (rows, features) and data.stride == stride
        size = (tmp_path / "f").stat().st_size
        assert size == data.file_bytes
        assert size <= 1.03 * rows * stride + 65536 + (4 * rows if features < 500 else 0)


# ---- Damage ----


def labelled_source():
    """Rows with two labels and two kept columns, all of them named."""
    X, y = table()
    keep = {"id": np.arange(700) + 2**40, "text": np.array([f"row {row}" for row in range(700)], object)}
    source = array_source(X, np.stack([y, -y], axis=1), "X", NAMES, Options(keep=keep))
    source.label_names = ("y", "minus y")
    return source


NAMED = ["codes", "labels", "levels", "digests", "noise", "mean", "error", "columns", "label_names", "kept_names"]


@pytest.mark.parametrize("zstd", [None, 3])
@pytest.mark.parametrize("name", [*NAMED, "kept_0", "kept_1"])
def test_every_dataset_has_a_digest(tmp_path, small_chunks, name, zstd):
    path = tmp_path / "f"
    compress(labelled_source(), path=path, zstd=zstd).close()
    with h5py.File(path) as file:
        where = file[name].id.get_chunk_info(1).byte_offset if name == "codes" else file[name].id.get_offset()
    content, ranges, _ = unseal(path.read_bytes())
    for bit in range(32):
        changed = bytearray(content)
        changed[where + bit // 8] ^= 1 << bit % 8
        path.write_bytes(seal(bytes(changed), ranges))
        with pytest.raises(CorruptError, match=re.escape(str(path))) as caught, open_file(path) as data:
            data.verify()
        assert ("chunk 1" if name == "codes" else name) in str(caught.value)


HEADER = "rows bits samples stride chunk_rows seed row_offset zstd rounding level_kind tool options"


@pytest.mark.parametrize("name", HEADER.split())
def test_the_header_has_a_digest(tmp_path, name):
    compress(*table(), path=tmp_path / "f").close()
    with edited(tmp_path / "f") as file:
        value = file.attrs[name]
        file.attrs[name] = value + "x" if isinstance(value, str) else value + np.uint64(1)
    with pytest.raises(CorruptError, match=re.escape(str(tmp_path / "f"))):
        open_file(tmp_path / "f")


def test_text_that_is_not_utf8_is_told(tmp_path):
    path = tmp_path / "f"
    compress(*table(), path=path, keep={"t": np.array(["ü"] * 700)}).close()
    content, ranges, _ = unseal(path.read_bytes())
    with h5py.File(path) as file:
        digests = file["row_digests"].id.get_offset()
        place, size = file["kept_0"].id.get_offset(), file["kept_0"].id.get_storage_size()
    changed = bytearray(content)
    changed[place] = 0x80
    changed[digests + 8 : digests + 16] = xxhash.xxh3_64_intdigest(changed[place : place + size]).to_bytes(8, "little")
    path.write_bytes(seal(bytes(changed), ranges))
    with edited(path) as file:  # put right, digest after digest
        digest = xxh3(file["row_digests"][()])
        file["row_digests"].attrs.modify("xxh3", np.uint64(digest))
        header = {name: value for name, value in file.attrs.items() if name not in ("format", "version", "xxh3")}
        header = {name: value if isinstance(value, str) else int(value) for name, value in header.items()}
        digests = {name: f"{int(file[name].attrs['xxh3']):016x}" for name in file if "xxh3" in file[name].attrs}
        rows = {"labels": "<f4", "kept_0": "|S2"}
        text = json.dumps({"digests": digests, "header": header, "row_arrays": rows}, sort_keys=True, separators=(",", ":"))
        file.attrs.modify("xxh3", np.uint64(xxhash.xxh3_64_intdigest(text.encode("ascii"))))
    with open_file(path) as data:
        data.verify()
        with pytest.raises(CorruptError, match="'t' is not UTF-8"):
            data.kept["t"]


def test_a_file_changed_by_hdf5_is_refused(tmp_path):
    compress(*table(), path=tmp_path / "f").close()
    with h5py.File(tmp_path / "f", "r+") as file:
        file.attrs["note"] = "added"
    with pytest.raises(CorruptError, match="seal is missing"):
        open_file(tmp_path / "f")


def test_files_that_are_not_ours(tmp_path):
    path = tmp_path / "f"
    compress(*table(), path=path).close()
    with edited(path) as file:
        file.attrs["version"] = 2
    with pytest.raises(FormatError, match=r"version 2.*newer") as caught:
        open_file(path)
    assert not isinstance(caught.value, CorruptError)
    (tmp_path / "text").write_text("1,2,3\n" * 1000)
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    with h5py.File(tmp_path / "hdf5", "w") as file:
        file["codes"] = np.arange(10)
    for name in ("text", "empty", "folder", "hdf5", "missing"):
        told = {"folder": "is a folder", "missing": "no such file"}.get(name, "not a zipml file")
        with pytest.raises(FormatError, match=told) as caught:
            open_file(tmp_path / name)
        assert name in str(caught.value) and isinstance(caught.value, OSError)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc to count open files in")
def test_a_file_that_is_not_ours_is_closed(tmp_path):
    (tmp_path / "text").write_text("1,2,3\n" * 1000)
    with h5py.File(tmp_path / "hdf5", "w") as file:
        file["codes"] = np.arange(10)
    count, kept = len(os.listdir("/proc/self/fd")), []
    for name in ("text", "hdf5"):
        with pytest.raises(FormatError) as caught:
            open_file(tmp_path / name)
        kept.append(caught.value)  # and with it the frames that opened the file
    assert len(os.listdir("/proc/self/fd")) == count


def test_a_dataset_without_locks(tmp_path):
    compress(*table(), path=tmp_path / "f").close()
    with Dataset(Path(tmp_path / "f"), locking=False) as data:
        data.verify()
        assert data.decode().shape == (700, 5)


def test_chunks_of_large_files_follow_one_another(tmp_path, monkeypatch):
    """HDF5 would put its index between them, beyond 64, and rows could not be mapped: training copied them, many times slower."""
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 1 << 16)
    X = np.arange(260 * 1024, dtype=np.float32)[:, None] % 200 + np.zeros(64, np.float32)
    data = compress(X, path=tmp_path / "f", bits=8, samples=1, levels="uniform")
    mapped = data.map_rows()
    assert data.chunks > 100 and mapped is not None
    np.testing.assert_array_equal(mapped[: len(X)], data.packed())
    data.verify()


@pytest.mark.parametrize(("features", "layout"), [(200, "rows"), (200, "weave"), (331, "rows")])
def test_large_files_can_be_mapped_whatever_the_features(tmp_path, features, layout):
    """Chunks of whole pages, where that costs at most a 32nd; else they begin at pages, with gaps between them."""
    rows = 20_000_000 // features
    X = np.arange(rows, dtype=np.float32)[:, None] % 7 + np.zeros(features, np.float32)
    data = compress(X, path=tmp_path / "f", bits=8, samples=1, levels="uniform", layout=layout)
    assert data.chunks > 1 and data._file.stored.chunk_bytes % 4096 == 0
    assert (np.diff(data._file.table[:, 0]) == data._file.stored.chunk_bytes).all()
    assert data.chunks * data.chunk_rows - rows <= rows // 32


def test_chunks_of_files_beyond_64_mib_are_whole_pages():
    for features, bits in itertools.product([*range(1, 600), *range(600, 5000, 37)], range(1, 9)):
        for layout in ("rows", "weave") if bits in (4, 8) else ("rows",):  # others: where they do not fill pages too soon
            size = header.disk_row(features, bits, layout)
            rows = -(-(2**26) // size) + features % 1000
            chunk = header.chunk_rows_for(rows, size)
            assert chunk * size % 4096 == 0 and 2**20 <= chunk * size <= 2**22 and -rows % chunk <= rows // 32


def test_rows_of_a_chunk_are_those_of_the_specification():
    def specified(K, size):
        most = max(1, 2**21 // size)
        even = -(-K // -(-K // most))
        R = even if even < 256 else min(-(-even // 16) * 16, K)
        unit = max(16, 4096 // int(np.gcd(4096, size)))
        fit = [at for at in range(unit, 2 * most + 1, unit) if 2 * at >= most and at < K and -K % at <= K // 32]
        if R * size < 2**16 or R * size % 4096 == 0 or R == K or not fit:
            return R
        return min((abs(at - R), at) for at in fit)[1]

    rng = np.random.default_rng(0)
    for K, size in zip(10 ** rng.uniform(0, 9, 1000), 2 ** rng.uniform(0, 23, 1000), strict=True):
        assert header.chunk_rows_for(int(K), int(size)) == specified(int(K), int(size))
