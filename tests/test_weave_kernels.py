"""Bit planes, dither and counts of codes against tests/reference.py, bit by bit, at every vector level and number of threads."""

import ctypes
import mmap
from itertools import product

import numpy as np
import pytest
import reference as ref
from hypothesis import given, settings
from hypothesis import strategies as st

from zipml_codec.kernels import simd
from zipml_codec.kernels import weave as kernel

SIMD = simd.levels()
FEATURES = (1, 2, 7, 8, 9, 63, 64, 65, 91, 127, 128, 200, 784, 785, 1024)
ROWS = (0, 1, 15, 16, 17)
GUARD = 0xA5


def random_codes(rows, features, bits):
    return np.random.default_rng([rows, features, bits]).integers(0, 2**bits, (rows, features)).astype(np.uint8)


class Guarded:
    """An array to write to, among bytes that must stay."""

    def __init__(self, shape, dtype=np.uint8, fill=0xEE):
        self.size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.memory = np.full(self.size + 128, GUARD, np.uint8)
        self.array = self.memory[64 : 64 + self.size].view(dtype).reshape(shape)
        self.array.view(np.uint8)[...] = fill

    def get(self):
        assert (self.memory[:64] == GUARD).all() and (self.memory[64 + self.size :] == GUARD).all()
        return self.array


