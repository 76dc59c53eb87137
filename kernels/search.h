/* Certified variance-optimal levels of sorted points: see search.c. */
#ifndef ZIPML_SEARCH_H
#define ZIPML_SEARCH_H

#include <stddef.h>

typedef struct {
    const double *x, *weights; /* [count]: ascending without repetition, finite; positive, or NULL for ones */
    size_t count, intervals;   /* both >= 1 */
    double cost, lower_bound;  /* out: sum of w (u - x)(x - l), and a proven bound of the least one possible */
    size_t evaluations;        /* out: intervals whose cost was computed */
} search_job;

/* levels[intervals + 1]: indices of the optimal levels. Returns their number, or 0 when memory ran out. */
size_t search_levels(search_job *job, size_t *levels);

#endif
