/* Certified variance-optimal levels of N sorted points: branch and bound on index cells, near the cost of reading the points.
 * sum w (u - x)(x - l) = sum w (L(x) - x^2), L the chords of x^2 at the levels, convex: moving a cell's mass to its mean lowers it,
 * and changes it only in the cells that hold a level. So a dynamic programme over cells, levels at their means, gives lower bounds.
 * Fixed neighbours make the cost piecewise linear in a level with kinks at means: one move at a time, some best levels of the cells
 * are within a cell of the true ones. A cell leaves a level's list when it and both its neighbours exceed the upper bound, which
 * comes from coordinate sweeps; the others split in three, down to single points; then once more in twofold arithmetic.
 * Rounding: each layer works about an origin of its own with a bound of its error, in twofold where that bound is too large. */
#include "search.h"
#include "cells.h"
#include "chords.h"
#include "spans.h"
#include "sweep.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDING 0x1p-53
enum { FIRST_CELLS = 128, CELLS_PER_LEVEL = 2, GROWTH = 4 };
static const double TOLERATED = 1e-3; /* rounding error of all layers, relative to the upper bound, before twofold is used */
static const double SAME = 1e-12;     /* costs that differ by less, relatively, count as the same where many do */

typedef struct {
    points p;
    size_t s;                /* intervals: levels 0..s */
    cell *cells, *split;     /* lists of levels 0..s, one after the other, of this round and of the next */
    size_t *start, *following; /* [s + 2]: where the lists start */
    size_t widest;           /* the longest list */
    double *reach;           /* [cells]: least cost from the start to the cell; then of a path through it */
    double *y, *phi, *area;  /* [cells]: mean, Phi and A as an interval's lower end, about the level's own origin */
    double *over_y, *over_phi, *over_area; /* [cells]: as its upper end, about the origin of the level before */
    uint32_t *from;          /* [cells]: best cell of the level before */
    double *column, *behind, *ahead; /* [widest] */
    uint32_t *limit, *argument;      /* [widest] */
    moments *lower_sums, *upper_sums; /* [widest], for layers in twofold */
    twofold *lower_places, *upper_places;
    unsigned char *twofolds; /* [s + 1]: is the layer that ends at this level computed in twofold? */
    size_t *level, *trial;   /* [s + 1]: best levels so far */
    moments *below, *above;  /* [s + 1]: sums before and including the trial levels */
    double upper, lower, proven, error, tolerated; /* proven: the largest lower bound that is one despite rounding */
    size_t evaluations;
} search;

static int resize(void **array, size_t bytes)
{
    void *larger = realloc(*array, bytes);
    if (larger)
        *array = larger;
    return larger != NULL;
}

/* ---- Upper bounds ---- */

static void try_levels(search *g)
{
    const double cost = sweep_levels(&g->p, g->s, g->trial, g->below, g->above, &g->evaluations);
    if (cost < g->upper) {
        g->upper = cost;
        memcpy(g->level, g->trial, (g->s + 1) * sizeof *g->level);
    }
}

/* ---- Lower bounds: the dynamic programme over cells. ---- */

static size_t origin_of(const search *g, size_t j)
{
    return g->cells[(g->start[j] + g->start[j + 1]) / 2].first;
}

/* Does the list of an inner level end with the last point, or start with the first one? As neighbours: the only interval from the
 * last point, or to the first, has no length and costs nothing. Apart from the others, since an outlier there would blur them. */
static int ends_at_last(const search *g, size_t j)
{
    return j > 0 && j < g->s && g->cells[g->start[j + 1] - 1].first == g->p.count - 1;
}

static int starts_at_first(const search *g, size_t j)
{
    return j > 0 && j < g->s && g->cells[g->start[j]].last == 0;
}

