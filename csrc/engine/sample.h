// One sample while it runs, and what heads and tails do with a tile of it.

#pragma once

#include <algorithm>

#include "pool.h"
#include "program.h"

struct Tile {
    int64_t place, places, channel, channels;
    int64_t size() const { return places * channels; }
};

// What one sample needs while it runs.
struct Sample {
    const Program* p;
    unsigned char *arena, *state;
    unsigned char* taken;  // levels of one step of a real input, as it came
    unsigned char* scratch[MAX_THREADS];
    int64_t* clamped[MAX_THREADS];
    int64_t *value_steps, *op_steps;
    unsigned char *value_held, *op_held;
    int threads;
    bool transient;  // a whole run: no membrane outlives its tile
    int64_t* profile;  // null, or nanoseconds by group, then of input and output
    const Group* group;
    int64_t tile_places, tile_channels;  // of the group
    const Op* op;

    int64_t& counter(int64_t at) const { return *reinterpret_cast<int64_t*>(state + at); }
    int32_t* tensor(int64_t at) const { return reinterpret_cast<int32_t*>(state + at); }
    int64_t steps(const Op& op) const { return op_steps[op.id]; }
    int64_t physical(const Op& op) const { return op_held[op.id] ? 1 : op_steps[op.id]; }
    int64_t value_physical(int v) const { return value_held[v] ? 1 : value_steps[v]; }
    const unsigned char* at(int v, int64_t step) const {
        const Value& x = p->values[v];
        return arena + x.offset + (value_held[v] ? 0 : step) * x.channels * x.places * dtype_bytes(x.dtype);
    }
};

inline int64_t advanced(int64_t time, int64_t steps) { return std::min<int64_t>(time + steps, INT32_MAX); }

// Of an operand: from a pixel to the next, and from a step to the next.
inline int64_t pixel_elements(const Op& op, const Value& x) {
    return op.at[9] == FORM_BITS ? (x.channels + 7) / 8 : x.channels;
}
inline int64_t conv_step_elements(const Op& op, const Value& x) {
    return op.at[12] * op.at[13] * pixel_elements(op, x) * (op.at[9] == FORM_BITS ? op.bits.planes : 1);
}

inline int64_t form_bytes(int64_t form) { return form == FORM_U8 || form == FORM_BITS ? 1 : form == FORM_I16 ? 2 : 4; }

struct Buffers {
    unsigned char* base;
    int64_t slot_bytes, size;  // numbers of a tile
    int slots;

    int32_t* membrane(int i) const { return reinterpret_cast<int32_t*>(base + (slots + i) * slot_bytes); }
    int32_t* of(const Op& op) const { return reinterpret_cast<int32_t*>(base + op.slot * slot_bytes); }
    int64_t* wide(const Op& op) const { return reinterpret_cast<int64_t*>(base + op.slot * slot_bytes); }
};

// What a store has written of a tile, into the operands of the convolutions that it feeds, with their borders.
void feed_operands(const Sample& s, const Op& store, const Tile& tile);

// Does all of a group that only moves numbers; false where it is another one.
bool move_only(const Sample& s, const Group& g, const Tile& tile);

// Before the tiles: a row of the operand of s.op, by number; sums of a tally.
void operand_row(void* sample, long task, int thread);
void tally_sums(Sample& s, const Op& op);

// Heads write their buffer for a tile; they read values of the arena.
void run_head(const Sample& s, const Op& op, const Tile& tile, int32_t* out);

// Everything else works number by number. Returns how many numbers were clamped.
int64_t run_tail(const Sample& s, const Group& g, const Op& op, const Tile& tile, const Buffers& b);
