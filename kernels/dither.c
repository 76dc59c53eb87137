/* Dither: a known random number added to each code, so that the first bits of the sum are the code rounded at random (FORMAT.md, section 7).
 * That of feature f is y_0 ^ (the y_{1+i} of f's bits i that are set), y being bytes of the row's own from Philox: linear in f's bits over
 * GF(2), and so uniform for each feature and independent for any two of a row, which is all that products of two values ask for.
 * Linear, too, so that 64 features cost one exclusive or: a row has one pattern of 64, and a block of features changes all of it alike.
 * Sums and differences stay within their fields of the packed row (no carry, no borrow), so words are added whole. */
#include <string.h>

#include "dither.h"
#include "team.h"
#include "threads.h"

#define STRIP 64 /* rows of a task */

#define BODY "dither_body.h"
#include "each_level.h"

typedef void (*dither_fn)(const dither_job *, uint8_t *, size_t, uint64_t, size_t);
static const dither_fn DITHER[LEVEL_COUNT] = FOR_LEVEL(dither);

void dither_rows(const dither_job *job, uint8_t *packed, size_t stride, uint64_t first, size_t rows)
{
    if (job->spread)
        DITHER[job->level](job, packed, stride, first, rows);
}

typedef struct {
    const dither_job *job;
    uint8_t *packed;
    size_t stride, rows;
    uint64_t first;
} dither_many;

static void dither_task(void *all, size_t task)
{
    const dither_many *own = all;
    const size_t at = task * STRIP, rows = own->rows - at < STRIP ? own->rows - at : STRIP;
    dither_rows(own->job, own->packed + at * own->stride, own->stride, own->first + at, rows);
}

void dither_all(const dither_job *job, uint8_t *packed, size_t stride, uint64_t first, size_t rows, int threads)
{
    dither_many all = {job, packed, stride, rows, first};
    const size_t tasks = (rows + STRIP - 1) / STRIP;
    team_each(threads_for(threads, rows * job->features, tasks), dither_task, &all, tasks);
}