/* Bound of the rounding error of one evaluation, before the unit: about `origin` with sums at it, or about 0. */
static double magnitude(const search *g, size_t j, double origin, const moments *at)
{
    const points *p = &g->p;
    const cell *a = &g->cells[g->start[j - 1]], *b = &g->cells[g->start[j] - 1], *c = b + 1, *d = &g->cells[g->start[j + 1] - 1];
    const size_t low = a->first + is_single(a), high = d->last + !is_single(d);
    b -= ends_at_last(g, j - 1);
    c += starts_at_first(g, j);
    const double y = fmax(fabs(point(p, a->first) - origin), fabs(point(p, b->last) - origin));
    const double over = fmax(fabs(point(p, c->first) - origin), fabs(point(p, d->last) - origin));
    if (low >= high)
        return 0;
    const moments from = moments_before(p, low), to = moments_before(p, high);
    const local left = moments_between(&from, at, origin), right = moments_between(at, &to, origin);
    const double w = fmax(fabs(left.w), fabs(right.w)), q = fmax(fabs(left.q), fabs(right.q)), s = sqrt(w * q);
    return q + (y + over) * s + y * over * w;
}

/* What the cells of level j are as ends of intervals; decides on the arithmetic of the layer before it. */
static void prepare(search *g, size_t j, double allowed, int exact)
{
    const points *p = &g->p;
    const size_t start = g->start[j], end = g->start[j + 1], here = origin_of(g, j);
    const double origin = point(p, here);
    const moments at = moments_before(p, here);
    double shift = 0, heaviest = 0;
    local gap = {0, 0, 0};
    if (j) {
        const size_t there = origin_of(g, j - 1);
        const moments before = moments_before(p, there);
        shift = origin - point(p, there);
        gap = moments_between(&before, &at, point(p, there));
    }
    moments after = {{0, 0}, {0, 0}, {0, 0}};
    local to = {0, 0, 0};
    for (size_t i = start; i < end; i++) {
        const cell *c = &g->cells[i];
        local from = to;
        if (i == start || c[-1].last + 1 != c->first) {
            after = moments_before(p, c->first);
            from = moments_between(&at, &after, origin);
        }
        after = moments_before(p, c->last + 1);
        to = moments_between(&at, &after, origin);
        const double low = point(p, c->first) - origin, high = point(p, c->last) - origin;
        double y = low, inertia = 0;
        if (!is_single(c)) {
            const double w = to.w - from.w, s = to.s - from.s;
            y = fmin(fmax(s / w, low), high);
            inertia = fmax(to.q - from.q - s * y, 0);
            heaviest = fmax(heaviest, w * (high - low));
        }
        g->y[i] = y;
        g->phi[i] = y * to.w - to.s;
        g->area[i] = to.q - y * to.s;
        const double over = y + shift, w = from.w + gap.w, s = from.s + shift * from.w + gap.s;
        const double q = from.q + (2 * from.s + shift * from.w) * shift + gap.q;
        g->over_y[i] = over;
        g->over_phi[i] = over * w - s;
        g->over_area[i] = q - over * s + inertia;
    }
    if (!j)
        return;
    /* Every argmin of divide and conquer may miss by two evaluations' error, once a level of the recursion. */
    const size_t rows = end - start, columns = start - g->start[j - 1];
    double pieces = 2 * (3 + 2 * log2((double)(rows + columns)));
    const size_t there = origin_of(g, j - 1);
    const moments before = moments_before(p, there);
    const cell *const low = &g->cells[g->start[j - 1]], *const high = &g->cells[end - 1];
    const double width = point(p, high->last) - point(p, low->first);
    const double lost = moments_twofold_error(low->first, high->last + 1, magnitude(g, j, 0, &(moments){{0, 0}, {0, 0}, {0, 0}}));
    double error = pieces * (16 * ROUNDING * magnitude(g, j, point(p, there), &before) + lost);
    g->twofolds[j] = exact || !(error <= allowed);
    if (g->twofolds[j]) {
        pieces = rows * columns <= CHORDS_EVERY ? 2 : pieces;
        error = pieces * (lost + 16 * ROUNDING * heaviest * width);
    }
    g->error += error + pieces * (2 * ROUNDING * g->upper + moments_error(p, low->first, high->last, width));
}

/* Where a level in the cell is taken to be: at the mean, relative to the cell so that it is as precise as the cell is small. */
static twofold place(const points *p, const cell *c, const moments *from, const moments *to)
{
    const double x = point(p, c->first);
    if (is_single(c))
        return (twofold){x, 0};
    const local sums = moments_between(from, to, x);
    return two_sum(x, sums.s / sums.w);
}

