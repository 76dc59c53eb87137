"""Certified variance-optimal levels of sorted values. A thin wrapper of search.c and distinct.c."""

import numpy as np

cdef extern from "search.h" nogil:
    ctypedef struct search_job:
        const double *x
        const double *weights
        size_t count, intervals
        double cost, lower_bound
        size_t evaluations
    size_t search_levels(search_job *job, size_t *levels)

cdef extern from "distinct.h" nogil:
    size_t distinct(double *x, double *weights, size_t count)
    size_t distinct_count(const double *x, size_t count)


def count_distinct(const double[::1] x):
    """How many different values there are in ascending x."""
    cdef size_t found = 0
    if x.shape[0]:
        with nogil:
            found = distinct_count(&x[0], x.shape[0])
    return found


def merge(double[::1] x, double[::1] weights):
    """Moves the distinct values of ascending x to its front, each with the sum of its weights; returns how many."""
    cdef size_t found = 0
    if x.shape[0] != weights.shape[0]:
        raise ValueError("as many weights as values are needed")
    if x.shape[0]:
        with nogil:
            found = distinct(&x[0], &weights[0], x.shape[0])
    return found


def solve(const double[::1] x, const double[::1] weights, size_t intervals):
    """Indices intp of the optimal levels of x (ascending, distinct, finite), their cost, a lower bound, and evaluations."""
    cdef search_job job = search_job(NULL, NULL, x.shape[0], intervals, 0, 0, 0)
    cdef size_t found
    if not job.count or not intervals or (weights is not None and weights.shape[0] != x.shape[0]):
        raise ValueError("a value, an interval, and as many weights as values are needed")
    levels = np.empty(min(intervals, job.count) + 1, np.uintp)
    cdef size_t[::1] view = levels
    job.x = &x[0]
    if weights is not None:
        job.weights = &weights[0]
    with nogil:
        found = search_levels(&job, &view[0])
    if not found:
        raise MemoryError("no memory for the search of exact levels")
    return levels[:found].astype(np.intp), job.cost, job.lower_bound, job.evaluations
