/* A barrier that spins: a step of SGD meets three, some microseconds apart. After many turns it yields, so that
 * more threads than cores make progress; without GNU atomics it is OpenMP's. */
#ifndef ZIPML_BARRIER_H
#define ZIPML_BARRIER_H

#include "simd.h"

#define SPINS 4000

#if (defined(__GNUC__) || defined(__clang__)) && (defined(__unix__) || defined(__APPLE__))
#include <sched.h>

typedef struct {
    unsigned arrived ALIGNED64, round ALIGNED64;
} barrier;

/* All `threads` callers return once all have called. What they wrote before is seen by all after. */
static inline void barrier_wait(barrier *b, int threads)
{
    if (threads == 1)
        return;
    const unsigned round = __atomic_load_n(&b->round, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == (unsigned)threads) {
        __atomic_store_n(&b->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&b->round, round + 1, __ATOMIC_RELEASE);
        return;
    }
    for (unsigned turn = 0; __atomic_load_n(&b->round, __ATOMIC_ACQUIRE) == round; turn++) {
        if (turn >= SPINS)
            sched_yield();
#if ZIPML_X86
        else
            _mm_pause();
#endif
    }
}
#else
typedef struct { int unused; } barrier;

static inline void barrier_wait(barrier *b, int threads)
{
    (void)b;
    if (threads > 1) {
#pragma omp barrier
    }
}
#endif

#endif
