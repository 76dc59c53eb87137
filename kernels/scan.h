/* Statistics of columns from one streamed pass: see scan.c. */
#ifndef ZIPML_SCAN_H
#define ZIPML_SCAN_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const float *x; /* rows x features */
    size_t features, pitch, rows;
    int level, threads;
} scan_job;

/* Running totals per feature: minimum, maximum, sum of (x - shift), sum of (x - shift)^2.
 * `partial`: room for ceil(rows / 64) * features * 3 doubles. Returns 1 if a value is NaN or infinite, else 0. */
int scan_rows(const scan_job *job, const float *shift, float *low, float *high, double *sum, double *square, double *partial);

#endif
