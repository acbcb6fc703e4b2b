"""Training steps of the wide ResNet-20: images a second, peak memory, and the largest batch that fits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from cases import CLASS_M, CLASS_U
from clock import Clock
from peer import in_less_memory, spikingjelly_resnet20
from torch import Tensor, nn

from bitspike.models import resnet20
from bitspike.ops import lean, using

CASES = ("LIF", "LIF, ATan", "Ternary", "MultiBit(1,1)")


def shape(clock: Clock) -> tuple[int, int, int, int]:
    """(batch, channels of the first layer, side of an image, batch of memory searches)."""
    return (2, 4, 16, 2) if clock.toy else (128, 64, 32, 128)


def bitspike_net(clock: Clock, neuron: str, T: int) -> nn.Module:
    """The network, channels-last on the device."""
    _, width, side, _ = shape(clock)
    torch.manual_seed(0)
    net = resnet20((CLASS_M | CLASS_U)[neuron](), T=T, width=width, shape=(3, side, side))
    return net.to(clock.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def images(clock: Clock, batch: int) -> tuple[Tensor, Tensor]:
    """Random images and labels on the device."""
    side = shape(clock)[2]
    x = torch.randn(batch, 3, side, side, device=clock.device).contiguous(memory_format=torch.channels_last)
    return x, torch.arange(batch, device=clock.device) % 10


def step_of(
    clock: Clock,
    net: nn.Module,
    call: Callable[[Tensor], Tensor],
    x: Tensor,
    labels: Tensor,
    memory: str = "normal",
) -> Callable[[], None]:
    """zero_grad, forward under bf16 autocast, cross-entropy, backward, SGD with momentum; nothing waits."""
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        with lean() if memory == "lean" else nullcontext(), torch.autocast(clock.device, torch.bfloat16):
            logits = call(x)
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(logits.float(), labels).backward()
        optimiser.step()

    return step


def measured(clock: Clock, step: Callable[[], None], batch: int, net: nn.Module) -> dict[str, Any]:
    """A row's figures."""
    ms = clock.median_ms(step, seconds=0.2)
    return {
        **{"ms": round(ms, 3), "images_per_s": round(batch / ms * 1e3, 1), "peak_mib": clock.peak_mib(step)},
        "parameters": sum(p.numel() for p in net.parameters()),
    }


def bitspike_case(clock: Clock, neuron: str, T: int, how: str) -> dict[str, Any]:
    """One setting: "eager", "lean", or a mode of torch.compile."""
    batch = shape(clock)[0]
    net, (x, labels) = bitspike_net(clock, neuron, T), images(clock, batch)
    modes = {"compiled": None, "compiled, CUDA graphs": "reduce-overhead"}
    call = torch.compile(net, mode=modes[how]) if how in modes else net
    with using("triton"):
        step = step_of(clock, net, call, x, labels, how)
        return {"library": "bitspike", "neuron": neuron, "T": T, "how": how, **measured(clock, step, batch, net)}


