"""Stage 1 of folding: batch norm into real weights, or into a per-channel affine map behind integer weights."""

from __future__ import annotations

import torch
from torch import fx, nn

from bitspike.graph.surgery import Surgery
from bitspike.layers import Affine, BatchNorm, Synapse
from bitspike.quantizers import Float


def fold_norms(surgery: Surgery) -> list[str]:
    """Fold every batch norm; returns the names of the affine maps that stay.

    ``W' = s·W``, ``b' = s·b + t`` for real weights; ``Affine(s, t + s·b)`` behind quantized ones (a batch norm cannot
    be folded into ±1 weights).
    """
    kept = []
    for item in surgery:
        norm = surgery.get(item)
        if not isinstance(norm, BatchNorm):
            continue
        before = item.all_input_nodes[0]
        synapse = surgery.get(before)
        scale, shift = norm.affine()
        alone = isinstance(synapse, Synapse) and len(before.users) == 1
        if alone and isinstance(synapse, Synapse):
            if synapse.bias is not None:
                shift = shift + scale * synapse.bias.detach().double()
            if synapse.quantizer.format.real:
                _absorb(synapse, norm, scale, shift)
                surgery.remove(item)
                continue
            synapse.bias = None
        surgery.put(item, _affine(scale, shift, norm.weight))
        kept.append(item.name)
    return kept


def _absorb(synapse: Synapse, norm: BatchNorm, scale: torch.Tensor, shift: torch.Tensor) -> None:
    weight = synapse.weight.detach()
    rows = scale.reshape(-1, *[1] * (weight.dim() - 1))
    trained = [p.requires_grad for p in (synapse.weight, norm.weight, norm.bias, synapse.bias) if p is not None]
    synapse.weight = nn.Parameter((weight.double() * rows).to(weight.dtype), trained[0] or trained[1])
    synapse.bias = nn.Parameter(shift.to(weight.dtype), any(trained[1:]))  # frozen stays frozen
    synapse.quantizer = Float()


def _affine(scale: torch.Tensor, shift: torch.Tensor, like: torch.Tensor) -> Affine:
    return Affine(scale.to(like.dtype), shift.to(like.dtype))


def affine_behind(surgery: Surgery, item: fx.Node) -> Affine | None:
    """The affine map that is the only consumer of a node, if there is one."""
    users = list(item.users)
    module = surgery.get(users[0]) if len(users) == 1 else None
    return module if isinstance(module, Affine) else None
