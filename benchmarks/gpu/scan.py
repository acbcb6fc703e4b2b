"""The scan alone, forward and backward, against a copy and against SpikingJelly's node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from cases import CLASS_M, CLASS_U
from clock import Clock
from peer import said, spikingjelly_node
from torch import Tensor

from bitspike.neurons import Neuron
from bitspike.ops import using


def copy_gb_s(clock: Clock, elements: int) -> dict[str, Any]:
    """Bytes that a copy reads and writes a second, over a tensor too large for any cache."""
    source = torch.zeros(elements, dtype=torch.float32, device=clock.device)
    target = torch.empty_like(source)
    ms = clock.median_ms(lambda: target.copy_(source))
    return {"mib": round(elements * 4 / 2**20, 1), "ms": ms, "gb_s": round(2 * elements * 4 / ms / 1e6, 1)}


def moved_bytes(neuron: Neuron, x: Tensor) -> int:
    """What a scan must move: currents in, spikes out, gradients of both; class M its bits twice, class U x again."""
    spec, size = neuron.fused(), x.element_size()
    if isinstance(spec, str) or not spec.bits_suffice:
        return x.numel() * 5 * size
    kinds = 2 if spec.codes[0] != 3 and not spec.codes[2] else 1
    return x.numel() * 4 * size + 2 * kinds * x.numel() // 8


def both_ways(run: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Callable[[], Any]:
    """Forward and backward."""
    leaf = x.clone().requires_grad_()
    return lambda: torch.autograd.grad(run(leaf), leaf, grad)


def times(clock: Clock, call: Callable[[], Any]) -> dict[str, Any]:
    """Called from Python, and as a CUDA graph, which has no time of the host in it."""
    found: dict[str, Any] = {"eager_ms": clock.median_ms(call)}
    try:
        found["graph_ms"] = clock.median_ms(clock.captured(call))
    except Exception as error:  # a peer may not be capturable; the reason is the result
        found |= {"graph_ms": None, "graph_error": f"{type(error).__name__}: {str(error)[:200]}"}
    return found


def scans(clock: Clock, copy: dict[str, Any]) -> list[dict[str, Any]]:
    """[T, 64, 65536] in half precision, as SpikingJelly publishes it, for every neuron at T = 4 and LIF at all T."""
    rows = []
    last, lengths = (96, (2, 9)) if clock.toy else (65536, (2, 4, 8, 16, 32))
    cases = [("LIF", T) for T in lengths] + [("LIF, ATan", T) for T in lengths]
    cases += [(name, lengths[0 if clock.toy else 1]) for name in (CLASS_M | CLASS_U) if not name.endswith("trained")]
    for name, T in dict.fromkeys(cases):
        if clock.left_s() < 0.6 * clock.limit_s:
            rows.append({"neuron": name, "T": T, "not_run": "no time left"})
            continue
        torch.manual_seed(0)
        x = (torch.randn(T, 64 if not clock.toy else 3, last, device=clock.device) * 1.2).half()
        grad = torch.randn_like(x)
        neuron = (CLASS_M | CLASS_U)[name]().to(clock.device)

        def run(leaf: Tensor, neuron: Neuron = neuron) -> Tensor:
            with using("triton"), torch.autocast(clock.device, torch.float16):
                return neuron(leaf)

        found = times(clock, both_ways(run, x, grad))
        best = min(ms for ms in (found["eager_ms"], found["graph_ms"]) if ms)
        spec = neuron.fused()
        row: dict[str, Any] = {
            **{"neuron": name, "T": T, "shape": list(x.shape), "dtype": "float16"},
            **{"class": "M" if not isinstance(spec, str) and spec.bits_suffice else "U"},
            **{"bitspike": found, "gb_s": round(moved_bytes(neuron, x) / best / 1e6, 1)},
        }
        row["share_of_copy"] = round(row["gb_s"] / copy["gb_s"], 3)
        if name in ("LIF", "LIF, ATan"):
            row["spikingjelly"] = peers(clock, x, grad, detach=name == "LIF")
            other = [one[key] for one in row["spikingjelly"] for key in ("eager_ms", "graph_ms") if one.get(key)]
            row["times_its_speed"] = round(min(other) / best, 3) if other else None
        rows.append(row)
    return rows


def peers(clock: Clock, x: Tensor, grad: Tensor, detach: bool) -> list[dict[str, Any]]:
    """SpikingJelly's LIF with the same constants, in every setting that it has here."""
    rows = []
    for setting in ("own choice", "triton", "cupy"):
        try:
            node, reset = spikingjelly_node(setting, detach)
            node = node.to(clock.device)

            def run(leaf: Tensor, node: Any = node, reset: Any = reset) -> Tensor:
                reset(node)
                return node(leaf)

            rows.append({"setting": setting, "computes": said(detach), **times(clock, both_ways(run, x, grad))})
        except Exception as error:  # not installed, or not able to; the reason is the result
            rows.append({"setting": setting, "not_run": f"{type(error).__name__}: {str(error)[:200]}"})
    return rows
