"""What `upgrade` did, place by place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class UpgradeReport:
    """What became a neuron, what was left alone, and how the result was checked.

    Names are those of the user's modules; a function is named after the module around it, a second call of one module
    ends in _1. They are the names in ``network.body``.

    Attributes:
        neurons: place → "ReLU → MultiBit".
        left_alone: activation that is not a neuron → its class; those inside of leaves and other merged layers, too.
        inside: norms, and layers with weights, inside of merged layers → class: weights are not quantized, not counted.
        translated: layer over time → class of the layer it was; fold, cost and stream know these.
        merged: layer that runs as it was, time merged into the batch → its class or function.
        uncounted: merged layers with weights, which `cost` does not count.
        changed: merged layer with weights → what computes them, or changes its results, at every call (weight norm,
            spectral norm, pruning, hooks), so that it is no synapse.
        lost_hooks: modules and parameters whose hooks the network does not run.
        split: module called several times → the places that replace it.
        only_in_training: where the forward does something else in training; the network does what evaluation does.
        fixed_shape: shape of a sample [...] that the code was run for and the network takes alone; None for any.
        dropped: parameters of replaced modules, which are gone.
        frozen: layers with parameters that the forward runs without gradient (``torch.no_grad()``): they do not train.
        norm: how batch norms see time.
        sample: shape of the inputs of the check. guessed: whether that shape was made up from the first layer.
        compared: what with, "" where nothing had to be. difference: the greatest one found.
    """

    neurons: dict[str, str] = field(default_factory=dict)
    left_alone: dict[str, str] = field(default_factory=dict)
    translated: dict[str, str] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)
    inside: dict[str, str] = field(default_factory=dict)
    uncounted: list[str] = field(default_factory=list)
    changed: dict[str, str] = field(default_factory=dict)
    lost_hooks: list[str] = field(default_factory=list)
    split: dict[str, list[str]] = field(default_factory=dict)
    only_in_training: list[str] = field(default_factory=list)
    fixed_shape: tuple[int, ...] | None = None
    dropped: list[str] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)
    norm: str = ""
    sample: tuple[int, ...] = ()
    guessed: bool = False
    compared: str = ""
    difference: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)

    def __str__(self) -> str:
        made_up = " (made up from the first layer)" if self.guessed else ""
        lines = [
            f"upgrade: {len(self.neurons)} neurons, {len(self.left_alone)} activations left alone, "
            f"{len(self.translated)} layers over time, {len(self.merged)} merged",
            *_listed("neurons", self.neurons),
            *_listed("left alone", self.left_alone),
            *_listed("merged, as they were", {k: v for k, v in self.merged.items() if k not in self.left_alone}),
            *_listed("inside of these, as they were", self.inside),
            *_listed("called several times, one neuron a call", {k: ", ".join(v) for k, v in self.split.items()}),
        ]
        if self.uncounted:
            lines.append(f"  not counted by cost: {', '.join(self.uncounted)}")
        if self.changed:
            given = ", ".join(f"{name}: {what}" for name, what in self.changed.items())
            lines.append(f"  no synapses, for what changes them at every call (remove it first): {given}")
        if self.lost_hooks:
            lines.append(f"  hooks that are gone: {', '.join(self.lost_hooks)}")
        if self.only_in_training:
            lines.append(f"  left out, done in training alone: {', '.join(self.only_in_training)}")
        if self.fixed_shape is not None:
            lines.append(f"  run, not traced symbolically: takes samples of the shape {list(self.fixed_shape)} alone")
        if self.dropped:
            lines.append(f"  parameters gone with what was replaced: {', '.join(self.dropped)}")
        if self.frozen:
            lines.append(f"  without gradient, as the forward says: {', '.join(self.frozen)}")
        lines.append(f"  batch norm: {self.norm}")
        lines.append("  parameters: a copy; the model given is unchanged")
        if self.compared:
            found = f"greatest difference {self.difference:.3g} on inputs {list(self.sample)}{made_up}"
            lines.append(f"  checked, activations still in place, against {self.compared}: {found}")
        return "\n".join(lines)


def _listed(title: str, places: dict[str, str]) -> list[str]:
    return [f"  {title}:", *(f"    {name}: {what}" for name, what in places.items())] if places else []
