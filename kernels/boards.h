/* The boards' integer trainers: board_harp.c, board_pynq.c, board_mlweaving.c; their arithmetic is docs/boards.md. */
#ifndef ZIPML_BOARDS_H
#define ZIPML_BOARDS_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *data;         /* one copy of the rows */
    const int32_t *labels;       /* MLWeaving's, which are apart */
    size_t rows, stride;         /* stride: bytes of a row, where rows have some of their own */
    size_t features;             /* as stored; MLWeaving: a multiple of 64 */
    int bits, step;              /* Q, or the planes to read; the error's shift */
    size_t mask;                 /* rows of a batch less 1 */
    const int16_t *value;        /* of each code, in units of 2^-shift */
    int shift;
    int32_t *x, *next;           /* 9.23: the model that dot products read, and the one that updates go to */
    int32_t *first, *second;     /* room for a row's values: of the dot product, and of the update */
} board_job;

/* One epoch. Returns the number of rows, MLWeaving: groups of 8, at which a value did not fit its register. */
size_t harp_epoch(const board_job *job);
size_t pynq_epoch(const board_job *job);
size_t mlweaving_epoch(const board_job *job);

/* Values of the codes of Q bits, in units of 2^-shift; returns shift. */
int board_values(int bits, int is_signed, int16_t *value);

/* A register of 32 bits. */
static inline int32_t board_wrap(int64_t value)
{
    return (int32_t)(uint32_t)(uint64_t)value;
}

/* Values of codes at, at + step, ... of a row: Q divides 8, so that a code is in one byte. */
static inline void board_decode(const board_job *job, const uint8_t *row, size_t at, size_t step, int32_t *out)
{
    const size_t features = job->features, bits = (size_t)job->bits, mask = ((size_t)1 << bits) - 1;
    const int16_t *value = job->value;
    for (size_t f = 0, bit = at * bits; f < features; f++, bit += step * bits)
        out[f] = value[row[bit >> 3] >> (bit & 7) & mask];
}

/* Sum over features of floor(value x / 2^shift). */
static inline int64_t board_dot(const board_job *job, const int32_t *value)
{
    const int32_t *x = job->x;
    const int shift = job->shift;
    int64_t sum = 0;
    for (size_t f = 0; f < job->features; f++)
        sum += board_wrap((int64_t)value[f] * x[f] >> shift);
    return sum;
}

/* next -= floor(value g / 2^shift); whether one did not fit. */
static inline int board_update(const board_job *job, const int32_t *value, int32_t g)
{
    const int shift = job->shift;
    const size_t features = job->features;
    int32_t *next = job->next;
    int64_t lost = 0;
    for (size_t f = 0; f < features; f++) {
        const int64_t updated = (int64_t)next[f] - board_wrap((int64_t)value[f] * g >> shift);
        next[f] = board_wrap(updated);
        lost |= updated ^ next[f];
    }
    return lost != 0;
}

#endif
