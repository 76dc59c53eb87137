/* Variance-optimal levels of sketched columns: see levels.c. */
#ifndef ZIPML_LEVELS_H
#define ZIPML_LEVELS_H

#include <stddef.h>
#include <stdint.h>

/* Positions are relative to a point of the column's bulk: sums start there, and an outlier cancels nothing. */
typedef struct {
    const double *weight, *left, *right; /* [features][segments]: weight spread evenly over left..right, ascending; 0: empty */
    const double *low, *high;            /* [features]: first and last level; equal for a constant column */
    size_t features, segments, intervals;
    size_t steps;  /* > 0: levels are low + j * (high - low) / steps; 0: anywhere */
    size_t most;   /* candidates among the segments' middles, where levels are anywhere: at most 65,534 */
    size_t sweeps; /* of coordinate descent after the dynamic programme, where levels are anywhere */
    int threads;
} levels_job;

/* levels[features][intervals + 1]: ascending; marks, same shape: their j, where steps > 0.
 * cost[features][intervals]: of the best s = 1, 2, ... intervals among the candidates; the last is that of `levels`.
 * Returns 0, or -1 when memory ran out. */
int best_levels(const levels_job *job, double *levels, uint16_t *marks, double *cost);

/* cost[features]: what given levels[features][count] cost, those of a feature ascending from low to high. Returns 0 or -1. */
int levels_cost(const levels_job *job, const double *levels, size_t count, double *cost);

#endif
