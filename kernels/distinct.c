/* Merging equal values of a sorted array, in place: equal values are one point of the levels' problem, their weights added.
 * Counting first lets an array without repetition go through unweighted, at one pass of reading.
 * Weights are added twofold: a million small ones on a large one are not lost.
 * -0.0 and 0.0 are equal: the first one stays.
 * By hand: np.unique would take 17 bytes a value more. */
#include "distinct.h"
#include "twofold.h"

size_t distinct_count(const double *x, size_t count)
{
    size_t steps = count > 0;
    for (size_t i = 1; i < count; i++)
        steps += x[i] != x[i - 1];
    return steps;
}

size_t distinct(double *x, double *weights, size_t count)
{
    size_t out = 0;
    for (size_t i = 0; i < count; out++) {
        const double v = x[i];
        twofold sum = {0, 0};
        for (; i < count && x[i] == v; i++)
            sum = plus(sum, weights[i]);
        x[out] = v;
        weights[out] = value(sum);
    }
    return out;
}