/* Ends of the intervals between levels j - 1 and j, for twofold evaluation. */
static void twofold_ends(search *g, size_t j)
{
    const size_t lower = g->start[j - 1], upper = g->start[j], end = g->start[j + 1];
    for (size_t i = lower; i < end; i++) {
        const cell *c = &g->cells[i];
        const moments from = moments_before(&g->p, c->first), to = moments_before(&g->p, c->last + 1);
        const twofold at = place(&g->p, c, &from, &to);
        if (i < upper)
            g->lower_sums[i - lower] = to, g->lower_places[i - lower] = at;
        else
            g->upper_sums[i - upper] = from, g->upper_places[i - upper] = at;
    }
}

/* The weight of a level's own cell costs w m^2 - sum w x^2 = -inertia: in over_area, as is A in float64. */
static double inertia(const search *g, size_t i)
{
    const cell *c = &g->cells[i];
    if (is_single(c))
        return 0;
    const moments from = moments_before(&g->p, c->first), to = moments_before(&g->p, c->last + 1);
    const double origin = point(&g->p, c->first);
    const local sums = moments_between(&from, &to, origin);
    return fmax(sums.q - sums.s * (sums.s / sums.w), 0);
}

static void forward(search *g)
{
    g->reach[0] = 0;
    for (size_t j = 1; j <= g->s; j++) {
        const size_t lower = g->start[j - 1], upper = g->start[j], rows = g->start[j + 1] - upper, columns = upper - lower;
        const int exact = g->twofolds[j];
        for (size_t k = 0; k < columns; k++)
            g->column[k] = exact ? g->reach[lower + k] : g->reach[lower + k] + g->area[lower + k];
        for (size_t i = 0, k = 0; i < rows; i++) { /* no level is in a cell before that of the one below it */
            while (k < columns && g->cells[lower + k].first <= g->cells[upper + i].first)
                k++;
            g->limit[i] = (uint32_t)k;
        }
        const size_t head = (size_t)starts_at_first(g, j), tail = (size_t)ends_at_last(g, j - 1), first = upper + head;
        chord_layer layer = {.rows = rows - head, .columns = columns - tail, .cost = g->column, .u = g->phi + lower, .v = g->y + lower,
                             .a = g->over_y + first, .b = g->over_phi + first, .limit = g->limit + head, .best = g->reach + first,
                             .argument = g->from + first};
        if (exact) {
            twofold_ends(g, j);
            layer.row_sums = g->upper_sums + head, layer.row_places = g->upper_places + head;
            layer.column_sums = g->lower_sums, layer.column_places = g->lower_places;
        }
        chord_minima(&layer);
        g->evaluations += layer.evaluations;
        for (size_t i = first; i < upper + rows; i++)
            g->reach[i] -= exact ? inertia(g, i) : g->over_area[i];
        if (head) {
            g->reach[upper] = g->cells[lower].first == 0 ? g->reach[lower] : INFINITY;
            g->from[upper] = 0;
        }
        const size_t end = upper + rows - 1;
        if (tail && g->cells[end].first == g->p.count - 1 && g->reach[upper - 1] < g->reach[end]) {
            g->reach[end] = g->reach[upper - 1];
            g->from[end] = (uint32_t)(columns - 1);
        }
    }
    g->lower = g->reach[g->start[g->s]];
}

