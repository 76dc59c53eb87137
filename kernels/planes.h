/* Between packed rows and bit planes: see planes.c. */
#ifndef ZIPML_PLANES_H
#define ZIPML_PLANES_H

#include <stddef.h>
#include <stdint.h>

#include "dither.h"

/* Plane k, 0 being the most significant, has a bit of every code: feature f's is bit f % 8 of byte f / 8 of a row.
 * Unused bits are zero. */
typedef struct {
    size_t features, pitch; /* pitch: bytes from row to row of a plane */
    size_t apart;           /* rows from plane to plane */
    int bits;               /* planes, and bits of a packed code */
    size_t stride;          /* bytes from packed row to packed row */
    int level, threads;
    const dither_job *dither;  /* to take away from what is unwoven; NULL: none */
    const uint64_t *numbers;   /* for that, of the first row of each chunk */
} planes_job;

/* planes[bits][apart][pitch] of packed[rows][stride] */
void planes_weave(const planes_job *job, const uint8_t *packed, size_t rows, uint8_t *planes);

/* packed[][stride]: counts[i] rows from planes + offsets[i], the place of their first in the most significant plane, to row
 * starts[i] and on, for each of `chunks`. Reads nothing but these rows of `bits` planes. */
void planes_unweave(const planes_job *job, const uint8_t *planes, const int64_t *offsets, const int64_t *counts,
                    const int64_t *starts, size_t chunks, uint8_t *packed);

#endif
