/* Products of all pairs of columns of packed codes, in integers: see pairs.c. */
#ifndef ZIPML_GRAM_H
#define ZIPML_GRAM_H

#include "codes.h"

/* Packed rows, and u of each code: itself, or table[f * pitch + code] (pitch 0: one table for all features). */
typedef struct {
    code_shape shape;
    const uint8_t *packed;
    const uint8_t *table; /* NULL: u is the code */
    size_t pitch;
    const float *labels; /* [rows][targets] */
    size_t rows, targets;
} gram_rows;

/* Adds rows to gram[p][p], p = gram_padded(features): the sum of u u', for blocks of 16 columns from the diagonal's on; to
 * sums[p], of u; and to cross[targets][p], of u * label, row after row. `room`: gram_room() bytes, aligned to 64. */
void gram_add(const gram_rows *rows, int64_t *gram, int64_t *sums, double *cross, void *room, int level, int threads);
size_t gram_room(size_t features);

/* Whole blocks of 64 features. */
static inline size_t gram_padded(size_t features) { return code_blocks(features) * BLOCK; }

#endif
