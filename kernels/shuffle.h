/* The order of an epoch within its windows: see shuffle.c. */
#ifndef ZIPML_SHUFFLE_H
#define ZIPML_SHUFFLE_H

#include "philox.h"

#include <stddef.h>

typedef struct {
    const int64_t *units;       /* numbers of the windows' units, in the epoch's order */
    size_t count, unit, window; /* how many; rows of a unit; units of a window */
    size_t rows;                /* of the data: the last unit may be shorter */
    uint32_t column, first;     /* of the counter: 2 * epoch + 1; the first window's number */
    philox_keys keys;
    int level, threads;
} order_job;

/* Row numbers of the windows, each window shuffled, to `out`. Returns how many. */
size_t order_windows(const order_job *job, uint64_t *out);

/* Puts `count` <= 2^32 values into window `window`'s order. */
void order_shuffle(const order_job *job, uint32_t window, uint64_t *values, size_t count);

#endif
