/* Packed codes to float32 means, to bytes, and to the k samples they stand for (formats/FORMAT.md, sections 1 to 3).
 * m(t) = low + t * step with the top code exact, or one look-up in the feature's table of 2^bits entries.
 * Samples: the ups are dealt to the k samples by fresh Philox words, a random permutation a value.
 * A task is one row: blocks of 64 codes are unpacked in registers or L1 and never go to memory as bytes. Or a task is a strip of rows:
 * tables of up to 16 codes are looked up for 16 features at once: of 16 vectors in registers, each bit of the code leaves half.
 * By hand: the unpacking (see bits.h); the rest follows the encoder's shape so that both stay bit-identical at every level. */
#include "decode.h"
#include "philox.h"
#include "team.h"
#include "threads.h"

#define STRIP 8 /* rows that share a look into the tables; lines of 16 rows of 4 KB would push each other out of L1 */

typedef struct {
    const decode_job *job;
    const code_values *values;
    const uint8_t *packed;
    size_t rows, blocks, pitch; /* pitch: floats from sample to sample */
    uint64_t row;
    philox_keys keys;
    float *out;
    uint8_t *bytes;
} decode_task;

#define BODY "decode_body.h"
#include "each_level.h"

typedef void (*decode_fn)(const decode_task *);
typedef void (*look_up_fn)(const decode_task *, size_t, size_t);
typedef void (*pack_fn)(const code_shape *, const uint8_t *, uint8_t *);
static const decode_fn DECODE[LEVEL_COUNT] = FOR_LEVEL(decode_any), DRAW[LEVEL_COUNT] = FOR_LEVEL(draw_any);
static const look_up_fn LOOK_UP[LEVEL_COUNT] = FOR_LEVEL(look_up_any);
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

static void decode_strip(void *all, size_t strip)
{
    const rows_all *own = all;
    const size_t first = strip * STRIP, rest = own->task.job->rows - first, features = own->task.job->shape->features;
    float padded[STRIP][BLOCK] ALIGNED64, *out = own->out + first * features;
    decode_task task = row_task(own, first);
    task.rows = rest < STRIP ? rest : STRIP;
    for (size_t block = 0; block < task.blocks; block++) {
        const size_t width = block_width(task.job->shape, block);
        task.out = width == BLOCK ? out + block * BLOCK : padded[0];
        LOOK_UP[task.job->level](&task, block, width == BLOCK ? features : BLOCK);
        for (size_t r = 0; r < task.rows && width < BLOCK; r++)
            memcpy(out + r * features + block * BLOCK, padded[r], width * sizeof(float));
    }
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
    const size_t tasks = values->blocked ? (job->rows + STRIP - 1) / STRIP : job->rows;
    const team_task work = values->blocked ? decode_strip : decode_row;
    team_each(threads_for(job->threads, job->rows * job->shape->features, tasks), work, &all, tasks);
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
