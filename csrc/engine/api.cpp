// What Python sees of the engine; every function may be called from several threads at once.

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "program.h"
#include "run.h"

#if defined(_WIN32)
#define ENGINE_EXPORT extern "C" __declspec(dllexport)
#else
#define ENGINE_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace {

constexpr int ABI = 2;  // equals ABI in src/bitspike/runtime/engine/library.py; raise both when a signature changes

struct Loaded {
    Program* program;
    std::mutex guard;
    std::vector<Workspace> idle;  // of callers that have left

    ~Loaded() {
        for (Workspace& space : idle) std::free(space.memory);
        delete program;
    }
};

}  // namespace

ENGINE_EXPORT int bitspike_engine_abi(void) { return ABI; }

// Name of an instruction set, or null where this build or this CPU lacks it.
ENGINE_EXPORT const char* bitspike_engine_isa(int isa) { return kernels_of(isa) ? isa_name(isa) : nullptr; }

ENGINE_EXPORT void* bitspike_engine_create(const int64_t* words, int64_t count, const int32_t* const* tables,
                                           const int64_t* lengths, int64_t ntables, int isa, const char** error) {
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

ENGINE_EXPORT void bitspike_engine_free(void* given) { delete static_cast<Loaded*>(given); }

ENGINE_EXPORT void bitspike_engine_reset(const void* given, unsigned char* states, int64_t batch) {
    const Program& p = *static_cast<const Loaded*>(given)->program;
    for (int64_t i = 0; i < batch; ++i) reset_state(p, states + i * p.state_bytes);
}

// Bytes that a call of so many samples takes beside states, inputs and outputs.
ENGINE_EXPORT int64_t bitspike_engine_workspace(const void* given, int64_t batch, int threads) {
    return workspace_bytes(*static_cast<const Loaded*>(given)->program, batch, threads);
}

// Of a group: bytes of its packed weights, tiles, bytes of the buffers of one thread.
ENGINE_EXPORT void bitspike_engine_group(const void* given, int64_t group, int64_t* facts) {
    const Group& g = static_cast<const Loaded*>(given)->program->groups[size_t(group)];
    facts[0] = 0;
    for (const Op& op : g.ops) facts[0] += int64_t(op.packed.size());
    facts[1] = g.is_join ? 1 : g.tiles;
    facts[2] = g.slots * g.slot_bytes;
}

// `profile`: null, or [groups + 2] nanoseconds that are added to: groups, then input and output.
ENGINE_EXPORT int bitspike_engine_run(void* given, const void* x, int64_t step_stride, int64_t batch_stride,
                                      int64_t steps, int held, int64_t batch, unsigned char* states, int64_t* out,
                                      int64_t out_capacity, int64_t* clamped, int threads, int64_t* profile,
                                      int64_t* out_steps) {
    Loaded& loaded = *static_cast<Loaded*>(given);
    Workspace space;
    {
        std::lock_guard<std::mutex> lock(loaded.guard);
        if (!loaded.idle.empty()) {
            space = loaded.idle.back();
            loaded.idle.pop_back();
        }
    }
    const Call call{x, step_stride, batch_stride, steps, held != 0, batch, states, out, out_capacity, clamped, threads,
                    profile};
    const int outcome = run_program(*loaded.program, call, space, out_steps);
    std::lock_guard<std::mutex> lock(loaded.guard);
    loaded.idle.push_back(space);
    return outcome;
}
