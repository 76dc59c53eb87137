"""`export`: a zipml file to the byte image that one of the published FPGA designs reads, with a JSON beside it (docs/fpga.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from .ahead import read_ahead
from .arrays import check_choice, check_integer, check_number, check_seed, thread_count
from .codec import Codec, noise_total
from .dataset import Dataset
from .errors import DataError, OptionError
from .export import Output, outputs
from .formats.fpga import (
    GROUP,
    LABEL_UNIT,
    LAYOUTS,
    MOST_FEATURES,
    PLANES,
    WIDTHS,
    Image,
    Sidecar,
    labels_of,
    open_image,
    row_kernel,
    sidecar_of,
    zero_features,
)
from .formats.output import check_apart
from .formats.shards import files_at
from .hardware import code_bits, hardware_codec, hardware_form, hardware_intervals, tops_of
from .kernels import codes as codes_kernel
from .kernels import images as kernel
from .kernels import philox
from .labels import choose_label, label_title
from .parts import mean_errors
from .progress import Progress, no_progress
from .version import VERSION

PIECE_BYTES = 8 << 20  # of rows that are worked on together
LAST_ROWS = ("raise", "drop", "pad")

Pieces = Iterator[NDArray[np.uint8]]


def export_image(
    dataset: Dataset | str | PathLike[str],
    path: str | PathLike[str],
    layout: str,
    *,
    bits: int | None = None,
    signed: bool = False,
    indices: int = 1,
    bias: bool = False,
    label: Any = None,
    label_scale: float = 1.0,
    requantize: bool = False,
    last_rows: str = "raise",
    seed: int = 0,
    threads: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Image:
    """Write the byte image that one of the published FPGA designs reads, and PATH.json, which says what is in it.

    Parameters
    ----------
    dataset : Dataset, str or path
        For harp and pynq, of levels that the hardware has: `compress(levels="harp:4")`, for pynq with samples=1; or see
        `requantize`. For mlweaving any: values come from the exact copy where there is one, else from decoded means.
    path : str or path
        Of the image. Labels of mlweaving go beside it, `a.labels.bin` to `a.bin`.
    layout : {"harp", "pynq", "mlweaving"}
    bits : int, optional
        Q, the hardware's bits of a sample, 1, 2, 4 or 8; of files with the hardware's levels their own.
    signed : bool
        Whether a column's low..high becomes -1..1, else 0..1. The bytes differ, what they stand for does not.
    indices : int
        Copies of the rows for harp, one for each epoch in turn. Each pair of a code's samples makes one; further ones are fresh
        quantizations of the exact copy, where there is one, else the same samples in a fresh assignment.
    bias : bool
        Append a feature of constant 1.
    label : str or int, optional
        Which of several labels.
    label_scale : float
        What labels are multiplied by: those of 9.23 fixed point, harp's and mlweaving's, must be within -256..256.
    requantize : bool
        Round again at random, to the hardware's levels: the exact copy where there is one, else decoded means.
    last_rows : {"raise", "drop", "pad"}
        What mlweaving does with a number of rows that is not a multiple of 8: rows of zeros fill it up with pad.
    seed : int
        Of what is drawn: the same bytes for any threads and vector level.
    threads : int, optional
    overwrite : bool
        Replace existing files.
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    Image
        Opened, as `open_image` does.

    Raises
    ------
    OptionError
        Options or levels that do not fit, or more features than the design takes: the message says what to do.
    DataError
        Labels that 9.23 fixed point does not hold.
    OutputError
        An output exists or the disk is full. Nothing is left behind.
    CorruptError
        The compressed file is damaged.

    Notes
    -----
    Some blocks of 8 MiB are in memory at a time, and the labels.
    """
    target = Path(path)
    if not isinstance(dataset, Dataset):
        with Dataset(dataset) as opened:
            return export_image(
                opened, target, layout, bits=bits, signed=signed, indices=indices, bias=bias, label=label,
                label_scale=label_scale, requantize=requantize, last_rows=last_rows, seed=seed, threads=threads,
                overwrite=overwrite, progress=progress,
            )  # fmt: skip
    check_choice("layout", layout, LAYOUTS)
    check_choice("last_rows", last_rows, LAST_ROWS)
    indices, seed = check_integer("indices", indices, 1, 2**31 - 1), check_seed(seed)
    if bits is not None:
        check_choice("bits", bits, WIDTHS)
    scale = check_number("label_scale", label_scale, -np.inf)
    if scale == 0:
        raise OptionError("label_scale=0 leaves nothing of the labels: give another factor")
    if layout != "harp" and indices > 1:
        raise OptionError(f"indices={indices}: {layout} has one copy of the rows; several are for harp")
    title, labels = _labels(dataset, label)
    named = {"label": title, "labelled": labels is not None, "label_scale": scale}
    workers = thread_count(threads)
    if layout == "mlweaving":
        if bits is not None or signed or requantize:
            raise OptionError("mlweaving has values of 32 bits in 0..1: leave out bits, signed (--range 11) and requantize")
        work: Weaving | Packing = Weaving(dataset, bias, last_rows, named, workers)
    else:
        work = Packing(dataset, layout, bits, signed, indices, bias, requantize, seed, named, workers)
    fixed = None if labels is None else _stored(layout, labels[: work.about.rows], scale, dataset)
    paths = [target, sidecar_of(target), *([labels_of(target)] if layout == "mlweaving" else [])]
    for place in paths:
        check_apart(place, files_at(dataset.path))
    bars: Callable[..., Progress] = Progress.on_terminal if progress else no_progress
    about = work.about
    with outputs(paths, overwrite) as files, bars("exporting", about.rows * about.indices, None) as bar:
        said = {"image": _write(files[0], work.pieces(fixed), about.row_bytes, bar)}
        if layout == "mlweaving":
            words = np.zeros(about.rows, "<i4")
            if fixed is not None:
                words[: len(fixed)] = fixed
            said["labels"] = _write(files[2], iter([words.view(np.uint8)]))
        files[1].write(work.described().text(said))
    return open_image(target, check=False)


def _write(file: Output, pieces: Pieces, row_bytes: int = 1, bar: Progress | None = None) -> dict[str, Any]:
    """Pieces of a file, made while those before are written: its name, size and digest."""
    running, size = xxhash.xxh3_64(), 0
    with closing(read_ahead(pieces)) as ahead:
        for piece in ahead:
            flat = piece.reshape(-1)
            file.write(flat)
            running.update(flat.data)
            size += len(flat)
            if bar is not None:
                bar.advance(len(flat) // row_bytes)
    return {"file": file.path.name, "bytes": size, "xxh3": f"{running.intdigest():016x}"}


def _labels(dataset: Dataset, label: Any) -> tuple[str | None, NDArray[np.float32] | None]:
    """The one label, and its name; None where there is none and none was asked for."""
    if not dataset.has_labels and label is None:
        return None, None
    if not dataset.has_labels:
        raise OptionError(f"{dataset.path} has no labels, so no label {label!r}: compress with label= (--label)")
    count = dataset.labels_a_row
    number = choose_label(label, dataset.label_names, count, str(dataset.path))
    labels = dataset.labels
    assert labels is not None
    title = label_title(dataset.label_names, number, count)
    return None if title is None else str(title), labels if count == 1 else labels[:, number]


def _stored(layout: str, labels: NDArray[np.float32], scale: float, dataset: Dataset) -> NDArray[Any]:
    """Labels as the hardware has them: float32 for pynq, else int32 of 9.23 fixed point, cut off toward zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = labels * np.float64(scale)
        if layout == "pynq":
            values, bad = scaled.astype("<f4"), ~np.isfinite(scaled)
        else:
            whole = np.trunc(scaled * LABEL_UNIT)
            bad = ~((whole >= -(2.0**31)) & (whole < 2.0**31))
            values = np.where(bad, 0, whole).astype("<i4")
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{dataset.path}: row {row}: the label {labels[row]:g}{f', times {scale:g},' if scale != 1 else ''} is not within "
            f"{'float32' if layout == 'pynq' else '-256..256'}, which {layout} takes: give a factor, label_scale= (--label-scale)"
        )
    return values


