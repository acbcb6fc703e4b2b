/* The part of string.h that generated C uses, for a target without a C library; runtime.c holds the functions. */
#ifndef BITSPIKE_STRING_H
#define BITSPIKE_STRING_H
#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

#endif
