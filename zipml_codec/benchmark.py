"""`zipml bench`: what this machine reads, encodes, decodes and trains on in a second, measured in turn in one process.

A round measures everything once; figures are medians over the rounds, and ratios (speed-ups, shares of the bandwidth) are
medians of the ratios within a round, so that a machine that others use slows both sides. Data exceed the last-level cache.
Codes are random (the speed does not depend on them) and take about as many bytes as the float32 rows: they are more rows, and
what is compared is features a second.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import check_integer, thread_count
from .codec import Codec, interval_count, row_stride
from .errors import DivergenceError, OptionError
from .formats.output import check_output
from .kernels import integer, simd
from .levels import optimal_levels
from .order import epoch_rows
from .progress import Progress
from .report import new_figure, save, speed_bars

WIDTHS, TABLE_WIDTHS, TABLE_STEPS = (8, 6, 4, 3, 2), (6, 4, 3, 2), 255
PRECISION = 8  # bits of the model and of the residual
CODEC_BITS, CODEC_SAMPLES = 4, 2  # of the codes that are encoded and decoded
MAX_FEATURES, MAX_ROUNDS, LEAST_ROUNDS, ROUNDS = 1 << 17, 1000, 5, 15
CACHES = 4  # data are so many times the last-level cache
UNEVEN = 1.3  # a median over the best round that is worth a note
LEAST_BYTES, QUICK_BYTES, MOST_BYTES = 128 << 20, 256 << 20, 1 << 30
ARRAYS = 6  # rows, decoded rows, codes, and the orders of their epochs: memory in units of the rows' bytes, at most
ROW_EXTRA = 12  # bytes of a row's number in the order, and of its label
PAUSE, BLAS_PAUSE = 0.02, 0.2  # s: OpenMP's idle threads spin for some ms, OpenBLAS's for 0.1 s, on cores that the next one needs
GIGA = 1e9
COLUMNS = (
    "what", "batch", "threads", "rows", "ms", "GB/s", "of", "G features/s", "of read bandwidth", "x float32", "x numpy",
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """The command's options; None is a default."""

    rows: int | None = None
    features: int = 1024
    batch: str = "1024"
    threads: str | None = None
    rounds: int | None = None
    quick: bool = False
    plot: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Machine:
    """What the figures belong to."""

    cpu: str
    simd: str
    threads: int
    cache_bytes: int
    memory_bytes: int
    numpy: str
    blas: str
    blas_threads_set: bool


@dataclass(frozen=True)
class Plan:
    """Sizes of everything, checked."""

    rows: int
    features: int
    batches: tuple[int, ...]
    threads: tuple[int, ...]
    rounds: int

    @property
    def nbytes(self) -> int:
        """Bytes of the float32 rows, and of the codes of each width."""
        return 4 * self.rows * self.features


@dataclass
class Line:
    """One thing that every round measures, and what it has taken so far."""

    name: str
    kind: str  # read, encode, decode, float32, numpy or codes
    levels: str | None
    bits: int | None
    batch: int | None
    threads: int
    rows: int
    values: int
    nbytes: int
    unit: str
    clock: Callable[[], float]
    seconds: list[float] = field(default_factory=list)

    def about(self, peers: dict[str, Line]) -> dict[str, Any]:
        """What the JSON says of it; peers: the lines read, float32 and numpy of the same threads and batch."""
        taken = median(self.seconds)
        training = self.kind in ("float32", "numpy", "codes")
        return {
            "name": self.name, "kind": self.kind, "levels": self.levels, "bits": self.bits, "batch": self.batch,
            "threads": self.threads, "rows": self.rows, "values": self.values, "bytes": self.nbytes, "bytes_of": self.unit,
            "seconds": taken, "gb_per_second": self.nbytes / taken / GIGA, "gfeatures_per_second": self.values / taken / GIGA,
            "share_of_read_bandwidth": self._ratio(peers["read"], self.nbytes, peers["read"].nbytes),
            "speed_up_over_float32": self._ratio(peers["float32"], self.values, peers["float32"].values) if training else None,
            "speed_up_over_numpy": self._ratio(peers["numpy"], self.values, peers["numpy"].values) if training else None,
            "seconds_of_rounds": list(self.seconds),
        }  # fmt: skip

    def _ratio(self, peer: Line, amount: int, amount_of_peer: int) -> float:
        """Median over the rounds of this line's rate by the peer's."""
        pairs = zip(self.seconds, peer.seconds, strict=True)
        return median(amount / mine / (amount_of_peer / other) for mine, other in pairs)


