"""Operation counts of the papers' networks, read off the cost of the built models."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bitspike.cost import APART, Cost, bit_budget, cost
from bitspike.models import MODELS, Policy
from bitspike.neurons import MultiBit, Ternary
from bitspike.quantizers import Sign, Uniform
from builders import TINY, WIRINGS, images, tiny

CIFAR, IMAGENET = (3, 32, 32), (3, 224, 224)
TABLE: dict[str, tuple[tuple[int, int, int], dict[str, Any], str]] = {
    # weights (M), without stem; MACs (G), without stem; input activations (M) and S-ACE (G) without stem
    "he_resnet20": (CIFAR, {"shortcut": "stride"}, "0.271 0.270 0.0408 0.0404 0.209 0.646"),
    "wide_resnet20": (CIFAR, {}, "17.277 17.274 2.587 2.584 1.672 41.34"),
    "resnet19": (CIFAR, {}, "12.559 12.555 2.285 2.282 1.606 36.51"),
    "resnet18_cifar": (CIFAR, {}, "11.164 11.163 0.5554 0.5537 0.664 8.86"),
    "resnet18": (IMAGENET, {}, "11.679 11.670 1.814 1.696 2.033 27.14"),
    "resnet34": (IMAGENET, {"sew": True}, "21.780 21.770 3.664 3.546 3.287 56.73"),
}


def count_w4_s4_t1(name: str) -> Cost:
    """Neurons of 4 bits in front of every layer but the first, which has 8-bit weights and pixels."""
    shape, options, _ = TABLE[name]
    with torch.random.fork_rng(devices=[]):
        net = MODELS[name](
            MultiBit(2, 2), Uniform(4), T=1, shape=shape, wiring="input", policy=Policy(first=Uniform(8)), **options
        )
        return cost(net.eval(), torch.rand(1, *shape), input_bits=8)


@pytest.mark.parametrize("name", list(TABLE))
def test_the_reference_counts_of_adaptive_bit_allocation(name: str) -> None:
    """Digest, section 4.3: conv and linear weights, projections included, S-ACE at W4 S4 T1 without the stem."""
    counted = count_w4_s4_t1(name)
    values = [
        counted.total(q, roles) / unit for q, unit in (("weights", 1e6), ("macs", 1e9)) for roles in ((), ("first",))
    ]
    values += [sum(row.inputs for row in counted.synapses[1:]) / 1e6, counted.total("s_ace", ["first"]) / 1e9]
    for value, printed in zip(values, TABLE[name][2].split(), strict=True):
        assert f"{value:.{len(printed.partition('.')[2])}f}" == printed
    budget = bit_budget(counted, ["first"])
    assert budget == {
        "mean_weight_bits": 4.0,
        "mean_spike_bits": 4.0,
        "mean_T": 1.0,
        "bit_budget": 16.0,
        "s_ace_per_mac": 16.0,
    }
    stem = counted.synapses[0]
    assert stem.s_ace == 64 * stem.macs == counted.total("s_ace") - counted.total("s_ace", ["first"])
    assert counted.total("s_ace", APART) < counted.total("s_ace", ["first"])
    assert counted.total("ns_ace", ["first"]) == pytest.approx(
        sum(16 * row.macs * row.rate for row in counted.synapses[1:])
    )
    assert not counted.uncounted


def test_the_share_of_the_excluded_stem() -> None:
    """Digest, section 6, item 6: 0.118 G MACs and 7.5 G S-ACE at 8×8 bits, 13 % of a budget-16 SEW-ResNet-34."""
    counted = count_w4_s4_t1("resnet34")
    stem = counted.synapses[0]
    assert f"{stem.macs / 1e9:.3f}" == "0.118" and f"{stem.s_ace / 1e9:.1f}" == "7.6"  # 7.55: the digest cuts
    assert f"{stem.s_ace / counted.total('s_ace', ['first']):.2f}" == "0.13"


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("name", list(TINY))
def test_every_layer_of_the_builders_has_a_rule(name: str, wiring: str) -> None:
    counted = cost(tiny(name, MultiBit(1, 1), wiring=wiring).eval(), images(2, TINY[name]["shape"], torch.float32))
    assert not counted.uncounted and counted.total("s_ace") > 0


def test_s_ace_scales_with_the_budget() -> None:
    """ResNet-18-CIFAR at budget 4 has 2.2 G (digest 4.3); W2 S2 T1, W1 S2 T2 and W2 S1 T2 are all budget 4."""
    for weight_bits, m, steps in ((2, 2, 1), (1, 2, 2), (2, 1, 2)):
        with torch.random.fork_rng(devices=[]):
            net = MODELS["resnet18_cifar"](
                MultiBit(m, 0), Uniform(weight_bits), T=steps, wiring="input", policy=Policy(first=Uniform(8))
            )
            counted = cost(net.eval(), torch.rand(1, *CIFAR))
        assert f"{counted.total('s_ace', ['first']) / 1e9:.1f}" == "2.2"
        assert bit_budget(counted, ["first"])["bit_budget"] == 4.0


def test_resnet20_of_the_ternary_and_reverb_papers() -> None:
    """Ternary digest 5.5: 427.8 M synapses behind spikes at T = 2, of which 71.20 M SOPs are 16.6 %, 79.21 M 18.5 %.

    ReverB digest 4: convolutions that may be binary hold 11.23 M weights, 1.40 MB at 1 bit, 44.9 MB at 32.
    """
    with torch.random.fork_rng(devices=[]):
        net = MODELS["resnet20"](Ternary(), Sign("none"), T=2)
        counted = cost(net.eval(), torch.rand(1, *CIFAR))
    possible = sum(row.macs * row.T for row in counted.synapses[1:])
    assert f"{possible / 1e6:.1f}" == "427.8"
    assert [f"{sops / possible:.3f}" for sops in (71.20e6, 79.21e6)] == ["0.166", "0.185"]
    binary = [row for row in counted.synapses if row.role not in ("first", "last")]
    weights = sum(row.weights for row in binary)
    assert f"{weights / 1e6:.2f}" == "11.23" and f"{weights * 4 / 1e6:.1f}" == "44.9"
    assert f"{sum(row.size_bits for row in binary) / 8e6:.2f}" == "1.40"
    pooled = [row.input_bits for row in binary if row.input_bits != 2]
    assert len(pooled) == 4 and set(pooled) == {4}  # −4 .. 4 behind average pools: one conv, three projections
