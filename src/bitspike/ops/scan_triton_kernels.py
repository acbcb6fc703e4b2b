"""The Triton kernels of `scan_triton`. Importing this file needs triton; only `scan_triton` does, at its first call.

A program takes a block of elements through all steps, so that membranes stay in registers. A tile is [bytes, 8]: one
row is one byte of saved bits. Steps come in segments of K, whose rows are loaded before any of them is worked on.
Every operation is a plain multiply, add, divide or compare in the order of the PyTorch reference, and the launch
forbids their contraction (``enable_fp_fusion=False``), so spikes and membranes equal the reference's on the CPU.
Branches on constants are closed by an ``else``: Triton compiles what follows a return.
"""

from __future__ import annotations

import triton
import triton.language as tl

from bitspike.ops import spec

_TERNARY = tl.constexpr(spec.TERNARY)
_GRADED = tl.constexpr(spec.GRADED)
_REAL = tl.constexpr(spec.REAL)
_WINDOW = tl.constexpr(spec.WINDOW)
_WINDOWS = tl.constexpr(spec.WINDOWS)
_TRIANGLE = tl.constexpr(spec.TRIANGLE)
_ATAN = tl.constexpr(spec.ATAN)
_SIGMOID = tl.constexpr(spec.SIGMOID)


@triton.jit
def _steps_above(magnitude, first, spacing, inverse, EXACT: tl.constexpr):
    """(|u| - first) / spacing; multiplied where 1/spacing is exact."""
    if EXACT:
        return (magnitude - first) * inverse
    else:
        return tl.div_rn(magnitude - first, tl.zeros_like(magnitude) + spacing)


@triton.jit
def _level(u, first, spacing, inverse, count, A: tl.constexpr, EXACT: tl.constexpr):
    """Level (for real spikes: 1) and whether it is not 0."""
    if A == _TERNARY:
        up, down = u >= first, -u >= first
        fired = up | down
        k = tl.where(up, 1.0, 0.0) - tl.where(down, 1.0, 0.0)
    elif A == _GRADED:
        k = tl.floor(_steps_above(u, first, spacing, inverse, EXACT)) + 1.0
        k = tl.where(k != k, k, tl.minimum(tl.maximum(k, 0.0), count))  # NaN stays NaN
        fired = k >= 1.0
    else:
        fired = u >= first
        k = tl.where(fired, 1.0, 0.0)
    return k, fired


@triton.jit
def _reset(u, k, fired, charge, A: tl.constexpr, SOFT: tl.constexpr):
    if A == _REAL:
        return u - u * k
    elif SOFT:
        return u - k * charge
    else:
        return u * tl.where(fired, 0.0, 1.0)


@triton.jit
def _inside(u, first, spacing, inverse, count, p0, p1, A: tl.constexpr, BUMP: tl.constexpr, EXACT: tl.constexpr):
    """Whether u lies in a window of the surrogate."""
    magnitude = tl.abs(u) if A == _TERNARY else u
    if BUMP == _WINDOW:
        return (magnitude >= p0) & (magnitude <= p1)
    else:
        index = tl.floor(_steps_above(magnitude, first, spacing, inverse, EXACT) + 0.5)
        index = tl.minimum(tl.maximum(index, 0.0), count - 1.0)
        return tl.abs(magnitude - (index * spacing + first)) <= p0


@triton.jit
def _bump(x, p0, p1, BUMP: tl.constexpr):
    if BUMP == _TRIANGLE:
        return tl.maximum(1.0 - tl.abs(x) / p0, 0.0, propagate_nan=tl.PropagateNan.ALL) / p0
    elif BUMP == _ATAN:
        y = p0 * x
        return p1 / (1.0 + y * y)
    elif BUMP == _SIGMOID:
        e = tl.exp(-tl.abs(p0 * x))
        y = 1.0 / (1.0 + e)
        return p0 * y * (e * y)
    else:
        y = 1.0 / (1.0 + p0 * tl.abs(x))
        return y * y


@triton.jit
def _surrogate(u, first, spacing, inverse, count, p0, p1, p2, A: tl.constexpr, BUMP: tl.constexpr, EXACT: tl.constexpr):
    """The derivative that training uses."""
    if BUMP == _WINDOW or BUMP == _WINDOWS:
        return tl.where(_inside(u, first, spacing, inverse, count, p0, p1, A, BUMP, EXACT), p2, 0.0)
    elif A == _GRADED:
        total = tl.zeros_like(u)
        boundary = first
        for _ in range(tl.cast(count, tl.int32)):
            total += _bump(u - boundary, p0, p1, BUMP)
            boundary += spacing
        return total
    elif A == _TERNARY:
        return _bump(u - first, p0, p1, BUMP) + _bump(-u - first, p0, p1, BUMP)
    else:
        return _bump(u - first, p0, p1, BUMP)


@triton.jit
def _packed(bits, ROWS: tl.constexpr):
    """[ROWS, 8] truths as ROWS bytes, least significant bit first."""
    weights = tl.full((1, 8), 1, tl.int32) << tl.arange(0, 8)[None, :]
    return tl.sum(tl.where(bits, weights, 0), axis=1).to(tl.uint8)


