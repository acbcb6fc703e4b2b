// A program as the engine runs it: groups of operations over tiles, made from the words that Python wrote.
//
// Values lie as [steps][places][channels]. A group has one head at most (what reads neighbours: a convolution, a pool)
// and a tail of operations that work number by number; it runs tile by tile, and what only the group itself reads stays in
// a few buffers of 32-bit integers.

#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

enum Dtype { DTYPE_I8, DTYPE_U8, DTYPE_I16, DTYPE_U16, DTYPE_I32, DTYPE_I64, DTYPES };

enum Kind {
    // heads: they read values of the arena
    OP_CONV,
    OP_SUMPOOL,
    OP_MAXPOOL,
    OP_TALLY,
    OP_WINDOWS,
    OP_REMAP,
    OP_CONCAT,
    // loads and stores
    OP_LOAD,
    OP_LOAD_ROW,
    OP_STORE,
    // number by number
    OP_RESCALE,
    OP_ADD,
    OP_MULTIPLY,
    OP_FIRE,
    OP_FIRE_POTENTIAL,
    OP_LOOKUP,
    OP_LATCH,
    OP_MEAN,
    KINDS
};

struct Value {
    int64_t channels, places, height, width;
    int dtype;
    int64_t capacity;  // steps
    int64_t offset;    // bytes into the arena
};

// Neighbouring numbers of a remap that are neighbours in its input, too, or all 0 (from -1); within one place.
struct Run {
    int64_t to, from, count;
};

// A current of a fused neuron: operations of its group, -1 where there is none.
struct SpikePart {
    int rescale = -1;  // scaling on the way
    int source = -1;   // operation whose buffer is read, or a load whose value is read where it lies
    bool direct = false;
    Scaling scaling = AS_IT_IS;
    std::vector<int64_t> addend;
};

struct Op {
    int kind;
    int report;                 // counter of clamped numbers, or -1
    int slot;                   // buffer that it writes, or -1
    bool wide;                  // 64-bit numbers in it
    std::vector<int> in;        // values (heads, loads), else operations of the same group
    std::vector<int64_t> at;    // numbers by kind: see parse in program.cpp
    std::vector<std::vector<int32_t>> tables;
    // made from these once:
    std::vector<unsigned char> packed;  // weights in the layout of the kernel
    std::vector<int32_t> bias;          // with the offset of the operand taken off
    std::vector<int32_t> segments;
    std::vector<Run> runs;              // of a remap; those of place p are runs[starts[p]] to runs[starts[p + 1]]
    std::vector<int64_t> starts;
    int pairs = 0;  // as in ConvArgs
    BitForm bits{};
    int id = 0;                         // over all groups
    bool fused = false;                 // a neuron behind it does its work
    std::vector<SpikePart> parts;       // of a neuron that does: the currents it sums
    SpikePart outer;                    // and the scaling of their sum
    int stored = -1;                    // and the store of its spikes
    std::vector<const Op*> feeds;       // of a store: convolutions whose operand it writes, too
};

struct Join {  // steps of several inputs that do not come together: what is there for all of them goes on
    std::vector<int> from, to;
    std::vector<int64_t> state, count;  // offsets of what waits, and of how many steps that are
};

struct Echo {  // a value that is there before a step runs: what another one was at the step before
    int from, to;
    int64_t state, bytes;  // where it waits
};

struct Group {
    bool is_join = false;
    Join join;
    int64_t channels = 0, places = 0;
    int slots = 0;
    std::vector<Op> ops;
    // tiles: runs of places, or of channels where there is one place
    int64_t tile_places = 1;
    int64_t tile_channels = 0;
    int64_t tiles = 1;
    int64_t slot_bytes = 0;  // of one buffer
    int64_t width = 1;       // of a row of places
    bool shared = false;     // enough work for more than one thread
    bool whole = false;      // channels cannot be cut
    int64_t unit = LANES;    // or in multiples of it

    // Places and channels of a tile, so that so many threads have equally many tiles.
    void tile_for(int threads, int64_t& places, int64_t& channels) const;
};

struct Output {
    int value = -1;            // -1: sums of a read-out
    int report = -1;           // which then has this number
    const Op* mean = nullptr;  // and is this one
    int64_t channels = 0, places = 0, capacity = 1;
};

struct Program {
    const Kernels* kernels = nullptr;
    std::vector<Value> values;
    std::vector<Group> groups;
    std::vector<Echo> echoes;
    int input = 0;
    std::vector<Output> outputs;
    int64_t output_numbers = 0;  // of one sample
    int reports = 0, ops = 0;
    int64_t chunk = 1;  // input steps at a time at most
    int64_t arena_bytes = 0, state_bytes = 0, scratch_bytes = 0;  // scratch: buffers of one thread
    int64_t kept_bytes = 0;  // of a state without membranes, which lie behind
    int64_t max_count = 0;
    double factor = 0;  // of real inputs, which become levels low to high
    int32_t low = 0, high = 0;
};

// Words and tables as runtime/engine/words.py writes them; null and a message where they do not fit together.
Program* parse_program(const int64_t* words, int64_t count, const int32_t* const* tables, const int64_t* lengths,
                       int64_t ntables, const Kernels* kernels, const char** error);

// Finds neurons whose scalings, sum and store one kernel can do; see fuse.cpp.
void fuse(const Program& p, Group& g);

int64_t dtype_bytes(int dtype);

inline bool is_head(int kind) { return kind <= OP_CONCAT; }
