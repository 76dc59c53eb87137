"""Damage of every kind, before a file is opened and under a reader: an error that names the file, or the same data."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sealing import unseal

import zipml_codec as zipml
from zipml_codec.errors import CorruptError, FormatError, ZipMLError
from zipml_codec.formats.arrays import array_source
from zipml_codec.formats.columns import Options
from zipml_codec.kernels.mapping import Mapping

ROWS, NAMES = 700, ["plain", "with,comma", "grüß \U0001f40d", "", 'quo"te']


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 1 << 10)


def make(path, seed=0, rows=ROWS, keep=None, **options):
    """A file of one constant, one integer and some smooth columns, and labels; `keep`: and kept columns."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 5)).astype(np.float32) * np.float32(3)
    X[:, 1] = np.float32(0.1)
    X[:, 2] = rng.integers(-3, 9, size=rows)
    source = array_source(X, rng.normal(size=rows).astype(np.float32), "X", NAMES, Options(keep=keep))
    return zipml.compress(source, path=path, **options)


# argv: file, number of random bits, "bits" or "cuts", "all" or "train". One process for all of it, so that a crash shows as one,
# and a hang as its timeout.
DAMAGE = """
import json, os, sys
import numpy as np
import zipml_codec
from zipml_codec.errors import ZipMLError

path, count, kind, what = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
content = open(path, "rb").read()

def state():
    with zipml_codec.open(path) as data:
        if what == "train":
            model = zipml_codec.train(data, epochs=1, threads=1, batch=64, test_fraction=0.1)
            return [model.coef.tobytes(), model.intercept]
        arrays = [data.decode(), data.labels, data.levels, data.noise, data.error, data.mean, data.std, data.low, data.high]
        arrays += [np.array(column.tolist()) for column in data.kept.values()]
        rest = repr((data.columns, list(data.kept), data.seed, data.row_offset, data.samples, data.options, data.rounding))
    return [array.tobytes() for array in (*arrays, data.sample_rows, data.sample_values)], rest

def verified():
    try:
        with zipml_codec.open(path) as data:
            data.verify()
        return True
    except ZipMLError as error:
        assert os.path.basename(path) in str(error), error
        assert "\\n" not in str(error), error
        return False

good = state()
seen = {"same": 0, "error": 0}
bits = np.random.default_rng(0).permutation(8 * len(content))[:count].tolist()
for at in bits if kind == "bits" else range(0, len(content), 512):
    print("at", at, flush=True)
    with open(path, "r+b") as file:
        if kind == "bits":
            file.seek(at // 8)
            file.write(bytes([content[at // 8] ^ 1 << at % 8]))
        else:
            file.truncate(at)
    assert not verified(), at
    try:
        assert state() == good, f"other data at {at}"
        seen["same"] += 1
    except ZipMLError as error:
        assert os.path.basename(path) in str(error), (at, error)
        assert "\\n" not in str(error), (at, error)
        seen["error"] += 1
    with open(path, "r+b") as file:
        file.write(content)
assert verified()
print(json.dumps(seen))
"""


