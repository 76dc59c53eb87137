"""Encoding, packing, decoding: thin wrappers of encode.c and decode.c. Arguments are checked by zipml_codec.codec."""

import numpy as np

from libc.stdint cimport uint8_t, uint64_t

from . import simd

cdef extern from "codes.h" nogil:
    ctypedef struct code_shape:
        size_t features, stride
        int bits, samples, intervals
    ctypedef struct code_values:
        const float *low
        const float *step
        const float *high
        const float *table
        size_t pitch
        const float *blocked
        int padded
    ctypedef struct code_levels:
        const float *low
        const float *high
        const float *inverse
        const float *width
        int uniform, shared

cdef extern from "encode.h" nogil:
    ctypedef struct encode_job:
        const float *x
        size_t pitch, rows
        uint64_t seed, first_row
        int nearest
        uint8_t *out
        float *noise
        float *error
        int level, threads
    int encode_rows(const code_shape *shape, const code_levels *levels, const encode_job *job)

cdef extern from "decode.h" nogil:
    ctypedef struct decode_job:
        const code_shape *shape
        const uint8_t *packed
        size_t rows
        int level, threads
    void decode_rows(const decode_job *job, const code_values *values, float *out)
    void unpack_rows(const decode_job *job, uint8_t *out)
    void draw_rows(const decode_job *job, const code_values *values, uint64_t seed, uint64_t first_row, const uint64_t *rows, float *out)
    void pack_rows(const code_shape *shape, const uint8_t *codes, size_t rows, uint8_t *packed, int level, int threads)

cdef extern from "threads.h" nogil:
    void threads_init()

threads_init()

BLOCK = 64  # bits.h: features that are taken together
GROUP = 64  # encode.h: rows whose noise is summed before it joins the total


def pack(codes, int bits, stride=None, int threads=1):
    """Codes uint8 (rows, n), each below 2**bits, to packed rows uint8 (rows, stride)."""
    cdef const uint8_t[:, ::1] source = np.ascontiguousarray(codes, dtype=np.uint8)
    cdef size_t rows = source.shape[0], features = source.shape[1], used = (features * bits + 7) // 8
    if not 1 <= bits <= 8 or (stride is not None and stride < used):
        raise ValueError(f"{features} codes of {bits} bits take {used} bytes: bits must be 1..8 and stride no less")
    if rows and features and np.max(codes) >> bits:
        raise ValueError(f"a code of {np.max(codes)} does not fit in {bits} bits")
    cdef code_shape shape = code_shape(features, used if stride is None else stride, bits, 1, (1 << bits) - 1)
    out = np.empty((rows, shape.stride), np.uint8)
    cdef uint8_t[:, ::1] target = out
    cdef int level = simd.index()
    if rows and shape.stride:
        with nogil:
            pack_rows(&shape, &source[0, 0] if features else NULL, rows, &target[0, 0], level, threads)
    return out


def unpack(packed, size_t features, int bits, int threads=1):
    """Packed rows uint8 (rows, stride) to codes uint8 (rows, features)."""
    cdef const uint8_t[:, ::1] source = np.ascontiguousarray(packed, dtype=np.uint8)
    if not 1 <= bits <= 8 or <size_t>source.shape[1] < (features * bits + 7) // 8:
        raise ValueError(f"{features} codes of {bits} bits do not fit in rows of {source.shape[1]} bytes")
    cdef code_shape shape = code_shape(features, source.shape[1], bits, 1, (1 << bits) - 1)
    out = np.empty((source.shape[0], features), np.uint8)
    cdef uint8_t[:, ::1] target = out
    cdef decode_job job = decode_job(&shape, NULL, source.shape[0], simd.index(), threads)
    if job.rows and features:
        job.packed = &source[0, 0]
        with nogil:
            unpack_rows(&job, &target[0, 0])
    return out


