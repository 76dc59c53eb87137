/* The boards' SGD in float64: see board_float.c. */
#ifndef ZIPML_BOARD_FLOAT_H
#define ZIPML_BOARD_FLOAT_H

#include <stddef.h>

typedef struct {
    const double *a1, *a2, *labels; /* a block of rows: values of the dot product and of the update, (rows, features) */
    size_t rows, features;
    size_t number, mask, last; /* the first row's number; rows of a batch less 1; after this row too a batch ends */
    double step;
    double *x, *next; /* the model that dot products read, and the one that updates go to */
} float_job;

void board_float(const float_job *job);

#endif
