/* Threads that share many small jobs: see team.c. */
#ifndef ZIPML_TEAM_H
#define ZIPML_TEAM_H

#include <stddef.h>

typedef void (*team_task)(void *job, size_t task);
typedef struct team team;

/* A team of up to `threads` threads, the caller among them; NULL, which is a team too, for the caller alone. */
team *team_start(int threads);

/* task(job, 0), ..., task(job, tasks - 1), in any order, on any of the threads; returns when all are done. tasks < 2^16. */
void team_run(team *t, team_task task, void *job, size_t tasks);

void team_stop(team *t);

/* One job for a team of up to `threads`: task(job, 0), ..., task(job, tasks - 1), any number of them, neighbours together. */
void team_each(int threads, team_task task, void *job, size_t tasks);

#endif
