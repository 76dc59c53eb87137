/* Threads for thousands of jobs of microseconds each, on machines that others use too.
 * OpenMP's barrier waits for every thread, work or not, and spins for milliseconds: where a thread is not running, so long takes each job.
 * Here tasks are claimed one by one. Nobody waits for a thread that has claimed nothing: the caller does all tasks where it is alone.
 * Who has nothing to do spins for some 50 microseconds, longer than the gap between two steps, and sleeps then.
 * One team is kept, for one call at a time; who finds it taken is alone, as is a child of fork (threads.c) or a system without POSIX. */
#include "team.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define SPINS 1000
#define TASK_BITS 16
#define TASK_MASK (((uint64_t)1 << TASK_BITS) - 1)

struct team {
    /* Number of the job, and how many of its tasks are unclaimed. A claim succeeds on the job that it saw or fails; the fields
     * of a job are written before and stay until all that is claimed is done. */
    _Atomic uint64_t open;
    char apart[56];        /* claims and completions on lines of their own */
    atomic_size_t missing; /* tasks that are not done */
    atomic_int used;       /* helpers that may take part in this call */
    atomic_int asleep, waits; /* helpers that sleep; whether the caller does */
    team_task task;
    void *job;
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    int helpers; /* that were started */
};

static team kept = {.mutex = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
static pthread_mutex_t taken = PTHREAD_MUTEX_INITIALIZER;

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_tasks(team *t)
{
    uint64_t open = atomic_load(&t->open);
    while (open & TASK_MASK) {
        if (!atomic_compare_exchange_weak(&t->open, &open, open - 1))
            continue;
        t->task(t->job, (size_t)(open & TASK_MASK) - 1);
        if (atomic_fetch_sub(&t->missing, 1) == 1 && atomic_load(&t->waits)) {
            pthread_mutex_lock(&t->mutex);
            pthread_cond_signal(&t->done);
            pthread_mutex_unlock(&t->mutex);
        }
        open = atomic_load(&t->open);
    }
}

static int idle(team *t, int number) { return !(atomic_load(&t->open) & TASK_MASK) || number >= atomic_load(&t->used); }

static void *help(void *number)
{
    team *t = &kept;
    const int own = (int)(intptr_t)number;
    for (;;) {
        for (int spin = 0; spin < SPINS && idle(t, own); spin++)
            relax();
        if (idle(t, own)) {
            pthread_mutex_lock(&t->mutex);
            atomic_fetch_add(&t->asleep, 1);
            while (idle(t, own))
                pthread_cond_wait(&t->work, &t->mutex);
            atomic_fetch_sub(&t->asleep, 1);
            pthread_mutex_unlock(&t->mutex);
        }
        take_tasks(t);
    }
    return NULL;
}

static void wake(team *t)
{
    if (!atomic_load(&t->asleep))
        return;
    pthread_mutex_lock(&t->mutex);
    pthread_cond_broadcast(&t->work);
    pthread_mutex_unlock(&t->mutex);
}

team *team_start(int threads)
{
    team *t = &kept;
    if (threads < 2 || pthread_mutex_trylock(&taken))
        return NULL;
    for (pthread_t thread; t->helpers < threads - 1; t->helpers++) {
        if (pthread_create(&thread, NULL, help, (void *)(intptr_t)t->helpers))
            break;
        pthread_detach(thread);
    }
    atomic_store(&t->used, threads - 1);
    return t;
}

void team_run(team *t, team_task task, void *job, size_t tasks)
{
    if (!t || !t->helpers || !tasks) {
        for (size_t i = 0; i < tasks; i++)
            task(job, i);
        return;
    }
    t->task = task, t->job = job;
    atomic_store(&t->missing, tasks);
    atomic_store(&t->open, (((atomic_load(&t->open) >> TASK_BITS) + 1) << TASK_BITS) | tasks);
    wake(t);
    take_tasks(t);
    for (int spin = 0; spin < SPINS && atomic_load(&t->missing); spin++)
        relax();
    if (!atomic_load(&t->missing))
        return;
    pthread_mutex_lock(&t->mutex);
    atomic_store(&t->waits, 1);
    while (atomic_load(&t->missing))
        pthread_cond_wait(&t->done, &t->mutex);
    atomic_store(&t->waits, 0);
    pthread_mutex_unlock(&t->mutex);
}

void team_stop(team *t)
{
    if (!t)
        return;
    atomic_store(&t->used, 0);
    pthread_mutex_unlock(&taken);
}

#else

team *team_start(int threads) { (void)threads; return NULL; }

void team_run(team *t, team_task task, void *job, size_t tasks)
{
    (void)t;
    for (size_t i = 0; i < tasks; i++)
        task(job, i);
}

void team_stop(team *t) { (void)t; }

#endif

#define SLICES_A_THREAD 16 /* enough for who was interrupted to be overtaken, few enough to claim */

typedef struct {
    team_task task;
    void *job;
    size_t tasks, slices;
} sliced;

static void run_slice(void *all, size_t slice)
{
    const sliced *own = all;
    const size_t each = own->tasks / own->slices, more = own->tasks % own->slices;
    const size_t first = slice * each + (slice < more ? slice : more), last = first + each + (slice < more);
    for (size_t i = first; i < last; i++)
        own->task(own->job, i);
}

void team_each(int threads, team_task task, void *job, size_t tasks)
{
    const size_t most = (size_t)(threads < 1 ? 1 : threads) * SLICES_A_THREAD, limit = most > 65535 ? 65535 : most;
    sliced all = {task, job, tasks, tasks < limit ? tasks : limit};
    team *t = threads > 1 ? team_start(threads) : NULL;
    team_run(t, run_slice, &all, all.slices);
    team_stop(t);
}
