"""All of it as one document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bitspike.cost.ann import quantized_ann
from bitspike.cost.break_even import Comparison, compare_with_ann
from bitspike.cost.budget import bit_budget
from bitspike.cost.constants import Constants, builtin_constants
from bitspike.cost.record import SCOPES, Cost


def cost_summary(
    counted: Cost, sets: Iterable[Constants] | None = None, activation_bits: int | None = None
) -> tuple[dict[str, Any], dict[str, Comparison]]:
    """What ``bitspike cost --json`` writes, and the comparisons in it by set of constants.

    Args:
        counted: from `cost`. sets: constants, default all that come with the package.
        activation_bits: of the quantized ANN, see `quantized_ann`.

    Returns:
        (plain values: keys of `Cost.as_dict`, bit_budget, ann, energy, constants; set → `Comparison`).
    """
    chosen = list(builtin_constants().values() if sets is None else sets)
    ann = quantized_ann(counted, activation_bits)
    compared = {constants.name: compare_with_ann(counted, constants, ann) for constants in chosen}
    document = {
        **counted.as_dict(),
        "bit_budget": {name: bit_budget(counted, roles) for name, roles in SCOPES.items()},
        "ann": ann.as_dict(),
        "energy": {name: comparison.as_dict() for name, comparison in compared.items()},
        "constants": {constants.name: constants.as_dict() for constants in chosen},
    }
    return document, compared
