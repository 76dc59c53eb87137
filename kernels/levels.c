/* Variance-optimal levels among M + 1 equidistant candidates (ZipML, sections 3 and 3.2: the discretised dynamic programme).
 * Cost of levels l < u: V = -l u W + (l + u) S - Q, with W, S, Q the weight, sum and sum of squares of the values between
 * (levels.md), from prefix sums at the candidates; inside a cell the weight is taken as evenly spread.
 * V obeys the quadrangle inequality, so each layer's argmin is monotone: divide and conquer, O(s M log M) a feature.
 * Positions are in grid steps from the column's minimum: centred by construction, no cancellation at large offsets. */
#include "levels.h"
#include "threads.h"

#include <stdlib.h>

typedef struct { double *w, *s, *q; } prefix;

static double interval_cost(const prefix *p, size_t l, size_t u)
{
    const double v = -(double)l * (double)u * (p->w[u] - p->w[l]) + ((double)l + (double)u) * (p->s[u] - p->s[l]) - (p->q[u] - p->q[l]);
    return v > 0 ? v : 0;
}

/* Weight, sum and sum of squares of the values up to each candidate. */
static void accumulate(const grid_job *job, size_t feature, prefix *p)
{
    const double *counts = job->counts + feature * job->cells, last = (double)job->steps;
    const double origin = job->origin[feature], extent = job->extent[feature];
    double w = 0, s = 0, q = 0;
    size_t next = 1;
    p->w[0] = p->s[0] = p->q[0] = 0;
    for (size_t c = 0; c < job->cells; c++) {
        if (counts[c] == 0)
            continue;
        double from = origin + extent * (double)c, to = origin + extent * (double)(c + 1);
        from = from < 0 ? 0 : from > last ? last : from;
        to = to > last ? last : to < from ? from : to;
        for (; next <= job->steps && (double)next <= from; next++)
            p->w[next] = w, p->s[next] = s, p->q[next] = q;
        for (; next < job->steps && (double)next < to; next++) { /* a candidate inside the cell */
            const double x = (double)next, part = counts[c] * (x - from) / (to - from);
            p->w[next] = w + part;
            p->s[next] = s + part * (from + x) / 2;
            p->q[next] = q + part * (from * from + from * x + x * x) / 3;
        }
        w += counts[c];
        s += counts[c] * (from + to) / 2;
        q += counts[c] * (from * from + from * to + to * to) / 3;
    }
    for (; next <= job->steps; next++)
        p->w[next] = w, p->s[next] = s, p->q[next] = q;
}

/* best[u] = min over l of before[l] + V(l, u) for u in first..last, the argmin being within low..high. */
static void layer(const prefix *p, const double *before, double *best, uint16_t *from, size_t first, size_t last, size_t low, size_t high)
{
    while (first <= last) {
        const size_t u = first + (last - first) / 2;
        size_t arg = low;
        double least = before[low] + interval_cost(p, low, u);
        for (size_t l = low + 1; l <= high && l < u; l++) {
            const double cost = before[l] + interval_cost(p, l, u);
            if (cost < least)
                least = cost, arg = l;
        }
        best[u] = least;
        from[u] = (uint16_t)arg;
        if (u > first)
            layer(p, before, best, from, first, u - 1, low, arg);
        first = u + 1;
        low = arg;
    }
}

static double solve(const grid_job *job, prefix *p, double *best[2], uint16_t *from, uint16_t *marks)
{
    const size_t m = job->steps, s = job->intervals;
    for (size_t u = 0; u <= m; u++)
        best[0][u] = interval_cost(p, 0, u), from[u] = 0;
    for (size_t j = 1; j < s; j++) { /* j + 1 intervals end at u >= j + 1 */
        double *before = best[(j - 1) & 1], *now = best[j & 1];
        layer(p, before, now, from + j * (m + 1), j + 1, m, j, m - 1);
    }
    size_t u = m;
    for (size_t j = s; j-- > 0;) {
        marks[j + 1] = (uint16_t)u;
        u = from[j * (m + 1) + u];
    }
    marks[0] = 0;
    return best[(s - 1) & 1][m];
}

int grid_levels(const grid_job *job, uint16_t *marks, double *cost)
{
    const size_t m = job->steps + 1, s = job->intervals;
    const int threads = threads_for(job->threads, job->features * job->cells, job->features);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed) if (threads > 1)
    {
        double *room = malloc(5 * m * sizeof *room);
        uint16_t *from = malloc(s * m * sizeof *from);
        failed = !room || !from;
#pragma omp for schedule(dynamic, 8)
        for (size_t f = 0; f < job->features; f++) {
            if (failed)
                continue;
            prefix p = {room, room + m, room + 2 * m};
            double *best[2] = {room + 3 * m, room + 4 * m};
            if (job->extent[f] > 0) {
                accumulate(job, f, &p);
                cost[f] = solve(job, &p, best, from, marks + f * (s + 1));
            } else {
                for (size_t j = 0; j <= s; j++)
                    marks[f * (s + 1) + j] = 0;
                cost[f] = 0;
            }
        }
        free(room);
        free(from);
    }
    return failed ? -1 : 0;
}
