"""Stage 1 of folding: batch norm into real weights, or into a per-channel affine map behind integer weights.

So do norms of torch with running statistics that run as they are. Norms that measure what they get stay.
"""

from __future__ import annotations

import torch
from torch import fx, nn

from bitspike.graph.surgery import Surgery
from bitspike.layers import Affine, BatchNorm, Synapse
from bitspike.quantizers import Float
from bitspike.upgrade.norms import constants


def fold_norms(surgery: Surgery) -> list[str]:
    """Fold every batch norm; returns the names of the affine maps that stay.

    ``W' = s·W``, ``b' = s·b + t`` for real weights; ``Affine(s, t + s·b)`` behind quantized ones (a batch norm cannot
    be folded into ±1 weights).
    """
    kept = []
    for item in surgery:
        norm = surgery.get(item)
        if isinstance(norm, BatchNorm):
            (scale, shift), own, dtype = norm.affine(), [norm.weight, norm.bias], norm.weight.dtype
        elif (found := constants(norm)) is not None:
            scale, shift, own, dtype = found
        else:
            continue
        before = item.all_input_nodes[0]
        synapse = surgery.get(before)
        alone = isinstance(synapse, Synapse) and len(before.users) == 1
        if alone and isinstance(synapse, Synapse):
            if synapse.bias is not None:
                shift = shift + scale * synapse.bias.detach().double()
            if synapse.quantizer.format.real:
                _absorb(synapse, own, scale, shift)
                surgery.remove(item)
                continue
            synapse.bias = None
        surgery.put(item, Affine(scale.to(dtype), shift.to(dtype)))
        kept.append(item.name)
    return kept


def _absorb(synapse: Synapse, own: list[nn.Parameter], scale: torch.Tensor, shift: torch.Tensor) -> None:
    """Scale and shift of a norm, with parameters of its own (factors first), into the synapse before it."""
    weight = synapse.weight.detach()
    rows = scale.reshape(-1, *[1] * (weight.dim() - 1))
    trained = [p.requires_grad for p in (*own, synapse.bias) if p is not None]
    factors = synapse.weight.requires_grad or any(trained[:1])
    synapse.weight = nn.Parameter((weight.double() * rows).to(weight.dtype), factors)
    synapse.bias = nn.Parameter(shift.to(weight.dtype), any(trained))  # frozen stays frozen
    synapse.quantizer = Float()


def affine_behind(surgery: Surgery, item: fx.Node) -> Affine | None:
    """The affine map that is the only consumer of a node, if there is one."""
    users = list(item.users)
    module = surgery.get(users[0]) if len(users) == 1 else None
    return module if isinstance(module, Affine) else None
