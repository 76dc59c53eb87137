"""Figure 5: time to a loss on this machine: codes in integers, float32, and float32 threads that share a model without locks."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from zipml_codec.arrays import thread_count
from zipml_codec.report import COLOURS, MARKERS

from .harness import PRECISION, Section
from .sets import NOISE, Task, loss_on

WIDTHS = (8, 6, 4)
BATCH = 256
SIZE, QUICK_SIZE = (60_000, 1000), (10_000, 100)
CLOSE = 1.05  # of float32's last loss: the loss that times are compared at


def run(paper):
    """Losses over seconds."""
    task = _task(*(QUICK_SIZE if paper.quick else SIZE))
    threads = thread_count(None)
    paper.alpha(task)
    lines = {"float32": _line(paper, task, (task.X, task.y), threads)}
    lines |= {f"float32, Hogwild, {threads} threads": _hogwild(paper, task, threads)}
    for bits in WIDTHS:
        with paper.codes(task, bits) as data:
            lines[f"{bits} bits"] = _line(
                paper, task, data, threads, debias="diagonal", **(PRECISION | {"gradient_bits": 32})
            )
    figure, (axis,) = paper.figure(1, width=7)
    for number, (name, (epoch, losses)) in enumerate(lines.items()):
        axis.plot(
            1e3 * epoch * np.array(paper.epochs),
            losses,
            color=COLOURS[number],
            marker=MARKERS[number],
            markersize=4,
            label=name,
        )
    axis.set(xscale="log", yscale="log", xlabel="milliseconds of training", ylabel="training loss on exact rows")
    axis.set_title(f"{len(task.X):,} x {task.X.shape[1]:,}, batch {BATCH}, {threads} threads", fontsize=11, loc="left")
    axis.legend(fontsize=9, frameon=False)
    paper.save("figure5", figure)
    goal = CLOSE * lines["float32"][1][-1]
    times = {
        name: epoch * next((e for e, loss in zip(paper.epochs, losses, strict=True) if loss <= goal), np.inf)
        for name, (epoch, losses) in lines.items()
    }
    own = lines["float32"][0]
    rows = [
        [name, f"{1e3 * epoch:.2f}", f"{own / epoch:.2f}", f"{losses[-1]:.5g}", f"{1e3 * times[name]:.1f}"]
        for name, (epoch, losses) in lines.items()
    ]
    paper.csv(
        "figure5",
        ["line", "epochs", "seconds", "training loss"],
        [
            (name, epochs, f"{epoch * epochs:.6g}", f"{loss:.8g}")
            for name, (epoch, losses) in lines.items()
            for epochs, loss in zip(paper.epochs, losses, strict=True)
        ],
    )
    hogwild = next(epoch for name, (epoch, _) in lines.items() if "Hogwild" in name)
    paper.claim(
        "5",
        "an FPGA trains up to 6.5 times as fast from quantized data as from float32, and is compared with Hogwild",
        f"on {threads} threads an epoch of 4 bits is {own / lines['4 bits'][0]:.1f} times, of 6 "
        f"{own / lines['6 bits'][0]:.1f} times as fast as float32's; of 4 bits "
        f"{hogwild / lines['4 bits'][0]:.1f} times as Hogwild's",
    )
    text = (
        "Time is the median epoch of the longest run, without what comes before the first. Codes: one sample, uniform levels, "
        "integers of 8 bits for model and residual. Hogwild: threads of NumPy (BLAS of one thread each) that step on one "
        "float32 model without locks, each over its own rows; its BLAS reads each batch twice. Time to the loss: of the fewest "
        f"epochs tried within {CLOSE - 1:.0%} of float32's last one."
    )
    header = ["what", "ms an epoch", "epochs, times as fast as float32", "last loss", "ms to the loss"]
    return Section("figure5", "Figure 5: loss over time on this machine", text, header, rows)


def _task(rows, features):
    generator = np.random.default_rng(5)
    X = generator.standard_normal((rows, features), dtype=np.float32)
    w = generator.standard_normal(features).astype(np.float32)
    y = X @ (w / np.linalg.norm(w)) + np.float32(NOISE) * generator.standard_normal(rows, dtype=np.float32)
    return Task(f"{rows:,} x {features:,}", "squared", X, y, X[:0], y[:0], BATCH)


def _line(paper, task, data, threads, **options):
    """Median seconds of an epoch, and the losses after each of the paper's epochs."""
    models = paper.models(task, data, threads=threads, **options)
    seconds = [entry["seconds"] for entry in models[-1].history]
    return float(np.median(seconds[1:])), [task.train_loss(model) for model in models]


class _Shared:
    """What `loss_on` takes: a model."""

    loss = "squared"

    def __init__(self, weights, bias):
        self.weights, self.bias = weights, bias

    def decision(self, X):
        return X @ self.weights + self.bias


def _hogwild(paper, task, threads):
    """Threads step on the same weights, none waiting for another; a batch is a run of rows, batches in random order."""
    from threadpoolctl import threadpool_limits

    weights, bias = np.zeros(task.X.shape[1], np.float32), np.zeros(1, np.float32)
    bias[0] = task.y.mean()
    alpha, edges = paper.alpha(task), np.linspace(0, len(task.X), threads + 1).astype(int)

    def work(part, step, seed):
        starts = np.arange(part[0], part[1], BATCH)
        np.random.default_rng(seed).shuffle(starts)
        for start in starts.tolist():
            X, y = task.X[start : min(start + BATCH, part[1])], task.y[start : min(start + BATCH, part[1])]
            residual = X @ weights + bias - y
            residual *= np.float32(step / len(y))
            weights[:] -= residual @ X
            bias[:] -= residual.sum()

    seconds, losses = [], []
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        for epoch in range(paper.epochs[-1]):
            begun = time.perf_counter()
            list(pool.map(work, pairwise(edges.tolist()), [alpha / (epoch + 1)] * threads, range(threads)))
            seconds.append(time.perf_counter() - begun)
            if epoch + 1 in paper.epochs:
                losses.append(loss_on(_Shared(weights, bias), *(part[:65_536] for part in (task.X, task.y))))
    return float(np.median(seconds[1:])), losses
