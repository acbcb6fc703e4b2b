"""Two encoders against their definitions, alone and in networks that are folded, streamed, counted and compiled."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.commands.samples import read_samples
from bitspike.cost import cost
from bitspike.data import pad
from bitspike.layers import Delta, Flatten, Linear, MeanReadout, Phase, padded
from bitspike.models import Network, mlp
from bitspike.neurons import LIF
from bitspike.quantizers import Uniform
from bitspike.testing import check_program
from bitspike.testing.program import dyadic
from bitspike.training import load_data, recipe_from_mapping


def by_definition(x: list[float], threshold: float, follow: str) -> list[int]:
    """Spikes of one place."""
    last, sent = 0.0, []
    for value in x:
        spike = 0
        if value - last >= threshold:
            spike = 1
        elif last - value >= threshold:
            spike = -1
        if spike:
            last = value if follow == "input" else last + threshold * spike
        sent.append(spike)
    return sent


@pytest.mark.parametrize("follow", ["input", "step"])
@pytest.mark.parametrize("threshold", [0.25, 1.0])
def test_delta_is_the_definition(follow: str, threshold: float) -> None:
    x = dyadic(torch.randn(3, 20, 2, 4, generator=torch.Generator().manual_seed(0)))  # ties with the threshold occur
    found = Delta(20, threshold, follow)(x)
    for b, c, k in np.ndindex(3, 2, 4):
        assert found[:, b, c, k].tolist() == by_definition(x[b, :, c, k].tolist(), threshold, follow)
    assert set(found.unique().tolist()) == {-1.0, 0.0, 1.0}


def test_what_rests_sends_nothing_and_steps_follow_the_sample() -> None:
    still = torch.full((2, 30, 3), 0.9)
    assert not Delta(30)(still).any()
    assert Delta(30, 0.5)(still).sum(0).eq(1).all()  # r begins at 0
    slow = torch.rand(2, 200, 3, generator=torch.Generator().manual_seed(1)).sub(0.5).mul(0.2).cumsum(1)
    rebuilt = 0.25 * Delta(200, 0.25, "step")(slow).cumsum(0)
    assert (rebuilt - slow.transpose(0, 1)).abs().max() < 0.25


def test_delta_says_where_numbers_are_none() -> None:
    x = torch.zeros(1, 3, 3)
    x[0, 1, 0], x[0, 2, 1] = math.nan, math.inf
    assert Delta(3)(x).isnan().nonzero().tolist() == [[1, 0, 0], [2, 0, 1]]


def test_delta_of_ragged_sequences_in_company_and_alone() -> None:
    torch.manual_seed(0)
    sequences = [3 * torch.randn(n, 5) for n in (4, 7, 1)]
    net = Network(Delta(7, ragged=True), nn.Sequential(Linear(5, 6), LIF(), Linear(6, 2)), MeanReadout())
    values, lengths = pad(sequences)
    with padded(lengths):
        together = net(values)
    torch.testing.assert_close(together, torch.cat([net(x[None]) for x in sequences]))


def test_phase_sends_the_bits_of_bytes() -> None:
    pixels = torch.arange(256)
    sent = Phase(8)((pixels / 255).float()[None])[:, 0]
    digits = torch.stack([(pixels >> (7 - t)) & 1 for t in range(8)])
    assert torch.equal(sent, digits * 2.0 ** -(1.0 + torch.arange(8))[:, None])
    assert torch.equal(sent.sum(0) * 256, pixels.float())


@pytest.mark.parametrize(("T", "bits"), [(3, 5), (5, 5), (12, 5), (4, 1)])
def test_phase_of_other_lengths(T: int, bits: int) -> None:
    x = torch.tensor([[0.0, 0.3, 0.5, 31 / 32, 1.0]])
    value = np.minimum(np.floor(x.numpy() * 2**bits), 2**bits - 1).astype(int)
    found = Phase(T, bits)(x)
    for t in range(T):
        p = t % bits
        assert found[t].tolist() == (((value >> (bits - 1 - p)) & 1) * 2.0 ** -(1 + p)).tolist()


def network(encoder: Delta | Phase) -> Network:
    torch.manual_seed(0)
    body = nn.Sequential(
        Flatten(), Linear(6, 8, weight=Uniform(4)), LIF(decay=0.5), Linear(8, 3, bias=True, weight=Uniform(4))
    )
    return Network(encoder, body, MeanReadout()).double()


CASES: dict[str, tuple[Any, Tensor]] = {
    "delta": (Delta(6, 0.5), dyadic(torch.randn(9, 6, 2, 3, generator=torch.Generator().manual_seed(2)))),
    "step": (Delta(6, 0.5, "step"), dyadic(torch.randn(9, 6, 2, 3, generator=torch.Generator().manual_seed(3)))),
    "phase": (Phase(6, bits=4), dyadic(torch.rand(9, 2, 3, generator=torch.Generator().manual_seed(4)))),
}


@pytest.mark.parametrize("name", CASES)
def test_folded_streamed_and_compiled(name: str) -> None:
    encoder, x = CASES[name]
    net = network(encoder).eval()
    whole, sent = net(x), encoder(x)
    assert 0 < int((sent != 0).sum()) < sent.numel()
    _, state = bitspike.stream(net, sent[:2])
    last, _ = bitspike.stream(net, sent[2:], state)
    torch.testing.assert_close(last, whole)
    folded = bitspike.fold(net, x)
    torch.testing.assert_close(folded(x), whole, rtol=1e-9, atol=1e-9)
    program, found = check_program(folded, x, exact=False, weight_bits=16)
    assert found.end_to_end_flips == 0
    fed = sent.numpy() if name == "phase" else sent.numpy().astype(np.int8)
    np.testing.assert_array_equal(program(fed).levels.argmax(1), folded(x).argmax(1).numpy())
    counted = cost(folded.graph, x).layers[0]
    assert (counted.adds > 0) == (name != "phase") and counted.multiplications == 0


def recipe(name: str, encoder: str, **options: Any) -> Any:
    return recipe_from_mapping(
        {
            "name": "encoders",
            "data": {"name": name},
            "model": {"name": "mlp", "T": 3, "encoder": encoder, "encoder_options": options},
            "neuron": {"name": "lif"},
            "weight": {"name": "float"},
        }
    )


def test_what_an_encoder_does_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"encoder must be .*, as 'digits/train' holds samples without a time axis"):
        load_data(recipe("digits", "delta"))
    np.savez(tmp_path / "own.npz", x=np.random.default_rng(0).random((30, 3, 4)), y=np.arange(30) % 2)
    data = {"name": f"npz:{tmp_path}/own.npz", "time": True}
    table = {"name": "t", "data": data, "neuron": {"name": "lif"}, "weight": {"name": "float"}}
    with pytest.raises(ValueError, match=r"encoder must be 'delta' or 'frames', as .* holds sequences"):
        load_data(recipe_from_mapping({**table, "model": {"name": "mlp", "T": 3, "encoder": "phase"}}))
    load_data(recipe_from_mapping({**table, "model": {"name": "mlp", "T": 3, "encoder": "delta"}}))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Delta(3, 0.0), "threshold must be"),
        (lambda: Delta(3, math.nan), "threshold must be"),
        (lambda: Delta(3, 1e300), "threshold must lie"),
        (lambda: Delta(3, follow="last"), "follow must be one of 'input', 'step'"),
        (lambda: Delta(0), "T must lie"),
        (lambda: Phase(3, bits=9), r"bits must lie in \[1, 8\]"),
        (lambda: Phase(3, bits=0), r"bits must lie in \[1, 8\]"),
        (lambda: Phase(3)(torch.tensor([[1.5]])), "intensities"),
    ],
)
def test_options_are_checked(make: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_a_command_does_not_take_samples_for_spikes(tmp_path: Path) -> None:
    """Numbers 0 and 1 of a sample would pass for what the encoder sends."""
    x = torch.randint(0, 2, (6, 6, 2, 3), generator=torch.Generator().manual_seed(5))
    folded = bitspike.fold(network(Delta(6)).eval(), x.double())
    program = bitspike.compile(folded, x.double(), info={"time": True, "encoder": "delta", "top": 1})
    np.save(tmp_path / "x.npy", x.numpy())
    with pytest.raises(
        ValueError, match="samples must be what the program is fed with, got those that its encoder 'delta'"
    ):
        read_samples(program, tmp_path / "x.npy")


def test_a_command_takes_what_phase_sends_and_no_pixels(tmp_path: Path) -> None:
    x = dyadic(torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(6)))
    encoder = Phase(6, bits=4)
    known = {"encoder": "phase", "top": 255, "mean": [0.0, 0.0], "std": [1.0, 1.0]}
    program = bitspike.compile(bitspike.fold(network(encoder).eval(), x), x, info=known)
    sent = encoder(x).numpy()
    np.save(tmp_path / "sent.npy", sent)
    np.testing.assert_array_equal(read_samples(program, tmp_path / "sent.npy")[1], sent)
    others = {
        "pixels": (255 * x).expand(6, -1, -1, -1).to(torch.uint8),
        "samples": x.expand(6, -1, -1, -1),
        "two": 2 * sent,
    }
    for name, wrong in others.items():
        np.save(tmp_path / f"{name}.npy", wrong)
        with pytest.raises(ValueError, match="must be float and hold what the encoder 'phase' sends"):
            read_samples(program, tmp_path / f"{name}.npy")


def test_builders_take_both() -> None:
    for encoder, x in (("delta", torch.randn(2, 4, 1, 3, 3)), ("phase", torch.rand(2, 1, 3, 3))):
        assert mlp(LIF(), T=4, shape=(1, 3, 3), hidden=(5,), encoder=encoder)(x).shape == (2, 10)
