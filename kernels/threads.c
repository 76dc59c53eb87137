/* How many threads a kernel may use.
 * OpenMP's pool does not survive fork(): a child that enters a parallel region waits for threads that are not there.
 * So a child of fork runs on one thread, without a region, and says nothing: the result is the same.
 * Small work stays on one thread too: waking the pool costs some microseconds.
 * One copy an extension, shared by its kernels: the mark must be seen by all of them. */
#include "threads.h"

#define SMALL 32768 /* numbers; some 20 microseconds of encoding */

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
static int forked;
static void mark_fork(void) { forked = 1; }
void threads_init(void) { pthread_atfork(NULL, NULL, mark_fork); }
#else
static const int forked = 0;
void threads_init(void) {}
#endif

int threads_for(int requested, size_t values, size_t tasks)
{
    if (forked || values < SMALL || requested < 1)
        return 1;
    return tasks < 1 ? 1 : (size_t)requested < tasks ? requested : (int)tasks;
}
