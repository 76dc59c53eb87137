/* Packed codes to float32 means, to bytes, and to the k samples they stand for (formats/FORMAT.md, sections 1 to 3).
 * m(t) = low + t * step with the top code exact, or one look-up in the feature's table of 2^bits entries.
 * Samples: the ups are dealt to the k samples by fresh Philox words, a random permutation a value.
 * A task is one row: blocks of 64 codes are unpacked in registers or L1 and never go to memory as bytes.
 * By hand: the unpacking (see bits.h); the rest follows the encoder's shape so that both stay bit-identical at every level. */
#include "decode.h"
#include "philox.h"
#include "team.h"
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

typedef struct {
    decode_task task; /* what all rows have alike */
    float *out;
    uint8_t *bytes;
    uint64_t first_row;
    const uint64_t *rows;
} rows_all;

static decode_task row_task(const rows_all *all, size_t r)
{
    decode_task task = all->task;
    task.packed = task.job->packed + r * task.job->shape->stride;
    return task;
}

static void decode_row(void *all, size_t r)
{
    const rows_all *own = all;
    decode_task task = row_task(own, r);
    task.out = own->out + r * task.job->shape->features;
    DECODE[task.job->level](&task);
}

static void unpack_row(void *all, size_t r)
{
    const rows_all *own = all;
    decode_task task = row_task(own, r);
    task.bytes = own->bytes + r * task.job->shape->features;
    DECODE[task.job->level](&task);
}

static void draw_row(void *all, size_t r)
{
    const rows_all *own = all;
    decode_task task = row_task(own, r);
    task.out = own->out + r * task.job->shape->features;
    task.row = own->rows ? own->rows[r] : own->first_row + r;
    DRAW[task.job->level](&task);
}

void decode_rows(const decode_job *job, const code_values *values, float *out)
{
    rows_all all = {.task = task_of(job, values), .out = out};
    team_each(threads_for(job->threads, job->rows * job->shape->features, job->rows), decode_row, &all, job->rows);
}

void unpack_rows(const decode_job *job, uint8_t *out)
{
    rows_all all = {.task = task_of(job, NULL), .bytes = out};
    team_each(threads_for(job->threads, job->rows * job->shape->features, job->rows), unpack_row, &all, job->rows);
}

void draw_rows(const decode_job *job, const code_values *values, uint64_t seed, uint64_t first_row, const uint64_t *rows, float *out)
{
    const size_t drawn = job->rows * job->shape->features * (size_t)job->shape->samples;
    rows_all all = {.task = task_of(job, values), .out = out, .first_row = first_row, .rows = rows};
    all.task.pitch = job->rows * job->shape->features;
    all.task.keys = philox_schedule(seed);
    team_each(threads_for(job->threads, drawn, job->rows), draw_row, &all, job->rows);
}

typedef struct {
    const code_shape *shape;
    const uint8_t *codes;
    uint8_t *packed;
    int level;
} pack_all;

static void pack_row(void *all, size_t r)
{
    const pack_all *own = all;
    const code_shape *shape = own->shape;
    const size_t used = (shape->features * (size_t)shape->bits + 7) / 8;
    uint8_t *packed = own->packed + r * shape->stride;
    PACK[own->level](shape, own->codes + r * shape->features, packed);
    memset(packed + used, 0, shape->stride - used);
}

void pack_rows(const code_shape *shape, const uint8_t *codes, size_t rows, uint8_t *packed, int level, int threads)
{
    pack_all all = {shape, codes, packed, level};
    team_each(threads_for(threads, rows * shape->features, rows), pack_row, &all, rows);
}
