// One chunk of one sample, group by group, tile by tile.

#include "run.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "sample.h"

namespace {

// How many windows close within so many frames.
int64_t windows_closed(const Op& op, int64_t seen, int64_t frames) {
    const int32_t* table = op.tables[0].data();  // where the parts of a frame begin, then (weight, closes) pairs
    const int64_t F = op.at[0];
    int64_t closed = 0;
    for (int64_t i = 0; i < frames; ++i) {
        const int64_t f = (seen + i) % F;
        for (int32_t k = table[f]; k < table[f + 1]; ++k) closed += table[F + 1 + 2 * k + 1];
    }
    return closed;
}

// Steps that every operation of a group writes, and whether they are one.
int prepare(Sample& s, const Group& g) {
    for (const Op& op : g.ops) {
        int64_t n = 0;
        bool held = false;
        switch (op.kind) {
        case OP_CONV:
        case OP_SUMPOOL:
        case OP_MAXPOOL:
        case OP_REMAP:
        case OP_LOAD:
        case OP_LOAD_ROW:
            n = s.value_steps[op.in[0]];
            held = s.value_held[op.in[0]];
            break;
        case OP_TALLY: n = s.value_steps[op.in[0]]; break;
        case OP_CONCAT:
            n = s.value_steps[op.in[0]];
            held = true;
            for (int v : op.in) held = held && s.value_held[v];
            break;
        case OP_WINDOWS: {
            const int64_t frames = s.value_steps[op.in[0]];
            if (op.at[0] == 1) {
                n = frames * op.at[1];
                held = n > 1 && s.value_physical(op.in[0]) == 1;
            } else {
                n = windows_closed(op, s.counter(op.at[3]), frames);
            }
            break;
        }
        case OP_RESCALE:
        case OP_LOOKUP: {
            const Op& x = g.ops[op.in[0]];
            n = s.steps(x);
            held = s.op_held[x.id] && op.at[op.kind == OP_RESCALE ? 4 : 2] == 1;
            break;
        }
        case OP_ADD:
        case OP_MULTIPLY:
            n = s.steps(g.ops[op.in[0]]);
            held = true;
            for (int i : op.in) held = held && s.op_held[g.ops[i].id];
            break;
        case OP_LATCH:
            n = s.steps(g.ops[op.in[0]]);
            held = n > 1;
            break;
        case OP_STORE: {
            const Op& x = g.ops[op.in[0]];
            s.value_steps[op.at[0]] = n = s.steps(x);
            s.value_held[op.at[0]] = held = s.op_held[x.id];
            break;
        }
        case OP_MEAN:
            n = s.steps(g.ops[op.in[0]]);
            if (s.counter(op.at[2]) + n > s.p->max_count) return TOO_MANY_STEPS;
            break;
        default: n = s.steps(g.ops[op.in[0]]);
        }
        s.op_steps[op.id] = n;
        s.op_held[op.id] = held;
    }
    return RAN;
}

void run_tile(void* given, long task, int thread) {
    const Sample& s = *static_cast<Sample*>(given);
    const Group& g = *s.group;
    Tile tile{0, 1, 0, g.channels};
    if (g.places == 1) {
        tile.channel = task * s.tile_channels;
        tile.channels = std::min(s.tile_channels, g.channels - tile.channel);
    } else {
        tile.place = task * s.tile_places;
        tile.places = std::min(s.tile_places, g.places - tile.place);
    }
    if (move_only(s, g, tile)) return;
    const Buffers b{s.scratch[thread], g.slot_bytes, tile.size(), g.slots};
    for (const Op& op : g.ops) {
        if (op.fused || (!s.op_steps[op.id] && op.kind != OP_WINDOWS)) continue;
        if (is_head(op.kind)) {
            run_head(s, op, tile, b.of(op));
            continue;
        }
        const int64_t clamped = run_tail(s, g, op, tile, b);
        if (clamped && op.report >= 0) s.clamped[thread][op.report] += clamped;
    }
}

// After the tiles: counters of steps go on.
void advance(Sample& s, const Group& g) {
    for (const Op& op : g.ops) {
        const int64_t n = s.steps(op);
        switch (op.kind) {
        case OP_WINDOWS:
            if (op.at[0] > 1) {
                int64_t& seen = s.counter(op.at[3]);
                seen = (seen + s.value_steps[op.in[0]]) % op.at[0];
            }
            break;
        case OP_RESCALE: s.counter(op.at[6]) = advanced(s.counter(op.at[6]), n); break;
        case OP_FIRE: s.counter(op.at[10]) = advanced(s.counter(op.at[10]), n); break;
        case OP_LOOKUP: s.counter(op.at[4]) = advanced(s.counter(op.at[4]), n); break;
        case OP_LATCH:
            if (n) s.counter(op.at[1]) = 1;
            break;
        case OP_MEAN: {
            const std::vector<int32_t>& keep = op.tables[0];
            int64_t &counted = s.counter(op.at[1]), &seen = s.counter(op.at[2]);
            for (int64_t t = 0; t < n; ++t, ++seen)
                counted += keep[size_t(std::min<int64_t>(seen, int64_t(keep.size()) - 1))];
            break;
        }
        default: break;
        }
    }
}

void run_join(Sample& s, const Join& join) {
    int64_t count = INT64_MAX;
    for (size_t i = 0; i < join.from.size(); ++i)
        count = std::min(count, s.counter(join.count[i]) + s.value_steps[join.from[i]]);
    for (size_t i = 0; i < join.from.size(); ++i) {
        const Value& y = s.p->values[join.to[i]];
        const int64_t bytes = y.channels * y.places * dtype_bytes(y.dtype), steps = s.value_steps[join.from[i]];
        unsigned char *to = s.arena + y.offset, *waiting = s.state + join.state[i];
        int64_t& left = s.counter(join.count[i]);
        const int64_t old = std::min(left, count);
        std::memcpy(to, waiting, size_t(old * bytes));
        std::memmove(waiting, waiting + old * bytes, size_t((left - old) * bytes));
        left -= old;
        for (int64_t t = 0; t < steps; ++t) {
            const unsigned char* from = s.at(join.from[i], t);
            if (old + t < count && !left) {
                std::memcpy(to + (old + t) * bytes, from, size_t(bytes));
            } else {
                std::memcpy(waiting + left++ * bytes, from, size_t(bytes));
            }
        }
        s.value_steps[join.to[i]] = count;
        s.value_held[join.to[i]] = 0;
    }
}

// Adds the time of its scope to `to`; nothing where that is null.
struct Timed {
    int64_t* to;
    std::chrono::steady_clock::time_point start;

