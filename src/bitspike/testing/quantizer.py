"""The conformance suite of a weight quantizer: what every quantizer promises, whatever its alphabet is."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.formats import WeightFormat, pack, unpack
from bitspike.quantizers import Quantizer
from bitspike.sealed import amend
from bitspike.testing import expectations as tell
from bitspike.testing.compiled import expect_compiles
from bitspike.testing.quantizer_trial import (
    SHAPES,
    QuantizerTrial,
    beyond,
    enclosing,
    straight_through,
    trials,
    weights,
)

_GRADIENT_TOLERANCE = 1e-6  # of 1 + |gradient|, in float64


def check_quantizer(quantizer: Quantizer, *, skip: Mapping[str, str] | None = None, compiled: bool = True) -> None:
    """Raise unless a quantizer keeps the contract that layers, folding, packing and training rely on.

    Every check runs on copies made with ``replicate`` for weights of several shapes: random, all on a dyadic grid,
    and halfway between levels. A full-precision quantizer must be the identity. Gradients are compared with finite
    differences of the relaxed quantizer, see `bitspike.quantizers.Quantizer.ratio`.

    Args:
        quantizer: a prototype; it is left as it is.
        skip: name of a check (a function in this file) → why it cannot hold for this quantizer.
        compiled: also compile (one graph) and export; about a second. Resets torch's compiler.

    Raises:
        ConformanceError: names the broken promise and the first offending value.
        ValueError: ``skip`` names no check.

    >>> from bitspike.quantizers import Sign
    >>> check_quantizer(Sign("output"), compiled=False)
    """
    where = f"check_quantizer({type(quantizer).__name__})"
    tell.expect_parts(quantizer, {"format": WeightFormat}, where)
    checks = REAL_CHECKS if quantizer.format.real else REAL_CHECKS + INTEGER_CHECKS
    unknown = set(skip or {}) - {check.__name__ for check in checks}
    if unknown:
        raise bad_value(
            "check_quantizer", "skip must name checks of this quantizer", sorted(unknown), "correct the names"
        )
    before = tell.record(quantizer)
    for trial in trials(where, quantizer):
        if tell.record(quantizer) != before:
            must = "`replicate` must leave the prototype as it is"
            tell.fail(trial.where, must, "one that changed", "initialise a deep copy")
        for check in checks:
            if check.__name__ not in (skip or {}):
                tell.complete(check, trial)
    if compiled:
        w = weights(SHAPES[0], torch.float32)["random"]
        expect_compiles(quantizer.replicate(w), w, None, where)


def parts_are_declared(trial: QuantizerTrial) -> None:
    """The parts that every reader uses are there, of their kind; parameters can be trained; `to_int` is a pair."""
    quantizer, w = trial.quantizer, trial.w
    tell.expect_parts(quantizer, {"format": WeightFormat, "constants": tuple}, trial.where)
    tell.expect_trainable(quantizer, trial.where)
    if quantizer.format.real:
        return
    pair = quantizer.to_int(w)
    if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, Tensor) for part in pair)):
        tell.fail(trial.where, "to_int must return two tensors", tell.kinds(pair), "return (integers, scale)")
    k, scale = pair
    tell.expect_kind(k, w, trial.where, "the integers must keep shape, dtype and device", "create them like the weight")
    if (scale.dtype, scale.device) != (w.dtype, w.device):
        got = f"{scale.dtype} on {scale.device} for {w.dtype} on {w.device}"
        tell.fail(trial.where, "the scale must keep dtype and device", got, "create it like the weight")
    wanted = {"layer": (), "output": (0,), "input": (1,)}.get(quantizer.format.scale, ())
    shape = [size if axis in wanted else 1 for axis, size in enumerate(w.shape)]
    if list(scale.shape) != shape:
        must = f"the scale must have the shape {shape}, as format.scale is {quantizer.format.scale!r}"
        tell.fail(trial.where, must, list(scale.shape), "make scale and format agree")
    if quantizer.format.scale == "none":
        must = "the scale must be 1 where format.scale is 'none'"
        tell.expect_all(scale == 1, scale, trial.where, must, "say in the format who shares it")


def kind_is_kept(trial: QuantizerTrial) -> None:
    """Shape, dtype and device are kept; every replica owns its parameters and leaves the weight alone."""
    must = "the quantized weight must keep shape, dtype and device"
    tell.expect_kind(trial.quantizer(trial.w), trial.w, trial.where, must, "create tensors like the weight")
    before = trial.w.clone()
    other = trial.prototype.replicate(trial.w)
    must = "`replicate` must leave the weight as it is"
    tell.expect_same(trial.w, before, trial.where, must, "take statistics of a copy")
    held = {p.data_ptr() for p in (*trial.quantizer.parameters(), *trial.prototype.parameters())}
    if held & {p.data_ptr() for p in other.parameters()}:
        tell.fail(trial.where, "every replica must own its parameters", "shared ones", "initialise new parameters")


def nothing_is_written(trial: QuantizerTrial) -> None:
    """Weight, parameters and attributes stay as they were; state_dict holds parameters and declared constants."""
    q, w = trial.quantizer, trial.w

    def run() -> None:
        for weight in (w, w / 2):
            q(weight)
            if not q.format.real:
                q.to_int(weight)

    tell.expect_untouched(run, q, {"the weight": w}, trial.where)
    tell.expect_clean_state(q, q.constants, trial.where)


def calls_agree(trial: QuantizerTrial) -> None:
    """Two calls, both modes, copies, pickled copies and a non-contiguous weight give the same bits."""
    q, w, wanted = trial.quantizer, trial.w, trial.quantizer(trial.w).detach()
    turned = w.transpose(0, 1).contiguous().transpose(0, 1)
    calls = {"two calls": q(w), "a deep copy": copy.deepcopy(q)(w), "a non-contiguous weight": q(turned)}
    calls["a pickled copy"] = pickle.loads(pickle.dumps(q))(w)
    for mode in (True, False):
        calls[f"`train({mode})`"] = copy.deepcopy(q).train(mode)(w)
    for name, found in calls.items():
        tell.expect_same(found.detach(), wanted, trial.where, f"{name} must give equal bits", "keep the call pure")


def nothing_is_drawn(trial: QuantizerTrial) -> None:
    """Torch's generator stays where it is."""
    q, w = trial.quantizer, trial.w
    tell.expect_no_draws(lambda: (q(w), None if q.format.real else q.to_int(w)), trial.where)


