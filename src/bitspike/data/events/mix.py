"""EventMix: two recordings in one, with a label between theirs."""

from __future__ import annotations

import torch

from bitspike.checks import bad_value, in_range


def event_mix(
    x: torch.Tensor, partner: torch.Tensor, centre: torch.Tensor, share: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take from each recording the cells nearest to a point in time and space, and the others from its partner.

    The distance of the cell (t, y, x) from the centre is Σ ((cell + ½) / length - centre)² over the three axes; the
    ⌊share · T·H·W + ½⌋ nearest cells stay (of equally far ones the first), as the level set of one Gaussian would have
    it. The weight of a recording's own label is its part of the events that are left, ½ where none is left.

    Source: Shen et al., "EventMix: An Efficient Augmentation Strategy for Event-Based Data", 2022, arXiv:2205.12054.
    Differs: one Gaussian instead of a mixture of several.

    Args:
        x: counts ``[B, T, C, H, W]``, >= 0. partner: int64 ``[B]``, the other recording in the batch.
        centre: ``[B, 3]`` of floats in [0, 1]: time, row, column. share: ``[B]`` of floats in [0, 1].

    Returns:
        (mixed as x, weight of the own label float32 ``[B]``): the label is weight · own + (1 - weight) · partner's.

    Raises:
        ValueError: other shapes, numbers outside their ranges, or negative counts, which make no share.

    >>> x = torch.tensor([[1, 1], [3, 3]]).reshape(2, 2, 1, 1, 1)
    >>> here = torch.zeros(2, 3)
    >>> mixed, weight = event_mix(x, torch.tensor([1, 0]), here, torch.tensor([0.5, 1.0]))
    >>> mixed.flatten(1).tolist(), weight.tolist()
    ([[1, 3], [3, 3]], [0.25, 1.0])
    """
    where = "event_mix"
    batch = len(x)
    if x.dim() != 5 or [*map(len, (partner, centre, share))] != [batch] * 3 or centre.shape[1:] != (3,) or not batch:
        got = ", ".join(str(list(one.shape)) for one in (x, partner, centre, share))
        raise bad_value(where, "shapes must be [B, T, C, H, W], [B], [B, 3] and [B], B >= 1", got, "correct them")
    for name, values, top in (("partner", partner, batch - 1), ("centre", centre, 1), ("share", share, 1)):
        for end in values.aminmax():
            in_range(where, name, float(end), 0, top)
    if float(x.min()) < 0:
        raise bad_value(where, "counts must be >= 0", float(x.min()), "mix before channels are subtracted")
    lengths = (x.shape[1], x.shape[3], x.shape[4])
    distance = torch.zeros((), dtype=torch.float64, device=x.device)
    for axis, length in enumerate(lengths):
        shape = [-1 if k == axis + 1 else 1 for k in range(4)]
        along = (torch.arange(length, device=x.device).double() + 0.5) / length
        distance = distance + (along.reshape(shape) - centre[:, axis].double().reshape(-1, 1, 1, 1)) ** 2
    flat = distance.flatten(1)
    rank = flat.argsort(dim=1, stable=True).argsort(dim=1)
    kept = (share.double() * flat.shape[1] + 0.5).floor()
    own = (rank < kept[:, None]).reshape(batch, lengths[0], 1, *lengths[1:])
    mixed = torch.where(own, x, x[partner])
    mine, all_events = (part.flatten(1).double().sum(1) for part in (x * own, mixed))
    weight = torch.where(all_events > 0, mine / all_events.clamp(min=1e-300), torch.full_like(mine, 0.5))
    return mixed, weight.float()
