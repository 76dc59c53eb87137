/* Values to MLWeaving's planes of bits, and back: see image_planes.c. */
#ifndef ZIPML_IMAGE_PLANES_H
#define ZIPML_IMAGE_PLANES_H

#include <stddef.h>
#include <stdint.h>

#define WEAVE_ROWS 8      /* rows that share a line */
#define WEAVE_FEATURES 64 /* features of a row in a line */
#define WEAVE_PLANES 32   /* lines of a block: one a bit, the most significant first */

typedef struct {
    size_t rows, features, stored;  /* stored: with a feature of ones, if there is one */
    const double *low, *span;       /* of each feature; value (x - low) / span, 0 where span is 0 */
    int level, threads;
} weave_job;

/* lines[groups of 8 rows][chunks of 64 features][32][16 words] of x[rows][features]; what fills up groups and chunks is 0. */
void weave(const weave_job *job, const float *x, uint32_t *lines);

/* x[rows][features] = low + value / (2^32 - 1) * span */
void unweave(const weave_job *job, const uint32_t *lines, float *x);

#endif