def gradients_are_finite(trial: QuantizerTrial) -> None:
    """The latent weight and every parameter get a finite gradient."""
    w = trial.w.clone().requires_grad_()
    tell.expect_finite_gradients(
        trial.quantizer(w), {"the weight": w, **dict(trial.quantizer.named_parameters())}, trial.where
    )


def levels_enclose_the_ratio(trial: QuantizerTrial) -> None:
    """Every level is one of the two next to what `ratio` says is rounded, so a gradient of another size is no ratio."""
    k, scale = trial.levels()
    ratio = trial.quantizer.ratio(trial.w, scale).detach()
    tell.expect_kind(ratio, trial.w, trial.where, "the ratio must keep shape, dtype and device", "create it like w")
    below, above = enclosing(trial.quantizer.format, ratio)
    must = "every level must be one of the two that enclose its ratio"
    tell.expect_all((k >= below) & (k <= above), ratio, trial.where, must, "let `ratio` be what the levels round")


def gradients_are_those_of_the_relaxed_quantizer(trial: QuantizerTrial) -> None:
    """Weight and parameters get the differences of ``(k0 + ratio − ratio0)·scale``, inside the clip range and beyond.

    A gradient scale (an attribute ``scale_gradient``) multiplies the gradients of parameters by a gain in (0, 1].
    """
    if trial.kind != "random" or trial.w.dtype != torch.float64 or not 13 <= trial.w.numel() <= 64:
        return  # differences take a call an element; a scale of one weight lies on its bound
    own = copy.deepcopy(trial.quantizer)
    w = beyond(own, trial.w).requires_grad_()
    upstream = torch.randn(w.shape, generator=torch.Generator().manual_seed(5), dtype=w.dtype)
    named = {"the weight": w, **{name: leaf for name, leaf in own.named_parameters()}}
    scaled = tell.gradients((own(w) * upstream).sum(), list(named.values()))
    if hasattr(own, "scale_gradient"):
        amend(own, scale_gradient=False)
    plain = tell.gradients((own(w) * upstream).sum(), list(named.values()))
    wanted = straight_through(own, w.detach(), upstream)
    for (name, leaf), one, other, gained in zip(named.items(), plain, wanted, scaled, strict=True):
        if one is None or gained is None:
            tell.fail(trial.where, f"{name} must get a gradient", "none", "keep the graph connected to it")
        good = (one - other).abs() <= _GRADIENT_TOLERANCE * (1 + other.abs())
        must = f"the gradient of {name} must be the difference of the relaxed quantizer (k0 + ratio − ratio0)·scale"
        todo = "let forward and `ratio` agree; both stop at the clip"
        tell.expect_equal_where(good, one, other, trial.where, must, todo)
        tell.expect_gain(gained, one, leaf is w, name, trial.where)


