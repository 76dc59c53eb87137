/* SGD for least squares as HARP's quantized core computes it, bit for bit (docs/boards.md; ZipML-XeonFPGA, RTL/qFSGD.vhd).
 *     g = (sum_f floor(q1_f x_f) - b) >> step,    next_f -= floor(q2_f g),    x = next at a batch's end and at the epoch's
 * Registers are int32, 9.23 fixed point, and wrap: sums are made in int64 beside, so that a value that did not fit is seen.
 * Rows come one after the other, each on the model that those before it left: what the pipeline leaves open is chosen so.
 * A row is decoded first, so that both passes over it are plain loops. */
#include "boards.h"

#include <string.h>

int board_values(int bits, int is_signed, int16_t *value)
{
    static const int16_t two[2][4] = {{0, 1, 2, 2}, {0, 1, 0, -1}}; /* also of codes that no level has, as the board does */
    const int top = 1 << (bits - 1);
    for (int code = 0; code < 2 * top; code++)
        value[code] = (int16_t)(bits == 2 ? two[is_signed][code] : code <= top ? code : code - 2 * top);
    return bits == 1 ? 0 : bits - 1 - is_signed;
}

size_t harp_epoch(const board_job *job)
{
    size_t wrapped = 0;
    for (size_t row = 0; row < job->rows; row++) {
        const uint8_t *line = job->data + row * job->stride;
        int32_t b;
        memcpy(&b, line + job->stride - sizeof b, sizeof b);
        board_decode(job, line, 0, 2, job->first);
        board_decode(job, line, 1, 2, job->second);
        const int64_t dot = board_dot(job, job->first), error = (int64_t)board_wrap(dot) - b;
        const int lost = board_update(job, job->second, board_wrap(error) >> job->step);
        if ((row & job->mask) == job->mask || row == job->rows - 1)
            memcpy(job->x, job->next, job->features * sizeof *job->x);
        wrapped += lost || dot != board_wrap(dot) || error != board_wrap(error);
    }
    return wrapped;
}
