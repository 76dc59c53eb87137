"""Rows by any index: as an array's rows, their bytes alone, each chunk checked once, from many threads."""

import gc
import os
import pickle
import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zipml_codec as zipml
from zipml_codec.errors import CorruptError, FormatError, OptionError, RowError
from zipml_codec.formats import header

ROWS, FEATURES = 3000, 37


@pytest.fixture(params=[{}, {"zstd": 3}, {"layout": "weave"}], ids=["plain", "zstd", "weave"])
def path(tmp_path, monkeypatch, request):
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 8 << 10)
    X = np.random.default_rng(0).normal(size=(ROWS, FEATURES)).astype(np.float32)
    zipml.compress(X, path=tmp_path / "a.zipml.h5", bits=5, **request.param).close()
    return tmp_path / "a.zipml.h5"


@pytest.fixture
def reads(monkeypatch):
    """Offsets and sizes of what is read from now on."""
    done, preadv = [], os.preadv

    def note(descriptor, views, offset):
        count = preadv(descriptor, views, offset)
        done.append((offset, count))
        return count

    monkeypatch.setattr(os, "preadv", note)
    return done


INDICES = [
    0, -1, ROWS - 1, np.int64(7), np.uint8(200), slice(None), slice(0, 0), slice(100, 90), slice(-7, None), slice(None, None, -3),
    slice(5, 2000, 13), slice(1, 10**30), [], [3], [5, 5, 5], [-1, 0, -ROWS, ROWS - 1], range(10, 40, 3), np.arange(ROWS)[::-1],
    np.arange(ROWS) % 7 == 2, np.zeros(ROWS, bool), np.ones(ROWS, bool), [True] * ROWS, np.array([], np.int32),
    np.array([2**63 + 0, 1], np.uint64) % np.uint64(ROWS),
]  # fmt: skip


@pytest.mark.parametrize("rows", INDICES, ids=lambda rows: re.sub(r"\s+", " ", repr(rows))[:40])
@pytest.mark.parametrize("known", [False, True], ids=["fresh", "checked"])
def test_rows_are_those_of_the_array(path, rows, known):
    with zipml.open(path) as whole, zipml.open(path) as data:
        expected = whole.decode()
        if known:
            data.verify()
            data.decode()
        got = data[rows]
        wanted = expected[np.array(rows, int) if isinstance(rows, list) and not rows else rows]  # to NumPy, [] is of floats
        assert got.dtype == np.float32 and got.shape == wanted.shape and got.flags.c_contiguous
        np.testing.assert_array_equal(got, wanted)
        got[...] = 0  # the caller's own
        np.testing.assert_array_equal(data[rows], wanted)


def test_rows_one_after_the_other(path):
    with zipml.open(path) as data:
        whole = data.decode()
        assert len(list(data)) == len(data) == ROWS
        for row, expected in zip(data, whole, strict=True):
            np.testing.assert_array_equal(row, expected)


@pytest.mark.parametrize("rows", [ROWS, -ROWS - 1, [0, ROWS], np.uint64(2**63), [-(2**40)]], ids=repr)
def test_a_row_that_is_not_there(path, rows):
    with zipml.open(path) as data:
        with pytest.raises(RowError, match=f"0..{ROWS - 1}") as caught:
            data[rows]
        assert isinstance(caught.value, IndexError) and isinstance(caught.value, OptionError)


@pytest.mark.parametrize("rows", [None, ..., (0, 1), 0.5, [0.5], "a", [[0, 1]], np.ones(5, bool), True, {}, [None]], ids=repr)
def test_what_is_no_index(path, rows):
    with zipml.open(path) as data, pytest.raises(OptionError, match="row") as caught:
        data[rows]
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(-ROWS, ROWS - 1), max_size=60))
def test_any_list_of_rows(path, rows):
    with zipml.open(path) as file:
        for part in (rows, rows[::-1], rows + rows):  # unchecked chunks, then checked ones
            np.testing.assert_array_equal(file[part], file.decode()[np.array(part, int)])


def whole_chunks(data):
    """Whether a row is read with its chunk."""
    return data._file.header.zstd or data.layout == "weave"


