/* What a code is, for the C kernels: the structures that encode.c, decode.c and minibatch.c share. Spec: formats/FORMAT.md, sections 1 to 3. */
#ifndef ZIPML_CODES_H
#define ZIPML_CODES_H

#include <stddef.h>
#include <stdint.h>

#include "bits.h"

/* Rows as packed codes. */
typedef struct {
    size_t features, stride; /* stride: bytes from row to row */
    int bits, samples, intervals;
} code_shape;

/* What a code decodes to. Either affine, low + t * step with t = top -> high, arrays of `features` floats;
 * or table[f * pitch + t], where pitch 0 means one table for all features. */
typedef struct {
    const float *low, *step, *high; /* affine where table is NULL */
    const float *table;
    size_t pitch;
    const float *blocked; /* a table of up to 16 codes again, as [16][64] a block of features; NULL where there is none */
    int padded; /* the affine arrays are padded with zeros to whole blocks */
} code_values;

/* Levels for encoding, in blocks of 64 features (the last one padded with zeros).
 * uniform: low, high, inverse: [64] a block. table: level[s+1][64], inverse[s][64], width[s][64] a block.
 * `shared`: block 0 serves all features. */
typedef struct {
    const float *low, *high, *inverse, *width;
    int uniform, shared;
} code_levels;

ALWAYS_INLINE size_t code_blocks(size_t features) { return (features + BLOCK - 1) / BLOCK; }

/* Features of a block, and bytes that they take in a row. */
ALWAYS_INLINE size_t block_width(const code_shape *shape, size_t block)
{
    size_t rest = shape->features - block * BLOCK;
    return rest < BLOCK ? rest : BLOCK;
}
ALWAYS_INLINE size_t block_bytes(const code_shape *shape, size_t block)
{
    return (block_width(shape, block) * (size_t)shape->bits + 7) / 8;
}
ALWAYS_INLINE size_t block_start(const code_shape *shape, size_t block) { return block * 8 * (size_t)shape->bits; }

#endif
