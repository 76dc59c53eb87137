/* From packed codes back to numbers: see decode.c. */
#ifndef ZIPML_DECODE_H
#define ZIPML_DECODE_H

#include "codes.h"

typedef struct {
    const code_shape *shape;
    const uint8_t *packed;
    size_t rows;
    int level, threads;
} decode_job;

/* out[rows][features] = m(t) */
void decode_rows(const decode_job *job, const code_values *values, float *out);

/* out[rows][features] = t, one a byte */
void unpack_rows(const decode_job *job, uint8_t *out);

/* out[samples][rows][features] = the samples' values, the ups assigned by `seed` and the row's number, rows[r] or first_row + r. */
void draw_rows(const decode_job *job, const code_values *values, uint64_t seed, uint64_t first_row, const uint64_t *rows, float *out);

/* packed[rows][stride] of codes[rows][features] */
void pack_rows(const code_shape *shape, const uint8_t *codes, size_t rows, uint8_t *packed, int level, int threads);

#endif
