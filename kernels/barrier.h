/* A barrier that spins, then sleeps: a step of SGD meets three, some microseconds apart. Who waits much longer waits for a
 * thread that has no core: then its own is worth giving up, until it is woken (Linux), or again and again (elsewhere).
 * Without GNU atomics it is OpenMP's. */
#ifndef ZIPML_BARRIER_H
#define ZIPML_BARRIER_H

#include "simd.h"

#define SPINS 3000

#if (defined(__GNUC__) || defined(__clang__)) && (defined(__unix__) || defined(__APPLE__))
#include <sched.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

typedef struct {
    uint32_t arrived ALIGNED64, round ALIGNED64, asleep;
} barrier;

static inline void barrier_sleep(barrier *b, uint32_t round)
{
#if defined(__linux__)
    __atomic_add_fetch(&b->asleep, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &b->round, FUTEX_WAIT_PRIVATE, round, NULL, NULL, 0); /* returns at once if the round is over */
    __atomic_sub_fetch(&b->asleep, 1, __ATOMIC_SEQ_CST);
#else
    (void)b, (void)round;
    sched_yield();
#endif
}

static inline void barrier_wake(barrier *b)
{
#if defined(__linux__)
    if (__atomic_load_n(&b->asleep, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &b->round, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
#else
    (void)b;
#endif
}

/* All `threads` callers return once all have called. What they wrote before is seen by all after. */
static inline void barrier_wait(barrier *b, int threads)
{
    if (threads == 1)
        return;
    const uint32_t round = __atomic_load_n(&b->round, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == (uint32_t)threads) {
        __atomic_store_n(&b->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&b->round, round + 1, __ATOMIC_SEQ_CST);
        barrier_wake(b);
        return;
    }
    for (int turn = 0; __atomic_load_n(&b->round, __ATOMIC_ACQUIRE) == round; turn++) {
        if (turn >= SPINS)
            barrier_sleep(b, round);
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
