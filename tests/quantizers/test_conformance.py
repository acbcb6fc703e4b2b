"""Every registered quantizer passes the public conformance suite; see test_mutants.py for broken ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bitspike.formats import WeightFormat
from bitspike.quantizers import QUANTIZERS, Fixed, Float, Sign, TernaryWeight, Uniform
from bitspike.testing import check_quantizer
from bitspike.testing.quantizer_trial import enclosing, tie_points
from quantizers.cases import OWN, Case, build, cases, label, options_of


@pytest.mark.parametrize("case", cases(), ids=label)
def test_every_option(case: Case) -> None:
    check_quantizer(build(*case), compiled=False)


@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_compiled_and_exported(name: str) -> None:
    check_quantizer(build(name, {}))


def test_the_table_names_registered_quantizers_only() -> None:
    assert set(OWN) <= set(QUANTIZERS)


class Unlisted(Uniform):
    """A quantizer that stands in no list and takes fewer bits than others."""

    def __init__(self, bits: int = 4, scale: str = "layer") -> None:
        if bits not in (2, 3):
            raise ValueError("two or three")
        super().__init__(bits, scale)


def test_options_are_read_from_the_constructor() -> None:
    assert options_of(Unlisted) == [{"scale": s, "bits": b} for s in ("layer", "output") for b in (2, 3)]
    assert options_of(Float) == [] and {"clip": 0.25} in options_of(Sign)
    assert [options.get("bits") for options in options_of(Uniform)].count(8) == 2


@pytest.mark.parametrize("record", [WeightFormat(-3, 3), WeightFormat(-3, 3, stride=2), WeightFormat(-1, 1, stride=2)])
def test_tie_points_lie_between_the_levels(record: WeightFormat) -> None:
    """Halfway between neighbours, where a level is one of two, and beyond both ends, where it is the end."""
    points = tie_points(record)
    below, above = enclosing(record, points)
    inside = (points > record.low) & (points < record.high)
    assert int(inside.sum()) == record.levels - 1 and len(points) == record.levels + 3
    assert torch.equal((points - below)[inside], (above - points)[inside])
    assert set((above - below)[inside].tolist()) == {float(record.stride)}
    assert torch.equal(below[~inside], above[~inside])


def test_the_prototype_is_left_alone() -> None:
    prototype = Uniform(3)
    check_quantizer(prototype, compiled=False)
    assert prototype.step is None


@pytest.mark.parametrize("record", [WeightFormat(-1, 1, stride=2), WeightFormat(-1, 1), WeightFormat(-7, 7)])
def test_fixed_weights_are_their_own_levels(record: WeightFormat) -> None:
    k = torch.arange(record.low, record.high + 1, record.stride, dtype=torch.float32).reshape(1, -1)
    fixed = Fixed(record).replicate(k)
    levels, scale = fixed.to_int(k)
    assert torch.equal(fixed(k), k) and torch.equal(levels, k) and scale.tolist() == [[1.0]]


@pytest.mark.parametrize("shape", [(6, 4), (4, 3, 3, 3)])
@pytest.mark.parametrize(("sharing", "axes"), [("layer", ()), ("output", (0,)), ("input", (1,))])
def test_factors_start_at_the_mean_magnitude_they_cover(shape: tuple[int, ...], sharing: str, axes: Any) -> None:
    w = torch.randn(shape) * torch.logspace(-1, 0, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    others = [a for a in range(len(shape)) if a not in axes]
    torch.testing.assert_close(Sign(sharing).replicate(w).to_int(w)[1], w.abs().mean(others, keepdim=True))
    kept = (w.abs() > 0.7 * w.abs().mean()).float()
    mean = (w.abs() * kept).sum(others, keepdim=True) / kept.sum(others, keepdim=True)
    found = TernaryWeight(sharing).replicate(w).to_int(w)[1]
    present = kept.sum(others, keepdim=True) > 0  # a channel without a kept weight has no mean
    torch.testing.assert_close(found[present], mean[present])
    if sharing != "input":
        start = 2 * w.abs().mean(others, keepdim=True) / 7**0.5
        torch.testing.assert_close(Uniform(4, sharing).replicate(w).to_int(w)[1], start)
