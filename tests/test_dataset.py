"""Data sets: rows by any number, in threads and processes, batches that shuffle well; writers, that leave all or nothing."""

import errno
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference as ref

import zipml_codec as zipml
from zipml_codec import order
from zipml_codec.errors import FormatError, OptionError, OutputError, ZipMLError

ROWS, FEATURES = 2500, 37


@pytest.fixture(params=[{}, {"zstd": 3}, {"layout": "weave"}], ids=["plain", "zstd", "weave"])
def data(tmp_path, monkeypatch, request):
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 8 << 10)
    generator = np.random.default_rng(0)
    X = generator.normal(size=(ROWS, FEATURES)).astype(np.float32)
    with zipml.compress(X, np.arange(ROWS), path=tmp_path / "a.zipml.h5", bits=5, **request.param) as data:
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
    assert data.draw(seed=1).shape == (data.samples, ROWS, FEATURES)
    np.testing.assert_allclose(data.draw(seed=1).mean(axis=0), data.decode(), atol=1e-6)
    assert np.array_equal(data.draw(seed=1), data.draw(seed=2)) == (data.samples == 1)


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
    def rows(**options):
        return np.concatenate([batch.rows for batch in data.batches(100, **options)])

    np.testing.assert_array_equal(rows(seed=3, epoch=2), rows(seed=3, epoch=2))
    for other in ({"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 3}):
        assert np.mean(rows(seed=3, epoch=2) == rows(**other)) < 0.01


def test_shuffling_is_good(data):
    """Rows that come together were not neighbours, and no part of the file comes early: both as in a random permutation."""
    rows = np.concatenate([batch.rows for batch in data.batches(50, seed=0, epoch=0)])
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 5 / np.sqrt(ROWS)
    assert abs(np.corrcoef(rows, np.arange(ROWS))[0, 1]) < 0.35  # windows of 8 chunks and more, in random order
    assert np.mean(np.abs(np.diff(rows)) == 1) < 0.01


def test_split_is_a_function_of_the_row():
    whole = order.held_out(5, 0.3, 0, 10_000)
    np.testing.assert_array_equal(whole[4000:4100], order.held_out(5, 0.3, 4000, 100))
    assert abs(whole.mean() - 0.3) < 5 * np.sqrt(0.21 / 10_000)
    assert not order.held_out(5, 0.0, 0, 10).any()


def key(seed, purpose, column, rows):
    """FORMAT.md, section 2."""
    rows = np.asarray(rows, np.uint64)
    column, purpose = np.full_like(rows, column), np.full_like(rows, purpose << 16)
    counter = np.stack([column, rows & np.uint64(2**32 - 1), rows >> np.uint64(32), purpose], axis=-1)
    words = ref.philox4x32(counter, (seed & (2**32 - 1), seed >> 32)).astype(np.uint64)
    return words[..., 0] + (words[..., 1] << np.uint64(32))


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (2**64 - 1, 3), (12345678901, 70_000)])
def test_order_and_split_are_those_of_the_specification(tmp_path, monkeypatch, seed, epoch):
    monkeypatch.setattr(order, "WINDOW_BYTES", 1)  # windows of 8 chunks
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 1 << 10)
    data = zipml.compress(np.random.default_rng(0).random((ROWS, 37)), path=tmp_path / "a")
    chunks = np.argsort(key(seed, 2, 2 * epoch, np.arange(data.chunks)))
    expected = []
    for number, window in enumerate(np.split(chunks, range(8, data.chunks, 8))):
        rows = np.concatenate([np.arange(ROWS)[chunk * data.chunk_rows :][: data.chunk_rows] for chunk in window])
        expected.append(ref.shuffled(rows, seed, 2 * epoch + 1, number))
    got = np.concatenate([batch.rows for batch in data.batches(7, seed=seed, epoch=epoch)])
    assert len(expected) > 1 and np.array_equal(got, np.concatenate(expected))
    held = key(seed, 3, 0, np.arange(2**32 - 5, 2**32 + 500)) < np.uint64(int(0.3 * 2.0**64))
    np.testing.assert_array_equal(order.held_out(seed, 0.3, 2**32 - 5, 505), held)