    explicit Timed(int64_t* to) : to(to) {
        if (to) start = std::chrono::steady_clock::now();
    }
    ~Timed() {
        if (to) *to += std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
    }
};

int64_t* profile_of(const Sample& s, size_t at) { return s.profile ? s.profile + at : nullptr; }

int run_groups(Sample& s) {
    for (const Group& g : s.p->groups) {
        const Timed timed(profile_of(s, size_t(&g - s.p->groups.data())));
        if (g.is_join) {
            run_join(s, g.join);
            continue;
        }
        const int outcome = prepare(s, g);
        if (outcome != RAN) return outcome;
        bool idle = true;
        for (const Op& op : g.ops) idle = idle && !s.op_steps[op.id] && !(op.kind == OP_WINDOWS && s.value_steps[op.in[0]]);
        if (idle) continue;
        s.group = &g;
        for (const Op& op : g.ops) {
            if (op.kind == OP_CONV && !op.at[18] && s.op_steps[op.id]) {
                s.op = &op;
                pool_run(s.physical(op) * op.at[12], op.at[12] * op.at[13] > 1 ? s.threads : 1, operand_row, &s);
            } else if (op.kind == OP_TALLY && s.op_steps[op.id]) {
                tally_sums(s, op);
            }
        }
        g.tile_for(s.threads, s.tile_places, s.tile_channels);
        const int64_t tiles = g.places == 1 ? (g.channels + s.tile_channels - 1) / s.tile_channels
                                            : (g.places + s.tile_places - 1) / s.tile_places;
        pool_run(long(tiles), g.shared ? s.threads : 1, run_tile, &s);
        advance(s, g);
    }
    return RAN;
}

// ---- a call -------------------------------------------------------------------------------------------------------

template <class X>
void take_in(X* to, const X* from, int64_t channels, int64_t places) {
    for (int64_t place = 0; place < places; ++place)
        for (int64_t c = 0; c < channels; ++c) *to++ = from[c * places + place];
}

bool read_input(Sample& s, const Call& call, int64_t sample) {
    const Value& x = s.p->values[s.p->input];
    const int64_t bytes = dtype_bytes(x.dtype), steps = call.held ? 1 : call.steps;
    for (int64_t t = 0; t < steps; ++t) {
        const int64_t at = sample * call.batch_stride + t * call.step_stride;
        const unsigned char* from = static_cast<const unsigned char*>(call.x) + at * bytes;
        if (call.real) {
            const Program& p = *s.p;
            const float* real = static_cast<const float*>(call.x) + at;
            if (!p.kernels->quantize(s.taken, real, x.dtype, x.channels * x.places, p.factor, p.low, p.high)) return false;
            from = s.taken;
        }
        unsigned char* to = s.arena + x.offset + t * x.channels * x.places * bytes;
        if (bytes == 1) {
            take_in(to, from, x.channels, x.places);
        } else if (bytes == 2) {
            take_in(reinterpret_cast<uint16_t*>(to), reinterpret_cast<const uint16_t*>(from), x.channels, x.places);
        } else {
            take_in(reinterpret_cast<uint32_t*>(to), reinterpret_cast<const uint32_t*>(from), x.channels, x.places);
        }
    }
    s.value_steps[s.p->input] = call.steps;
    s.value_held[s.p->input] = call.held && call.steps > 1;
    return true;
}

int64_t number_at(const unsigned char* from, int dtype, int64_t i) {
    switch (dtype) {
    case DTYPE_I8: return reinterpret_cast<const int8_t*>(from)[i];
    case DTYPE_U8: return from[i];
    case DTYPE_I16: return reinterpret_cast<const int16_t*>(from)[i];
    case DTYPE_U16: return reinterpret_cast<const uint16_t*>(from)[i];
    case DTYPE_I32: return reinterpret_cast<const int32_t*>(from)[i];
    default: return reinterpret_cast<const int64_t*>(from)[i];
    }
}

void write_output(const Sample& s, const Call& call, int64_t sample, int64_t* out_steps) {
    const Program& p = *s.p;
    int64_t* first = call.out + sample * p.output_numbers;
    for (const Output& y : p.outputs) {
        const int64_t size = y.channels * y.places;
        int64_t *to = first, steps = 0;
        if (y.mean) {
            const int64_t* total = reinterpret_cast<const int64_t*>(s.state + y.mean->at[0]);
            for (int64_t place = 0; place < y.places; ++place)
                for (int64_t c = 0; c < y.channels; ++c) to[c * y.places + place] = *total++;
            steps = s.counter(y.mean->at[1]);
        } else {
            const int dtype = p.values[size_t(y.value)].dtype;
            steps = s.value_steps[y.value];
            for (int64_t t = 0; t < steps; ++t, to += size) {
                const unsigned char* from = s.at(y.value, t);
                for (int64_t place = 0; place < y.places; ++place)
                    for (int64_t c = 0; c < y.channels; ++c)
                        to[c * y.places + place] = number_at(from, dtype, place * y.channels + c);
            }
        }
        if (out_steps) *out_steps++ = steps;
        first += size * y.capacity;
    }
}

int64_t aligned(int64_t n) { return (n + 63) / 64 * 64; }

int64_t input_bytes(const Program& p) {
    const Value& x = p.values[size_t(p.input)];
    return x.channels * x.places * dtype_bytes(x.dtype);
}

int64_t sample_bytes(const Program& p) {
    return aligned(p.arena_bytes + 64) + aligned(p.kept_bytes) + aligned(input_bytes(p)) +
           2 * aligned(int64_t(p.values.size() + p.ops) * 8);
}

struct Batch {
    const Program* p;
    const Call* call;
    Sample* samples;  // one a thread
    int64_t* out_steps;
    std::atomic<int> outcome;
};

void run_sample(void* given, long sample, int thread) {
    Batch& b = *static_cast<Batch*>(given);
    Sample& s = b.samples[thread];
    if (s.transient) {
        std::memset(s.state, 0, size_t(b.p->kept_bytes));
    } else {
        s.state = b.call->states + sample * b.p->state_bytes;
    }
    {
        const Timed timed(profile_of(s, b.p->groups.size()));
        if (!read_input(s, *b.call, sample)) {
            b.outcome = NOT_FINITE;
            return;
        }
    }
    for (const Echo& e : b.p->echoes) {
        std::memcpy(s.arena + b.p->values[size_t(e.to)].offset, s.state + e.state, size_t(e.bytes));
        s.value_steps[e.to] = 1;
        s.value_held[e.to] = 0;
    }
    const int outcome = run_groups(s);
    if (outcome != RAN) {
        b.outcome = outcome;
        return;
    }
    for (const Echo& e : b.p->echoes)
        std::memcpy(s.state + e.state, s.arena + b.p->values[size_t(e.from)].offset, size_t(e.bytes));
    const Timed timed(profile_of(s, b.p->groups.size() + 1));
    write_output(s, *b.call, sample, sample == 0 ? b.out_steps : nullptr);
}

}  // namespace

