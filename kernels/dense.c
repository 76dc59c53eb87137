/* Mini-batch SGD on float32 rows, what integer SGD is measured against: as fast as reading them.
 * Mean and scale are folded into the model, z = bias - sum mean w + sum a w with w = x * scale, and into the gradient,
 * scale * (sum e a - mean * sum e): a row is read twice, from memory and from L1, and never written. For columns whose mean
 * is far from zero in their own scale float32 loses digits this way: training standardises each value instead (minibatch.c).
 * A batch is cut into PARTS whatever the threads are, and sums are added in order: the same model for any number of threads. */
#include "dense.h"
#include "barrier.h"
#include "threads.h"

#include <math.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define PARTS 8
#define TILE 4 /* rows that are read again while they are in L1 */

typedef struct { double value ALIGNED64, slope; } dense_sums;

typedef struct {
    const dense_rows *rows;
    dense_model *model;
    size_t blocks;
    float *gradient; /* PARTS vectors */
    float *residual; /* a row of the batch each */
    float *centre;   /* a block each: sum of mean * folded */
    dense_sums *sums;
    barrier *meet;
} dense_work;

#define BODY "dense_body.h"
#include "each_level.h"

typedef void (*part_fn)(const dense_work *, const size_t *, size_t, size_t, float, float *, float *, dense_sums *);
typedef void (*fold_fn)(const dense_work *, size_t, size_t, float, float, float, const proximal *);
static const part_fn PART[LEVEL_COUNT] = FOR_LEVEL(dense_part);
static const fold_fn FOLD[LEVEL_COUNT] = FOR_LEVEL(dense_fold);

static size_t dense_blocks(size_t features) { return (features + BLOCK - 1) / BLOCK; }
static size_t whole(size_t bytes) { return (bytes + 63) / 64 * 64; }

size_t dense_room(size_t features, size_t batch)
{
    const size_t blocks = dense_blocks(features);
    return PARTS * blocks * BLOCK * sizeof(float) + whole(batch * sizeof(float)) + whole(blocks * sizeof(float)) +
           PARTS * sizeof(dense_sums) + sizeof(barrier);
}

static dense_result run_thread(const dense_work *work, const size_t *order, size_t count, size_t batch, const float *steps, int level,
                               int thread, int threads)
{
    const size_t blocks = work->blocks, width = blocks * BLOCK;
    const size_t first = blocks * (size_t)thread / (size_t)threads, last = blocks * ((size_t)thread + 1) / (size_t)threads;
    dense_result result = {0, 1};
    float bias = work->model->bias;
    const proximal none = {NULL, NULL, NULL, NULL};
    FOLD[level](work, first, last, 0, 0, 0, &none); /* no step yet */
    barrier_wait(work->meet, threads);
    for (size_t done = 0, i = 0; done < count && result.finite; done += batch, i++) {
        const size_t now = count - done < batch ? count - done : batch, each = (now + PARTS - 1) / PARTS;
        double base = bias, value = 0, slope = 0;
        for (size_t b = 0; b < blocks; b++)
            base -= (double)work->centre[b];
        for (size_t p = PARTS * (size_t)thread / (size_t)threads; p < PARTS * ((size_t)thread + 1) / (size_t)threads; p++) {
            const size_t from = p * each < now ? p * each : now, to = from + each < now ? from + each : now;
            PART[level](work, order + done + from, to - from, count - done - from, (float)base, work->residual + from,
                        work->gradient + p * width, &work->sums[p]);
        }
        barrier_wait(work->meet, threads);
        for (size_t p = 0; p < PARTS; p++) {
            value += work->sums[p].value;
            slope += work->sums[p].slope;
        }
        FOLD[level](work, first, last, steps[i], (float)slope, 1.0f / (float)now, &work->model->prox);
        bias -= steps[i] * (float)(slope / (double)now);
        result.loss += value;
        result.finite = isfinite(value) && isfinite((float)base); /* base is not where a weight is not: mean times it is added */
        barrier_wait(work->meet, threads);
    }
    if (thread == 0)
        work->model->bias = bias;
    return result;
}

dense_result dense_run(const dense_rows *rows, dense_model *model, const size_t *order, size_t count, size_t batch, const float *steps,
                       void *room, int level, int threads)
{
    dense_work work = {.rows = rows, .model = model, .blocks = dense_blocks(rows->features)};
    work.gradient = room;
    work.residual = work.gradient + PARTS * work.blocks * BLOCK;
    work.centre = (float *)((uint8_t *)work.residual + whole((count < batch ? count : batch) * sizeof(float)));
    work.sums = (dense_sums *)((uint8_t *)work.centre + whole(work.blocks * sizeof(float)));
    work.meet = (barrier *)(work.sums + PARTS);
    memset(work.meet, 0, sizeof *work.meet);
    memset(work.gradient, 0, PARTS * work.blocks * BLOCK * sizeof(float));
    threads = threads_for(threads, (count < batch ? count : batch) * rows->features, PARTS);
    if (threads == 1)
        return run_thread(&work, order, count, batch, steps, level, 0, 1);
    dense_result result = {0, 1};
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num();
        const dense_result own = run_thread(&work, order, count, batch, steps, level, thread, omp_get_num_threads());
        if (thread == 0)
            result = own;
    }
#endif
    return result;
}
