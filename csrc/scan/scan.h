// The fused scan, written once over a vector type V; each instruction set instantiates it in its own file.
//
// Every operation is a plain multiply, add, divide or compare in the order of the PyTorch reference (no fused
// multiply-add), so all instruction sets give the same bits, and spikes and membranes equal the reference's, NaN and
// infinities included: min and max give their second argument where one is NaN.
//
// A block of elements is taken through all steps before the next block, so that its membrane stays in the first-level
// cache. The loops below run over whole vectors of float32: a row that ends inside a vector, or holds bfloat16, goes
// through a padded buffer (class Row).

#pragma once

#include <cmath>

#include "kernels.h"
#include "parallel.h"
#include "rows.h"
#include "scratch.h"

#if defined(__GNUC__)
#define APART __attribute__((noinline))
#else
#define APART
#endif

namespace {

// Results of at least this size are written past the caches: they would not stay there until they are read.
constexpr int64_t PAST_BYTES = int64_t(6) << 20;

inline int64_t padded(int64_t n) { return (n + 63) / 64 * 64; }

// The numbers of a neuron in every lane. Small functions copy it into registers.
template <class V> struct Constants {
    using reg = typename V::reg;
    using mask = typename V::mask;

    reg zero, one, half, first, spacing, inverse, count, last, charge, decay, factor;
    reg p0, p1, height;  // of the surrogate, see inside() and bump()
    double base, step;   // first boundary and spacing
    int64_t boundaries;
    int32_t shape;
    bool exact;  // 1/spacing is exact, so multiplying equals dividing

    explicit Constants(const ScanArgs& a)
        : zero(V::set(0.0f)), one(V::set(1.0f)), half(V::set(0.5f)), first(V::set(float(a.first))),
          spacing(V::set(float(a.spacing))), inverse(V::set(1.0f / float(a.spacing))), count(V::set(float(a.count))),
          last(V::set(float(a.count - 1))), charge(V::set(float(a.charge))), decay(V::set(float(a.decay))),
          factor(V::set(float(a.factor))), p0(V::set(float(a.p0))), p1(V::set(float(a.p1))),
          height(V::set(float(a.p2))), base(a.first), step(a.spacing), boundaries(a.count), shape(int32_t(a.bump)) {
        int exponent;
        exact = std::frexp(float(a.spacing), &exponent) == 0.5f && exponent > -120 && exponent < 120;
    }

    reg steps_above(reg magnitude) const {  // (|u| - first) / spacing
        const reg distance = V::sub(magnitude, first);
        return exact ? V::mul(distance, inverse) : V::div(distance, spacing);
    }

    template <int A> reg level(reg u, mask& fired) const {
        if (A == BINARY || A == REAL) {
            fired = V::ge(u, first);
            return V::keep(fired, one);
        }
        if (A == TERNARY) {
            const mask up = V::ge(u, first), down = V::ge(V::neg(u), first);
            fired = V::either(up, down);
            return V::sub(V::keep(up, one), V::keep(down, one));
        }
        const reg k = V::min(count, V::max(zero, V::add(V::floor(steps_above(u)), one)));  // NaN stays NaN
        fired = V::ge(k, one);
        return k;
    }

    template <int A, bool SOFT> reg reset(reg u, reg k, mask fired) const {
        if (A == REAL) return V::sub(u, V::mul(u, k));
        return SOFT ? V::sub(u, V::mul(k, charge)) : V::mul(u, V::drop(fired, one));
    }

    // Whether u lies in a window. WINDOW: p0 low, p1 high. WINDOWS: p0 half the width.
    template <bool SIGNED> mask inside(reg u) const {
        const reg magnitude = SIGNED ? V::abs(u) : u;
        if (shape == WINDOW) return V::both(V::ge(magnitude, p0), V::ge(p1, magnitude));
        reg index = V::floor(V::add(steps_above(magnitude), half));
        index = V::min(V::max(index, zero), last);
        const reg offset = V::sub(magnitude, V::add(V::mul(index, spacing), first));
        return V::ge(p0, V::abs(offset));
    }

    // e^x for x <= 0 to about 1e-7 of its value, 0 below e^-87: x = n ln 2 + r, a polynomial in r, times 2^n.
    static reg exp_negative(reg x) {
        const reg least = V::set(-87.0f);
        const mask none = V::ge(least, x);
        x = V::max(least, x);  // NaN stays NaN
        const reg n = V::floor(V::add(V::mul(x, V::set(1.44269504f)), V::set(0.5f)));
        const reg r = V::sub(V::sub(x, V::mul(n, V::set(0.693359375f))), V::mul(n, V::set(-2.12194440e-4f)));
        reg y = V::set(1.0f / 5040);
        const float terms[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
        for (float term : terms) y = V::add(V::mul(y, r), V::set(term));
        return V::drop(none, V::mul(y, V::power_of_two(n)));
    }

    reg bump(reg x) const {
        switch (shape) {
        case TRIANGLE:  // p0 half the width
            return V::div(V::max(zero, V::sub(one, V::div(V::abs(x), p0))), p0);
        case ATAN: {  // p0 = pi/2 alpha, p1 = alpha/2
            const reg y = V::mul(p0, x);
            return V::mul(V::div(one, V::add(one, V::mul(y, y))), p1);
        }
        case SIGMOID: {  // p0 = alpha
            const reg e = exp_negative(V::neg(V::abs(V::mul(p0, x))));
            const reg y = V::div(one, V::add(one, e));
            return V::mul(V::mul(p0, y), V::mul(e, y));
        }
        default: {  // FAST_SIGMOID, p0 = slope
            const reg y = V::div(one, V::add(one, V::mul(p0, V::abs(x))));
            return V::mul(y, y);
        }
        }
    }

    template <bool SIGNED, bool WINDOWED> reg surrogate(reg u) const {
        if (WINDOWED) return V::keep(inside<SIGNED>(u), height);
        reg total = zero;
        for (int64_t j = 0; j < boundaries; ++j) {
            const reg boundary = V::set(float(base + j * step));
            total = V::add(total, bump(V::sub(u, boundary)));
            if (SIGNED) total = V::add(total, bump(V::sub(V::neg(u), boundary)));
        }
        return total;
    }
};

// Currents as they are in memory.
template <class V> struct Given {
    Ahead x;
    typename V::reg operator()(int64_t i) { return take<V>(x, i); }
};

// One step of one block. `x` gives the current of a vector, in order. `amplitude` is null where it is fixed. Bits go to
// `window` and `hit`.
template <class V, int A, bool SOFT, bool BITS, class X>
APART void forward_row(
    const Constants<V>& constants, X x, float* v, const float* amplitude, float* s, uint8_t* window,
    uint8_t* hit, int64_t n, bool past) {
    const Constants<V> c = constants;
    for (int64_t i = 0; i < n; i += V::W) {
        const auto u = V::add(V::mul(V::load(v + i), c.decay), x(i));
        typename V::mask fired;
        const auto k = c.template level<A>(u, fired);
        V::store(v + i, c.template reset<A, SOFT>(u, k, fired));
        const auto sent = V::mul(A == REAL ? V::mul(u, k) : k, amplitude ? V::load(amplitude + i) : c.factor);
        past ? V::stream(s + i, sent) : V::store(s + i, sent);
        if (BITS && A != REAL) V::store_bits(window + i / 8, c.template inside<A == TERNARY>(u));
        if (BITS && !SOFT) V::store_bits(hit + i / 8, fired);
    }
}

// Class M backwards through one step of a vector: from the gradient of the spikes and `gv`, that of the membrane after
// it, the gradient of the current.
template <class V, bool IS_REAL, bool SOFT>
inline typename V::reg bits_step(
    const Constants<V>& c, typename V::reg grad_s, typename V::reg gv, const uint8_t* window, const uint8_t* hit) {
    const auto g = V::mul(grad_s, c.factor);
    if (IS_REAL) return V::add(gv, V::keep(V::load_bits(hit), V::sub(g, gv)));
    const auto direct = SOFT ? gv : V::drop(V::load_bits(hit), gv);
    return V::add(V::keep(V::load_bits(window), V::mul(g, c.height)), direct);
}

// Class M backwards through one step: `carried` is the gradient of the membrane after it, then before it.
template <class V, bool IS_REAL, bool SOFT>
APART void bits_row(
    const Constants<V>& constants, Ahead grad_s, float* carried, const uint8_t* window, const uint8_t* hit,
    float* grad_x, int64_t n, bool past) {
    const Constants<V> c = constants;
    for (int64_t i = 0; i < n; i += V::W) {
        const auto du = bits_step<V, IS_REAL, SOFT>(
            c, take<V>(grad_s, i), V::load(carried + i), window + i / 8, hit + i / 8);
        past ? V::stream(grad_x + i, du) : V::store(grad_x + i, du);
        V::store(carried + i, V::mul(du, c.decay));
    }
}

// Membranes of one step once more: u before firing, v after reset.
template <class V, int A, bool SOFT>
APART void again_row(const Constants<V>& constants, Ahead x, float* v, float* kept, int64_t n) {
    const Constants<V> c = constants;
    for (int64_t i = 0; i < n; i += V::W) {
        const auto u = V::add(V::mul(V::load(v + i), c.decay), take<V>(x, i));
        typename V::mask fired;
        const auto k = c.template level<A>(u, fired);
        V::store(kept + i, u);
        V::store(v + i, c.template reset<A, SOFT>(u, k, fired));
    }
}

// Class U backwards through one step. `into` adds up gradient times level, for the amplitude, where it is not null.
template <class V, int A, bool SOFT, bool DETACH, bool WINDOWED>
APART void again_back_row(
    const Constants<V>& constants, Ahead grad_s, const float* kept, float* carried, const float* amplitude,
    float* into, float* grad_x, const float* soon, int64_t n, bool past) {
    const Constants<V> c = constants;
    for (int64_t i = 0; i < n; i += V::W) {
        prefetch(soon + i);
        const auto sent = take<V>(grad_s, i), gv = V::load(carried + i), u = V::load(kept + i);
        auto g = V::mul(sent, amplitude ? V::load(amplitude + i) : c.factor);
        typename V::mask fired;
        const auto k = c.template level<A>(u, fired);
        if (into) V::store(into + i, V::add(V::load(into + i), V::mul(sent, A == REAL ? V::mul(u, k) : k)));
        typename V::reg du;
        if (A == REAL) {
            const auto gs = V::sub(g, gv);
            du = V::add(gv, V::keep(fired, gs));
            if (!DETACH) du = V::add(du, V::mul(V::mul(gs, u), c.template surrogate<false, WINDOWED>(u)));
        } else {
            if (!DETACH && SOFT) g = V::sub(g, V::mul(gv, c.charge));
            if (!DETACH && !SOFT) {
                auto lost = V::mul(gv, u);
                if (A == TERNARY) lost = V::keep(fired, V::flip(lost, u));
                if (A == GRADED) lost = V::keep(V::ge(c.one, k), lost);
                g = V::sub(g, lost);
            }
            const auto h = c.template surrogate<A == TERNARY, WINDOWED>(u);
            du = V::add(V::mul(g, h), SOFT ? gv : V::drop(fired, gv));
        }
        past ? V::stream(grad_x + i, du) : V::store(grad_x + i, du);
        V::store(carried + i, V::mul(du, c.decay));
    }
}

// Adds gradient times membrane before the charge, for the decay; `before` holds u of the step before, or v0.
template <class V, int A, bool SOFT>
APART void decay_row(
    const Constants<V>& constants, const float* grad_x, const float* before, bool charged, float* into, int64_t n) {
    const Constants<V> c = constants;
    for (int64_t i = 0; i < n; i += V::W) {
        auto v = V::load(before + i);
        if (charged) {
            typename V::mask fired;
            const auto k = c.template level<A>(v, fired);
            v = c.template reset<A, SOFT>(v, k, fired);
        }
        V::store(into + i, V::add(V::load(into + i), V::mul(V::load(grad_x + i), v)));
    }
}

inline void copy_or_zero(const float* from, int64_t start, int64_t n, float* to) {
    const int64_t known = from ? n : 0;
    if (from) std::memcpy(to, from + start, n * sizeof(float));
    std::memset(to + known, 0, (padded(n) - known) * sizeof(float));
}

// Whether neighbours belong to different channels.
inline bool interleaved(const ScanArgs& a) { return a.inner == 1 && a.channels > 1; }

// Runs of elements of a block: of one channel each, or, where neighbours differ, of channels that follow each other.
// Calls f(first element, length, first channel).
template <class F> void over_channels(const ScanArgs& a, int64_t start, int64_t n, F f) {
    if (a.channels == 1) return f(0, n, 0);
    const int64_t run = interleaved(a) ? a.channels : a.inner;
    for (int64_t i = 0; i < n;) {
        const int64_t within = (start + i) % run, left = run - within, length = left < n - i ? left : n - i;
        f(i, length, interleaved(a) ? within : (start + i) / run % a.channels);
        i += length;
    }
}

// The same sum on every machine: eight running sums, whatever the width of a vector.
inline double sum(const float* values, int64_t n) {
    double lanes[8] = {};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; ++j) lanes[j] += values[i + j];
    for (; i < n; ++i) lanes[i & 7] += values[i];
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

inline void spread_amplitude(const ScanArgs& a, int64_t start, int64_t n, float* out) {
    const float factor = float(a.factor);
    over_channels(a, start, n, [&](int64_t i, int64_t length, int64_t channel) {
        const float* given = a.amplitude + channel;
        const float one = *given * factor;
        if (interleaved(a))
            for (int64_t j = 0; j < length; ++j) out[i + j] = given[j] * factor;
        else
            for (int64_t j = 0; j < length; ++j) out[i + j] = one;
    });
    std::memset(out + n, 0, (padded(n) - n) * sizeof(float));
}

// What the backward pass of class U asks for: the currents of a step, and to be told the gradient of each.
struct Steps {
    virtual Ahead current(int64_t t) = 0;
    virtual void found(int64_t t, const float* grad_x) = 0;
};

template <class V> struct Block {
    const ScanArgs& a;
    const int64_t start, n, next;  // next: where the block begins that this thread takes next
    const bool past;
    const Constants<V> constants;

    Block(const ScanArgs& args, int64_t start_, int64_t n_, int64_t next_, bool past_)
        : a(args), start(start_), n(n_), next(next_), past(past_ && n_ % V::W == 0), constants(args) {}

    uint8_t* bits(uint8_t* base, int64_t t) const { return base + (t * row_bytes(a.size) + start / 8); }

    template <int A, bool SOFT, bool BITS> void forward() const {
        alignas(64) float v[MAX_BLOCK], amplitude[MAX_BLOCK];
        Row<V> x(a.element), s(a.element);
        copy_or_zero(a.v0, start, n, v);
        if (a.amplitudes) spread_amplitude(a, start, n, amplitude);
        for (int64_t t = 0; t < a.steps; ++t) {
            const int64_t at = t * a.size + start;
            forward_row<V, A, SOFT, BITS>(
                constants, Given<V>{x.read(a.x, at, n, t + 1 < a.steps ? a.size : 0)}, v,
                a.amplitudes ? amplitude : nullptr, s.place(a.s, at, n), bits(a.window, t), bits(a.fired, t), n, past);
            s.write(a.s, at, n);
        }
        if (a.v) std::memcpy(a.v + start, v, n * sizeof(float));
    }

    template <bool IS_REAL, bool SOFT> void backward_bits() const {
        alignas(64) float carried[MAX_BLOCK];
        Row<V> grad_s(a.element), grad_x(a.element);
        copy_or_zero(a.grad_v, start, n, carried);
        for (int64_t t = a.steps - 1; t >= 0; --t) {
            const int64_t at = t * a.size + start;
            bits_row<V, IS_REAL, SOFT>(
                constants, grad_s.read(a.grad_s, at, n, t ? -a.size : 0), carried, bits(a.window, t), bits(a.fired, t),
                grad_x.place(a.grad_x, at, n), n, past);
            grad_x.write(a.grad_x, at, n);
        }
        if (a.grad_v0) std::memcpy(a.grad_v0 + start, carried, n * sizeof(float));
    }

    // `rows` holds the membranes of the block, `stride` elements a step.
    template <int A, bool SOFT, bool DETACH, bool WINDOWED>
    void backward_again(Steps& steps, float* rows, int64_t stride, double* partial) const {
        alignas(64) float v[MAX_BLOCK], carried[MAX_BLOCK], amplitude[MAX_BLOCK];
        alignas(64) float of_amplitude[MAX_BLOCK], of_decay[MAX_BLOCK];
        Row<V> given(a.element), grad_x(a.element);
        copy_or_zero(a.v0, start, n, v);
        for (int64_t t = 0; t < a.steps; ++t)
            again_row<V, A, SOFT>(constants, steps.current(t), v, rows + t * stride, n);
        copy_or_zero(a.v0, start, n, v);
        copy_or_zero(a.grad_v, start, n, carried);
        if (a.amplitudes) {
            spread_amplitude(a, start, n, amplitude);
            copy_or_zero(nullptr, 0, n, of_amplitude);
        }
        if (a.learn_decay) copy_or_zero(nullptr, 0, n, of_decay);
        const float* soon = a.element == FLOAT32 ? static_cast<const float*>(a.x) + next : nullptr;
        for (int64_t t = a.steps - 1; t >= 0; --t) {
            const int64_t at = t * a.size + start;
            float* out = grad_x.place(a.grad_x, at, n);
            again_back_row<V, A, SOFT, DETACH, WINDOWED>(
                constants, given.read(a.grad_s, at, n, t ? -a.size : 0), rows + t * stride, carried, a.amplitudes ? amplitude : nullptr,
                a.amplitudes ? of_amplitude : nullptr, out, soon ? soon + t * a.size : carried, n,
                past && !a.learn_decay);
            if (a.learn_decay)
                decay_row<V, A, SOFT>(constants, out, t ? rows + (t - 1) * stride : v, t > 0, of_decay, n);
            steps.found(t, out);
            grad_x.write(a.grad_x, at, n);
        }
        if (a.grad_v0) std::memcpy(a.grad_v0 + start, carried, n * sizeof(float));
        if (a.learn_decay) partial[0] = sum(of_decay, n);
        if (a.amplitudes)
            over_channels(a, start, n, [&](int64_t i, int64_t length, int64_t channel) {
                double* into = partial + 1 + channel;
                if (interleaved(a))
                    for (int64_t j = 0; j < length; ++j) into[j] += of_amplitude[i + j];
                else
                    *into += sum(of_amplitude + i, length);
            });
    }
};

// Currents as they are in memory.
template <class V> struct Plain : Steps {
    const Block<V>& block;
    Row<V> x;

    explicit Plain(const Block<V>& block_) : block(block_), x(block_.a.element) {}
    Ahead current(int64_t t) override {
        const ScanArgs& a = block.a;
        return x.read(a.x, t * a.size + block.start, block.n, t + 1 < a.steps ? a.size : 0);
    }
    void found(int64_t, const float*) override {}
};

template <class F> void over_blocks(const ScanArgs& a, int64_t rows, F body) {
    struct Context {
        F& body;
        int64_t block, size;
    } context{body, block_size(a.size, rows), a.size};
    const int64_t blocks = (a.size + context.block - 1) / context.block;
    const int threads = a.size * a.steps < 32768 ? 1 : int(a.threads);
    parallel_blocks(
        blocks, threads,
        [](void* raw, long index, long next) {
            Context& c = *static_cast<Context*>(raw);
            const int64_t start = index * c.block;
            c.body(index, start, start + c.block > c.size ? c.size - start : c.block, next < 0 ? start : next * c.block);
        },
        &context);
}

// Whether a result should be written past the caches: it is large and its rows are aligned.
inline bool beyond_caches(const ScanArgs& a, const void* result) {
    return a.element == FLOAT32 && a.size * a.steps * 4 >= PAST_BYTES && a.size % 16 == 0 &&
           reinterpret_cast<uintptr_t>(result) % 64 == 0;
}

template <int NUMBER> struct Is { static constexpr int value = NUMBER; };

template <class F> void by_truth(bool value, F f) {
    if (value)
        f(Is<1>());
    else
        f(Is<0>());
}

// Calls f with the alphabet and whether the reset is soft as constants.
template <class F> void by_kind(const ScanArgs& a, F f) {
    auto with = [&](auto alphabet) { by_truth(a.soft, [&](auto soft) { f(alphabet, soft); }); };
    switch (a.alphabet) {
    case BINARY: return with(Is<BINARY>());
    case TERNARY: return with(Is<TERNARY>());
    case GRADED: return with(Is<GRADED>());
    default: return f(Is<REAL>(), Is<0>());
    }
}

#define CONSTANT(x) decltype(x)::value

template <class V> void scan_forward(const ScanArgs& a) {
    const bool past = beyond_caches(a, a.s);
    by_kind(a, [&](auto alphabet, auto soft) {
        by_truth(a.window || a.fired, [&](auto bits) {
            over_blocks(a, 2, [&](int64_t, int64_t start, int64_t n, int64_t next) {
                Block<V>(a, start, n, next, past).template forward<CONSTANT(alphabet), CONSTANT(soft), CONSTANT(bits)>();
            });
        });
    });
}

template <class V> void scan_backward_bits(const ScanArgs& a) {
    const bool past = beyond_caches(a, a.grad_x);
    by_truth(a.alphabet == REAL, [&](auto is_real) {
        by_truth(a.soft, [&](auto soft) {
            over_blocks(a, 2, [&](int64_t, int64_t start, int64_t n, int64_t next) {
                Block<V>(a, start, n, next, past).template backward_bits<CONSTANT(is_real), CONSTANT(soft)>();
            });
        });
    });
}

template <class V> using AgainFunction = void (Block<V>::*)(Steps&, float*, int64_t, double*) const;

// The backward pass of class U for this neuron.
template <class V> AgainFunction<V> again_for(const ScanArgs& a) {
    AgainFunction<V> chosen = nullptr;
    by_kind(a, [&](auto alphabet, auto soft) {
        by_truth(a.alphabet == REAL ? !a.gate : a.detach, [&](auto detach) {
            by_truth(a.bump <= WINDOWS, [&](auto windowed) {
                chosen = &Block<V>::template backward_again<
                    CONSTANT(alphabet), CONSTANT(soft), CONSTANT(detach), CONSTANT(windowed)>;
            });
        });
    });
    return chosen;
}

template <class V> void scan_backward_again(const ScanArgs& a) {
    const int64_t stride = block_size(a.size, a.steps + 2);
    const bool sums = a.learn_decay || a.amplitudes, past = beyond_caches(a, a.grad_x);
    const AgainFunction<V> again = again_for<V>(a);
    over_blocks(a, a.steps + 2, [&](int64_t index, int64_t start, int64_t n, int64_t next) {
        double* partial = sums ? a.partial + index * (1 + a.amplitudes) : nullptr;
        const Block<V> block(a, start, n, next, past);
        Plain<V> steps(block);
        (block.*again)(steps, scratch(a.steps * stride), stride, partial);
    });
}

}  // namespace
