"""`import`: an image of an FPGA design back: the codes of harp and pynq to a zipml file, values of mlweaving to .npy or .npz."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .arrays import check_integer, check_seed, thread_count
from .codec import Codec
from .errors import CorruptError, OptionError
from .export import Output, npy_header, outputs
from .formats.container import check_zstd, encode_names
from .formats.fpga import GROUP, LABEL_UNIT, Image, labels_of, open_image, row_kernel, sidecar_of
from .formats.header import Header, chunk_rows_for
from .formats.output import check_apart, disk_errors
from .formats.partial import Partial
from .formats.writer import ContainerWriter
from .hardware import hardware_codec, tops_of
from .kernels import codes as codes_kernel
from .kernels import images as kernel
from .progress import Progress, no_progress
from .version import VERSION

PIECE_BYTES = 8 << 20  # of rows that are worked on together
STATISTICS = {"least": "low", "greatest": "high", "mean": "mean", "std": "std", "noise": "noise", "error": "error"}

Values = Iterator[NDArray[np.float32]]


def import_image(
    image: str | PathLike[str],
    path: str | PathLike[str],
    *,
    zstd: int | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> list[Path]:
    """Bring an image that `export_image` wrote back.

    Parameters
    ----------
    image : str or path
        The image; its description is beside it.
    path : str or path
        Of harp and pynq: the zipml file to write, whose codes are those of the image's samples. Of mlweaving: `.npy`, the rows in
        float32, with labels in `<stem>.labels.npy`, or `.npz`, both, as `X` and `y`.
    zstd : int, optional
        Compress chunks of the zipml file at this zstandard level, 1..19.
    threads : int, optional
    overwrite : bool
        Replace existing files.
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    FormatError, CorruptError
        There is no image, or it is not as it was written.
    OptionError
        An output of the other kind.
    OutputError
        The output exists or the disk is full. Nothing is left behind.

    Notes
    -----
    Codes, levels, statistics and names are those of the file that was exported, where all of its samples are in the image. Labels
    are cut off to the hardware's fixed point. Kept columns, exact rows and the exact copy are not in an image.
    """
    source, target, workers = Path(image), Path(path), thread_count(threads)
    opened = open_image(source)
    arrays = target.suffix.lower() in (".npy", ".npz")
    if opened.layout == "mlweaving" and not arrays:
        raise OptionError(
            f"{target}: an image of mlweaving has values of 32 bits, not codes: name an .npy or .npz, for `zipml compress`"
        )
    if opened.layout == "mlweaving" and zstd is not None:
        raise OptionError(f"{target}: zstd compresses the codes of a zipml file, not arrays: leave it out (--zstd)")
    if opened.layout != "mlweaving" and arrays:
        raise OptionError(f"{target}: an image of {opened.layout} has codes: name a zipml file, for `zipml decompress`")
    for place in (target, labels_beside(target)) if arrays else (target,):
        check_apart(place, [source, sidecar_of(source), labels_of(source)])
    bars: Callable[..., Progress] = Progress.on_terminal if progress else no_progress
    with bars("importing", opened.data_rows, None) as bar:
        if opened.layout == "mlweaving":
            return _write_arrays(opened, target, overwrite, workers, bar)
        _write_codes(opened, target, check_zstd(zstd), overwrite, workers, bar)
    return [target]


def labels_beside(path: Path) -> Path:
    """Where the labels of rows in .npy go."""
    return path.with_name(f"{path.stem}.labels.npy")


def _labels(image: Image) -> NDArray[np.float32] | None:
    """The labels, as they were but for what fixed point cut off."""
    if not image.labelled:
        return None
    unit = 1.0 if image.layout == "pynq" else LABEL_UNIT
    return (image.labels[: image.data_rows] / np.float64(unit * image.label_scale)).astype("<f4")


def _write_codes(image: Image, target: Path, zstd: int, overwrite: bool, threads: int, bar: Progress) -> None:
    """The zipml file of an image's samples."""
    try:
        codec, header, arrays, ends = _outline(image, zstd)
    except (ValueError, KeyError, TypeError, OverflowError) as error:  # what the side-car says of the source
        raise CorruptError(f"{sidecar_of(image.path)} is damaged: export the image again") from error
    labels, rows = _labels(image), row_kernel(image)
    rowwise = {} if labels is None else {"labels": np.dtype("<f4")}
    pairs = image.layout == "harp"
    used = codec.samples // 2 if pairs else 1
    step = max(1, PIECE_BYTES // (used * image.row_bytes))
    tops = tops_of(codec, image.top)
    with Partial(target, overwrite) as partial:
        partial.begin(resume=False)
        with ContainerWriter(partial, header, arrays, rowwise, threads) as writer:
            for first in range(0, image.rows, step):
                codes = np.zeros((min(step, image.rows - first), image.data_features), np.uint8)
                for index in range(used):
                    levels = rows.read(image.copy(index)[first : first + step], image.top, threads)
                    if levels is None:
                        raise CorruptError(f"{image.path}: rows {first}..: a level is above {image.top}: export it again")
                    codes += levels
                writer.write_codes(codes_kernel.pack(np.minimum(codes, tops), codec.bits, codec.stride, threads))
                if labels is not None:
                    writer.write_rows("labels", labels[first : first + step])
                bar.advance(len(codes))
            writer.finish(*ends)
        partial.publish()


def _outline(image: Image, zstd: int) -> tuple[Codec, Header, dict[str, NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]:
    """Codec, header and known arrays of the zipml file, and its noise and error."""
    source, features = image.source, image.data_features
    shown = slice(0, 1 if source["shared_levels"] else None)
    low, high = (ends[shown].astype(np.float32) for ends in (image.low, image.high))
    pairs = image.layout == "harp"
    samples = check_integer("samples", source["samples"], 1 + pairs, 2 * image.indices if pairs else 1)
    codec = hardware_codec(low, high, image.top, samples, source["rounding"], features)
    known = {name: np.array(source[said], np.float64) for said, name in STATISTICS.items()}
    if samples % (1 + pairs):
        raise ValueError
    if not all(array.shape == (features,) and np.isfinite(array).all() for array in known.values()):
        raise ValueError
    options = {
        "levels": f"harp:{image.bits}",
        "shared_levels": codec.is_shared,
        "nonfinite": "raise",
        "source": image.path.name,
        "dropped_rows": 0,
    }
    header = Header(
        rows=image.data_rows,
        features=features,
        bits=codec.bits,
        samples=codec.samples,
        stride=codec.stride,
        chunk_rows=chunk_rows_for(image.data_rows, codec.stride),
        level_kind="uniform" if codec.is_uniform else "table",
        rounding=codec.rounding,
        seed=check_seed(source["seed"]),
        row_offset=check_integer("row_offset", source["row_offset"], 0, 2**63),
        zstd=zstd,
        tool=f"zipml-codec {VERSION}",
        options=json.dumps(options, sort_keys=True),
    )
    arrays: dict[str, NDArray[Any]] = {
        "levels": codec.bounds,
        "low": known["low"].astype(np.float32),
        "high": known["high"].astype(np.float32),
        "mean": known["mean"],
        "std": known["std"],
        "sample_rows": np.zeros(0, np.int64),
        "sample_values": np.zeros((0, features), np.float32),
    }
    names = {"columns": image.columns, "label_names": None if image.label is None else [image.label]}
    for name, texts in names.items():
        encoded = encode_names(None if texts is None else tuple(texts))
        if encoded is not None:
            arrays[name] = encoded
    return codec, header, arrays, (known["noise"], known["error"])


def _values(image: Image, threads: int, bar: Progress) -> Values:
    """Rows of an image of mlweaving, some at a time."""
    groups, rows = image.copy(), min(image.rows, image.data_rows)
    step = max(1, PIECE_BYTES // groups[0].nbytes)
    for group in range(0, len(groups), step):
        count = min(step * GROUP, rows - group * GROUP)
        if count > 0:
            planes, span = groups[group : group + step], image.high - image.low
            yield kernel.unweave(planes, count, image.low, span, image.bias, threads)
            bar.advance(count)


def _write_arrays(image: Image, target: Path, overwrite: bool, threads: int, bar: Progress) -> list[Path]:
    """Rows and labels of an image of mlweaving as arrays."""
    labels, shape = _labels(image), (min(image.rows, image.data_rows), image.data_features)
    labels = None if labels is None else labels[: shape[0]]
    zipped = target.suffix.lower() == ".npz"
    paths = [target] if zipped or labels is None else [target, labels_beside(target)]
    with outputs(paths, overwrite) as files:
        if zipped:
            _write_npz(files[0], shape, _values(image, threads, bar), labels)
        else:
            npy_header(files[0], np.dtype("<f4"), shape)
            for values in _values(image, threads, bar):
                files[0].write(values)
            if labels is not None:
                npy_header(files[1], np.dtype("<f4"), labels.shape)
                files[1].write(labels)
    return paths


def _write_npz(file: Output, shape: tuple[int, ...], values: Values, labels: NDArray[np.float32] | None) -> None:
    """Rows as the array X of an .npz, labels as y; not compressed."""

    def header(member: IO[bytes], shape: tuple[int, ...]) -> None:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": shape})

    with disk_errors(file.path), os.fdopen(os.dup(file.descriptor), "wb") as raw, zipfile.ZipFile(raw, "w") as archive:
        with archive.open("X.npy", "w", force_zip64=True) as member:
            header(member, shape)
            for part in values:
                member.write(part.reshape(-1).view(np.uint8).data)
        if labels is not None:
            with archive.open("y.npy", "w", force_zip64=True) as member:
                header(member, labels.shape)
                member.write(labels.view(np.uint8).data)
