"""What the scripts of all readers of NIR have in common; it imports torch, numpy and nir alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch


def layers_of(net: torch.nn.Module, *kinds: type) -> dict[str, torch.nn.Module]:
    """Name → module of a kind."""
    return {name: module for name, module in net.named_modules() if isinstance(module, kinds)}


@torch.no_grad()
def record(
    net: torch.nn.Module,
    x: torch.Tensor,
    fresh: Callable[[], None],
    call: Callable[[torch.Tensor, Any], Any],
    layers: Mapping[str, torch.nn.Module],
    out: str,
    batched: bool = False,
) -> None:
    """Run x [T, B, ...] step by step and write what every layer sends, [T, B, ...], and the output of every step."""
    seen: dict[str, list[torch.Tensor]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: Any, value: Any) -> None:
            sent = value[0] if isinstance(value, tuple) else value
            seen.setdefault(name, []).append(sent.detach().clone())

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in layers.items()]
    parts = [x] if batched else [x[:, b] for b in range(x.shape[1])]
    outputs: list[list[torch.Tensor]] = []
    for part in parts:
        fresh()
        state: Any = None
        steps = []
        for step in part:
            value = call(step, state)
            value, state = value if isinstance(value, tuple) else (value, None)
            steps.append(value)
        outputs.append(torch.stack(steps))
    for hook in hooks:
        hook.remove()
    count = len(x)
    found = {"output": (outputs[0] if batched else torch.stack(outputs, 1)).numpy()}
    for name, sent in seen.items():
        rows = torch.stack(sent)
        found[name] = (rows if batched else rows.unflatten(0, (len(parts), count)).transpose(0, 1)).numpy()
    np.savez(out, **found)


def seeded() -> None:
    """The same weights every time."""
    torch.manual_seed(0)


def case_inputs(*shape: int) -> torch.Tensor:
    """Sequences [T, B, ...] of intensities."""
    return torch.rand(8, 16, *shape, generator=torch.Generator().manual_seed(1))


def write_case(folder: str, name: str, graph: Any, x: torch.Tensor, output: np.ndarray) -> None:
    """A file of NIR, its inputs and its outputs of every step."""
    base = Path(folder) / name
    nir.write(base.with_suffix(".nir"), graph)
    np.savez(base.with_suffix(".npz"), x=x.numpy(), output=output)
