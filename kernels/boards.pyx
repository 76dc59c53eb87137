"""What the boards compute from an image's bytes. Thin wrapper of board_harp.c, board_pynq.c, board_mlweaving.c, board_float.c."""

import numpy as np

from libc.stddef cimport size_t
from libc.stdint cimport int16_t, int32_t, uint8_t

cdef extern from "boards.h" nogil:
    ctypedef struct board_job:
        const uint8_t *data
        const int32_t *labels
        size_t rows, stride, features
        int bits, step
        size_t mask
        const int16_t *value
        int shift
        int32_t *x
        int32_t *next
        int32_t *first
        int32_t *second
    size_t harp_epoch(const board_job *job)
    size_t pynq_epoch(const board_job *job)
    size_t mlweaving_epoch(const board_job *job)
    int board_values(int bits, int is_signed, int16_t *value)
    void board_decode(const board_job *job, const uint8_t *row, size_t at, size_t step, int32_t *out)

cdef extern from "board_float.h" nogil:
    ctypedef struct float_job:
        const double *a1
        const double *a2
        const double *labels
        size_t rows, features, number, mask, last
        double step
        double *x
        double *next
    void board_float(const float_job *job)

MAX_STEP = 31

cdef enum:  # of a block of MLWeaving
    CHUNK = 64
    SAMPLES = 8
    BLOCK_BYTES = 2048


cdef check(int32_t[::1] x, int32_t[::1] next, int step, size_t mask):
    if x.shape[0] != next.shape[0] or not x.shape[0] or not 0 <= step <= MAX_STEP or mask & (mask + 1):
        raise ValueError("two models of one length, a step of 0..31, a mask of 2^k - 1")


cdef rows_epoch(
    const uint8_t[:, ::1] rows, int32_t[::1] x, int32_t[::1] next, int bits, bint is_signed, int step, size_t mask, bint harp
):
    cdef board_job job
    cdef int16_t[256] value
    cdef int32_t[::1] first, second
    cdef size_t wrapped, samples = 2 if harp else 1
    check(x, next, step, mask)
    if bits not in (1, 2, 4, 8) or (bits == 1 and is_signed):
        raise ValueError("1, 2, 4 or 8 bits; 1 bit has no sign")
    if x.shape[0] * <Py_ssize_t>samples * bits > 8 * (rows.shape[1] - (4 if harp else 8)):
        raise ValueError(f"{x.shape[0]} features of {bits} bits and a label do not fit into rows of {rows.shape[1]} bytes")
    first, second = np.empty((2, x.shape[0]), np.int32)
    job.rows, job.stride, job.features = rows.shape[0], rows.shape[1], x.shape[0]
    job.bits, job.step, job.mask = bits, step, mask
    job.value, job.shift = value, board_values(bits, is_signed, value)
    job.x, job.next, job.first, job.second = &x[0], &next[0], &first[0], &second[0]
    if not rows.shape[0]:
        return 0
    job.data = &rows[0, 0]
    with nogil:
        wrapped = harp_epoch(&job) if harp else pynq_epoch(&job)
    return wrapped


def harp(
    const uint8_t[:, ::1] rows, int32_t[::1] x, int32_t[::1] next, int bits, bint is_signed, int step, size_t mask
):
    """An epoch over HARP's lines, (rows, bytes a row); x and next change in place. Returns at how many rows one wrapped."""
    return rows_epoch(rows, x, next, bits, is_signed, step, mask, True)


def pynq(
    const uint8_t[:, ::1] rows, int32_t[::1] x, int32_t[::1] next, int bits, bint is_signed, int step, size_t mask
):
    """The same over PYNQ's words."""
    return rows_epoch(rows, x, next, bits, is_signed, step, mask, False)


def mlweaving(
    const uint8_t[::1] data, const int32_t[::1] labels, int32_t[::1] x, int32_t[::1] next, int planes, int step, size_t mask
):
    """An epoch over MLWeaving's blocks; x of whole chunks of 64. Returns at how many groups of 8 samples a register wrapped."""
    cdef board_job job
    cdef size_t wrapped
    check(x, next, step, mask)
    if not 1 <= planes <= 32 or mask < SAMPLES - 1 or x.shape[0] % CHUNK or labels.shape[0] % SAMPLES:
        raise ValueError("1..32 planes, batches of 8 or more, whole chunks of 64 features and groups of 8 samples")
    if data.shape[0] != labels.shape[0] // SAMPLES * (x.shape[0] // CHUNK) * BLOCK_BYTES:
        raise ValueError(f"{labels.shape[0]} samples of {x.shape[0]} features are not in {data.shape[0]} bytes")
    if not labels.shape[0]:
        return 0
    job.data, job.labels, job.rows, job.features = &data[0], &labels[0], labels.shape[0], x.shape[0]
    job.bits, job.step, job.mask, job.x, job.next = planes, step, mask, &x[0], &next[0]
    with nogil:
        wrapped = mlweaving_epoch(&job)
    return wrapped


def floats(
    const double[:, ::1] a1, const double[:, ::1] a2, const double[::1] labels, double[::1] x, double[::1] next, double step,
    size_t number, size_t mask, size_t last
):
    """The same SGD in float64 on a block of rows, the first of which has a number; x and next change in place."""
    cdef float_job job
    if not a1.shape[0] == a2.shape[0] == labels.shape[0] or not a1.shape[1] == a2.shape[1] == x.shape[0] == next.shape[0]:
        raise ValueError("values (rows, features) twice, labels (rows,), models (features,) twice")
    if not a1.shape[0] or not a1.shape[1]:
        return
    job.a1, job.a2, job.labels, job.rows, job.features = &a1[0, 0], &a2[0, 0], &labels[0], a1.shape[0], a1.shape[1]
    job.number, job.mask, job.last, job.step, job.x, job.next = number, mask, last, step, &x[0], &next[0]
    with nogil:
        board_float(&job)


def decode(const uint8_t[:, ::1] rows, size_t features, int bits, bint is_signed, size_t at, size_t step):
    """Values of codes at, at + step, ... of each row: float64 (rows, features)."""
    cdef board_job job
    cdef int16_t[256] value
    cdef size_t row
    integers = np.empty((rows.shape[0], features), np.int32)
    cdef int32_t[:, ::1] out = integers
    if bits not in (1, 2, 4, 8) or (bits == 1 and is_signed) or at >= step or features * step * bits > 8 * <size_t>rows.shape[1]:
        raise ValueError(f"{features} features of {bits} bits are not in rows of {rows.shape[1]} bytes")
    job.features, job.bits, job.value, job.shift = features, bits, value, board_values(bits, is_signed, value)
    if features:
        with nogil:
            for row in range(<size_t>rows.shape[0]):
                board_decode(&job, &rows[row, 0], at, step, &out[row, 0])
    return np.ldexp(integers.astype(np.float64), -job.shift)
