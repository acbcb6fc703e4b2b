// What Python sees of the engine; every function may be called from several threads at once.

#include "api.h"

#include <atomic>
#include <cstdlib>

#include "program.h"
#include "run.h"

namespace {

constexpr int ABI = 6;  // equals ABI in src/bitspike/runtime/engine/library.py; raise both when a signature changes

// Memory that callers have left, for the next ones. No lock guards it: a child of a fork could find that taken for ever.
class Idle {
public:
    Workspace* take() {
        for (std::atomic<Workspace*>& place : places_)
            if (Workspace* found = place.exchange(nullptr)) return found;
        return new Workspace;
    }
    void leave(Workspace* space) {
        for (std::atomic<Workspace*>& place : places_) {
            Workspace* none = nullptr;
            if (place.compare_exchange_strong(none, space)) return;
        }
        drop(space);
    }
    ~Idle() {
        for (std::atomic<Workspace*>& place : places_)
            if (Workspace* found = place.exchange(nullptr)) drop(found);
    }

private:
    static void drop(Workspace* space) {
        std::free(space->memory);
        delete space;
    }

    std::atomic<Workspace*> places_[16] = {};
};

struct Loaded {
    Program* program;
    Idle idle;

    ~Loaded() { delete program; }
};

}  // namespace

int bitspike_engine_abi(void) { return ABI; }

const char* bitspike_engine_isa(int isa) { return kernels_of(isa) ? isa_name(isa) : nullptr; }

void* bitspike_engine_create(const int64_t* words, int64_t count, const int32_t* const* tables, const int64_t* lengths,
                             int64_t ntables, int isa, const char** error) {
    const Kernels* kernels = kernels_of(isa);
    if (!kernels) {
        *error = "instruction set";
        return nullptr;
    }
    Program* program = parse_program(words, count, tables, lengths, ntables, kernels, error);
    if (!program) return nullptr;
    Loaded* loaded = new Loaded;
    loaded->program = program;
    return loaded;
}

void bitspike_engine_free(void* given) { delete static_cast<Loaded*>(given); }

void bitspike_engine_reset(const void* given, unsigned char* states, int64_t batch) {
    const Program& p = *static_cast<const Loaded*>(given)->program;
    for (int64_t i = 0; i < batch; ++i) reset_state(p, states + i * p.state_bytes);
}

int64_t bitspike_engine_workspace(const void* given, int64_t batch, int threads) {
    return workspace_bytes(*static_cast<const Loaded*>(given)->program, batch, threads);
}

void bitspike_engine_group(const void* given, int64_t group, int64_t* facts) {
    const Group& g = static_cast<const Loaded*>(given)->program->groups[size_t(group)];
    facts[0] = 0;
    for (const Op& op : g.ops) facts[0] += int64_t(op.packed.size());
    facts[1] = g.is_join ? 1 : g.tiles;
    facts[2] = g.slots * g.slot_bytes;
}

void bitspike_engine_scale(void* given, double factor, int32_t low, int32_t high) {
    Program& p = *static_cast<Loaded*>(given)->program;
    p.factor = factor;
    p.low = low;
    p.high = high;
}

int bitspike_engine_quantize(const void* given, void* y, const float* x, int64_t n) {
    const Program& p = *static_cast<const Loaded*>(given)->program;
    return p.kernels->quantize(y, x, p.values[size_t(p.input)].dtype, n, p.factor, p.low, p.high) ? 0 : 1;
}

int bitspike_engine_run(void* given, const void* x, int real, int64_t step_stride, int64_t batch_stride, int64_t steps,
                        int held, int64_t batch, unsigned char* states, int64_t* out, int64_t* clamped,
                        int threads, int64_t* profile, int64_t* out_steps) {
    Loaded& loaded = *static_cast<Loaded*>(given);
    Workspace* space = loaded.idle.take();
    const Call call{x, real != 0, step_stride, batch_stride, steps, held != 0, batch, states, out, clamped, threads,
                    profile};
    const int outcome = run_program(*loaded.program, call, *space, out_steps);
    loaded.idle.leave(space);
    return outcome;
}
