"""One clear error for every wrong argument of a quantizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bitspike.formats import WeightFormat
from bitspike.quantizers import QUANTIZERS, Factor, Fixed, Float, Sign, TernaryWeight, Uniform

W = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("make", "where", "words"),
    [
        (lambda: Uniform(0), "Uniform", ["bits", "[1, 8]", "got 0"]),
        (lambda: Uniform(9), "Uniform", ["bits", "[1, 8]", "got 9"]),
        (lambda: Uniform(4, "input"), "Uniform", ["scale", "'input'"]),
        (lambda: Uniform(4)(W), "Uniform", ["initialised", "replicate(weight)"]),
        (lambda: Uniform(4).to_int(W), "Uniform", ["initialised"]),
        (lambda: Sign("laier"), "Factor", ["did you mean 'layer'?"]),
        (lambda: Sign(clip=0.0), "Sign", ["clip"]),
        (lambda: Sign("output")(W), "Factor", ["initialised"]),
        (lambda: TernaryWeight(share=1.0), "TernaryWeight", ["share"]),
        (lambda: TernaryWeight(share=-0.1), "TernaryWeight", ["share"]),
        (lambda: TernaryWeight(clip=float("nan")), "TernaryWeight", ["clip"]),
        (lambda: Factor("channel"), "Factor", ["'channel'"]),
        (lambda: Float().to_int(W), "Float", ["to_int", "uniform"]),
        (lambda: Fixed(WeightFormat(real=True)), "Fixed", ["integer alphabet"]),
        (lambda: QUANTIZERS["sing"], "quantizer registry", ["did you mean 'sign'?"]),
    ],
)
def test_bad_values(make: Callable[[], object], where: str, words: list[str], refuses: Any) -> None:
    with refuses(where, *words):
        make()


@pytest.mark.parametrize("bits", [4.0, "4", True, None])
def test_bits_are_an_int(bits: Any, refuses: Any) -> None:
    with refuses("Uniform", "bits must be an int", kind=TypeError):
        Uniform(bits)
