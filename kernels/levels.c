/* Variance-optimal levels of a column that is known as segments of evenly spread weight (ZipML, sections 3 and 3.2).
 * Cost of levels l < u: V = -l u W + (l + u) S - Q, with W, S, Q the weight, sum and sum of squares between them (levels.md).
 * V obeys the quadrangle inequality, so each layer's argmin is monotone: divide and conquer, O(s M log M) for M candidates.
 * Then, where levels may lie anywhere, sweeps: between fixed neighbours a < c the best level x has
 * W(x) = (c W(c) - a W(a) - (S(c) - S(a))) / (c - a), which each segment's straight line of W inverts. */
#include "levels.h"
#include "team.h"
#include "threads.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define LOPSIDED 1000

typedef struct { double w, s, q; } totals; /* weight, sum, sum of squares from 0 to somewhere, negative on the left */
typedef struct { double x; totals below, upto; } point; /* without and with what lies at x: a far point's own square cancels nothing */

typedef struct {
    const double *weight, *left, *right;
    totals *edge; /* edge[i]: totals up to segment i's left end; edge[count]: up to the last one's right end */
    double *column; /* room for weight, left and right of the segments that are not empty */
    size_t count;
} mass;

/* Totals of a segment from its left end to x. */
static totals within(const mass *m, size_t i, double x)
{
    const double l = m->left[i], r = m->right[i], w = m->weight[i];
    if (x >= r)
        return (totals){w, w * (l + r) / 2, w * (l * l + l * r + r * r) / 3};
    if (x <= l)
        return (totals){0, 0, 0};
    const double part = w * ((x - l) / (r - l));
    return (totals){part, part * (l + x) / 2, part * (l * l + l * x + x * x) / 3};
}

static void gather(const levels_job *job, size_t feature, mass *m)
{
    const size_t all = job->segments;
    const double *weight = job->weight + feature * all, *left = job->left + feature * all, *right = job->right + feature * all;
    double *own = m->column;
    m->count = 0;
    for (size_t i = 0; i < all; i++)
        if (weight[i] > 0) {
            own[m->count] = weight[i];
            own[all + m->count] = left[i];
            own[2 * all + m->count] = right[i];
            m->count++;
        }
    m->weight = own, m->left = own + all, m->right = own + 2 * all;
    size_t middle = 0;
    while (middle < m->count && m->right[middle] <= 0)
        middle++;
    m->edge[middle] = (totals){0, 0, 0};
    for (size_t i = middle; i < m->count; i++) {
        const totals p = within(m, i, m->right[i]);
        m->edge[i + 1] = (totals){m->edge[i].w + p.w, m->edge[i].s + p.s, m->edge[i].q + p.q};
    }
    for (size_t i = middle; i-- > 0;) {
        const totals p = within(m, i, m->right[i]);
        m->edge[i] = (totals){m->edge[i + 1].w - p.w, m->edge[i + 1].s - p.s, m->edge[i + 1].q - p.q};
    }
}

static point at(const mass *m, double x)
{
    size_t low = 0, high = m->count; /* the first segment whose right end is beyond x */
    while (low < high) {
        const size_t i = low + (high - low) / 2;
        if (m->right[i] <= x)
            low = i + 1;
        else
            high = i;
    }
    point p = {x, m->edge[low], m->edge[low]};
    if (low && m->left[low - 1] == x)
        p.below = m->edge[low - 1];
    if (low < m->count && m->left[low] < x) {
        const totals part = within(m, low, x);
        p.upto.w += part.w, p.upto.s += part.s, p.upto.q += part.q;
        p.below = p.upto;
    }
    return p;
}

static double interval_cost(const point *l, const point *u)
{
    if (!(u->x > l->x)) /* a level that is there twice: its own weight, cancelled, would leave rounding errors */
        return 0;
    const double w = u->below.w - l->upto.w, s = u->below.s - l->upto.s, q = u->below.q - l->upto.q;
    const double v = -l->x * u->x * w + (l->x + u->x) * s - q;
    return v > 0 ? v : 0;
}

/* The share that is cut off when Sum min(1, deserved / share) = most: found by leaving out those that alone reach it. */
static double share_of(const double *deserved, size_t count, size_t most)
{
    double share = 0;
    for (int round = 0; round < 100; round++) {
        double rest = 0;
        size_t whole = 0;
        for (size_t i = 0; i < count; i++)
            if (round && deserved[i] >= share)
                whole++;
            else
                rest += deserved[i];
        const double next = most > whole ? rest / (double)(most - whole) : share;
        if (round && !(next < share))
            break;
        share = next;
    }
    return share;
}

/* Candidates where levels may lie anywhere: ends, and middles of segments, about `most` of them, evenly by (weight gap^2)^(1/3):
 * the share of levels that a place deserves. What alone deserves one is always among them: an outlier, the bulk's last value. */
