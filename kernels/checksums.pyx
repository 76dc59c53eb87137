"""fletcher32 as HDF5 computes it (H5checksum.c's H5_checksum_fletcher32: sums of big-endian 16-bit words)."""

from libc.stdint cimport uint8_t, uint32_t


def fletcher32(data):
    """Checksum of bytes, as HDF5's fletcher32 filter appends it, little-endian."""
    cdef const uint8_t[::1] view = memoryview(data).cast("B") if len(data) else memoryview(b"\0")[:0]
    cdef size_t words = <size_t>view.shape[0] // 2, block, i = 0, j
    cdef uint32_t sum1 = 0, sum2 = 0
    cdef const uint8_t *p
    if view.shape[0]:
        p = &view[0]
        with nogil:
            while words:
                block = 360 if words > 360 else words  # the most additions that cannot overflow 32 bits
                words -= block
                for j in range(block):
                    sum1 += (<uint32_t>p[2 * i] << 8) | p[2 * i + 1]
                    sum2 += sum1
                    i += 1
                sum1 = (sum1 & 0xffff) + (sum1 >> 16)
                sum2 = (sum2 & 0xffff) + (sum2 >> 16)
            if <size_t>view.shape[0] & 1:
                sum1 += <uint32_t>p[2 * i] << 8
                sum2 += sum1
                sum1 = (sum1 & 0xffff) + (sum1 >> 16)
                sum2 = (sum2 & 0xffff) + (sum2 >> 16)
            sum1 = (sum1 & 0xffff) + (sum1 >> 16)
            sum2 = (sum2 & 0xffff) + (sum2 >> 16)
    return (sum2 << 16) | sum1
