"""Decoding packed rows in memory: float32 means, codes, and the k samples, beside plain numpy on codes of a byte each."""

import numpy as np
import pytest

PEER_ROWS = 4096


def numpy_codes(packed, bits):
    """Codes of 2, 4 or 8 bits, unpacked in plain numpy; padding included."""
    count = 8 // bits
    out = np.empty((*packed.shape, count), np.uint8)
    for i in range(count):
        np.bitwise_and(packed >> (bits * i), 2**bits - 1, out=out[..., i])
    return out.reshape(len(packed), -1)


@pytest.mark.parametrize("bits", [2, 4, 8], ids=lambda bits: f"bits={bits}")
@pytest.mark.parametrize("levels", ["uniform", "optimal"])
def test_decode(measure, data, codec, packed, levels, bits, threads):
    coder, rows = codec(levels, bits, 2), packed(levels, bits, 2)
    codes = coder.codes(rows[:PEER_ROWS])
    low, step = np.float32(-1), np.float32(0.25)
    out = measure(
        f"decode {levels} {bits} bits k=2, {threads or 'all'} thr.",
        lambda: coder.decode(rows, threads),
        values=data.X.size,
        nbytes=data.X.nbytes,
        unit="float32 out",
        threads=threads,
        peers={"numpy low + code * step": (lambda: codes * step + low, codes.size)},
    )
    assert out.shape == data.X.shape


@pytest.mark.parametrize("bits", [2, 4, 8], ids=lambda bits: f"bits={bits}")
def test_codes(measure, data, codec, packed, bits, threads):
    coder, rows = codec("uniform", bits, 2), packed("uniform", bits, 2)
    part = rows[:PEER_ROWS]
    out = measure(
        f"codes {bits} bits, {threads or 'all'} thr.",
        lambda: coder.codes(rows, threads),
        values=data.X.size,
        nbytes=rows.nbytes,
        unit="codes",
        threads=threads,
        peers={"numpy shift and mask": (lambda: numpy_codes(part, bits), len(part) * data.X.shape[1])},
    )
    np.testing.assert_array_equal(out[:64], numpy_codes(rows[:64], bits)[:, : data.X.shape[1]])


@pytest.mark.parametrize("bits", [2, 4, 8], ids=lambda bits: f"bits={bits}")
@pytest.mark.parametrize("levels", ["uniform", "optimal"])
def test_draw(measure, codec, packed, levels, bits):
    coder = codec(levels, bits, 2)
    rows = packed(levels, bits, 2)
    rows = rows[: max(len(rows) // 4, 1)]  # the samples are k times as much float32
    interval, up = np.divmod(coder.codes(rows[:PEER_ROWS]), 2)
    chance, generator = up / np.float32(2), np.random.Generator(np.random.SFC64(0))

    def numpy_draw():
        return [interval + (generator.random(chance.shape, np.float32) < chance) for _ in range(2)]

    values = len(rows) * coder.features
    out = measure(
        f"draw {levels} {bits} bits k=2, all thr.",
        lambda: coder.draw(rows),
        values=values,
        nbytes=8 * values,
        unit="float32 out",
        peers={"numpy coin flips": (numpy_draw, interval.size)},
    )
    assert out.shape == (2, len(rows), coder.features)
