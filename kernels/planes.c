/* Packed rows to bit planes and back: eight neighbouring codes are b bytes of a packed row, and a byte of each of b planes.
 * Unweaving knows no rows: 64 bytes of each plane become 64 * b packed bytes. Where rows are as long as that makes them, they
 * are written in place; else pieces go through a buffer in L1, from which rows are copied, whatever the number of features.
 * Bytes of the planes are interleaved, then three exchanges of bits transpose each group of eight codes (planes_body.h).
 * By hand: the steps are those of bits.h turned around, and compilers find neither the interleaving nor the exchanges. */
#include "planes.h"
#include "codes.h"
#include "team.h"
#include "threads.h"

#define STRIP 16384 /* bytes of a plane that are a task */
#define PIECE 2048  /* bytes of a plane that go through the buffer at once */

#define BODY "planes_body.h"
#include "each_level.h"

typedef void (*weave_fn)(const code_shape *, const uint8_t *, size_t, uint8_t *, size_t, size_t);
typedef void (*unweave_fn)(const uint8_t *, size_t, size_t, int, uint8_t *);
static const weave_fn WEAVE[LEVEL_COUNT] = FOR_LEVEL(weave_any);
static const unweave_fn UNWEAVE[LEVEL_COUNT] = FOR_LEVEL(unweave_any);

typedef struct {
    const planes_job *job;
    const uint8_t *from;
    const int64_t *offsets, *counts, *starts;
    size_t rows, strip, strips; /* rows of a chunk at most, and of a task; tasks of a chunk */
    uint8_t *to;
} planes_all;

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static void weave_strip(void *all, size_t strip)
{
    const planes_all *own = all;
    const planes_job *job = own->job;
    const code_shape shape = {job->features, job->stride, job->bits, 1, (1 << job->bits) - 1};
    const size_t first = strip * own->strip;
    WEAVE[job->level](&shape, own->from + first * job->stride, least(own->strip, own->rows - first),
                      own->to + first * job->pitch, job->pitch, job->apart * job->pitch);
}

static void unweave_through(const planes_job *job, const uint8_t *from, size_t rows, uint8_t *to)
{
    const size_t bits = (size_t)job->bits, used = (job->features * bits + 7) / 8, pitch = job->pitch;
    const size_t many = pitch > PIECE ? 1 : PIECE / pitch;
    uint8_t piece[8 * PIECE] ALIGNED64;
    for (size_t row = 0; row < rows; row += many)
        for (size_t at = 0, count = least(many, rows - row); at < pitch && at * bits < used; at += PIECE) {
            const size_t width = least(PIECE, pitch - at), bytes = least(width * bits, used - at * bits);
            const size_t run = count == 1 ? width : count * pitch;
            UNWEAVE[job->level](from + row * pitch + at, job->apart * pitch, run, job->bits, piece);
            for (size_t r = 0; r < count; r++)
                memcpy(to + (row + r) * job->stride + at * bits, piece + r * pitch * bits, bytes);
        }
    for (size_t row = 0; row < rows && used < job->stride; row++)
        memset(to + row * job->stride + used, 0, job->stride - used);
}

static void unweave_strip(void *all, size_t task)
{
    const planes_all *own = all;
    const planes_job *job = own->job;
    const size_t chunk = task / own->strips, first = task % own->strips * own->strip, count = (size_t)own->counts[chunk];
    if (first >= count)
        return;
    const size_t rows = least(own->strip, count - first);
    const uint8_t *from = own->from + own->offsets[chunk] + first * job->pitch;
    uint8_t *to = own->to + ((size_t)own->starts[chunk] + first) * job->stride;
    if (job->stride == job->pitch * (size_t)job->bits)
        UNWEAVE[job->level](from, job->apart * job->pitch, rows * job->pitch, job->bits, to);
    else
        unweave_through(job, from, rows, to);
    if (job->dither) /* while the rows are in the cache */
        dither_rows(job->dither, to, job->stride, job->numbers[chunk] + first, rows);
}

static void run(planes_all *all, size_t chunks, team_task task)
{
    const planes_job *job = all->job;
    all->strip = job->pitch > STRIP ? 1 : STRIP / job->pitch;
    all->strips = (all->rows + all->strip - 1) / all->strip;
    const size_t bytes = chunks * all->rows * job->pitch * (size_t)job->bits;
    team_each(threads_for(job->threads, bytes, chunks * all->strips), task, all, chunks * all->strips);
}

void planes_weave(const planes_job *job, const uint8_t *packed, size_t rows, uint8_t *planes)
{
    planes_all all = {.job = job, .from = packed, .rows = rows, .to = planes};
    run(&all, 1, weave_strip);
}

void planes_unweave(const planes_job *job, const uint8_t *planes, const int64_t *offsets, const int64_t *counts,
                    const int64_t *starts, size_t chunks, uint8_t *packed)
{
    planes_all all = {.job = job, .from = planes, .offsets = offsets, .counts = counts, .starts = starts, .to = packed};
    for (size_t i = 0; i < chunks; i++)
        all.rows = (size_t)counts[i] > all.rows ? (size_t)counts[i] : all.rows;
    run(&all, chunks, unweave_strip);
}
