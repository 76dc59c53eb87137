/* Levels improved one at a time: see sweep.c. */
#ifndef ZIPML_SWEEP_H
#define ZIPML_SWEEP_H

#include "moments.h"

/* Moves levels[1..s - 1], made distinct if need be; levels[0] is the first point and levels[s] becomes the last. Returns their cost.
 * below, above: room for s + 1. Adds the moves tried to `evaluations`. */
double sweep_levels(const points *p, size_t s, size_t *levels, moments *below, moments *above, size_t *evaluations);

#endif