# --- the machine --------------------------------------------------------------------------------------------------


def cache_bytes() -> int:
    """Size of the largest cache that Linux tells of; elsewhere 0."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    texts = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max((int(text[:-1]) * units[text[-1]] for text in texts if text and text[-1] in units), default=0)


def memory_bytes() -> int:
    """Memory that this process may have: the machine's, or its control group's limit; 0 where neither is known."""
    found = []
    if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(getattr(os, "sysconf_names", ())):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        limit = ""
    found += [int(limit)] if limit.isdecimal() else []
    return min(found, default=0)


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "unknown"


class Blas:
    """NumPy's BLAS: which it is, and its number of threads where threadpoolctl is installed."""

    def __init__(self) -> None:
        self.name, self._controller = "unknown", None
        try:
            from threadpoolctl import ThreadpoolController
        except ImportError:
            return
        found = ThreadpoolController().select(user_api="blas")
        if found.lib_controllers:
            self._controller, first = found, found.info()[0]
            self.name = f"{first['internal_api']} {first['version'] or ''}".strip()

    @property
    def can_set(self) -> bool:
        """Whether `limit` has any effect."""
        return self._controller is not None

    def limit(self, threads: int) -> AbstractContextManager[Any]:
        """At most `threads` threads inside a ``with`` block."""
        return nullcontext() if self._controller is None else self._controller.limit(limits=threads)


def this_machine(blas: Blas) -> Machine:
    """The machine as the command prints it."""
    return Machine(
        _cpu(), simd.active(), thread_count(None), cache_bytes(), memory_bytes(), np.__version__, blas.name, blas.can_set
    )


# --- the plan -----------------------------------------------------------------------------------------------------


