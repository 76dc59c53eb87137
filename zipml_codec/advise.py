"""`advise`: which width, levels and samples are enough for a linear model, by training on a sample of the rows.

One streamed pass takes statistics of all rows, so that levels are those that the file would have, and a uniform sample of rows.
Part of the sample is held out, exactly. Each candidate's codes are trained on and judged beside float32 on the same held-out
rows: differences row by row, whose standard error says what the sample can tell.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import check_choice, check_integer, check_number, check_seed, thread_count
from .classes import signs_of
from .codec import row_stride
from .compress import compress
from .errors import DataError, DivergenceError, OptionError
from .formats.readers import as_source
from .formats.sources import Source
from .kernels import philox
from .losses import LOSSES
from .model import Model
from .order import held_out
from .progress import Progress, no_progress
from .report import excess_curves, new_figure, save
from .rows import ADVICE, Chunk, Rows
from .statistics import ColumnStatistics
from .tables import make_codec
from .training import train

PENALTIES = ("l2", "none", "l1", "elastic-net", "nonnegative")  # those that need nothing but a strength

ROWS, SAMPLE_BYTES = 65536, 512 << 20
WIDTHS = tuple(range(2, 9))
KINDS = (("uniform", 1), ("uniform", 2), ("optimal", 1), ("optimal", 2))  # levels and samples, the simplest first
SURE = 2.0  # standard errors
COLUMNS = ("bits", "levels", "samples", "bytes a row", "to float32", "held-out loss", "over float32's", "±", "within")


@dataclass(frozen=True)
class Trial:
    """One way to compress, and what training from it came to on held-out rows.

    Attributes
    ----------
    bits, samples : int
    levels : str
    row_bytes : int
        Of a row of codes.
    ratio : float
        float32's row over it.
    loss : float
        Mean over the exact held-out rows; infinite where training diverged.
    excess, error : float
        (loss - float32's) / float32's, and its standard error, from differences row by row.
    accuracy : float or None
        Of classes.
    within : str
        Whether excess is at most the tolerance: "yes" or "no" where two standard errors leave no doubt, else "unsure".
    """

    bits: int
    levels: str
    samples: int
    row_bytes: int
    ratio: float
    loss: float
    excess: float
    error: float
    accuracy: float | None
    within: str


@dataclass(frozen=True)
class Advice:
    """What `advise` found.

    Attributes
    ----------
    best : Trial
        The smallest width, then the simplest kind, surely within the tolerance; where none is, what comes closest.
    sure : bool
        Whether it is within the tolerance for sure.
    trials : list of Trial
    float32_loss : float
        On the same held-out rows.
    float32_accuracy : float or None
    rows, sampled, train_rows, test_rows : int
        All rows of the source, those of the sample, and its parts.
    notes : list of str
        What to know besides.
    """

    best: Trial
    sure: bool
    trials: list[Trial]
    float32_loss: float
    float32_accuracy: float | None
    tolerance: float
    rows: int
    features: int
    sampled: int
    train_rows: int
    test_rows: int
    notes: list[str] = field(default_factory=list)

    @property
    def options(self) -> dict[str, Any]:
        """What to give to `compress`: bits, samples and levels."""
        return {"bits": self.best.bits, "samples": self.best.samples, "levels": self.best.levels}

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        found = asdict(self)
        for trial in (found["best"], *found["trials"]):
            trial |= {name: trial[name] if np.isfinite(trial[name]) else None for name in ("loss", "excess", "error")}
        return found | {"options": self.options}


def advise(
    X: Any,
    y: Any = None,
    *,
    label: Any = None,
    columns: Any = None,
    loss: str = "squared",
    penalty: str = "l2",
    strength: float = 0.0,
    bits: Sequence[int] = WIDTHS,
    tolerance: float = 0.01,
    rows: int = ROWS,
    test_fraction: float = 0.25,
    epochs: int = 20,
    nonfinite: str = "raise",
    plot: str | PathLike[str] | None = None,
    threads: int | None = None,
    seed: int = 0,
    progress: bool | Callable[..., Progress] = False,
) -> Advice:
    """Recommend the smallest width that a linear model can be trained from as well as from float32.

    Parameters
    ----------
    X, y, label, columns
        Rows and one label, as `compress` takes them. They are read once.
    loss, penalty, strength, epochs
        Of training, as `train` takes them.
    bits : sequence of int
        Widths to try, each with uniform and optimal levels, and codes of one and of two samples.
    tolerance : float
        How much the loss on held-out rows may exceed float32's, relative to it.
    rows : int
        A uniform sample of so many rows is trained and judged on, fewer where they would take more than 512 MiB.
    test_fraction : float
        Share of the sample that is held out.
    nonfinite : {"raise", "drop"}
        What to do with rows that hold NaN or infinity.
    plot : str or path, optional
        A PNG to draw: excess of the loss over width.
    threads : int, optional
    seed : int
        Of the sample, the split, rounding and training.
    progress : bool
        Show bars on standard error.

    Returns
    -------
    Advice

    Raises
    ------
    OptionError
        Options that do not fit; several labels.
    DataError
        No labels, too few rows, NaN or infinity; labels that are no classes where the loss wants them.
    SourceError
        A source that cannot be read.
    """
    check_choice("loss", loss, tuple(LOSSES))
    check_choice("penalty", penalty, PENALTIES)
    check_choice("nonfinite", nonfinite, ("raise", "drop"))
    tolerance = check_number("tolerance", tolerance, 0, 1, open_low=True)
    test_fraction = check_number("test_fraction", test_fraction, 0, 0.9, open_low=True)
    most, workers, seed = check_integer("rows", rows, 4), thread_count(threads), check_seed(seed)
    widths = sorted({check_integer("bits", width, 1, 8) for width in bits})
    if not widths:
        raise OptionError("bits=() names no width")
    figure = None if plot is None else new_figure(1, width=7.0)  # first, as matplotlib may be missing
    bars = progress if callable(progress) else Progress.on_terminal if progress else no_progress
    with as_source(X, y, label=label, columns=columns) as source:
        statistics, sample, total = _look(source, nonfinite, most, seed, bars, workers)
        name = source.name
    held = held_out(seed, test_fraction, 0, len(sample.values))
    parts = sample.values[~held], sample.labels[~held]
    test_X, test_y = sample.values[held], sample.labels[held]
    if len(test_X) < 2 or len(parts[0]) < 2:
        raise DataError(f"{name}: {len(held):,} rows are too few to train on some and hold others out")
    if LOSSES[loss].signs:
        signs_of(sample.labels, loss, name)  # refuses other labels, of the rows held out too
    options: dict[str, Any] = {
        "loss": loss, "penalty": penalty, "strength": strength, "epochs": epochs, "threads": workers, "seed": seed,
    }  # fmt: skip
    kinds = [(width, *kind) for width in widths for kind in KINDS if kind[1] < 2**width]
    trials = []
    with bars("training", len(kinds) + 1, None) as bar, tempfile.TemporaryDirectory(prefix="zipml-advise-") as folder:
        exact = train(parts, **options)
        bar.advance(1)
        own, accuracy = _judge(exact, test_X, test_y)
        for width, levels, samples in kinds:
            codec, _ = make_codec(statistics, levels, width, samples, "stochastic", workers, "auto")
            path = Path(folder) / "rows.zipml.h5"
            with compress(*parts, path=path, levels=codec, seed=seed, threads=workers, overwrite=True) as data:
                try:
                    judged = _judge(train(data, **options), test_X, test_y)
                except DivergenceError:
                    judged = np.full(len(test_X), np.inf), None
            trials.append(_trial(width, levels, samples, statistics.features, own, *judged, tolerance))
            bar.advance(1)
    best, sure = _choose(trials)
    notes = _notes(trials, best, sure, tolerance, total, len(held))
    advice = Advice(
        best, sure, trials, float(own.mean()), accuracy, tolerance, total, statistics.features, len(held), len(parts[0]),
        len(test_X), notes,
    )  # fmt: skip
    if plot is not None and figure is not None:
        _draw(*figure, advice, name)
        save(figure[0], plot)
    return advice


class _Sample:
    """A uniform sample of rows and labels, chosen by each row's number and the seed: the smallest random keys stay."""

    def __init__(self, most: int, seed: int, first: Chunk) -> None:
        assert first.labels is not None
        self.seed, self.seen, self.count = seed, 0, 0
        self.keys, self.numbers = np.empty(most, np.uint64), np.empty(most, np.int64)
        self.values, self.labels = np.empty((most, first.values.shape[1]), np.float32), np.empty(most, np.float32)

    def add(self, values: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Offer the next rows."""
        keys = philox.keys(self.seed, philox.SAMPLE, 0, self.seen, len(values))
        free = min(len(self.keys) - self.count, len(values))
        places, taken = np.arange(self.count, self.count + free), np.arange(free)
        self._put(places, taken, keys, values, labels)
        self.count += free
        if free < len(values):
            order = np.argsort(np.concatenate([self.keys, keys[free:]]), kind="stable")
            stay, go = order[: len(self.keys)], order[len(self.keys) :]
            self._put(go[go < len(self.keys)], stay[stay >= len(self.keys)] - len(self.keys) + free, keys, values, labels)
        self.seen += len(values)

    def _put(self, places: Any, taken: Any, keys: Any, values: Any, labels: Any) -> None:
        self.keys[places], self.numbers[places] = keys[taken], self.seen + taken
        self.values[places], self.labels[places] = values[taken], labels[taken]

    def finish(self) -> _Sample:
        """In the order of the source."""
        order = np.argsort(self.numbers[: self.count])
        self.values, self.labels = self.values[order], self.labels[order]
        return self


def _look(
    source: Source, nonfinite: str, most: int, seed: int, bars: Callable[..., Progress], threads: int
) -> tuple[ColumnStatistics, _Sample, int]:
    """The only pass: statistics of all rows, a sample of them, and how many there are."""
    statistics: ColumnStatistics | None = None
    sample: _Sample | None = None
    for chunk in Rows(source, nonfinite, "reading", bars, threads=threads):
        if chunk.labels is None:
            raise DataError(f"{source.name}: there are no labels to train for: name their column with label= (--label)")
        if chunk.labels.ndim == 2 and chunk.labels.shape[1] > 1:
            raise OptionError(f"{source.name}: advice is for one label; {chunk.labels.shape[1]} were named")
        if statistics is None or sample is None:
            features = chunk.values.shape[1]
            statistics = ColumnStatistics(features, seed, sample=False)
            fewest = most if source.rows is None else min(most, source.rows)
            sample = _Sample(max(4, min(fewest, SAMPLE_BYTES // (4 * features))), seed, chunk)
        if not statistics.add(chunk.values, threads):
            row, column = (int(at[0]) for at in np.nonzero(~np.isfinite(chunk.values)))
            raise DataError(f"{source.place(chunk.number(row), column)}: the value is {chunk.values[row, column]}: {ADVICE}")
        sample.add(chunk.values, chunk.labels.reshape(-1))
    if statistics is None or sample is None:
        raise DataError(f"{source.name}: there are no rows to train on")
    return statistics, sample.finish(), statistics.rows


def _judge(model: Model, X: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[NDArray[np.float64], float | None]:
    """Loss of each exact row, the mean of all classes one versus rest; and the accuracy, of classes."""
    z, of = model.decision(X), LOSSES[model.loss]
    if model.classes is None:
        return of.value(z, y.astype(np.float64)), None
    if z.ndim == 2:
        losses = of.value(z, np.where(y[:, None] == model.classes, 1.0, -1.0)).mean(axis=1)
    else:
        losses = of.value(z, np.where(y == model.classes[1], 1.0, -1.0))
    return losses, float(np.mean(model.classes_of(z) == y))


def _trial(
    bits: int, levels: str, samples: int, features: int, exact: NDArray[np.float64], losses: NDArray[np.float64],
    accuracy: float | None, tolerance: float,
) -> Trial:  # fmt: skip
    """Losses of rows beside float32's."""
    width = row_stride(features, bits)
    if not np.isfinite(losses).all():
        return Trial(bits, levels, samples, width, 4 * features / width, np.inf, np.inf, np.inf, accuracy, "no")
    own = max(float(exact.mean()), np.finfo(np.float64).tiny)
    excess = float((losses - exact).mean()) / own
    # the ratio's error, by what each row adds to loss - (1 + excess) float32's
    error = float((losses - (1 + excess) * exact).std(ddof=1)) / np.sqrt(len(exact)) / own
    past = losses - (1 + tolerance) * exact  # at most 0 in the mean: within
    doubt = SURE * float(past.std(ddof=1)) / np.sqrt(len(exact))
    within = "yes" if past.mean() + doubt <= 0 else "no" if past.mean() - doubt > 0 else "unsure"
    return Trial(bits, levels, samples, width, 4 * features / width, float(losses.mean()), excess, float(error), accuracy, within)


def _choose(trials: list[Trial]) -> tuple[Trial, bool]:
    """The first that is surely within, trials being ordered by width and simplicity; else the one whose upper bound is least."""
    for trial in trials:
        if trial.within == "yes":
            return trial, True
    return min(trials, key=lambda trial: trial.excess + SURE * trial.error if np.isfinite(trial.excess) else np.inf), False


def _notes(trials: list[Trial], best: Trial, sure: bool, tolerance: float, total: int, sampled: int) -> list[str]:
    notes = []
    more = "" if sampled >= total else ": a larger sample would tell (rows=, --rows)"
    if not sure:
        why = f"too few held-out rows to tell{more}" if best.within == "unsure" else "the data need more than these widths"
        notes.append(f"nothing is surely within {100 * tolerance:g} % of float32's loss: {why}")
    fewer = sorted({trial.bits for trial in trials if trial.within == "unsure" and trial.bits < best.bits})
    if sure and fewer:
        notes.append(f"{', '.join(map(str, fewer))} bits may do too, but {sampled:,} rows cannot tell{more}")
    return notes


def _draw(figure: Any, axes: list[Any], advice: Advice, name: str) -> None:
    lines: dict[str, tuple[list[float], list[float], list[float]]] = {}
    for trial in advice.trials:
        bits, excess, error = lines.setdefault(f"{trial.levels}, {trial.samples} sample{'s' * (trial.samples > 1)}", ([], [], []))
        bits.append(trial.bits)
        excess.append(trial.excess)
        error.append(trial.error)
    marked = (advice.best.bits, advice.best.excess)
    excess_curves(
        axes[0], lines, advice.tolerance, marked, SURE, title=f"{Path(name).name}: loss on {advice.test_rows:,} held-out rows",
        xlabel="bits a value", ylabel="excess over float32's loss",
    )  # fmt: skip


def table(advice: Advice) -> tuple[list[str], list[list[str]]]:
    """The table's head and rows, as text; float32 first; accuracies of classes last."""
    out = [["float32", "", "", f"{4 * advice.features:,}", "1.00", f"{advice.float32_loss:.6g}", "", "", ""]]
    for trial in advice.trials:
        finite = np.isfinite(trial.loss)
        out.append([
            str(trial.bits), trial.levels, str(trial.samples), f"{trial.row_bytes:,}", f"{trial.ratio:.2f}",
            f"{trial.loss:.6g}" if finite else "diverged", f"{trial.excess:+.2%}" if finite else "",
            f"{trial.error:.2%}" if finite else "",
            f"{trial.within}{' <' * (trial is advice.best)}",
        ])  # fmt: skip
    if advice.float32_accuracy is None:
        return list(COLUMNS), out
    right = [advice.float32_accuracy, *(trial.accuracy for trial in advice.trials)]
    return [*COLUMNS, "accuracy"], [
        [*row, "" if one is None else f"{one:.2%}"] for row, one in zip(out, right, strict=True)
    ]


def command(advice: Advice, sources: Sequence[str | PathLike[str]], given: Sequence[str] = ()) -> str:
    """The `zipml compress` to run; `given`: options that say how to read the source."""
    first = Path(sources[0])
    stem = first.name.split(".")[0].strip("*?[]-_ ") or "data"
    chosen = ["--bits", str(advice.best.bits), "--samples", str(advice.best.samples), "--levels", advice.best.levels]
    return shlex.join(["zipml", "compress", *map(str, sources), "-o", f"{stem}.zipml.h5", *given, *chosen])