def peer_case(clock: Clock, T: int, detach: bool, how: str) -> dict[str, Any]:
    """SpikingJelly's network, eager or with its memory optimisation."""
    batch, width, _, _ = shape(clock)
    net, reset = spikingjelly_resnet20(T, width, detach)
    net = net.to(clock.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    x, labels = images(clock, batch)

    def call(given: Tensor) -> Tensor:
        reset(net)
        return net(given)

    said = in_less_memory(net, x, reset) if how == "less memory" else how
    step = step_of(clock, net, call, x, labels)
    name = "LIF" if detach else "LIF, ATan"
    return {
        **{"library": "spikingjelly", "neuron": name, "T": T, "how": how, "said": said},
        **measured(clock, step, batch, net),
    }


def attempt(clock: Clock, least_s: float, about: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row, or why there is none."""
    if clock.left_s() < least_s:
        return {**about, "not_run": "no time left"}
    try:
        return make()
    except Exception as error:  # the reason is the result
        return {**about, "not_run": f"{type(error).__name__}: {str(error)[:300]}"}


def networks(clock: Clock) -> list[dict[str, Any]]:
    """T = 2 and 4; what matters most first, because compiling takes most of the time."""
    rows = []
    lengths = (2,) if clock.toy else (2, 4)
    hows = ("eager", "lean") if clock.toy else ("compiled", "eager", "lean", "compiled, CUDA graphs")
    plan: list[tuple[str, str, int, str]] = []
    for T in lengths:
        plan += [("bitspike", "LIF", T, how) for how in hows[: 3 if T == 2 else 2]]
        plan += [("spikingjelly", name, T, "eager") for name in ("LIF", "LIF, ATan")]
        plan += [("bitspike", name, T, "eager") for name in CASES[1 : 2 if clock.toy else None]]
    plan += [("spikingjelly", "LIF", T, "less memory") for T in lengths]
    plan += [("bitspike", "LIF", 2, how) for how in hows[3:]]
    for library, neuron, T, how in plan:
        about = {"library": library, "neuron": neuron, "T": T, "how": how}
        ours = library == "bitspike"
        compiled = how.startswith("compiled")

        def make(ours: bool = ours, neuron: str = neuron, T: int = T, how: str = how) -> dict[str, Any]:
            return bitspike_case(clock, neuron, T, how) if ours else peer_case(clock, T, neuron == "LIF", how)

        rows.append(attempt(clock, 100 if compiled and not clock.toy else 30, about, make))
        torch.compiler.reset()
    return rows


def largest(clock: Clock, gib: float, step_for: Callable[[int], Callable[[], None]]) -> int:
    """The largest batch, to an eighth, whose training step fits; on the CPU the first one tried."""
    start = shape(clock)[3]

    def fits(batch: int) -> bool:
        try:
            with clock.within_gib(gib):
                step = step_for(batch)
                step()
                step()
                clock.wait()
        except torch.OutOfMemoryError:
            return False
        return True

    if not fits(start):
        return 0
    if clock.device != "cuda":
        return start
    low = start
    while fits(low * 2) and low < 2**16:
        low *= 2
    for part in (low // 2, low // 4, low // 8):
        if fits(low + part):
            low += part
    return low


def batches(clock: Clock, gib: float) -> list[dict[str, Any]]:
    """LIF, T = 4, bf16, within a fixed share of the device's memory."""
    T, (_, width, _, _) = 2 if clock.toy else 4, shape(clock)
    rows = []

    def ours(memory: str) -> Callable[[int], Callable[[], None]]:
        def make(batch: int) -> Callable[[], None]:
            net, (x, labels) = bitspike_net(clock, "LIF", T), images(clock, batch)
            return step_of(clock, net, net, x, labels, memory)

        return make

    def theirs(small: bool) -> Callable[[int], Callable[[], None]]:
        def make(batch: int) -> Callable[[], None]:
            net, reset = spikingjelly_resnet20(T, width, True)
            net = net.to(clock.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            x, labels = images(clock, batch)
            if small:
                in_less_memory(net, x, reset)

            def call(given: Tensor) -> Tensor:
                reset(net)
                return net(given)

            return step_of(clock, net, call, x, labels)

        return make

    plan: list[tuple[str, str, Callable[[int], Callable[[], None]]]] = [
        ("bitspike", "normal", ours("normal")),
        ("bitspike", "lean", ours("lean")),
        ("spikingjelly", "normal", theirs(False)),
        ("spikingjelly", "less memory", theirs(True)),
    ]
    for library, memory, maker in plan:
        about = {"library": library, "memory": memory, "neuron": "LIF", "T": T, "gib": gib}

        def make(maker: Any = maker, about: dict[str, Any] = about) -> dict[str, Any]:
            with using("triton"):
                return {**about, "batch": largest(clock, gib, maker)}

        rows.append(attempt(clock, 40, about, make))
    return rows
