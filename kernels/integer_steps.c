/* Mini-batch SGD in integers: z = bias + sum_f x_f (low_f + step_f u_f), u the code or its table's byte (ZipML, section 2.1: Q_m).
 * The model w = x * step is rounded without bias to signed bytes with one scale, so z is one integer product, exactly the
 * prediction of the rounded model; residuals are rounded with one scale a slab, so its gradient is another.
 * Threads share a step: slabs of rows, then ranges of features to add up, step and round. Integer sums are exact, and the
 * floats of slabs and blocks are added in order: the same model for any number of threads. Formulas: formats/FORMAT.md, section 5. */
#include "integer_steps.h"
#include "barrier.h"
#include "philox.h"
#include "products.h"
#include "threads.h"

#include <float.h>
#include <math.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define SLAB_LEAST 16
#define SLAB_BYTES 262144
#define SLABS 4

/* What a slab adds up beside the gradient. */
typedef struct {
    double value ALIGNED64, slope, weight; /* of the loss, of its slopes as they are, and of the rows' weights */
    float rounded;                         /* of the rounded slopes */
} slab_sums;

typedef struct {
    float most ALIGNED64; /* a thread's share of a maximum */
} thread_most;

/* One call of integer_run, shared by its threads. */
typedef struct {
    const integer_rows *rows;
    integer_model *model;
    product_layout layout;
    uint64_t step_number;
    int model_levels, residual_levels;
    signed_bytes planes;            /* the rounded model, working order */
    float *block_base, *block_noise; /* 16 sums a block of 64 features: of low * x, D x^2 */
    float *sums;                    /* a slab's gradient each, working order */
    slab_sums *slabs;
    thread_most *weights_most, *gradient_most; /* a thread each */
    uint8_t *tiles;                 /* a thread's slab each */
    uint8_t *image;
    size_t slab, tile_bytes;
    int level;
    barrier *meet;
} step_work;

#define BODY "integer_steps_body.h"
#include "each_level.h"

typedef void (*round_fn)(const step_work *, size_t, size_t, float, const philox_keys *);
typedef void (*residual_fn)(const step_work *, slab_job *, size_t, float, float, const philox_keys *, slab_sums *);
typedef float (*sum_fn)(const step_work *, size_t, size_t, size_t, float, float);
typedef float (*step_fn)(const step_work *, size_t, size_t, float, float, const philox_keys *);
typedef float (*blocks_fn)(const float *, size_t);
typedef float (*largest_fn)(const step_work *, size_t, size_t);
static const round_fn ROUND[LEVEL_COUNT] = FOR_LEVEL(round_model);
static const residual_fn RESIDUALS[LEVEL_COUNT] = FOR_LEVEL(slab_residuals);
static const sum_fn SUM[LEVEL_COUNT] = FOR_LEVEL(sum_gradient);
static const step_fn STEP[LEVEL_COUNT] = FOR_LEVEL(step_weights);
static const blocks_fn SUM_BLOCKS[LEVEL_COUNT] = FOR_LEVEL(sum_blocks);
static const largest_fn LARGEST[LEVEL_COUNT] = FOR_LEVEL(largest_weight);

/* Levels on each side of zero. 16 bits: 256 * 127 + 127, the largest sum of two signed bytes. */
static int levels_of(int bits) { return bits == 16 ? 32639 : (1 << (bits - 1)) - 1; }

size_t integer_slab(const code_shape *shape, size_t batch)
{
    const size_t bytes = (shape->features * (size_t)shape->bits + 7) / 8;
    size_t slab = SLAB_ROWS;
    while (slab > SLAB_LEAST && (slab * SLABS > batch || slab * bytes > SLAB_BYTES))
        slab /= 2;
    return slab;
}

/* Bytes, rounded up to whole cache lines; and the next piece of the room. */
static size_t whole(size_t bytes) { return (bytes + 63) / 64 * 64; }
static void *take(uint8_t **room, size_t bytes)
{
    void *piece = *room;
    *room += whole(bytes);
    return piece;
}

