/* Sums of w, wx, wx^2 over any range of N sorted points in O(1), from one entry in 32: extra memory 2 N bytes.
 * A block's own sums are float64 about one of its ends, where little is lost; twofold sums join the blocks:
 * S += s + a w, Q += q + a (2 s + a w) for a block at a. The few blocks wider than 1/128 of the spread (an outlier, a gap between
 * clusters) are summed in twofold. A place inside a block is reached from the block's end nearer to it in value.
 * Shifts are exact: subtracted only where all points lie within a factor of two (Sterbenz). Scales are powers of two. */
#include "moments.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 32, LANES = 4 };

/* Sums about 0 of points whose sums about `origin` are given. */
static moments moved(local sums, double origin)
{
    const twofold shifted = two_product(origin, sums.w), s = plus(shifted, sums.s), q = times(plus(s, sums.s), (twofold){origin, 0});
    return (moments){{sums.w, 0}, s, plus(q, sums.q)};
}

static moments joined(const moments *a, moments b)
{
    return (moments){add(a->w, b.w), add(a->s, b.s), add(a->q, b.q)};
}

static moments negative(moments a)
{
    return (moments){{-a.w.hi, -a.w.lo}, {-a.s.hi, -a.s.lo}, {-a.q.hi, -a.q.lo}};
}

static moments wide_part(const points *p, size_t from, size_t to)
{
    moments sums = {{0, 0}, {0, 0}, {0, 0}};
    for (size_t i = from; i < to; i++) {
        const double x = point(p, i), w = point_weight(p, i);
        const twofold s = two_product(w, x);
        sums = joined(&sums, (moments){{w, 0}, s, times(s, (twofold){x, 0})});
    }
    return sums;
}

static local whole_block(const points *p, size_t from, double origin)
{
    double w[LANES] = {0}, s[LANES] = {0}, q[LANES] = {0};
    for (size_t i = from; i < from + BLOCK; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++) {
            const double y = point(p, i + lane) - origin;
            s[lane] += y;
            q[lane] += y * y;
        }
    for (size_t lane = 0; lane < LANES; lane++)
        w[lane] = BLOCK / LANES;
    return (local){(w[0] + w[1]) + (w[2] + w[3]), (s[0] + s[1]) + (s[2] + s[3]), (q[0] + q[1]) + (q[2] + q[3])};
}

static local part(const points *p, size_t from, size_t to, double origin)
{
    local sums = {0, 0, 0};
    for (size_t i = from; i < to; i++) {
        const double y = point(p, i) - origin, w = point_weight(p, i);
        sums.w += w;
        sums.s += w * y;
        sums.q += w * y * y;
    }
    return sums;
}

static size_t block_end(const points *p, size_t from)
{
    return p->count - from > BLOCK ? from + BLOCK : p->count;
}

/* A block's upper end: the next one's first point, so that what is summed downwards from it is near it. */
static size_t end_point(const points *p, size_t to)
{
    return to < p->count ? to : to - 1;
}

