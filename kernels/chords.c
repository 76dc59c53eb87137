/* One layer of the levels' dynamic programme: for each row the best column, by divide and conquer.
 * V(p, q) = sum w (x_q - x)(x - x_p) over p < x < q = A_p - A_q + x_q Phi_p - x_p Phi_q, Phi = x W - S, A = Q - x S
 * (W, S, Q the sums of w, wx, wx^2 up to there): two products, the rest is added to rows and columns beforehand.
 * V obeys the quadrangle inequality, so argmins ascend with the row: O((rows + columns) log rows) evaluations.
 * Where float64 about a near origin cannot carry V, it is computed from twofold sums, ten times as slowly. */
#include "chords.h"
#include "simd.h"

#include <math.h>

static inline double twofold_cost(const chord_layer *layer, size_t row, size_t column)
{
    const size_t source = layer->backward ? row : column, target = layer->backward ? column : row;
    const moments *from = layer->backward ? layer->row_sums : layer->column_sums, *to = layer->backward ? layer->column_sums : layer->row_sums;
    const twofold p = (layer->backward ? layer->row_places : layer->column_places)[source];
    const twofold q = (layer->backward ? layer->column_places : layer->row_places)[target];
    return moments_cost(&from[source], &to[target], p, q);
}

ALWAYS_INLINE void minima(chord_layer *layer, size_t first, size_t last, size_t low, size_t high, const int exact, const int every)
{
    struct { size_t first, last, low, high; } stack[64];
    size_t depth = 0;
    for (;;) {
        while (first < last) {
            const size_t row = first + (last - first) / 2, limit = layer->limit[row];
            const size_t from = layer->backward && limit > low ? limit : low, to = !layer->backward && limit < high + 1 ? limit : high + 1;
            double least = INFINITY;
            size_t argument = from < to ? from : layer->backward ? layer->columns - 1 : low;
            const double a = exact ? 0 : layer->a[row], b = exact ? 0 : layer->b[row];
            for (size_t k = from; k < to; k++) {
                const double cost = layer->cost[k] + (exact ? twofold_cost(layer, row, k) : a * layer->u[k] - b * layer->v[k]);
                if (cost < least)
                    least = cost, argument = k;
            }
            layer->evaluations += from < to ? to - from : 0;
            layer->best[row] = least;
            layer->argument[row] = (uint32_t)argument;
            stack[depth].first = row + 1, stack[depth].last = last, stack[depth].low = every ? low : argument, stack[depth++].high = high;
            last = row;
            high = every ? high : argument;
        }
        if (depth == 0)
            return;
        depth--;
        first = stack[depth].first, last = stack[depth].last, low = stack[depth].low, high = stack[depth].high;
    }
}

void chord_minima(chord_layer *layer)
{
    if (layer->row_sums)
        minima(layer, 0, layer->rows, 0, layer->columns - 1, 1, layer->rows * layer->columns <= CHORDS_EVERY);
    else
        minima(layer, 0, layer->rows, 0, layer->columns - 1, 0, 0);
}
