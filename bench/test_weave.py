"""Bit planes to packed rows and back, beside numpy's unpackbits and packbits on fewer rows.

64 MB of chunks of 8 planes, of which the first are unwoven, 8 chunks a window as in training. Bytes are those read and written.
"""

import numpy as np
import pytest

from zipml_codec.arrays import thread_count
from zipml_codec.codec import row_stride
from zipml_codec.kernels import weave as kernel

FEATURES, BITS, CHUNKS, WINDOW = 1024, 8, 32, 8
PITCH = row_stride(FEATURES, 1)
CHUNK_ROWS = (2 << 20) // (BITS * PITCH)
PEER_ROWS = 512


@pytest.fixture(scope="module")
def planes():
    return np.random.default_rng(0).integers(0, 256, (CHUNKS, BITS, CHUNK_ROWS, PITCH), np.uint8)


def numpy_unweave(planes, precision):
    """The upper planes of some rows as packed rows, in plain numpy."""
    bits = np.unpackbits(planes[:precision][::-1], axis=2, bitorder="little")
    return np.packbits(bits.transpose(1, 2, 0).reshape(planes.shape[1], -1), axis=1, bitorder="little")


@pytest.mark.parametrize("precision", [1, 2, 4, 8], ids=lambda precision: f"precision={precision}")
def test_unweave(measure, planes, precision, threads):
    buffer, part = planes.reshape(-1), planes[0, :, :PEER_ROWS]
    out = np.empty((WINDOW * CHUNK_ROWS, row_stride(FEATURES, precision)), np.uint8)
    offsets, counts = np.arange(CHUNKS, dtype=np.int64) * (buffer.size // CHUNKS), np.full(CHUNKS, CHUNK_ROWS, np.int64)
    firsts = np.arange(CHUNKS, dtype=np.uint64) * np.uint64(CHUNK_ROWS)

    def ours():
        for first in range(0, CHUNKS, WINDOW):
            window = slice(first, first + WINDOW)
            kernel.unweave_chunks(
                buffer, offsets[window], counts[window], firsts[window], CHUNK_ROWS, PITCH, FEATURES, precision, 0, 0, out,
                thread_count(threads),
            )

    measure(
        f"unweave {precision} of {BITS} bits, {threads or 'all'} thr.",
        ours,
        values=CHUNKS * CHUNK_ROWS * FEATURES,
        nbytes=CHUNKS * CHUNK_ROWS * (precision * PITCH + out.shape[1]),
        unit="planes and codes",
        threads=threads,
        peers={"numpy packbits": (lambda: numpy_unweave(part, precision), PEER_ROWS * FEATURES)},
    )
    last = planes[CHUNKS - WINDOW, :, :PEER_ROWS]
    np.testing.assert_array_equal(out[:PEER_ROWS], numpy_unweave(last, precision))


@pytest.mark.parametrize("bits", [2, 4, 8], ids=lambda bits: f"bits={bits}")
def test_weave(measure, bits, threads):
    packed = np.random.default_rng(bits).integers(0, 256, (WINDOW, CHUNK_ROWS, row_stride(FEATURES, bits)), np.uint8)
    planes, part = np.empty((WINDOW, bits, CHUNK_ROWS, PITCH), np.uint8), packed[-1, :PEER_ROWS]

    def ours():
        for rows, chunk in zip(packed, planes, strict=True):
            kernel.weave(rows, FEATURES, bits, chunk, thread_count(threads))

    def numpy_s():
        stream = np.unpackbits(part, axis=1, bitorder="little").reshape(PEER_ROWS, FEATURES, bits)
        return np.packbits(stream.transpose(2, 0, 1)[::-1], axis=2, bitorder="little")

    measure(
        f"weave {bits} bits, {threads or 'all'} thr.",
        ours,
        values=WINDOW * CHUNK_ROWS * FEATURES,
        nbytes=packed.nbytes + planes.nbytes,
        unit="codes and planes",
        threads=threads,
        peers={"numpy packbits": (numpy_s, PEER_ROWS * FEATURES)},
    )
    np.testing.assert_array_equal(planes[-1, :, :PEER_ROWS], numpy_s())
