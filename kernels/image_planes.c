/* MLWeaving's layout (Wang et al., VLDB 2019; docs/fpga.md): 32-bit values of 8 rows x 64 features as 32 lines, one a bit.
 * A line is 16 words: row s has words 2s and 2s + 1, of 32 features each. So a block is 16 transpositions of 32 x 32 bits side by side:
 * feature i is put into line 31 - i, then five rounds exchange halves of lines j apart, j = 16, 8, 4, 2, 1, in all 16 words alike. Line k
 * then has bit 31 - k of every value, feature i in bit i of its word. The rounds undo themselves, which is the way back.
 * By hand for the 16 words; the scaling is float64 that compilers vectorise. A task is a group of 8 rows; a block stays in L1. */
#include "image_planes.h"
#include "simd.h"
#include "team.h"
#include "threads.h"

#define WORDS 16
#define HALF 32

typedef struct {
    const weave_job *job;
    const float *x;
    uint32_t *lines;
    float *out;
} weave_all;

static size_t chunks_of(const weave_job *job) { return (job->stored + WEAVE_FEATURES - 1) / WEAVE_FEATURES; }

static size_t rows_of(const weave_job *job, size_t group)
{
    const size_t rest = job->rows - group * WEAVE_ROWS;
    return rest < WEAVE_ROWS ? rest : WEAVE_ROWS;
}

#define BODY "image_planes_body.h"
#include "each_level.h"

typedef void (*weave_fn)(const weave_all *, size_t);
static const weave_fn WEAVE[LEVEL_COUNT] = FOR_LEVEL(weave_any), UNWEAVE[LEVEL_COUNT] = FOR_LEVEL(unweave_any);

static void weave_group(void *all, size_t group) { WEAVE[((const weave_all *)all)->job->level](all, group); }
static void unweave_group(void *all, size_t group) { UNWEAVE[((const weave_all *)all)->job->level](all, group); }

static void each_group(const weave_job *job, team_task task, weave_all *all)
{
    const size_t groups = (job->rows + WEAVE_ROWS - 1) / WEAVE_ROWS;
    team_each(threads_for(job->threads, job->rows * job->features, groups), task, all, groups);
}

void weave(const weave_job *job, const float *x, uint32_t *lines)
{
    weave_all all = {.job = job, .x = x, .lines = lines};
    each_group(job, weave_group, &all);
}

void unweave(const weave_job *job, const uint32_t *lines, float *x)
{
    weave_all all = {.job = job, .lines = (uint32_t *)lines, .out = x};
    each_group(job, unweave_group, &all);
}
