"""Columns: statistics, sketches and levels. Thin wrappers of scan.c, sketch.c and levels.c."""

import numpy as np

from libc.stdint cimport int32_t, uint16_t, uint32_t, uint64_t

from . import simd

cdef extern from "scan.h" nogil:
    ctypedef struct scan_job:
        const float *x
        size_t features, pitch, rows
        int level, threads
    int scan_rows(const scan_job *job, const float *shift, float *low, float *high, double *sum, double *square, double *partial)

cdef extern from "sketch.h" nogil:
    ctypedef struct sketch_cell:
        uint64_t count, offsets
        uint32_t top, bottom
    ctypedef struct sketch_grid:
        const float *pivot
        const float *scale
        const int32_t *first
        const int32_t *shift
        size_t cells, room, copy
    void sketch_rows(const scan_job *job, const sketch_grid *grid, sketch_cell *cells, int copies)
    void sketch_regroup(sketch_cell *cells, sketch_cell *spare, size_t count, int32_t first, int shift, int32_t to_first, int to_shift)
    void sketch_keys(const float *values, const float *pivot, const float *scale, size_t n, int32_t *keys)

cdef extern from "levels.h" nogil:
    ctypedef struct levels_job:
        const double *weight
        const double *left
        const double *right
        const double *low
        const double *high
        size_t features, segments, intervals, steps, most, sweeps
        int threads
    int best_levels(const levels_job *job, double *levels, uint16_t *marks, double *cost)
    int levels_cost(const levels_job *job, const double *levels, size_t count, double *cost)

cdef extern from "threads.h" nogil:
    void threads_init()

threads_init()


def scan(const float[:, ::1] x, const float[::1] shift, float[::1] low, float[::1] high, double[::1] sum, double[::1] square, int threads):
    """Adds rows to running minima, maxima and sums of (x - shift) and its square. True if a value is NaN or infinite."""
    cdef scan_job job = scan_job(NULL, x.shape[1], x.shape[1], x.shape[0], simd.index(), threads)
    cdef double[::1] partial = np.empty((x.shape[0] + 63) // 64 * 3 * x.shape[1])
    cdef int bad
    if not job.rows:
        return False
    job.x = &x[0, 0]
    with nogil:
        bad = scan_rows(&job, &shift[0], &low[0], &high[0], &sum[0], &square[0], &partial[0])
    return bool(bad)


CELL = np.dtype([("count", "<u8"), ("offsets", "<u8"), ("top", "<u4"), ("bottom", "<u4")])


def sketch(const float[:, ::1] x, const float[::1] pivot, const float[::1] scale, const int32_t[::1] first, const int32_t[::1] shift,
           size_t cells, room, int threads):
    """Adds rows to room[copy, feature, cell] of dtype CELL, cell = (key >> shift) - first; the caller sums the copies.

    A room of one feature serves all of x's.
    """
    cdef unsigned char[::1] memory = room.reshape(-1).view(np.uint8)
    cdef scan_job job = scan_job(NULL, x.shape[1], x.shape[1], x.shape[0], simd.index(), threads)
    cdef sketch_grid grid = sketch_grid(&pivot[0], &scale[0], &first[0], &shift[0], cells, 0, room.shape[1] * room.shape[2])
    grid.room = 0 if room.shape[1] == 1 else room.shape[2]
    cdef int copies = room.shape[0]
    if job.rows:
        job.x = &x[0, 0]
        with nogil:
            sketch_rows(&job, &grid, <sketch_cell *>&memory[0], copies)


def regroup(room, const int32_t[::1] first, const int32_t[::1] shift, const int32_t[::1] to_first, const int32_t[::1] to_shift):
    """Moves room[feature, cell] of dtype CELL, in place, to grids as wide or wider: exact sums, whatever the steps in between."""
    cdef unsigned char[::1] memory = room.reshape(-1).view(np.uint8), spare = np.empty(room.shape[1] * CELL.itemsize, np.uint8)
    cdef size_t feature, features = room.shape[0], count = room.shape[1]
    with nogil:
        for feature in range(features):
            if first[feature] != to_first[feature] or shift[feature] != to_shift[feature]:
                sketch_regroup(<sketch_cell *>&memory[0] + feature * count, <sketch_cell *>&spare[0], count, first[feature],
                               shift[feature], to_first[feature], to_shift[feature])


def keys(const float[::1] values, const float[::1] pivot, const float[::1] scale):
    """Key of each value: int32, monotone in the value."""
    out = np.empty(values.shape[0], np.int32)
    cdef int32_t[::1] target = out
    if values.shape[0]:
        sketch_keys(&values[0], &pivot[0], &scale[0], values.shape[0], &target[0])
    return out


cdef levels_job _levels_job(const double[:, ::1] weight, const double[:, ::1] left, const double[:, ::1] right, const double[::1] low,
                            const double[::1] high, size_t intervals):
    return levels_job(&weight[0, 0], &left[0, 0], &right[0, 0], &low[0], &high[0], weight.shape[0], weight.shape[1], intervals, 0, 1, 0, 1)


def best_levels_of(const double[:, ::1] weight, const double[:, ::1] left, const double[:, ::1] right, const double[::1] low,
                   const double[::1] high, size_t intervals, size_t steps, size_t most, size_t sweeps, int threads):
    """Levels float64 (n, s + 1), their marks uint16 (on a grid of `steps` only), and the cost of 1..s intervals, (n, s)."""
    cdef levels_job job = _levels_job(weight, left, right, low, high, intervals)
    job.steps, job.most, job.sweeps, job.threads = steps, most, sweeps, threads
    levels, cost = np.empty((job.features, intervals + 1)), np.empty((job.features, intervals))
    marks = np.empty((job.features, intervals + 1), np.uint16)
    cdef double[:, ::1] levels_view = levels, cost_view = cost
    cdef uint16_t[:, ::1] marks_view = marks
    cdef int failed
    with nogil:
        failed = best_levels(&job, &levels_view[0, 0], &marks_view[0, 0], &cost_view[0, 0])
    if failed:
        raise MemoryError("no memory for the levels' dynamic programme")
    return levels, marks, cost


def cost_of_levels(const double[:, ::1] weight, const double[:, ::1] left, const double[:, ::1] right, const double[::1] low,
                   const double[::1] high, const double[:, ::1] levels):
    """Cost of given levels (n, count), ascending from low to high: float64 (n,)."""
    cdef levels_job job = _levels_job(weight, left, right, low, high, 1)
    cost = np.empty(job.features)
    cdef double[::1] target = cost
    cdef int failed
    with nogil:
        failed = levels_cost(&job, &levels[0, 0], levels.shape[1], &target[0])
    if failed:
        raise MemoryError("no memory for the levels' cost")
    return cost