@triton.jit
def _unpacked(packed):
    """The inverse of `_packed`."""
    return ((packed.to(tl.int32)[:, None] >> tl.arange(0, 8)[None, :]) & 1) != 0


@triton.jit
def _tile(size, ROWS: tl.constexpr):
    """First element of this program; for its elements and its bytes: places from there and whether they exist."""
    begin = tl.cast(tl.program_id(0), tl.int64) * (ROWS * 8)
    byte = tl.arange(0, ROWS)
    place = byte[:, None] * 8 + tl.arange(0, 8)[None, :]
    left = tl.cast(size - begin, tl.int32)
    return begin, place, place < left, byte, byte * 8 < left


@triton.jit
def _factors(amplitude, factor, begin, place, here, inner, channels, PER_CHANNEL: tl.constexpr):
    """Value of a level: a scalar, or one for every element of the tile."""
    if amplitude is None:
        return factor
    elif PER_CHANNEL:
        channel = (tl.cast(begin, tl.int32) + place) // inner % channels
        return tl.load(amplitude + channel, mask=here, other=0.0) * factor
    else:
        return tl.load(amplitude) * factor


@triton.jit
def forward(
    x, v0, decays, amplitude, s, after, window, hit, marks,
    size, row_bytes, inner, channels, count,
    first, spacing, inverse, charge, decay, factor, p0, p1,
    T: tl.constexpr, K: tl.constexpr, SEGMENTS: tl.constexpr, A: tl.constexpr, SOFT: tl.constexpr, BUMP: tl.constexpr,
    EXACT: tl.constexpr, PER_CHANNEL: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Spikes; membrane after the last step, bits (class M) and membranes between segments (class U) where asked for."""
    begin, place, here, byte, there = _tile(size, ROWS)
    if v0 is None:
        v = tl.zeros((ROWS, 8), tl.float32)
    else:
        v = tl.load(v0 + begin + place, mask=here, other=0.0)
    if decays is not None:
        decay = tl.load(decays)
    value = _factors(amplitude, factor, begin, place, here, inner, channels, PER_CHANNEL)
    for segment in tl.range(SEGMENTS):
        base = tl.cast(segment * K, tl.int64)
        if marks is not None:
            if segment > 0:
                tl.store(marks + tl.cast(segment - 1, tl.int64) * size + begin + place, v, mask=here)
        given = ()
        for j in tl.static_range(K):
            at = x + (base + j) * size + begin
            given = given + (tl.load(at + place, mask=here & (base + j < T), other=0.0),)
        for j in tl.static_range(K):
            live = base + j < T
            u = v * decay + given[j].to(tl.float32)
            k, fired = _level(u, first, spacing, inverse, count, A, EXACT)
            v = tl.where(live, _reset(u, k, fired, charge, A, SOFT), v)
            sent = (u * k if A == _REAL else k) * value
            tl.store(s + (base + j) * size + begin + place, sent.to(s.dtype.element_ty), mask=here & live)
            row = (base + j) * row_bytes + begin // 8
            if window is not None:
                bits = _inside(u, first, spacing, inverse, count, p0, p1, A, BUMP, EXACT)
                tl.store(window + row + byte, _packed(bits, ROWS), mask=there & live)
            if hit is not None:
                tl.store(hit + row + byte, _packed(fired, ROWS), mask=there & live)
    if after is not None:
        tl.store(after + begin + place, v, mask=here)


@triton.jit
def backward_bits(
    grad_s, grad_v, window, hit, grad_x, grad_v0,
    size, row_bytes, decay, factor, height,
    T: tl.constexpr, K: tl.constexpr, SEGMENTS: tl.constexpr, A: tl.constexpr, SOFT: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Class M: the gradient of the currents from saved bits."""
    begin, place, here, byte, there = _tile(size, ROWS)
    if grad_v is None:
        carried = tl.zeros((ROWS, 8), tl.float32)
    else:
        carried = tl.load(grad_v + begin + place, mask=here, other=0.0)
    for back in tl.range(SEGMENTS):
        base = tl.cast((SEGMENTS - 1 - back) * K, tl.int64)
        sent = ()
        windows = ()
        hits = ()
        for j in tl.static_range(K):
            live = base + j < T
            row = (base + j) * row_bytes + begin // 8
            if grad_s is None:
                sent = sent + (tl.zeros((ROWS, 8), tl.float32),)
            else:
                at = grad_s + (base + j) * size + begin
                sent = sent + (tl.load(at + place, mask=here & live, other=0.0),)
            if window is not None:
                windows = windows + (tl.load(window + row + byte, mask=there & live, other=0),)
            if hit is not None:
                hits = hits + (tl.load(hit + row + byte, mask=there & live, other=0),)
        for i in tl.static_range(K):
            live = base + (K - 1 - i) < T
            g = sent[K - 1 - i].to(tl.float32) * factor
            if A == _REAL:
                du = carried + tl.where(_unpacked(hits[K - 1 - i]), g - carried, 0.0)
            else:
                direct = carried if SOFT else tl.where(_unpacked(hits[K - 1 - i]), 0.0, carried)
                du = tl.where(_unpacked(windows[K - 1 - i]), g * height, 0.0) + direct
            at = grad_x + (base + (K - 1 - i)) * size + begin
            tl.store(at + place, du.to(grad_x.dtype.element_ty), mask=here & live)
            carried = tl.where(live, du * decay, carried)
    if grad_v0 is not None:
        tl.store(grad_v0 + begin + place, carried, mask=here)


@triton.jit
def backward_again(
    grad_s, grad_v, x, v0, decays, amplitude, marks, grad_x, grad_v0, decay_sums, amplitude_sums,
    size, inner, channels, count,
    first, spacing, inverse, charge, decay, factor, p0, p1, p2,
    T: tl.constexpr, K: tl.constexpr, SEGMENTS: tl.constexpr, A: tl.constexpr, SOFT: tl.constexpr,
    DETACH: tl.constexpr, BUMP: tl.constexpr, EXACT: tl.constexpr, PER_CHANNEL: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Class U: membranes once more, a segment at a time, then its gradients.

    ``amplitude_sums``: [size] (per channel) or [programs]; ``decay_sums``: [programs].
    """
    begin, place, here, _, _ = _tile(size, ROWS)
    if grad_v is None:
        carried = tl.zeros((ROWS, 8), tl.float32)
    else:
        carried = tl.load(grad_v + begin + place, mask=here, other=0.0)
    if decays is not None:
        decay = tl.load(decays)
    value = _factors(amplitude, factor, begin, place, here, inner, channels, PER_CHANNEL)
    of_decay = tl.zeros((ROWS, 8), tl.float32)
    of_amplitude = tl.zeros((ROWS, 8), tl.float32)
    for back in tl.range(SEGMENTS):
        segment = SEGMENTS - 1 - back
        base = tl.cast(segment * K, tl.int64)
        v = tl.zeros((ROWS, 8), tl.float32)
        if v0 is not None:
            v = tl.load(v0 + begin + place, mask=here & (segment == 0), other=0.0)
        if marks is not None:
            at = marks + tl.cast(segment - 1, tl.int64) * size + begin
            v += tl.load(at + place, mask=here & (segment > 0), other=0.0)
        given = ()
        sent = ()
        for j in tl.static_range(K):
            live = base + j < T
            at = x + (base + j) * size + begin
            given = given + (tl.load(at + place, mask=here & live, other=0.0),)
            if grad_s is None:
                sent = sent + (tl.zeros((ROWS, 8), tl.float32),)
            else:
                at = grad_s + (base + j) * size + begin
                sent = sent + (tl.load(at + place, mask=here & live, other=0.0),)
        before = ()  # membranes before the charge
        us = ()
        for j in tl.static_range(K):
            u = v * decay + given[j].to(tl.float32)
            k, fired = _level(u, first, spacing, inverse, count, A, EXACT)
            before = before + (v,)
            us = us + (u,)
            v = _reset(u, k, fired, charge, A, SOFT)
        for i in tl.static_range(K):
            live = base + (K - 1 - i) < T
            u = us[K - 1 - i]
            grad = sent[K - 1 - i].to(tl.float32)
            g = grad * value
            k, fired = _level(u, first, spacing, inverse, count, A, EXACT)
            if amplitude_sums is not None:
                emitted = u * k if A == _REAL else k
                of_amplitude += tl.where(live, grad * emitted, 0.0)
            if A == _REAL:
                rest = g - carried
                du = carried + tl.where(fired, rest, 0.0)
                if not DETACH:
                    du += rest * u * _surrogate(u, first, spacing, inverse, count, p0, p1, p2, A, BUMP, EXACT)
            else:
                if not DETACH:
                    if SOFT:
                        g -= carried * charge
                    else:
                        lost = carried * u
                        if A == _TERNARY:
                            lost = tl.where(fired, tl.where(u < 0.0, -lost, lost), 0.0)
                        if A == _GRADED:
                            lost = tl.where(k <= 1.0, lost, 0.0)
                        g -= lost
                h = _surrogate(u, first, spacing, inverse, count, p0, p1, p2, A, BUMP, EXACT)
                du = g * h + (carried if SOFT else tl.where(fired, 0.0, carried))
            at = grad_x + (base + (K - 1 - i)) * size + begin
            tl.store(at + place, du.to(grad_x.dtype.element_ty), mask=here & live)
            if decay_sums is not None:
                of_decay += tl.where(live, du * before[K - 1 - i], 0.0)
            carried = tl.where(live, du * decay, carried)
    if grad_v0 is not None:
        tl.store(grad_v0 + begin + place, carried, mask=here)
    if decay_sums is not None:
        tl.store(decay_sums + tl.program_id(0), tl.sum(tl.where(here, of_decay, 0.0)))
    if amplitude_sums is not None:
        if PER_CHANNEL:
            tl.store(amplitude_sums + begin + place, of_amplitude, mask=here)
        else:
            tl.store(amplitude_sums + tl.program_id(0), tl.sum(tl.where(here, of_amplitude, 0.0)))
