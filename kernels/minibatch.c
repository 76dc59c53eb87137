/* Mini-batch SGD for a loss of z = bias + x . row, rows decoded inside the cache (design: unbiased gradients).
 * Gradient of a batch: mean of e * m(t), plus (strength - c D) x (diagonal), or plus c(t) x (collapsed); double-sampling
 * takes the dot product on one drawn sample and the gradient on another (ZipML, section 2.2).
 * A batch is cut into PARTS slices whatever the threads are, and their sums are added in order: same floats for any count.
 * A tile of up to 16 decoded rows serves dot product and gradient from L1/L2; packed rows are read from memory once. */
#include "minibatch.h"
#include "philox.h"
#include "team.h"
#include "threads.h"

#include <float.h>
#include <math.h>

#define PARTS 8
#define TILE_ROWS 16 /* one vector of predictions */
#define TILE_FLOATS 65536
#define TEAM_VALUES ((size_t)1 << 17) /* below, not even waking threads is worth it */

typedef struct {
    const size_t *order; /* rows of this part, or NULL: first, first + 1, ... */
    size_t first, count, tile_rows;
    int loss;
    float *tile, *residual, *gradient, *extra; /* gradient NULL: only predictions, into residual */
    double *lost;                              /* a row each */
} sgd_part_job;

#define BODY "minibatch_body.h"
#include "each_level.h"

typedef void (*part_fn)(const sgd_rows *, const float *, float, const sgd_part_job *);
typedef void (*row_fn)(const sgd_rows *, size_t, float *);
typedef void (*step_fn)(const sgd_model *, size_t, float);
static const part_fn PART[LEVEL_COUNT] = FOR_LEVEL(sgd_part);
static const row_fn ROW[LEVEL_COUNT] = FOR_LEVEL(sgd_row);
static const step_fn STEP[LEVEL_COUNT] = FOR_LEVEL(sgd_step);

static size_t tile_rows(size_t padded)
{
    const size_t rows = TILE_FLOATS / padded;
    return rows < 1 ? 1 : rows > TILE_ROWS ? TILE_ROWS : rows;
}

/* Room of one part: two tiles (double-sampling), gradient, extra. */
static size_t part_room(size_t padded) { return (2 * tile_rows(padded) + 2) * padded; }

/* Parts, then a double and a float for each row of the batch. */
size_t sgd_room(size_t features, size_t batch) { return PARTS * part_room(code_blocks(features) * BLOCK) + 3 * batch; }

/* One job of the team: `count` rows in PARTS parts. */
typedef struct {
    const sgd_rows *rows;
    const float *weights;
    float bias;
    const size_t *order;
    size_t first, count;
    int learn, loss, level;
    float *out, *room;
    double *lost;
} parts_job;

static void run_part(void *of, size_t p)
{
    const parts_job *job = of;
    const size_t padded = code_blocks(job->rows->shape.features) * BLOCK, count = job->count, each = (count + PARTS - 1) / PARTS;
    const size_t from = p * each < count ? p * each : count, to = from + each < count ? from + each : count;
    float *own = job->room + p * part_room(padded);
    sgd_part_job part = {
        .order = job->order ? job->order + from : NULL, .first = job->first + from, .count = to - from, .tile_rows = tile_rows(padded),
        .loss = job->loss, .lost = job->learn ? job->lost + from : NULL,
        .gradient = job->learn ? own : NULL, .extra = own + padded, .tile = own + 2 * padded, .residual = job->out + from,
    };
    memset(own, 0, (job->learn ? 2 : 0) * padded * sizeof *own);
    PART[job->level](job->rows, job->weights, job->bias, &part);
}

/* A team for jobs of up to `batch` rows, `count` in all; none where jobs, or the whole, are not worth it. */
static team *team_for(size_t padded, size_t count, size_t batch, int threads)
{
    return count * padded < TEAM_VALUES ? NULL : team_start(threads_for(threads, (batch < count ? batch : count) * padded, PARTS));
}

void quantize_vector(const float *v, size_t n, int levels, float scale, uint64_t seed, uint64_t number, float *out)
{
    const philox_keys keys = philox_schedule(seed);
    for (size_t f = 0; f < n; f++) {
        uint32_t c[4] = {(uint32_t)(16 * (f / BLOCK) + f % 16), (uint32_t)number, (uint32_t)(number >> 32), (uint32_t)PURPOSE_MODEL << 16};
        philox_one(c, &keys);
        const float chance = (float)(c[f % BLOCK / 16] >> 8) * 0x1p-24f, at = scale > 0 ? fabsf(v[f]) / scale * (float)levels : 0;
        const float below = floorf(at), code = below + (chance < at - below ? 1.0f : 0.0f);
        out[f] = copysignf(code * (scale / (float)levels), v[f]);
    }
}

