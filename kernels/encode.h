/* Stochastic rounding to packed codes: see encode.c. */
#ifndef ZIPML_ENCODE_H
#define ZIPML_ENCODE_H

#include "codes.h"

#define GROUP 64 /* rows whose noise is summed in float32, in order, before it joins the float64 total */

typedef struct {
    const float *x; /* rows x features */
    size_t pitch, rows; /* pitch: floats from row to row */
    uint64_t seed, first_row;
    int nearest;
    uint8_t *out;
    float *noise, *error; /* [ceil(rows / GROUP)][features], or NULL both */
    int level, threads;
} encode_job;

/* Encodes float32 rows into `out`. `noise` and `error` receive for each group of rows the sums of the rounding's variance
 * (u-a)(a-l) and of its squared error (m-a)^2; for uniform levels in units of the interval's squared width.
 * Returns 1 if a value was outside of its feature's levels or NaN (its code means nothing then), else 0. */
int encode_rows(const code_shape *shape, const code_levels *levels, const encode_job *job);

#endif
