/* Rows of the images that ZipML's FPGA designs read, harp and pynq (docs/fpga.md), from packed codes, and back.
 * A feature is a field of Q bits, or of 2Q, the first sample in the low ones: level - offset modulo 2^Q, a row's fields LSB first.
 * The ups of a code are dealt to its samples as FORMAT.md's section 2 (draw) has it; the last sample gets what is left, without a word.
 * A task is a row: 64 codes are unpacked, dealt and packed in registers and L1; fields of 16 bits are two bytes, the others divide a byte.
 * By hand: the whole of it takes about as long as Philox, which no pass over bytes in NumPy comes near. */
#include "image_rows.h"
#include "team.h"
#include "threads.h"

#include <stdatomic.h>

typedef struct {
    const image_shape *shape;
    const image_job *job;
    const uint8_t *packed, *image;
    uint64_t row;
    uint8_t *out;
    int top;
} image_task;

#define BODY "image_rows_body.h"
#include "each_level.h"

typedef int (*image_fn)(const image_task *);
static const image_fn FILL[LEVEL_COUNT] = FOR_LEVEL(fill_any), READ[LEVEL_COUNT] = FOR_LEVEL(read_any);

/* Field number `feature` of a row whose fields are still zeros. */
static void put_field(const image_shape *shape, uint8_t *row, size_t feature, uint32_t field)
{
    const size_t bit = feature * (size_t)(shape->width << shape->pairs);
    row[bit / 8] |= (uint8_t)(field << bit % 8);
    if (shape->width << shape->pairs == 16)
        row[bit / 8 + 1] = (uint8_t)(field >> 8);
}

static void fill_row(void *all, size_t r)
{
    const image_job *job = all;
    const image_shape *shape = job->shape;
    uint8_t *row = job->out + r * shape->row_bytes;
    const image_task task = {.shape = shape, .job = job, .packed = job->packed + r * job->stride, .row = job->first_row + r, .out = row};
    memset(row, 0, shape->row_bytes);
    FILL[job->level](&task);
    if (shape->bias) { /* of value 1, whatever the data's own top */
        const uint32_t one = (uint32_t)((1 << shape->width >> 1) - shape->offset);
        put_field(shape, row, shape->features, shape->pairs ? one | one << shape->width : one);
    }
    if (job->labels)
        memcpy(row + shape->label, job->labels + r, 4);
}

void image_fill(const image_job *job)
{
    team_each(threads_for(job->threads, job->shape->rows * job->shape->features, job->shape->rows), fill_row, (void *)job, job->shape->rows);
}

typedef struct {
    const image_shape *shape;
    const uint8_t *image;
    uint8_t *levels;
    int top, level;
    atomic_int above;
} read_all;

static void read_row(void *all, size_t r)
{
    read_all *own = all;
    const image_shape *shape = own->shape;
    const image_task task = {
        .shape = shape, .image = own->image + r * shape->row_bytes, .out = own->levels + r * shape->features, .top = own->top};
    if (READ[own->level](&task))
        atomic_store_explicit(&own->above, 1, memory_order_relaxed);
}

int image_read(const image_shape *shape, const uint8_t *image, int top, uint8_t *levels, int level, int threads)
{
    read_all all = {.shape = shape, .image = image, .levels = levels, .top = top, .level = level};
    team_each(threads_for(threads, shape->rows * shape->features, shape->rows), read_row, &all, shape->rows);
    return atomic_load(&all.above);
}