class Walled:
    """Bytes that end where memory ends: whoever reads on is killed."""

    def __init__(self, content):
        content = np.ascontiguousarray(content)
        room = -(-content.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self.memory = mmap.mmap(-1, room + mmap.PAGESIZE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        assert protect(base + room, mmap.PAGESIZE, 0) == 0
        whole = np.frombuffer(self.memory, np.uint8)[room - content.nbytes : room]
        whole[:] = content.reshape(-1).view(np.uint8)
        self.array = whole.view(content.dtype).reshape(content.shape)
        self.array.flags.writeable = False


def woven(packed, features, bits, capacity, threads):
    out = Guarded((bits, capacity, ref.stride(features, 1)))
    kernel.weave(packed, features, bits, out.array, threads)
    return out.get()


def unwoven(planes, features, precision, first, count, threads, stride=None):
    out = Guarded((count, ref.stride(features, precision) if stride is None else stride))
    _, rows, pitch = planes.shape
    at, counts, firsts = np.array([first * pitch]), np.array([count]), np.array([first], np.uint64)
    where = (planes.reshape(-1), at, counts, firsts, rows, pitch, features, precision)
    kernel.unweave_chunks(*where, 0, 0, out.array, threads)
    return out.get()


@pytest.mark.parametrize("level", SIMD)
@pytest.mark.parametrize("bits", range(1, 9))
def test_planes_are_the_reference_s(bits, level):
    with simd.use(level):
        for features, rows in product(FEATURES, ROWS):
            codes, capacity = random_codes(rows, features, bits), max(rows, 1) + rows % 3
            packed, planes = ref.pack(codes, bits), ref.weave(codes, bits, capacity)
            got = woven(Walled(packed).array, features, bits, capacity, 1)
            np.testing.assert_array_equal(got[:, :rows], planes[:, :rows])
            assert (got[:, rows:] == 0xEE).all()
            walled = Walled(planes).array
            for precision in range(1, bits + 1):
                np.testing.assert_array_equal(ref.unweave(planes, features, precision)[:rows], codes >> (bits - precision))
                expected = ref.pack(codes >> (bits - precision), precision)
                first = rows // 3
                np.testing.assert_array_equal(unwoven(walled, features, precision, 0, rows, 1), expected)
                np.testing.assert_array_equal(
                    unwoven(walled, features, precision, first, rows - first, 1), expected[first:]
                )


@pytest.mark.parametrize("level", SIMD)
@pytest.mark.parametrize("features", [9, 90, 200, 1024, 20_001])
def test_any_threads_and_any_padding(features, level):
    """Rows enough that threads share them; planes and packed rows of any length."""
    bits, rows = 6, max(40, 200_000 // features)
    codes = random_codes(rows, features, bits)
    with simd.use(level):
        for threads, pad in product((1, 2, 3), (0, 3, 64)):
            planes = np.pad(ref.weave(codes, bits), ((0, 0), (0, 0), (0, pad)))
            packed = ref.pack(codes, bits, -(-features * bits // 8) + pad)
            got = Guarded(planes.shape)
            kernel.weave(packed, features, bits, got.array, threads)
            np.testing.assert_array_equal(got.get(), planes)
            for precision in (1, 3, 4, 6):
                stride = -(-features * precision // 8) + pad
                expected = ref.pack(codes >> (bits - precision), precision, stride)
                np.testing.assert_array_equal(unwoven(planes, features, precision, 0, rows, threads, stride), expected)


@pytest.mark.parametrize("level", SIMD)
@pytest.mark.parametrize("features", [1, 65, 784, 1024])
def test_chunks_in_any_order(features, level):
    """Chunks lie anywhere in a buffer; of the last, only the planes that are asked for. With dither and without."""
    bits, chunk_rows, pitch, seed = 8, 48, ref.stride(features, 1), 9
    dither = ref.dither(4 * chunk_rows, features, 7, seed, 0)
    codes = random_codes(4 * chunk_rows, features, bits) // 2 + dither
    size = bits * chunk_rows * pitch
    file = np.concatenate([np.append(ref.weave(part, bits), np.uint8(GUARD)) for part in codes.reshape(4, chunk_rows, -1)])
    wanted = [(3, 0, 48), (0, 5, 17), (2, 47, 1), (1, 9, 0), (1, 0, 30), (3, 46, 2)]  # chunk, first row, rows
    offsets = np.array([chunk * (size + 1) + first * pitch for chunk, first, _ in wanted])
    counts = np.array([count for _, _, count in wanted])
    firsts = np.array([chunk * chunk_rows + first for chunk, first, _ in wanted], np.uint64)
    rows = np.concatenate([np.arange(first, first + count) + chunk * chunk_rows for chunk, first, count in wanted])
    with simd.use(level):
        for precision, threads in product((1, 2, 3, 4, 5, 6, 7, 8), (1, 2, 3)):
            buffer = Walled(file[: len(file) - 1 - (bits - precision) * chunk_rows * pitch]).array
            out = Guarded((len(rows), ref.stride(features, precision)))
            where = (buffer, offsets, counts, firsts, chunk_rows, pitch, features, precision)
            kernel.unweave_chunks(*where, 0, seed, out.array, threads)
            np.testing.assert_array_equal(out.get(), ref.pack(codes[rows] >> (bits - precision), precision))
            kernel.unweave_chunks(*where, precision - 1, seed, out.array, threads)
            less = (codes[rows] >> (bits - precision)) - (dither[rows] >> (bits - precision))
            np.testing.assert_array_equal(out.get(), ref.pack(less, precision))


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 8), st.integers(1, 300), st.integers(1, 40))
def test_round_trip(data, bits, features, rows):
    codes = random_codes(rows, features, bits)
    threads, level = data.draw(st.integers(1, 3)), data.draw(st.sampled_from(SIMD))
    with simd.use(level):
        packed = ref.pack(codes, bits)
        planes = woven(packed, features, bits, rows, threads)
        np.testing.assert_array_equal(unwoven(planes, features, bits, 0, rows, threads), packed)


@pytest.mark.parametrize("level", SIMD)
@pytest.mark.parametrize("bits", range(2, 9))
def test_dither_is_the_reference_s(bits, level):
    """Added and taken away again, codes as large as leave room for it; rows' numbers beyond 32 bits; many features."""
    with simd.use(level):
        for features, rows in product((*FEATURES, 2**15 + 70), (1, 17)):
            for spread in range(bits) if features < 2**15 else (bits - 1,):
                codes = (random_codes(rows, features, bits).astype(int) % (2**bits - 2**spread + 1)).astype(np.uint8)
                packed, first = ref.pack(codes, bits), 2**32 - 5
                expected = ref.pack(codes + ref.dither(rows, features, spread, 2**63 + 1, first), bits)
                for threads in (1, 3):
                    got = Guarded(packed.shape)
                    got.array[...] = packed
                    kernel.dither(got.array, features, bits, spread, 2**63 + 1, first, False, threads)
                    np.testing.assert_array_equal(got.get(), expected)
                    kernel.dither(got.array, features, bits, spread, 2**63 + 1, first, True, threads)
                    np.testing.assert_array_equal(got.get(), packed)


def test_dither_of_two_features_is_uniform_together():
    """All pairs of values of two features are equally likely over rows: chi-squared; they differ in one bit or in many."""
    rows, spread = 1 << 16, 3
    values = ref.unpack(_dithered(np.zeros((rows, 130), np.uint8), 8, spread), 130, 8)
    for f, g in ((0, 1), (0, 64), (5, 69), (63, 64), (17, 129), (128, 129)):
        table = np.bincount(values[:, f].astype(int) << spread | values[:, g], minlength=4**spread)
        chi = np.sum((table - rows / 4**spread) ** 2) / (rows / 4**spread)
        assert 28 < chi < 113, (f, g)  # of 63 degrees of freedom: 1 in 20,000 on each side


def _dithered(codes, bits, spread):
    packed = ref.pack(codes, bits)
    kernel.dither(packed, codes.shape[1], bits, spread, 1, 0, False, 2)
    return packed


@pytest.mark.parametrize("bits", range(1, 9))
def test_counts_are_the_reference_s(bits):
    for features, rows in product(FEATURES, (1, 100)):
        codes = random_codes(rows, features, bits)
        for threads in (1, 2, 3):
            got = Guarded((features, 2**bits), np.uint64, threads)
            before = got.get().copy()
            kernel.count(Walled(ref.pack(codes, bits)).array, features, bits, got.array, threads)
            np.testing.assert_array_equal(got.get(), ref.counts(codes, bits) + before)


def test_wrong_arguments_are_refused():
    codes = random_codes(6, 20, 4)
    packed, planes = ref.pack(codes, 4), ref.weave(codes, 4)
    flat, some = planes.reshape(-1), np.array([0, 18])
    out, pitch, zeros, none = np.zeros((4, 10), np.uint8), planes.shape[2], np.zeros(2, np.uint64), np.zeros(0, np.uint64)
    for wrong in (
        lambda: kernel.weave(packed, 20, 0, planes, 1),
        lambda: kernel.weave(packed, 20, 9, planes, 1),
        lambda: kernel.weave(packed, 20, 3, planes, 1),
        lambda: kernel.weave(packed, 0, 4, planes, 1),
        lambda: kernel.weave(packed, 21, 4, planes, 1),
        lambda: kernel.weave(packed, 20, 4, planes[:, :5].copy(), 1),
        lambda: kernel.weave(packed, 20, 4, planes[:, :, :2].copy(), 1),
        lambda: kernel.weave(packed[:, ::2], 20, 4, planes, 1),
        lambda: kernel.weave(packed.astype(np.int16), 20, 4, planes, 1),
        lambda: kernel.weave(packed[0], 20, 4, planes, 1),
        lambda: kernel.unweave_chunks(flat, some, np.array([2, 3]), zeros, 6, pitch, 20, 4, 0, 0, out, 1),
        lambda: kernel.unweave_chunks(flat, some, np.array([-1, 5]), zeros, 6, pitch, 20, 4, 0, 0, out, 1),
        lambda: kernel.unweave_chunks(flat, some, np.array([4]), zeros, 6, pitch, 20, 4, 0, 0, out, 1),
        lambda: kernel.unweave_chunks(flat, some - 1, np.array([2, 2]), zeros, 6, pitch, 20, 4, 0, 0, out, 1),
        lambda: kernel.unweave_chunks(flat[:-1], some, np.array([0, 4]), zeros, 7, pitch, 20, 4, 0, 0, out, 1),
        lambda: kernel.unweave_chunks(flat, some, np.array([2, 2]), zeros, 2**62, pitch, 20, 4, 0, 0, out, 1),
        lambda: kernel.unweave_chunks(flat, some, np.array([2, 2]), zeros, 6, 2**62, 20, 1, 0, 0, out, 1),
        lambda: kernel.unweave_chunks(flat, np.array([0, 2**63 - 1]), np.array([2, 2]), zeros, 6, pitch, 20, 4, 0, 0, out, 1),
        lambda: kernel.unweave_chunks(flat, some.astype(np.int32), np.array([2, 2]), zeros, 6, pitch, 20, 4, 0, 0, out, 1),
    ):
        with pytest.raises(ValueError):
            wrong()
    kernel.unweave_chunks(flat, some, np.array([0, 0]), zeros, 6, pitch, 20, 4, 0, 0, out[:0], 1)
    kernel.unweave_chunks(flat, some[:0], some[:0], none, 6, pitch, 20, 4, 0, 0, out[:0], 1)
    counts = np.zeros((20, 16), np.uint64)
    for wrong in (
        lambda: kernel.dither(packed, 20, 4, 4, 0, 0, False, 1),
        lambda: kernel.dither(packed, 20, 4, -1, 0, 0, False, 1),
        lambda: kernel.dither(packed, 20, 9, 1, 0, 0, False, 1),
        lambda: kernel.dither(packed, 21, 4, 1, 0, 0, False, 1),
        lambda: kernel.dither(packed, 0, 4, 1, 0, 0, False, 1),
        lambda: kernel.count(packed, 21, 4, np.zeros((21, 16), np.uint64), 1),
        lambda: kernel.count(packed, 20, 4, counts[:19], 1),
        lambda: kernel.count(packed, 20, 4, counts[:, :8].copy(), 1),
        lambda: kernel.count(packed, 20, 4, counts.astype(np.int64), 1),
    ):
        with pytest.raises(ValueError):
            wrong()
