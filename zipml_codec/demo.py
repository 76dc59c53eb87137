"""`zipml demo`: the whole path on data that need no download, compared with float32 training of the same algorithm."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compress import compress
from .dataset import Dataset
from .errors import MissingDependencyError, OutputError
from .levels import optimal_levels
from .model import Model
from .report import levels_over_histogram, loss_curves, new_figure, save
from .training import train

#: bits and samples of each row after float32; at 3 and 2 bits two samples would leave three and one intervals
SETTINGS = ((8, 2), (6, 2), (4, 2), (3, 1), (2, 1))
EXAMPLE = (4, 2)
EPOCHS = 20
RUNS = (1, 2, 3, 5, 8, 12, EPOCHS)  # epochs of the runs that the loss curves are made of
FEATURES, NOISE = 100, 0.3
HISTOGRAM_BITS = 3
COLUMNS = (
    "data", "bits", "samples", "bytes", "ratio", "test loss", "to float32", "test accuracy", "compress, s", "epoch, ms"
)  # fmt: skip

Matrix = NDArray[np.float32]


@dataclass
class Task:
    """Rows to train on and rows to test on, all exact."""

    name: str
    file: str
    loss: str
    strength: float
    X: Matrix
    y: Matrix
    test_X: Matrix
    test_y: Matrix
    note: str


def digits() -> Task:
    """scikit-learn's handwritten digits, 8 x 8 pixels: even (-1) or odd (+1); 70 % to train on."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependencyError("the demo needs scikit-learn: pip install 'zipml-codec[all]'") from error
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order].astype(np.float32), np.where(y[order] % 2, 1, -1).astype(np.float32)
    cut = int(0.7 * len(X))
    note = (
        f"digits: scikit-learn's handwritten digits, real data, odd or even; {cut:,} rows of {X.shape[1]} pixels to train on, "
        f"{len(X) - cut} to test; least-squares SVM."
    )
    return Task("digits", "digits", "lssvm", 1e-3, X[:cut], y[:cut], X[cut:], y[cut:], note)


def synthetic(rows: int) -> Task:
    """The paper's Synthetic 100: X standard normal, y = X w + noise, |w| = 1."""
    generator = np.random.default_rng(1)
    X = generator.standard_normal((2 * rows, FEATURES), dtype=np.float32)
    w = generator.standard_normal(FEATURES)
    w /= np.linalg.norm(w)
    y = (X @ w + NOISE * generator.standard_normal(2 * rows)).astype(np.float32)
    note = (
        f"Synthetic 100: {rows:,} rows of {FEATURES} to train on, {rows:,} to test; X standard normal, y = X w + noise, |w| = 1, "
        f"standard deviation of the noise {NOISE:g}: the best model's expected loss is {NOISE**2 / 2:.4g}."
    )
    return Task("Synthetic 100", "synthetic", "squared", 0.0, X[:rows], y[:rows], X[rows:], y[rows:], note)


def run_demo(folder: str | Path, rows: int = 10_000) -> dict[str, Any]:
    """Compress, train and test two data sets at several widths, and draw a picture.

    Parameters
    ----------
    folder : str or path
        Is made if it is not there; files of an earlier demo in it are replaced.
    rows : int
        Rows of the synthetic set to train on, and as many to test on.

    Returns
    -------
    dict
        results: a dict for each row of the table; sections: where a new data set starts; notes: lines about them;
        picture, example: paths; folder.

    Raises
    ------
    MissingDependencyError
        scikit-learn or matplotlib is not installed.
    """
    target = Path(folder)
    figure, axes = new_figure(2)  # first, as matplotlib may be missing
    tasks = (digits(), synthetic(rows))
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: cannot make the folder: {error.strerror or error}") from error
    results: list[dict[str, Any]] = []
    sections: list[int] = []
    for task in tasks:
        sections.append(len(results))
        results += _compare(task, target)
    _draw(figure, axes, tasks, target)
    picture = target / "zipml-demo.png"
    save(figure, picture)
    bits, samples = EXAMPLE
    notes = [
        *(task.note for task in tasks),
        "bytes: the training rows with labels, and for codes the whole file with its header. "
        "epoch: median of the epochs after the first.",
    ]
    example = _path(target, tasks[1], bits, samples)
    return {
        "folder": str(target), "results": results, "sections": sections, "notes": notes, "picture": str(picture),
        "example": str(example),
    }  # fmt: skip