/* The pieces of the room for steps of up to `rows` rows; returns their size. */
static size_t lay_out(step_work *work, size_t rows, size_t threads, uint8_t *room)
{
    const size_t padded = integer_padded(work->rows->shape.features), slabs = (rows + work->slab - 1) / work->slab;
    uint8_t *at = room;
    work->planes.part[0] = take(&at, padded);
    work->planes.part[1] = take(&at, padded);
    work->block_base = take(&at, padded / 4 * sizeof(float));
    work->block_noise = take(&at, padded / 4 * sizeof(float));
    work->sums = take(&at, slabs * padded * sizeof(float));
    work->slabs = take(&at, slabs * sizeof(slab_sums));
    work->weights_most = take(&at, threads * sizeof(thread_most));
    work->gradient_most = take(&at, threads * sizeof(thread_most));
    work->meet = take(&at, sizeof(barrier));
    work->tile_bytes = work->slab * padded + LINE;
    work->tiles = take(&at, threads * work->tile_bytes);
    work->image = take(&at, products_image_bytes(work->rows, work->level));
    return (size_t)(at - room);
}

size_t integer_room(const integer_rows *rows, size_t count, size_t batch, int level, int threads)
{
    static uint8_t origin[64] ALIGNED64;
    step_work work = {.rows = rows, .slab = integer_slab(&rows->shape, batch), .level = level};
    return lay_out(&work, count < batch ? count : batch, (size_t)(threads < 1 ? 1 : threads), origin);
}

/* Piece `thread` of 0..count-1 in `threads` pieces. */
static size_t piece(size_t count, int thread, int threads) { return count * (size_t)thread / (size_t)threads; }

static float largest_of(const thread_most *most, int threads)
{
    float largest = 0;
    for (int t = 0; t < threads; t++)
        largest = most[t].most > largest ? most[t].most : largest;
    return largest;
}

/* The slabs of a batch that one thread takes: rows first..last-1 of the batch. */
typedef struct { size_t first, last; } row_range;
static row_range rows_of(size_t slab, size_t count, int thread, int threads)
{
    const size_t slabs = (count + slab - 1) / slab;
    const size_t first = slab * piece(slabs, thread, threads), last = slab * piece(slabs, thread + 1, threads);
    return (row_range){first < count ? first : count, last < count ? last : count};
}

