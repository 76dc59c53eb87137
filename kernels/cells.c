/* The cells in which levels may be: a sorted list a level, all parts of one partition of the points.
 * Fixed neighbours make the cost piecewise linear in a level, with kinks at the cells' means: moved one at a time, some best levels of
 * the cells are within a cell of the true ones. So a cell stays where a path through it or through a neighbour is cheap enough.
 * In a single point a level is at the mean already: its neighbours do not matter.
 * A list holds neighbours of live cells too, where the level itself cannot be; they are split as the others are, and their ends kept. */
#include "cells.h"

static int touches(const cell *a, const cell *b)
{
    return a->last + 1 == b->first;
}

size_t cells_keep(cell *cells, const size_t *start, size_t s, const double *reach, double threshold, const size_t *level)
{
    size_t kept = 0;
    for (size_t j = 0; j <= s; j++) {
        int good = 0; /* is the cell before within it? */
        for (size_t i = start[j]; i < start[j + 1]; i++) {
            cell *const c = &cells[i];
            const int here = !(reach[i] > threshold) || (c->first <= level[j] && level[j] <= c->last);
            const int next = i + 1 < start[j + 1] && touches(c, c + 1) && !(reach[i + 1] > threshold);
            const int before = good && touches(c - 1, c);
            c->live = c->live && (here || (!is_single(c) && (before || next)));
            good = here;
            kept += (size_t)c->live;
        }
    }
    return kept;
}

/* Points in the first and in the last of the parts that a cell is split in. */
static size_t first_part(const cell *c)
{
    const size_t length = c->last - c->first + 1;
    return length < CELLS_SPLIT ? 1 : length / CELLS_SPLIT;
}

static size_t last_part(const cell *c)
{
    const size_t length = c->last - c->first + 1;
    return length < CELLS_SPLIT ? 1 : length - length * (CELLS_SPLIT - 1) / CELLS_SPLIT;
}

void cells_divide(const cell *cells, const size_t *start, size_t s, cell *split, size_t *starts)
{
    cell *out = split;
    for (size_t j = 0; j <= s; j++) {
        const cell *const first = cells + start[j], *const end = cells + start[j + 1];
        starts[j] = (size_t)(out - split);
        for (const cell *c = first; c < end; c++) {
            const size_t length = c->last - c->first + 1, k = length < CELLS_SPLIT ? length : CELLS_SPLIT;
            const int before = c > first && touches(c - 1, c) && c[-1].live && last_part(c - 1) > 1;
            const int next = c + 1 < end && touches(c, c + 1) && c[1].live && first_part(c + 1) > 1;
            const int only = j == 0 || j == s; /* the first or the last point */
            for (size_t t = 0; t < k; t++)
                if (only || c->live || (t == 0 && before) || (t == k - 1 && next))
                    *out++ = (cell){c->first + length * t / k, c->first + length * (t + 1) / k - 1, c->live};
        }
    }
    starts[s + 1] = (size_t)(out - split);
}
