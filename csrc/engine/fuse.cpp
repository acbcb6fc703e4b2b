// Neurons whose currents are scaled sums: one kernel takes them from the sums to stored spikes, all steps at once.

#include <algorithm>

#include "program.h"

namespace {

constexpr int FOLDS = 8;  // of a scaling's numbers: half + (bias << shift) fits beside the product

int readers(const Group& g, int index) {
    int count = 0;
    for (const Op& op : g.ops)
        if (!is_head(op.kind) && op.kind != OP_LOAD && op.kind != OP_LOAD_ROW)
            for (int i : op.in) count += i == index;
    return count;
}

bool is_byte(const Program& p, int value) {
    return p.values[size_t(value)].dtype == DTYPE_I8 || p.values[size_t(value)].dtype == DTYPE_U8;
}

// Takes the scaling that operation `index` does, if a neuron can do it.
bool takes_scaling(const Group& g, int index, SpikePart& part) {
    const Op& op = g.ops[size_t(index)];
    if (op.kind != OP_RESCALE || readers(g, index) != 1 || op.at[3] || op.at[4] != 1 || !(op.at[7] || op.at[FOLDS]) ||
        g.ops[size_t(op.in[0])].wide)
        return false;
    part.rescale = index;
    part.source = op.in[0];
    if (op.at[7]) {
        const bool ones = std::all_of(op.tables[0].begin(), op.tables[0].begin() + g.channels, [](int32_t m) { return m == 1; });
        part.scaling = ones && !op.at[5] ? SHIFTED_32 : SCALED_32;
        return true;
    }
    // 64 bits: what is added to the products, even channels of 16 first
    part.scaling = SCALED_64;
    const int64_t shift = op.at[0], half = shift ? int64_t(1) << (shift - 1) : 0;
    part.addend.assign(size_t((g.channels + LANES - 1) / LANES * LANES), 0);
    for (int64_t c = 0; c < g.channels; ++c) {
        const int64_t bias = op.at[5] ? op.tables[1][size_t(c)] : 0;
        part.addend[size_t(c / LANES * LANES + c % 2 * 8 + c % LANES / 2)] = half + bias * (int64_t(1) << shift);
    }
    return true;
}

// The current that operation `index` writes, if a neuron can read or make it itself.
bool part_of(const Program& p, const Group& g, int index, SpikePart& part) {
    part.source = index;
    takes_scaling(g, index, part);
    const Op& source = g.ops[size_t(part.source)];
    if (source.kind == OP_LOAD_ROW || source.wide) return false;
    part.direct = source.kind == OP_LOAD && readers(g, part.source) == 1 && is_byte(p, source.in[0]);
    return true;
}

}  // namespace

void fuse(const Program& p, Group& g) {
    if (!p.kernels->spike) return;
    for (size_t f = 0; f < g.ops.size(); ++f) {
        Op& fire = g.ops[f];
        if (fire.kind != OP_FIRE || readers(g, int(f)) != 1) continue;
        int store = -1;
        for (size_t i = 0; i < g.ops.size(); ++i)
            if (g.ops[i].kind == OP_STORE && g.ops[i].in[0] == int(f)) store = int(i);
        // signed, hard, decay, shift, cancel, up, down, rows, v, sent, time, narrow, spacing shift
        const bool many = fire.tables[6][0] > 1;
        if (store < 0 || !is_byte(p, int(g.ops[size_t(store)].at[0])) || (fire.at[4] && !fire.at[0]) || fire.at[5] != 1 || fire.at[6] != 1 ||
            fire.at[7] != 1 || fire.tables[6].size() != 1 || (!fire.tables[3].empty() && !(many && fire.at[1])) || !fire.tables[5].empty() ||
            (many && fire.at[12] < 0) || (!fire.at[1] && !fire.at[11]))
            continue;
        auto is_sum = [&](int i) {
            const Op& op = g.ops[size_t(i)];
            return op.kind == OP_ADD && !op.at[0] && op.in.size() == 2 && op.in[0] != op.in[1] && readers(g, i) == 1;
        };
        int x = fire.in[0];
        SpikePart outer;
        if (g.ops[size_t(x)].kind == OP_RESCALE && is_sum(g.ops[size_t(x)].in[0]) && takes_scaling(g, x, outer)) x = outer.source;
        std::vector<int> currents{x};
        const Op& sum = g.ops[size_t(x)];
        const bool adds = is_sum(x);
        if (adds) currents = sum.in;
        std::vector<SpikePart> parts(currents.size());
        bool can = true;
        for (size_t i = 0; i < currents.size(); ++i) can = can && part_of(p, g, currents[i], parts[i]);
        if (!can) continue;
        for (const SpikePart& part : parts) {
            if (part.rescale >= 0) g.ops[size_t(part.rescale)].fused = true;
            // What the neuron reads later than its scaling would have must not be overwritten: a buffer of its own.
            if (part.direct) {
                g.ops[size_t(part.source)].fused = true;
            } else {
                g.ops[size_t(part.source)].slot = g.slots++;
            }
        }
        if (outer.rescale >= 0) g.ops[size_t(outer.rescale)].fused = true;
        if (adds) g.ops[size_t(x)].fused = true;
        g.ops[size_t(store)].fused = true;
        fire.parts = std::move(parts);
        fire.outer = std::move(outer);
        fire.stored = store;
    }
    // Kernels read constants in whole lanes.
    for (Op& op : g.ops)
        if (op.kind == OP_RESCALE)
            for (std::vector<int32_t>& table : op.tables)
                if (!table.empty()) table.resize(table.size() + LANES, 0);
}
