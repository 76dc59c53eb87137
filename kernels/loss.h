/* Losses of a row, and the proximal step of a coefficient: what the three trainers share. Formulas: formats/FORMAT.md, section 5. */
#ifndef ZIPML_LOSS_H
#define ZIPML_LOSS_H

#include <stddef.h>

/* Of a prediction z and a label y: (z - y)^2 / 2; and for labels -1 and +1, log(1 + exp(-yz)) and max(0, 1 - yz). */
enum loss { LOSS_SQUARED = 0, LOSS_LOGISTIC = 1, LOSS_HINGE = 2, LOSS_COUNT };

/* After a step of size e, in this order: x towards 0 by e * shrink, x / (1 + e * ridge), x into low..high.
 * Vectors as long as the model's; NULL: left out. */
typedef struct { const float *shrink, *ridge, *low, *high; } proximal;

static inline float row_weight(const float *weights, size_t row) { return weights ? weights[row] : 1; }

#endif