/* Adds to `reach` the least cost from each cell to the end. */
static void backward(search *g)
{
    double *ahead = g->ahead, *behind = g->behind;
    ahead[0] = 0;
    for (size_t j = g->s; j >= 1; j--) {
        const size_t lower = g->start[j - 1], upper = g->start[j], rows = upper - lower, columns = g->start[j + 1] - upper;
        const size_t head = (size_t)starts_at_first(g, j), tail = (size_t)ends_at_last(g, j - 1), first = upper + head;
        const int exact = g->twofolds[j];
        for (size_t k = 0; k < columns; k++)
            g->column[k] = ahead[k] - (exact ? inertia(g, upper + k) : g->over_area[upper + k]);
        for (size_t i = 0, k = 0; i < rows; i++) {
            while (k < columns && g->cells[upper + k].first < g->cells[lower + i].first)
                k++;
            g->limit[i] = (uint32_t)(k > head ? k - head : 0);
        }
        chord_layer layer = {.rows = rows - tail, .columns = columns - head, .cost = g->column + head, .u = g->over_y + first,
                             .v = g->over_phi + first, .a = g->phi + lower, .b = g->y + lower, .limit = g->limit, .backward = 1,
                             .best = behind, .argument = g->argument};
        if (exact) {
            twofold_ends(g, j);
            layer.row_sums = g->lower_sums, layer.row_places = g->lower_places;
            layer.column_sums = g->upper_sums + head, layer.column_places = g->upper_places + head;
        }
        chord_minima(&layer);
        g->evaluations += layer.evaluations;
        for (size_t i = 0; i < rows - tail; i++)
            behind[i] += exact ? 0 : g->area[lower + i];
        if (head && g->cells[lower].first == 0)
            behind[0] = fmin(behind[0], ahead[0]);
        if (tail)
            behind[rows - 1] = g->cells[upper + columns - 1].first == g->p.count - 1 ? ahead[columns - 1] : INFINITY;
        for (size_t i = 0; i < rows; i++)
            g->reach[lower + i] += behind[i];
        double *const t = ahead;
        ahead = behind, behind = t;
    }
}

static void trace(search *g)
{
    size_t k = 0;
    for (size_t j = g->s + 1; j-- > 0;) {
        const cell *c = &g->cells[g->start[j] + k];
        g->trial[j] = c->first + (c->last - c->first) / 2;
        k = j ? g->from[g->start[j] + k] : 0;
    }
}

/* ---- Lists of cells ---- */

static int make_room(search *g)
{
    const size_t n = g->start[g->s + 1];
    g->widest = 0;
    for (size_t j = 0; j <= g->s; j++) {
        const size_t width = g->start[j + 1] - g->start[j];
        g->widest = width > g->widest ? width : g->widest;
    }
    double **of_cells[] = {&g->reach, &g->y, &g->phi, &g->area, &g->over_y, &g->over_phi, &g->over_area};
    double **of_lists[] = {&g->column, &g->behind, &g->ahead};
    for (size_t i = 0; i < sizeof of_cells / sizeof *of_cells; i++)
        if (!resize((void **)of_cells[i], n * sizeof(double)))
            return 0;
    for (size_t i = 0; i < sizeof of_lists / sizeof *of_lists; i++)
        if (!resize((void **)of_lists[i], g->widest * sizeof(double)))
            return 0;
    return resize((void **)&g->from, n * sizeof(uint32_t)) && resize((void **)&g->limit, g->widest * sizeof(uint32_t))
        && resize((void **)&g->argument, g->widest * sizeof(uint32_t)) && resize((void **)&g->lower_sums, g->widest * sizeof(moments))
        && resize((void **)&g->upper_sums, g->widest * sizeof(moments)) && resize((void **)&g->lower_places, g->widest * sizeof(twofold))
        && resize((void **)&g->upper_places, g->widest * sizeof(twofold));
}

/* Level 0 is the first point and level s the last; the others may be in any cell, the ends being neighbours. */
static int first_lists(search *g)
{
    const size_t s = g->s, n = g->p.count, most = s * CELLS_PER_LEVEL > FIRST_CELLS ? s * CELLS_PER_LEVEL : FIRST_CELLS;
    span *spans = malloc(most * sizeof *spans);
    if (!spans)
        return 0;
    const size_t count = spans_cover(&g->p, spans, most);
    const int enough = resize((void **)&g->cells, ((s - 1) * (count + 2) + 2) * sizeof *g->cells);
    if (enough) {
        cell *out = g->cells;
        for (size_t j = 0; j <= s; j++) {
            g->start[j] = (size_t)(out - g->cells);
            if (j < s)
                *out++ = (cell){0, 0, 0};
            for (size_t i = 0; i < count && j > 0 && j < s; i++)
                *out++ = (cell){spans[i].first, spans[i].last, 1};
            if (j > 0)
                *out++ = (cell){n - 1, n - 1, 0};
            g->trial[j] = j == 0 ? 0 : j == s || !count ? n - 1 : spans[count * j / s].first;
        }
        g->start[s + 1] = (size_t)(out - g->cells);
    }
    free(spans);
    return enough;
}

