"""What the suites share: data, a probe of the memory's read bandwidth, paired timing, and one table at the end.

A benchmark is timed round by round with its peers: peer, pause, library, peer, pause, library. Medians of both, so that a
machine that others use slows both. The numbers of the table are in pytest-benchmark's extra_info, and so in its JSON.
"""

import io
import os
import statistics as st
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from zipml_codec.arrays import thread_count
from zipml_codec.kernels import simd
from zipml_codec.rows import block_rows
from zipml_codec.statistics import ColumnStatistics
from zipml_codec.tables import make_codec

ROWS = int(os.environ.get("ZIPML_BENCH_ROWS", "100000"))
FEATURES = int(os.environ.get("ZIPML_BENCH_FEATURES", "1024"))
ROUNDS = int(os.environ.get("ZIPML_BENCH_ROUNDS", "3"))
ALL = thread_count(None)
PAUSE = 0.02  # s; OpenMP's threads spin for some ms before they sleep, on a core that the next one needs
BLAS_PAUSE = (
    0.2  # OpenBLAS's spin for about 0.1 s: a kernel that starts within it takes up to twice its time on 2 cores
)
PROBE_BYTES = 512 << 20
GIGA = 1e9


@dataclass
class Line:
    """A row of the table."""

    suite: str
    name: str
    seconds: float
    values: int
    nbytes: int
    unit: str
    share: float
    peers: dict[str, dict[str, float]] = field(default_factory=dict)

    def info(self):
        """What goes into extra_info, and from there into the JSON."""
        return {
            "name": self.name,
            "median_seconds": self.seconds,
            "gb_per_s": self.nbytes / self.seconds / GIGA,
            "gb_of": self.unit,
            "gfeatures_per_s": self.values / self.seconds / GIGA,
            "share_of_read_bandwidth": self.share,
            "peers": self.peers,
        }


LINES = pytest.StashKey[list]()
BANDWIDTH = pytest.StashKey[dict]()


def pytest_configure(config):
    config.stash[LINES] = []
    if config.pluginmanager.hasplugin("benchmark") and not config.getoption("benchmark_compare"):
        config.option.benchmark_quiet = True  # one table, ours; --benchmark-compare and --benchmark-verbose show theirs


def pytest_generate_tests(metafunc):
    """`threads`: 1 and all; None stands for all, so that names are the same on every machine."""
    if "threads" in metafunc.fixturenames:
        counts = {"1": 1, "all": None} if ALL > 1 else {"all": None}
        metafunc.parametrize("threads", list(counts.values()), ids=[f"threads={name}" for name in counts])


# --- the machine --------------------------------------------------------------------------------------------------


def last_cache_bytes():
    """Size of the largest cache that Linux tells of."""
    units = {"K": 1 << 10, "M": 1 << 20}
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max((int(size[:-1]) * units[size[-1]] for size in sizes if size and size[-1] in units), default=0)


def probe(threads):
    """GB/s at which `threads` threads read float32 arrays larger than the caches: the best way, best of 5, and its name.

    np.dot of two vectors (OpenBLAS sdot: two streams of vector loads) is the fastest reader numpy has where BLAS does not
    share it out itself, hence one call a thread on its own part; np.max is close; sums are bound by additions.
    """
    count = max(PROBE_BYTES, 2 * last_cache_bytes()) // 8
    a, b = np.ones(count, np.float32), np.ones(count, np.float32)
    edges = np.linspace(0, count, threads + 1).astype(int)
    parts = [slice(start, end) for start, end in pairwise(edges)]
    ways = {
        "np.dot": lambda part: np.dot(a[part], b[part]),
        "np.max": lambda part: max(a[part].max(), b[part].max()),
    }
    best = (0.0, "")
    with ThreadPoolExecutor(threads) as pool:
        for name, read in ways.items():
            for _ in range(6):  # the first one starts the threads
                begun = time.perf_counter()
                list(pool.map(read, parts))
                best = max(best, (8 * count / (time.perf_counter() - begun) / GIGA, name))
    return best


@pytest.fixture(scope="session")
def bandwidth(request):
    """Read bandwidth in GB/s by number of threads."""
    found = {threads: probe(threads) for threads in sorted({1, ALL})}
    request.config.stash[BANDWIDTH] = found
    return {threads: rate for threads, (rate, _) in found.items()}


# --- data ---------------------------------------------------------------------------------------------------------


