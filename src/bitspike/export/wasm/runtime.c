/* A network as a WebAssembly module: what it takes from its host, and what it offers. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORT(NAME) __attribute__((export_name(#NAME)))
#define PLAIN __attribute__((no_builtin)) /* or these loops would become calls of themselves */

PLAIN void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
    uint8_t *out = to;
    const uint8_t *in = from;
    while (bytes--) *out++ = *in++;
    return to;
}

PLAIN void *memset(void *to, int value, size_t bytes) {
    uint8_t *out = to;
    while (bytes--) *out++ = (uint8_t)value;
    return to;
}

PLAIN void *memmove(void *to, const void *from, size_t bytes) {
    uint8_t *out = to;
    const uint8_t *in = from;
    if (out < in) return memcpy(to, from, bytes);
    while (bytes--) out[bytes] = in[bytes];
    return to;
}

__attribute__((import_module("host"), import_name("observe"))) extern void host_observe(
    uint32_t index, const void *levels, uint32_t count, uint32_t bytes, uint32_t is_signed);

static uint32_t watched;

#define NET_OBSERVE(INDEX, POINTER, COUNT, BYTES, SIGNED)                                   \
    do {                                                                                    \
        if (watched) host_observe(INDEX, POINTER, (uint32_t)(COUNT), BYTES, SIGNED);         \
    } while (0)
#include "net.c"

EXPORT(watch) void watch(uint32_t on) { watched = on; }

EXPORT(fingerprint) uint32_t fingerprint(void) { return FINGERPRINT; }

EXPORT(context_bytes) uint32_t context_bytes(void) { return sizeof(net_context); }

EXPORT(reset) void reset(net_context *c) { net_reset(c); }

#ifdef NAMED
EXPORT(step) int32_t step(net_context *c, const net_input *x, net_outputs *y) { return net_step(c, x, y); }

EXPORT(run) int32_t run(net_context *c, const net_input *x, net_outputs *y) {
    net_run(c, x, y);
    return 0;
}

EXPORT(steps) uint32_t steps(const net_context *c, int32_t output) { return net_steps(c, output); }
#else
EXPORT(step) int32_t step(net_context *c, const net_input *x, net_output *y) { return net_step(c, x, y); }

EXPORT(run) int32_t run(net_context *c, const net_input *x, net_output *y) {
    net_run(c, x, y);
    return NET_OUTPUT_STEPS;
}

EXPORT(steps) uint32_t steps(const net_context *c, int32_t output) {
    (void)output;
    return net_steps(c);
}
#endif

EXPORT(clamped) double clamped(const net_context *c, int32_t operation) { return (double)net_clamped(c, operation); }

#ifdef REAL
EXPORT(quantize) int32_t quantize(const float *x, net_input *q) { return net_quantize(x, q); }
#endif
