"""Many readers at once: threads, processes of every start method, a writer beside them, read-only media, locks, open files."""

import fcntl
import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from workers import said, work

import zipml_codec as zipml
from zipml_codec.errors import FormatError
from zipml_codec.formats import container

ROWS, FEATURES = 4000, 23


@pytest.fixture(params=[{}, {"zstd": 3}, {"layout": "weave", "bits": 4}], ids=["plain", "zstd", "weave"])
def path(tmp_path, monkeypatch, request):
    """A file of some chunks with labels."""
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 4 << 10)
    X = np.random.default_rng(0).normal(size=(ROWS, FEATURES)).astype(np.float32)
    zipml.compress(X, np.arange(ROWS), path=tmp_path / "a.zipml.h5", **request.param).close()
    return tmp_path / "a.zipml.h5"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_loader_workers_get_the_same_bytes(path, method):
    with zipml.open(path) as data:
        expected, context = said(data), multiprocessing.get_context(method)
        results = context.SimpleQueue()
        workers = [context.Process(target=work, args=(data, path, results)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0  # before its result is asked for, which would be waited for forever
        assert [results.get() for _ in workers] == [(expected, expected)] * 2
        assert said(data) == expected  # what children do with the shared descriptor does not move the parent


# argv: file, digests wanted. Reads again and again until its input ends.
READS = """
import select, sys
sys.path.insert(0, sys.argv[2])
import zipml_codec as zipml
from workers import said
count, seen = 0, set()
print("begun", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    with zipml.open(sys.argv[1]) as data:
        seen.add(said(data))
    count += 1
print(count, *seen, flush=True)
"""


def test_eight_processes_read_while_another_file_is_written_and_theirs_replaced(path, tmp_path):
    """Files are written and replaced beside their readers, in one folder and under one name: all see whole files only."""
    X = np.random.default_rng(0).normal(size=(ROWS, FEATURES)).astype(np.float32)
    y = np.arange(ROWS)
    with zipml.open(path) as data:
        options = {"zstd": data._file.header.zstd or None, "layout": data.layout}
        expected = said(data)
    zipml.compress(X, y, path=tmp_path / "b.zipml.h5", bits=2, **options).close()
    with zipml.open(tmp_path / "b.zipml.h5") as data:
        other = said(data)
    command = [sys.executable, "-c", READS, str(path), str(Path(__file__).parent)]
    readers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    try:
        for reader in readers:
            assert reader.stdout.readline() == "begun\n"
        for number in range(3):
            zipml.compress(X, y, path=tmp_path / "c.zipml.h5", seed=number, overwrite=True, **options).close()
            zipml.compress(X, y, path=path, bits=2 if number % 2 else 4, overwrite=True, **options).close()
        for reader in readers:
            out, _ = reader.communicate("\n", timeout=60)
            count, *seen = out.split()
            assert int(count) >= 1 and set(seen) <= {expected, other} and reader.returncode == 0
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()


def test_eight_threads_on_one_data_set(path):
    with zipml.open(path) as data:
        expected = said(data)
    with zipml.open(path) as fresh, ThreadPoolExecutor(8) as pool:  # nothing is checked yet: threads meet at the first check
        assert set(pool.map(said, [fresh] * 24)) == {expected}


def test_closing_while_threads_read(path):
    """A reader that is closed meanwhile gets an error, never the bytes of a file that took over its descriptor."""
    other = path.with_name("zeros")
    other.write_bytes(bytes(path.stat().st_size))
    with zipml.open(path) as data:
        expected = data.decode()
    for _ in range(20):
        data, found = zipml.open(path), []
        data.decode()

        def read(data=data, found=found):
            try:
                while True:
                    found.append(np.array_equal(data.decode(slice(0, 900)), expected[:900]))
            except FormatError:
                pass

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        while not found:
            pass
        data.close()
        with other.open("rb"):
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive()
        assert all(found)


def open_files():
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(found)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc to count open files in")
def test_no_file_stays_open(path, tmp_path):
    def use():
        data = zipml.open(path)
        said(data)
        data.map_rows()
        pickle.loads(pickle.dumps(data)).decode([1])
        with zipml.open(path) as inside:
            inside.verify()
        for bad in (b"", path.read_bytes()[:-9], path.read_bytes()[:200]):
            (tmp_path / "bad").write_bytes(bad)
            with pytest.raises(FormatError):
                zipml.open(tmp_path / "bad")
        zipml.repair(path)
        zipml.train(path, epochs=1)

    use()
    gc.collect()
    before = open_files()
    for _ in range(3):
        use()
    gc.collect()
    assert open_files() == before
    assert not any(str(path) in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_a_read_only_folder(path, tmp_path):
    """Nothing is written, not even for a moment; neither the file's times nor its folder's change."""
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        before = [(p.stat().st_mtime_ns, p.stat().st_ctime_ns, sorted(os.listdir(tmp_path))) for p in (path, tmp_path)]
        with zipml.open(path) as data:
            said(data)
            data.verify()
        assert [(p.stat().st_mtime_ns, p.stat().st_ctime_ns, sorted(os.listdir(tmp_path))) for p in (path, tmp_path)] == before
    finally:
        tmp_path.chmod(0o755)


def test_opening_asks_for_no_write(path, monkeypatch):
    """As root, permissions say nothing: so what is asked of the system is looked at."""
    asked, open_ = [], os.open

    def note(name, flags, *rest, **named):
        asked.append(flags)
        return open_(name, flags, *rest, **named)

    monkeypatch.setattr(os, "open", note)
    for name in ("write", "pwrite", "ftruncate", "truncate", "rename", "replace", "unlink", "utime"):
        monkeypatch.delattr(os, name)
    with zipml.open(path) as data:
        said(data)
        data.verify()
    assert asked and not any(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) for flags in asked)


# ---- Locks ----


def test_a_reader_keeps_hdf5_programs_from_writing(path):
    with zipml.open(path) as data:
        with pytest.raises(OSError, match="lock"):
            h5py.File(path, "r+", locking=True)
        with h5py.File(path, "r") as file, zipml.open(path) as again:  # readers do not disturb each other
            assert file["codes"].shape[-2] == len(again) == len(data)


def test_a_file_that_is_being_written_is_refused(path, monkeypatch):
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    with path.open("r+b") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        for locking in (None, True):
            with pytest.raises(FormatError, match="another program has opened it for writing"):
                zipml.open(path, locking=locking)
        zipml.open(path, locking=False).close()
        monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
        zipml.open(path).close()


def test_file_systems_without_locks(path, monkeypatch):
    def none(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(container.fcntl, "flock", none)
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    zipml.open(path).close()
    with pytest.raises(FormatError, match="no locks: open it with locking=False or HDF5_USE_FILE_LOCKING=FALSE"):
        zipml.open(path, locking=True)
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "TRUE")
    with pytest.raises(FormatError, match="no locks"):
        zipml.open(path)
    zipml.open(path, locking=False).close()


def test_what_a_pickle_keeps(path):
    with zipml.open(path, locking=False) as data:
        again = pickle.loads(pickle.dumps(data))
        assert again._file.locking is False and said(again) == said(data)
        again.close()
    with pytest.raises(FormatError, match="closed"):
        data.decode()
