"""`bitspike.upgrade` on real SpikingJelly and snnTorch models: the same spikes and gradients, and what it refuses.

    .venv-peers/bin/python benchmarks/peers/upgrade.py          # about a minute on one core

Also executes docs/migration.md with its blocks for both libraries. Prints a table. Exit 1 if a comparison fails or a
model is not refused as stated, 2 if a library is missing.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "src"))

try:
    import snntorch
    import spikingjelly.activation_based
    import torch
    from snntorch import utils
    from spikingjelly.activation_based import functional, layer, neuron, surrogate
except ImportError as missing:
    print(f"{missing}; use the environment of benchmarks/peers/setup.sh", file=sys.stderr)
    raise SystemExit(2) from missing
from torch import Tensor, nn  # noqa: E402

import bitspike  # noqa: E402
from bitspike import observe  # noqa: E402
from bitspike.neurons import LIF, MultiBit  # noqa: E402

T = 3
PAGE = HERE.parent.parent / "docs" / "migration.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def from_jelly(node: Any) -> LIF:
    """An IFNode or LIFNode as the LIF with the same spikes and gradients (docs/migration.md)."""
    tau = getattr(node, "tau", None)
    gain = tau if tau is not None and node.decay_input else 1.0
    return LIF(
        threshold=(node.v_threshold - (node.v_reset or 0.0)) * gain,
        decay=1.0 if tau is None else 1 - 1 / tau,
        reset="soft" if node.v_reset is None else "hard",
        detach_reset=node.detach_reset,
        surrogate=f"atan:{node.surrogate_function.alpha / gain}",
    )


def from_snn(node: Any) -> LIF:
    """A Leaky as a LIF: equal where the reset is to zero, or beta is 1."""
    reset = "hard" if node.reset_mechanism == "zero" else "soft"
    return LIF(float(node.threshold), float(node.beta), reset=reset, detach_reset=True, surrogate="atan:2.0")


JELLY = {neuron.BaseNode: from_jelly}
SNN = {snntorch.Leaky: from_snn}


def spiking_resnet18(**options: Any) -> nn.Module:
    """SpikingJelly's own, imported without what the models beside it need (h5py, torchvision's downloads)."""
    name = "spikingjelly.activation_based.model"
    package = types.ModuleType(name)
    package.__path__ = [str(Path(spikingjelly.activation_based.__file__).parent / "model")]
    download = types.ModuleType("torchvision.models.utils")
    download.load_state_dict_from_url = None  # type: ignore[attr-defined]
    sys.modules.setdefault(name, package)
    for part in ("torchvision", "torchvision.models"):
        sys.modules.setdefault(part, types.ModuleType(part))
    sys.modules.setdefault("torchvision.models.utils", download)
    module = importlib.import_module(f"{name}.spiking_resnet")
    return module.spiking_resnet18(spiking_neuron=neuron.LIFNode, **options)  # type: ignore[no-any-return]


def csnn(**options: Any) -> nn.Module:
    """The network of SpikingJelly's conv_fashion_mnist example, 4 channels wide."""

    def fire() -> nn.Module:
        return neuron.IFNode(v_threshold=0.5, surrogate_function=surrogate.ATan(), **options)

    return nn.Sequential(
        *(
            layer.Conv2d(1, 4, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(4),
            fire(),
            layer.MaxPool2d(2, 2),
        ),
        *(
            layer.Conv2d(4, 4, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(4),
            fire(),
            layer.MaxPool2d(2, 2),
        ),
        *(layer.Flatten(), layer.Linear(4 * 7 * 7, 4 * 4 * 4, bias=False), fire()),
        *(layer.Linear(4 * 4 * 4, 10, bias=False), fire()),
    )


def conv_snn(**options: Any) -> nn.Module:
    """snnTorch's tutorial 6: convolutions and hidden states, the last neuron returning its membrane too."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 5), nn.MaxPool2d(2), snntorch.Leaky(threshold=0.1, init_hidden=True, **options)),
        *(nn.Conv2d(4, 8, 5), nn.MaxPool2d(2), snntorch.Leaky(threshold=0.1, init_hidden=True, **options)),
        *(nn.Flatten(), nn.Linear(8 * 4 * 4, 10)),
        snntorch.Leaky(threshold=0.1, init_hidden=True, output=True, **options),
    )


class Pair(nn.Module):
    """snnTorch's explicit states, one step: ``spk, mem = lif(cur, mem)``."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(784, 32), snntorch.Leaky(beta=0.875, threshold=0.25, reset_mechanism="zero")
        self.fc2, self.lif2 = nn.Linear(32, 10), snntorch.Leaky(beta=0.5, threshold=0.25, reset_mechanism="zero")

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.reset_mem(), self.lif2.reset_mem()
        spk1, mem1 = self.lif1(self.fc1(x.flatten(1)), mem1)
        spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return spk2


class PairLoop(Pair):
    """The same as tutorials write it: the loop over time inside, membranes recorded."""

    membranes = False

    def forward(self, x: Tensor) -> Any:
        mem1, mem2, spikes, recorded = self.lif1.reset_mem(), self.lif2.reset_mem(), [], []
        for _ in range(T):
            spk1, mem1 = self.lif1(self.fc1(x.flatten(1)), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            recorded.append(mem2)
        return (torch.stack(spikes), torch.stack(recorded)) if self.membranes else torch.stack(spikes)


class OneMembrane(Pair):
    """Returns a membrane."""

    def forward(self, x: Tensor) -> Tensor:
        spk1, _ = self.lif1(self.fc1(x.flatten(1)))
        return self.lif2(self.fc2(spk1))[1]  # type: ignore[no-any-return]


def run_jelly(model: nn.Module, x: Tensor) -> Tensor:
    """SpikingJelly's own run over T steps in multi-step mode, [T, B, K]."""
    functional.set_step_mode(model, "m")
    functional.reset_net(model)
    y = model(x.expand(T, *x.shape))
    functional.reset_net(model)
    functional.set_step_mode(model, "s")
    return y  # type: ignore[no-any-return]


def run_hidden(model: nn.Module, x: Tensor) -> Tensor:
    """snnTorch's loop over a network with hidden states, [T, B, K]."""
    utils.reset(model)
    y = torch.stack([model(x)[0] for _ in range(T)])
    utils.reset(model)
    return y


def compare(
    name: str, model: nn.Module, mapping: Any, run: Callable[[nn.Module, Tensor], Tensor], x: Tensor, training: bool
) -> str:
    """Outputs per step, and in training the gradient of every parameter; returns a problem or ""."""
    allowed = 1e-9 if x.dtype == torch.float64 else 1e-4
    net = bitspike.upgrade(model, mapping, x, T=T, readout="steps").eval()
    rates = [activity.rate for activity in observe(net, [x]).values()]
    wanted, got = run(model.train(training), x).to(x.dtype), net.train(training)(x)
    close = float((wanted - got).detach().abs().max())
    note = f"{name}: {got.numel()} outputs, greatest difference {close:.1e}, {len(rates)} neurons, rates "
    note += f"{min(rates):.2f}-{max(rates):.2f}"
    problem = "" if close <= allowed else f"outputs differ by {close:.2g}"
    if training:
        weights = torch.linspace(-1, 1, got.numel(), dtype=x.dtype).reshape(got.shape)
        theirs = {k: p for k, p in model.named_parameters() if p.requires_grad}
        ours = dict(net.body.named_parameters())
        one = torch.autograd.grad((run(model, x).to(x.dtype) * weights).sum(), list(theirs.values()))
        other = torch.autograd.grad((net(x) * weights).sum(), [ours[k] for k in theirs])
        worst = max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-9)) for a, b in zip(one, other, strict=True))
        note += f", gradients of {len(theirs)} parameters within {worst:.1e}"
        problem = problem or ("" if worst <= allowed else f"gradients differ by {worst:.2g}")
        if not all(grad.abs().max() > 0 for grad in other):
            problem = problem or "a parameter has no gradient, so that equal means nothing"
    if min(rates) <= 0.02 or max(rates) >= 0.98:
        problem = problem or "a layer is silent or saturated, so that equal means nothing"
    print(f"  {'ok    ' if not problem else 'FAILED'} {note}{'; ' + problem if problem else ''}")
    return problem


