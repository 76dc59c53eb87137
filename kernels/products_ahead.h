/* Asking for the next slab's rows while this one is worked on, a few cache lines at a time, so that memory never rests. */
#ifndef ZIPML_PRODUCTS_AHEAD_H
#define ZIPML_PRODUCTS_AHEAD_H

#include "products.h"

#if defined(__GNUC__) || defined(__clang__)
#define FETCH_LINE(p) __builtin_prefetch(p, 0, 3)
#else
#define FETCH_LINE(p) ((void)(p))
#endif

typedef struct {
    const uint8_t *packed, *at;
    const size_t *order;
    size_t row, rows, left, stride, bytes, each; /* each: lines to ask for at every turn */
} ahead;

/* Rows first..last-1 of the next slab, asked for in `turns` turns. What is asked for faster than memory answers may be dropped:
 * a pass asks for as much as its share of the time. */
ALWAYS_INLINE ahead ahead_of(const slab_job *job, size_t first, size_t last, size_t turns)
{
    const code_shape *shape = &job->rows->shape;
    const size_t bytes = (shape->features * (size_t)shape->bits + 7) / 8;
    ahead a = {.packed = job->rows->packed, .order = job->next, .row = first, .rows = last, .stride = shape->stride, .bytes = bytes};
    const size_t lines = (last - first) * ((bytes + 63) / 64 + (shape->stride % 64 != 0));
    a.each = (lines + turns - 1) / (turns ? turns : 1);
    return a;
}

ALWAYS_INLINE void ahead_turn(ahead *a)
{
    for (size_t i = 0; i < a->each; i++) {
        if (!a->left) {
            if (a->row == a->rows)
                return;
            const uint8_t *start = a->packed + a->order[a->row++] * a->stride;
            const size_t skew = (uintptr_t)start % 64;
            a->at = start - skew;
            a->left = (skew + a->bytes + 63) / 64;
        }
        FETCH_LINE(a->at);
        a->at += 64;
        a->left--;
    }
}

#endif
