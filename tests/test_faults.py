"""Faults: killed, interrupted, terminated at random moments and gone on with; full disks; sources that change; second writers.

The child processes run the command itself, in a fork of one that has imported it, with small blocks and a journal after each.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import zipml_codec
from zipml_codec import compress, journal, rows
from zipml_codec.cli import main
from zipml_codec.errors import DataError, OptionError, OutputError, SourceError
from zipml_codec.formats import shardwriter
from zipml_codec.formats.partial import Partial, journal_of
from zipml_codec.publish import write_arrays

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")

ROWS, FEATURES = 6000, 12
SERVER = """
import os, sys, time
from zipml_codec import journal, rows
from zipml_codec.cli import main
from zipml_codec.formats import header

journal.EVERY, journal.SHARE = 0.0, float("inf")
rows.BLOCK_BYTES, header.CHUNK_BYTES = 16384, 4096
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    after, number, *arguments = line.split()
    child = os.fork()
    if not child:
        os._exit(main(arguments))
    if int(number):
        time.sleep(float(after))
        os.kill(child, int(number))
    print(os.waitpid(child, 0)[1], file=out, flush=True)
"""


@pytest.fixture
def small(monkeypatch):
    """Small blocks and chunks, and a journal after each."""
    monkeypatch.setattr(journal, "EVERY", 0.0)
    monkeypatch.setattr(journal, "SHARE", float("inf"))
    monkeypatch.setattr(rows, "BLOCK_BYTES", 16384)
    monkeypatch.setattr("zipml_codec.formats.header.CHUNK_BYTES", 4096)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A .npz of rows, the first of them dropped now and then, with labels."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    X[rng.integers(0, ROWS, 100), 3] = np.nan
    np.savez("s.npz", X=X, y=rng.normal(size=ROWS))
    return tmp_path / "s.npz"


ARGUMENTS = ["compress", "s.npz", "--label", "y", "--nonfinite", "drop", "-o", "f"]


class Server:
    """Runs the command in children that were forked when all was imported."""

    def __init__(self):
        command = [sys.executable, "-c", SERVER]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, **pipes)

    def run(self, arguments, after=0.0, number=0):
        """Run, with a signal of that number after some seconds unless it ended before; its exit code, or minus a signal."""
        self.process.stdin.write(f"{after} {int(number)} {' '.join(arguments)}\n")
        self.process.stdin.flush()
        return os.waitstatus_to_exitcode(int(self.process.stdout.readline()))

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def server(source):
    running = Server()
    yield running
    running.close()


def leavings(folder):
    return {path.name for path in folder.iterdir()} - {"s.npz"}


def files(path):
    """The bytes of a file, or of all files of a folder by their names."""
    return {entry.name: entry.read_bytes() for entry in path.iterdir()} if path.is_dir() else {"": path.read_bytes()}


def content(folder):
    """What is at the final name, which is gone then."""
    data = files(folder / "f")
    shutil.rmtree(folder / "f") if (folder / "f").is_dir() else (folder / "f").unlink()
    return data


def phase(folder):
    """Which pass the journal is of."""
    if not journal_of(folder / "f").exists():
        return None
    with np.load(journal_of(folder / "f")) as saved:
        return json.loads(saved["about"].tobytes())["phase"]


EXTRAS = [[], ["--zstd", "3", "--keep-exact"], ["--shard-rows", "700"], ["--shard-rows", "1300", "--zstd", "3", "--keep-exact"]]
PLANES = ["--layout", "weave", "--bits", "4"]
EXTRAS += [PLANES, [*PLANES, "--shard-rows", "1300"]]
FEW, KILLS = (6, 6, 4, 3, 3, 3), (100, 100, 30, 30, 40, 30)


@pytest.mark.parametrize(
    ("extra", "moments"),
    [*zip(EXTRAS, FEW, strict=True), *(pytest.param(*one, marks=pytest.mark.slow) for one in zip(EXTRAS, KILLS, strict=True))],
    ids=str,
)
def test_killed_at_any_moment(tmp_path, server, extra, moments):
    """kill -9, again and again while it goes on, half of the time; then to the end: the same bytes, and nothing else left."""
    arguments = ARGUMENTS + extra
    for _ in range(2):  # the first one takes longer
        begun = time.monotonic()
        assert server.run(arguments) == 0
        seconds, expected = time.monotonic() - begun, content(tmp_path)
    chance, kills, phases = random.Random(0), 0, set()
    while kills < moments:
        status = server.run(arguments, chance.uniform(0, seconds), signal.SIGKILL)
        kills += status == -signal.SIGKILL
        phases.add(phase(tmp_path))
        if (tmp_path / "f").exists():  # killed after it was complete, or not in time
            assert content(tmp_path) == expected
            continue
        while chance.random() < 0.5 and not (tmp_path / "f").exists():
            kills += server.run([*arguments, "--resume"], chance.uniform(0, seconds / 2), signal.SIGKILL) < 0
            phases.add(phase(tmp_path))
        if not (tmp_path / "f").exists():
            assert server.run([*arguments, "--resume"]) == 0
        assert leavings(tmp_path) == {"f"}
        assert content(tmp_path) == expected
    if moments >= 100:
        assert {"statistics", "codes"} <= phases


@pytest.mark.parametrize("extra", EXTRAS, ids=" ".join)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_signals_leave_a_state_to_go_on_from(source, tmp_path, small, monkeypatch, capsys, number, extra):
    """A signal at each block in turn: exit code and one line that says how to go on; no block is done twice."""
    assert main(ARGUMENTS + extra) == 0
    expected, ticks = content(tmp_path), []
    tick, at = journal.Journal.tick, None

    def signalled(self, state):
        ticks.append(at)
        if len(ticks) == at:
            os.kill(os.getpid(), number)
        tick(self, state)

    heard = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    monkeypatch.setattr(journal, "EVERY", 1e9)
    monkeypatch.setattr(journal.Journal, "tick", signalled)
    try:
        assert main(ARGUMENTS + extra) == 0
        assert content(tmp_path) == expected
        whole = len(ticks)
        for at in range(1, whole + 1, 12 if "--shard-rows" in extra else 5):
            ticks.clear()
            capsys.readouterr()
            assert main(ARGUMENTS + extra) == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
            said = [line for line in capsys.readouterr().err.splitlines() if "note:" not in line]
            again = " ".join(["zipml", *ARGUMENTS, *extra, "--resume"])
            what = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]
            assert said == [f"zipml: {what}; what was done is kept, go on with: {again}"]
            assert leavings(tmp_path) == {"f.partial", "f.partial.journal"}
            assert main([*again.split()[1:]]) == 0
            assert content(tmp_path) == expected and leavings(tmp_path) == set()
            assert len(ticks) <= whole + 1 + (whole - at) // 2 + 12  # what was verified is verified again
    finally:
        signal.signal(signal.SIGINT, heard)


def stopped(monkeypatch, after, **options):
    """A compression that ends with KeyboardInterrupt after so many steps."""
    tick, ticks = journal.Journal.tick, []

    def count(self, state):
        tick(self, state)
        ticks.append(1)
        if len(ticks) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "tick", count)
        with pytest.raises(KeyboardInterrupt):
            compress("s.npy", path="f", **options)


@pytest.fixture
def array(tmp_path, monkeypatch, small):
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).normal(size=(ROWS, FEATURES)).astype(np.float32)
    np.save("s.npy", X)
    return X


OTHER = [{"bits": 3}, {"samples": 1}, {"levels": "uniform"}, {"seed": 1}, {"zstd": 1}, {"nonfinite": "drop"}]
OTHER += [{"shared_levels": True}]


@pytest.mark.parametrize("after", [3, 25], ids=["statistics", "codes"])
def test_only_the_same_goes_on(array, tmp_path, monkeypatch, after):
    stopped(monkeypatch, after)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for options in OTHER:
        with pytest.raises(OptionError, match=rf"{next(iter(options))} changed: .* then, .* now"):
            compress("s.npy", path="f", resume=True, **options)
    with pytest.raises(SourceError, match="no such file"):
        compress("other.npy", path="f", resume=True)
    np.save("s2.npy", array)
    with pytest.raises(OptionError, match="the source changed"):
        compress("s2.npy", path="f", resume=True)
    (tmp_path / "s2.npy").unlink()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    with compress("s.npy", path="f", resume=True, threads=1) as data:
        first = data.path.read_bytes()
    compress("s.npy", path="f", overwrite=True).close()
    assert first == (tmp_path / "f").read_bytes()


@pytest.mark.parametrize("after", [3, 25], ids=["statistics", "codes"])
def test_a_source_that_changed_is_refused(array, tmp_path, monkeypatch, after):
    stopped(monkeypatch, after)
    array[0, 0] += 1
    np.save("s.npy", array)
    with pytest.raises(OptionError, match="the source changed"):
        compress("s.npy", path="f", resume=True)
    compress("s.npy", path="f").close()  # without resume, all over
    assert {path.name for path in tmp_path.iterdir()} == {"s.npy", "f"}


def test_a_damaged_journal_is_refused(array, tmp_path, monkeypatch):
    stopped(monkeypatch, 25)
    path = journal_of(tmp_path / "f")
    whole = path.read_bytes()
    for data in (b"", whole[: len(whole) // 2], whole[:1000] + b"\0\0\0\0" + whole[1004:]):
        path.write_bytes(data)
        with pytest.raises(zipml_codec.errors.CorruptError, match="damaged: begin again"):
            compress("s.npy", path="f", resume=True)
        assert path.read_bytes() == data
    path.write_bytes(whole)
    compress("s.npy", path="f", resume=True).close()


@pytest.mark.parametrize("options", [{}, {"zstd": 1}])
def test_a_damaged_partial_file_is_found(array, tmp_path, monkeypatch, options):
    """The journal vouches for chunks by their digests: what is not there is not taken for it, and does not come back."""
    stopped(monkeypatch, 30, **options)
    place = tmp_path / "f.partial"
    place.write_bytes(place.read_bytes()[:8192])
    with pytest.raises((OutputError, zipml_codec.errors.CorruptError)):
        compress("s.npy", path="f", resume=True, **options)
    assert {path.name for path in tmp_path.iterdir()} == {"s.npy"}


def test_nothing_to_go_on_from(array, tmp_path):
    compress("s.npy", path="f", resume=True).close()
    journal_of(tmp_path / "g").write_bytes(b"left of something else")
    compress("s.npy", path="g", resume=True).close()
    assert (tmp_path / "f").read_bytes() == (tmp_path / "g").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"s.npy", "f", "g"}


def test_blocks_and_arrays(array, tmp_path, monkeypatch):
    """An array is known again; an iterable is not, and leaves nothing."""
    tick = journal.Journal.tick

    def stop(self, state):
        tick(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "tick", stop)
        for given, left in ((array, {"f.partial", "f.partial.journal"}), ([array[:100], array[100:]], set())):
            with pytest.raises(KeyboardInterrupt):
                compress(given, path="f")
            assert {path.name for path in tmp_path.iterdir()} - {"s.npy"} == left
    compress(array, path="f", resume=True).close()


@pytest.mark.parametrize("change", ["rewritten", "touched", "gone", "shorter"])
def test_a_source_that_changes_between_the_passes(array, tmp_path, change):
    """The second pass would see other rows than the first: nothing is left at the final name."""

    def bars(name, *_):
        if name == "encoding":
            {
                "rewritten": lambda: np.save("s.npy", array[::-1]),
                "touched": lambda: os.utime("s.npy", (1, 1)),
                "gone": lambda: os.unlink("s.npy"),
                "shorter": lambda: os.truncate("s.npy", 1000),
            }[change]()
        return zipml_codec.progress.no_progress(name, None, None)

    with pytest.raises((DataError, SourceError), match=r"s\.npy"):
        compress("s.npy", path="f", progress=bars)
    assert not (tmp_path / "f").exists()


def test_a_source_that_cannot_be_read_for_a_while(array, tmp_path, monkeypatch):
    """A network's source that fails in the second pass: an error that says so, and what was done is kept."""
    read = zipml_codec.formats.binary.read_into
    with monkeypatch.context() as patch:
        calls = []

        def fails(*arguments):
            calls.append(1)
            if len(calls) == 30:
                raise SourceError("s.npy: stale file handle")
            return read(*arguments)

        patch.setattr(zipml_codec.formats.binary, "read_into", fails)
        with pytest.raises(SourceError, match=r"stale file handle; what was done is kept, and resume=True \(--resume\) goes on"):
            compress("s.npy", path="f")
    assert {path.name for path in tmp_path.iterdir()} == {"s.npy", "f.partial", "f.partial.journal"}
    compress("s.npy", path="f", resume=True).close()
    compress("s.npy", path="g").close()
    assert (tmp_path / "f").read_bytes() == (tmp_path / "g").read_bytes()


