"""Philox4x32-10: random words that are a pure function of counter and seed (formats/FORMAT.md, section 2)."""

import numpy as np

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "philox.h" nogil:
    ctypedef struct philox_keys:
        pass
    philox_keys philox_schedule(uint64_t seed)
    void philox_one(uint32_t *counter, const philox_keys *keys)

ENCODE, DRAW, ORDER, SPLIT, SAMPLE, MODEL, EXPORT = 0, 1, 2, 3, 4, 5, 8


def words(counters, seed):
    """The four words of each counter: uint32 (m, 4) in, uint32 (m, 4) out."""
    out = np.array(counters, dtype=np.uint32, order="C", ndmin=2)
    if out.shape[1] != 4:
        raise ValueError(f"a Philox counter has 4 words, not {out.shape[1]}")
    cdef uint32_t[:, ::1] view = out
    cdef philox_keys keys = philox_schedule(seed)
    cdef Py_ssize_t i
    with nogil:
        for i in range(view.shape[0]):
            philox_one(&view[i, 0], &keys)
    return out


def keys(seed, int purpose, uint32_t column, uint64_t first, size_t count):
    """64-bit keys of rows first..first+count-1: words 0 and 1 of counter (column, row, row >> 32, purpose << 16)."""
    out = np.empty(count, np.uint64)
    cdef uint64_t[::1] view = out
    cdef philox_keys schedule = philox_schedule(seed)
    cdef uint32_t[4] counter
    cdef size_t i
    with nogil:
        for i in range(count):
            counter[0] = column
            counter[1] = <uint32_t>(first + i)
            counter[2] = <uint32_t>((first + i) >> 32)
            counter[3] = <uint32_t>purpose << 16
            philox_one(counter, &schedule)
            view[i] = counter[0] | (<uint64_t>counter[1] << 32)
    return out