int points_init(points *p, const double *x, const double *weights, size_t count)
{
    const double low = x[0], high = x[count - 1];
    int exponent;
    *p = (points){x, weights, count, 0, {1, 1}, 1, 0, NULL};
    if (low > 0 && high / 2 <= low)
        p->shift = low;
    else if (high < 0 && low / 2 >= high)
        p->shift = high;
    frexp((high - p->shift) / 2 - (low - p->shift) / 2, &exponent);
    if (high > low) {
        p->scale[0] = ldexp(1, -exponent / 2);
        p->scale[1] = ldexp(1, -exponent - -exponent / 2);
    }
    if (weights) {
        double most = 0;
        for (size_t i = 0; i < count; i++)
            most = weights[i] > most ? weights[i] : most;
        frexp(most, &exponent);
        p->weight_scale = ldexp(1, exponent < -1000 ? 1000 : -exponent);
    }
    p->wide = (point(p, count - 1) - point(p, 0)) / 128;
    p->blocks = malloc((count / BLOCK + 2) * sizeof *p->blocks);
    if (!p->blocks)
        return -1;
    double rough = 0, square = 0;
    size_t end = 0;
    for (size_t from = 0; from < count; from += BLOCK) {
        const size_t to = block_end(p, from);
        const double origin = point(p, from), width = point(p, end_point(p, to)) - origin;
        block *const b = &p->blocks[end++];
        *b = (block){{{0, 0}, {0, 0}, {0, 0}}, rough, square};
        if (width > p->wide)
            b->sums = wide_part(p, from, to);
        else {
            const local sums = !weights && to - from == BLOCK ? whole_block(p, from, origin) : part(p, from, to, origin);
            b->sums = moved(sums, origin);
            rough += sums.w * width;
            square += sums.w * width * width;
        }
    }
    p->blocks[end] = (block){{{0, 0}, {0, 0}, {0, 0}}, rough, square};
    moments sums = {{0, 0}, {0, 0}, {0, 0}};
    for (size_t b = end / 2; b <= end; b++) { /* outliers at either end do not blur the sums between them */
        const moments of_block = p->blocks[b].sums;
        p->blocks[b].sums = sums;
        sums = joined(&sums, of_block);
    }
    sums = (moments){{0, 0}, {0, 0}, {0, 0}};
    for (size_t b = end / 2; b-- > 0;) {
        sums = joined(&sums, negative(p->blocks[b].sums));
        p->blocks[b].sums = sums;
    }
    return 0;
}

void points_free(points *p)
{
    free(p->blocks);
}

moments moments_before(const points *p, size_t i)
{
    const size_t b = i / BLOCK, from = b * BLOCK;
    if (i == from)
        return p->blocks[b].sums;
    if (i == p->count)
        return p->blocks[b + 1].sums;
    const size_t to = block_end(p, from);
    const double low = point(p, from), high = point(p, end_point(p, to)), x = point(p, i);
    if (high - low > p->wide && b < p->count / BLOCK / 2)
        return joined(&p->blocks[b + 1].sums, negative(wide_part(p, i, to)));
    if (high - low > p->wide)
        return joined(&p->blocks[b].sums, wide_part(p, from, i));
    if (x - low <= high - x)
        return joined(&p->blocks[b].sums, moved(part(p, from, i, low), low));
    return joined(&p->blocks[b + 1].sums, negative(moved(part(p, i, to, high), high)));
}

double moments_error(const points *p, size_t low, size_t high, double width)
{
    /* At most 34 roundings of each of at most 32 terms, and the ends' own blocks twice. */
    const block *a = &p->blocks[low / BLOCK], *b = &p->blocks[(high + BLOCK - 1) / BLOCK];
    return 0x1p-46 * ((b->rough - a->rough) * width + (b->square - a->square));
}

double moments_twofold_error(size_t low, size_t high, double magnitude)
{
    /* 2^-102 of the magnitude: once a block joined, and less than 64 times on the way to a cost. */
    return 0x1p-102 * ((double)((high - low) / BLOCK) + 64) * magnitude;
}

local moments_between(const moments *from, const moments *to, double origin)
{
    const twofold about = {origin, 0}, w = minus(to->w, from->w), s = minus(to->s, from->s), shifted = minus(s, times(w, about));
    const twofold q = minus(minus(to->q, from->q), times(add(s, shifted), about));
    return (local){value(w), value(shifted), value(q)};
}

size_t moments_locate(const points *p, size_t start, double mass, size_t low, size_t high)
{
    if (!p->weights) {
        const double steps = ceil(mass) - 1;
        return steps <= (double)low - (double)start ? low : steps >= (double)high - (double)start ? high : start + (size_t)steps;
    }
    const twofold before = moments_before(p, start).w;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (value(minus(moments_before(p, middle + 1).w, before)) >= mass)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}
