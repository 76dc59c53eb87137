/* Merging equal values: see distinct.c. */
#ifndef ZIPML_DISTINCT_H
#define ZIPML_DISTINCT_H

#include <stddef.h>

/* How many different values there are in ascending x. */
size_t distinct_count(const double *x, size_t count);

/* Moves the different values of ascending x to its front, each with the sum of its weights; returns how many. */
size_t distinct(double *x, double *weights, size_t count);

#endif
