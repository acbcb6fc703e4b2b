/* What a machine gives: a line of output, a clock, and the clock's ticks for 400,000 instructions (0: no such clock). */
#include <stdint.h>

void say(const char *name, uint32_t number);
uint32_t ticks(void);
uint32_t calibration(void);