HOLDS = """
import sys
from pathlib import Path
from zipml_codec.formats.partial import Partial

with Partial(Path("f")):
    print(1, flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_refused(array, tmp_path):
    """By a process that has it, from the first row it reads on, with resume or without; what that one does stays as it is."""
    with subprocess.Popen([sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"1\n"
        journal_of(tmp_path / "f").write_bytes(b"its own")
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(OutputError, match="another process is writing it"):
                compress("s.npy", path="f", **options)
        assert journal_of(tmp_path / "f").read_bytes() == b"its own"
        other.stdin.close()
        assert other.wait(30) == 0
    compress("s.npy", path="f").close()
    assert {path.name for path in tmp_path.iterdir()} == {"s.npy", "f"}


def test_a_file_of_two_names_is_not_written_over(array, tmp_path):
    """Killed between giving the file its name and taking the other away: the next writer must not write into it."""
    compress("s.npy", path="f").close()
    expected = (tmp_path / "f").read_bytes()
    os.link("f", "f.partial")
    with pytest.raises(DataError):
        compress(np.full((10, 2), np.nan), path="f", overwrite=True)
    assert (tmp_path / "f").read_bytes() == expected
    compress("s.npy", path="f", overwrite=True, resume=True).close()
    assert (tmp_path / "f").read_bytes() == expected and not (tmp_path / "f.partial").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_outputs_that_are_no_files(array, tmp_path, overwrite):
    """A rename would replace a device, a pipe or a link by a file, for everybody: /dev/null was."""
    os.mkfifo("pipe")
    (tmp_path / "link").symlink_to("nowhere")
    outputs = {"pipe": "is a device or a pipe", "n" * 300: "File name too long"}
    if not overwrite:
        outputs["link"] = "link exists"
    if Path("/proc/self").exists():
        outputs["/proc/x"] = "no files can be made in /proc"
    for name, told in outputs.items():
        with pytest.raises(OutputError, match=told):
            compress("s.npy", path=name, overwrite=overwrite)
    with pytest.raises(OutputError, match="it is no file"):
        write_arrays(tmp_path / "pipe", "model", {})
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "link").is_symlink()
    assert leavings(tmp_path) == {"s.npy", "pipe", "link"}


LIMITED = """
import resource, sys
from zipml_codec import journal, rows
from zipml_codec.cli import main
from zipml_codec.formats import header