def _lines(vector):
    """A float32 vector in whole blocks of features, zeros at its end, each 16 of them in one cache line."""
    size = -(-len(vector) // BLOCK) * BLOCK
    room = np.zeros(size + 15, np.float32)
    start = -room.ctypes.data % 64 // 4
    room[start : start + len(vector)] = vector
    return room[start : start + size]


cdef class Coder:
    """Levels of a data set in the form that the kernels read; keeps the arrays alive.

    `levels` = (low, high, inverse, width), float32, blocked by 64 features as code_levels in codes.h says;
    `values` = (low, step, high) float32 (n,) for uniform levels, or one table float32 (n or 1, 2**bits).
    """

    cdef code_shape shape
    cdef code_levels code
    cdef code_values means
    cdef readonly object arrays

    def __init__(self, size_t features, int bits, int samples, size_t stride, tuple levels, tuple values, bint uniform, bint shared):
        levels = tuple(_lines(array) for array in levels)
        cdef const float[::1] low = levels[0], high = levels[1], inverse = levels[2], width = levels[3]
        cdef const float[::1] vector
        cdef const float[:, ::1] table
        values = tuple(_lines(array) for array in values) if uniform else values
        self.arrays = (levels, values)
        self.shape = code_shape(features, stride, bits, samples, ((1 << bits) - 1) // samples)
        self.code = code_levels(&low[0], &high[0], &inverse[0], &width[0], uniform, shared)
        if uniform:
            vector = values[0]
            self.means.low = &vector[0]
            vector = values[1]
            self.means.step = &vector[0]
            vector = values[2]
            self.means.high = &vector[0]
            self.means.padded = 1
        else:
            table = values[0]
            self.means.table = &table[0, 0]
            self.means.pitch = 0 if table.shape[0] == 1 and features > 1 else table.shape[1]
            if bits <= 4:
                blocked = np.zeros((-(-table.shape[0] // BLOCK) * BLOCK, 16), np.float32)
                blocked[: features if self.means.pitch else BLOCK, : table.shape[1]] = values[0]
                blocked = _lines(blocked.reshape(-1, BLOCK, 16).transpose(0, 2, 1).reshape(-1))
                vector = blocked
                self.means.blocked = &vector[0]
                self.arrays += (blocked,)

    def encode(self, const float[:, :] x, uint8_t[:, ::1] out, uint64_t seed, uint64_t first_row, bint nearest, int threads,
               float[:, ::1] noise=None, float[:, ::1] error=None):
        """Rows of x, contiguous within a row, into out. True if a value was outside of its levels."""
        cdef encode_job job
        cdef int outside
        if x.shape[0] == 0:
            return False
        if x.shape[1] > 1 and x.strides[1] != sizeof(float):
            raise ValueError("rows must be contiguous")
        job = encode_job(&x[0, 0], x.strides[0] // sizeof(float), x.shape[0], seed, first_row, nearest, &out[0, 0], NULL, NULL,
                         simd.index(), threads)
        if noise is not None:
            job.noise = &noise[0, 0]
            job.error = &error[0, 0]
        with nogil:
            outside = encode_rows(&self.shape, &self.code, &job)
        return bool(outside)

    def decode(self, const uint8_t[:, ::1] packed, float[:, ::1] out, int threads):
        """Means m(t) of packed rows into out (rows, n)."""
        cdef decode_job job = decode_job(&self.shape, NULL, packed.shape[0], simd.index(), threads)
        if job.rows:
            job.packed = &packed[0, 0]
            with nogil:
                decode_rows(&job, &self.means, &out[0, 0])

    def draw(self, const uint8_t[:, ::1] packed, float[:, :, ::1] out, uint64_t seed, uint64_t first_row, const uint64_t[::1] rows,
             int threads):
        """The k samples of packed rows into out (k, rows, n); rows: their numbers, or None for first_row + 0, 1, ..."""
        cdef decode_job job = decode_job(&self.shape, NULL, packed.shape[0], simd.index(), threads)
        cdef const uint64_t *numbers = NULL
        if job.rows:
            job.packed = &packed[0, 0]
            if rows is not None:
                numbers = &rows[0]
            with nogil:
                draw_rows(&job, &self.means, seed, first_row, numbers, &out[0, 0, 0])
