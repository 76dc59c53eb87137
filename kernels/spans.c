/* Where the search for levels starts: spans of points, fine where levels will be dense.
 * The span of the largest weight * width^2 is halved in value until there are enough. Optimal levels lie as densely as the cube
 * root of the weight's density, which makes weight * width^2 the same in every interval: so there are as many spans to each.
 * By value, an outlier or a gap between clusters is cut off at once, and tails in steps of two.
 * O(log N) a span: a heap, and a binary search. */
#include "spans.h"

#include <stdlib.h>

static span make_span(const points *p, size_t first, size_t last)
{
    const double width = point(p, last) - point(p, first);
    double w = (double)(last - first + 1);
    if (p->weights && last > first) {
        const moments from = moments_before(p, first), to = moments_before(p, last + 1);
        w = value(minus(to.w, from.w));
    }
    return (span){first, last, first == last ? -1 : w * width * width};
}

static void sift(span *heap, size_t count, size_t i)
{
    for (size_t child; (child = 2 * i + 1) < count; i = child) {
        child += child + 1 < count && heap[child + 1].weight > heap[child].weight;
        if (heap[i].weight >= heap[child].weight)
            return;
        const span t = heap[i];
        heap[i] = heap[child], heap[child] = t;
    }
}

static int by_place(const void *a, const void *b)
{
    const size_t x = ((const span *)a)->first, y = ((const span *)b)->first;
    return (x > y) - (x < y);
}

size_t spans_cover(const points *p, span *heap, size_t most)
{
    size_t count = 0;
    if (p->count < 3)
        return 0;
    heap[count++] = make_span(p, 1, p->count - 2);
    while (count < most && heap[0].weight >= 0) {
        const size_t first = heap[0].first, last = heap[0].last;
        const double middle = (point(p, first) + point(p, last)) / 2;
        size_t low = first + 1, high = last;
        if (point(p, last) > middle) {
            while (low < high) { /* the first point above the middle */
                const size_t m = low + (high - low) / 2;
                if (point(p, m) > middle)
                    high = m;
                else
                    low = m + 1;
            }
        } else
            low = first + (last - first + 1) / 2;
        heap[0] = make_span(p, first, low - 1);
        sift(heap, count, 0);
        size_t i = count++;
        heap[i] = make_span(p, low, last);
        for (; i > 0 && heap[i].weight > heap[(i - 1) / 2].weight; i = (i - 1) / 2) {
            const span t = heap[i];
            heap[i] = heap[(i - 1) / 2], heap[(i - 1) / 2] = t;
        }
    }
    qsort(heap, count, sizeof *heap, by_place);
    return count;
}