def _check_features(dataset: Dataset, layout: str, bias: bool, zeros: int) -> None:
    """Refuse more features than the design has memory for."""
    features, most = dataset.shape[1] + bias + zeros, MOST_FEATURES[layout]
    if features > most:
        beside = f", {bias + zeros} of them for a bias or the label's place," if bias + zeros else ""
        raise OptionError(
            f"{dataset.path}: {features:,} features{beside} are more than {layout}'s {most:,}: compress fewer columns (--columns)"
        )


def _step(row_bytes: int) -> int:
    """Rows of a piece: whole groups of the sums of noise, and of mlweaving."""
    return max(1, PIECE_BYTES // row_bytes // codes_kernel.GROUP) * codes_kernel.GROUP


def _source(dataset: Dataset, taken: str, seed: int) -> dict[str, Any]:
    """What the side-car says of the file."""
    return {
        "tool": f"zipml-codec {VERSION}",
        "file": dataset.path.name,
        "values": taken,
        "export_seed": seed,
        "mean": dataset.mean.tolist(),
        "std": dataset.std.tolist(),
    }


@dataclass
class Weaving:
    """Rows of a file as planes of bits, 8 rows together."""

    dataset: Dataset
    bias: bool
    last_rows: str
    named: dict[str, Any]
    threads: int

    def __post_init__(self) -> None:
        rows, features = self.dataset.shape
        rest = rows % GROUP
        _check_features(self.dataset, "mlweaving", self.bias, 0)
        if rest and self.last_rows == "raise":
            raise OptionError(
                f"{self.dataset.path}: mlweaving takes a multiple of {GROUP} rows, not {rows:,}: leave out the last {rest} with "
                f"last_rows='drop' (--last-rows drop), or add {GROUP - rest} of zeros with 'pad'"
            )
        stored = rows - rest + (GROUP if rest and self.last_rows == "pad" else 0)
        if not stored:
            raise OptionError(f"{self.dataset.path}: {rows} rows are less than the {GROUP} of a line: last_rows='pad' adds some")
        self.exact = self.dataset.has_exact_copy
        if self.exact:
            low, high = self.dataset.low, self.dataset.high
        else:
            low, high = (np.broadcast_to(self.dataset.codec.bounds[:, end], features) for end in (0, -1))
        self.about = Sidecar(
            layout="mlweaving", bits=PLANES, signed=False, rows=stored, data_rows=rows, features=features + self.bias,
            data_features=features, bias=self.bias, indices=1, top=2**PLANES - 1, low=low.astype(np.float64),
            high=high.astype(np.float64), columns=None if self.dataset.columns is None else list(self.dataset.columns),
            source=_source(self.dataset, "the exact copy" if self.exact else "decoded means", 0), **self.named,
        )  # fmt: skip

    def described(self) -> Sidecar:
        """What is in the image."""
        return self.about

    def pieces(self, labels: NDArray[Any] | None) -> Pieces:
        """The image, a whole number of groups of rows at a time. Labels are in a file of their own."""
        about = self.about
        span = about.high - about.low
        for first, values in _values(self.dataset, self.exact, _step(4 * about.features), self.threads):
            values = values[: max(0, about.rows - first)]
            if len(values):
                yield kernel.weave(values, about.low, span, about.bias, self.threads)


def _values(dataset: Dataset, exact: bool, step: int, threads: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """First row and values of `step` rows at a time."""
    if exact:
        for first in range(0, len(dataset), step):
            yield first, np.ascontiguousarray(dataset.exact_rows(slice(first, first + step)), np.float32)
    else:
        for first, packed in _packed(dataset, step):
            yield first, dataset.codec.decode(packed, threads)


def _packed(dataset: Dataset, step: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """First row and codes of `step` rows at a time; each chunk is read once."""
    first, left = 0, np.empty((0, dataset.stride), np.uint8)
    for number in range(dataset.chunks):
        chunk = dataset.read_chunk(number)
        left = np.concatenate([left, chunk]) if len(left) else chunk
        last = len(left) if number == dataset.chunks - 1 else len(left) // step * step
        for start in range(0, last, step):
            piece = left[start : min(start + step, last)]
            yield first, piece
            first += len(piece)
        left = left[last:]


class Packing:
    """Rows of a file as fields of samples, one after the other, all of them once for each index.

    Round q makes `per_round` indices, of the pairs of a code's samples: of the file's own codes in round 0, and in further ones
    too where there are no exact rows; else of codes made anew.
    """

    def __init__(
        self, dataset: Dataset, layout: str, bits: int | None, signed: bool, indices: int, bias: bool, requantize: bool,
        seed: int, named: dict[str, Any], threads: int,
    ) -> None:  # fmt: skip
        self.dataset, self.seed, self.threads = dataset, seed, threads
        self.exact, self.again = dataset.has_exact_copy, requantize
        needed = 2 if layout == "harp" else 1
        self.codec, width, self.intervals = self._levels(layout, bits, needed)
        if signed and width == 1:
            raise OptionError("codes of 1 bit are 0 or 1: signed (--range 11) takes at least 2 bits")
        features = dataset.shape[1]
        zeros = zero_features(features + bias, width) if layout == "harp" else 0
        _check_features(dataset, layout, bias, zeros)
        self.per_round = self.codec.samples // needed
        self.samples = needed * min(indices, self.per_round)  # of a code, that are in the image
        low, high = (np.broadcast_to(self.codec.bounds[:, end], features).astype(np.float64) for end in (0, -1))
        taken = "codes" if not requantize else "the exact copy" if self.exact else "decoded means"
        if self.samples < self.codec.samples:
            taken += f", {self.samples} of their {self.codec.samples} samples"
        self.about = Sidecar(
            layout=layout, bits=width, signed=signed, rows=len(dataset), data_rows=len(dataset), features=features + bias + zeros,
            data_features=features, bias=bias, indices=indices, top=self.intervals, low=low, high=high,
            columns=None if dataset.columns is None else list(dataset.columns),
            source=_source(dataset, taken, seed) | {
                "copies": self._copies(indices), "samples": self.samples, "rounding": self.codec.rounding,
                "shared_levels": self.codec.is_shared, "seed": self._round_seed(0) if requantize else dataset.seed,
                "row_offset": dataset.row_offset,
            }, **named,
        )  # fmt: skip
        self.total = np.zeros((2, features))

    def _levels(self, layout: str, bits: int | None, needed: int) -> tuple[Codec, int, int]:
        """The codec of the codes that are stored, Q, and the number of intervals."""
        dataset, form = self.dataset, hardware_form(self.dataset.codec)
        if self.again:
            width = bits if bits is not None else form[0] if form is not None else None
            if width is None:
                raise OptionError("requantize needs the hardware's bits of a sample: bits=1, 2, 4 or 8 (--bits-hw)")
            intervals = hardware_intervals(width, needed)
            bounds = dataset.codec.bounds
            low, high = (dataset.low, dataset.high) if self.exact else (bounds[:, 0], bounds[:, -1])
            return hardware_codec(low, high, intervals, needed, features=dataset.shape[1]), width, intervals
        again = f"or round it again with requantize=True (zipml export --requantize --bits-hw {bits or 'Q'})"
        samples = "" if needed == 2 else " --samples 1"
        if form is None:
            kind = "uniform" if dataset.codec.is_uniform else "optimal"
            raise OptionError(
                f"{dataset.path}: {kind} levels of {dataset.bits} bits are none that {layout} has: compress the data with "
                f"--levels harp:{bits or 'Q'}{samples}, {again}"
            )
        if bits is not None and bits != form[0]:
            raise OptionError(
                f"{dataset.path}: its levels are those of {form[0]} bits, not {bits}: leave bits (--bits-hw) out, {again}"
            )
        if dataset.samples < needed:
            raise OptionError(
                f"{dataset.path}: its codes stand for one sample and {layout} takes two: compress the data with --levels "
                f"harp:{form[0]} --samples 2, {again}"
            )
        return dataset.codec, *form

    def _copies(self, indices: int) -> str:
        """How independent the copies are, in words."""
        if indices <= self.per_round and not self.again:
            return "samples of their own" if indices > 1 else "one"
        if self.exact:
            return "fresh quantizations" if indices > 1 else "one"
        return "fresh quantizations of decoded means" if self.again else "the same samples, assigned anew"

    def _round_seed(self, number: int) -> int:
        """The seed of a quantization (FORMAT.md, section 2, export)."""
        return int(philox.keys(self.seed, philox.EXPORT, 0, number, 1)[0])

    def pieces(self, labels: NDArray[Any] | None) -> Pieces:
        """The image, some rows at a time."""
        about, codec = self.about, self.codec
        rows = row_kernel(about)
        tops = np.zeros(-(-codec.features // kernel.BLOCK) * kernel.BLOCK, np.uint8)
        tops[: codec.features] = tops_of(codec, self.intervals)
        words = None if labels is None else labels.view("<u4")
        for index in range(about.indices):
            number, pair = divmod(index, self.per_round)
            seed = int(philox.keys(self.seed, philox.EXPORT, 1, number, 1)[0]) if number else self.seed
            sample = pair * codec.samples // self.per_round
            for first, packed in self._codes(number):
                own = None if words is None else words[first : first + len(packed)]
                at = first + self.dataset.row_offset
                yield rows.fill(packed, codec.bits, codec.samples, sample, tops, own, seed, at, self.threads)

    def _codes(self, number: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """First row and codes of some rows at a time, of round `number`."""
        step = _step(max(self.about.row_bytes, 4 * self.codec.features))
        if not self.again and (number == 0 or not self.exact):
            yield from _packed(self.dataset, step)
            return
        seed, total = self._round_seed(number), np.zeros((2, self.codec.features))
        for first, values in _values(self.dataset, self.exact, step, self.threads):
            packed = np.empty((len(values), self.codec.stride), np.uint8)
            groups = np.empty((2, -(-len(values) // codes_kernel.GROUP), self.codec.features), np.float32)
            at = first + self.dataset.row_offset
            if self.codec.encode_into(values, packed, seed, at, self.threads, groups[0], groups[1]):
                row, column, value = self.codec.first_outside(values)
                raise DataError(
                    f"{self.dataset.path}: row {first + row}, column {column}: {value} is outside of the column's range"
                )
            total = np.stack([noise_total(total[part], groups[part]) for part in (0, 1)])
            yield first, packed
        if number == 0:
            self.total = total

    def described(self) -> Sidecar:
        """What is in the image, once it is written: with what rounding has added."""
        dataset, known = self.dataset, {"least": self.dataset.low, "greatest": self.dataset.high}
        if self.again:
            noise, error = mean_errors(self.codec, self.total, len(dataset))
            if not self.exact:  # rounded twice, independently
                noise, error = noise + dataset.noise, error + dataset.error
                known = {"least": self.about.low, "greatest": self.about.high}
        elif self.samples == self.codec.samples:
            noise, error = dataset.noise, dataset.error
        else:  # fewer samples: the mean of them is that much noisier
            noise = error = dataset.noise * self.codec.samples / self.samples
        known |= {"noise": noise, "error": error}
        own = {"bits": code_bits(self.intervals, self.samples)} | {name: array.tolist() for name, array in known.items()}
        return replace(self.about, source=self.about.source | own)