def real_weights_pass(trial: QuantizerTrial) -> None:
    """Full precision is the identity, forward and backward."""
    if trial.quantizer.format.real:
        must = "full-precision weights must pass unchanged"
        tell.expect_same(trial.quantizer(trial.w), trial.w, trial.where, must, "return the weight")
        w = trial.w.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(trial.quantizer(w).sum(), [w])
        must = "the gradient of full-precision weights must pass unchanged"
        tell.expect_same(gradient, torch.ones_like(w), trial.where, must, "return the weight")


def levels_are_on_the_grid(trial: QuantizerTrial) -> None:
    """to_int gives integers of the alphabet, no gradient, at most 2^bits of them."""
    record, (k, scale) = trial.quantizer.format, trial.levels()
    if k.requires_grad or scale.requires_grad:
        tell.fail(trial.where, "to_int must carry no gradient", "one that does", "detach")
    good = torch.isin(k, torch.tensor(record.grid(), dtype=k.dtype, device=k.device))
    tell.expect_all(good, k, trial.where, f"levels must be on the grid of {record.label()}", "clip and round")
    if len(k.unique()) > record.levels or record.levels > 2**record.bits or trial.quantizer.bits != record.bits:
        tell.fail(trial.where, f"{record.bits} bits must hold every level", record.levels, "mend the format")
    tell.expect_all(scale > 0, scale, trial.where, "the scale must be positive", "parameterise it as positive")


def forward_is_scale_times_level(trial: QuantizerTrial) -> None:
    """forward equals k·scale, bit for bit."""
    k, scale = trial.levels()
    must, todo = "forward must equal k·scale of to_int bit for bit", "multiply levels by the scale once"
    tell.expect_same(trial.quantizer(trial.w).detach(), k * scale, trial.where, must, todo)


def idempotent(trial: QuantizerTrial) -> None:
    """Quantizing a quantized weight with the same parameters changes nothing."""
    once = trial.quantizer(trial.w).detach()
    must = "quantizing twice must equal quantizing once"
    tell.expect_same(trial.quantizer(once).detach(), once, trial.where, must, "round to a fixed point")


def monotone(trial: QuantizerTrial) -> None:
    """Among weights that share a scale a greater one never gets a lower level."""
    w, k = trial.w.reshape(-1), trial.levels()[0].reshape(-1)
    for group in trial.groups():
        order = group[w[group].argsort()]
        rising = k[order].diff() >= 0
        must = "levels must not fall where weights rise"
        tell.expect_all(rising, k[order][1:], trial.where, must, "round monotonely")


def odd(trial: QuantizerTrial) -> None:
    """A symmetric alphabet: q(−w) = −q(w), except at w = 0."""
    if trial.quantizer.format.low == -trial.quantizer.format.high:
        k, mirrored = trial.levels()[0], trial.quantizer.to_int(-trial.w)[0]
        good = (k == -mirrored) | (trial.w == 0)
        tell.expect_all(good, trial.w, trial.where, "q(−w) must be −q(w)", "round halves away from zero")


def levels_pack(trial: QuantizerTrial) -> None:
    """pack and unpack give the levels back, in ceil(n·bits / 8) bytes."""
    k = trial.levels()[0].to(torch.int64)
    packed = pack(k, trial.quantizer.format)
    if packed.numel() != -(-k.numel() * trial.quantizer.bits // 8):
        tell.fail(trial.where, f"packing must take {trial.quantizer.bits} bits a weight", packed.numel(), "mend bits")
    back = unpack(packed, trial.quantizer.format, tuple(k.shape))
    tell.expect_same(back, k, trial.where, "unpack(pack(k)) must be k", "mend the format")


def weights_are_telling(trial: QuantizerTrial) -> None:
    """The suite's own duty: a weight of 13 elements or more takes two levels at least."""
    if trial.w.numel() >= 13 and len(trial.levels()[0].unique()) < 2:
        tell.fail(trial.where, "at least two levels must occur", "one", "initialise the scale from the weight")


REAL_CHECKS: tuple[Callable[[QuantizerTrial], None], ...] = (
    parts_are_declared,
    kind_is_kept,
    nothing_is_written,
    calls_agree,
    nothing_is_drawn,
    gradients_are_finite,
    real_weights_pass,
)
INTEGER_CHECKS: tuple[Callable[[QuantizerTrial], None], ...] = (
    weights_are_telling,
    levels_are_on_the_grid,
    forward_is_scale_times_level,
    monotone,
    idempotent,
    odd,
    levels_pack,
    levels_enclose_the_ratio,
    gradients_are_those_of_the_relaxed_quantizer,
)
