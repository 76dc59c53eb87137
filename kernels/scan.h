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
 * `partial`: room for ceil(rows / 64) * features * 2 doubles. Returns 1 if a value is NaN or infinite, else 0. */
int scan_rows(const scan_job *job, const float *shift, float *low, float *high, double *sum, double *square, double *partial);

/* counts[copy][features][room]: counts of trunc((x - base) * scale), held in 0..cells-1, cells <= room. A room that is no
 * multiple of 4 KiB keeps the same cell of neighbouring features out of one cache set. Threads split the features; where there are fewer than 64 a thread, the rows, each thread on its own copy. */
void count_rows(const scan_job *job, const float *base, const float *scale, size_t cells, size_t room, uint32_t *counts, int copies);

#endif
