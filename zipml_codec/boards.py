"""Training as the published FPGA boards do it, on the bytes that they read, and the same SGD in float64 beside (docs/boards.md).

What the boards compute, rows in order, is kernels/boards; here are epochs, losses and the way back to the data's units.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import check_choice, check_integer
from .dataset import Dataset
from .errors import DataError, OptionError
from .formats.fpga import CHUNK, GROUP, LABEL_UNIT, LAYOUTS, PLANES, Image, open_image
from .kernels import boards as kernel
from .labels import choose_label
from .model import Model, is_compressed
from .toimage import export_image

MOST_ROWS = {"harp": 1 << 16, "pynq": 1 << 16, "mlweaving": 1 << 10}  # of a batch, by the width of its register
BLOCK_VALUES = 1 << 20
CALM = 64  # by so much is the default step smaller than the largest with which no row overshoots: rows are not shuffled

logger = logging.getLogger("zipml_codec")


class Values(NamedTuple):
    """A block of rows in the hardware's units, float64: values for the dot product, for the update, and labels."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    labels: NDArray[np.float64]


def train_on_board(
    source: Image | Dataset | str | PathLike[str],
    engine: str | None = None,
    *,
    epochs: int = 20,
    step_shift: int | None = None,
    minibatch: int | None = None,
    precision: int | None = None,
    label: Any = None,
    seed: int = 0,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Model:
    """Train least squares bit for bit as an FPGA would from an image, and in float64 beside.

    Minimises the mean of (a . x - b)^2 / 2 in the hardware's units, those of the image: x starts at 0, and rows come in order.

    Parameters
    ----------
    source : Image, Dataset, str or path
        What `zipml export` wrote; or a zipml file, of which an image is made for the while, in the folder of temporary files:
        one copy with a bias, values in 0..1, labels times the power of two that brings them into -1..1.
    engine : {"harp", "pynq", "mlweaving"}, optional
        The design; of images default and only choice that whose layout they have.
    epochs : int
        Of HARP's epochs each reads the next of the image's copies.
    step_shift : int, optional
        The register that the error is shifted by, 0..31: a row's update is 2^-step_shift (a . x - b) a. A batch's is the sum.
        Default: from the rows' norms, a 64th of the largest step with which none overshoots.
    minibatch : int, optional
        Rows of a batch, a power of two; default: 1, of MLWeaving 8, the fewest that it has.
    precision : int, optional
        Of MLWeaving: bit planes to read, 1..32; default: all.
    label, seed : str or int, int
        Of a zipml file: which of several labels; what samples are drawn by.
    on_epoch : callable, optional
        Called with each epoch's entry of `Model.history`.

    Returns
    -------
    Model
        In the data's units. Entries of `history` have train_loss, the board's, and float_loss, both at the epoch's end, on the
        rows that it read, of HARP's pairs of samples less what rounding adds in expectation; and wrapped: at how many rows, of
        MLWeaving groups of 8, a value did not fit its register. `info["registers"]` is the model as the board holds it, int32 of
        2^23 to one; `info["model_distance"]` is |x - y| / |y|, y the model of float64.

    Raises
    ------
    OptionError
        Options that the design does not have, or levels that it does not have, of a zipml file.
    DataError
        There are no labels.
    """
    if engine is not None:
        check_choice("engine", engine, LAYOUTS)
    if isinstance(source, Dataset) or (not isinstance(source, Image) and is_compressed(Path(source))):
        with made_image(source, engine, label, seed) as image:
            return train_on_board(
                image, epochs=epochs, step_shift=step_shift, minibatch=minibatch, precision=precision, on_epoch=on_epoch
            )
    image = source if isinstance(source, Image) else open_image(source)
    if label is not None or seed:
        raise OptionError(f"{image.path.name} is an image, with its label and samples: give label and seed to `zipml export`")
    if engine is not None and engine != image.layout:
        raise OptionError(f"{image.path.name} is an image for {image.layout}: take --engine {image.layout}, or export it anew")
    if not image.labelled:
        raise DataError(f"{image.path.name} has no labels to train on: compress with a label, and export again")
    run = Run(image, minibatch, precision, step_shift)
    history: list[dict[str, Any]] = []
    for epoch in range(check_integer("epochs", epochs, 1)):
        history.append(run.epoch(epoch))
        if on_epoch is not None:
            on_epoch(history[-1])
    wrapped = sum(entry["wrapped"] for entry in history)
    if wrapped:
        logger.warning(run.advice(wrapped))
    coef, intercept = run.in_data_units()
    columns = None if image.columns is None else tuple(image.columns)
    return Model(coef, intercept, "squared", columns, history, run.about(history, wrapped))


@contextmanager
def made_image(source: Dataset | str | PathLike[str], layout: str | None, label: Any, seed: int) -> Iterator[Image]:
    """An image of a zipml file, while the context lasts."""
    if layout is None:
        raise OptionError("a zipml file is for any board: name one with engine= (--engine), harp, pynq or mlweaving")
    if not isinstance(source, Dataset):
        with Dataset(source) as data, made_image(data, layout, label, seed) as image:
            yield image
        return
    labels = source.labels
    if labels is None:
        raise DataError(f"{source.path} has no labels to train on: compress with a label")
    if source.labels_a_row > 1:
        labels = labels[:, choose_label(label, source.label_names, source.labels_a_row, str(source.path))]
    largest = float(np.abs(labels).max())
    scale = 2.0 ** -np.ceil(np.log2(largest)) if largest else 1.0
    with TemporaryDirectory(prefix="zipml-") as folder:
        path = Path(folder, f"{source.path.name}.{layout}")
        yield export_image(source, path, layout, bias=True, label=label, label_scale=scale, last_rows="drop", seed=seed)


class Run:
    """A board's registers while it trains, and the float64 model beside."""

    def __init__(self, image: Image, minibatch: int | None, precision: int | None, step_shift: int | None) -> None:
        mlweaving = image.layout == "mlweaving"
        if precision is not None and not mlweaving:
            raise OptionError(f"precision is of --engine mlweaving; {image.layout} reads codes whole, here {image.bits} bits")
        self.image, self.planes = image, check_integer("precision", PLANES if precision is None else precision, 1, PLANES)
        fewest, most = GROUP if mlweaving else 1, MOST_ROWS[image.layout]
        self.batch = check_integer("minibatch", fewest if minibatch is None else minibatch, fewest, most)
        if self.batch & (self.batch - 1):
            raise OptionError(f"minibatch must be a power of two, {fewest}..{most}; got {self.batch}")
        if self.batch > image.rows and image.layout != "harp":
            raise OptionError(f"minibatch={self.batch}: {image.path.name} has {image.rows:,} rows, and no batch would ever end")
        self.largest = max(float((np.abs(part.first) * np.abs(part.second)).sum(axis=1).max()) for part in self.values(0))
        self.shift = self.calm_shift if step_shift is None else check_integer("step_shift", step_shift, 0, kernel.MAX_STEP)
        width = -(-image.features // CHUNK) * CHUNK if mlweaving else image.features
        self.x, self.next = np.zeros((2, width), np.int32)  # what dot products read, and what updates go to
        self.float_x, self.float_next = np.zeros((2, image.features))

    @property
    def calm_shift(self) -> int:
        """The step that rows of these norms allow."""
        return int(np.clip(np.ceil(np.log2(max(max(CALM, self.batch) * self.largest, 1))), 0, kernel.MAX_STEP))

    def values(self, epoch: int) -> Iterator[Values]:
        """The rows that an epoch reads, block by block."""
        image, copy = self.image, self.image.copy(epoch % self.image.indices)
        labels = image.labels.astype(np.float64) / (1 if image.layout == "pynq" else LABEL_UNIT)
        rows = max(GROUP, BLOCK_VALUES // image.features // GROUP * GROUP)
        for at in range(0, image.rows, rows):
            if image.layout == "mlweaving":
                blocks = copy[at // GROUP : (at + rows) // GROUP]
                first = second = np.ascontiguousarray(unweave(blocks, self.planes)[:, : image.features])
            else:
                samples = 2 if image.layout == "harp" else 1
                pair = [
                    kernel.decode(copy[at : at + rows], image.features, image.bits, image.signed, sample, samples)
                    for sample in range(samples)
                ]
                first, second = pair[0], pair[-1]
            yield Values(first, second, labels[at : at + rows])

    def epoch(self, number: int) -> dict[str, Any]:
        """Train one, on the board and beside it, and measure both models."""
        image, mask, start = self.image, self.batch - 1, time.perf_counter()
        copy = image.copy(number % image.indices)
        if image.layout == "mlweaving":
            wrapped = kernel.mlweaving(copy.reshape(-1), image.labels, self.x, self.next, self.planes, self.shift, mask)
        else:
            train = kernel.harp if image.layout == "harp" else kernel.pynq
            wrapped = train(copy, self.x, self.next, image.bits, image.signed, self.shift, mask)
        seconds, row = time.perf_counter() - start, 0
        last = image.rows - 1 if image.layout == "harp" else image.rows  # HARP's last batch ends with the epoch
        for part in self.values(number):
            kernel.floats(*part, self.float_x, self.float_next, 2.0**-self.shift, row, mask, last)
            row += len(part.labels)
        board, beside = self.losses(number)
        return {
            "epoch": number + 1, "train_loss": board, "float_loss": beside, "test_loss": None, "wrapped": wrapped,
            "seconds": seconds,
        }  # fmt: skip

    def losses(self, epoch: int) -> list[float | None]:
        """Of both models, means over the data's rows of (a1 . x - b)(a2 . x - b) / 2; None of infinity.

        a1 and a2 are HARP's samples: as each is unbiased and they are independent, rounding adds nothing in expectation.
        Else both are the same values, and what rounding or cutting off adds is in the loss.
        """
        models = np.stack([self.model, self.float_next], axis=1)
        left, total = min(self.image.rows, self.image.data_rows), np.zeros(2)
        rows = left
        with np.errstate(over="ignore", invalid="ignore"):  # where float64 diverges
            for part in self.values(epoch):
                first, second = (a[:left] @ models - part.labels[:left, None] for a in (part.first, part.second))
                total += (first * second).sum(axis=0)
                left -= len(first)
        return [loss if np.isfinite(loss) else None for loss in (total / (2 * rows)).tolist()]

    @property
    def model(self) -> NDArray[np.float64]:
        """What the board hands out."""
        return self.next[: self.image.features] / LABEL_UNIT

    def in_data_units(self) -> tuple[NDArray[np.float64], float]:
        """Coefficients and intercept: an image's value is low_range + (a - low) slope, of a constant column low_range."""
        image, x, n = self.image, self.model, self.image.data_features
        (lowest, highest), span = image.level_range, image.high - image.low
        slope = np.where(span > 0, (highest - lowest) / np.where(span > 0, span, 1), 0)
        # planes cut values off: what is read is half a cell less than the value, in the mean
        half = np.where(span > 0, 2.0 ** -(self.planes + 1), 0) if image.layout == "mlweaving" else 0
        intercept = x[:n] @ (lowest - half - image.low * slope)
        if image.bias:
            intercept += x[n] * next(self.values(0)).first[0, n]
        return x[:n] * slope / image.label_scale, float(intercept / image.label_scale)

    def advice(self, wrapped: int) -> str:
        """What to do about registers that wrapped."""
        unit = "groups of 8 rows" if self.image.layout == "mlweaving" else "rows"
        told = f"{wrapped:,} {unit}: a value left -256..256 and wrapped around, as it would on the board"
        if self.shift < self.calm_shift:
            return f"{told}; take --step-shift {self.calm_shift}, or more"
        return f"{told}; the step is small enough: export labels of a smaller scale"

    def about(self, history: list[dict[str, Any]], wrapped: int) -> dict[str, Any]:
        """What is told of the run: `Model.info`."""
        image, beside = self.image, self.float_next
        with np.errstate(over="ignore", invalid="ignore"):
            distance = float(np.linalg.norm(self.model - beside) / (np.linalg.norm(beside) or 1.0))
        return {
            "engine": image.layout, "label": image.label, "rows": image.rows, "features": image.features, "bits": image.bits,
            "range": list(image.level_range), "indices": image.indices,
            "planes": self.planes if image.layout == "mlweaving" else None, "step_shift": self.shift, "minibatch": self.batch,
            "mask": self.batch - 1, "train_loss": history[-1]["train_loss"], "float_loss": history[-1]["float_loss"],
            "wrapped": wrapped, "model_distance": distance if np.isfinite(distance) else None,
            "registers": self.next[: image.features].tolist(),
        }  # fmt: skip


def unweave(blocks: NDArray[np.uint8], planes: int) -> NDArray[np.float64]:
    """Values of the first planes of blocks (groups, chunks, 32, 64): float64 (rows, features with padding)."""
    groups, chunks = blocks.shape[:2]
    values = np.zeros((groups, chunks, GROUP * CHUNK))
    for plane in range(planes):
        values += np.unpackbits(blocks[:, :, plane], axis=-1, bitorder="little") * 2.0 ** -(plane + 1)
    return values.reshape(groups, chunks, GROUP, -1).swapaxes(1, 2).reshape(groups * GROUP, -1)
