/* SGD for least squares as PYNQ's core computes it, bit for bit (docs/boards.md; ZipML-PYNQ, RTL/qFSGD.vhd and fp_subtract_mult).
 *     g = fixed((float(sum_f floor(q_f x_f)) - b) * 2^-step),    next_f -= floor(q_f g),    x = next at a batch's end
 * Model and sums are int32, 9.23, as HARP's; the error is float32, rounded to nearest at each of its three operations, and goes
 * back to 9.23 by truncation toward zero, with high bits shifted out where it is too large.
 * A last, shorter batch waits in `next` for the next epoch's first full one; `next` is what the board hands out. */
#include "boards.h"

#include <math.h>
#include <string.h>

static int32_t fixed_of(float value, int *lost)
{
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    const int exponent = (int)(word >> 23 & 255) - 127, away = exponent < 0 ? -exponent : exponent;
    const uint32_t mantissa = (word & 0x7FFFFF) | 0x800000;
    const uint32_t size = away > 31 ? 0 : exponent < 0 ? mantissa >> away : mantissa << away;
    *lost = exponent > 7;
    return (int32_t)(word >> 31 ? 0 - size : size);
}

size_t pynq_epoch(const board_job *job)
{
    const float step = ldexpf(1, -job->step);
    size_t wrapped = 0;
    for (size_t row = 0; row < job->rows; row++) {
        const uint8_t *words = job->data + row * job->stride;
        float b;
        memcpy(&b, words + job->stride - 8, sizeof b);
        board_decode(job, words, 0, 1, job->first);
        const int64_t dot = board_dot(job, job->first);
        const float error = (float)board_wrap(dot) * 0x1p-23f - b;
        int large;
        const int32_t g = fixed_of(error * step, &large);
        const int lost = board_update(job, job->first, g);
        if ((row & job->mask) == job->mask)
            memcpy(job->x, job->next, job->features * sizeof *job->x);
        wrapped += lost || large || dot != board_wrap(dot);
    }
    return wrapped;
}
