"""A file's bytes in memory that survive the file being cut off: kernels/mapped.c."""

from cpython.buffer cimport PyBuffer_FillInfo

cdef extern from "mapped.h" nogil:
    int mapping_open(int descriptor, long long offset, size_t size)
    const void *mapping_start(int number)
    int mapping_lost(int number)
    void mapping_close(int number)


cdef class Mapping:
    """`size` bytes from `offset` of the file behind a descriptor, as a read-only buffer; OSError where the system cannot map it."""

    cdef int number
    cdef size_t size

    def __cinit__(self, int descriptor, long long offset, size_t size):
        self.number = mapping_open(descriptor, offset, size)
        self.size = size
        if self.number < 0:
            raise OSError("cannot map the file into memory")

    def __dealloc__(self):
        if self.number >= 0:
            mapping_close(self.number)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *>mapping_start(self.number), self.size, 1, flags)

    @property
    def lost(self):
        """Whether bytes that were touched are gone from the file; they have been zeros since."""
        return mapping_lost(self.number) != 0