static int all_single(const search *g)
{
    for (size_t i = 0; i < g->start[g->s + 1]; i++)
        if (!is_single(&g->cells[i]))
            return 0;
    return 1;
}

/* Lower bounds of this round's lists, and the levels they suggest. Returns whether there was memory. */
static int bound(search *g, int exact)
{
    if (!make_room(g))
        return 0;
    g->error = 4 * ROUNDING * g->upper;
    for (size_t j = 0; j <= g->s; j++)
        prepare(g, j, exact ? 0 : g->tolerated * g->upper / (double)g->s, exact);
    forward(g);
    trace(g);
    try_levels(g);
    return 1;
}

static int run(search *g)
{
    if (!first_lists(g))
        return 0;
    try_levels(g);
    const size_t most = GROWTH * g->start[g->s + 1];
    for (int certain = 1, exact = 0;;) {
        const int single = all_single(g);
        if (!bound(g, exact))
            return 0;
        if (certain)
            g->proven = fmax(g->proven, g->lower - g->error);
        if (exact)
            return 1;
        backward(g);
        size_t kept = cells_keep(g->cells, g->start, g->s, g->reach, certain ? g->upper + g->error : g->upper, g->level);
        if (kept * CELLS_SPLIT > most) {
            /* Many choices cost the same but for rounding: one of them is known. */
            if (!certain || g->upper - g->proven <= SAME * g->upper)
                return 1;
            g->tolerated = SAME / 4;
            /* Even twofold sums cannot tell (clusters 1e12 times as far apart as they are wide): the bound stays what it is, off by
             * 1e-25 of weight times spread squared; the search goes on as if there were no rounding, as far as that is cheap. */
            if (g->error > g->upper / 4) {
                certain = 0;
                kept = cells_keep(g->cells, g->start, g->s, g->reach, g->upper, g->level);
            }
        }
        if (!resize((void **)&g->split, (kept * (CELLS_SPLIT + 2) + 2) * sizeof *g->split))
            return 0;
        cells_divide(g->cells, g->start, g->s, g->split, g->following);
        cell *const cells = g->cells;
        size_t *const start = g->start;
        g->cells = g->split, g->split = cells;
        g->start = g->following, g->following = start;
        exact = single; /* single points, and few of them: once more, all in twofold arithmetic */
    }
}

size_t search_levels(search_job *job, size_t *levels)
{
    search g = {.s = job->intervals, .upper = INFINITY, .tolerated = TOLERATED};
    const size_t s = job->intervals;
    job->cost = job->lower_bound = 0;
    job->evaluations = 0;
    if (job->count <= s + 1) {
        for (size_t i = 0; i < job->count; i++)
            levels[i] = i;
        return job->count;
    }
    int good = !points_init(&g.p, job->x, job->weights, job->count);
    size_t **of_levels[] = {&g.start, &g.following, &g.level, &g.trial};
    for (size_t i = 0; i < sizeof of_levels / sizeof *of_levels; i++)
        good = good && (*of_levels[i] = malloc((s + 2) * sizeof(size_t)));
    good = good && (g.below = malloc((s + 1) * sizeof *g.below)) && (g.above = malloc((s + 1) * sizeof *g.above))
        && (g.twofolds = calloc(s + 1, 1)) && run(&g);
    if (good) {
        const double unscale[2] = {1 / g.p.scale[0], 1 / g.p.scale[1]};
        const double lower = fmin(g.proven, g.upper);
        memcpy(levels, g.level, (s + 1) * sizeof *levels);
        job->cost = g.upper / g.p.weight_scale * unscale[0] * unscale[1] * unscale[0] * unscale[1];
        job->lower_bound = lower / g.p.weight_scale * unscale[0] * unscale[1] * unscale[0] * unscale[1];
        job->evaluations = g.evaluations;
    }
    void *const all[] = {g.start, g.following, g.level, g.trial, g.below, g.above, g.twofolds, g.cells, g.split, g.reach, g.y, g.phi,
                         g.area, g.over_y, g.over_phi, g.over_area, g.from, g.column, g.behind, g.ahead, g.limit, g.argument,
                         g.lower_sums, g.upper_sums, g.lower_places, g.upper_places};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    points_free(&g.p);
    return good ? s + 1 : 0;
}
