// Batch norm over time, batch and space in training mode, fused with the scan behind it (class M, float32).
//
// Forward: mean and variance per channel, then the scan of x = scale * y + shift (+ shortcut), which is never written.
// Backward: the scan is run backwards twice from its bits, first for the two sums per channel that the gradient of y
// needs, then for that gradient; the gradient of x is written only where a shortcut asks for it.
//
// Sums over a channel: float32 over the steps of an element and by halves within a block, then float64 per block, then
// the blocks in order. So they come out the same for any number of threads and any instruction set.

#pragma once

#include "scan.h"

namespace {

inline int64_t norm_block(const ScanArgs& a) { return block_size(a.size, NORM_ROWS); }

// A value per channel at every element of a block; zero behind it.
inline void spread(const ScanArgs& a, int64_t start, int64_t n, const float* given, float* out) {
    if (interleaved(a)) {
        const int64_t phase = start % a.channels, known = a.channels < n ? a.channels : n;
        for (int64_t i = 0; i < known; ++i) out[i] = given[phase + i < a.channels ? phase + i : phase + i - a.channels];
        for (int64_t i = known; i < n; i *= 2) std::memcpy(out + i, out, (i < n - i ? i : n - i) * sizeof(float));
    } else {
        over_channels(a, start, n, [&](int64_t i, int64_t length, int64_t channel) {
            for (int64_t j = 0; j < length; ++j) out[i + j] = given[channel];
        });
    }
    std::memset(out + n, 0, (padded(n) - n) * sizeof(float));
}

// Adds the values of a block to the sums of their channels; the values are lost.
inline void gather(const ScanArgs& a, int64_t start, int64_t n, float* values, double* into) {
    if (interleaved(a))
        while (n % 2 == 0 && n / 2 % a.channels == 0) {
            n /= 2;
            for (int64_t i = 0; i < n; ++i) values[i] += values[n + i];
        }
    over_channels(a, start, n, [&](int64_t i, int64_t length, int64_t channel) {
        if (interleaved(a))
            for (int64_t j = 0; j < length; ++j) into[channel + j] += values[i + j];
        else
            into[channel] += sum(values + i, length);
    });
}

template <class V>
APART void moments_row(Ahead y, const float* about, float* sums, float* squares, int64_t n) {
    for (int64_t i = 0; i < n; i += V::W) {
        const auto d = V::sub(V::load(y + i), V::load(about + i));
        V::store(sums + i, V::add(V::load(sums + i), d));
        V::store(squares + i, V::add(V::load(squares + i), V::mul(d, d)));
    }
}

template <class V, bool ADDED>
APART void current_row(Ahead y, const float* scale, const float* shift, Ahead shortcut, float* x, int64_t n) {
    for (int64_t i = 0; i < n; i += V::W) {
        auto current = V::add(V::mul(V::load(y + i), V::load(scale + i)), V::load(shift + i));
        if (ADDED) current = V::add(current, V::load(shortcut + i));
        V::store(x + i, current);
    }
}

template <class V>
APART void products_row(const float* grad_x, Ahead y, const float* mean, float* sums, float* products, int64_t n) {
    for (int64_t i = 0; i < n; i += V::W) {
        const auto g = V::load(grad_x + i);
        V::store(sums + i, V::add(V::load(sums + i), g));
        const auto product = V::mul(g, V::sub(V::load(y + i), V::load(mean + i)));
        V::store(products + i, V::add(V::load(products + i), product));
    }
}

// The gradient of y: scale * grad_x + slope * (y - mean) + offset; grad_x is copied to `also` where there is such a row.
template <class V>
APART void norm_row(
    const float* grad_x, Ahead y, const float* mean, const float* scale, const float* slope, const float* offset,
    float* grad_y, float* also, int64_t n, bool past) {
    for (int64_t i = 0; i < n; i += V::W) {
        const auto g = V::load(grad_x + i), d = V::sub(V::load(y + i), V::load(mean + i));
        const auto rest = V::add(V::mul(d, V::load(slope + i)), V::load(offset + i));
        const auto found = V::add(V::mul(g, V::load(scale + i)), rest);
        past ? V::stream(grad_y + i, found) : V::store(grad_y + i, found);
        if (also) past ? V::stream(also + i, g) : V::store(also + i, g);
    }
}

template <class V> struct NormBlock : Block<V> {
    const NormArgs& norm;

    NormBlock(const NormArgs& args, int64_t start, int64_t n, int64_t next, bool past)
        : Block<V>(args.scan, start, n, next, past), norm(args) {}

    const float* row(int which) const { return norm.moments + which * this->a.channels; }

    void moments(double* partial) const {
        const ScanArgs& a = this->a;
        const int64_t start = this->start, n = this->n;
        alignas(64) float about[MAX_BLOCK], sums[MAX_BLOCK], squares[MAX_BLOCK];
        Row<V> y(a.element);
        spread(a, start, n, row(MEAN), about);
        copy_or_zero(nullptr, 0, n, sums);
        copy_or_zero(nullptr, 0, n, squares);
        for (int64_t t = 0; t < a.steps; ++t)
            moments_row<V>(y.read(a.x, t * a.size + start, n, t + 1 < a.steps ? a.size : 0), about, sums, squares, n);
        gather(a, start, n, sums, partial);
        gather(a, start, n, squares, partial + a.channels);
    }

    template <int A, bool SOFT, bool BITS> void forward() const {
        const ScanArgs& a = this->a;
        const int64_t start = this->start, n = this->n;
        alignas(64) float v[MAX_BLOCK], x[MAX_BLOCK], scale[MAX_BLOCK], shift[MAX_BLOCK];
        Row<V> y(a.element), shortcut(a.element), s(a.element);
        spread(a, start, n, row(SCALE), scale);
        spread(a, start, n, row(SHIFT), shift);
        copy_or_zero(nullptr, 0, n, v);
        for (int64_t t = 0; t < a.steps; ++t) {
            const int64_t at = t * a.size + start, onward = t + 1 < a.steps ? a.size : 0;
            const Ahead given = y.read(a.x, at, n, onward);
            if (norm.shortcut)
                current_row<V, true>(given, scale, shift, shortcut.read(norm.shortcut, at, n, onward), x, n);
            else
                current_row<V, false>(given, scale, shift, given, x, n);
            forward_row<V, A, SOFT, BITS>(
                this->constants, Ahead{x, x, n}, v, nullptr, s.place(a.s, at, n), this->bits(a.window, t),
                this->bits(a.fired, t), n, this->past);
            s.write(a.s, at, n);
        }
    }

    // Calls f(grad_x of a step, its place, the elements to the step that follows) for all steps, the last first.
    template <bool IS_REAL, bool SOFT, class F> void backwards(F f) const {
        const ScanArgs& a = this->a;
        const int64_t start = this->start, n = this->n;
        alignas(64) float carried[MAX_BLOCK], grad_x[MAX_BLOCK];
        Row<V> grad_s(a.element);
        copy_or_zero(nullptr, 0, n, carried);
        for (int64_t t = a.steps - 1; t >= 0; --t) {
            const int64_t at = t * a.size + start, onward = t ? -a.size : 0;
            bits_row<V, IS_REAL, SOFT>(
                this->constants, grad_s.read(a.grad_s, at, n, onward), carried, this->bits(a.window, t),
                this->bits(a.fired, t), grad_x, n, false);
            f(grad_x, at, onward);
        }
    }

    template <bool IS_REAL, bool SOFT> void products(double* partial) const {
        const ScanArgs& a = this->a;
        const int64_t start = this->start, n = this->n;
        alignas(64) float mean[MAX_BLOCK], sums[MAX_BLOCK], products[MAX_BLOCK];
        Row<V> y(a.element);
        spread(a, start, n, row(MEAN), mean);
        copy_or_zero(nullptr, 0, n, sums);
        copy_or_zero(nullptr, 0, n, products);
        backwards<IS_REAL, SOFT>([&](const float* grad_x, int64_t at, int64_t onward) {
            products_row<V>(grad_x, y.read(a.x, at, n, onward), mean, sums, products, n);
        });
        gather(a, start, n, sums, partial);
        gather(a, start, n, products, partial + a.channels);
    }

    template <bool IS_REAL, bool SOFT> void backward() const {
        const ScanArgs& a = this->a;
        const int64_t start = this->start, n = this->n;
        alignas(64) float mean[MAX_BLOCK], scale[MAX_BLOCK], slope[MAX_BLOCK], offset[MAX_BLOCK];
        Row<V> y(a.element), grad_y(a.element), also(a.element);
        spread(a, start, n, row(MEAN), mean);
        spread(a, start, n, row(SCALE), scale);
        spread(a, start, n, norm.grads + SLOPE * a.channels, slope);
        spread(a, start, n, norm.grads + OFFSET * a.channels, offset);
        backwards<IS_REAL, SOFT>([&](const float* grad_x, int64_t at, int64_t onward) {
            float* to = norm.grad_shortcut ? also.place(norm.grad_shortcut, at, n) : nullptr;
            norm_row<V>(
                grad_x, y.read(a.x, at, n, onward), mean, scale, slope, offset, grad_y.place(a.grad_x, at, n), to, n,
                this->past);
            grad_y.write(a.grad_x, at, n);
            if (to) also.write(norm.grad_shortcut, at, n);
        });
    }
};

// Runs f(block index, start, length, next start, two sums per channel) over the blocks, then adds up the sums.
template <class F> const double* norm_sums(const ScanArgs& a, F f) {
    const int64_t width = 2 * a.channels;
    over_blocks(a, NORM_ROWS, [&](int64_t index, int64_t start, int64_t n, int64_t next) {
        double* partial = a.partial + index * width;
        for (int64_t i = 0; i < width; ++i) partial[i] = 0.0;
        f(start, n, next, partial);
    });
    const int64_t block = norm_block(a), blocks = (a.size + block - 1) / block;
    for (int64_t index = 1; index < blocks; ++index)
        for (int64_t i = 0; i < width; ++i) a.partial[i] += a.partial[index * width + i];
    return a.partial;
}

template <class V> void norm_forward(const NormArgs& norm) {
    const ScanArgs& a = norm.scan;
    const int64_t channels = a.channels;
    float* moments = norm.moments;
    // Deviations from a value of the channel: squares of the values themselves would cancel where the mean is large.
    for (int64_t c = 0; c < channels; ++c) moments[MEAN * channels + c] = static_cast<const float*>(a.x)[c * a.inner];
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
            over_blocks(a, NORM_ROWS, [&](int64_t, int64_t start, int64_t n, int64_t next) {
                NormBlock<V>(norm, start, n, next, past)
                    .template forward<CONSTANT(alphabet), CONSTANT(soft), CONSTANT(bits)>();
            });
        });
    });
}

