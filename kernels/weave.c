/* MLWeaving's layout (Wang et al., VLDB 2019; docs/fpga.md): 32-bit values of 8 rows x 64 features as 32 lines, one a bit.
 * A line is 16 words: row s has words 2s and 2s + 1, of 32 features each. So a block is 16 transpositions of 32 x 32 bits side by side:
 * feature i is put into line 31 - i, then five rounds exchange halves of lines j apart, j = 16, 8, 4, 2, 1, in all 16 words alike. Line k
 * then has bit 31 - k of every value, feature i in bit i of its word. The rounds undo themselves, which is the way back.
 * By hand, but plain C: loops over 16 words are what compilers vectorise. A task is a group of 8 rows; a block stays in L1. */
#include "weave.h"
#include "team.h"
#include "threads.h"

#include <string.h>

#define WORDS 16
#define HALF 32

static void exchange(uint32_t (*lines)[WORDS], int j, uint32_t mask)
{
    for (int k = 0; k < WEAVE_PLANES; k = ((k | j) + 1) & ~j)
        for (int l = 0; l < WORDS; l++) {
            const uint32_t t = (lines[k][l] ^ (lines[k + j][l] >> j)) & mask;
            lines[k][l] ^= t;
            lines[k + j][l] ^= t << j;
        }
}

static void transpose(uint32_t (*lines)[WORDS])
{
    exchange(lines, 16, 0x0000ffff);
    exchange(lines, 8, 0x00ff00ff);
    exchange(lines, 4, 0x0f0f0f0f);
    exchange(lines, 2, 0x33333333);
    exchange(lines, 1, 0x55555555);
}

typedef struct {
    const weave_job *job;
    const float *x;
    uint32_t *lines;
    float *out;
} weave_all;

static size_t chunks_of(const weave_job *job) { return (job->stored + WEAVE_FEATURES - 1) / WEAVE_FEATURES; }

/* Values of `count` <= 32 features; 2^32 - 1 is a double, and so is every quotient's product with it before it is cut off. */
static void scale(uint32_t *values, const float *x, const double *low, const double *span, size_t count)
{
    double v[HALF];
    for (size_t i = 0; i < count; i++) {
        const double share = span[i] > 0 ? (x[i] - low[i]) / span[i] : 0;
        v[i] = (share < 0 ? 0 : share > 1 ? 1 : share) * 4294967295.0;
    }
    for (size_t i = 0; i < count; i++)
        values[i] = (uint32_t)(int64_t)v[i];
}

static void weave_group(void *all, size_t group)
{
    const weave_all *own = all;
    const weave_job *job = own->job;
    const size_t chunks = chunks_of(job), rest = job->rows - group * WEAVE_ROWS, rows = rest < WEAVE_ROWS ? rest : WEAVE_ROWS;
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        uint32_t (*lines)[WORDS] = (uint32_t (*)[WORDS])(own->lines + (group * chunks + chunk) * WEAVE_PLANES * WORDS);
        uint32_t values[HALF];
        if (rows < WEAVE_ROWS)
            memset(lines, 0, WEAVE_PLANES * sizeof *lines);
        for (size_t s = 0; s < rows; s++)
            for (size_t half = 0; half < 2; half++) {
                const size_t first = chunk * WEAVE_FEATURES + half * HALF;
                const size_t left = job->features > first ? job->features - first : 0, count = left < HALF ? left : HALF;
                memset(values, 0, sizeof values);
                if (count)
                    scale(values, own->x + (group * WEAVE_ROWS + s) * job->features + first, job->low + first, job->span + first, count);
                if (job->stored > job->features && count < HALF && job->features >= first)
                    values[count] = UINT32_MAX;
                for (size_t i = 0; i < HALF; i++)
                    lines[HALF - 1 - i][2 * s + half] = values[i];
            }
        transpose(lines);
    }
}

void weave(const weave_job *job, const float *x, uint32_t *lines)
{
    weave_all all = {.job = job, .x = x, .lines = lines};
    const size_t groups = (job->rows + WEAVE_ROWS - 1) / WEAVE_ROWS;
    team_each(threads_for(job->threads, job->rows * job->features, groups), weave_group, &all, groups);
}

static void unweave_group(void *all, size_t group)
{
    const weave_all *own = all;
    const weave_job *job = own->job;
    const size_t chunks = chunks_of(job), rest = job->rows - group * WEAVE_ROWS, rows = rest < WEAVE_ROWS ? rest : WEAVE_ROWS;
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        uint32_t lines[WEAVE_PLANES][WORDS];
        memcpy(lines, own->lines + (group * chunks + chunk) * WEAVE_PLANES * WORDS, sizeof lines);
        transpose(lines);
        for (size_t s = 0; s < rows; s++)
            for (size_t i = 0, f = chunk * WEAVE_FEATURES; i < WEAVE_FEATURES && f < job->features; i++, f++) {
                const double share = lines[HALF - 1 - i % HALF][2 * s + i / HALF] / 4294967295.0;
                own->out[(group * WEAVE_ROWS + s) * job->features + f] = (float)(job->low[f] + share * job->span[f]);
            }
    }
}

void unweave(const weave_job *job, const uint32_t *lines, float *x)
{
    weave_all all = {.job = job, .lines = (uint32_t *)lines, .out = x};
    const size_t groups = (job->rows + WEAVE_ROWS - 1) / WEAVE_ROWS;
    team_each(threads_for(job->threads, job->rows * job->features, groups), unweave_group, &all, groups);
}
