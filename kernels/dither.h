/* Dither of codes that are stored as planes of bits: see dither.c. */
#ifndef ZIPML_DITHER_H
#define ZIPML_DITHER_H

#include <stddef.h>
#include <stdint.h>

#include "philox.h"

typedef struct {
    size_t features;
    int bits, spread;  /* of a packed code, and of them those that the dither takes, 0..bits - 1 */
    int subtract;      /* 0: add */
    philox_keys keys;
    int level;
} dither_job;

/* Packed rows first, first + 1, ... of `stride` bytes, in place; and by several threads. */
void dither_rows(const dither_job *job, uint8_t *packed, size_t stride, uint64_t first, size_t rows);
void dither_all(const dither_job *job, uint8_t *packed, size_t stride, uint64_t first, size_t rows, int threads);

#endif
