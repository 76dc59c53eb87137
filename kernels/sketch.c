/* One scan of columns into cells that suit bulk and tails alike: what levels are chosen from (levels.md, histogram).
 * d = (a - pivot) * scale, key = bits(1 + |d|) - bits(1), ones' complement where d < 0: an integer that is linear in a
 * near the pivot, |d| < 1, and logarithmic beyond, with as many keys in each octave of 1 + |d|: no outlier coarsens the bulk.
 * A cell is 2^shift keys, aligned; as the range grows cells merge in pairs, exactly. A cell never straddles an octave
 * while shift <= 23, so that its keys' mean is its values' mean. Rows of 16 columns are turned into columns first; one column is
 * counted after the other, while the next one's cells are on their way into the cache. gcc vectorises the keys. */
#include "sketch.h"
#include "bits.h"
#include "team.h"
#include "threads.h"

#include <math.h>

#define ONE 0x3f800000
#define STRIP 16 /* columns that are counted together: their cells stay in the second-level cache */
#define AHEAD 8   /* rows */
#define TILE 2048 /* rows */
#define PART 32   /* rows, for which a share of the next column's cells is asked for from memory */
#define PITCH (TILE + PART) /* no multiple of 4 KiB: columns keep out of one cache set; and the last part may be read whole */
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

ALWAYS_INLINE int32_t key_of(float a, float pivot, float scale)
{
    const float d = (a - pivot) * scale + 0.0f, y = fabsf(d) + 1.0f; /* + 0: no -0, whose key would be -1 */
    int32_t sign, bits;
    memcpy(&sign, &d, sizeof sign);
    memcpy(&bits, &y, sizeof bits);
    return (bits - ONE) ^ (sign >> 31);
}

#define BODY "sketch_body.h"
#include "each_level.h"

typedef void (*strip_fn)(const float *, size_t, size_t, size_t, const sketch_grid *, sketch_cell *, float *);
static const strip_fn STRIPS[LEVEL_COUNT] = FOR_LEVEL(sketch_strip);

typedef struct {
    const scan_job *job;
    const sketch_grid *grid;
    sketch_cell *cells;
    size_t blocks, parts;
} sketch_all;

static void sketch_part(void *all, size_t task)
{
    const sketch_all *own = all;
    const scan_job *job = own->job;
    const sketch_grid *grid = own->grid;
    const size_t part = task / own->blocks, first = task % own->blocks * BLOCK, n = job->features;
    const size_t width = n - first < BLOCK ? n - first : BLOCK, from = job->rows * part / own->parts;
    float pivot[BLOCK] = {0}, scale[BLOCK] = {0};
    int32_t start[BLOCK] = {0}, shift[BLOCK] = {0};
    memcpy(pivot, grid->pivot + first, width * sizeof *pivot);
    memcpy(scale, grid->scale + first, width * sizeof *scale);
    memcpy(start, grid->first + first, width * sizeof *start);
    memcpy(shift, grid->shift + first, width * sizeof *shift);
    static _Thread_local float tile[STRIP * PITCH] ALIGNED64;
    const size_t end = job->rows * (part + 1) / own->parts;
    for (size_t f = 0; f < width; f += STRIP) {
        const sketch_grid these = {pivot + f, scale + f, start + f, shift + f, grid->cells, grid->room, grid->copy};
        for (size_t r = from; r < end; r += TILE)
            STRIPS[job->level](job->x + r * job->pitch + first + f, job->pitch, end - r < TILE ? end - r : TILE,
                               width - f < STRIP ? width - f : STRIP, &these, own->cells + part * grid->copy + (first + f) * grid->room, tile);
    }
}

void sketch_rows(const scan_job *job, const sketch_grid *grid, sketch_cell *cells, int copies)
{
    sketch_all all = {job, grid, cells, (job->features + BLOCK - 1) / BLOCK, (size_t)copies};
    const size_t tasks = all.blocks * all.parts;
    team_each(threads_for(job->threads, job->rows * job->features, tasks), sketch_part, &all, tasks);
}

void sketch_keys(const float *values, const float *pivot, const float *scale, size_t n, int32_t *keys)
{
    for (size_t f = 0; f < n; f++)
        keys[f] = key_of(values[f], pivot[f], scale[f]);
}

void sketch_regroup(sketch_cell *cells, sketch_cell *spare, size_t count, int32_t first, int shift, int32_t to_first, int to_shift)
{
    const int merged = to_shift - shift;
    memcpy(spare, cells, count * sizeof *cells);
    memset(cells, 0, count * sizeof *cells);
    for (size_t i = 0; i < count; i++) {
        const sketch_cell *from = spare + i;
        if (!from->count)
            continue;
        const int64_t own = (int64_t)i + first, at = (own >> merged) - to_first, last = (int64_t)count - 1;
        const uint32_t start = (uint32_t)(own & (((int64_t)1 << merged) - 1)) << shift, top = from->top + start;
        const uint32_t bottom = from->bottom - start; /* ~(place + start) */
        sketch_cell *to = cells + (at < 0 ? 0 : at > last ? last : at);
        to->count += from->count;
        to->offsets += from->offsets + from->count * start;
        to->top = top > to->top ? top : to->top;
        to->bottom = bottom > to->bottom ? bottom : to->bottom;
    }
}
