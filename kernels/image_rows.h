/* Codes to rows of the FPGA designs' images, and back: see image_rows.c. */
#ifndef ZIPML_IMAGE_ROWS_H
#define ZIPML_IMAGE_ROWS_H

#include "codes.h"
#include "philox.h"

typedef struct {
    size_t features, rows, row_bytes; /* features: of the data; row_bytes: of the image */
    size_t label;                     /* byte of a row where the label is */
    int width, pairs, offset, bias;   /* Q; two samples a feature or one; what a level is stored less; whether a 1 comes last */
} image_shape;

typedef struct {
    const image_shape *shape;
    const uint8_t *packed; /* the file's rows */
    size_t stride;
    int bits, samples, first; /* first: the sample, or the first of the two, that is taken */
    const uint8_t *tops;      /* the greatest code of each feature; zeros fill up the last block */
    const uint32_t *labels;   /* NULL: zeros */
    uint64_t first_row;
    philox_keys keys;
    uint8_t *out;
    int level, threads;
} image_job;

/* out[rows][row_bytes] */
void image_fill(const image_job *job);

/* levels[rows][features] of image[rows][row_bytes]: the one sample's, or the sum of both. True where a level is above `top`. */
int image_read(const image_shape *shape, const uint8_t *image, int top, uint8_t *levels, int level, int threads);

#endif