static size_t middles(const mass *m, double low, double high, size_t most, double *deserved, point *out)
{
    size_t count = 0;
    double before = low, seen = 0;
    out[0] = at(m, low);
    for (size_t i = 0; i < m->count; i++) {
        const double x = (m->left[i] + m->right[i]) / 2, after = i + 1 < m->count ? (m->left[i + 1] + m->right[i + 1]) / 2 : high;
        deserved[i] = cbrt(m->weight[i] * (after - before) * (after - before));
        before = x;
    }
    const double share = m->count > most ? share_of(deserved, m->count, most) : 0;
    for (size_t i = 0; i < m->count; i++) {
        const double x = (m->left[i] + m->right[i]) / 2, old = floor(seen);
        const int whole = deserved[i] >= share;
        seen += whole ? 0 : deserved[i] / share;
        if ((whole || floor(seen) > old) && x > out[count].x && x < high && count < most)
            out[1 + count++] = at(m, x);
    }
    out[1 + count] = at(m, high);
    return count + 1;
}

/* best[u] = min over l of before[l] + V(l, u) for u in first..last, the argmin being within low..high. */
static void layer(const point *p, const double *before, double *best, uint16_t *from, size_t first, size_t last, size_t low, size_t high)
{
    while (first <= last) {
        const size_t u = first + (last - first) / 2;
        size_t arg = low;
        double least = before[low] + interval_cost(p + low, p + u);
        for (size_t l = low + 1; l <= high && l < u; l++) {
            const double cost = before[l] + interval_cost(p + l, p + u);
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

/* Marks of the best `s` intervals among candidates p[0..last]; cost[j]: of j + 1 intervals. */
static void solve(const point *p, size_t last, size_t s, double *best[2], uint16_t *from, uint16_t *marks, double *cost)
{
    for (size_t u = 0; u <= last; u++)
        best[0][u] = interval_cost(p, p + u), from[u] = 0;
    cost[0] = best[0][last];
    for (size_t j = 1; j < s; j++) { /* j + 1 intervals end at u >= j + 1; fewer candidates than that cost nothing */
        double *before = best[(j - 1) & 1], *now = best[j & 1];
        if (j + 1 <= last)
            layer(p, before, now, from + j * (last + 1), j + 1, last, j, last - 1);
        cost[j] = j + 1 <= last ? now[last] : 0;
    }
    size_t u = last, used = s < last ? s : last;
    for (size_t j = s; j > used; j--)
        marks[j] = (uint16_t)last;
    for (size_t j = used; j-- > 0;) {
        marks[j + 1] = (uint16_t)u;
        u = from[j * (last + 1) + u];
    }
    marks[0] = 0;
}

/* Where the weight from 0 reaches w. */
static point reach(const mass *m, double w)
{
    size_t low = 0, high = m->count; /* the first segment at whose right end the weight is at least w */
    while (low < high) {
        const size_t i = low + (high - low) / 2;
        if (m->edge[i + 1].w < w)
            low = i + 1;
        else
            high = i;
    }
    if (low == m->count)
        low--;
    const double part = (w - m->edge[low].w) / m->weight[low];
    const double x = m->left[low] + (part < 0 ? 0 : part > 1 ? 1 : part) * (m->right[low] - m->left[low]);
    return at(m, x);
}

/* Each inner level to its best place between its neighbours, until none of them moves or `sweeps` are done. */
static void descend(const mass *m, point *level, size_t s, size_t sweeps)
{
    for (size_t sweep = 0; sweep < sweeps; sweep++) {
        int moved = 0;
        for (size_t j = 1; j < s; j++) {
            const point *a = level + j - 1, *c = level + j + 1;
            if (!(c->x > a->x))
                continue;
            point x = reach(m, (c->x * c->below.w - a->x * a->upto.w - (c->below.s - a->upto.s)) / (c->x - a->x));
            if (!(x.x > a->x && x.x < c->x))
                continue;
            const double was = interval_cost(a, level + j) + interval_cost(level + j, c), now = interval_cost(a, &x) + interval_cost(&x, c);
            if (now < was * (1 - 1e-9))
                level[j] = x, moved = 1;
        }
        if (!moved)
            return;
    }
}

/* Positions are known to a float32's last bit only. Where the interval on one side of a level is so much wider that a value
 * left on that side would cost more than all else, the level steps that bit towards it. */
static void lean(point *level, size_t s)
{
    for (size_t j = 1; j < s; j++) {
        const double below = level[j].x - level[j - 1].x, above = level[j + 1].x - level[j].x, bit = 0x1p-22 * (1 + fabs(level[j].x));
        if (above > LOPSIDED * below && bit < above)
            level[j].x += bit;
        else if (below > LOPSIDED * above && bit < below)
            level[j].x -= bit;
    }
}

typedef struct {
    mass m;
    point *candidate, *level;
    double *best[2], *deserved;
    uint16_t *from, *marks;
    void *room;
} workspace;

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* One allocation for all that a thread needs. */
static int prepare(const levels_job *job, size_t levels, workspace *own)
{
    const size_t candidates = (job->steps ? job->steps : job->most + 1) + 1, s = job->intervals;
    const size_t bytes[] = {aligned(3 * job->segments * sizeof(double)), aligned((job->segments + 1) * sizeof(totals)),
                            aligned(candidates * sizeof(point)), aligned(levels * sizeof(point)), aligned(2 * candidates * sizeof(double)),
                            aligned(s * candidates * sizeof(uint16_t)), aligned(levels * sizeof(uint16_t)), aligned(job->segments * sizeof(double))};
    size_t total = 0;
    for (int i = 0; i < 8; i++)
        total += bytes[i];
    char *room = own->room = malloc(total);
    if (!room)
        return -1;
    own->m.column = (double *)room;
    own->m.edge = (totals *)(room += bytes[0]);
    own->candidate = (point *)(room += bytes[1]);
    own->level = (point *)(room += bytes[2]);
    own->best[0] = (double *)(room += bytes[3]);
    own->best[1] = own->best[0] + candidates;
    own->from = (uint16_t *)(room += bytes[4]);
    own->marks = (uint16_t *)(room += bytes[5]);
    own->deserved = (double *)(room + bytes[6]);
    return 0;
}

static void feature_levels(const levels_job *job, size_t f, workspace *own, double *levels, uint16_t *marks, double *cost)
{
    const size_t s = job->intervals;
    const double low = job->low[f], high = job->high[f];
    gather(job, f, &own->m);
    size_t last = job->steps;
    for (size_t j = 0; j <= last && job->steps; j++)
        own->candidate[j] = at(&own->m, j == last ? high : low + (double)j * (high - low) / (double)last);
    if (!job->steps)
        last = middles(&own->m, low, high, job->most, own->deserved, own->candidate);
    solve(own->candidate, last, s, own->best, own->from, own->marks, cost);
    for (size_t j = 0; j <= s; j++)
        own->level[j] = own->candidate[own->marks[j]];
    if (!job->steps) {
        descend(&own->m, own->level, s, job->sweeps);
        cost[s - 1] = 0;
        for (size_t j = 0; j < s; j++)
            cost[s - 1] += interval_cost(own->level + j, own->level + j + 1);
    }
    if (!job->steps)
        lean(own->level, s);
    for (size_t j = 0; j <= s; j++)
        levels[j] = own->level[j].x, marks[j] = own->marks[j];
}

#define TOGETHER 4 /* features for which room is made once */

typedef struct {
    const levels_job *job;
    double *levels, *cost;
    uint16_t *marks;
    atomic_int failed;
} levels_all;

static void levels_part(void *all, size_t part)
{
    levels_all *own = all;
    const levels_job *job = own->job;
    const size_t s = job->intervals, first = part * TOGETHER, last = first + TOGETHER < job->features ? first + TOGETHER : job->features;
    workspace room;
    if (prepare(job, s + 1, &room)) {
        atomic_store(&own->failed, 1);
        return;
    }
    for (size_t f = first; f < last; f++) {
        double *levels = own->levels + f * (s + 1), *cost = own->cost + f * s;
        uint16_t *marks = own->marks + f * (s + 1);
        if (job->high[f] > job->low[f]) {
            feature_levels(job, f, &room, levels, marks, cost);
            continue;
        }
        for (size_t j = 0; j <= s; j++)
            levels[j] = job->low[f], marks[j] = 0;
        memset(cost, 0, s * sizeof *cost);
    }
    free(room.room);
}

int best_levels(const levels_job *job, double *levels, uint16_t *marks, double *cost)
{
    levels_all all = {.job = job, .levels = levels, .cost = cost, .marks = marks};
    const size_t parts = (job->features + TOGETHER - 1) / TOGETHER;
    team_each(threads_for(job->threads, job->features * job->segments * job->intervals, parts), levels_part, &all, parts);
    return atomic_load(&all.failed) ? -1 : 0;
}

int levels_cost(const levels_job *job, const double *levels, size_t count, double *cost)
{
    workspace own;
    if (prepare(job, count, &own))
        return -1;
    for (size_t f = 0; f < job->features; f++) {
        const double *own_levels = levels + f * count;
        gather(job, f, &own.m);
        cost[f] = 0;
        for (size_t j = 0; j < count; j++) {
            own.level[j] = at(&own.m, own_levels[j]);
            if (j)
                cost[f] += interval_cost(own.level + j - 1, own.level + j);
        }
    }
    free(own.room);
    return 0;
}
