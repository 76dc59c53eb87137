"""What OpenMP's runtime allows: OMP_NUM_THREADS, threadpoolctl, and a caller's parallel region all speak through it."""

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #else
    static int omp_get_max_threads(void) { return 0; }
    static int omp_in_parallel(void) { return 0; }
    #endif
    """
    int omp_get_max_threads() nogil
    int omp_in_parallel() nogil


def limit():
    """Threads that the calling thread may use: 1 inside a parallel region, 0 where there is no OpenMP to ask."""
    return 1 if omp_in_parallel() else omp_get_max_threads()