def _path(folder: Path, task: Task, bits: int, samples: int) -> Path:
    return folder / f"{task.file}-{bits}bit-{samples}.zipml.h5"


def _compare(task: Task, folder: Path) -> list[dict[str, Any]]:
    """float32, then codes of each width: bytes, loss on exact test rows, time."""
    float_bytes = task.X.nbytes + task.y.nbytes
    model = train((task.X, task.y), loss=task.loss, strength=task.strength, penalty_units="standard", epochs=EPOCHS)
    exact = {"data": task.name, "bits": 32, "samples": None, "bytes": float_bytes, "ratio": 1.0, "compress_seconds": None}
    out: list[dict[str, Any]] = [exact | _measure(task, model)]
    for bits, samples in SETTINGS:
        start = time.perf_counter()
        path = _path(folder, task, bits, samples)
        with compress(task.X, task.y, path=path, bits=bits, samples=samples, overwrite=True) as data:
            seconds = time.perf_counter() - start
            model = train(data, loss=task.loss, strength=task.strength, penalty_units="standard", epochs=EPOCHS)
            row = {
                "data": task.name, "bits": bits, "samples": samples, "bytes": data.file_bytes,
                "ratio": float_bytes / data.file_bytes, "compress_seconds": seconds,
            }  # fmt: skip
        out.append(row | _measure(task, model))
    for row in out:
        row["relative_loss"] = row["test_loss"] / out[0]["test_loss"]
    return out


def _measure(task: Task, model: Model) -> dict[str, Any]:
    seconds = [entry["seconds"] for entry in model.history]
    return {
        "test_loss": _loss(task, model),
        "test_accuracy": float(np.mean(model.predict(task.test_X) == task.test_y)) if task.loss == "lssvm" else None,
        "epoch_seconds": float(np.median(seconds[1:] or seconds)), "share": model.info["share"],
    }  # fmt: skip


def _loss(task: Task, model: Model) -> float:
    """Mean of (z - y)^2 / 2 over the exact test rows."""
    return float(np.mean((model.decision(task.test_X) - task.test_y) ** 2) / 2)


def table_rows(result: dict[str, Any]) -> list[list[str]]:
    """Rows of the table, as text under COLUMNS."""
    out = []
    for row in result["results"]:
        exact = row["samples"] is None
        out.append([
            row["data"], "float32" if exact else str(row["bits"]), "" if exact else str(row["samples"]), f"{row['bytes']:,}",
            f"{row['ratio']:.2f}", f"{row['test_loss']:.4f}", f"{row['relative_loss']:.3f}",
            "" if row["test_accuracy"] is None else f"{row['test_accuracy']:.1%}",
            "" if exact else f"{row['compress_seconds']:.2f}", f"{1e3 * row['epoch_seconds']:.2f}",
        ])  # fmt: skip
    return out


def _draw(figure: Any, axes: list[Any], tasks: tuple[Task, Task], folder: Path) -> None:
    real, made = tasks
    curves = {"float32": (RUNS, [_loss(made, _train(made, (made.X, made.y), epochs)) for epochs in RUNS])}
    for bits, samples in SETTINGS:
        with Dataset(_path(folder, made, bits, samples)) as data:
            losses = [_loss(made, _train(made, data, epochs)) for epochs in RUNS]
        curves[f"{bits} bits, {samples} sample{'s' * (samples > 1)}"] = (RUNS, losses)
    loss_curves(
        axes[0], curves, title="Synthetic 100, trained from codes", xlabel="epochs trained",
        ylabel="loss on exact test rows",
    )  # fmt: skip
    pixel = int(np.argmax(real.X.std(axis=0)))
    values, intervals = real.X[:, pixel], 2**HISTOGRAM_BITS - 1
    levels = {
        "uniform": np.linspace(values.min(), values.max(), intervals + 1),
        "optimal": optimal_levels(values, intervals).values,
    }
    levels_over_histogram(
        axes[1], values, levels, title=f"digits, pixel {pixel}, and its {intervals + 1} levels ({HISTOGRAM_BITS} bits)",
        xlabel="grey value", bins=[float(edge) for edge in np.arange(values.min() - 0.5, values.max() + 1)],
    )  # fmt: skip
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)


def _train(task: Task, data: Any, epochs: int) -> Model:
    return train(data, loss=task.loss, strength=task.strength, penalty_units="standard", epochs=epochs)