def live(model: nn.Module) -> nn.Module:
    """Random norms in float64, so that every layer fires."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, 0.1, 0.5)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.double()


def comparisons() -> Iterator[str]:
    """Every comparison; yields problems."""
    x = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    for training in (False, True):
        mode = "training" if training else "evaluation"
        for options in ({}, {"v_reset": None}, {"detach_reset": True}):
            name = f"SpikingJelly CSNN {options or ''} ({mode})"
            yield compare(name, live(csnn(**options)), JELLY, run_jelly, x, training)
        fires: dict[str, Any] = {"tau": 2.0, "v_threshold": 0.4, "surrogate_function": surrogate.ATan()}
        resnet = live(spiking_resnet18(num_classes=10, **fires))
        image = torch.rand(2, 3, 32, 32, dtype=torch.float64)
        yield compare(f"SpikingJelly spiking_resnet18 ({mode})", resnet, JELLY, run_jelly, image, training)
        zero = conv_snn(reset_mechanism="zero", beta=0.875)
        yield compare(f"snnTorch tutorial 6 ({mode})", zero, SNN, run_hidden, x.float(), training)
    whole = conv_snn(reset_mechanism="subtract", beta=1.0)  # snnTorch's spikes are float32 whatever the input
    yield compare("snnTorch tutorial 6, subtract, beta 1 (evaluation)", whole, SNN, run_hidden, x.float(), False)
    step, loop = Pair(), PairLoop()
    loop.load_state_dict(step.state_dict())
    yield compare("snnTorch explicit states (evaluation)", step, SNN, lambda _, x: loop(x), x.float(), False)


def refusals() -> Iterator[str]:
    """Every refusal; yields problems."""
    multi, loop = csnn(), PairLoop()
    functional.set_step_mode(multi, "m")
    loop.membranes = True
    dropout = nn.Sequential(layer.Linear(784, 8), layer.Dropout(0.5), neuron.IFNode())
    relu = {nn.ReLU: MultiBit()}
    for name, model, mapping, parts in (
        ("SpikingJelly, step mode m", multi, JELLY, ("module '0' (Conv2d)", "set_step_mode")),
        ("SpikingJelly, IFNode not mapped", csnn(), relu, ("module '2' (IFNode)", "{IFNode:")),
        ("SpikingJelly, Dropout not mapped", dropout, JELLY, ("module '1' (Dropout)", "{Dropout:")),
        ("snnTorch, Leaky not mapped", Pair(), relu, ("module 'lif1' (Leaky)", "{Leaky:")),
        ("snnTorch, loop over time", PairLoop(), SNN, ("module 'lif1'", "upgrade.py:", f"{T} calls")),
        ("snnTorch, loop and membranes", loop, SNN, ("module 'lif1'", f"{T} calls")),
        ("snnTorch, membrane returned", OneMembrane(), SNN, ("membrane of module 'lif2'", "return")),
    ):
        try:
            bitspike.upgrade(model, mapping)
            problem = "it was not refused"
        except ValueError as error:
            problem = "" if all(part in str(error) for part in parts) else f"unclear: {error}"
        print(f"  {'ok    ' if not problem else 'FAILED'} {name}{'; ' + problem if problem else ''}")
        yield problem


def page() -> Iterator[str]:
    """docs/migration.md with the blocks of both libraries; yields problems."""
    text, printed, module = PAGE.read_text(encoding="utf-8"), "", types.ModuleType("docs_migration")
    sys.modules[module.__name__] = module
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start(2))
        if match[1] in ("python", "py"):
            heard = io.StringIO()
            with contextlib.redirect_stdout(heard):
                exec(compile("\n" * line + match[2], str(PAGE), "exec"), module.__dict__)
            printed = heard.getvalue()
        elif match[1] in ("text", "output"):
            same = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
            problem = "" if doctest.OutputChecker().check_output(match[2], printed, same) else f"got {printed}"
            print(f"  {'ok    ' if not problem else 'FAILED'} output at line {line}{'; ' + problem if problem else ''}")
            yield problem


def main() -> int:
    """Run all three parts."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    problems = []
    for title, part in (("the same network", comparisons), ("refused", refusals), ("docs/migration.md", page)):
        print(f"{title}:")
        problems += [problem for problem in part() if problem]
    print(
        f"SpikingJelly and snnTorch {snntorch.__version__}: {'all ok' if not problems else f'{len(problems)} FAILED'}"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
