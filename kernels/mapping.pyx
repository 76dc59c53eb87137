"""A file's bytes in memory that survive the file being cut off: kernels/mapped.c."""

from cpython.buffer cimport PyBuffer_FillInfo

cdef extern from "mapped.h" nogil:
    int mapping_open(size_t size)
    int mapping_place(int number, int descriptor, long long offset, size_t size, size_t at)
    const void *mapping_start(int number)
    int mapping_lost(int number)
    void mapping_close(int number)


cdef class Mapping:
    """`size` bytes from `offset` of the file behind a descriptor, as a read-only buffer; OSError where the system cannot map it.

    Of descriptor -1: zeros, in the place of which `place` maps files.
    """

    cdef int number
    cdef size_t size

    def __cinit__(self, int descriptor, long long offset, size_t size):
        self.number = mapping_open(size)
        self.size = size
        if self.number < 0:
            raise OSError("cannot map the file into memory")
        if descriptor >= 0:
            self.place(descriptor, offset, size, 0)

    def __dealloc__(self):
        if self.number >= 0:
            mapping_close(self.number)

    def place(self, int descriptor, long long offset, size_t size, size_t at):
        """Map `size` bytes from `offset` of the file behind a descriptor to byte `at`."""
        if at > self.size or size > self.size - at:
            raise ValueError(f"{size} bytes at {at} are beyond a mapping of {self.size}")
        if not mapping_place(self.number, descriptor, offset, size, at):
            raise OSError("cannot map the file into memory")

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *>mapping_start(self.number), self.size, 1, flags)

    @property
    def lost(self):
        """Whether bytes that were touched are gone from the file; they have been zeros since."""
        return mapping_lost(self.number) != 0