template <class V> void norm_backward(const NormArgs& norm) {
    const ScanArgs& a = norm.scan;
    const int64_t channels = a.channels;
    const bool past = beyond_caches(a, a.grad_x) && (!norm.grad_shortcut || beyond_caches(a, norm.grad_shortcut));
    by_truth(a.alphabet == REAL, [&](auto is_real) {
        by_truth(a.soft, [&](auto soft) {
            const double* sums = norm_sums(a, [&](int64_t start, int64_t n, int64_t next, double* partial) {
                NormBlock<V>(norm, start, n, next, false)
                    .template products<CONSTANT(is_real), CONSTANT(soft)>(partial);
            });
            const double count = double(a.steps) * double(a.size / channels);
            for (int64_t c = 0; c < channels; ++c) {
                const double inverse = norm.moments[INVERSE * channels + c];
                const double scale = norm.moments[SCALE * channels + c], product = sums[channels + c];
                norm.grads[OF_WEIGHT * channels + c] = float(product * inverse);
                norm.grads[OF_BIAS * channels + c] = float(sums[c]);
                norm.grads[SLOPE * channels + c] = float(-scale * inverse * inverse * product / count);
                norm.grads[OFFSET * channels + c] = float(-scale * sums[c] / count);
            }
            over_blocks(a, NORM_ROWS, [&](int64_t, int64_t start, int64_t n, int64_t next) {
                NormBlock<V>(norm, start, n, next, past).template backward<CONSTANT(is_real), CONSTANT(soft)>();
            });
        });
    });
}

}  // namespace
