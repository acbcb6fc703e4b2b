"""bitspike, with the kernel that the spec names ("native" or "reference"); also the floor and the ReLU network.

Before a kernel other than the reference is timed it must equal the reference on a crop of the timed shape.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import nn

from bitspike import keep_memory
from bitspike.models import MODELS
from bitspike.neurons import NEURONS, Neuron
from bitspike.ops import lean, table, using
from workers.inputs import currents
from workers.parity import same_network, same_scan
from workers.protocol import Prepared, Spec, UnavailableError, serve
from workers.resnet import seeded
from workers.scan import scan_case
from workers.training import step_case


def build(spec: Spec) -> Prepared:
    """A case of any kind."""
    return {"floor": floor, "neuron": neuron_case, "linear": neuron_case, "network": network_case}[spec["kind"]](spec)


def floor(spec: Spec) -> Prepared:
    """The traffic floor: the input copied into one existing buffer, the upstream gradient into another."""
    x, gradient = currents(spec)
    x = x.detach()
    forward, backward = torch.zeros_like(x), torch.zeros_like(gradient)

    def call() -> None:
        forward.copy_(x)
        backward.copy_(gradient)

    return Prepared(call, {"computes": "copy of x and of the upstream gradient into existing buffers"})


def kernel(spec: Spec) -> str:
    """The kernel of the spec, if it is registered."""
    name = spec["kernel"]
    known = sorted({k.name for k in table() if k.operation == "scan"})
    if name not in known:
        raise UnavailableError(f"bitspike has no scan kernel {name!r} (it has {', '.join(known)})")
    return name


def make(spec: Spec) -> nn.Module:
    """The neuron of the spec, or ReLU."""
    if spec["neuron"] == "relu":
        return nn.ReLU()
    return NEURONS[spec["neuron"]](**spec["options"])


def said(neuron: nn.Module, name: str) -> str:
    """What a neuron computes, in words."""
    if not isinstance(neuron, Neuron):
        return "torch ReLU in place of the neuron"
    emission = "" if neuron.emission.train_kind == "none" else f", amplitude trained per {neuron.emission.train_kind}"
    parts = (neuron.extra_repr(), neuron.membrane.extra_repr() + emission, f"kernel {name}")
    return f"{type(neuron).__name__}: " + "; ".join(parts)


def refusal(error: ValueError, name: str) -> Exception:
    """A kernel that refuses the configuration is no fault: `using` makes the dispatch raise with the reason."""
    return UnavailableError(str(error)) if name != "reference" and str(error).startswith("dispatch") else error


def neuron_case(spec: Spec) -> Prepared:
    """One layer of neurons, checked against the reference first."""
    name = kernel(spec)
    neuron = make(spec)
    assert isinstance(neuron, Neuron)
    neuron = neuron.replicate(spec["shape"][2])
    context = partial(using, name)
    try:
        checked = {} if name == "reference" else same_scan(neuron, spec, context)

        def forward(x: torch.Tensor) -> torch.Tensor:
            with using(name):
                return neuron(x)

        made = scan_case(spec, forward, said(neuron, name), tuple(neuron.parameters()))
    except ValueError as error:
        raise refusal(error, name) from error
    made.facts |= checked
    return made


def copied(still: torch.Tensor) -> torch.Tensor:
    """A repeated image as T copies in memory, in the memory order of a frame."""
    return torch.cat(still.unbind(0)).unflatten(0, still.shape[:2])


def network_case(spec: Spec) -> Prepared:
    """One training step of a network, by default `he_resnet20`, checked against the reference first."""
    name = "reference" if spec["neuron"] == "relu" else kernel(spec)
    neuron = make(spec)

    def net(width: int = spec["width"], image: int = spec["image"]) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # inert factors
            model = MODELS[spec.get("network", "he_resnet20")]
            more = spec.get("options_of_network", {})
            made = seeded(partial(model, neuron, T=spec["T"], width=width, shape=(3, image, image), **more))
        if spec.get("copies"):
            made.encoder.register_forward_hook(lambda _module, _given, still: copied(still))
        return made

    @contextmanager
    def context() -> Iterator[None]:
        with using(name), lean() if spec.get("memory") == "lean" else nullcontext():
            yield

    try:
        checked = {} if name == "reference" or spec.get("bare") else same_network(net, spec, context)
        with context():
            made = step_case(spec, net(), (Neuron, nn.ReLU), said(neuron, name), around=context)
    except ValueError as error:
        raise refusal(error, name) from error
    made.facts |= checked
    return made


if __name__ == "__main__":
    if why := keep_memory():  # as `bitspike train` does
        print(why, file=sys.stderr)
    serve(("bitspike",), build)
