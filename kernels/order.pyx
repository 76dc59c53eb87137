"""The order of an epoch within its windows. Thin wrapper of shuffle.c."""

import numpy as np

from libc.stdint cimport int64_t, uint32_t, uint64_t

from . import simd

cdef extern from "philox.h" nogil:
    ctypedef struct philox_keys:
        pass
    philox_keys philox_schedule(uint64_t seed)

cdef extern from "shuffle.h" nogil:
    ctypedef struct order_job:
        const int64_t *units
        size_t count, unit, window, rows
        uint32_t column, first
        philox_keys keys
        int level, threads
    size_t order_windows(const order_job *job, uint64_t *out)
    void order_shuffle(const order_job *job, uint32_t window, uint64_t *values, size_t count)

cdef extern from "threads.h" nogil:
    void threads_init()

threads_init()


def windows(const int64_t[::1] units, size_t unit, size_t window, size_t rows, seed, uint32_t column, uint32_t first, int threads):
    """Row numbers of windows first, first + 1, ... of `window` units of `unit` rows: uint64, each window shuffled."""
    out = np.empty(units.shape[0] * unit, np.uint64)
    cdef uint64_t[::1] view = out
    cdef order_job job
    cdef size_t count
    if not units.shape[0]:
        return out
    if np.min(units) < 0 or np.max(units) > (rows - 1) // unit or window * unit >> 32:
        raise ValueError(f"units 0 to {(rows - 1) // unit}, at most 2**32 rows a window")
    job.units, job.count, job.unit, job.window, job.rows = &units[0], units.shape[0], unit, window, rows
    job.column, job.first, job.keys, job.level, job.threads = column, first, philox_schedule(seed), simd.index(), threads
    with nogil:
        count = order_windows(&job, &view[0])
    return out[:count]


def shuffle(uint64_t[::1] values, seed, uint32_t column, uint32_t window):
    """Puts at most 2**32 values into a window's order, in place."""
    cdef order_job job
    if values.shape[0] >> 32:
        raise ValueError(f"{values.shape[0]} values to shuffle: at most 2**32")
    job.column, job.keys, job.level = column, philox_schedule(seed), simd.index()
    if values.shape[0]:
        with nogil:
            order_shuffle(&job, window, &values[0], values.shape[0])
