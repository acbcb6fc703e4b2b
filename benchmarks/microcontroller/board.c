/* A Cortex-M of the mps2 boards: vectors, start, semihosting, and SysTick as the clock. */
#include "device.h"

extern uint32_t stack_top[], data_load[], data_start[], data_end[], bss_start[], bss_end[];
int main(void);

#define SYSTICK ((volatile uint32_t *)0xE000E010u)

static void host(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void say(const char *name, uint32_t number)
{
    char line[12], *at = line + sizeof line;
    *--at = 0;
    *--at = '\n';
    do *--at = (char)('0' + number % 10u); while (number /= 10u);
    host(4, name);
    host(4, " ");
    host(4, at);
}

uint32_t ticks(void) { return 0xffffffu - SYSTICK[2]; }

uint32_t calibration(void)
{
    uint32_t count = 200000;
    const uint32_t before = ticks();
    __asm__ volatile("1: subs %0, %0, #1\n bne 1b" : "+r"(count) : : "cc");
    return (ticks() - before) & 0xffffffu;
}

static void fault(void)
{
    host(4, "fault\n");
    host(0x18, (const void *)0x20024);
}

static void reset(void)
{
    const uint32_t *from = data_load;
    for (uint32_t *to = data_start; to < data_end; to++) *to = *from++;
    for (uint32_t *to = bss_start; to < bss_end; to++) *to = 0;
    SYSTICK[1] = 0xffffffu;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5;
    host(0x18, (const void *)(main() ? 0x20024 : 0x20026));
    for (;;) {}
}

struct vectors {
    uint32_t *stack;
    void (*handlers[15])(void);
};
extern const struct vectors vectors;
__attribute__((section(".vectors"), used)) const struct vectors vectors = {
    stack_top, {reset, fault, fault, fault, fault, fault},
};