static float largest(const float *v, size_t n)
{
    float most = 0;
    for (size_t f = 0; f < n; f++)
        most = fabsf(v[f]) > most ? fabsf(v[f]) : most;
    return most;
}

/* Other losses than the squared one may be finite, 0 even, at a prediction that is not. */
static int all_finite(const float *v, size_t n)
{
    int finite = 1;
    for (size_t f = 0; f < n; f++)
        finite &= fabsf(v[f]) <= FLT_MAX;
    return finite;
}

/* A step against the gradient, with the parts' sums added in order. */
static void step_model(sgd_model *model, const float *room, size_t count, size_t features, float step, float mean_residual, int level)
{
    const size_t padded = code_blocks(features) * BLOCK, pitch = part_room(padded);
    const float share = 1.0f / (float)count;
    const float *x = model->rounded;
    for (size_t f = 0; f < features; f++) {
        float sum = 0, extra = 0;
        for (size_t p = 0; p < PARTS; p++) {
            sum += room[p * pitch + f];
            extra += room[p * pitch + padded + f];
        }
        model->gradient[f] = (sum + extra * x[f]) * share + model->curvature[f] * x[f];
    }
    if (model->gradient_levels)
        quantize_vector(model->gradient, features, model->gradient_levels, largest(model->gradient, features), model->model_seed,
                        2 * model->step_number + 1, model->gradient);
    STEP[level](model, padded, step);
    model->bias -= step * mean_residual;
    model->step_number++;
}

sgd_result sgd_run(const sgd_rows *rows, sgd_model *model, const size_t *order, size_t count, size_t batch, const float *steps,
                   float *room, int level, int threads)
{
    const size_t features = rows->shape.features, padded = code_blocks(features) * BLOCK;
    double *lost = (double *)(room + PARTS * part_room(padded));
    float *residual = (float *)(lost + batch);
    sgd_result result = {0, 0, 1};
    team *helpers = team_for(padded, count, batch, threads);
    for (size_t done = 0, i = 0; done < count && result.finite; done += batch, i++) {
        const size_t now = count - done < batch ? count - done : batch;
        if (model->model_levels)
            quantize_vector(model->weights, features, model->model_levels, largest(model->weights, features), model->model_seed,
                            2 * model->step_number, model->rounded);
        else
            memcpy(model->rounded, model->weights, padded * sizeof(float));
        parts_job job = {rows, model->rounded, model->bias, order + done, 0, now, 1, model->loss, level, residual, room, lost};
        team_run(helpers, run_part, &job, PARTS);
        double value = 0, sum = 0, noise = 0, weight = 0;
        for (size_t r = 0; r < now; r++) {
            value += lost[r];
            sum += residual[r];
            weight += row_weight(rows->row_weights, order[done + r]);
        }
        if (model->noise)
            for (size_t f = 0; f < features; f++)
                noise += (double)model->noise[f] * (double)model->rounded[f] * (double)model->rounded[f];
        result.loss += value;
        result.noise += noise / 2 * weight;
        result.finite = isfinite(value) && isfinite(model->bias) && all_finite(model->rounded, features);
        step_model(model, room, now, features, steps[i], (float)(sum / (double)now), level);
    }
    team_stop(helpers);
    return result;
}

void sgd_predict(const sgd_rows *rows, const float *weights, float bias, const size_t *order, size_t count, float *out, float *room,
                 int level, int threads)
{
    const size_t slice = 4096;
    team *helpers = team_for(code_blocks(rows->shape.features) * BLOCK, count, slice, threads);
    for (size_t done = 0; done < count; done += slice) {
        const size_t now = count - done < slice ? count - done : slice;
        parts_job job = {rows, weights, bias, order ? order + done : NULL, done, now, 0, LOSS_SQUARED, level, out + done, room, NULL};
        team_run(helpers, run_part, &job, PARTS);
    }
    team_stop(helpers);
}

typedef struct {
    const sgd_rows *rows;
    float *out;
    size_t padded;
    int level;
} values_all;

static void values_row(void *all, size_t r)
{
    const values_all *own = all;
    ROW[own->level](own->rows, r, own->out + r * own->padded);
}

void sgd_values(const sgd_rows *rows, size_t count, float *out, int level, int threads)
{
    values_all all = {rows, out, code_blocks(rows->shape.features) * BLOCK, level};
    team_each(threads_for(threads, count * all.padded, count), values_row, &all, count);
}
