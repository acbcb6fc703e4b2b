"""Charge and reset of a leaky integrate-and-fire membrane; firing is in `surrogate`."""

from __future__ import annotations

from torch import Tensor

from bitspike.checks import floating


def charge(v: Tensor, x: Tensor, decay: Tensor | float, floor: Tensor | float | None = None) -> Tensor:
    """Membrane before firing: ``u = decay·v + x``, multiply then add; with a floor ``u = max(decay·v + x, floor)``.

    Below the floor the gradient is 0, at it and above 1, as that of a clamp.

    Source: Ternary Spike (AAAI 2024), eq. 7: decay is a factor per step, not a time constant. The floor: Sinabs
    (``min_v_mem``), code. Differs: it acts before firing, not behind the reset; the same unless spikes round.

    Args:
        v: membrane after the last reset, the shape of x.
        x: input current, any shape.
        decay: factor per step in [0, 1]; 1 is an integrate-and-fire neuron.
        floor: least membrane, or None; a tensor broadcasts over x.

    Raises:
        TypeError: x or v is not floating.

    >>> import torch; float(charge(torch.tensor(0.8), torch.tensor(0.1), 0.25))
    0.30000001192092896
    >>> float(charge(torch.tensor(-0.75), torch.tensor(-0.5), 1.0, floor=-1.0))
    -1.0
    """
    if not (v.is_floating_point() and x.is_floating_point()):
        floating("charge", x)
        floating("charge (the membrane)", v)
    u = v + x if isinstance(decay, float) and decay == 1.0 else v * decay + x
    return u if floor is None else u.clamp(min=floor)


def reset_hard(u: Tensor, fired: Tensor) -> Tensor:
    """Hard reset to zero: ``v = u·(1 − fired)``, fired in {0, 1}.

    Source: Ternary Spike (AAAI 2024), eq. 7, with fired = |b|; not detached unless the caller detaches ``fired``.

    Args:
        u: membrane before the reset, any shape. fired: of that shape.
    """
    return u * (1 - fired)


def reset_soft(u: Tensor, sent: Tensor) -> Tensor:
    """Soft reset: ``v = u − sent``, the emitted charge (levels times the membrane value of one level).

    Source: multi-bit mechanism (arXiv 2407.05739; reconstruction [?]); with one level, the usual reset by subtraction.

    Args:
        u: membrane before the reset, any shape. sent: of that shape.
    """
    return u - sent
