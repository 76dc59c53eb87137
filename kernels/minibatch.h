/* Mini-batch SGD straight from packed codes: see minibatch.c. */
#ifndef ZIPML_MINIBATCH_H
#define ZIPML_MINIBATCH_H

#include "codes.h"
#include "loss.h"

enum estimator { ESTIMATOR_MEAN = 0, ESTIMATOR_COLLAPSED = 1, ESTIMATOR_DOUBLE = 2 };

/* Rows in standardised units: packed codes, whose `values` are already (m - mean) / std, or raw float32 rows. */
typedef struct {
    code_shape shape;
    const uint8_t *packed; /* NULL: raw rows */
    code_values values;
    const float *raw, *mean, *scale; /* (a - mean) * scale, arrays padded to whole blocks */
    size_t pitch;                    /* floats from raw row to raw row */
    const float *labels, *row_weights; /* row_weights: NULL for 1 each */
    const uint64_t *numbers;  /* row numbers in the file, for the double-sampling draws; else NULL */
    const float *correction;  /* collapsed: c(t) per feature, [features][correction_pitch]; else NULL */
    size_t correction_pitch;
    int estimator;
    uint64_t draw_seed;
} sgd_rows;

/* All vectors have code_blocks(features) * 64 floats, zeros beyond the features. */
typedef struct {
    float *weights, *rounded, *gradient; /* rounded: Q_m(weights), the model that rows meet */
    float bias;
    const float *curvature; /* strength - c * D: what each coefficient's own gradient adds */
    const float *noise;     /* variance of the values that residuals are made of, for the unbiased estimate of the loss; or NULL */
    proximal prox;
    int loss; /* enum loss */
    int model_levels, gradient_levels; /* 0: float32; else 2^(bits-1) - 1 levels on each side of 0 */
    uint64_t step_number, model_seed;
} sgd_model;

typedef struct {
    double loss;  /* sum over rows of the loss, each at the model it met */
    double noise; /* sum over rows of x'Dx / 2 (D: model->noise), what the rounding added to `loss` in expectation */
    int finite;   /* 0 where the model has left the finite numbers */
} sgd_result;

/* Takes ceil(count / batch) steps over the rows order[0..count-1] of `rows`; steps[i] is step i's size.
 * `room`: sgd_room() floats. */
sgd_result sgd_run(const sgd_rows *rows, sgd_model *model, const size_t *order, size_t count, size_t batch, const float *steps,
                   float *room, int level, int threads);
size_t sgd_room(size_t features, size_t batch);

/* out[i] = bias + weights . row order[i]; order may be NULL for 0, 1, 2 ... */
void sgd_predict(const sgd_rows *rows, const float *weights, float bias, const size_t *order, size_t count, float *out, float *room,
                 int level, int threads);

/* out[count][code_blocks * 64], zeroed beforehand = the standardised values of rows 0..count-1. */
void sgd_values(const sgd_rows *rows, size_t count, float *out, int level, int threads);

/* Q(v): unbiased rounding of n floats to `levels` levels on each side of 0 up to `scale` (ZipML, section 2.1: Q_m and Q_g). */
void quantize_vector(const float *v, size_t n, int levels, float scale, uint64_t seed, uint64_t number, float *out);

#endif
