/* One pass over float32 rows: minimum, maximum, sum and sum of squares per column.
 * Sums are of (x - shift), in float64, in row order within groups of 64 rows and in group order beyond: no thread count,
 * block size or vector level changes a bit. shift (the first row) keeps offset columns from cancelling (levels.md).
 * A group's rows of 64 columns are one unit of work; groups go to threads in turn. The next strip is asked for: rows lie far apart.
 * By hand only in the loops' order; the compiler vectorises them across 64 neighbouring features. */
#include "scan.h"
#include "bits.h"
#include "team.h"
#include "threads.h"

#include <stdatomic.h>

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

typedef struct {
    const scan_job *job;
    const float *shift;
    float *low, *high, *bounds; /* bounds: [groups][2][features] */
    double *sum, *square, *partial;
    size_t groups;
    atomic_int bad;
} scan_all;

static void scan_part(void *all, size_t g)
{
    scan_all *own = all;
    const scan_job *job = own->job;
    const size_t n = job->features;
    uint32_t bad = 0;
    for (size_t first = 0; first < n; first += BLOCK) {
        const size_t width = minimum(BLOCK, n - first);
        float *low = own->bounds + g * 2 * n + first, *high = low + n;
        double *at = own->partial + g * 2 * n + first;
        memcpy(low, job->x + g * GROUP * job->pitch + first, width * sizeof *low);
        memcpy(high, low, width * sizeof *low);
        bad |= scan_group(job, g, first, width, own->shift + first, low, high, at, at + n);
    }
    if (bad)
        atomic_store(&own->bad, 1);
}

/* What the groups found of one block of columns, in their order. */
static void scan_total(void *all, size_t block)
{
    const scan_all *own = all;
    const size_t n = own->job->features, first = block * BLOCK, last = minimum(first + BLOCK, n);
    for (size_t g = 0; g < own->groups; g++) {
        const double *sum = own->partial + g * 2 * n, *square = sum + n;
        const float *low = own->bounds + g * 2 * n, *high = low + n;
        for (size_t f = first; f < last; f++) {
            own->sum[f] += sum[f];
            own->square[f] += square[f];
            own->low[f] = low[f] < own->low[f] ? low[f] : own->low[f];
            own->high[f] = high[f] > own->high[f] ? high[f] : own->high[f];
        }
    }
}

int scan_rows(const scan_job *job, const float *shift, float *low, float *high, double *sum, double *square, double *partial)
{
    const size_t n = job->features, groups = (job->rows + GROUP - 1) / GROUP;
    scan_all all = {
        .job = job, .shift = shift, .low = low, .high = high, .sum = sum, .square = square, .groups = groups,
        .partial = partial, .bounds = (float *)(partial + groups * 2 * n),
    };
    team_each(threads_for(job->threads, job->rows * n, groups), scan_part, &all, groups);
    team_each(threads_for(job->threads, groups * n, (n + BLOCK - 1) / BLOCK), scan_total, &all, (n + BLOCK - 1) / BLOCK);
    return atomic_load(&all.bad);
}
