"""Bit planes of packed rows, their dither, and how often codes occur: thin wrappers of planes.c, dither.c and tally.c."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint64_t

from . import simd

cdef extern from "philox.h" nogil:
    ctypedef struct philox_keys:
        pass
    philox_keys philox_schedule(uint64_t seed)

cdef extern from "dither.h" nogil:
    ctypedef struct dither_job:
        size_t features
        int bits, spread, subtract
        philox_keys keys
        int level
    void dither_all(const dither_job *job, uint8_t *packed, size_t stride, uint64_t first, size_t rows, int threads)

cdef extern from "planes.h" nogil:
    ctypedef struct planes_job:
        size_t features, pitch, apart
        int bits
        size_t stride
        int level, threads
        const dither_job *dither
        const uint64_t *numbers
    void planes_weave(const planes_job *job, const uint8_t *packed, size_t rows, uint8_t *planes)
    void planes_unweave(const planes_job *job, const uint8_t *planes, const int64_t *offsets, const int64_t *counts,
                        const int64_t *starts, size_t chunks, uint8_t *packed)

cdef extern from "tally.h" nogil:
    void tally(const uint8_t *packed, size_t stride, size_t rows, size_t features, int bits, uint64_t *counts, int threads)

cdef extern from "threads.h" nogil:
    void threads_init()

threads_init()


cdef planes_job _job(size_t features, int bits, size_t pitch, size_t apart, size_t stride, int threads) except *:
    if not (1 <= bits <= 8 and features >= 1) or (features * bits + 7) // 8 > stride or (features + 7) // 8 > pitch:
        raise ValueError(f"{features} codes of {bits} bits in rows of {stride} bytes, {pitch} of a plane: there is no room")
    return planes_job(features, pitch, apart, bits, stride, simd.index(), threads, NULL, NULL)


def weave(const uint8_t[:, ::1] packed, size_t features, int bits, uint8_t[:, :, ::1] planes, int threads):
    """Packed rows uint8 (rows, stride) to rows 0, 1, ... of planes uint8 (bits, at least rows, pitch), padding zero."""
    cdef size_t rows = packed.shape[0]
    cdef planes_job job = _job(features, bits, planes.shape[2], planes.shape[1], packed.shape[1], threads)
    if planes.shape[0] != bits or planes.shape[1] < packed.shape[0]:
        raise ValueError(f"{rows} rows of {bits} bits to {planes.shape[0]} planes of {planes.shape[1]} rows")
    if rows:
        with nogil:
            planes_weave(&job, &packed[0, 0], rows, &planes[0, 0, 0])


def unweave_chunks(const uint8_t[::1] buffer, const int64_t[::1] offsets, const int64_t[::1] counts, const uint64_t[::1] firsts,
                   size_t chunk_rows, size_t pitch, size_t features, int precision, int spread, seed, uint8_t[:, ::1] packed,
                   int threads):
    """counts[i] rows of chunk i to packed (sum of counts, stride), one chunk after another, in codes of `precision` bits.

    A chunk is planes of chunk_rows rows of `pitch` bytes, the most significant first; offsets[i] is the place in the buffer of
    the first row wanted, in the first plane, and firsts[i] that row's number, by which its dither of `spread` bits is made and
    taken away. Other planes are not looked at.
    """
    cdef planes_job job = _job(features, precision, pitch, chunk_rows, packed.shape[1], threads)
    cdef size_t i, chunks = offsets.shape[0]
    cdef int64_t total = 0, last, most
    cdef int64_t[::1] starts = np.empty(chunks, np.int64)
    cdef dither_job dither
    if counts.shape[0] != offsets.shape[0] or firsts.shape[0] != offsets.shape[0]:
        raise ValueError(f"{offsets.shape[0]} chunks with {counts.shape[0]} counts and {firsts.shape[0]} first rows")
    if spread:
        dither, job.numbers = _dither(features, precision, spread, seed, True), &firsts[0] if chunks else NULL
        job.dither = &dither
    room = buffer.shape[0] - (precision - 1) * int(chunk_rows) * pitch  # Python's integers, which do not overflow
    last = max(room, -1)
    most = min(<int64_t>chunk_rows, max(last, 0) // <int64_t>pitch)
    for i in range(chunks):
        if not 0 <= counts[i] <= most or not 0 <= offsets[i] <= last - counts[i] * <int64_t>pitch:
            raise ValueError(f"chunk {i}: {counts[i]} of {chunk_rows} rows, byte {offsets[i]} of {buffer.shape[0]}")
        starts[i] = total
        total += counts[i]
    if total != packed.shape[0]:
        raise ValueError(f"{total} rows of {chunks} chunks to {packed.shape[0]} rows")
    if total:
        with nogil:
            planes_unweave(&job, &buffer[0], &offsets[0], &counts[0], &starts[0], chunks, &packed[0, 0])


cdef dither_job _dither(size_t features, int bits, int spread, seed, bint subtract) except *:
    if not 1 <= bits <= 8 or not 0 <= spread < bits or not features:
        raise ValueError(f"dither of {spread} bits in codes of {bits}, features={features}")
    return dither_job(features, bits, spread, subtract, philox_schedule(seed), simd.index())


def dither(uint8_t[:, ::1] packed, size_t features, int bits, int spread, seed, uint64_t first, bint subtract, int threads):
    """Adds the dither of rows first, first + 1, ... to their packed codes, in place, or subtracts it."""
    cdef dither_job job = _dither(features, bits, spread, seed, subtract)
    if (features * bits + 7) // 8 > <size_t>packed.shape[1]:
        raise ValueError(f"{features} codes of {bits} bits in rows of {packed.shape[1]} bytes: there is no room")
    if packed.shape[0]:
        with nogil:
            dither_all(&job, &packed[0, 0], packed.shape[1], first, packed.shape[0], threads)


def count(const uint8_t[:, ::1] packed, size_t features, int bits, uint64_t[:, ::1] counts, int threads):
    """Adds how often each code of each feature occurs to counts (features, 2**bits)."""
    if (not 1 <= bits <= 8 or not features or <size_t>packed.shape[1] * 8 < features * bits
            or <size_t>counts.shape[0] != features or counts.shape[1] != 1 << bits):
        raise ValueError(f"counts ({counts.shape[0]}, {counts.shape[1]}), features={features}, bits={bits}")
    if packed.shape[0]:
        with nogil:
            tally(&packed[0, 0], packed.shape[1], packed.shape[0], features, bits, &counts[0, 0], threads)
