/* How often each code of a feature occurs: see tally.c. */
#ifndef ZIPML_TALLY_H
#define ZIPML_TALLY_H

#include <stddef.h>
#include <stdint.h>

/* Adds to counts[f << bits | code] the rows in which feature f has that code. */
void tally(const uint8_t *packed, size_t stride, size_t rows, size_t features, int bits, uint64_t *counts, int threads);

#endif