/* What one thread does in a run. All threads come to the same numbers, and so to the same end. */
static integer_result run_thread(const step_work *shared, const size_t *order, size_t count, size_t batch, const float *steps, int level,
                                 int thread, int threads)
{
    step_work work = *shared;
    integer_model *model = work.model;
    const size_t lines = work.layout.lines, width = LINE * (size_t)work.layout.planes, blocks = lines * width / BLOCK;
    const size_t first_line = piece(lines, thread, threads), last_line = piece(lines, thread + 1, threads);
    const philox_keys keys = philox_schedule(model->seed);
    int8_t residual[2][SLAB_ROWS] ALIGNED64;
    int64_t dot[SLAB_ROWS];
    const uint8_t *row[SLAB_ROWS];
    slab_job job = {
        .rows = work.rows, .layout = work.layout, .model = work.planes, .dot = dot, .row = row, .image = work.image,
        .residual = {{residual[0], residual[1]}, model->residual_bits == 16 ? 2 : 1},
        .work = work.tiles + (size_t)thread * work.tile_bytes,
    };
    integer_result result = {0, 0, 1};
    float bias = model->bias;
    work.weights_most[thread].most = LARGEST[level](&work, first_line, last_line);
    barrier_wait(work.meet, threads);
    for (size_t done = 0, i = 0; done < count && result.finite; done += batch, i++) {
        const size_t now = count - done < batch ? count - done : batch, after = done + now;
        const size_t ahead = count - after < batch ? count - after : batch;
        const row_range mine = rows_of(work.slab, now, thread, threads), coming = rows_of(work.slab, ahead, thread, threads);
        const float most = largest_of(work.weights_most, threads);
        ROUND[level](&work, first_line, last_line, most > 0 ? most : 1, &keys);
        barrier_wait(work.meet, threads);
        const float base = bias + SUM_BLOCKS[level](work.block_base, blocks);
        const double noise = thread == 0 && model->noise ? (double)SUM_BLOCKS[level](work.block_noise, blocks) : 0;
        const float scale = (most > 0 ? most : 1) / (float)work.model_levels;
        for (size_t r = mine.first; r < mine.last; r += work.slab) {
            const size_t left = mine.last - r, number = r / work.slab;
            job.order = order + done + r;
            job.count = left < work.slab ? left : work.slab;
            for (size_t j = 0; j < (job.count + 15) / 16 * 16; j++)
                row[j] = work.rows->packed + job.order[j < job.count ? j : job.count - 1] * work.rows->shape.stride;
            const int more = left > work.slab;
            const size_t next = more ? left - work.slab : coming.last - coming.first;
            job.next = more ? job.order + work.slab : order + after + coming.first;
            job.next_count = next < work.slab ? next : work.slab;
            job.sums = work.sums + number * lines * width;
            products_dot(&job, level);
            RESIDUALS[level](&work, &job, r, base, scale, &keys, &work.slabs[number]);
            products_gradient(&job, level);
        }
        barrier_wait(work.meet, threads);
        const size_t slabs = (now + work.slab - 1) / work.slab;
        double value = 0, slope = 0, weight = 0;
        float rounded = 0;
        for (size_t s = 0; s < slabs; s++) {
            value += work.slabs[s].value;
            slope += work.slabs[s].slope;
            weight += work.slabs[s].weight;
            rounded += work.slabs[s].rounded;
        }
        const float largest = SUM[level](&work, first_line, last_line, slabs, rounded, 1.0f / (float)now);
        float gradient_most = 0;
        if (model->gradient_levels) {
            work.gradient_most[thread].most = largest;
            barrier_wait(work.meet, threads);
            gradient_most = largest_of(work.gradient_most, threads);
        }
        work.weights_most[thread].most = STEP[level](&work, first_line, last_line, gradient_most, steps[i], &keys);
        bias -= steps[i] * (float)(slope / (double)now);
        work.step_number++;
        barrier_wait(work.meet, threads);
        result.loss += value;
        result.noise += noise / 2 * weight;
        result.finite = isfinite(value) && isfinite(bias) && isfinite(largest_of(work.weights_most, threads));
    }
    if (thread == 0) {
        model->bias = bias;
        model->step_number = work.step_number;
    }
    return result;
}

integer_result integer_run(const integer_rows *rows, integer_model *model, const size_t *order, size_t count, size_t batch,
                           const float *steps, void *room, int level, int threads)
{
    step_work work = {
        .rows = rows, .model = model, .layout = products_layout(rows, level), .step_number = model->step_number,
        .model_levels = levels_of(model->model_bits), .residual_levels = levels_of(model->residual_bits),
        .planes = {.parts = model->model_bits == 16 ? 2 : 1}, .slab = integer_slab(&rows->shape, batch), .level = level,
    };
    const size_t most = count < batch ? count : batch;
    threads = threads_for(threads, most * rows->shape.features, (most + work.slab - 1) / work.slab);
    lay_out(&work, most, (size_t)threads, room);
    memset(work.meet, 0, sizeof *work.meet);
    products_image(rows, work.image, level);
    integer_result result = {0, 0, 1};
    if (threads == 1)
        return run_thread(&work, order, count, batch, steps, level, 0, 1);
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num();
        const integer_result own = run_thread(&work, order, count, batch, steps, level, thread, omp_get_num_threads());
        if (thread == 0)
            result = own;
    }
#endif
    return result;
}
