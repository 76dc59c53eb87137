"""The byte images that the published FPGA designs read, and the JSON beside each that says what is in it (docs/fpga.md).

`harp`: rows of 512-bit lines, a pair of samples a feature, the label in a row's last word. `pynq`: rows of 64-bit words, one code
a feature, the label in a word of its own. `mlweaving`: planes of one bit, of any of which the first may be read alone.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from ..errors import CorruptError, FormatError
from ..kernels.images import Rows
from .vouched import is_vouched, vouched

FORMAT, VERSION = "zipml-fpga", 1
LAYOUTS = ("harp", "pynq", "mlweaving")
WIDTHS = (1, 2, 4, 8)
MOST_FEATURES = {"harp": 8192, "pynq": 4096, "mlweaving": 32768}
LABEL_FORMATS = {
    "harp": "int32, 2**23 to one, in the last 32 bits of a row",
    "pynq": "float32, in the low 32 bits of a row's last word",
    "mlweaving": "int32, 2**23 to one, in a file of their own",
}
LINE, WORD = 64, 8  # bytes of a line of harp and mlweaving, and of pynq's words, which are its lines
GROUP, CHUNK, PLANES = 8, 64, 32  # rows and features of a block of mlweaving, and its lines
LABEL_UNIT = 2.0**23
STEP = 8 << 20  # bytes that are digested at a time


def zero_features(features: int, bits: int) -> int:
    """Features of zeros that harp needs after so many others, so that a row's last line has room for the label."""
    last = features % (256 // bits)
    return 0 if 1 <= last <= 240 // bits else 1 if last == 0 else 256 // bits - last + 1


def sidecar_of(path: Path) -> Path:
    """Where the description of an image is."""
    return path.with_name(f"{path.name}.json")


def labels_of(path: Path) -> Path:
    """Where the labels of an image in mlweaving are."""
    return path.with_name(f"{path.stem}.labels{path.suffix}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Sidecar:
    """What the JSON beside an image says of it.

    Attributes
    ----------
    layout : {"harp", "pynq", "mlweaving"}
    bits : int
        Q of a code; 32 of mlweaving.
    signed : bool
        Whether codes are two's complement, of values in -1..1, else of values in 0..1.
    rows, data_rows : int
        Rows in the image, and those of the data: fewer where rows of zeros were added, more where the last were left out.
    features, data_features : int
        Features in the image, and those of the data: then comes the bias, if there is one, then features of zeros.
    bias : bool
        Whether there is a feature of constant 1.
    indices : int
        Copies of the rows, one after the other.
    top : int
        The code, counted from the lowest, that `high` has; `low` has 0.
    low, high : ndarray of shape (data_features,), float64
        What the ends of `level_range` stand for, of each of the data's features, in its own units.
    labelled : bool
        Whether there are labels; else their places are 0.
    label : str, optional
        Name of the label, if it has one.
    label_scale : float
        What labels were multiplied by.
    columns : list of str, optional
        Names of the data's features.
    source : dict
        What the image was made of, and how, for people and for the way back.
    """

    layout: str
    bits: int
    signed: bool
    rows: int
    data_rows: int
    features: int
    data_features: int
    bias: bool
    indices: int
    top: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    labelled: bool
    label: str | None = None
    label_scale: float = 1.0
    columns: list[str] | None = None
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def line_bytes(self) -> int:
        """Bytes of a line."""
        return WORD if self.layout == "pynq" else LINE

    @property
    def row_lines(self) -> int:
        """Lines of a row; of mlweaving, where 8 rows share them, as many as that makes for each."""
        if self.layout == "harp":
            return -(-self.features // (256 // self.bits))
        if self.layout == "pynq":
            return -(-self.features * self.bits // 64) + 1
        return -(-self.features // CHUNK) * PLANES // GROUP

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.row_lines * self.line_bytes

    @property
    def lines(self) -> int:
        """Lines of the image: of all rows and all copies of them."""
        return self.rows * self.row_lines * self.indices

    @property
    def level_range(self) -> tuple[float, float]:
        """The hardware's values of the codes 0 and `top`, which `low` and `high` of each feature are mapped to."""
        if self.layout == "mlweaving":
            return 0.0, 1.0
        low, one = (-(2 ** (self.bits - 2)), 2 ** (self.bits - 2)) if self.signed else (0, 2 ** (self.bits - 1))
        return low / one, (low + self.top) / one

    def text(self, files: dict[str, dict[str, Any]]) -> bytes:
        """The JSON object, with the names, sizes and digests of the files."""
        derived = {
            "zero_features": self.features - self.data_features - self.bias,
            "line_bytes": self.line_bytes,
            "row_lines": self.row_lines,
            "lines": self.lines,
            "level_range": list(self.level_range),
            "label_format": LABEL_FORMATS[self.layout],
        }
        own = {part.name: getattr(self, part.name) for part in fields(Sidecar)}
        own |= {"low": self.low.tolist(), "high": self.high.tolist()}
        return vouched({"format": FORMAT, "version": VERSION} | own | derived | files)

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Sidecar:
        """What a JSON object says; ValueError, KeyError or TypeError where it makes no sense."""
        own = {part.name: content[part.name] for part in fields(cls)}
        self = cls(**own | {name: np.array(content[name], np.float64) for name in ("low", "high")})
        whole = (self.bits, self.rows, self.data_rows, self.features, self.data_features, self.indices, self.top)
        mlweaving = self.layout == "mlweaving"
        if (
            not all(isinstance(number, int) and not isinstance(number, bool) and number > 0 for number in whole)
            or not all(isinstance(flag, bool) for flag in (self.signed, self.bias, self.labelled))
            or (self.bits != PLANES or self.rows % GROUP if mlweaving else self.bits not in WIDTHS)
            or (self.signed and (mlweaving or self.bits == 1))
            or self.top > (2**PLANES - 1 if mlweaving else 2 ** (self.bits - 1))
            or not self.data_features + self.bias <= self.features <= MOST_FEATURES[self.layout]
            or (self.layout == "harp" and zero_features(self.features, self.bits))
            or not (self.low.shape == self.high.shape == (self.data_features,))
            or not (np.isfinite(self.low) & np.isfinite(self.high) & (self.low <= self.high)).all()
            or not (math.isfinite(self.label_scale) and self.label_scale)
            or not (self.columns is None or len(self.columns) == self.data_features)
            or not all(isinstance(name, str) for name in (*(self.columns or ()), "" if self.label is None else self.label))
            or abs(self.rows - self.data_rows) >= (GROUP if mlweaving else 1)
            or not isinstance(self.source, dict)
        ):
            raise ValueError
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class Image(Sidecar):
    """An image that was opened for reading, with all that its side-car says. Made by `open_image`.

    Attributes
    ----------
    path : Path
    data : ndarray of shape (lines * line_bytes,), uint8
        The image, mapped, read-only.
    labels : ndarray of shape (rows,)
        As the hardware sees them: int32 of 2**23 to one, of pynq float32. Read-only; views of the image but in mlweaving.
    """

    path: Path
    data: NDArray[np.uint8]
    labels: NDArray[Any]

    def copy(self, index: int = 0) -> NDArray[np.uint8]:
        """One of the `indices` copies of the rows: uint8 (rows, row_bytes); of mlweaving (rows / 8, chunks, 32, 64)."""
        shape = (self.rows // GROUP, -1, PLANES, LINE) if self.layout == "mlweaving" else (self.rows, self.row_bytes)
        rows: NDArray[np.uint8] = self.data.reshape(self.indices, -1)[index].reshape(shape)
        return rows


def open_image(path: str | PathLike[str], check: bool = True) -> Image:
    """Open an image that `zipml export` wrote, by the name of its .bin; the description is beside it, in PATH.json.

    Sizes are checked, and with `check` digests: all of the image is read once.

    Raises
    ------
    FormatError
        There is no image, no description beside it, or that is of a newer version.
    CorruptError
        They do not fit together.
    """
    place = Path(path)
    about, content = read_sidecar(place)
    data = _mapped(place, content.get("image"), about.lines * about.line_bytes, "|u1", check)
    if about.layout == "mlweaving":
        labels = _mapped(labels_of(place), content.get("labels"), 4 * about.rows, "<i4", check)
    else:
        words = data[: about.rows * about.row_bytes].reshape(about.rows, -1)
        at = slice(-4, None) if about.layout == "harp" else slice(-8, -4)
        labels = words[:, at].view("<i4" if about.layout == "harp" else "<f4")[:, 0]
    return Image(**vars(about), path=place, data=data, labels=labels)


def read_sidecar(path: Path) -> tuple[Sidecar, dict[str, Any]]:
    """What is said of the image at `path`, and the whole JSON object."""
    place = sidecar_of(path)
    if place.is_fifo():  # opening it would wait for whoever writes to it
        raise FormatError(f"{place} is a pipe, not the description of an image")
    try:
        text = place.read_bytes()
    except OSError as error:
        why = error.strerror or error
        raise FormatError(f"{path}: cannot read its description, {place.name}: {why}; `zipml export` writes both") from error
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise FormatError(f"{place} describes no image: `zipml export` writes those")
        if content["version"] > VERSION:
            raise FormatError(
                f"{place}: version {content['version']}; this zipml-codec reads up to {VERSION}: install a newer one"
            )
        if not is_vouched(text):
            raise CorruptError(f"{place} does not match its digest: export the image again")
        return Sidecar.parse(content), content
    except FormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CorruptError(f"{place} is damaged: export the image again") from error


def _mapped(path: Path, said: Any, size: int, dtype: str, check: bool) -> NDArray[Any]:
    """A file as an array, after a look at its size and digest."""
    if path.exists() and not path.is_file():
        raise FormatError(f"{path} is a folder, a device or a pipe, not an image's file")
    try:
        there = path.stat().st_size
        if there != size:
            raise CorruptError(f"{path} has {there:,} bytes, not the {size:,} of its description: export it again")
        data: NDArray[Any] = np.memmap(path, dtype, "r")
    except CorruptError:
        raise
    except OSError as error:
        raise FormatError(f"{path}: cannot read it: {error.strerror or error}") from error
    if check and (not isinstance(said, dict) or digest_of(data) != said.get("xxh3")):
        raise CorruptError(f"{path} does not match the digest in its description: export it again")
    return data


def digest_of(data: NDArray[Any]) -> str:
    """xxh3-64 of an array's bytes, 16 hexadecimal digits."""
    running, flat = xxhash.xxh3_64(), data.reshape(-1).view(np.uint8)
    for start in range(0, len(flat), STEP):
        running.update(flat[start : start + STEP].data)
    return f"{running.intdigest():016x}"


def row_kernel(about: Sidecar) -> Rows:
    """What writes and reads the rows of harp and pynq."""
    label = about.row_bytes - (4 if about.layout == "harp" else WORD)
    offset = 2 ** (about.bits - 2) if about.signed else 0
    return Rows(about.data_features, about.row_bytes, label, about.bits, about.layout == "harp", offset, about.bias)
