/* Mini-batch SGD in integers, straight from packed codes: see integer_steps.c. */
#ifndef ZIPML_INTEGER_STEPS_H
#define ZIPML_INTEGER_STEPS_H

#include "codes.h"
#include "loss.h"

/* Packed rows in standardised units: code t of feature f is low[f] + step[f] * u, where u is t itself or table[f * pitch + t].
 * low, step, inverse_step have integer_padded(features) floats, zeros beyond the features. */
typedef struct {
    code_shape shape;
    const uint8_t *packed;
    const float *low, *step, *inverse_step; /* inverse_step: 1 / step, 0 where step is 0 */
    const uint8_t *table;                   /* NULL: affine */
    size_t pitch;                           /* 2^bits, or 0: one table for all features */
    const float *labels, *row_weights;      /* row_weights: NULL for 1 each */
} integer_rows;

/* All vectors have integer_padded(features) entries, zeros beyond the features. */
typedef struct {
    float *weights, *rounded, *gradient; /* rounded: the model that rows meet */
    float bias;
    const float *curvature; /* strength - c * D: what each coefficient's own gradient adds */
    const float *noise;     /* D, for the unbiased estimate of the loss; or NULL */
    proximal prox;
    int loss; /* enum loss */
    int model_bits, residual_bits; /* 4, 8 or 16 */
    int gradient_levels;           /* 0: float32; else 2^(bits-1) - 1 levels on each side of 0 */
    uint64_t step_number, seed;
} integer_model;

typedef struct {
    double loss;  /* sum over rows of the loss, each at the model it met */
    double noise; /* sum over rows of x'Dx / 2, what the rounding of data added to `loss` in expectation */
    int finite;   /* 0 where the model has left the finite numbers */
} integer_result;

/* Takes ceil(count / batch) steps over the rows order[0..count-1]; steps[i] is step i's size.
 * `room`: integer_room() bytes, aligned to 64. */
integer_result integer_run(const integer_rows *rows, integer_model *model, const size_t *order, size_t count, size_t batch,
                           const float *steps, void *room, int level, int threads);
size_t integer_room(const integer_rows *rows, size_t count, size_t batch, int level, int threads);

/* Entries of a vector: whole blocks of 512 features, a line of codes at every width. */
static inline size_t integer_padded(size_t features) { return (features + 511) / 512 * 512; }

/* Rows that share one scale of their residuals (FORMAT.md, section 5). */
size_t integer_slab(const code_shape *shape, size_t batch);

#endif
