"""Columns: statistics, counts and levels. Thin wrappers of scan.c and levels.c."""

import numpy as np

from libc.stdint cimport uint16_t, uint32_t

from . import simd

cdef extern from "scan.h" nogil:
    ctypedef struct scan_job:
        const float *x
        size_t features, pitch, rows
        int level, threads
    int scan_rows(const scan_job *job, const float *shift, float *low, float *high, double *sum, double *square, double *partial)
    void count_rows(const scan_job *job, const float *base, const float *scale, size_t cells, size_t room, uint32_t *counts, int copies)

cdef extern from "levels.h" nogil:
    ctypedef struct grid_job:
        const double *counts
        const double *origin
        const double *extent
        size_t features, cells, steps, intervals
        int threads
    int grid_levels(const grid_job *job, uint16_t *marks, double *cost) except -2

cdef extern from "threads.h" nogil:
    void threads_init()

threads_init()


def scan(const float[:, ::1] x, const float[::1] shift, float[::1] low, float[::1] high, double[::1] sum, double[::1] square, int threads):
    """Adds rows to running minima, maxima and sums of (x - shift) and its square. True if a value is NaN or infinite."""
    cdef scan_job job = scan_job(NULL, x.shape[1], x.shape[1], x.shape[0], simd.index(), threads)
    cdef double[::1] partial = np.empty((x.shape[0] + 63) // 64 * 2 * x.shape[1])
    cdef int bad
    if not job.rows:
        return False
    job.x = &x[0, 0]
    with nogil:
        bad = scan_rows(&job, &shift[0], &low[0], &high[0], &sum[0], &square[0], &partial[0])
    return bool(bad)


def count(const float[:, ::1] x, const float[::1] base, const float[::1] scale, size_t cells, uint32_t[:, :, ::1] counts, int threads):
    """Adds each value to counts[copy, feature, trunc((x - base) * scale)], held below `cells`; the caller sums the copies."""
    cdef scan_job job = scan_job(NULL, x.shape[1], x.shape[1], x.shape[0], simd.index(), threads)
    if job.rows:
        job.x = &x[0, 0]
        with nogil:
            count_rows(&job, &base[0], &scale[0], cells, counts.shape[2], &counts[0, 0, 0], <int>counts.shape[0])


def optimal_marks(const double[:, ::1] counts, const double[::1] origin, const double[::1] extent, size_t steps, size_t intervals, int threads):
    """Grid positions uint16 (n, intervals + 1) of the optimal levels, and their cost (n,) in squared grid steps."""
    cdef size_t features = counts.shape[0]
    marks = np.empty((features, intervals + 1), np.uint16)
    cost = np.empty(features)
    cdef uint16_t[:, ::1] marks_view = marks
    cdef double[::1] cost_view = cost
    cdef grid_job job = grid_job(&counts[0, 0], &origin[0], &extent[0], features, counts.shape[1], steps, intervals, threads)
    cdef int failed
    with nogil:
        failed = grid_levels(&job, &marks_view[0, 0], &cost_view[0])
    if failed:
        raise MemoryError("no memory for the levels' dynamic programme")
    return marks, cost
