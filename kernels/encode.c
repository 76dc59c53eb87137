/* Stochastic rounding of float32 rows to packed codes (formats/FORMAT.md, sections 1 to 3; ZipML section 2.1).
 * 16 rows at a time, block by block of 64 features: levels, and what Philox makes of a block's number, serve all of them from L1, and
 * the next strip is asked for meanwhile: rows are too far apart for the hardware's prefetchers. 16 counters make 64 words.
 * Rounding: T = trunc(p * 2^R), up where a random R-bit integer is below T: integer compares, alike at every level.
 * By hand: a generic loop spends three times as long (see simd.h); half of this one is Philox's multiplications.
 * Noise is summed per feature over 64 rows in row order, so the sums do not depend on threads or vector level. */
#include "encode.h"
#include "philox.h"
#include "team.h"
#include "threads.h"

#include <stdatomic.h>

#define STRIP 16 /* rows of a block before the next block */
#define SPAN 16 /* blocks of a task */

typedef struct {
    const code_shape *shape;
    const code_levels *levels;
    const float *x;
    size_t pitch, rows, block, width, bytes; /* width: features of this block; bytes: their packed size in a row */
    uint64_t row;                            /* number of the first row */
    int nearest, random_bits;
    philox_keys keys;
    uint8_t *out;
    float *noise, *error; /* [64] each: sums of the group so far; noise may be NULL */
} encode_task;

#define BODY "encode_body.h"
#include "each_level.h"

typedef int (*encode_fn)(const encode_task *);
static const encode_fn ENCODE[LEVEL_COUNT] = FOR_LEVEL(encode_any);

/* One group of rows and a span of neighbouring blocks. */
static int encode_group(encode_task task, const encode_job *job, size_t group, size_t first_block, size_t last_block)
{
    const size_t start = group * GROUP, end = job->rows - start < GROUP ? job->rows : start + GROUP, features = task.shape->features;
    float sums[2][SPAN * BLOCK] ALIGNED64;
    int outside = 0;
    memset(sums, 0, sizeof sums);
    for (size_t row = start; row < end; row += task.rows) {
        task.row = job->first_row + row;
        task.rows = end - row < STRIP ? end - row : STRIP;
        if (-(uint32_t)task.row && -(uint32_t)task.row < task.rows)
            task.rows = -(uint32_t)task.row; /* the upper half of the number is the same in all rows */
        for (size_t block = first_block; block < last_block; block++) {
            task.block = block;
            task.width = block_width(task.shape, block);
            task.bytes = block_bytes(task.shape, block);
            task.x = job->x + row * task.pitch + block * BLOCK;
            task.out = job->out + row * task.shape->stride + block_start(task.shape, block);
            task.noise = job->noise ? sums[0] + (block - first_block) * BLOCK : NULL;
            task.error = sums[1] + (block - first_block) * BLOCK;
            outside |= ENCODE[job->level](&task);
        }
    }
    if (job->noise) {
        const size_t from = first_block * BLOCK, count = (last_block * BLOCK < features ? last_block * BLOCK : features) - from;
        memcpy(job->noise + group * features + from, sums[0], count * sizeof(float));
        memcpy(job->error + group * features + from, sums[1], count * sizeof(float));
    }
    const size_t used = (features * (size_t)task.shape->bits + 7) / 8;
    if (last_block * BLOCK >= features && task.shape->stride > used)
        for (size_t row = start; row < end; row++)
            memset(job->out + row * task.shape->stride + used, 0, task.shape->stride - used);
    return outside;
}

typedef struct {
    const encode_task *task;
    const encode_job *job;
    size_t blocks, spans;
    atomic_int outside;
} encode_all;

static void encode_part(void *all, size_t part)
{
    encode_all *own = all;
    const size_t first = part % own->spans * SPAN, last = first + SPAN < own->blocks ? first + SPAN : own->blocks;
    if (encode_group(*own->task, own->job, part / own->spans, first, last))
        atomic_store(&own->outside, 1);
}

int encode_rows(const code_shape *shape, const code_levels *levels, const encode_job *job)
{
    const size_t blocks = code_blocks(shape->features), spans = (blocks + SPAN - 1) / SPAN;
    const size_t groups = (job->rows + GROUP - 1) / GROUP, tasks = spans * groups;
    const encode_task task = {
        .shape = shape, .levels = levels, .pitch = job->pitch, .nearest = job->nearest,
        .random_bits = shape->bits <= 4 && shape->samples >= 2 ? 16 : 24, .keys = philox_schedule(job->seed),
    };
    encode_all all = {.task = &task, .job = job, .blocks = blocks, .spans = spans};
    team_each(threads_for(job->threads, job->rows * shape->features, tasks), encode_part, &all, tasks);
    return atomic_load(&all.outside);
}