def _counts(name: str, text: str, high: int) -> tuple[int, ...]:
    """Positive integers from text like "1,2,4", each once, ascending."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"{name} must be integers separated by commas; got {text!r}") from None
    return tuple(sorted({check_integer(name, count, 1, high) for count in found}))


def _doubling(most: int) -> tuple[int, ...]:
    return tuple(sorted({most, *(1 << power for power in range(most.bit_length()) if 1 << power <= most)}))


def plan(choice: Choice, machine: Machine) -> Plan:
    """Sizes from options and machine.

    Raises
    ------
    OptionError
        An option out of range, or rows that take more than the memory.
    """
    features = check_integer("features", choice.features, 1, MAX_FEATURES)
    batches = _counts("batch", choice.batch, 1 << 24)
    if choice.threads is None:
        threads = tuple(sorted({1, machine.threads})) if choice.quick else _doubling(machine.threads)
    else:
        threads = tuple(thread_count(count) for count in _counts("threads", choice.threads, 1024))
    usual = LEAST_ROUNDS if choice.quick else ROUNDS
    rounds = check_integer("rounds", usual if choice.rounds is None else choice.rounds, 1, MAX_ROUNDS)
    if choice.rows is not None:
        rows = check_integer("rows", choice.rows, 1)
        if machine.memory_bytes and ARRAYS * 4 * rows * features > machine.memory_bytes:
            raise OptionError(
                f"rows={rows} of {features} features take {ARRAYS * 4 * rows * features / GIGA:.3g} GB of memory with their "
                f"codes; this machine has {machine.memory_bytes / GIGA:.3g}"
            )
    else:
        size = min(max(CACHES * machine.cache_bytes, LEAST_BYTES), QUICK_BYTES if choice.quick else MOST_BYTES)
        if machine.memory_bytes:
            size = min(size, machine.memory_bytes // (4 * ARRAYS))
        rows = max(1, size // (4 * features))
    return Plan(rows, features, batches, threads, rounds)


# --- what is measured ---------------------------------------------------------------------------------------------


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """A clock of one call after another."""

    def clock() -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    return clock


class Bench:
    """The data, and the lines over them."""

    def __init__(self, plan: Plan, blas: Blas) -> None:
        self.plan, self.blas = plan, blas
        generator = np.random.Generator(np.random.SFC64(0))
        rows, features = plan.rows, plan.features
        self.X = integer.aligned_empty((rows, features), np.float32)
        generator.standard_normal(dtype=np.float32, out=self.X)
        self.decoded = self.X.copy()
        self.order = epoch_rows(rows, 4 * features)
        self.strides = {bits: row_stride(features, bits) for bits in WIDTHS}
        self.code_rows = {bits: max(1, plan.nbytes // (stride + ROW_EXTRA)) for bits, stride in self.strides.items()}
        size = max(self.code_rows[bits] * stride for bits, stride in self.strides.items())
        self.codes = integer.aligned_empty((-(-size // 8) * 8,), np.uint8)
        self.codes.view(np.uint64)[:] = generator.integers(0, 2**64, len(self.codes) // 8, np.uint64)
        self.orders = {bits: epoch_rows(count, self.strides[bits]) for bits, count in self.code_rows.items()}
        self.y = generator.standard_normal(max(rows, *self.code_rows.values()), np.float32)
        self.tables = {
            bits: np.sort(generator.integers(0, TABLE_STEPS + 1, (features, 2**bits), np.uint8), axis=1) for bits in TABLE_WIDTHS
        }

    def lines(self) -> Iterator[Line]:
        """Everything to measure, in the order of a round. NumPy's epoch is the last of its batch: a pause follows it."""
        codecs = self._codecs()
        packed = np.zeros((self.plan.rows, codecs["uniform"].stride), np.uint8)
        decoded = self.decoded
        for threads in self.plan.threads:
            yield self._line("read memory", "read", threads, self._read(threads))
            for levels, codec in codecs.items():
                encode = timed(partial(self._encode, codec, packed, threads))
                yield self._line(f"encode to {CODEC_BITS} bits, {levels}", "encode", threads, encode, levels, CODEC_BITS)
            decode = timed(partial(codecs["uniform"].decode_into, packed, decoded, threads))
            yield self._line(f"decode {CODEC_BITS} bits", "decode", threads, decode, "uniform", CODEC_BITS)
            for batch in self.plan.batches:
                yield self._line("SGD float32", "float32", threads, self._dense(batch, threads), batch=batch)
                for kind, widths in (("uniform", WIDTHS), ("table", TABLE_WIDTHS)):
                    for bits in widths:
                        yield self._codes_line(kind, bits, batch, threads)
                yield self._line("SGD float32, numpy", "numpy", threads, self._numpy(batch, threads), batch=batch)

    def sweep(self, line: Line) -> None:
        """Fill the caches with data that a line does not read: of a repeated pass, a fourth may come from them."""
        (self.X if line.kind == "decode" else self.decoded).max()

    def _line(
        self, name: str, kind: str, threads: int, clock: Callable[[], float], levels: str | None = None,
        bits: int | None = None, batch: int | None = None,
    ) -> Line:  # fmt: skip
        """A line over the float32 rows."""
        rows, size = self.plan.rows, self.X.size
        return Line(name, kind, levels, bits, batch, threads, rows, size, 4 * size, "float32", clock)

    def _encode(self, codec: Codec, out: NDArray[np.uint8], threads: int) -> None:
        self._must(not codec.encode_into(self.X, out, 0, 0, threads))

    def _codecs(self) -> dict[str, Codec]:
        """Uniform and optimal levels over the range of all values; the latter placed for a sample, the same for each feature."""
        low, high = self.X.min(), self.X.max()
        sample = self.X.reshape(-1)[: 1 << 16]
        levels = optimal_levels(sample, interval_count(CODEC_BITS, CODEC_SAMPLES)).values.astype(np.float32)
        table = np.interp(np.arange(interval_count(CODEC_BITS, CODEC_SAMPLES) + 1), np.arange(len(levels)), levels)
        table[0], table[-1] = low, high
        features, kinds = self.plan.features, (CODEC_BITS, CODEC_SAMPLES)
        return {
            "uniform": Codec.uniform(np.full(features, low), np.full(features, high), *kinds),
            "optimal": Codec(np.tile(table, (features, 1)), *kinds),
        }

    def _read(self, threads: int) -> Callable[[], float]:
        """Reading all rows by np.dot or np.max, whichever is faster, one part of them a thread."""
        a, b = np.array_split(self.X.reshape(-1)[: self.X.size // 2 * 2], 2)
        parts = [slice(*ends) for ends in pairwise(np.linspace(0, len(a), threads + 1).astype(int)) if ends[0] < ends[1]]
        ways: tuple[Callable[[slice], object], ...] = (
            lambda part: np.dot(a[part], b[part]),
            lambda part: (a[part].max(), b[part].max()),
        )

        def all_of(pool: ThreadPoolExecutor, way: Callable[[slice], object]) -> None:
            list(pool.map(way, parts))

        def clock() -> float:
            time.sleep(PAUSE)
            with ThreadPoolExecutor(threads) as pool:
                best = np.inf
                for way in (*ways, *ways):  # the first one starts the threads
                    self.decoded.max()  # as `sweep`
                    best = min(best, timed(partial(all_of, pool, way))())
            if not self.blas.can_set:
                time.sleep(BLAS_PAUSE)
            return best

        return clock

    def _step(self, rows: int, batch: int) -> NDArray[np.float32]:
        """Steps of an epoch, small enough to stay finite on values of variance 1."""
        return np.full(-(-rows // batch), 0.1 / (1 + self.plan.features / batch), np.float32)

    def _dense(self, batch: int, threads: int) -> Callable[[], float]:
        zeros, ones = np.zeros(self.plan.features, np.float32), np.ones(self.plan.features, np.float32)
        state, steps = integer.DenseState(self.plan.features, batch, zeros, zeros, ones), self._step(self.plan.rows, batch)
        y = self.y[: self.plan.rows]
        return timed(lambda: self._must(state.run(self.X, y, self.order, steps, threads)[1]))

    def _numpy(self, batch: int, threads: int) -> Callable[[], float]:
        """Mini-batches of neighbouring rows: what NumPy takes at least."""
        step = self._step(1, batch)[0]
        waits = threads > 1 or not self.blas.can_set

        def epoch() -> None:
            w, bias = np.zeros(self.plan.features, np.float32), np.float32(0)
            for start in range(0, self.plan.rows, batch):
                rows = self.X[start : start + batch]
                e = rows @ w + bias - self.y[start : start + len(rows)]
                w -= step / np.float32(len(rows)) * (e @ rows)
                bias -= step * e.mean()

        def clock() -> float:
            time.sleep(PAUSE)
            with self.blas.limit(threads):
                taken = timed(epoch)()
            time.sleep(BLAS_PAUSE if waits else PAUSE)
            return taken

        return clock

    def _codes_line(self, kind: str, bits: int, batch: int, threads: int) -> Line:
        features, stride, count = self.plan.features, self.strides[bits], self.code_rows[bits]
        top = 2**bits - 1 if kind == "uniform" else TABLE_STEPS
        low, step = np.full(features, -1, np.float32), np.full(features, 2 / top, np.float32)
        table = self.tables[bits] if kind == "table" else None
        if table is not None:
            low = (-table.mean(axis=1) * step).astype(np.float32)  # features of mean 0, as training has them
        held = integer.IntegerRows(features, bits, 1, stride, low, step, table)
        held.hold(self.codes[: count * stride].reshape(count, stride), self.y[:count])
        zeros, steps, order = np.zeros(features, np.float32), self._step(count, batch), self.orders[bits]
        state = integer.IntegerState(features, batch, zeros, None, PRECISION, 32, PRECISION)
        clock = timed(lambda: self._must(state.run(held, order, steps, threads)[2]))
        values = count * features
        name, nbytes = f"SGD {bits} bits, {kind}", count * stride
        return Line(name, "codes", kind, bits, batch, threads, count, values, nbytes, "codes", clock)

    @staticmethod
    def _must(fine: bool) -> None:
        if not fine:
            raise DivergenceError("a measured run did not finish: its values are not finite, or not within their levels")


# --- the run ------------------------------------------------------------------------------------------------------


def run_bench(choice: Choice, progress: bool = True) -> dict[str, Any]:
    """Measure this machine; what `zipml bench --json` prints.

    Parameters
    ----------
    choice : Choice
    progress : bool
        Whether to show a bar, where standard error is a terminal.

    Returns
    -------
    dict
        machine, settings, lines (a dict for each row of the table), notes, picture (a path or None), total_seconds.

    Raises
    ------
    OptionError
        An option out of range.
    OutputError
        The picture exists, or cannot be made.
    MissingDependencyError
        A picture is asked for, and matplotlib is not installed.
    """
    begun, blas = time.perf_counter(), Blas()
    machine = this_machine(blas)
    sizes = plan(choice, machine)
    if choice.plot is not None:
        check_output(choice.plot, choice.overwrite)
        new_figure()
    notes = _notes(sizes, machine)
    bench = Bench(sizes, blas)
    lines = list(bench.lines())
    visible = progress and sys.stderr.isatty()
    count = (sizes.rounds + 1) * len(lines)
    # BLAS at one thread but within NumPy's epochs: a change of the number wakes its threads, which then spin
    with blas.limit(1), Progress("measuring", count, None, visible, alone=True) as bar:
        for number in range(sizes.rounds + 1):
            for line in lines:
                bench.sweep(line)
                taken = line.clock()
                if number:  # the first round only warms up
                    line.seconds.append(taken)
                bar.advance(1, note=f"round {number} of {sizes.rounds}: {line.name}")
    notes += unrest(lines)
    result = {
        "machine": vars(machine), "settings": vars(sizes) | {"float32_bytes": sizes.nbytes, "model_bits": PRECISION,
        "residual_bits": PRECISION}, "lines": _about(lines), "notes": notes,
        "picture": None if choice.plot is None else str(choice.plot),
    }  # fmt: skip
    if choice.plot is not None:
        draw(choice.plot, result)
    return result | {"total_seconds": time.perf_counter() - begun}


def _about(lines: list[Line]) -> list[dict[str, Any]]:
    """Every line with its peers: read of the same threads; float32 and numpy of the same threads and batch."""
    peers = {(line.kind, line.threads, line.batch): line for line in lines if line.kind in ("read", "float32", "numpy")}
    out = []
    for line in lines:
        beside = {kind: peers[kind, line.threads, line.batch] for kind in ("float32", "numpy") if line.batch is not None}
        out.append(line.about({"read": peers["read", line.threads, None], **beside}))
    return out


def _notes(sizes: Plan, machine: Machine) -> list[str]:
    """What a reader of the table must know."""
    notes = [
        "Medians of the rounds; ratios are medians of those within a round. A line of SGD is one epoch; x float32, x numpy: its",
        "features a second by those of the same SGD on float32 rows, same batch and threads, by our best kernel and by NumPy.",
        f"Model and residual of {PRECISION} bits. Codes take about the bytes of the float32 rows, so they are more rows.",
    ]
    if not machine.blas_threads_set:
        notes.append("threadpoolctl is not installed: NumPy's BLAS ran at its own number of threads on every line.")
    if sizes.nbytes < 2 * machine.cache_bytes:
        notes.append(
            f"The data, {sizes.nbytes / 1e6:.3g} MB, are less than twice the cache, {machine.cache_bytes / 1e6:.3g} MB: "
            "these are not the speeds of memory."
        )
    if sizes.rounds < LEAST_ROUNDS:
        notes.append(f"Fewer than {LEAST_ROUNDS} rounds: medians of so few say little.")
    if max(sizes.threads) > machine.threads:
        notes.append(f"More threads than the {machine.threads} processors: they wait for each other.")
    return notes


def unrest(lines: list[Line]) -> list[str]:
    """A note where medians are far from the best round: what else ran had a part in them."""
    uneven = [line.name for line in lines if median(line.seconds) > UNEVEN * min(line.seconds)]
    if not uneven:
        return []
    return [
        f"Of {len(uneven)} of {len(lines)} lines the median is more than {UNEVEN} times the best round ({uneven[0]}"
        f"{', ..' if len(uneven) > 1 else ''}): other programs used the cores; measure again when they are idle."
    ]


def machine_lines(result: dict[str, Any]) -> list[str]:
    """The lines above the table."""
    machine, settings = result["machine"], result["settings"]
    cache = f", {machine['cache_bytes'] / 2**20:.0f} MiB cache" if machine["cache_bytes"] else ""
    return [
        f"{machine['cpu']}, {machine['threads']} threads, vector level {machine['simd']}{cache}; "
        f"numpy {machine['numpy']}, BLAS {machine['blas']}",
        f"float32: {settings['rows']:,} rows x {settings['features']:,} features, {settings['float32_bytes'] / 2**20:,.0f} MiB; "
        f"{settings['rounds']} rounds",
    ]


def table_rows(result: dict[str, Any]) -> tuple[list[list[str]], list[int]]:
    """Rows of the table, as text under COLUMNS, and the numbers of rows that begin a section."""
    rows: list[list[str]] = []
    sections: list[int] = []
    for _, group in groupby(result["lines"], lambda line: (line["threads"], line["batch"])):
        sections.append(len(rows))
        for line in group:
            ups = [line["speed_up_over_float32"], line["speed_up_over_numpy"]]
            rows.append([
                line["name"], "" if line["batch"] is None else f"{line['batch']:,}", str(line["threads"]), f"{line['rows']:,}",
                f"{1e3 * line['seconds']:,.2f}", f"{line['gb_per_second']:.1f}", line["bytes_of"],
                f"{line['gfeatures_per_second']:.1f}", f"{line['share_of_read_bandwidth']:.0%}",
                *("" if ratio is None else f"{ratio:.2f}" for ratio in ups),
            ])  # fmt: skip
    return rows, sections


def draw(path: Path, result: dict[str, Any]) -> None:
    """Features a second of each width, a panel for one thread and for all, at each batch."""
    settings = result["settings"]
    ends = sorted({min(settings["threads"]), max(settings["threads"])})
    panels = [(threads, batch) for batch in settings["batches"] for threads in ends]
    figure, axes = new_figure(len(panels), width=5.4)
    for axis, (threads, batch) in zip(axes, panels, strict=True):
        lines = [line for line in result["lines"] if (line["threads"], line["batch"]) == (threads, batch)]
        bars = {
            name: {
                line["bits"]: (line["gfeatures_per_second"], line["speed_up_over_float32"])
                for line in lines
                if line["levels"] == kind
            }
            for name, kind in (("codes, uniform levels", "uniform"), ("codes, tables of levels", "table"))
        }
        across = {
            name: next(line["gfeatures_per_second"] for line in lines if line["kind"] == kind)
            for name, kind in (("float32, our kernel", "float32"), ("float32, numpy", "numpy"))
        }
        title = f"An epoch of SGD, batch {batch:,}, {threads} thread{'s' * (threads > 1)}"
        speed_bars(axis, bars, across, title=title, xlabel="bits a value", ylabel="G features/s")
    top = max(axis.get_ylim()[1] for axis in axes)
    for axis in axes:
        axis.set_ylim(0, top)
    save(figure, path)
