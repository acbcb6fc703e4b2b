"""Batch norm in training mode and the scan behind it as one operation; here its definition in plain PyTorch."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from bitspike.functional import held, still
from bitspike.functional.norm import batch_norm, batch_norm_of_copies
from bitspike.ops.dispatch import REFERENCE, register


class NormParts(NamedTuple):
    """What batch norm reads and, of the running statistics, writes; all tensors [C].

    Args:
        weight, bias: of the affine map. running_mean, running_var: updated in place (unbiased variance).
        momentum: of the update. eps: added to the variance.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    momentum: float
    eps: float


def norm_scan_reference(neuron: Any, y_seq: Tensor, norm: NormParts, shortcut: Tensor | None, spec: object) -> Tensor:
    """Spikes of the normalised input, statistics over time, batch and space; the arguments of every kernel.

        x = weight·(y - mean)/sqrt(variance + eps) + bias [+ shortcut];  s = neuron(x) from a fresh state

    Another kernel may round x in another order, so where a membrane lies on a threshold spikes may differ.

    Args:
        neuron: a `bitspike.neurons.Neuron`.
        y_seq: [T, B, C, ...]. norm: see `NormParts`. shortcut: shaped like y_seq, or None.
        spec: what ``neuron.fused()`` returned; the reference needs none.

    Returns:
        Spikes [T, B, C, ...].
    """
    parts, rest = (norm.running_mean, norm.running_var, norm.weight, norm.bias), (norm.momentum, norm.eps)
    if still(y_seq) and y_seq[0].numel() > y_seq.shape[2]:
        x = held(batch_norm_of_copies(y_seq[0], *parts, *rest, len(y_seq)).unsqueeze(0), len(y_seq))
    else:
        x = batch_norm(y_seq.flatten(0, 1), *parts, True, *rest).unflatten(0, y_seq.shape[:2])
    return neuron(x if shortcut is None else x + shortcut)  # type: ignore[no-any-return]


register("norm_scan", REFERENCE, norm_scan_reference)
