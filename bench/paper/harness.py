"""What the figures share: step sizes tuned for float32, losses over epochs from codes, pictures, CSV and claims."""

import csv
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from zipml_codec import compress, train
from zipml_codec.errors import DivergenceError
from zipml_codec.report import new_figure

EPOCHS = (1, 2, 4, 8, 16)  # a run of each: with a step of alpha / epoch each is the beginning of the next
QUICK_EPOCHS = (1, 2, 5)
# of two: the grid for alpha, up to train()'s own first step, and how far down it may go on
POWERS, QUICK_POWERS, LEAST_POWER = (-2, -1, 0), (-1, 0), -7
PRECISION = {"model_bits": 8, "gradient_bits": 8, "residual_bits": 8}
CLOSE = 1.01  # "reaches float32's loss": within 1 %
ORDER = ("3", "4", "5", "6", "7a", "8", "section 2.2", "negative result", "this project")  # of claims
DPI, COLOURS = 100, 48  # of pictures, which are kept in the repository


@dataclass
class Claim:
    """What the paper, or this project, says; what came out; whether that agrees, None where it is not that kind of line."""

    figure: str
    says: str
    measured: str
    holds: bool | None = None


@dataclass
class Section:
    """A figure of docs/paper.md."""

    name: str
    title: str
    text: str
    header: list = field(default_factory=list)
    rows: list = field(default_factory=list)
    picture: bool = True
    seconds: float = 0.0


