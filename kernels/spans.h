/* Where the search for levels starts: see spans.c. */
#ifndef ZIPML_SPANS_H
#define ZIPML_SPANS_H

#include "moments.h"

typedef struct { size_t first, last; double weight; } span; /* points first..last; weight times width squared, -1 for one point */

/* Fills `spans` with at most `most` that cover the points but for the first and the last, ascending; returns how many. */
size_t spans_cover(const points *p, span *spans, size_t most);

#endif
