/* The two integer products of a slab of rows, codes by model and residuals by codes: see products.c. */
#ifndef ZIPML_PRODUCTS_H
#define ZIPML_PRODUCTS_H

#include "integer_steps.h"

#define SLAB_ROWS 128 /* most rows of a slab */
#define LINE 64       /* bytes of a row that are worked on together */

/* The working form of a row at one vector level: lines of 64 bytes; a byte holds `planes` codes, one above the other. */
typedef struct {
    int planes;   /* 1, 2, 4, 8: features of a byte */
    size_t lines; /* of a row */
} product_layout;

/* Integers of a vector as signed bytes: 256 * part[1] + part[0], or part[0] alone. */
typedef struct {
    int8_t *part[2];
    int parts;
} signed_bytes;

typedef struct {
    const integer_rows *rows;
    product_layout layout;
    const size_t *order, *next; /* the slab's rows, and those that this thread takes next */
    size_t count, next_count;
    const uint8_t **row;   /* where the slab's rows begin; the last one again up to a multiple of 16 */
    const uint8_t *image;  /* the tables, see products_image */
    signed_bytes model;    /* working order, see products_place */
    signed_bytes residual; /* a row each, zeros up to a multiple of 16 rows */
    uint8_t *work;         /* SLAB_ROWS * lines * 64 bytes, aligned to 64 */
    int64_t *dot;          /* SLAB_ROWS */
    float scale, *sums;    /* working order: scale * sum over rows of residual * u */
} slab_job;

product_layout products_layout(const integer_rows *rows, int level);

/* The tables as a level's look-up takes them, in products_image_bytes() bytes, aligned to 64. */
size_t products_image_bytes(const integer_rows *rows, int level);
void products_image(const integer_rows *rows, uint8_t *image, int level);

/* dot[r] = sum over features of model * u, exact. */
void products_dot(const slab_job *job, int level);

/* sums = scale * float32(exact sum over rows of residual * u), for every feature. */
void products_gradient(const slab_job *job, int level);

/* Byte i of a line holds features planes * i + p. Model bytes of a line: [p][i]. Sums: [p][i / 4 % 4][i / 16][i % 4],
 * the order in which interleaving four rows leaves them. */
static inline size_t model_place(size_t i, size_t p) { return LINE * p + i; }
static inline size_t sum_place(size_t i, size_t p) { return LINE * p + 16 * (i / 4 % 4) + 4 * (i / 16) + i % 4; }

#endif
