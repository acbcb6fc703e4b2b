"""Every kernel in the table equals the definition: outputs, final state, every gradient, one tolerance an operation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bitspike.neurons import NEURONS, Neuron
from bitspike.ops import Kernel, scan, table, using
from neurons.cases import CHANNELS, Options, build, cases

TOLERANCE = {"scan": {"rtol": 0.0, "atol": 0.0}}  # once per operation, the same everywhere


def by_hand(neuron: Neuron, x_seq: Tensor) -> list[Tensor]:
    """Spikes and final state of a plain loop: what a scan is."""
    state, spikes = neuron.initial_state(x_seq[0]), []
    for t in range(len(x_seq)):
        s, state = neuron.step(x_seq[t], state)
        spikes.append(s)
    return [torch.stack(spikes), *state]


def outcome(neuron: Neuron, x: Tensor, run: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
    """All results and all gradients of a fixed projection of them."""
    leaves = [x.clone().requires_grad_(), *neuron.parameters()]
    results = run(leaves[0])
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(r.shape, generator=generator, dtype=torch.float64).to(r) for r in results]
    loss = sum(((r * w).sum() for r, w in zip(results, weights, strict=True)), torch.zeros((), device=x.device))
    return [r.detach() for r in results] + list(torch.autograd.grad(loss, leaves))


def check_scan(kernel: Kernel, device: str, neuron: Neuron) -> None:
    neuron = neuron.to(device)
    for dtype in (torch.float32, torch.float64):
        for T in (1, 4):
            x = (torch.randn(T, 3, CHANNELS, dtype=torch.float64) * 1.5).to(device, dtype)

            def through(x_seq: Tensor) -> list[Tensor]:
                with using(kernel.name):
                    s, state = neuron.to(x_seq.dtype).run(x_seq)
                return [s, *state]

            found, wanted = outcome(neuron.to(dtype), x, through), outcome(neuron, x, lambda y: by_hand(neuron, y))
            for one, other in zip(found, wanted, strict=True):
                torch.testing.assert_close(one, other, **TOLERANCE["scan"])


PARITY = {"scan": check_scan}


def test_every_operation_has_a_parity_test_and_a_reference() -> None:
    operations = {kernel.operation for kernel in table()}
    assert operations == set(PARITY) == set(TOLERANCE)
    assert {kernel.operation for kernel in table() if kernel.name == "reference"} == operations


@pytest.mark.parametrize("case", cases(1), ids=lambda case: case[0])
@pytest.mark.parametrize("kernel", table(), ids=lambda k: f"{k.operation}-{k.name}")
def test_a_kernel_equals_the_definition(kernel: Kernel, case: tuple[str, Options]) -> None:
    device = "cpu" if kernel.device == "any" else kernel.device
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip(f"not run: {kernel.operation} {kernel.name} needs {device}")
    neuron = build(*case)
    reason = kernel.refuses(neuron)
    if reason:
        pytest.skip(f"not run: {kernel.name} refuses {case}: {reason}")
    PARITY[kernel.operation](kernel, device, neuron)


def test_scan_steps_in_order() -> None:
    """A running sum: outputs and final state by hand."""
    s, total = scan(lambda x, v: (v, v + x), torch.tensor([[1.0], [2.0], [4.0]]), torch.zeros(1))
    assert s.tolist() == [[0.0], [1.0], [3.0]] and total.tolist() == [7.0]


def test_the_registry_is_covered() -> None:
    assert {name for name, _ in cases(1)} == set(NEURONS)
