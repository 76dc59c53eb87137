/* Levels improved one at a time: each moves to the best place between its neighbours, in turn, until none moves.
 * Between levels a and c the cost falls with u while the weight of a < x <= u is less than sum w (c - x) / (c - a) over a < x < c:
 * the derivative of the two chords' area. O(1) a move, O(log N) with weights.
 * A bounded number of sweeps: they converge slowly with many levels, where the search's cells do better.
 * The cost is of twofold sums: an upper bound on the least one. */
#include "sweep.h"

enum { SWEEPS = 32 };

double sweep_levels(const points *p, size_t s, size_t *levels, moments *below, moments *above, size_t *evaluations)
{
    for (size_t j = 1; j <= s; j++)
        levels[j] = levels[j] > levels[j - 1] ? levels[j] : levels[j - 1] + 1;
    for (size_t j = s; j-- > 0;)
        levels[j] = levels[j] < p->count - 1 - (s - j) ? levels[j] : p->count - 1 - (s - j);
    levels[s] = p->count - 1;
    for (size_t j = 0; j <= s; j++) {
        below[j] = moments_before(p, levels[j]);
        above[j] = moments_before(p, levels[j] + 1);
    }
    for (int round = 0, moved = 1; round < SWEEPS && moved; round++) {
        moved = 0;
        for (size_t j = 1; j < s; j++) {
            const size_t low = levels[j - 1] + 1, high = levels[j + 1] - 1;
            const double a = point(p, low - 1), width = point(p, high + 1) - a;
            if (low >= high || !(width > 0))
                continue;
            const local sums = moments_between(&above[j - 1], &below[j + 1], a);
            const size_t best = moments_locate(p, low, sums.w - sums.s / width, low, high);
            ++*evaluations;
            if (best != levels[j]) {
                levels[j] = best, moved = 1;
                below[j] = moments_before(p, best);
                above[j] = moments_before(p, best + 1);
            }
        }
    }
    twofold total = {0, 0};
    for (size_t j = 0; j < s; j++) {
        const twofold a = {point(p, levels[j]), 0}, b = {point(p, levels[j + 1]), 0};
        const double cost = moments_cost(&above[j], &below[j + 1], a, b);
        total = plus(total, levels[j + 1] - levels[j] > 1 && cost > 0 ? cost : 0);
    }
    return value(total);
}