void reset_state(const Program& p, unsigned char* state) {
    std::memset(state, 0, size_t(p.state_bytes));
    for (const Group& g : p.groups)
        for (const Op& op : g.ops)
            if (op.kind == OP_FIRE && !op.tables[4].empty()) {
                int32_t* v = reinterpret_cast<int32_t*>(state + op.at[8]);
                for (int64_t place = 0; place < g.places; ++place, v += g.channels)
                    std::memcpy(v, op.tables[4].data(), size_t(g.channels) * 4);
            }
}

int64_t workspace_bytes(const Program& p, int64_t batch, int threads) {
    const int64_t samples = batch > 1 ? threads : 1;
    return 64 + samples * sample_bytes(p) + threads * (aligned(p.scratch_bytes) + aligned(int64_t(p.reports) * 8));
}

int run_program(const Program& p, const Call& call, Workspace& space, int64_t* out_steps) {
    int threads = std::max(1, std::min(call.threads, MAX_THREADS));
    if (threads > 1 && !pool_take(threads)) threads = 1;
    const int64_t bytes = workspace_bytes(p, call.batch, threads);
    if (bytes > space.bytes) {
        std::free(space.memory);
        space.memory = static_cast<unsigned char*>(std::malloc(size_t(bytes)));
        space.bytes = space.memory ? bytes : 0;
        if (!space.memory) {
            pool_release();
            return OUT_OF_MEMORY;
        }
    }
    unsigned char* at =
        reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(space.memory) + 63) / 64 * 64);
    const bool across = call.batch > 1 && threads > 1 && !call.profile;
    Sample samples[MAX_THREADS];
    for (int i = 0; i < (across ? threads : 1); ++i) {
        Sample& s = samples[i];
        s.p = &p;
        s.profile = call.profile;
        s.threads = across ? 1 : threads;
        s.arena = at;
        at += aligned(p.arena_bytes + 64);
        s.transient = !call.states;
        s.state = at;
        at += aligned(p.kept_bytes);
        s.taken = at;
        at += aligned(input_bytes(p));
        s.value_steps = reinterpret_cast<int64_t*>(at);
        s.op_steps = s.value_steps + p.values.size();
        at += aligned(int64_t(p.values.size() + p.ops) * 8);
        s.value_held = at;
        s.op_held = at + p.values.size();
        at += aligned(int64_t(p.values.size() + p.ops) * 8);
    }
    int64_t* clamped[MAX_THREADS];
    for (int i = 0; i < threads; ++i) {
        clamped[i] = reinterpret_cast<int64_t*>(at);
        std::memset(at, 0, size_t(p.reports) * 8);
        at += aligned(int64_t(p.reports) * 8);
        Sample& s = samples[across ? i : 0];
        s.scratch[across ? 0 : i] = at;
        s.clamped[across ? 0 : i] = clamped[i];
        at += aligned(p.scratch_bytes);
    }
    Batch batch{&p, &call, samples, out_steps, {RAN}};
    if (across) {
        pool_run(call.batch, threads, run_sample, &batch);
    } else {
        for (int64_t i = 0; i < call.batch; ++i) run_sample(&batch, long(i), 0);
    }
    pool_release();
    for (int i = 0; i < threads; ++i)
        for (int r = 0; r < p.reports; ++r) call.clamped[r] += clamped[i][r];
    return batch.outcome.load();
}
