/* Files mapped into memory that may shrink: see mapped.c. */
#ifndef ZIPML_MAPPED_H
#define ZIPML_MAPPED_H

#include <stddef.h>

/* `size` bytes of a file from `offset` on, a multiple of the page's size: a number for the calls below, or -1. */
int mapping_open(int descriptor, long long offset, size_t size);

const void *mapping_start(int number);

/* Whether a part could not be read when it was touched, and has been zeros since. */
int mapping_lost(int number);

void mapping_close(int number);

#endif
