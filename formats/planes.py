"""Planes of bits: one stored copy that is read at any precision, without bias at each (FORMAT.md, section 7).

A file's codes, plus a dither that everybody can make again, are kept plane by plane, the most significant bit first. The first p
planes, less the dither's own, are the value rounded at random to one of the two levels around it of every 2^(bits - p) levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import row_stride
from ..errors import OptionError, OutputError
from ..kernels import weave
from .header import Header

Arrays = dict[str, NDArray[Any]]


def top_code(bits: int, coarsest: int) -> int:
    """The greatest code: dither, below 2**(bits - coarsest), must fit above it."""
    return int(2**coarsest - 1) << (bits - coarsest)


def at_precision(header: Header, precision: int) -> Header:
    """The header that rows have which are read at a precision."""
    return replace(header, bits=precision, stride=row_stride(header.features, precision))


def check_precision(header: Header, precision: int | None, name: str) -> int:
    """The precision to read at: all bits where None.

    Raises
    ------
    OptionError
        The file was not made for it.
    """
    if precision is None:
        return header.bits
    if isinstance(precision, bool | np.bool_) or not isinstance(precision, int | np.integer):
        raise OptionError(f"precision must be an integer, {header.coarsest or header.bits}..{header.bits}; got {precision!r}")
    if precision == header.bits:
        return header.bits
    if not header.woven:
        raise OptionError(f"{name} holds rows of {header.bits} bits, read whole: compress with layout='weave' (--layout weave)")
    if not header.coarsest <= precision <= header.bits:
        less = f"; compress with coarsest={max(precision, 1)} (--coarsest) for fewer bits" if precision < header.coarsest else ""
        raise OptionError(f"{name} is read at {header.coarsest} to {header.bits} bits, not {precision}{less}")
    return int(precision)


def arrays_at(header: Header, arrays: Mapping[str, NDArray[Any]], precision: int) -> Arrays:
    """Levels, noise and error of a precision below the file's bits, in place of the file's.

    The error is the one expected, which is the noise: nobody has counted how it comes out.
    """
    step, levels = 2 ** (header.bits - precision), arrays["levels"]
    if header.level_kind == "uniform":
        low, high = levels[:, 0].astype(np.float64), levels[:, 1].astype(np.float64)
        most = low + (high - low) / (2**header.bits - 1) * ((2**precision - 1) * step)
        levels = np.stack([low, most], axis=1).astype(np.float32)
    else:
        levels = np.ascontiguousarray(levels[:, ::step])
    noise = arrays["plane_noise"][precision - header.coarsest]
    return {"levels": levels, "noise": noise, "error": noise}


def plane_noise(header: Header, levels: NDArray[np.float32], noise: NDArray[np.float64], counts: NDArray[np.uint64]) -> Any:
    """D of each precision from `coarsest` on below the file's bits, float64 (bits - coarsest, features).

    D_p = D + mean over rows of (u - m)(m - l), m what the stored code decodes to, l <= m <= u every 2**(bits - p) levels.

    Parameters
    ----------
    header : Header
    levels, noise : ndarray
        Those of the file.
    counts : ndarray of shape (features, 2**bits), uint64
        How often each code occurs.
    """
    if counts[:, top_code(header.bits, header.coarsest) + 1 :].any():
        raise OutputError("codes of planes must leave room for their dither: levels are not nested")
    found = []
    codes = np.arange(2**header.bits)
    if header.level_kind == "uniform":
        ends = levels.astype(np.float64)
        width, table = (ends[:, 1] - ends[:, 0]) / (2**header.bits - 1), None
    else:
        width, table = np.ones(header.features), levels.astype(np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for precision in range(header.coarsest, header.bits):
        step = 2 ** (header.bits - precision)
        lower = codes // step * step
        upper = np.minimum(lower + step, 2**header.bits - 1)
        if table is None:
            spread = ((upper - codes) * (codes - lower)).astype(np.float64)
        else:
            spread = (table[:, upper] - table) * (table - table[:, lower])
        found.append(noise + np.sum(shares * spread, axis=1) * width**2)
    return np.stack(found) if found else np.zeros((0, header.features))


def woven(header: Header, packed: NDArray[np.uint8], rows: int, first: int, threads: int) -> NDArray[np.uint8]:
    """A chunk's planes, (bits, chunk_rows, pitch), of packed rows: the first `rows` of them count, from row `first` on."""
    planes = np.zeros(header.chunk_shape, np.uint8)
    summed = packed[:rows].copy()
    spread = header.bits - header.coarsest
    weave.dither(summed, header.features, header.bits, spread, header.seed, header.row_offset + first, False, threads)
    weave.weave(summed, header.features, header.bits, planes, threads)
    return planes


def unwoven(
    header: Header,
    precision: int,
    buffer: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    numbers: NDArray[np.int64],
    threads: int,
    spare: int = 0,
) -> NDArray[np.uint8]:
    """Packed rows, of `precision` bits a code, of some chunks: uint8 (spare + rows, stride), the first `spare` of them undefined.

    Parameters
    ----------
    header : Header
        The file's.
    precision : int
    buffer : ndarray, uint8
        What the chunks' first planes are in.
    offsets, numbers : ndarray of shape (chunks,), int64
        Where in the buffer each chunk begins, and its number.
    threads, spare : int
    """
    firsts = numbers * header.chunk_rows
    counts = np.minimum(header.chunk_rows, header.rows - firsts)
    packed = np.empty((spare + int(counts.sum()), row_stride(header.features, precision)), np.uint8)
    weave.unweave_chunks(
        buffer, offsets, counts, (header.row_offset + firsts).astype(np.uint64), header.chunk_rows, header.shape[-1],
        header.features, precision, precision - header.coarsest, header.seed, packed[spare:], threads,
    )  # fmt: skip
    return packed
