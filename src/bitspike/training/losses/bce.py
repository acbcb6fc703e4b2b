"""Binary cross-entropy, for sets of labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.layers import mean_over_steps, step_mask
from bitspike.training.losses.base import LABEL_LOSSES


@LABEL_LOSSES.register("bce")
def bce_loss(outputs: Tensor, targets: Tensor, every_step: bool = False, lengths: Tensor | None = None) -> Tensor:
    """``−mean [y·log σ(x) + (1 − y)·log(1 − σ(x))]`` over batch and labels, of the mean output over time.

    Args:
        outputs: x, logits [B, K], or [T, B, K]. targets: y, bool [B, K].
        every_step: of [T, B, K], the loss of every step, averaged over a sample's own steps, then over the batch.
        lengths: [B], of sequences of fewer than T steps; None: all have T.

    Raises:
        ValueError: ``every_step`` of outputs without a time axis.

    >>> x, y = torch.tensor([[[2.0]], [[-2.0]]]), torch.tensor([[True]])
    >>> round(float(bce_loss(x, y)), 4), round(float(bce_loss(x, y, every_step=True)), 4)
    (0.6931, 1.1269)
    """
    wanted = targets.to(outputs.dtype)
    if not every_step:
        return F.binary_cross_entropy_with_logits(mean_over_steps(outputs, lengths), wanted)
    if outputs.dim() != 3:
        must = "outputs must be [T, B, K] where every_step is true"
        raise bad_value("bce_loss", must, list(outputs.shape), 'choose readout = "steps"')
    if lengths is not None:  # else NaN behind the end would spoil the gradient
        outputs = torch.where(step_mask(lengths, len(outputs)).unsqueeze(2), outputs, outputs.new_zeros(()))
    each = F.binary_cross_entropy_with_logits(outputs, wanted.expand_as(outputs), reduction="none").mean(2, True)
    return mean_over_steps(each, lengths).mean()
