/* How many threads a kernel may use: see threads.c. */
#ifndef ZIPML_THREADS_H
#define ZIPML_THREADS_H

#include <stddef.h>

/* Called once when an extension is imported. */
void threads_init(void);

/* Threads for `tasks` pieces of work on `values` numbers, where `requested` are allowed. */
int threads_for(int requested, size_t values, size_t tasks);

#endif
