/* Runs every sample of data.h whole and as a stream, compares with what the interpreter said, and counts time. */
#include "net.h"
#include "data.h"
#include "device.h"

#ifndef TIMED
#define TIMED 0
#endif
#define SAMPLE ((uint32_t)NET_INPUT_STEPS * NET_INPUT_SIZE)
#define ROWS ((uint32_t)NET_OUTPUT_STEPS * NET_OUTPUT_SIZE)

static net_context context;
static net_output rows[ROWS + (uint32_t)NET_MAX_OUTPUTS * NET_OUTPUT_SIZE];

static uint32_t different(const net_output *expected)
{
    for (uint32_t i = 0; i < ROWS; i++)
        if (rows[i] != expected[i]) return 1;
    return 0;
}

int main(void)
{
    uint32_t wrong = 0, wrong_streams = 0, fewest = 0xffffffffu, most = 0, sum = 0;
    uint64_t clamped = 0;
    for (uint32_t s = 0; s < SAMPLES; s++) {
        const net_input *x = inputs + s * SAMPLE;
        const uint32_t before = ticks();
        net_run(&context, x, rows);
        const uint32_t taken = (ticks() - before) & 0xffffffu; /* a clock of 24 bits */
        if (taken < fewest) fewest = taken;
        if (taken > most) most = taken;
        sum += taken;
        wrong += different(outputs + s * ROWS) | (net_steps(&context) != COUNTED);
        for (int i = 0; i < NET_OPERATIONS; i++) clamped += net_clamped(&context, i);
        if (TIMED) continue;
        net_reset(&context);
        net_output *y = rows;
        for (int t = 0; t < NET_STEPS; t++) {
            const int count = net_step(&context, NET_INPUT_STEPS == 1 ? x : x + (uint32_t)t * NET_INPUT_SIZE, y);
            if (NET_MAX_OUTPUTS != 1 || NET_OUTPUT_STEPS != 1) y += count * NET_OUTPUT_SIZE;
        }
        wrong_streams += different(outputs + s * ROWS);
    }
    wrong += clamped != CLAMPED;
    say("samples", SAMPLES);
    say("wrong", wrong);
    say("wrong_streams", wrong_streams);
    say("fewest_ticks", fewest);
    say("most_ticks", most);
    say("sum_ticks", sum);
    say("calibration_ticks", calibration());
    say("context_bytes", (uint32_t)NET_CONTEXT_BYTES);
    return (int)(wrong + wrong_streams);
}
