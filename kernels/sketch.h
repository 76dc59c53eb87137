/* Sketch of columns, cell by cell: see sketch.c. */
#ifndef ZIPML_SKETCH_H
#define ZIPML_SKETCH_H

#include "scan.h"

/* All integers, so that neither order nor threads nor blocks change a bit, and parts add up to the whole. */
typedef struct {
    uint64_t count, offsets; /* values, and the sum of their keys' places in the cell, 0 .. 2^shift - 1 */
    uint32_t top, bottom;    /* largest place; all ones less the smallest: 0 in an empty cell, and both only grow */
} sketch_cell;

/* Cell of a key: (key >> shift) - first. Per feature: key_of's pivot and scale, then first and shift. */
typedef struct {
    const float *pivot, *scale;
    const int32_t *first, *shift;
    size_t cells;
    size_t room; /* from feature to feature: no multiple of 4 KiB, so that neighbours keep out of one cache set; 0: all share */
    size_t copy; /* from copy to copy */
} sketch_grid;

/* Adds rows to each feature's cells. Threads split blocks of 64 features and, over `copies`, the rows. */
void sketch_rows(const scan_job *job, const sketch_grid *grid, sketch_cell *cells, int copies);

/* One feature's cells from its grid (first, shift) to one as wide or wider, in place; spare: room for as many. */
void sketch_regroup(sketch_cell *cells, sketch_cell *spare, size_t count, int32_t first, int shift, int32_t to_first, int to_shift);

/* Keys of values[i]: monotone in the value, see sketch.c. */
void sketch_keys(const float *values, const float *pivot, const float *scale, size_t n, int32_t *keys);

#endif
