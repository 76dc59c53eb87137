"""`zipml bench`: complete and consistent whatever the machine; its times are never looked at."""

import json
import os
import statistics
import sys

import numpy as np
import pytest

from zipml_codec import benchmark
from zipml_codec.arrays import thread_count
from zipml_codec.benchmark import Choice, Machine, plan
from zipml_codec.cli import main
from zipml_codec.errors import OptionError
from zipml_codec.kernels import simd
from zipml_codec.progress import Progress

TINY = ("--rows", "300", "--features", "70", "--batch", "32,128", "--threads", "1,2", "--rounds", "3")
MACHINE = Machine("a processor", "scalar", 6, 32 << 20, 16 << 30, "2", "a BLAS", True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Times do not matter here: no pauses."""
    monkeypatch.setattr(benchmark, "PAUSE", 0)
    monkeypatch.setattr(benchmark, "BLAS_PAUSE", 0)


@pytest.fixture
def bench(capsys):
    """Function that runs the command and returns (exit code, stdout, stderr)."""

    def run(*arguments):
        capsys.readouterr()
        code = main(["bench", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def measured(bench):
    code, out, err = bench(*TINY, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_every_line_is_there(measured):
    expected = []
    for threads in (1, 2):
        once = [("read", None, None), ("encode", "uniform", 4), ("encode", "optimal", 4), ("decode", "uniform", 4)]
        expected += [(*line, None, threads) for line in once]
        for batch in (32, 128):
            codes = [("uniform", bits) for bits in (8, 6, 4, 3, 2)] + [("table", bits) for bits in (6, 4, 3, 2)]
            lines = [("float32", None, None), *(("codes", *code) for code in codes), ("numpy", None, None)]
            expected += [(*line, batch, threads) for line in lines]
    keys = ("kind", "levels", "bits", "batch", "threads")
    assert [tuple(line[key] for key in keys) for line in measured["lines"]] == expected
    assert measured["settings"]["rows"] == 300 and measured["settings"]["threads"] == [1, 2]
    assert measured["machine"]["simd"] == simd.active() and measured["machine"]["threads"] == thread_count(None)


def test_numbers_follow_from_each_other(measured):
    lines = {(line["kind"], line["levels"], line["bits"], line["batch"], line["threads"]): line for line in measured["lines"]}

    def ratio(line, peer, amount):
        rates = [[one[amount] / seconds for seconds in one["seconds_of_rounds"]] for one in (line, peer)]
        return statistics.median(mine / other for mine, other in zip(*rates, strict=True))

    for (kind, _, bits, batch, threads), line in lines.items():
        rounds = line["seconds_of_rounds"]
        assert len(rounds) == 3 and min(rounds) > 0
        assert line["seconds"] == statistics.median(rounds)
        assert line["gb_per_second"] == pytest.approx(line["bytes"] / line["seconds"] / 1e9)
        assert line["gfeatures_per_second"] == pytest.approx(line["values"] / line["seconds"] / 1e9)
        assert line["values"] == line["rows"] * 70
        read = lines["read", None, None, None, threads]
        assert line["share_of_read_bandwidth"] == pytest.approx(ratio(line, read, "bytes"))
        if batch is None:
            assert line["speed_up_over_float32"] is None and line["speed_up_over_numpy"] is None
        for peer in ("float32", "numpy") if batch else ():
            expected = ratio(line, lines[peer, None, None, batch, threads], "values")
            assert line[f"speed_up_over_{peer}"] == pytest.approx(expected)
        if kind == "codes":
            assert line["bytes_of"] == "codes" and line["bytes"] == line["rows"] * -(-70 * bits // 8)
            assert line["bytes"] <= measured["settings"]["float32_bytes"] == 300 * 70 * 4
        else:
            assert line["bytes_of"] == "float32" and line["bytes"] == 300 * 70 * 4


def test_the_table_and_the_picture(bench, tmp_path):
    picture = tmp_path / "bench.png"
    code, out, err = bench("--rows", 50, "--features", 20, "--batch", 8, "--rounds", 1, "--threads", 1, "--plot", picture)
    assert (code, err) == (0, "")
    assert picture.read_bytes().startswith(b"\x89PNG") and str(picture) in out
    assert f"vector level {simd.active()}" in out and "50 rows x 20 features" in out
    table = [line for line in out.splitlines() if line.strip().startswith(("read", "encode", "decode", "SGD"))]
    assert len(table) == 4 + 1 + 9 + 1
    assert all(line.rstrip().endswith(("%", "1.00")) or " codes " in line or "float32" in line for line in table)
    for words in ("read memory", "encode to 4 bits, optimal", "SGD 4 bits, table", "SGD float32, numpy"):
        assert sum(line.strip().startswith(words) for line in table) == 1
    assert "Fewer than 5 rounds" in out
    before = picture.read_bytes()
    code, out, err = bench("--rows", 50, "--plot", picture)
    assert (code, out) == (2, "") and err.startswith("zipml: ") and "exists" in err
    assert picture.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rows", 0], "rows must be at least 1"),
        (["--features", 0], "features must be 1"),
        (["--features", 10**9], "features must be 1"),
        (["--batch", "256,many"], "batch must be integers"),
        (["--batch", ""], "batch must be integers"),
        (["--batch", "0"], "batch must be 1"),
        (["--threads", "1,0"], "threads must be 1"),
        (["--threads", "two"], "threads must be integers"),
        (["--rounds", 0], "rounds must be 1"),
        (["--rows", 10**12], "of memory"),
        (["--rows", "few"], "--rows"),
        (["--plot", "no/such/folder/a.png"], "there is no folder"),
        (["--width", 3], "--width"),
    ],
)
def test_bad_options_are_one_line(bench, arguments, says):
    code, out, err = bench(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("zipml: ") and says in err


def test_a_picture_without_matplotlib_fails_before_it_measures(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(benchmark, "Bench", None)
    code, _, err = bench("--plot", "a.png")
    assert code == 2 and "pip install" in err and not os.path.exists("a.png")


def test_without_threadpoolctl_it_says_so(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    code, out, _ = bench("--rows", 20, "--features", 8, "--rounds", 1, "--threads", 1)
    assert code == 0 and "threadpoolctl is not installed" in out


def test_a_median_far_from_the_best_round_is_told():
    def line(name, *seconds):
        return benchmark.Line(name, "read", None, None, None, 1, 1, 1, 4, "float32", lambda: 0.0, list(seconds))

    steady, shaken = line("steady", 1, 1.1, 9), line("shaken", 1, 3, 3)
    assert benchmark.unrest([steady]) == []
    (note,) = benchmark.unrest([steady, shaken])
    assert "1 of 2 lines" in note and "shaken" in note and "steady" not in note


def test_the_machines_sizes_choose_the_rows():
    sizes = plan(Choice(), MACHINE)
    assert sizes.nbytes == 4 * MACHINE.cache_bytes and sizes.threads == (1, 2, 4, 6) and sizes.batches == (1024,)
    assert plan(Choice(features=100), MACHINE).nbytes == pytest.approx(4 * MACHINE.cache_bytes, rel=1e-5)
    assert plan(Choice(quick=True), MACHINE).threads == (1, 6)
    server = Machine(**vars(MACHINE) | {"cache_bytes": 512 << 20, "memory_bytes": 1 << 40})
    assert plan(Choice(), server).nbytes == 1 << 30
    small = Machine(**vars(MACHINE) | {"memory_bytes": 1 << 30})
    assert benchmark.ARRAYS * plan(Choice(), small).nbytes <= small.memory_bytes // 4
    with pytest.raises(OptionError, match="of memory"):
        plan(Choice(rows=1 << 20), small)
    assert plan(Choice(rows=5), small).rows == 5
    unknown = Machine(**vars(MACHINE) | {"memory_bytes": 0, "cache_bytes": 0})
    assert plan(Choice(), unknown).nbytes == benchmark.LEAST_BYTES
    assert benchmark.ROUNDS >= benchmark.LEAST_ROUNDS == plan(Choice(quick=True), MACHINE).rounds >= 5


@pytest.mark.parametrize("features", [1, 7, 1000])
def test_any_width(bench, features):
    code, out, err = bench("--rows", 3, "--features", features, "--rounds", 1, "--threads", 2, "--json")
    assert (code, err) == (0, "")
    assert all(np.isfinite(line["seconds"]) for line in json.loads(out)["lines"])


def test_the_bar_of_measurements_draws_only_when_told(monkeypatch):
    monkeypatch.setattr("zipml_codec.progress.SHOW_AFTER", 0)
    with Progress("measuring", 4, None, visible=True, alone=True) as bar:
        bar.advance(1, note="round 1 of 2: read memory")
        assert not bar._bar.live.auto_refresh
        assert bar._bar.tasks[0].completed == 1 and bar._bar.tasks[0].fields["rate"] == "round 1 of 2: read memory"
