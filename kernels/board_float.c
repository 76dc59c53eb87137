/* The boards' SGD in float64, to see beside theirs what their integers cost: the same rows, batches and steps, without rounding.
 *     next -= step (a1 . x - b) a2,    x = next where a batch ends
 * a1 and a2 are a row's two samples, or twice the same values. Rows come a block at a time, as values: one loop for all layouts.
 * A batch ends after row `last` too: HARP's at the epoch's end; PYNQ and MLWeaving go on with it in the next (docs/boards.md).
 * Serial, as SGD row by row is. */
#include "board_float.h"

#include <string.h>

void board_float(const float_job *job)
{
    const size_t n = job->features;
    for (size_t row = 0; row < job->rows; row++) {
        const double *a1 = job->a1 + row * n, *a2 = job->a2 + row * n;
        const size_t number = job->number + row;
        double error = -job->labels[row];
        for (size_t f = 0; f < n; f++)
            error += a1[f] * job->x[f];
        for (size_t f = 0; f < n; f++)
            job->next[f] -= job->step * error * a2[f];
        if ((number & job->mask) == job->mask || number == job->last)
            memcpy(job->x, job->next, n * sizeof *job->x);
    }
}
