"""Stochastic depth for any network of residual blocks."""

from __future__ import annotations

from torch import nn

from bitspike.checks import bad_value
from bitspike.layers import DropPath
from bitspike.layers.drop_path import check_rate
from bitspike.models.residual_block import ResidualJoin


def stochastic_depth(model: nn.Module, rate: float) -> list[str]:
    """Let samples skip residual branches in training, more of them the deeper the block, in place.

    Branch l of L, in the order of the modules, is dropped with probability l/L·rate (see `DropPath`). Weights, states
    and evaluation stay as they are, and 0 takes it away again.

    Source: Huang et al., "Deep Networks with Stochastic Depth" (ECCV 2016), linear decay of the survival probability.
    Differs: every block of a network counts, those that change the shape too, and of transformers each of the two
    branches of a block.

    Args:
        model: whose blocks add their branches with `new_join`, as those of all residual builders do, unless
            `restimulate` has redrawn its body.
        rate: of the last branch, [0, 1).

    Returns:
        Names of the joins, in order.

    Raises:
        ValueError: a rate outside its range, or a network without residual blocks.

    >>> from bitspike.models import he_resnet20
    >>> net = he_resnet20(nn.ReLU(), T=1, width=4, shape=(3, 8, 8))
    >>> names = stochastic_depth(net, 0.2)
    >>> len(names), names[-1], round(net.get_submodule(names[-1]).drop.rate, 6)
    (9, 'body.layer3.2.join', 0.2)
    """
    where = "stochastic_depth"
    check_rate(where, rate)
    joins = [(name, module) for name, module in model.named_modules() if isinstance(module, ResidualJoin)]
    if not joins:
        must, todo = "the network must have residual blocks", "leave it out, or take a ResNet or a transformer"
        raise bad_value(where, must, type(model).__name__, todo)
    for index, (_, module) in enumerate(joins, 1):
        module.drop = DropPath(rate * index / len(joins)).train(module.training) if rate else None
    return [name for name, _ in joins]
