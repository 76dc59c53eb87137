"""Encoding: Codec.encode of X in memory, beside plain ways to do as much."""

import numpy as np
import pytest

PEER_ROWS = 4096


def numpy_rounding(x, low, high, intervals):
    """One stochastic rounding to equidistant levels in plain numpy: uint8 codes, not packed."""
    generator = np.random.Generator(np.random.SFC64(0))
    scaled = (x - low) * (np.float32(intervals) / (high - low))
    return (scaled + generator.random(x.shape, np.float32)).astype(np.uint8)


@pytest.mark.parametrize("samples", [1, 2], ids=lambda k: f"k={k}")
@pytest.mark.parametrize("bits", [2, 4, 8], ids=lambda bits: f"bits={bits}")
@pytest.mark.parametrize("levels", ["uniform", "optimal"])
def test_encode(measure, data, codec, statistics, levels, bits, samples, threads):
    coder, part = codec(levels, bits, samples), data.X[:PEER_ROWS]
    packed = measure(
        f"encode {levels} {bits} bits k={samples}, {threads or 'all'} thr.",
        lambda: coder.encode(data.X, threads=threads),
        values=data.X.size,
        nbytes=data.X.nbytes,
        unit="float32 in",
        threads=threads,
        peers={"numpy": (lambda: numpy_rounding(part, statistics.low, statistics.high, coder.intervals), part.size)},
    )
    assert packed.shape == (len(data.X), coder.stride)
