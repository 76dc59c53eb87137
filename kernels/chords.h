/* One layer of the levels' dynamic programme: see chords.c. */
#ifndef ZIPML_CHORDS_H
#define ZIPML_CHORDS_H

#include "moments.h"

#include <stdint.h>

enum { CHORDS_EVERY = 256 }; /* in twofold, and no more pairs than this: all are evaluated */

/* best[i] = min over the columns k that row i may use of cost[k] + V(i, k), and its k: columns 0..limit[i]-1, or from limit[i]. */
typedef struct {
    size_t rows, columns;
    const double *cost, *u, *v;              /* [columns]; float64: V = a[i] u[k] - b[i] v[k] */
    const double *a, *b;                     /* [rows] */
    const moments *row_sums, *column_sums;   /* twofold, where these are not NULL: sums up to the interval's ends ... */
    const twofold *row_places, *column_places; /* ... and the ends' coordinates */
    const uint32_t *limit;
    int backward;
    double *best;
    uint32_t *argument;
    size_t evaluations;
} chord_layer;

void chord_minima(chord_layer *layer);

#endif
