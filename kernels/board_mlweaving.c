/* SGD for least squares as MLWeaving's core computes it, bit for bit (docs/boards.md; hw/sgd_dot_product_sync.v, sgd_gradient.v).
 *     e_s = (S(sum_m a_scmk x_cm; c, k) - b_s) >> step,    next_cm -= S(sum_s a_scmk e_s; k),    of 8 samples s, bits a, planes k
 * S adds up 16 t >> (k + 1) of the planes' sums t in 36 bits, but for those that are -1, and 11, for rounding, and shifts by 4.
 * Only the planes that are asked for are touched. Sums are made in int64 beside the registers, so that what did not fit is seen.
 * A bit is a factor, 0 or 1: plain C without branches, within a fifth of the time of walking through the bits that are set. */
#include "boards.h"

#include <string.h>

enum { SAMPLES = 8, CHUNK = 64, PLANES = 32, LINE = 64, ROUND = 11 };

/* A register of 36 bits. */
static int64_t wrap36(int64_t value)
{
    return (int64_t)((uint64_t)value << 28) >> 28;
}

/* What a plane's sum adds. */
static int64_t term(int64_t sum, int plane)
{
    const int64_t shifted = (int64_t)board_wrap(sum) * 16 >> (plane + 1);
    return shifted == -1 ? 0 : shifted;
}

/* Bit m: feature m's of a sample, in a plane's line. */
static uint64_t bits_of(const uint8_t *line, size_t sample)
{
    uint64_t bits;
    memcpy(&bits, line + sample * sizeof bits, sizeof bits);
    return bits;
}

/* The errors of a group's samples, shifted; whether one did not fit. */
static int find_errors(const board_job *job, const uint8_t *lines, const int32_t *labels, int32_t *errors)
{
    int lost = 0;
    for (size_t s = 0; s < SAMPLES; s++) {
        const uint8_t *chunk = lines;
        int64_t dot = ROUND;
        for (const int32_t *x = job->x; x < job->x + job->features; x += CHUNK, chunk += PLANES * LINE)
            for (int k = 0; k < job->bits; k++) {
                const uint64_t bits = bits_of(chunk + k * LINE, s);
                int64_t sum = 0;
                for (size_t m = 0; m < CHUNK; m++)
                    sum += x[m] * (int64_t)(bits >> m & 1);
                lost |= sum != board_wrap(sum);
                dot += term(sum, k);
            }
        const int64_t error = (wrap36(dot) >> 4) - labels[s];
        lost |= dot != wrap36(dot) || error != board_wrap(error);
        errors[s] = board_wrap(error) >> job->step;
    }
    return lost;
}

/* next -= the gradient of a chunk; whether one did not fit. */
static int update(const board_job *job, const uint8_t *chunk, const int32_t *errors, int32_t *next)
{
    int64_t gradient[CHUNK];
    int lost = 0;
    for (size_t m = 0; m < CHUNK; m++)
        gradient[m] = ROUND;
    for (int k = 0; k < job->bits; k++) {
        int64_t sums[CHUNK] = {0};
        for (size_t s = 0; s < SAMPLES; s++) {
            const uint64_t bits = bits_of(chunk + k * LINE, s);
            for (size_t m = 0; m < CHUNK; m++)
                sums[m] += errors[s] * (int64_t)(bits >> m & 1);
        }
        for (size_t m = 0; m < CHUNK; m++) {
            lost |= sums[m] != board_wrap(sums[m]);
            gradient[m] += term(sums[m], k);
        }
    }
    for (size_t m = 0; m < CHUNK; m++) {
        const int64_t updated = next[m] - (wrap36(gradient[m]) >> 4);
        next[m] = board_wrap(updated);
        lost |= gradient[m] != wrap36(gradient[m]) || updated != next[m];
    }
    return lost;
}

size_t mlweaving_epoch(const board_job *job)
{
    const size_t chunks = job->features / CHUNK;
    size_t wrapped = 0;
    for (size_t row = 0; row < job->rows; row += SAMPLES) {
        const uint8_t *lines = job->data + row / SAMPLES * chunks * PLANES * LINE;
        int32_t errors[SAMPLES];
        int lost = find_errors(job, lines, job->labels + row, errors);
        for (size_t c = 0; c < chunks; c++)
            lost |= update(job, lines + c * PLANES * LINE, errors, job->next + c * CHUNK);
        if (((row + SAMPLES) & job->mask) == 0)
            memcpy(job->x, job->next, job->features * sizeof *job->x);
        wrapped += lost;
    }
    return wrapped;
}
