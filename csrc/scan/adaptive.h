// The adaptive neuron: levels of a grid whose step size and end are learned, and its refined form, in which the current
// is held for all steps and the spikes are averaged.
//
// No gradient passes from one step to the next, so the backward pass goes forwards in time, too: it computes a membrane
// again and is done with the step. Of all that is large it reads the currents alone.

#pragma once

#include "norm.h"

namespace {

constexpr int64_t SUM_PERIOD = 256;  // elements after which sums of all channels repeat

// Which level a membrane in units of the step size fires: round_half(clip(ratio, low, top)).
template <class V, bool SIGNED> struct Grid {
    using reg = typename V::reg;
    using mask = typename V::mask;

    reg zero, half, one, low, top;

    explicit Grid(float greatest)
        : zero(V::set(0.0f)), half(V::set(0.5f)), one(V::set(1.0f)), low(V::set(SIGNED ? -greatest : 0.0f)),
          top(V::set(greatest)) {}

    reg level(reg ratio) const {
        const reg clipped = V::min(top, V::max(low, ratio));  // NaN stays NaN
        const reg magnitude = SIGNED ? V::abs(clipped) : clipped;
        const reg whole = V::floor(magnitude);
        const reg k = V::add(whole, V::keep(V::ge(V::sub(magnitude, whole), half), one));
        return SIGNED ? V::add(V::flip(k, clipped), zero) : k;  // no -0
    }

    mask inside(reg ratio) const { return V::both(V::ge(ratio, low), V::ge(top, ratio)); }

    // g above the range, -g below it where levels have a sign, else 0.
    reg beyond(reg ratio, mask in, reg g) const {
        const reg out = V::drop(in, g);
        return SIGNED ? V::flip(out, ratio) : V::keep(V::ge(ratio, top), out);
    }
};

// One step. Spikes go to `s`, or are added to `total` if there is one.
template <class V, bool SIGNED, bool LEVELS>
APART void grid_row(
    const Grid<V, SIGNED>& grid, Ahead x, float* v, const float* size, float decay, float* s, float* total, int64_t n,
    int64_t period, bool past) {
    const Grid<V, SIGNED> c = grid;
    const auto kept = V::set(decay);
    Turn<V> turn(period);
    for (int64_t i = 0; i < n; i += V::W) {
        const auto unit = V::load(size + turn.next());
        const auto u = V::add(V::mul(V::load(v + i), kept), take<V>(x, i));
        const auto k = c.level(V::div(u, unit));
        const auto worth = V::mul(k, unit), sent = LEVELS ? k : worth;
        V::store(v + i, V::sub(u, worth));
        if (total)
            V::store(total + i, V::add(V::load(total + i), sent));
        else
            past ? V::stream(s + i, sent) : V::store(s + i, sent);
    }
}

// Where a step backwards adds up gradients: of step size, greatest level, divisor (or null), decay (or null).
struct GridSums {
    float *size, *top, *divisor, *decay;
};

// One step, its spikes' gradient to that of the current, which is stored or, in `held`, added up.
template <class V, bool SIGNED, bool LEVELS>
APART void grid_back_row(
    const Grid<V, SIGNED>& grid, Ahead x, float* v, const float* size, float decay, Ahead grad_s, GridSums sums,
    float* grad_x, float* held, int64_t n, int64_t period, bool past) {
    const Grid<V, SIGNED> c = grid;
    const auto kept = V::set(decay);
    Turn<V> turn(period);
    for (int64_t i = 0; i < n; i += V::W) {
        const int64_t j = turn.next();
        const auto unit = V::load(size + j), before = V::load(v + i), g = take<V>(grad_s, i);
        const auto u = V::add(V::mul(before, kept), take<V>(x, i));
        const auto ratio = V::div(u, unit), k = c.level(ratio), worth = V::mul(k, unit);
        const auto in = c.inside(ratio);
        V::store(v + i, V::sub(u, worth));
        const auto du = V::keep(in, LEVELS ? V::div(g, unit) : g);
        if (!LEVELS) {
            const auto by_size = V::mul(g, V::sub(k, V::keep(in, ratio)));
            V::store(sums.size + j, V::add(V::load(sums.size + j), by_size));
        }
        const auto by_top = c.beyond(ratio, in, LEVELS ? g : V::mul(g, unit));
        V::store(sums.top + j, V::add(V::load(sums.top + j), by_top));
        if (sums.divisor) {
            const auto sent = V::mul(g, LEVELS ? k : worth);
            V::store(sums.divisor + j, V::add(V::load(sums.divisor + j), sent));
        }
        if (sums.decay) V::store(sums.decay + j, V::add(V::load(sums.decay + j), V::mul(du, before)));
        if (held)
            V::store(held + i, V::add(V::load(held + i), du));
        else
            past ? V::stream(grad_x + i, du) : V::store(grad_x + i, du);
    }
}

template <class V> void over_divisor(float* values, float divisor, int64_t n) {
    for (int64_t i = 0; i < n; i += V::W) V::store(values + i, V::div(V::load(values + i), V::set(divisor)));
}

template <class V, bool SIGNED, bool LEVELS> struct GridBlock {
    const AdaptiveArgs& args;
    const ScanArgs& a;
    const int64_t start, n, length;  // length: of what repeats, see period()
    const bool past;

    GridBlock(const AdaptiveArgs& given, int64_t start_, int64_t n_, bool past_)
        : args(given), a(given.scan), start(start_), n(n_),
          length(a.channels > 1 ? period(a, n_) : padded(n_) < SUM_PERIOD ? padded(n_) : SUM_PERIOD),
          past(past_ && n_ % V::W == 0) {}

    int64_t row(int64_t t) const { return args.begin + t < args.rows ? args.begin + t : args.rows - 1; }
    Grid<V, SIGNED> grid(int64_t t) const { return Grid<V, SIGNED>(args.tops[row(t)]); }

    // Step sizes of a time step, if they are not those of the step before.
    void sizes(int64_t t, float* out) const {
        if (t && row(t) == row(t - 1)) return;
        const float* given = args.sizes + row(t) * a.channels;
        if (a.channels > 1)
            spread(a, start, n, length, given, out);
        else
            for (int64_t i = 0; i < length; ++i) out[i] = *given;
    }

    Ahead current(Row<V>& x, int64_t t) const {
        return x.read(a.x, t * args.onward + start, n, t + 1 < a.steps ? args.onward : 0);
    }

    void forward() const {
        alignas(64) float v[MAX_BLOCK], size[MAX_BLOCK], total[MAX_BLOCK];
        Row<V> x(a.element), s(a.element);
        copy_or_zero(a.v0, start, n, v);
        if (args.averaged) copy_or_zero(nullptr, 0, n, total);
        for (int64_t t = 0; t < a.steps; ++t) {
            const int64_t at = t * a.size + start;
            sizes(t, size);
            float* out = args.averaged ? nullptr : s.place(a.s, at, n);
            grid_row<V, SIGNED, LEVELS>(
                grid(t), current(x, t), v, size, float(a.decay), out, args.averaged ? total : nullptr, n, length, past);
            if (out) s.write(a.s, at, n);
        }
        if (args.averaged) {
            over_divisor<V>(total, float(args.divisor), n);
            std::memcpy(static_cast<float*>(a.s) + start, total, n * sizeof(float));
        }
        if (a.v) std::memcpy(a.v + start, v, n * sizeof(float));
    }

    // Moves sums of the time steps of a row into place.
    void flush(int64_t t, GridSums sums, double* partial) const {
        double* into = partial + 2 + row(t) * (1 + a.channels);
        into[0] += sum(sums.top, length < n ? length : n);
        if (!LEVELS) gather(a, start, n, length, sums.size, into + 1);
        clear(sums);
    }

    void clear(GridSums sums) const {
        std::memset(sums.size, 0, length * sizeof(float));
        std::memset(sums.top, 0, length * sizeof(float));
    }

    void backward(double* partial) const {
        alignas(64) float v[MAX_BLOCK], size[MAX_BLOCK], of_size[MAX_BLOCK], of_top[MAX_BLOCK];
        alignas(64) float of_divisor[MAX_BLOCK], of_decay[MAX_BLOCK], mean[MAX_BLOCK], held[MAX_BLOCK];
        Row<V> x(a.element), given(a.element), grad_x(a.element);
        const GridSums sums{of_size, of_top, args.averaged ? of_divisor : nullptr, a.learn_decay ? of_decay : nullptr};
        copy_or_zero(a.v0, start, n, v);
        clear(sums);
        if (a.learn_decay) std::memset(of_decay, 0, length * sizeof(float));
        if (args.averaged) {
            std::memset(of_divisor, 0, length * sizeof(float));
            copy_or_zero(static_cast<const float*>(a.grad_s), start, n, mean);
            over_divisor<V>(mean, float(args.divisor), n);
        }
        if (args.held) copy_or_zero(nullptr, 0, n, held);
        for (int64_t t = 0; t < a.steps; ++t) {
            const int64_t at = t * a.size + start;
            sizes(t, size);
            float* out = args.held ? held : grad_x.place(a.grad_x, at, n);
            const int64_t onward = args.grad_onward;
            const Ahead grad_s = args.averaged ? Ahead{mean, mean, n}
                                               : given.read(a.grad_s, t * onward + start, n, t + 1 < a.steps ? onward : 0);
            grid_back_row<V, SIGNED, LEVELS>(
                grid(t), current(x, t), v, size, float(a.decay), grad_s, sums, out, args.held ? held : nullptr, n,
                length, past);
            if (t == 0 && a.grad_v0)
                for (int64_t i = 0; i < n; ++i) a.grad_v0[start + i] = out[i] * float(a.decay);
            if (!args.held) grad_x.write(a.grad_x, at, n);
            if (t + 1 == a.steps || row(t + 1) != row(t)) flush(t, sums, partial);
        }
        if (args.held) std::memcpy(static_cast<float*>(a.grad_x) + start, held, n * sizeof(float));
        const int64_t left = length < n ? length : n;
        if (a.learn_decay) partial[0] = sum(of_decay, left);
        if (args.averaged) partial[1] = sum(of_divisor, left) * (-1.0 / args.divisor);
    }
};

// Calls f with whether levels have a sign and whether they are sent as they are.
template <class F> void by_grid(const AdaptiveArgs& args, F f) {
    by_truth(args.is_signed, [&](auto is_signed) { by_truth(args.levels, [&](auto levels) { f(is_signed, levels); }); });
}

template <class V> void adaptive_forward(const AdaptiveArgs& args) {
    const bool past = !args.averaged && beyond_caches(args.scan, args.scan.s);
    by_grid(args, [&](auto is_signed, auto levels) {
        over_blocks(args.scan, NORM_ROWS, [&](int64_t, int64_t start, int64_t n, int64_t) {
            GridBlock<V, CONSTANT(is_signed), CONSTANT(levels)>(args, start, n, past).forward();
        });
    });
}

template <class V> void adaptive_backward(const AdaptiveArgs& args) {
    const int64_t width = 2 + args.rows * (1 + args.scan.channels);
    const bool past = !args.held && beyond_caches(args.scan, args.scan.grad_x);
    by_grid(args, [&](auto is_signed, auto levels) {
        over_blocks(args.scan, NORM_ROWS, [&](int64_t index, int64_t start, int64_t n, int64_t) {
            GridBlock<V, CONSTANT(is_signed), CONSTANT(levels)>(args, start, n, past)
                .backward(args.scan.partial + index * width);
        });
    });
}

// Mean over the steps of a sequence: s = (sum of x_t) / divisor.
template <class V> void squeeze_forward(const AdaptiveArgs& args) {
    const ScanArgs& a = args.scan;
    over_blocks(a, NORM_ROWS, [&](int64_t, int64_t start, int64_t n, int64_t) {
        alignas(64) float total[MAX_BLOCK];
        Row<V> x(FLOAT32);
        copy_or_zero(nullptr, 0, n, total);
        for (int64_t t = 0; t < a.steps; ++t) {
            const Ahead row = x.read(a.x, t * a.size + start, n, t + 1 < a.steps ? a.size : 0);
            for (int64_t i = 0; i < n; i += V::W) V::store(total + i, V::add(V::load(total + i), take<V>(row, i)));
        }
        over_divisor<V>(total, float(args.divisor), n);
        std::memcpy(static_cast<float*>(a.s) + start, total, n * sizeof(float));
    });
}

// grad_x = grad_s / divisor, the same for every step, and the gradient of the divisor from the mean s.
template <class V> void squeeze_backward(const AdaptiveArgs& args) {
    const ScanArgs& a = args.scan;
    over_blocks(a, NORM_ROWS, [&](int64_t index, int64_t start, int64_t n, int64_t) {
        alignas(64) float g[MAX_BLOCK], products[MAX_BLOCK];
        copy_or_zero(static_cast<const float*>(a.grad_s), start, n, g);
        over_divisor<V>(g, float(args.divisor), n);
        if (a.s) {
            copy_or_zero(static_cast<const float*>(a.s), start, n, products);
            for (int64_t i = 0; i < n; i += V::W) V::store(products + i, V::mul(V::load(products + i), V::load(g + i)));
            a.partial[index] = -sum(products, n);
        }
        std::memcpy(static_cast<float*>(a.grad_x) + start, g, n * sizeof(float));
    });
}

}  // namespace
