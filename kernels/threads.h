/* How many threads a kernel may use.
 * OpenMP's pool does not survive fork(): a child that enters a parallel region hangs in libgomp. So a child of fork runs
 * on one thread, without a region, and says nothing: the result is the same.
 * Small work stays on one thread too: waking the pool costs some microseconds. */
#ifndef ZIPML_THREADS_H
#define ZIPML_THREADS_H

#include <stddef.h>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
static int threads_forked;
static void threads_mark_fork(void) { threads_forked = 1; }
static inline void threads_init(void) { pthread_atfork(NULL, NULL, threads_mark_fork); }
#else
static const int threads_forked = 0;
static inline void threads_init(void) {}
#endif

/* `values`: numbers that the kernel touches. */
static inline int threads_for(int requested, size_t values, size_t tasks)
{
    int threads = requested;
    if (threads_forked || values < 32768)
        return 1;
    if ((size_t)threads > tasks)
        threads = (int)tasks;
    return threads < 1 ? 1 : threads;
}

#endif
