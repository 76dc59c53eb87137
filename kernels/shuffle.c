/* Row numbers of an epoch's windows in random order (formats/FORMAT.md, section 5, order of an epoch).
 * A window is a task: windows know nothing of each other, since the word that moves place i is a function of seed, epoch, window and i.
 * 16 counters at once make the words: one by one, they took four times as long as the exchanges, and an epoch
 * of two-bit codes only ten times as long as its order.
 * Place 0 changes with itself, so that blocks are whole. Exchanges stay in the caches: a window's numbers are some 100 KiB. */
#include "shuffle.h"
#include "team.h"
#include "threads.h"

#define BODY "shuffle_body.h"
#include "each_level.h"

typedef void (*shuffle_fn)(uint64_t *, size_t, uint32_t, uint32_t, const philox_keys *);
static const shuffle_fn SHUFFLE[LEVEL_COUNT] = FOR_LEVEL(shuffle);

void order_shuffle(const order_job *job, uint32_t window, uint64_t *values, size_t count)
{
    SHUFFLE[job->level](values, count, job->column, window, &job->keys);
}

typedef struct {
    const order_job *job;
    uint64_t *out;
    size_t shorter, missing; /* where among the units the shorter one is, if at all, and the rows that it lacks */
} order_all;

static void order_window(void *all, size_t window)
{
    const order_all *own = all;
    const order_job *job = own->job;
    const size_t first = window * job->window, last = first + job->window < job->count ? first + job->window : job->count;
    uint64_t *values = own->out + first * job->unit - (own->shorter < first ? own->missing : 0), *end = values;
    for (size_t at = first; at < last; at++) {
        const uint64_t row = (uint64_t)job->units[at] * job->unit;
        const size_t rows = at == own->shorter ? job->unit - own->missing : job->unit;
        for (size_t r = 0; r < rows; r++)
            *end++ = row + r;
    }
    order_shuffle(job, job->first + (uint32_t)window, values, (size_t)(end - values));
}

size_t order_windows(const order_job *job, uint64_t *out)
{
    const size_t windows = (job->count + job->window - 1) / job->window, units = (job->rows + job->unit - 1) / job->unit;
    order_all all = {.job = job, .out = out, .shorter = job->count, .missing = 0};
    for (size_t at = 0; at < job->count && job->rows % job->unit; at++)
        if ((size_t)job->units[at] == units - 1) {
            all.shorter = at;
            all.missing = job->unit - job->rows % job->unit;
        }
    team_each(threads_for(job->threads, job->count * job->unit, windows), order_window, &all, windows);
    return job->count * job->unit - all.missing;
}
