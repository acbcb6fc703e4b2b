/* A machine with an operating system. */
#include <stdio.h>
#include "device.h"

void say(const char *name, uint32_t number) { printf("%s %lu\n", name, (unsigned long)number); }
uint32_t ticks(void) { return 0; }
uint32_t calibration(void) { return 0; }
