/* Sums of w, wx and wx^2 over any range of sorted points: see moments.c. */
#ifndef ZIPML_MOMENTS_H
#define ZIPML_MOMENTS_H

#include "twofold.h"

#include <stddef.h>

typedef struct { twofold w, s, q; } moments; /* sums of w, w x, w x^2 */
typedef struct { double w, s, q; } local;    /* the same about a point near by, where a double is enough */
typedef struct {
    moments sums;         /* over the points from the middle block to this one, negative below it */
    double rough, square; /* weight times width, and times its square, of the blocks before that are summed in float64 */
} block;

typedef struct {
    const double *x, *weights; /* ascending; positive, or NULL for ones */
    size_t count;
    double shift, scale[2], weight_scale; /* chosen by points_init */
    double wide;                          /* blocks wider than this are summed in twofold */
    block *blocks;                        /* [count / 32 + 2] */
} points;

/* Coordinate of point i: shifted exactly, scaled by a power of two so that all lie within a spread of 1..2. */
static inline double point(const points *p, size_t i)
{
    return (p->x[i] - p->shift) * p->scale[0] * p->scale[1];
}

static inline double point_weight(const points *p, size_t i)
{
    return p->weights ? p->weights[i] * p->weight_scale : 1;
}

/* Returns 0, or -1 when memory ran out. points_free in either case. */
int points_init(points *p, const double *x, const double *weights, size_t count);
void points_free(points *p);

/* Sums over the points from a fixed one near the middle to i, without i: negative below it. */
moments moments_before(const points *p, size_t i);

/* Sums over from..to-1 (negative where to < from) about the coordinate `origin`. */
local moments_between(const moments *from, const moments *to, double origin);

/* sum w (q - x)(x - p) over the points between; `from` are the sums up to and including p, `to` those before q. */
static inline double moments_cost(const moments *from, const moments *to, twofold p, twofold q)
{
    const twofold w = minus(to->w, from->w), s = minus(to->s, from->s), about = minus(s, times(w, p));
    return value(minus(add(times(about, q), times(s, p)), minus(to->q, from->q))); /* q (S - p W) + p S - Q */
}

/* Bounds of what the sums' errors add to that of any cost between points low and high: of their float64 parts, where the points
 * are `width` apart, and of their twofold parts, where q + y s + z s + y z w is at most `magnitude` for sums w, s, q and places y, z. */
double moments_error(const points *p, size_t low, size_t high, double width);
double moments_twofold_error(size_t low, size_t high, double magnitude);

/* The smallest i in low..high such that the weight of points 0..i, less that before `start`, is at least `mass`; else high. */
size_t moments_locate(const points *p, size_t start, double mass, size_t low, size_t high);

#endif