def test_only_the_rows_bytes_are_read(path, reads):
    with zipml.open(path) as data:
        whole, zstd = data.decode(), whole_chunks(data)
        places = data._file.table
        rows = np.arange(5, ROWS, data.chunk_rows)  # one of each chunk
        reads.clear()
        np.testing.assert_array_equal(data[rows], whole[rows])
        if zstd:
            assert [count for _, count in reads] == places[:, 1].tolist()
        else:
            assert reads == [(place + 5 * data.stride, data.stride) for place in places[:, 0].tolist()]
        reads.clear()
        neighbours = [7, 5, 6, 9, 7]
        np.testing.assert_array_equal(data[neighbours], whole[neighbours])
        assert len(reads) == 1 and (zstd or reads[0][1] == 5 * data.stride)


def test_chunks_are_checked_once_and_before_their_rows_are_given(path, reads):
    with zipml.open(path) as data:
        table, zstd = data._file.table, whole_chunks(data)
        reads.clear()
        data[0], data[1], data[0]
        sizes = [count for _, count in reads]
        assert sizes == ([int(table[0, 1])] if zstd else [int(table[0, 1]), data.stride, data.stride])
        with path.open("r+b") as file:  # in a byte of row 1 of the second chunk
            at = int(table[1, 0]) + (10 if zstd else data.stride)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 4]))
        data[: data.chunk_rows]  # the first chunk is as it was
        for rows in (data.chunk_rows, [0, data.chunk_rows + 3], slice(None)):
            with pytest.raises(CorruptError, match=r"a\.zipml\.h5: chunk 1"):
                data[rows]


def test_a_file_cut_off_while_it_is_open(path):
    with zipml.open(path) as data:
        data.decode()
        data[0]
        os.truncate(path, int(data._file.table[2, 0]) + 3)
        data[0]
        for rows in (-1, [1, 2, -1], slice(-5, None), slice(None, None, 2)):
            with pytest.raises(CorruptError, match="truncated"):
                data[rows]
    with pytest.raises(FormatError, match="closed"):
        data[0]


def test_eight_threads(path):
    generator = np.random.default_rng(1)
    with zipml.open(path) as whole:
        expected = whole.decode()
    choices = [generator.integers(-ROWS, ROWS, generator.integers(1, 300)) for _ in range(200)]
    choices += [slice(int(start), int(start) + 500) for start in generator.integers(0, ROWS, 50)]
    choices += generator.integers(0, ROWS, 300).tolist()
    with zipml.open(path) as data, ThreadPoolExecutor(8) as pool:  # chunks are first met, and checked, by all of them
        for rows, got in zip(choices, pool.map(data.__getitem__, choices), strict=True):
            np.testing.assert_array_equal(got, expected[rows])


def test_in_another_process(path):
    with zipml.open(path) as data:
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(data))[3:9], data[3:9])
        child = os.fork()
        if not child:
            os._exit(0 if np.array_equal(data[[7, 2000]], np.stack([data[7], data[2000]])) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("zstd", [None, 1])
def test_memory_is_that_of_the_rows(tmp_path, zstd):
    """A few rows of a file of 16 MB: their own bytes and a chunk or two, however many rows the file has."""
    X = np.random.default_rng(0).integers(0, 255, size=(1_000_000, 8)).astype(np.uint8)
    rows = np.random.default_rng(1).integers(0, len(X), 100)
    with zipml.compress((X for _ in range(2)), path=tmp_path / "a", bits=8, samples=1, zstd=zstd) as data:
        gc.collect()
        for wanted in (rows, slice(10, 10_000, 100), slice(-100, None), 5, rows):
            tracemalloc.start()
            data[wanted]
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 3 * header.CHUNK_BYTES, wanted


def test_rows_are_what_any_hdf5_reader_finds(path):
    rows = [2999, 4, 4, 1000]
    with zipml.open(path) as data, h5py.File(path) as file:
        if not whole_chunks(data):
            np.testing.assert_array_equal(data.packed(rows), file["codes"][()][rows])
        np.testing.assert_array_equal(data[rows], data.codec.decode(data.packed(rows)))