@pytest.mark.parametrize("shape", [(4000, 5), (3000, 130), (10, 2)])
def test_exact_rows_are_those_of_the_specification(tmp_path, shape):
    X = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    with zipml.compress(X, path=tmp_path / "a", bits=8, seed=77) as data:
        count = min(len(X), 1024, int(0.01 * X.size // (4 * X.shape[1] + 8)))
        np.testing.assert_array_equal(data.sample_rows, np.sort(np.argsort(key(77, 4, 0, np.arange(len(X))))[:count]))
        np.testing.assert_array_equal(data.sample_values, X[data.sample_rows])
        assert count > 0 or shape == (10, 2)


def test_vectors_are_rounded_as_specified():
    v = np.random.default_rng(0).normal(size=200).astype(np.float32)
    largest, levels, seed = np.abs(v).max(), 7, 2**40 + 3
    chance = (ref.words(seed, [0], 200, 5, 1)[0, :, 0] >> 8) / np.float32(2**24)
    x = np.abs(v) / largest * np.float32(levels)
    steps = (np.floor(x) + (chance < x - np.floor(x))) * (largest / np.float32(levels))
    np.testing.assert_array_equal(zipml.quantize_vector(v, levels, seed=seed), np.copysign(steps, v))


@pytest.mark.parametrize("options", [{"size": 0}, {"size": 8, "seed": -1}, {"size": 8, "epoch": 0.5}])
def test_batches_checks_its_arguments_when_called(data, options):
    with pytest.raises(OptionError):
        data.batches(**options)


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
    assert data.file_bytes == os.path.getsize(tmp_path / "a.zipml.h5")


def test_the_working_folder_may_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = zipml.compress(np.eye(20), path="a.zipml.h5")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    data.verify()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(data)).decode(), data.decode())


def test_a_file_replaced_while_open(tmp_path):
    generator = np.random.default_rng(0)
    path = tmp_path / "a.zipml.h5"
    old = zipml.compress(generator.normal(size=(5000, 40)), path=path)
    first = old.decode()
    new = zipml.compress(generator.normal(size=(100, 3)), path=path, overwrite=True)
    np.testing.assert_array_equal(old.decode(), first)
    assert new.shape == (100, 3) and names(tmp_path) == [path.name]


def test_open_without_locks(tmp_path):
    zipml.compress(np.eye(20), path=tmp_path / "a.zipml.h5").close()
    os.chmod(tmp_path / "a.zipml.h5", 0o444)
    with zipml.open(tmp_path / "a.zipml.h5", locking=False) as data:
        assert data.shape == (20, 20)
        assert "20" in repr(data) and len(data) == 20


# ---- Writers ----


def some(rows=700, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(rows, 5)).astype(np.float32), generator.normal(size=rows).astype(np.float32)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_existing_file_is_kept(tmp_path):
    path = tmp_path / "f"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        zipml.compress(*some(), path=path)
    assert path.read_text() == "mine" and names(tmp_path) == ["f"]
    for bad in (tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(OutputError, match="folder"):
            zipml.compress(*some(), path=bad, overwrite=True)


def test_a_second_writer_is_refused(tmp_path):
    script = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    held = [sys.executable, "-c", script, str(tmp_path / "f.partial")]
    with subprocess.Popen(held, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match="another process"):
            zipml.compress(*some(), path=tmp_path / "f")
        assert names(tmp_path) == ["f.partial"]
        other.stdin.close()
    zipml.compress(*some(), path=tmp_path / "f").close()  # whoever held it is gone
    assert names(tmp_path) == ["f"]


class Failing:
    """Blocks whose pass number `at` ends in `failure` after three blocks."""

    def __init__(self, at, failure):
        self.at, self.failure, self.passes = at, failure, 0

    def __iter__(self):
        self.passes += 1
        for number in range(6):
            if self.passes == self.at and number == 3:
                self.failure()
            yield some(30_000, number)


@pytest.mark.parametrize("zstd", [None, 1])
def test_a_killed_writer_does_no_harm(tmp_path, zstd):
    path = tmp_path / "f"
    child = os.fork()
    if not child:
        zipml.compress(
            Failing(2, lambda: os.kill(os.getpid(), signal.SIGKILL)), path=path, zstd=zstd, bits=8, samples=1
        )
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert names(tmp_path) == ["f.partial"]
    with zipml.compress(*some(), path=path) as data:
        data.verify()
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, ZipMLError])
@pytest.mark.parametrize("zstd", [None, 1])
@pytest.mark.parametrize("at", [1, 2])
def test_a_failing_source_leaves_nothing(tmp_path, failure, zstd, at):
    (tmp_path / "f").write_text("old")

    def fail():
        raise failure("enough")

    with pytest.raises(failure, match="enough"):
        zipml.compress(Failing(at, fail), path=tmp_path / "f", zstd=zstd, overwrite=True)
    assert names(tmp_path) == ["f"] and (tmp_path / "f").read_text() == "old"