class Paper:
    """One run of the command."""

    def __init__(self, folder, quick=False):
        self.folder, self.quick = Path(folder), quick
        self.epochs = QUICK_EPOCHS if quick else EPOCHS
        self.claims = []
        self._alphas, self._finals, self._numbers = {}, {}, count()
        self._files = tempfile.TemporaryDirectory(prefix="zipml-paper-")
        self.folder.mkdir(parents=True, exist_ok=True)

    def close(self):
        """Remove the compressed files."""
        self._files.cleanup()

    def say(self, line):
        """Progress."""
        print(line, file=sys.stderr, flush=True)

    def claim(self, figure, says, measured, holds=None):
        """A line of the table of claims."""
        self.claims.append(Claim(figure, says, measured, None if holds is None else bool(holds)))

    def ordered(self):
        """Claims in the order of the page."""
        return sorted(self.claims, key=lambda claim: ORDER.index(claim.figure))

    @contextmanager
    def codes(self, task, bits, samples=1, levels="uniform", **options):
        """The training rows as a compressed data set; uniform levels are what the paper has unless it says optimal."""
        path = Path(self._files.name) / f"rows{next(self._numbers)}.zipml.h5"
        with compress(task.X, task.y, path=path, bits=bits, samples=samples, levels=levels, **options) as data:
            yield data
        path.unlink()

    def alpha(self, task, batch=None, loss=None):
        """The first step: train()'s own, which is about the largest that curvature allows, or a half, a quarter .. of it; the
        one that serves float32 best. Codes get the same.
        """
        key = (task.name, batch or task.batch, loss or task.loss)
        if key not in self._alphas:
            rows = (task.X, task.y)
            first = self.fit(task, rows, 1, step=None, batch=batch, loss=loss).info["step"]
            losses, waiting = {}, list(QUICK_POWERS if self.quick else POWERS)
            while waiting:
                power = waiting.pop()
                model = self.fit(task, rows, self.epochs[-1], step=first * 2.0**power, batch=batch, loss=loss)
                losses[power] = np.inf if model is None else task.train_loss(model)
                best = min(losses, key=losses.get)
                if not waiting and not self.quick and LEAST_POWER < best == min(losses):
                    waiting = [best - 1]  # at the grid's end: on, until it gets worse
            self._alphas[key] = first * 2.0**best
            self.say(
                f"  {task.name}: alpha {self._alphas[key]:.3g}, 2^{best} of train()'s step, batch {key[1]}, {key[2]}"
            )
        return self._alphas[key]

    def fit(self, task, data, epochs, *, batch=None, loss=None, step="tuned", threads=1, halved=False, **options):
        """A model after so many epochs of alpha / epoch; None where that diverges.

        train() goes on with half the step then, which is another run than was asked for: it counts if `halved`.
        """
        if step == "tuned":
            step = self.alpha(task, batch, loss)
        given = {"strength": task.strength, "penalty_units": "standard", "schedule": "inverse", "threads": threads}
        try:
            model = train(
                data, loss=loss or task.loss, epochs=epochs, batch=batch or task.batch, step=step, **given, **options
            )
        except DivergenceError:
            return None
        return model if halved or step is None or model.info["step"] > 0.999 * step else None

    def float_curve(self, task, **options):
        """Losses over epochs of float32."""
        return self.curve(task, (task.X, task.y), **options)

    def models(self, task, data, **options):
        """Models after each of `epochs`."""
        return [self.fit(task, data, epochs, **options) for epochs in self.epochs]

    def curve(self, task, data, **options):
        """Exact training losses after each of `epochs`; infinite where training diverged."""
        models = self.models(task, data, **options)
        return [np.inf if model is None else task.train_loss(model) for model in models]

    def final(self, task, data, **options):
        """Exact training and test loss after the last epoch."""
        model = self.fit(task, data, self.epochs[-1], **options)
        if model is None:
            return np.inf, np.inf
        return task.train_loss(model), task.test_loss(model)

    def double(self, task, bits, levels="uniform", whole=False, seed=0):
        """End to end as the paper: two samples a value, the model and gradients of 8 bits. A curve, or the final losses."""
        return self._end_to_end(task, bits, levels, whole, "double-sampling", 2, seed)

    def diagonal(self, task, bits, levels="uniform", whole=False, seed=0):
        """End to end in integers: one sample a value, its known mean variance subtracted."""
        return self._end_to_end(task, bits, levels, whole, "diagonal", 1, seed)

    def _end_to_end(self, task, bits, levels, whole, debias, samples, seed):
        key = (task.name, bits, levels, debias, seed)
        if whole or key not in self._finals:
            with self.codes(task, bits, samples, levels, seed=seed) as data:
                if whole:
                    return self.curve(task, data, debias=debias, seed=seed, **PRECISION)
                self._finals[key] = self.final(task, data, debias=debias, seed=seed, **PRECISION)
        return self._finals[key]

    def figure(self, columns=1, **sizes):
        """A figure and its axes."""
        return new_figure(columns, **({"width": 5.2, "height": 3.9} | sizes))

    def save(self, name, figure):
        """A PNG of few colours, which is small."""
        from PIL import Image

        path = self.folder / f"{name}.png"
        figure.savefig(path, dpi=DPI)
        with Image.open(path) as picture:
            small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        small.save(path, optimize=True)

    def csv(self, name, header, rows):
        """The numbers of a figure."""
        with (self.folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)

    def curves_csv(self, name, panels):
        """Curves as (panel, line, epoch, loss); panels: name to name to losses."""
        lines = [
            (panel, line, epoch, f"{loss:.8g}")
            for panel, curves in panels.items()
            for line, losses in curves.items()
            for epoch, loss in zip(self.epochs, losses, strict=True)
        ]
        self.csv(name, ["data", "line", "epoch", "training loss"], lines)

    def timed(self, name, run):
        """A section, and what it took."""
        begun = time.perf_counter()
        self.say(f"{name} ...")
        section = run(self)
        section.seconds = time.perf_counter() - begun
        self.say(f"{name}: {section.seconds:.0f} s")
        return section


def smooth(losses, exact):
    """The paper picks the fewest bits of "a smooth convergence curve": one that ends as low as float32's, and does not rise by
    more than 1 %, or than that does."""
    if not np.all(np.isfinite(losses)):
        return False
    rises = [max(np.divide(line[1:], line[:-1])) for line in (losses, exact)]
    return rises[0] <= max(CLOSE, rises[1]) and losses[-1] <= CLOSE * exact[-1]


def smallest(good):
    """The smallest width from which on all are good, or None; good: width to whether it is."""
    found = None
    for bits in sorted(good, reverse=True):
        if not good[bits]:
            break
        found = bits
    return found


def bits_text(bits, most=8):
    """A width, or that none of those tried serves."""
    return f"more than {most}" if bits is None else str(bits)


def held(losses):
    """Losses for a picture: infinite ones are left out."""
    return [loss if np.isfinite(loss) else np.nan for loss in losses]