@dataclass
class Data:
    """X (rows, features) float32, C order; y (rows,) float32."""

    X: np.ndarray
    y: np.ndarray
    folder: Path

    @property
    def npy(self):
        """X as a .npy file, in the page cache."""
        path = self.folder / "X.npy"
        if not path.exists():
            np.save(path, self.X)
        return path


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Normal columns, every fourth skewed (chi-squared), all of mean 0; labels of a linear model with noise."""
    generator = np.random.Generator(np.random.SFC64(0))
    X = generator.standard_normal((ROWS, FEATURES), np.float32)
    X[:, ::4] = X[:, ::4] ** 2 - 1
    y = X @ (generator.standard_normal(FEATURES, np.float32) / np.float32(FEATURES**0.5))
    y += generator.standard_normal(ROWS, np.float32)
    yield Data(X, y, folder := tmp_path_factory.mktemp("data"))
    for path in folder.iterdir():
        path.unlink()


@pytest.fixture(scope="session")
def statistics(data):
    """Statistics and sketches of X, block by block as compress takes them."""
    found, size = ColumnStatistics(FEATURES), block_rows(FEATURES)
    for start in range(0, ROWS, size):
        assert found.add(data.X[start : start + size], ALL)
    return found


@pytest.fixture(scope="session")
def codec(statistics):
    """codec(levels, bits, samples): the Codec that compress would make for X."""
    return cache(lambda levels, bits, samples: make_codec(statistics, levels, bits, samples, "stochastic", ALL)[0])


@pytest.fixture(scope="session")
def packed(codec, data):
    """packed(levels, bits, samples): X as packed rows."""
    return cache(lambda levels, bits, samples: codec(levels, bits, samples).encode(data.X))


# --- timing -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def all_threads():
    """What threads=None stands for."""
    return ALL


@pytest.fixture(scope="session")
def blas_pause():
    """The pause that peers need which call BLAS."""
    return BLAS_PAUSE


@pytest.fixture
def measure(benchmark, bandwidth, request):
    """measure(name, function, values=, nbytes=, unit=): time function() in rounds beside its peers; its last result.

    values, nbytes: features (rows x columns), and bytes of `unit`, that one call goes through.
    threads: those of the bandwidth to compare with; None for all.
    peers: name -> (function, values), each called and timed before each round; or (function, values, result -> seconds),
        where the result tells the time that counts.
    parts: name -> (result -> seconds, values, nbytes): further lines, of times that the result tells.
    pause: seconds to wait after each peer.
    """

    def run(name, function, *, values, nbytes, unit, threads=None, peers=None, parts=None, rounds=ROUNDS, pause=PAUSE):
        suite = request.node.path.stem.removeprefix("test_")
        peer_seconds = {peer: [] for peer in peers or {}}
        part_seconds = {part: [] for part in parts or {}}

        def setup():
            for peer, (work, _, *told) in (peers or {}).items():
                begun = time.perf_counter()
                result = work()
                elapsed = time.perf_counter() - begun
                peer_seconds[peer].append(told[0](result) if told else elapsed)
                time.sleep(pause)

        def timed():
            result = function()
            for part, (seconds, _, _) in (parts or {}).items():
                part_seconds[part].append(seconds(result))
            return result

        result = benchmark.pedantic(timed, setup=setup, rounds=rounds, warmup_rounds=1)
        if benchmark.stats is None:  # --benchmark-disable
            return result
        rates = {
            peer: work_values / st.median(peer_seconds[peer][-rounds:])
            for peer, (_, work_values, *_) in (peers or {}).items()
        }

        def line(label, seconds, count, size):
            against = {
                peer: {"gfeatures_per_s": rate / GIGA, "ratio": count / seconds / rate} for peer, rate in rates.items()
            }
            share = size / seconds / GIGA / bandwidth[threads or ALL]
            return Line(suite, label, seconds, count, size, unit, share, against)

        lines = [line(name, benchmark.stats.stats.median, values, nbytes)]
        for part, (_, count, size) in (parts or {}).items():
            lines.append(line(part, st.median(part_seconds[part][-rounds:]), count, size))
        benchmark.group = suite
        benchmark.extra_info.update(lines[0].info(), bandwidth_gb_per_s=bandwidth[threads or ALL], simd=simd.active())
        if parts:
            benchmark.extra_info["parts"] = [part.info() for part in lines[1:]]
        request.config.stash[LINES].extend(lines)
        return result

    return run


# --- the table ----------------------------------------------------------------------------------------------------


def pytest_terminal_summary(terminalreporter, config):
    lines = config.stash[LINES]
    if not lines:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("benchmark", no_wrap=True)
    for column in ("ms", "GB/s"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("of", no_wrap=True)
    for column in ("G features/s", "of bandwidth"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("times as fast as", no_wrap=True)
    for before, line in zip([None, *lines], lines, strict=False):
        if before is not None and before.suite != line.suite:
            table.add_section()
        info = line.info()
        table.add_row(
            line.name,
            f"{line.seconds * 1e3:,.1f}",
            f"{info['gb_per_s']:.2f}",
            line.unit,
            f"{info['gfeatures_per_s']:.2f}",
            f"{line.share:.1%}",
            ", ".join(f"{peer['ratio']:.2f} {name}" for name, peer in line.peers.items()),
        )
    width = 160 if not terminalreporter.isatty else max(120, terminalreporter._tw.fullwidth)
    console = Console(file=io.StringIO(), width=width, force_terminal=terminalreporter.hasmarkup)
    rates = "; ".join(
        f"{rate:.1f} GB/s on {threads} thread{'s' if threads > 1 else ''} ({way})"
        for threads, (rate, way) in config.stash[BANDWIDTH].items()
    )
    console.print(
        f"X: {ROWS:,} x {FEATURES:,} float32; vector level {simd.active()}; medians of {ROUNDS} rounds\nread bandwidth: {rates}",
        highlight=False,
    )
    console.print(table, highlight=False)
    terminalreporter.section("zipml benchmarks")
    terminalreporter.write_line(console.file.getvalue())
