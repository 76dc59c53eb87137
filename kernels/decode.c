/* Packed codes to float32 means, to bytes, and to the k samples they stand for (formats/FORMAT.md, sections 1 to 3).
 * m(t) = low + t * step with the top code exact, or one look-up in the feature's table of 2^bits entries.
 * Samples: the ups are dealt to the k samples by fresh Philox words, a random permutation a value.
 * A task is one row: blocks of 64 codes are unpacked in registers or L1 and never go to memory as bytes.
 * By hand: the unpacking (see bits.h); the rest follows the encoder's shape so that both stay bit-identical at every level. */
#include "decode.h"
#include "philox.h"
#include "threads.h"

typedef struct {
    const decode_job *job;
    const code_values *values;
    const uint8_t *packed;
    size_t blocks, pitch; /* pitch: floats from sample to sample */
    uint64_t row;
    philox_keys keys;
    float *out;
    uint8_t *bytes;
} decode_task;

#define BODY "decode_body.h"
#include "each_level.h"

typedef void (*decode_fn)(const decode_task *);
typedef void (*pack_fn)(const code_shape *, const uint8_t *, uint8_t *);
static const decode_fn DECODE[LEVEL_COUNT] = FOR_LEVEL(decode_any), DRAW[LEVEL_COUNT] = FOR_LEVEL(draw_any);
static const pack_fn PACK[LEVEL_COUNT] = FOR_LEVEL(pack_any);

static decode_task task_of(const decode_job *job, const code_values *values)
{
    return (decode_task){.job = job, .values = values, .blocks = code_blocks(job->shape->features)};
}

void decode_rows(const decode_job *job, const code_values *values, float *out)
{
    const size_t features = job->shape->features;
    const int threads = threads_for(job->threads, job->rows * features, job->rows);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (size_t r = 0; r < job->rows; r++) {
        decode_task task = task_of(job, values);
        task.packed = job->packed + r * job->shape->stride;
        task.out = out + r * features;
        DECODE[job->level](&task);
    }
}

void unpack_rows(const decode_job *job, uint8_t *out)
{
    const size_t features = job->shape->features;
    const int threads = threads_for(job->threads, job->rows * features, job->rows);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (size_t r = 0; r < job->rows; r++) {
        decode_task task = task_of(job, NULL);
        task.packed = job->packed + r * job->shape->stride;
        task.bytes = out + r * features;
        DECODE[job->level](&task);
    }
}

void draw_rows(const decode_job *job, const code_values *values, uint64_t seed, uint64_t first_row, const uint64_t *rows, float *out)
{
    const size_t features = job->shape->features;
    const philox_keys keys = philox_schedule(seed);
    const int threads = threads_for(job->threads, job->rows * features * (size_t)job->shape->samples, job->rows);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (size_t r = 0; r < job->rows; r++) {
        decode_task task = task_of(job, values);
        task.packed = job->packed + r * job->shape->stride;
        task.out = out + r * features;
        task.pitch = job->rows * features;
        task.row = rows ? rows[r] : first_row + r;
        task.keys = keys;
        DRAW[job->level](&task);
    }
}

void pack_rows(const code_shape *shape, const uint8_t *codes, size_t rows, uint8_t *packed, int level, int threads)
{
    const size_t features = shape->features, used = (features * (size_t)shape->bits + 7) / 8;
    threads = threads_for(threads, rows * features, rows);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (size_t r = 0; r < rows; r++) {
        PACK[level](shape, codes + r * features, packed + r * shape->stride);
        memset(packed + r * shape->stride + used, 0, shape->stride - used);
    }
}
