/* Variance-optimal levels on a grid: see levels.c. */
#ifndef ZIPML_LEVELS_H
#define ZIPML_LEVELS_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const double *counts; /* [features][cells]: weight of each cell */
    const double *origin; /* [features]: where cell 0 starts, in grid steps from the column's minimum (<= 0) */
    const double *extent; /* [features]: width of a cell in grid steps; 0 where the column is constant */
    size_t features, cells, steps, intervals;
    int threads;
} grid_job;

/* marks[features][intervals + 1]: the optimal levels' grid positions, 0 = minimum, `steps` = maximum; cost[features]: their
 * sum of weight * (u - x)(x - l), in squared grid steps. Returns 0, or -1 when memory ran out. */
int grid_levels(const grid_job *job, uint16_t *marks, double *cost);

#endif
