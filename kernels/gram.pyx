"""Gram matrices of packed codes: thin wrapper of pairs.c."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uintptr_t

from . import simd

cdef extern from "codes.h" nogil:
    ctypedef struct code_shape:
        size_t features, stride
        int bits, samples, intervals

cdef extern from "pairs.h" nogil:
    ctypedef struct gram_rows:
        code_shape shape
        const uint8_t *packed
        const uint8_t *table
        size_t pitch
        const float *labels
        size_t rows, targets
    void gram_add(const gram_rows *rows, int64_t *gram, int64_t *sums, double *cross, void *room, int level, int threads)
    size_t gram_room(size_t features)
    size_t gram_padded(size_t features)

cdef extern from "threads.h" nogil:
    void threads_init()

threads_init()


cdef class Gram:
    """Sums over packed rows of u u', u and u * label, u the code or its table's byte: int64, int64, float64."""

    cdef readonly object gram, sums, cross
    cdef readonly Py_ssize_t rows
    cdef size_t features, stride, targets
    cdef int bits
    cdef object table, room

    def __init__(self, size_t features, int bits, size_t stride, table=None, size_t targets=1):
        """table: uint8 (features or 1, 2**bits)."""
        cdef size_t padded = gram_padded(features)
        if not (1 <= bits <= 8 and features >= 1) or (features * bits + 7) // 8 > stride:
            raise ValueError(f"{features} features of {bits} bits in {stride} bytes: there must be at least one, of 1 to 8 bits")
        if table is not None and (table.shape[1] != 1 << bits or table.shape[0] not in (1, features)):
            raise ValueError(f"table of shape {table.shape}: it must be {features} or 1 by {1 << bits}")
        self.features, self.bits, self.stride, self.table, self.targets = features, bits, stride, table, targets
        self.gram, self.sums = np.zeros((padded, padded), np.int64), np.zeros(padded, np.int64)
        self.cross, self.room = np.zeros((targets, padded)), np.empty(gram_room(features) + 63, np.uint8)

    def add(self, const uint8_t[:, ::1] packed, const float[:, ::1] labels, int threads):
        """Add packed rows uint8 (rows, stride) with their labels float32 (rows, targets)."""
        cdef gram_rows rows
        cdef const uint8_t[:, ::1] entries
        cdef int64_t[:, ::1] gram = self.gram
        cdef int64_t[::1] sums = self.sums
        cdef double[:, ::1] cross = self.cross
        cdef uint8_t[::1] room = self.room
        cdef int level = simd.index()
        if <size_t>packed.shape[1] != self.stride or labels.shape[0] != packed.shape[0] or <size_t>labels.shape[1] != self.targets:
            raise ValueError(f"rows of {packed.shape[1]} bytes with {labels.shape[0]} labels; a row has {self.stride} bytes")
        if not packed.shape[0]:
            return
        rows.shape = code_shape(self.features, self.stride, self.bits, 1, 1)
        rows.packed, rows.labels = &packed[0, 0], &labels[0, 0]
        rows.rows, rows.targets, rows.table, rows.pitch = packed.shape[0], self.targets, NULL, 0
        if self.table is not None:
            entries = self.table
            rows.table = &entries[0, 0]
            rows.pitch = 0 if entries.shape[0] == 1 and self.features > 1 else entries.shape[1]
        cdef uint8_t *start = &room[0] + (-<uintptr_t>&room[0]) % 64
        with nogil:
            gram_add(&rows, &gram[0, 0], &sums[0], &cross[0, 0], start, level, threads)
        self.rows += packed.shape[0]

    def matrix(self):
        """The sum of u u', both halves: int64 (features, features)."""
        upper = np.triu(self.gram[: self.features, : self.features])
        return upper + np.triu(upper, 1).T
