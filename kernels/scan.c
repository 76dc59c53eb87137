/* One pass over float32 rows: minimum, maximum, sum and sum of squares per column.
 * Sums are of (x - shift), in float64, in row order within groups of 64 rows and in group order beyond: no thread count,
 * block size or vector level changes a bit. shift (the first row) keeps offset columns from cancelling (levels.md).
 * A group's rows of 64 columns are one unit of work; groups go to threads in turn.
 * By hand only in the loops' order; the compiler vectorises them across 64 neighbouring features. */
#include "scan.h"
#include "bits.h"
#include "threads.h"

#define GROUP 64
#define STRIP 8

#define BODY "scan_body.h"
#include "each_level.h"

typedef uint32_t (*scan_fn)(const float *, size_t, size_t, size_t, const float *, float *, float *, double *, double *);
static const scan_fn SCAN[LEVEL_COUNT] = FOR_LEVEL(scan_strip);

static size_t minimum(size_t a, size_t b) { return a < b ? a : b; }

/* Columns first..first+width-1 of all rows of `job`, from the group `group` on to its end. */
static uint32_t scan_group(const scan_job *job, size_t group, size_t first, size_t width, const float *shift, float *low, float *high,
                           double *sum, double *square)
{
    float padded[3][BLOCK];
    double sums[2][BLOCK];
    uint32_t bad = 0;
    const size_t end = minimum(job->rows, (group + 1) * GROUP);
    memset(padded, 0, sizeof padded);
    memset(sums, 0, sizeof sums);
    memcpy(padded[0], shift, width * sizeof *shift);
    memcpy(padded[1], low, width * sizeof *low);
    memcpy(padded[2], high, width * sizeof *high);
    for (size_t row = group * GROUP; row < end; row += STRIP)
        bad |= SCAN[job->level](job->x + row * job->pitch + first, job->pitch, minimum(STRIP, end - row), width, padded[0], padded[1],
                                padded[2], sums[0], sums[1]);
    memcpy(low, padded[1], width * sizeof *low);
    memcpy(high, padded[2], width * sizeof *high);
    memcpy(sum, sums[0], width * sizeof *sum);
    memcpy(square, sums[1], width * sizeof *square);
    return bad;
}

int scan_rows(const scan_job *job, const float *shift, float *low, float *high, double *sum, double *square, double *partial)
{
    const size_t n = job->features, groups = (job->rows + GROUP - 1) / GROUP, blocks = (n + BLOCK - 1) / BLOCK;
    const int threads = threads_for(job->threads, job->rows * n, groups);
    uint32_t bad = 0;
#pragma omp parallel num_threads(threads) reduction(| : bad) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (size_t g = 0; g < groups; g++)
            for (size_t b = 0; b < blocks; b++) {
                const size_t first = b * BLOCK, width = minimum(BLOCK, n - first);
                float bounds[2][BLOCK];
                for (size_t f = 0; f < width; f++)
                    bounds[0][f] = bounds[1][f] = job->x[g * GROUP * job->pitch + first + f];
                double *at = partial + g * 2 * n + first;
                bad |= scan_group(job, g, first, width, shift + first, bounds[0], bounds[1], at, at + n);
#pragma omp critical
                for (size_t f = 0; f < width; f++) {
                    low[first + f] = bounds[0][f] < low[first + f] ? bounds[0][f] : low[first + f];
                    high[first + f] = bounds[1][f] > high[first + f] ? bounds[1][f] : high[first + f];
                }
            }
#pragma omp for schedule(static)
        for (size_t f = 0; f < n; f++)
            for (size_t g = 0; g < groups; g++) {
                sum[f] += partial[g * 2 * n + f];
                square[f] += partial[g * 2 * n + n + f];
            }
    }
    return bad != 0;
}
