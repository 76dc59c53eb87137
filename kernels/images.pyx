"""Images for the FPGA designs: thin wrapper of image_rows.c and image_planes.c."""

import numpy as np

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from . import simd

cdef extern from "philox.h" nogil:
    ctypedef struct philox_keys:
        pass
    philox_keys philox_schedule(uint64_t seed)

cdef extern from "image_rows.h" nogil:
    ctypedef struct image_shape:
        size_t features, rows, row_bytes, label
        int width, pairs, offset, bias
    ctypedef struct image_job:
        const image_shape *shape
        const uint8_t *packed
        size_t stride
        int bits, samples, first
        const uint8_t *tops
        const uint32_t *labels
        uint64_t first_row
        philox_keys keys
        uint8_t *out
        int level, threads
    void image_fill(const image_job *job)
    int image_read(const image_shape *shape, const uint8_t *image, int top, uint8_t *levels, int level, int threads)

cdef extern from "image_planes.h" nogil:
    ctypedef struct weave_job:
        size_t rows, features, stored
        const double *low
        const double *span
        int level, threads
    void c_weave "weave"(const weave_job *job, const float *x, uint32_t *lines)
    void c_unweave "unweave"(const weave_job *job, const uint32_t *lines, float *x)

cdef extern from "threads.h" nogil:
    void threads_init()

threads_init()

BLOCK = 64  # bits.h: features that are taken together


cdef class Rows:
    """Rows of harp (`pairs`) or pynq: `width` bits a sample, which is a level less `offset`; `label`: where its four bytes are."""

    cdef image_shape shape

    def __init__(self, size_t features, size_t row_bytes, size_t label, int width, bint pairs, int offset, bint bias):
        if width not in (1, 2, 4, 8) or label + 4 > row_bytes or ((features + bias) * (width << pairs) + 7) // 8 > row_bytes:
            raise ValueError(f"{features} features of {width} bits do not fit in rows of {row_bytes} bytes")
        self.shape = image_shape(features, 0, row_bytes, label, width, pairs, offset, bias)

    def fill(self, const uint8_t[:, ::1] packed, int bits, int samples, int first, const uint8_t[::1] tops, const uint32_t[::1] labels,
             seed, uint64_t first_row, int threads):
        """Packed rows of codes of `samples` samples to rows of the image: uint8 (rows, row_bytes).

        first: the sample, or the first of the two, that is taken. tops: the greatest code of each feature, zeros to whole blocks.
        labels: the labels' bytes, or None. seed, first_row: of the samples' assignment.
        """
        cdef image_shape shape = self.shape
        cdef image_job job
        cdef uint8_t[:, ::1] view
        shape.rows = packed.shape[0]
        out = np.empty((shape.rows, shape.row_bytes), np.uint8)
        if (
            not 1 <= bits <= 8 or not 0 <= first <= samples - 1 - shape.pairs or samples > 255
            or <size_t>packed.shape[1] < (shape.features * bits + 7) // 8 or <size_t>tops.shape[0] < (shape.features + 63) // 64 * 64
            or (labels is not None and <size_t>labels.shape[0] != shape.rows)
        ):
            raise ValueError("rows, samples, tops or labels that do not fit")
        if not shape.rows:
            return out
        view = out
        job.shape, job.packed, job.stride, job.bits, job.samples, job.first = &shape, &packed[0, 0], packed.shape[1], bits, samples, first
        job.tops, job.labels = &tops[0], NULL
        if labels is not None:
            job.labels = &labels[0]
        job.first_row, job.keys, job.out, job.level, job.threads = first_row, philox_schedule(seed), &view[0, 0], simd.index(), threads
        with nogil:
            image_fill(&job)
        return out

    def read(self, const uint8_t[:, ::1] image, int top, int threads):
        """Levels in rows of an image, of pairs their sum: uint8 (rows, features); None where a level is above `top`."""
        cdef image_shape shape = self.shape
        cdef uint8_t[:, ::1] view
        cdef int above, level = simd.index()
        shape.rows = image.shape[0]
        out = np.empty((shape.rows, shape.features), np.uint8)
        if <size_t>image.shape[1] != shape.row_bytes or top << shape.pairs > 255:
            raise ValueError("rows or top that do not fit")
        if not shape.rows:
            return out
        view = out
        with nogil:
            above = image_read(&shape, &image[0, 0], top, &view[0, 0], level, threads)
        return None if above else out


cdef weave_job _job(rows, const double[::1] low, const double[::1] span, bint bias, int threads):
    if not rows or not low.shape[0] or low.shape[0] != span.shape[0]:
        raise ValueError("rows or features that do not fit")
    return weave_job(rows, low.shape[0], low.shape[0] + bias, &low[0], &span[0], simd.index(), threads)


def weave(const float[:, ::1] x, const double[::1] low, const double[::1] span, bint bias, int threads):
    """Planes of (x - low) / span in 32 bits: uint8 (groups, chunks, 32, 64), zeros for rows that fill up the last group."""
    cdef weave_job job = _job(x.shape[0], low, span, bias, threads)
    if x.shape[1] != low.shape[0]:
        raise ValueError("rows and features that do not fit")
    out = np.empty(((job.rows + 7) // 8, (job.stored + 63) // 64, 32, 16), np.uint32)
    cdef uint32_t[:, :, :, ::1] view = out
    with nogil:
        c_weave(&job, &x[0, 0], &view[0, 0, 0, 0])
    return out.view(np.uint8)


def unweave(const uint8_t[:, :, :, ::1] lines, size_t rows, const double[::1] low, const double[::1] span, bint bias, int threads):
    """The first `rows` rows of planes, low + value * span: float32 (rows, features)."""
    cdef weave_job job = _job(rows, low, span, bias, threads)
    if <size_t>lines.shape[0] * 8 < rows or <size_t>lines.shape[1] * 64 < job.stored or lines.shape[2] != 32 or lines.shape[3] != 64:
        raise ValueError("rows and planes that do not fit")
    out = np.empty((rows, job.features), np.float32)
    cdef float[:, ::1] view = out
    with nogil:
        c_unweave(&job, <const uint32_t *>&lines[0, 0, 0, 0], &view[0, 0])
    return out