def run(script, *args, timeout=500):
    command = [sys.executable, "-X", "faulthandler", "-c", script, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@pytest.mark.parametrize(
    ("kind", "count"),
    [("bits", 250), pytest.param("bits", 5000, marks=pytest.mark.slow), ("cuts", 0)],
    ids=["bits", "5000", "cuts"],
)
@pytest.mark.parametrize(
    "options", [{}, {"levels": "uniform", "zstd": 3}, {"layout": "weave", "bits": 5}], ids=["plain", "zstd", "weave"]
)
@pytest.mark.parametrize("what", ["all", "train"])
def test_damage_is_told_and_never_other_data(tmp_path, small_chunks, kind, count, options, what):
    """Every flipped bit is found by verify; reading and training fail, or give the same bits. Files that were cut off fail."""
    keep = {"id": np.arange(ROWS), "text": np.array([f"row {row}" for row in range(ROWS)])}  # training does not read them
    make(tmp_path / "some.zipml.h5", keep=keep if what == "all" else None, **options).close()
    size = (tmp_path / "some.zipml.h5").stat().st_size
    done = run(DAMAGE, tmp_path / "some.zipml.h5", count if what == "all" else min(count, 100), kind, what)
    assert done.returncode == 0, (done.returncode, done.stdout.splitlines()[-1:], done.stderr[-1500:])
    seen = json.loads(done.stdout.splitlines()[-1])
    if kind == "cuts":
        assert seen == {"same": 0, "error": -(-size // 512)}
    else:
        start, _, copied = ranges_of(tmp_path / "some.zipml.h5")
        flipped = np.random.default_rng(0).permutation(8 * size)[: seen["same"] + seen["error"]] // 8
        spare = np.count_nonzero((flipped >= start) & (flipped < start + copied))  # who reads needs no copy of the structure
        assert seen["same"] == spare


def ranges_of(path):
    content, ranges, copy = unseal(Path(path).read_bytes())
    return len(content), ranges, len(copy)


def test_verify_says_where(tmp_path, small_chunks):
    path = tmp_path / "f"
    data = make(path)
    content = path.read_bytes()
    size, _, copied = ranges_of(path)
    chunk, labels = data._file.table[1], data._file.rowwise["labels"].offset
    last = min(2 * data.chunk_rows, ROWS) - 1
    structure = content.index(b"sample_values") + 3
    for at, said in [
        (chunk[0] + 5, f"chunk 1 (rows {data.chunk_rows} to {last}, bytes {chunk[0]} to {chunk[0] + chunk[1] - 1})"),
        (labels + 9, f"'labels', rows 0 to {data.chunk_rows - 1} (bytes {labels} to {labels + 4 * data.chunk_rows - 1})"),
        (structure, f"first at byte {structure}"),
        (size + 5, f"bytes {size} to {size + copied - 1}"),
        (size + copied + 5, "seal"),
        (len(content) - 1, "seal"),
    ]:
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(CorruptError, match=re.escape(said)) as caught, zipml.open(path) as damaged:
            damaged.verify()
        assert str(path) in str(caught.value)


# ---- Changes under a reader ----


def overwritten(path, other):
    with path.open("r+b") as file:
        file.write(other.read_bytes())


def rewritten(path, other):
    path.write_bytes(other.read_bytes())


def cut_off(path, other):
    os.truncate(path, path.stat().st_size // 3)


def emptied(path, other):
    os.truncate(path, 0)


def replaced(path, other):
    shutil.copy(other, path.with_name("copy"))
    path.with_name("copy").replace(path)


def removed(path, other):
    path.unlink()


def touched(path, other):
    os.utime(path)


def chunk_swapped(path, other):
    """Two chunks change places: everything has its old size, and each is as it was written."""
    with zipml.open(path) as data:
        places = data._file.table[:2]
    (a, size, _), (b, _, _) = places.tolist()
    with path.open("r+b") as file:
        content = file.seek(a), file.read(size), file.seek(b), file.read(size)
        file.seek(a), file.write(content[3]), file.seek(b), file.write(content[1])


CHANGES = [overwritten, rewritten, cut_off, emptied, replaced, removed, touched, chunk_swapped]
SAFE = (replaced, removed, touched)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [{}, {"zstd": 3}, {"layout": "weave"}], ids=["plain", "zstd", "weave"])
@pytest.mark.parametrize("read", ["before", "after"])
def test_a_file_that_changes_under_a_reader(tmp_path, small_chunks, change, kind, read):
    """Old data or an error, also of chunks that were checked before. Who takes a file's name does not touch its readers."""
    path = tmp_path / "f.zipml.h5"
    make(tmp_path / "other", seed=1, **kind).close()
    few = [3, 0, 4]  # of the first chunk, whose bytes every change touches but those of a name
    ways = [lambda data: data.decode(), lambda data: data.decode(few), lambda data: data[2], lambda data: data.labels]
    ways += [lambda data: next(data.batches(ROWS)).X, lambda data: data._file.read_rows("labels", 1, 5)]
    make(tmp_path / "before", **kind).close()
    for way in ways:
        shutil.copy(tmp_path / "before", path)
        with zipml.open(path) as data:
            expected = way(data)
            if read == "after":
                data = zipml.open(path)
            change(path, tmp_path / "other")
            try:
                got = way(data)
                assert np.array_equal(got, expected)
            except CorruptError as error:
                assert change not in SAFE and str(path) in str(error)
            data.close()


@pytest.mark.parametrize("kind", [{}, {"layout": "weave", "bits": 4}], ids=["plain", "weave"])
@pytest.mark.parametrize("change", [overwritten, rewritten, cut_off, emptied, replaced, removed, chunk_swapped])
def test_a_mapped_file_that_changes_between_windows(tmp_path, monkeypatch, change, kind):
    """Training maps large files. Truncation under a mapping is SIGBUS to others; in place, it changes numbers silently."""
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 1 << 14)
    monkeypatch.setattr("zipml_codec.stream.KEPT_BYTES", 0)
    monkeypatch.setattr("zipml_codec.stream.PIECE_BYTES", 0)
    monkeypatch.setattr("zipml_codec.order.WINDOW_BYTES", 1)
    rows, path = 40_000, tmp_path / "f.zipml.h5"
    make(tmp_path / "other", seed=1, rows=rows, **kind).close()
    make(path, rows=rows, **kind).close()
    options = {"epochs": 3, "batch": 128, "threads": 2, "step": 0.01}
    expected = zipml.train(path, **options)
    with zipml.open(path) as data:
        data.verify()
        assert data._file.span is not None
        seen = []

        def after(entry):
            seen.append(entry)
            if len(seen) == 1:
                change(path, tmp_path / "other")

        try:
            model = zipml.train(data, progress=after, **options)
        except CorruptError as error:
            assert change not in SAFE and str(path) in str(error)
        else:
            assert change in SAFE
            np.testing.assert_array_equal(model.coef, expected.coef)


# A file that shrinks while its mapping is read, page after page, again and again, in threads that NumPy keeps busy.
SHRINKS = """
import os, sys, threading
import numpy as np
from zipml_codec.kernels.mapping import Mapping

size = 64 << 20
with open(sys.argv[1], "wb") as file:
    file.write(os.urandom(1 << 20) * 64)
descriptor = os.open(sys.argv[1], os.O_RDONLY)
mapping = Mapping(descriptor, 0, size)
rows = np.frombuffer(mapping, np.uint8)
first, stop = int(rows[: 1 << 20].sum()), threading.Event()

def read():
    while not stop.is_set():
        rows.sum()

threads = [threading.Thread(target=read) for _ in range(3)]
for thread in threads:
    thread.start()
for end in range(size, 1 << 20, -(5 << 20) - 12345):
    os.truncate(sys.argv[1], end)
os.truncate(sys.argv[1], 1 << 20)
total = int(rows.sum())
stop.set()
for thread in threads:
    thread.join()
assert mapping.lost and total == first, (mapping.lost, total, first)
try:
    memoryview(mapping)[0:1].obj and np.frombuffer(mapping, np.uint8).__setitem__(0, 1)
except ValueError:
    print("survived")
"""


def test_a_mapping_survives_a_file_that_shrinks(tmp_path):
    done = run(SHRINKS, tmp_path / "f", timeout=120)
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr[-1500:]


# A fault that is not ours must end the process as before, with faulthandler's report where that is on.
ELSEWHERE = """
import mmap, os, sys
from zipml_codec.kernels.mapping import Mapping

with open(sys.argv[1], "wb") as file:
    file.write(bytes(1 << 16))
descriptor = os.open(sys.argv[1], os.O_RDONLY)
ours, theirs = Mapping(descriptor, 0, 1 << 16), mmap.mmap(descriptor, 1 << 16, access=mmap.ACCESS_READ)
os.truncate(sys.argv[1], 0)
theirs[5000]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="how a bus error ends a process is Linux's way")
def test_other_faults_go_where_they_went(tmp_path):
    done = run(ELSEWHERE, tmp_path / "f")
    assert done.returncode == -7 and "Fatal Python error: Bus error" in done.stderr


def test_mappings_are_limited_and_given_back(tmp_path):
    (tmp_path / "f").write_bytes(bytes(8192))
    with (tmp_path / "f").open("rb") as file:
        for _ in range(3):
            held = []
            with pytest.raises(OSError, match="cannot map"):
                while True:
                    held.append(Mapping(file.fileno(), 0, 8192))
            assert len(held) > 100
        with pytest.raises(OSError, match="cannot map"):
            Mapping(file.fileno(), 3, 4096)


def test_errors_are_ours(tmp_path):
    """What is not a file of ours, or cannot be read."""
    for content in (b"", b"x", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(4096), b"zipmlEND" * 100, bytes(56)):
        (tmp_path / "f").write_bytes(content)
        with pytest.raises(FormatError, match=re.escape(str(tmp_path / "f"))) as caught:
            zipml.open(tmp_path / "f")
        assert isinstance(caught.value, ZipMLError | OSError)
