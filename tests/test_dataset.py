"""Data sets: rows by any number, the same in threads and processes, batches that shuffle well."""

import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import zipml_codec as zipml
from zipml_codec.errors import FormatError, OptionError
from zipml_codec.formats import container
from zipml_codec.order import held_out

ROWS, FEATURES = 2500, 37


@pytest.fixture(params=[None, 3], ids=["plain", "zstd"])
def data(tmp_path, monkeypatch, request):
    monkeypatch.setattr(container, "CHUNK_BYTES", 8 << 10)
    generator = np.random.default_rng(0)
    X = generator.normal(size=(ROWS, FEATURES)).astype(np.float32)
    with zipml.compress(X, np.arange(ROWS), path=tmp_path / "a.zipml.h5", bits=5, zstd=request.param) as data:
        assert data.chunks > 5
        yield data


SELECTIONS = [
    None,
    slice(None),
    slice(10, 900, 7),
    slice(None, None, -1),
    slice(5, 5),
    [0],
    [-1, 3, 3, 2400, 0],
    np.arange(0, ROWS, 11),
    np.arange(ROWS) % 3 == 0,
    7,
    [],
]


@pytest.mark.parametrize("rows", SELECTIONS, ids=repr)
def test_rows(data, rows):
    whole, codes, drawn = data.decode(), data.codes(), data.draw(seed=9)
    at = slice(None) if rows is None else np.array(rows, int).reshape(-1) if isinstance(rows, int | list) else rows
    np.testing.assert_array_equal(data.decode(rows), whole[at])
    np.testing.assert_array_equal(data.codes(rows), codes[at])
    np.testing.assert_array_equal(data.draw(rows, seed=9), drawn[:, at])
    assert data.decode(rows).dtype == np.float32 and data.codes(rows).dtype == np.uint8


def test_decoded_rows_are_the_codes_means(data):
    np.testing.assert_array_equal(data.decode(), data.codec.decode(data.packed()))
    assert data.draw(seed=1).shape == (2, ROWS, FEATURES)
    np.testing.assert_allclose(data.draw(seed=1).mean(axis=0), data.decode(), atol=1e-6)
    assert not np.array_equal(data.draw(seed=1), data.draw(seed=2))


@pytest.mark.parametrize("rows", [[ROWS], [-ROWS - 1], [0.5], [[0, 1]], np.zeros(3, bool), "x"], ids=repr)
def test_bad_rows(data, rows):
    with pytest.raises(OptionError, match="rows"):
        data.decode(rows)


def test_batches_hold_every_row_once_with_its_label(data):
    decoded = data.decode()
    for seed, epoch in [(0, 0), (0, 1), (1, 0)]:
        batches = list(data.batches(64, seed=seed, epoch=epoch))
        assert [len(batch.rows) for batch in batches[:-1]] == [64] * (ROWS // 64) and len(batches[-1].rows) == ROWS % 64
        rows = np.concatenate([batch.rows for batch in batches])
        np.testing.assert_array_equal(np.sort(rows), np.arange(ROWS))
        for batch in batches:
            np.testing.assert_array_equal(batch.y, batch.rows)
            np.testing.assert_array_equal(batch.X, decoded[batch.rows])


def test_order_is_a_function_of_seed_and_epoch(data):
    def order(**options):
        return np.concatenate([batch.rows for batch in data.batches(100, **options)])

    np.testing.assert_array_equal(order(seed=3, epoch=2), order(seed=3, epoch=2))
    for other in ({"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 3}):
        assert np.mean(order(seed=3, epoch=2) == order(**other)) < 0.01


def test_shuffling_is_good(data):
    """Rows that come together were not neighbours, and no part of the file comes early: both as in a random permutation."""
    rows = np.concatenate([batch.rows for batch in data.batches(50, seed=0, epoch=0)])
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 5 / np.sqrt(ROWS)
    assert abs(np.corrcoef(rows, np.arange(ROWS))[0, 1]) < 0.35  # windows of 8 chunks and more, in random order
    assert np.mean(np.abs(np.diff(rows)) == 1) < 0.01


def test_split_is_a_function_of_the_row():
    whole = held_out(5, 0.3, 0, 10_000)
    np.testing.assert_array_equal(whole[4000:4100], held_out(5, 0.3, 4000, 100))
    assert abs(whole.mean() - 0.3) < 5 * np.sqrt(0.21 / 10_000)
    assert not held_out(5, 0.0, 0, 10).any()


def test_pickles_by_path(data):
    again = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(again.decode(), data.decode())
    assert again.path == data.path


def test_threads_read_at_once(data):
    whole = data.decode()
    parts = [np.random.default_rng(i).integers(0, ROWS, 200) for i in range(64)]
    with ThreadPoolExecutor(8) as pool:
        for rows, got in zip(parts, pool.map(data.decode, parts), strict=True):
            np.testing.assert_array_equal(got, whole[rows])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_read_after_the_parent_used_threads(data, method):
    """OpenMP's pool dies in a forked child; kernels there run on one thread instead of waiting for it forever."""
    expected = data.decode(threads=2)
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        for got in pool.map_async(zipml.Dataset.decode, [data] * 4).get(timeout=60):
            np.testing.assert_array_equal(got, expected)


def test_closing(tmp_path):
    X = np.random.default_rng(0).normal(size=(300, 4))
    with zipml.compress(X, path=tmp_path / "a.zipml.h5") as data:
        data.decode()
    with pytest.raises(FormatError, match="closed"):
        data.decode()
    data.close()


def test_a_file_replaced_while_open(tmp_path):
    generator = np.random.default_rng(0)
    path = tmp_path / "a.zipml.h5"
    old = zipml.compress(generator.normal(size=(5000, 40)), path=path)
    first = old.decode()
    new = zipml.compress(generator.normal(size=(100, 3)), path=path, overwrite=True)
    np.testing.assert_array_equal(old.decode(), first)
    assert new.shape == (100, 3)


def test_open_without_locks(tmp_path):
    zipml.compress(np.eye(20), path=tmp_path / "a.zipml.h5").close()
    os.chmod(tmp_path / "a.zipml.h5", 0o444)
    with zipml.open(tmp_path / "a.zipml.h5", locking=False) as data:
        assert data.shape == (20, 20)
        assert "20" in repr(data) and len(data) == 20