journal.EVERY, journal.SHARE = 0.0, float("inf")
rows.BLOCK_BYTES, header.CHUNK_BYTES = 16384, 4096
for limit in map(int, sys.argv[1].split(",")):
    if not (child := __import__("os").fork()):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        __import__("signal").signal(25, 1)  # SIGXFSZ: ignored, so that writing fails with EFBIG
        __import__("os")._exit(main(sys.argv[2:]))
    print("code", __import__("os").waitpid(child, 0)[1] >> 8, flush=True)
"""


@pytest.mark.parametrize("extra", EXTRAS, ids=" ".join)
def test_a_full_disk_at_every_stage(source, tmp_path, extra):
    """No file may grow beyond a limit, from nothing to all that is needed: an error of one line, and nothing is left."""
    assert main(ARGUMENTS + extra) == 0
    size = max(*map(len, content(tmp_path).values()), 1_000_000)  # the journal may be larger than the file
    limits = ",".join(str(size * step // 12) for step in range(13))
    command = [sys.executable, "-c", LIMITED, limits, *ARGUMENTS, *extra, "--overwrite"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    codes = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("code ")]
    said = [line for line in done.stderr.splitlines() if "note:" not in line]
    assert len(codes) == 13 and codes[0] == 2 and codes[-1] == 0 and set(codes) == {0, 2}, done.stderr
    assert len(said) == codes.count(2)
    for line in said:
        assert "no space left on the disk" in line or "File too large" in line, line
    assert leavings(tmp_path) == {"f"}


def test_the_partial_file_alone(tmp_path):
    """What a block of Partial leaves: nothing after an error of the data, all that a journal vouches for after another."""
    for error, left in ((DataError, set()), (OutputError, set()), (KeyboardInterrupt, {"f.partial", "f.partial.journal"})):
        with pytest.raises(error), Partial(tmp_path / "f") as partial:
            partial.begin(False)
            partial.journal.touch()
            raise error
        assert {path.name for path in tmp_path.iterdir()} == left


# ---- Shards ----


@pytest.fixture
def text(tmp_path, monkeypatch, small):
    """A table with labels, numbers and text to keep, and levels that some of its values are outside of."""
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, FEATURES)).astype(np.float32)
    table = pandas.DataFrame(X, columns=[f"c{number}" for number in range(FEATURES)])
    table["y"], table["z"], table["id"] = X[:, 0], X[:, 1], np.arange(2000)
    table["name"] = [f"{'é' * (number % 7)}{number}" for number in range(2000)]
    compress(X[:500] / 2, path="narrow").close()
    return table


def steps(monkeypatch, given, options, at, kept=None):
    """Compress, and stop after so many steps; whether it was not over before. `kept` gets the journal after each."""
    tick, ticks, path = journal.Journal.tick, [], journal_of(Path("f"))

    def count(self, state):
        tick(self, state)
        ticks.append(1)
        if kept is not None:
            kept.append(path.read_bytes())
        if len(ticks) == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "tick", count)
        try:
            compress(given, path="f", **options).close()
        except KeyboardInterrupt:
            return True
    return False


CHOSEN = {"label": ["y", "z"], "keep": ["id", "name"]}
CLIPPED = {"levels": "narrow", "clip": True}
MANY = [{"shard_rows": 1999, "zstd": 1} | CLIPPED, {"shard_rows": 150}, {"shard_rows": 640, "zstd": 3}, {"shard_rows": 9999}]
SHARDS = [(5, {"shard_rows": 300, "zstd": 3}), (5, {"shard_rows": 777} | CLIPPED)]  # each so many steps apart
SHARDS += [pytest.param(1, options, marks=pytest.mark.slow) for options in MANY]


@pytest.mark.parametrize(("apart", "options"), SHARDS, ids=str)
def test_shards_go_on_from_every_step(text, tmp_path, monkeypatch, apart, options):
    """Stopped after steps in turn, and again and again after each two; labels, kept columns and counts of clipped values."""
    options = options | CHOSEN
    assert not steps(monkeypatch, text, options, None)
    expected, at, resumed = content(tmp_path), 1, options | {"resume": True}
    while steps(monkeypatch, text, options, at):
        assert {path.name for path in tmp_path.iterdir()} == {"narrow", "f.partial", "f.partial.journal"}
        compress(text, path="f", **resumed).close()
        assert content(tmp_path) == expected
        at += apart
    assert at > 10 and content(tmp_path) == expected
    while steps(monkeypatch, text, resumed, 2):
        pass
    assert content(tmp_path) == expected and {path.name for path in tmp_path.iterdir()} == {"narrow"}


@pytest.mark.parametrize(("apart", "options"), SHARDS, ids=str)
def test_shards_that_were_written_after_the_journal(text, tmp_path, monkeypatch, apart, options):
    """As a loss of power leaves them, and a kill: shards that the journal calls open are taken back, later ones removed."""
    options, kept = options | CHOSEN, []
    assert not steps(monkeypatch, text, options, None, kept)
    expected, last = content(tmp_path), len(kept) - 1
    assert steps(monkeypatch, text, options, last + 1)
    (tmp_path / "f.partial").rename("whole")
    for at in range(len(kept) // 2, len(kept), apart):
        for published in (False, True):
            shutil.copytree("whole", "f.partial")
            journal_of(tmp_path / "f").write_bytes(kept[at])
            done = sorted((tmp_path / "f.partial").glob("shard-*.h5"))
            if published:  # killed between giving a shard its name and taking the other away
                for shard in done:
                    os.link(shard, f"{shard}.partial")
            compress(text, path="f", **options, resume=True).close()
            assert content(tmp_path) == expected


def test_damaged_and_other_shards_are_found(array, tmp_path, monkeypatch):
    options = {"shard_rows": 1000}

    def cut(folder):
        os.truncate(folder / "shard-00000.zipml.h5", 4096)

    def exchange(folder):
        (folder / "shard-00000.zipml.h5").write_bytes((folder / "shard-00001.zipml.h5").read_bytes())

    def remove(folder):
        (folder / "shard-00001.zipml.h5").unlink()

    def cut_open(folder):
        os.truncate(folder / "shard-00002.zipml.h5.partial", 100)

    for harm in (cut, exchange, remove, cut_open):
        assert steps(monkeypatch, "s.npy", options, 19 + 8)
        harm(tmp_path / "f.partial")
        with pytest.raises((OutputError, zipml_codec.errors.CorruptError), match="shard-0000[012]"):
            compress("s.npy", path="f", resume=True, **options)
        assert {path.name for path in tmp_path.iterdir()} == {"s.npy"}


def test_shards_and_one_file_are_not_taken_for_each_other(array, tmp_path, monkeypatch):
    for options, other, what in (({"shard_rows": 1000}, {}, "a folder of shards"), ({}, {"shard_rows": 1000}, "one file")):
        assert steps(monkeypatch, "s.npy", options, 25)
        before = {path.name for path in tmp_path.iterdir()}
        for resume in (False, True):
            with pytest.raises(OutputError, match=rf"f\.partial is {what} that was interrupted"):
                compress("s.npy", path="f", resume=resume, **other)
        if "shard_rows" in options:
            with pytest.raises(OptionError, match="shard_rows changed: 1000 then, 999 now"):
                compress("s.npy", path="f", resume=True, shard_rows=999)
        assert {path.name for path in tmp_path.iterdir()} == before
        compress("s.npy", path="f", resume=True, **options).close()
        content(tmp_path)


def test_shards_in_the_place_of_others(array, tmp_path, monkeypatch):
    """The old folder stays until the new one is complete; killed just then, what is left of either is in nobody's way."""
    options = {"shard_rows": 1000, "overwrite": True}
    compress("s.npy", path="f", shard_rows=500, bits=2).close()
    old = files(tmp_path / "f")
    assert steps(monkeypatch, "s.npy", options, 30) and files(tmp_path / "f") == old
    compress("s.npy", path="f", resume=True, **options).close()
    new = files(tmp_path / "f")
    assert new != old and leavings(tmp_path) == {"s.npy", "f"}
    assert steps(monkeypatch, "s.npy", options, 30)
    with monkeypatch.context() as patch:
        patch.setattr(shardwriter.shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            compress("s.npy", path="f", resume=True, **options)
    assert files(tmp_path / "f") == new and not journal_of(tmp_path / "f").exists()
    compress("s.npy", path="f", resume=True, **options).close()
    assert files(tmp_path / "f") == new and leavings(tmp_path) == {"s.npy", "f"}
