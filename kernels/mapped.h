/* Files mapped into memory that may shrink: see mapped.c. */
#ifndef ZIPML_MAPPED_H
#define ZIPML_MAPPED_H

#include <stddef.h>

/* `size` bytes of zeros, in the place of which files can be mapped: a number for the calls below, or -1. */
int mapping_open(size_t size);

/* Maps `size` bytes of a file from `offset` on to byte `at`, both multiples of the page's size: 1, or 0. */
int mapping_place(int number, int descriptor, long long offset, size_t size, size_t at);

const void *mapping_start(int number);

/* Whether a part could not be read when it was touched, and has been zeros since. */
int mapping_lost(int number);

void mapping_close(int number);

#endif
