// Batch norm over time, batch and space in training mode, fused with the scan behind it.
//
// Forward: mean and variance per channel, then the scan of x = scale * y + shift (+ shortcut), which is never written.
// Backward, class M: the scan is run backwards twice from its bits, first for the two sums per channel that the gradient
// of y needs, then for that gradient; the gradient of x is written only where a shortcut asks for it.
// Backward, class U: x and the membranes are computed again, the gradient of x is written, and a second pass makes that
// of y from it: a surrogate costs more than reading its result.
//
// Sums over a channel: float32 over the steps and the repeats of a place and by halves within a block, then float64 per
// block, then the blocks in order. So they come out the same for any number of threads and any instruction set.

#pragma once

#include "scan.h"

namespace {

// After how many elements of a block the values per channel repeat: a multiple of 64 and at least 256, so that sums are
// short and do not wait for each other; or the padded block. The same on every machine.
inline int64_t period(const ScanArgs& a, int64_t n) {
    if (!interleaved(a) || n % 64) return padded(n);
    int64_t common = a.channels;
    for (int doubled = 0; doubled < 6 && common % 64; ++doubled) common *= 2;
    const int64_t length = common * ((255 + common) / common);
    return length < n ? length : n;
}

// A value per channel at every element of a block, as far as they do not repeat; zero behind the block.
inline void spread(const ScanArgs& a, int64_t start, int64_t n, int64_t length, const float* given, float* out) {
    const int64_t filled = length < n ? length : n;
    if (interleaved(a)) {
        const int64_t phase = start % a.channels, known = a.channels < filled ? a.channels : filled;
        for (int64_t i = 0; i < known; ++i) out[i] = given[phase + i < a.channels ? phase + i : phase + i - a.channels];
        for (int64_t i = known; i < filled; i *= 2)
            std::memcpy(out + i, out, (i < filled - i ? i : filled - i) * sizeof(float));
    } else {
        over_channels(a, start, n, [&](int64_t i, int64_t run, int64_t channel) {
            for (int64_t j = 0; j < run; ++j) out[i + j] = given[channel];
        });
    }
    std::memset(out + filled, 0, (length - filled) * sizeof(float));
}

// Adds the sums of the elements of a block to the sums of their channels; the values are lost.
inline void gather(const ScanArgs& a, int64_t start, int64_t n, int64_t length, float* values, double* into) {
    int64_t left = length < n ? length : n;
    if (interleaved(a))
        while (left % 2 == 0 && left / 2 % a.channels == 0) {
            left /= 2;
            for (int64_t i = 0; i < left; ++i) values[i] += values[left + i];
        }
    over_channels(a, start, left, [&](int64_t i, int64_t run, int64_t channel) {
        if (interleaved(a))
            for (int64_t j = 0; j < run; ++j) into[channel + j] += values[i + j];
        else
            into[channel] += sum(values + i, run);
    });
}

// Where the values per channel of the next vector are.
template <class V> struct Turn {
    const int64_t period;
    int64_t at = 0;

    explicit Turn(int64_t period_) : period(period_) {}
    int64_t next() {
        const int64_t here = at;
        at = here + V::W == period ? 0 : here + V::W;
        return here;
    }
};

template <class V>
APART void moments_row(Ahead y, const float* about, float* sums, float* squares, int64_t n, int64_t period) {
    Turn<V> turn(period);
    for (int64_t i = 0; i < n; i += V::W) {
        const int64_t j = turn.next();
        const auto d = V::sub(take<V>(y, i), V::load(about + j));
        V::store(sums + j, V::add(V::load(sums + j), d));
        V::store(squares + j, V::add(V::load(squares + j), V::mul(d, d)));
    }
}

// Currents scale * y + shift, and a shortcut if there is one.
template <class V, bool ADDED> struct Normed {
    Ahead y, shortcut;
    const float *scale, *shift;
    Turn<V> turn;

    typename V::reg operator()(int64_t i) {
        const int64_t j = turn.next();
        const auto x = V::add(V::mul(take<V>(y, i), V::load(scale + j)), V::load(shift + j));
        return ADDED ? V::add(x, take<V>(shortcut, i)) : x;
    }
};

// One step backwards: `sums` of the gradient of x, and of its product with y - mean.
template <class V, bool IS_REAL, bool SOFT>
APART void products_row(
    const Constants<V>& constants, Ahead grad_s, float* carried, const uint8_t* window, const uint8_t* hit, Ahead y,
    const float* mean, float* sums, float* products, int64_t n, int64_t period) {
    const Constants<V> c = constants;
    Turn<V> turn(period);
    for (int64_t i = 0; i < n; i += V::W) {
        const int64_t j = turn.next();
        const auto g = bits_step<V, IS_REAL, SOFT>(
            c, take<V>(grad_s, i), V::load(carried + i), window + i / 8, hit + i / 8);
        V::store(carried + i, V::mul(g, c.decay));
        V::store(sums + j, V::add(V::load(sums + j), g));
        const auto product = V::mul(g, V::sub(take<V>(y, i), V::load(mean + j)));
        V::store(products + j, V::add(V::load(products + j), product));
    }
}

// Values per channel that the gradient of y takes.
struct Slopes {
    const float *mean, *scale, *slope, *offset;
};

// One step backwards: with g, the gradient of x, that of y is scale * g + slope * (y - mean) + offset; g itself goes to
// `also` if there is such a row.
template <class V, bool IS_REAL, bool SOFT>
APART void norm_row(
    const Constants<V>& constants, Ahead grad_s, float* carried, const uint8_t* window, const uint8_t* hit, Ahead y,
    Slopes of, float* grad_y, float* also, int64_t n, int64_t period, bool past) {
    const Constants<V> c = constants;
    Turn<V> turn(period);
    for (int64_t i = 0; i < n; i += V::W) {
        const int64_t j = turn.next();
        const auto g = bits_step<V, IS_REAL, SOFT>(
            c, take<V>(grad_s, i), V::load(carried + i), window + i / 8, hit + i / 8);
        V::store(carried + i, V::mul(g, c.decay));
        const auto d = V::sub(take<V>(y, i), V::load(of.mean + j));
        const auto rest = V::add(V::mul(d, V::load(of.slope + j)), V::load(of.offset + j));
        const auto found = V::add(V::mul(g, V::load(of.scale + j)), rest);
        past ? V::stream(grad_y + i, found) : V::store(grad_y + i, found);
        if (also) past ? V::stream(also + i, g) : V::store(also + i, g);
    }
}

// Adds gradients of x, and their products with y - mean, to the sums of a step.
template <class V>
APART void totals_row(
    const float* grad_x, Ahead y, const float* mean, float* sums, float* products, int64_t n, int64_t period) {
    Turn<V> turn(period);
    for (int64_t i = 0; i < n; i += V::W) {
        const int64_t j = turn.next();
        const auto g = V::load(grad_x + i);
        V::store(sums + j, V::add(V::load(sums + j), g));
        const auto product = V::mul(g, V::sub(take<V>(y, i), V::load(mean + j)));
        V::store(products + j, V::add(V::load(products + j), product));
    }
}

// The gradient of y from that of x, as in norm_row.
template <class V>
APART void slopes_row(Ahead grad_x, Ahead y, Slopes of, float* grad_y, int64_t n, int64_t period, bool past) {
    Turn<V> turn(period);
    for (int64_t i = 0; i < n; i += V::W) {
        const int64_t j = turn.next();
        const auto d = V::sub(take<V>(y, i), V::load(of.mean + j));
        const auto rest = V::add(V::mul(d, V::load(of.slope + j)), V::load(of.offset + j));
        const auto found = V::add(V::mul(take<V>(grad_x, i), V::load(of.scale + j)), rest);
        past ? V::stream(grad_y + i, found) : V::store(grad_y + i, found);
    }
}

template <class V> struct NormBlock : Block<V> {
    const NormArgs& norm;
    const int64_t length;  // of the values per channel

    NormBlock(const NormArgs& args, int64_t start, int64_t n, int64_t next, bool past)
        : Block<V>(args.scan, start, n, next, past), norm(args), length(period(args.scan, n)) {}

    int64_t of_y(int64_t t) const { return t * norm.onward + this->start; }  // where its row of step t is
    void per_channel(const float* given, float* out) const { spread(this->a, this->start, this->n, length, given, out); }
    void moment(int which, float* out) const { per_channel(norm.moments + which * this->a.channels, out); }
    void add_up(float* values, double* into) const { gather(this->a, this->start, this->n, length, values, into); }

    void moments(double* partial) const {
        const ScanArgs& a = this->a;
        const int64_t n = this->n;
        alignas(64) float about[MAX_BLOCK], sums[MAX_BLOCK], squares[MAX_BLOCK];
        Row<V> y(a.element);
        moment(MEAN, about);
        std::memset(sums, 0, length * sizeof(float));
        std::memset(squares, 0, length * sizeof(float));
        for (int64_t t = 0; t < a.steps; ++t)
            moments_row<V>(
                y.read(a.x, of_y(t), n, t + 1 < a.steps ? norm.onward : 0), about, sums, squares, n, length);
        add_up(sums, partial);
        add_up(squares, partial + a.channels);
    }

    template <int A, bool SOFT, bool BITS, bool ADDED> void forward() const {
        const ScanArgs& a = this->a;
        const int64_t n = this->n;
        alignas(64) float v[MAX_BLOCK], scale[MAX_BLOCK], shift[MAX_BLOCK], amplitude[MAX_BLOCK];
        Row<V> y(a.element), shortcut(a.element), s(a.element);
        if (a.amplitudes) spread_amplitude(a, this->start, n, amplitude);
        moment(SCALE, scale);
        moment(SHIFT, shift);
        copy_or_zero(nullptr, 0, n, v);
        for (int64_t t = 0; t < a.steps; ++t) {
            const int64_t at = t * a.size + this->start, onward = t + 1 < a.steps ? a.size : 0;
            const Ahead given = y.read(a.x, of_y(t), n, onward ? norm.onward : 0);
            const Ahead added = ADDED ? shortcut.read(norm.shortcut, at, n, onward) : given;
            forward_row<V, A, SOFT, BITS>(
                this->constants, Normed<V, ADDED>{given, added, scale, shift, Turn<V>(length)}, v,
                a.amplitudes ? amplitude : nullptr,
                s.place(a.s, at, n), this->bits(a.window, t), this->bits(a.fired, t), n, this->past);
            s.write(a.s, at, n);
        }
    }

    // Calls f(row of grad_s, row of y, gradient of the membrane, bits, place) for all steps, the last first.
    template <class F> void backwards(F f) const {
        const ScanArgs& a = this->a;
        const int64_t n = this->n;
        alignas(64) float carried[MAX_BLOCK];
        Row<V> grad_s(a.element), y(a.element);
        copy_or_zero(nullptr, 0, n, carried);
        for (int64_t t = a.steps - 1; t >= 0; --t) {
            const int64_t at = t * a.size + this->start, onward = t ? -a.size : 0;
            f(grad_s.read(a.grad_s, at, n, onward), y.read(a.x, of_y(t), n, t ? -norm.onward : 0), carried,
              this->bits(a.window, t), this->bits(a.fired, t), at);
        }
    }

    template <bool IS_REAL, bool SOFT> void products(double* partial) const {
        alignas(64) float mean[MAX_BLOCK], sums[MAX_BLOCK], products[MAX_BLOCK];
        moment(MEAN, mean);
        std::memset(sums, 0, length * sizeof(float));
        std::memset(products, 0, length * sizeof(float));
        backwards([&](Ahead grad_s, Ahead y, float* carried, const uint8_t* window, const uint8_t* hit, int64_t) {
            products_row<V, IS_REAL, SOFT>(
                this->constants, grad_s, carried, window, hit, y, mean, sums, products, this->n, length);
        });
        add_up(sums, partial);
        add_up(products, partial + this->a.channels);
    }

    template <bool IS_REAL, bool SOFT> void backward() const {
        const ScanArgs& a = this->a;
        const int64_t n = this->n;
        alignas(64) float mean[MAX_BLOCK], scale[MAX_BLOCK], slope[MAX_BLOCK], offset[MAX_BLOCK];
        Row<V> grad_y(a.element), also(a.element);
        moment(MEAN, mean);
        moment(SCALE, scale);
        per_channel(norm.grads + SLOPE * a.channels, slope);
        per_channel(norm.grads + OFFSET * a.channels, offset);
        backwards([&](Ahead grad_s, Ahead y, float* carried, const uint8_t* window, const uint8_t* hit, int64_t at) {
            float* to = norm.grad_shortcut ? also.place(norm.grad_shortcut, at, n) : nullptr;
            norm_row<V, IS_REAL, SOFT>(
                this->constants, grad_s, carried, window, hit, y, Slopes{mean, scale, slope, offset},
                grad_y.place(a.grad_x, at, n), to, n, length, this->past);
            grad_y.write(a.grad_x, at, n);
            if (to) also.write(norm.grad_shortcut, at, n);
        });
    }

    // The gradient of y from that of x, which may be in the same place.
    void slopes(const void* grad_x) const {
        const ScanArgs& a = this->a;
        const int64_t n = this->n;
        alignas(64) float mean[MAX_BLOCK], scale[MAX_BLOCK], slope[MAX_BLOCK], offset[MAX_BLOCK];
        Row<V> given(a.element), y(a.element), grad_y(a.element);
        moment(MEAN, mean);
        moment(SCALE, scale);
        per_channel(norm.grads + SLOPE * a.channels, slope);
        per_channel(norm.grads + OFFSET * a.channels, offset);
        for (int64_t t = 0; t < a.steps; ++t) {
            const int64_t at = t * a.size + this->start, onward = t + 1 < a.steps ? a.size : 0;
            slopes_row<V>(
                given.read(grad_x, at, n, onward), y.read(a.x, of_y(t), n, onward ? norm.onward : 0),
                Slopes{mean, scale, slope, offset}, grad_y.place(a.grad_x, at, n), n, length, this->past);
            grad_y.write(a.grad_x, at, n);
        }
    }
};

// Class U: the currents of a block once more, and what is added up over their gradients.
template <class V> struct Renormed : Steps {
    const NormBlock<V>& block;
    Row<V> y, shortcut;
    alignas(64) float scale[MAX_BLOCK], shift[MAX_BLOCK], mean[MAX_BLOCK], x[MAX_BLOCK];
    alignas(64) float sums[MAX_BLOCK], products[MAX_BLOCK];

    explicit Renormed(const NormBlock<V>& block_) : block(block_), y(block_.a.element), shortcut(block_.a.element) {
        block.moment(SCALE, scale);
        block.moment(SHIFT, shift);
        block.moment(MEAN, mean);
        std::memset(sums, 0, block.length * sizeof(float));
        std::memset(products, 0, block.length * sizeof(float));
    }

    Ahead row_of_y(int64_t t, int64_t onward) { return y.read(block.a.x, block.of_y(t), block.n, onward); }

    template <bool ADDED> void fill(Ahead given, Ahead added) {
        Normed<V, ADDED> normed{given, added, scale, shift, Turn<V>(block.length)};
        for (int64_t i = 0; i < block.n; i += V::W) V::store(x + i, normed(i));
    }

    Ahead current(int64_t t) override {
        const int64_t size = block.a.size, onward = t + 1 < block.a.steps ? size : 0;
        const Ahead given = row_of_y(t, onward ? block.norm.onward : 0);
        if (block.norm.shortcut)
            fill<true>(given, shortcut.read(block.norm.shortcut, t * size + block.start, block.n, onward));
        else
            fill<false>(given, given);
        return Ahead{x, x, block.n};
    }

    void found(int64_t t, const float* grad_x) override {
        const Ahead given = row_of_y(t, t ? -block.norm.onward : 0);
        totals_row<V>(grad_x, given, mean, sums, products, block.n, block.length);
    }
};

// Runs f(block index, start, length, next start, two sums per channel) over the blocks, then adds up the sums, and what
// `more` doubles behind them hold.
template <class F> const double* norm_sums(const ScanArgs& a, F f, int64_t rows = NORM_ROWS, int64_t more = 0) {
    const int64_t width = 2 * a.channels + more;
    over_blocks(a, rows, [&](int64_t index, int64_t start, int64_t n, int64_t next) {
        double* partial = a.partial + index * width;
        for (int64_t i = 0; i < width; ++i) partial[i] = 0.0;
        f(start, n, next, partial);
    });
    const int64_t block = block_size(a.size, rows), blocks = (a.size + block - 1) / block;
    for (int64_t index = 1; index < blocks; ++index)
        for (int64_t i = 0; i < width; ++i) a.partial[i] += a.partial[index * width + i];
    return a.partial;
}

template <class V> void norm_forward(const NormArgs& norm) {
    const ScanArgs& a = norm.scan;
    const int64_t channels = a.channels;
    float* moments = norm.moments;
    // Deviations from a value of the channel: squares of the values themselves would cancel where the mean is large.
    for (int64_t c = 0; c < channels; ++c) {
        Row<V> first(a.element);
        moments[MEAN * channels + c] = *first.copied(a.x, c * a.inner, 1);
    }
    const double* sums = norm_sums(a, [&](int64_t start, int64_t n, int64_t next, double* partial) {
        NormBlock<V>(norm, start, n, next, false).moments(partial);
    });
    const double count = double(a.steps) * double(a.size / channels);
    for (int64_t c = 0; c < channels; ++c) {
        const double offset = sums[c] / count;
        double variance = sums[channels + c] / count - offset * offset;
        if (variance < 0.0) variance = 0.0;
        float* out = moments + c;
        out[MEAN * channels] = float(out[MEAN * channels] + offset);
        out[INVERSE * channels] = float(1.0 / std::sqrt(variance + norm.eps));
        out[UNBIASED * channels] = float(variance * (count / (count - 1.0)));
        const float scale = norm.weight[c] * out[INVERSE * channels];
        out[SCALE * channels] = scale;
        out[SHIFT * channels] = norm.bias[c] - out[MEAN * channels] * scale;
    }
    const bool past = beyond_caches(a, a.s);
    by_kind(a, [&](auto alphabet, auto soft) {
        by_truth(a.window || a.fired, [&](auto bits) {
            by_truth(norm.shortcut, [&](auto added) {
                over_blocks(a, NORM_ROWS, [&](int64_t, int64_t start, int64_t n, int64_t next) {
                    NormBlock<V>(norm, start, n, next, past)
                        .template forward<CONSTANT(alphabet), CONSTANT(soft), CONSTANT(bits), CONSTANT(added)>();
                });
            });
        });
    });
}

// Gradients of weight and bias, and what the gradient of y takes, from the two sums per channel.
inline void finish_grads(const NormArgs& norm, const double* sums) {
    const ScanArgs& a = norm.scan;
    const int64_t channels = a.channels;
    const double count = double(a.steps) * double(a.size / channels);
    for (int64_t c = 0; c < channels; ++c) {
        const double inverse = norm.moments[INVERSE * channels + c];
        const double scale = norm.moments[SCALE * channels + c], product = sums[channels + c];
        norm.grads[OF_WEIGHT * channels + c] = float(product * inverse);
        norm.grads[OF_BIAS * channels + c] = float(sums[c]);
        norm.grads[SLOPE * channels + c] = float(-scale * inverse * inverse * product / count);
        norm.grads[OFFSET * channels + c] = float(-scale * sums[c] / count);
    }
}

inline bool norm_past(const NormArgs& norm) {
    return beyond_caches(norm.scan, norm.scan.grad_x) &&
           (!norm.grad_shortcut || beyond_caches(norm.scan, norm.grad_shortcut));
}

template <class V> void norm_backward_bits(const NormArgs& norm) {
    const ScanArgs& a = norm.scan;
    const bool past = norm_past(norm);
    by_truth(a.alphabet == REAL, [&](auto is_real) {
        by_truth(a.soft, [&](auto soft) {
            const double* sums = norm_sums(a, [&](int64_t start, int64_t n, int64_t next, double* partial) {
                NormBlock<V>(norm, start, n, next, false)
                    .template products<CONSTANT(is_real), CONSTANT(soft)>(partial);
            });
            finish_grads(norm, sums);
            over_blocks(a, NORM_ROWS, [&](int64_t, int64_t start, int64_t n, int64_t next) {
                NormBlock<V>(norm, start, n, next, past).template backward<CONSTANT(is_real), CONSTANT(soft)>();
            });
        });
    });
}

// The gradients of decay and amplitude are added up behind the two sums per channel.
template <class V> void norm_backward_again(const NormArgs& norm) {
    NormArgs first = norm;
    if (norm.grad_shortcut) first.scan.grad_x = norm.grad_shortcut;
    const ScanArgs& a = first.scan;
    const int64_t rows = a.steps + 2, stride = block_size(a.size, rows);
    const AgainFunction<V> again = again_for<V>(a);
    const double* sums = norm_sums(
        a,
        [&](int64_t start, int64_t n, int64_t next, double* partial) {
            const NormBlock<V> block(first, start, n, next, false);
            Renormed<V> steps(block);
            (block.*again)(steps, scratch(a.steps * stride), stride, partial + 2 * a.channels);
            block.add_up(steps.sums, partial);
            block.add_up(steps.products, partial + a.channels);
        },
        rows, 1 + a.amplitudes);
    finish_grads(norm, sums);
    const bool past = norm_past(norm);
    over_blocks(a, NORM_ROWS, [&](int64_t, int64_t start, int64_t n, int64_t next) {
        NormBlock<V>(norm, start, n, next, past).slopes(a.grad_x);
    });
}

template <class V> void norm_backward(const NormArgs& norm) {
    norm.scan.window || norm.scan.fired ? norm_backward_bits<V>(norm) : norm_backward_again<V>(norm);
}

}  // namespace
