/* The cells in which levels may be: see cells.c. */
#ifndef ZIPML_CELLS_H
#define ZIPML_CELLS_H

#include <stddef.h>

enum { CELLS_SPLIT = 3 };

typedef struct { size_t first, last; int live; } cell; /* points first..last; not live: a neighbour, where the level cannot be */

static inline int is_single(const cell *c)
{
    return c->first == c->last;
}

/* Which cells of levels 0..s, lists cells[start[j]]..cells[start[j + 1] - 1], a level may be in: those with a path within the
 * threshold, `reach` being the least cost of one, or that hold the level known. Returns how many. */
size_t cells_keep(cell *cells, const size_t *start, size_t s, const double *reach, double threshold, const size_t *level);

/* Splits the live cells into `split`, room for (CELLS_SPLIT + 2) times as many and 2 more, with lists from starts[0..s + 1]. */
void cells_divide(const cell *cells, const size_t *start, size_t s, cell *split, size_t *starts);

#endif
