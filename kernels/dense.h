/* Mini-batch SGD on float32 rows as they lie in memory, at the speed of memory: see dense.c. */
#ifndef ZIPML_DENSE_H
#define ZIPML_DENSE_H

#include <stddef.h>
#include <stdint.h>

#include "bits.h"
#include "loss.h"

/* Vectors have whole blocks of 64 floats, zeros beyond the features; rows do not. */
typedef struct {
    const float *values, *labels, *row_weights; /* values: features floats a row; row_weights: NULL for 1 each */
    const float *mean, *scale;                  /* a row means (a - mean) * scale */
    size_t features;
} dense_rows;

typedef struct {
    float *weights, *folded; /* folded: weights * scale */
    const float *curvature;
    float bias;
    proximal prox;
    int loss; /* enum loss */
} dense_model;

typedef struct {
    double loss; /* sum over rows of the loss, each at the model it met */
    int finite;
} dense_result;

/* Takes ceil(count / batch) steps over the rows order[0..count-1]. `room`: dense_room() bytes, aligned to 64. */
dense_result dense_run(const dense_rows *rows, dense_model *model, const size_t *order, size_t count, size_t batch, const float *steps,
                       void *room, int level, int threads);
size_t dense_room(size_t features, size_t batch);

#endif
