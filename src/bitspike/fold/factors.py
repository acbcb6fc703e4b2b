"""Stage 2 of folding: spike amplitudes, weight factors and step sizes move into weights, affine maps or gains.

Every node gets a factor f with ``true value = f · folded value`` (one number, or one per channel). Linear layers over
time pass it on; real weights absorb it; integer weights hand a common factor to the affine map behind them; whatever
meets a consumer that cannot take it becomes an explicit `Gain` on that edge.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from bitspike.checks import bad_value
from bitspike.fold.norms import affine_behind
from bitspike.graph.moves import adds, axis_of, joined, kind_of, summands, taken, whole_in
from bitspike.graph.spikes import Spikes, carried, follow, ratios, side_by_side
from bitspike.graph.surgery import Surgery
from bitspike.layers import (
    Affine,
    AvgPool2d,
    Encoder,
    Gain,
    GlobalAvgPool,
    MeanReadout,
    PairProduct,
    Potential,
    Squeeze,
    Synapse,
    TimeLayer,
    Windows,
)
from bitspike.neurons import Neuron
from bitspike.quantizers import Fixed, Float
from bitspike.upgrade.norms import measures

_ONE = torch.tensor(1.0, dtype=torch.float64)


@dataclass
class Moved:
    """What stage 2 did.

    Attributes:
        gains: name of an explicit gain → number of its factors (1, or one per channel).
        affines: affine maps added behind integer weights that no norm followed.
        absorbed: real-spike neurons whose threshold took a per-channel factor.
        factors: node name → factor in float64, for comparing both networks.
        spikes: node name → what the node carries in the folded network.
    """

    gains: dict[str, int] = field(default_factory=dict)
    affines: list[str] = field(default_factory=list)
    absorbed: list[str] = field(default_factory=list)
    factors: dict[str, Tensor] = field(default_factory=dict)
    spikes: dict[str, Spikes | None] = field(default_factory=dict)

    def follow(self, surgery: Surgery, item: fx.Node, shapes: dict[str, tuple[int, ...]]) -> None:
        """Note what a node carries, and the gains that were put in front of it."""
        for node in (*item.all_input_nodes, item):
            if node is item or node.name not in self.spikes:
                before = [n.name for n in node.all_input_nodes]
                if node is not item:
                    shapes[node.name] = shapes[before[0]]
                steps = {name: shapes[name][0] for name in before if name in shapes}
                self.spikes[node.name] = follow(node, surgery.get(node), self.spikes, shapes, steps)


def move_factors(surgery: Surgery, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> Moved:
    """Fold all factors of a norm-folded network.

    Args:
        surgery: the network, after `fold_norms`. shapes: node name → shape [T, B, ...] of its output.
        dtype: of the folded weights.
    """
    moved = Moved()
    of_own_steps = _of_own_steps(surgery)
    for item in surgery:
        before = list(item.all_input_nodes)
        factors = [moved.factors[n.name] for n in before]
        module = surgery.get(item)
        out = _ONE
        if isinstance(module, Neuron):
            _settle(surgery, item, before, factors, moved, dtype)
            out = module.emission.scale()
            surgery.put(item, module.normalised())
            if module.emission.channel_dim == -1 and out.dim() and len(shapes[item.name]) > 3:
                out = _settle_behind(surgery, item, out, _ONE, shapes, moved, dtype, -1)
            elif out.dim() == 2:
                rows = shapes[item.name][0] if item.name in of_own_steps else len(out)
                out = _settle_steps(surgery, item, out[:rows], shapes, moved, dtype)
            if module.format.real and module.emission.channel_dim != -1:
                out = out * _absorb_in_neuron(surgery, item, out, moved, dtype)
        elif isinstance(module, Synapse):
            added = _fold_synapse(surgery, item, module, before[0], factors[0], moved, dtype)
            if added is not None:
                moved.factors[added.name] = _ONE
                shapes[added.name] = shapes[item.name]
        elif isinstance(module, Affine):
            module.scale = (module.scale.double() * factors[0]).to(dtype)
        elif isinstance(module, Gain) and module.channel_dim == -1:
            _settle(surgery, item, before, factors, moved, dtype)
        elif isinstance(module, Gain):
            module.factor = (module.factor.double() * factors[0]).to(dtype)
            if _trivial(module.factor.double(), dtype):
                surgery.put(item, nn.Identity())  # its input keeps a factor of its own, for other consumers
            elif not _trivial(factors[0]):
                moved.gains[item.name] = module.factor.numel()
        elif isinstance(module, Encoder):
            pass
        elif isinstance(module, MeanReadout):
            _settle(surgery, item, before, factors, moved, dtype)  # behind it there is no time axis for a gain
        elif isinstance(module, Potential):
            _settle(surgery, item, before[:1], factors[:1], moved, dtype)
            module.level /= float(factors[1])
        elif isinstance(module, PairProduct):
            a, b = (moved.factors[str(n)] for n in item.args)
            out = a * b
            out = out.reshape(()) if out.shape == (1,) else out  # a gate of places has one channel
        elif isinstance(module, Squeeze):
            out = _sum_instead(module, shapes[before[0].name][0], factors[0])
        elif isinstance(module, Windows):
            module.summed, module.summed_parts = True, module.divisor(shapes[before[0].name][0])
            out = factors[0] / module.summed_parts
        elif isinstance(module, (AvgPool2d, GlobalAvgPool)):
            out = _add_up(module, shapes[before[0].name], factors[0], moved.spikes.get(before[0].name))
        elif isinstance(module, TimeLayer) and module.scaling not in ("none", "add"):
            if module.scaling == "positive" and (factors[0] <= 0).any():
                must = "a factor that passes max pooling must be positive"
                raise bad_value(f"fold {item.name}", must, factors[0].tolist(), "train it with raw_amplitude=False")
            factor = factors[0]
            if factor.dim() and module.mixes(shapes[before[0].name]):
                _settle(surgery, item, before[:1], factors[:1], moved, dtype)
                factor = _ONE
            out = carried(module, factor, shapes[before[0].name])
        elif isinstance(module, (nn.Identity, nn.Dropout)):
            out = factors[0]
        elif _is_sum(item, module):
            out = _fold_sum(surgery, item, before, factors, moved, dtype)
        elif _joins(item, before, shapes):
            out = side_by_side([moved.factors[n.name] for n in joined(item)], [shapes[n.name][2] for n in joined(item)])
        elif _joins(item, before, shapes, places=True) and _alike(factors):
            out = factors[0]
        elif kind_of(item) == "split" and before:
            out = factors[0]  # that of the whole, until a piece is taken
        elif kind_of(item) == "select" and before:
            out = _take(surgery, item, factors[0], shapes, moved, dtype)
        elif not (len(factors) == 1 and _into_eps(module, factors[0])):
            _settle(surgery, item, before, factors, moved, dtype)
        moved.factors[item.name] = out
        moved.follow(surgery, item, shapes)
    return moved


def _is_sum(item: fx.Node, module: nn.Module | None) -> bool:
    joins = isinstance(module, TimeLayer) and module.scaling == "add"
    return (adds(item) or joins) and bool(summands(item))


def _fold_sum(
    surgery: Surgery, item: fx.Node, before: list[fx.Node], factors: list[Tensor], moved: Moved, dtype: torch.dtype
) -> Tensor:
    """A factor that all summands share comes out; so does the least one where all are spikes and the others whole
    multiples of it, which become gains. Else every factor becomes a gain."""
    if _alike(factors):
        return factors[0]
    carried_in = [moved.spikes.get(n.name) for n in before]
    plain = all(s is not None and s.whole and s.format is not None and not s.format.real for s in carried_in)
    multiples = ratios(factors) if plain else None
    if multiples is None:
        _settle(surgery, item, before, factors, moved, dtype)
        return _ONE
    _settle(surgery, item, before, [torch.tensor(float(m), dtype=torch.float64) for m in multiples], moved, dtype)
    return factors[multiples.index(1)]


def _joins(item: fx.Node, before: list[fx.Node], shapes: dict[str, tuple[int, ...]], places: bool = False) -> bool:
    """Whether a node puts channels (or else places, all channels of them) side by side."""
    known = kind_of(item) == "concat" and bool(joined(item)) and all(n.name in shapes for n in before)
    axis = axis_of(item, len(shapes[before[0].name])) if known else 0
    return axis > 2 if places else axis == 2


def _take(
    surgery: Surgery,
    item: fx.Node,
    factor: Tensor,
    shapes: dict[str, tuple[int, ...]],
    moved: Moved,
    dtype: torch.dtype,
) -> Tensor:
    """The factor of the channels that a slice, or a piece of a split, takes; what cannot be read off gets a gain."""
    source = whole_in(item)
    index = taken(item, shapes[source.name]) if source.name in shapes else None
    if not factor.dim() and source.name in shapes:
        return factor
    if index is not None:
        return factor[index]
    split = item.all_input_nodes[0]
    _settle(surgery, split if split is not source else item, [source], [factor], moved, dtype)
    moved.factors[split.name] = _ONE if split is not source else factor
    return _ONE


def _add_up(pool: AvgPool2d | GlobalAvgPool, shape: tuple[int, ...], factor: Tensor, spikes: Spikes | None) -> Tensor:
    """Let a pool of integer spikes add up without dividing, where the sums are a format; the factor on its output."""
    if spikes is None or spikes.format is None or spikes.format.real or pool.divisor:
        return factor
    divisor = pool.window(shape)
    if divisor == 1 or spikes.format.summed(divisor) is None:
        return factor
    pool.divisor = divisor
    return factor / divisor


def _sum_instead(squeeze: Squeeze, steps: int, factor: Tensor) -> Tensor:
    """Let a squeeze of so many steps add up without dividing; the factor on its output."""
    if squeeze.passes(steps) or steps == 1:
        return factor
    squeeze.summed, squeeze.summed_steps = True, steps
    return factor / steps


def _into_eps(norm: nn.Module | None, factor: Tensor) -> bool:
    """Let a norm that measures its input take a factor f > 0 of all of it: eps becomes eps/f², nothing else changes."""
    eps = getattr(getattr(norm, "body", None), "eps", None)
    if not measures(norm) or factor.dim() or factor <= 0 or eps is None:
        return False
    norm.body.eps = eps / float(factor) ** 2  # type: ignore[union-attr]
    return True


def _alike(factors: list[Tensor]) -> bool:
    return all(f.shape == factors[0].shape and torch.equal(f, factors[0]) for f in factors)


def _trivial(factor: Tensor, dtype: torch.dtype = torch.float64) -> bool:
    """Whether a float64 factor is 1 within the rounding, in ``dtype``, of a product with its reciprocal."""
    return bool(((factor - 1).abs() <= 4 * torch.finfo(dtype).eps).all())


def _settle(
    surgery: Surgery, item: fx.Node, before: list[fx.Node], factors: list[Tensor], moved: Moved, dtype: torch.dtype
) -> None:
    """Put a gain on every incoming edge whose factor is not 1."""
    for source, factor in zip(before, factors, strict=True):
        if not _trivial(factor):
            _gain(surgery, source, item, factor, moved, dtype)


def _gain(surgery: Surgery, source: fx.Node, item: fx.Node, factor: Tensor, moved: Moved, dtype: torch.dtype) -> None:
    name = surgery.free(f"{item.name}_gain_{source.name}")
    surgery.insert(source, item, name, Gain(factor.to(dtype)))
    moved.gains[name] = factor.numel()


def _settle_steps(
    surgery: Surgery,
    item: fx.Node,
    factors: Tensor,
    shapes: dict[str, tuple[int, ...]],
    moved: Moved,
    dtype: torch.dtype,
) -> Tensor:
    """The factor of a neuron whose factors [steps, 1 or C] differ by time step; what differs becomes a gain behind it.

    The gain holds ratios to the least at the steps of the sample, so that powers of two are shifts to the left there.
    """
    least = factors[: shapes[item.name][0]].amin(0)
    common = least[0] if len(least) == 1 else least
    ratios = factors / least
    return _settle_behind(surgery, item, ratios, common, shapes, moved, dtype)


def _settle_behind(
    surgery: Surgery,
    item: fx.Node,
    factors: Tensor,
    common: Tensor,
    shapes: dict[str, tuple[int, ...]],
    moved: Moved,
    dtype: torch.dtype,
    channel_dim: int = 1,
) -> Tensor:
    """Put a gain right behind a neuron; returns the factor that both keep."""
    if _trivial(factors):
        return common
    name = surgery.free(f"{item.name}_gain_by_{'feature' if channel_dim == -1 else 'step'}")
    surgery.module.add_module(name, Gain(factors.to(dtype), channel_dim))
    with surgery.module.graph.inserting_after(item):
        added = surgery.module.graph.call_module(name, (item,))
    item.replace_all_uses_with(added, delete_user_cb=lambda user: user is not added)
    moved.gains[name] = factors.numel()
    moved.factors[added.name], shapes[added.name] = common, shapes[item.name]
    return common


def _of_own_steps(surgery: Surgery) -> set[str]:
    """Names of the nodes that have as many steps for inputs of any length."""
    found: set[str] = set()
    for item in surgery:
        module, before = surgery.get(item), {node.name for node in item.all_input_nodes}
        behind = bool(before) and before <= found and not isinstance(module, Encoder)
        if behind or isinstance(module, (Squeeze, Windows)):
            found.add(item.name)
    return found


def _fold_synapse(
    surgery: Surgery, item: fx.Node, synapse: Synapse, source: fx.Node, factor: Tensor, moved: Moved, dtype: torch.dtype
) -> fx.Node | None:
    """Fold one synapse; returns the affine map added behind it, if one was needed."""
    weight = synapse.weight.detach()
    if synapse.quantizer.format.real:
        synapse.weight = _like(synapse.weight, weight.double() * synapse.columns(factor), dtype)
        synapse.quantizer = Float()
        return None
    levels, scale = synapse.quantizer.to_int(weight)
    scale = scale.double()
    incoming = factor
    if scale.shape[1] > 1 and synapse.groups > 1:
        must = "a grouped convolution must have one weight factor per layer or output channel"
        raise bad_value(f"fold {item.name}", must, "one per input channel", "quantize it with another scale")
    if scale.shape[1] > 1:
        incoming = factor * scale.reshape(-1)
        scale = torch.ones_like(scale[:1, :1])
    if incoming.dim() and not _trivial(incoming / incoming[0]):
        _gain(surgery, source, item, incoming, moved, dtype)
        incoming = _ONE
    elif incoming.dim():
        incoming = _ONE if _trivial(incoming) else incoming[0]
    outgoing = scale.reshape(-1) * incoming
    record = synapse.quantizer.format
    synapse.weight = _like(synapse.weight, levels, dtype)
    synapse.quantizer = Fixed(record)
    affine = affine_behind(surgery, item)
    if affine is not None:
        if synapse.bias is not None:
            affine.shift = (affine.shift.double() + affine.scale.double() * synapse.bias.detach().double()).to(dtype)
            synapse.bias = None
        affine.scale = (affine.scale.double() * outgoing).to(dtype)
        return None
    if _trivial(outgoing):
        return None
    bias = weight.new_zeros(len(weight)) if synapse.bias is None else synapse.bias.detach()
    synapse.bias = None
    name = surgery.free(f"{item.name}_affine")
    surgery.module.add_module(name, Affine(outgoing.expand(len(weight)).to(dtype), bias.to(dtype)))
    with surgery.module.graph.inserting_after(item):
        added = surgery.module.graph.call_module(name, (item,))
    item.replace_all_uses_with(added, delete_user_cb=lambda user: user is not added)
    moved.affines.append(name)
    return added


def _like(old: nn.Parameter, value: Tensor, dtype: torch.dtype) -> nn.Parameter:
    """The value as a parameter, frozen where the old one was."""
    return nn.Parameter(value.to(dtype), old.requires_grad)


def _absorb_in_neuron(surgery: Surgery, item: fx.Node, amplitude: Tensor, moved: Moved, dtype: torch.dtype) -> Tensor:
    """Move the per-input-channel factor of a real-spike neuron's only consumer into its threshold and current.

    The neuron is positively homogeneous (derived): fed c·I with threshold c·θ it emits c·O at the
    same times. Only where the one consumer is an integer synapse with per-input-channel factors and the current comes
    from one affine map or real synapse. Returns 1/c: what the consumer must no longer apply is already in the spike.
    """
    users = list(item.users)
    consumer = surgery.get(users[0]) if len(users) == 1 else None
    source = item.all_input_nodes[0]
    feeder = surgery.get(source)
    if not isinstance(consumer, Synapse) or consumer.quantizer.format.real or len(source.users) != 1:
        return _ONE
    if not hasattr(surgery.get(item), "rescaled"):
        return _ONE
    _, scale = consumer.quantizer.to_int(consumer.weight.detach())
    if scale.shape[1] == 1 or consumer.groups > 1:
        return _ONE
    wanted = scale.double().reshape(-1) * amplitude
    if (wanted <= 0).any():
        return _ONE
    if isinstance(feeder, Affine):
        feeder.scale = (feeder.scale.double() * wanted).to(dtype)
        feeder.shift = (feeder.shift.double() * wanted).to(dtype)
    elif isinstance(feeder, Synapse) and feeder.quantizer.format.real:
        rows = wanted.reshape(-1, *[1] * (feeder.weight.dim() - 1))
        feeder.weight = _like(feeder.weight, feeder.weight.detach().double() * rows, dtype)
        if feeder.bias is not None:
            feeder.bias = _like(feeder.bias, feeder.bias.detach().double() * wanted, dtype)
    else:
        return _ONE
    neuron = surgery.get(item)
    surgery.put(item, neuron.rescaled(wanted.to(dtype)))  # type: ignore[union-attr,operator]
    moved.absorbed.append(item.name)
    return 1 / wanted