@pytest.mark.parametrize(
    ("call", "zstd"), [("pwrite", None), ("posix_fallocate", None), ("fsync", None), ("fsync", 1), ("link", 1)]
)
def test_a_full_disk(tmp_path, monkeypatch, call, zstd):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    if call == "link":  # no hard links on this file system: renamed instead
        zipml.compress(*some(), path=tmp_path / "f", zstd=zstd).close()
        assert names(tmp_path) == ["f"]
        return
    with pytest.raises(OutputError, match="no space left") as caught:
        zipml.compress(*some(), path=tmp_path / "f", zstd=zstd)
    assert str(tmp_path / "f") in str(caught.value) and names(tmp_path) == []


# A limit on a file's size is what a full disk looks like, also to HDF5 when it flushes: at every size the file goes through.
FULL = """
import os, resource, sys
import numpy as np
import zipml_codec
from zipml_codec.errors import OutputError

folder, zstd = sys.argv[1], int(sys.argv[2]) or None
X = np.random.default_rng(0).normal(size=(6000, 9)).astype(np.float32)
make = lambda: zipml_codec.compress(X, X[:, 0], path=folder + "/f", zstd=zstd, overwrite=True).close()
make()
size = os.path.getsize(folder + "/f")
old = open(folder + "/f", "rb").read()
for limit in [*range(0, size - 1, size // 25), size - 1]:
    print(limit, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        make()
    except OutputError as error:
        assert folder + "/f" in str(error) and "\\n" not in str(error), error
        assert "no space" in str(error), (limit, error)
    else:
        raise AssertionError(f"written beyond {limit}")
    assert os.listdir(folder) == ["f"] and open(folder + "/f", "rb").read() == old
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
make()
print("done")
"""


@pytest.mark.parametrize("zstd", [0, 1])
def test_a_full_disk_wherever_it_fills_up(tmp_path, zstd):
    command = [sys.executable, "-c", FULL, str(tmp_path), str(zstd)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and done.stdout.endswith("done\n"), (
        done.returncode,
        done.stdout[-200:],
        done.stderr[-1500:],
    )


def test_planes_that_end_near_zero_are_made_at_once(tmp_path):
    X = np.linspace(-63.87769, -15.781546, 100, dtype=np.float32)[:, None]
    np.save(tmp_path / "a.npy", X)
    made = [tmp_path / "a.npy", "--layout", "weave", "--levels", "uniform", "-o", tmp_path / "a.h5"]
    subprocess.run([sys.executable, "-m", "zipml_codec", "compress", *made], check=True, timeout=60, cwd=tmp_path)
    with zipml.open(tmp_path / "a.h5") as data:
        assert data.codes().max() == 192 and (np.abs(data.decode() - X) < np.ptp(X) / 192).all()
    again = zipml.compress(X + np.float32(1), path=tmp_path / "b.h5", layout="weave", levels=tmp_path / "a.h5", clip=True)
    assert again.clipped.sum() > 0 and again.codes().max() <= 192
