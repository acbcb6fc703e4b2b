"""Exports take the reference, hooks of all modules see all modules, and the advice in messages of ops/ works."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules import module as every

import bitspike
from bitspike.layers import BatchNorm, Conv2d, Flatten, Linear, MeanReadout, Refined, Repeat, Squeeze
from bitspike.models import he_resnet20
from bitspike.neurons import LIF, Adaptive, Neuron, Ternary
from bitspike.ops import ScanFacts, choose, dispatch, explain, pack_spikes, table, unpack_spikes, using
from bitspike.quantizers import Uniform


def small(neuron: nn.Module) -> nn.Sequential:
    """A network that runs every operation that an export could meet."""
    refined = Refined(neuron.replicate(4), T=2)  # type: ignore[operator]
    layers = [Repeat(2), Conv2d(1, 4, 3, padding=1), BatchNorm(4), neuron.replicate(4), Squeeze(), refined]  # type: ignore[operator]
    return nn.Sequential(*layers, Flatten(), Linear(4 * 64, 3), MeanReadout())


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the kernels that were chosen."""
    names: set[str] = set()

    def watch(kernel: dispatch.Kernel) -> dispatch.Kernel:
        def run(*given: Any, **named: Any) -> Any:
            names.add(kernel.name)
            return kernel.function(*given, **named)

        return dispatch.Kernel(**{**vars(kernel), "function": run})

    watched = {op: {n: watch(k) for n, k in known.items()} for op, known in dispatch._KERNELS.items()}
    monkeypatch.setattr(dispatch, "_KERNELS", watched)
    return names


def legacy_onnx(net: nn.Module, x: Tensor) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.onnx"
        try:
            torch.onnx.export(net, (x,), str(path), dynamo=False)
        except torch.onnx.errors.OnnxExporterError as error:
            if "onnx is not installed" not in str(error):  # the last step, after everything was translated
                raise
    return None


EXPORTS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "trace": lambda net, x: torch.jit.trace(net, (x,), check_trace=False),
    "trace_module": lambda net, x: torch.jit.trace_module(net, {"forward": (x,)}, check_trace=False),
    "export": lambda net, x: torch.export.export(net, (x,), strict=False).module(),
    "export strict": lambda net, x: torch.export.export(net, (x,), strict=True).module(),
    "dynamo": lambda net, x: torch._dynamo.export(net)(x).graph_module,
    "make_fx": lambda net, x: make_fx(net)(x),
    "onnx": legacy_onnx,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", EXPORTS)
def test_every_export_takes_the_reference(kind: str, training: bool, chosen: set[str]) -> None:
    net, x = small(Ternary(train_amplitude="channel")).train(training), torch.rand(2, 1, 8, 8)
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    with using("reference", "all"):
        wanted = net(x)
    net.load_state_dict(kept)
    chosen.clear()
    program = EXPORTS[kind](net, x)
    assert chosen <= {"reference"}
    if program is not None:
        assert "bitspike::" not in str(getattr(program, "inlined_graph", "")) and "bitspike." not in code(program)
        net.load_state_dict(kept)
        assert torch.equal(program(x), wanted)
    chosen.clear()
    net(x)
    assert chosen > {"reference"} or not chosen & {"reference"}, "outside of exports the fast kernels run"


def code(program: Any) -> str:
    """Targets of the calls of an fx graph."""
    if not isinstance(program, torch.fx.GraphModule):
        return ""
    return " ".join(str(node.target) for node in program.graph.nodes if node.op == "call_function")


@pytest.mark.parametrize(
    "register",
    [
        every.register_module_forward_hook,
        every.register_module_forward_pre_hook,
        every.register_module_full_backward_hook,
    ],
)
def test_hooks_of_all_modules_see_all_modules_in_training(register: Callable[..., Any]) -> None:
    for net in (he_resnet20(LIF(), T=2, width=4, shape=(3, 8, 8)), small(Adaptive(2))):
        x = torch.rand(2, *((3, 8, 8) if hasattr(net, "body") else (1, 8, 8)), requires_grad=True)
        watched = {id(m) for m in net.modules() if isinstance(m, (Neuron, BatchNorm, Squeeze))}
        seen: set[int] = set()
        handle = register(lambda module, *rest, seen=seen: seen.add(id(module)))  # type: ignore[misc]
        try:
            net(x).sum().backward()
        finally:
            handle.remove()
        assert watched <= seen


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "scan": lambda: (LIF(), torch.randn(3, 2, 4, 5)),
    "adaptive": lambda: (Adaptive(2), torch.randn(3, 2, 4, 5)),
    "refined": lambda: (Refined(Adaptive(2), T=2), torch.randn(1, 2, 4, 5)),
    "refined lif": lambda: (Refined(LIF(), T=2), torch.randn(1, 2, 4, 5)),
    "squeeze": lambda: (Squeeze(), torch.randn(3, 2, 4, 5)),
    "norm": lambda: (he_resnet20(LIF(), Uniform(3), T=2, width=4, shape=(3, 8, 8)), torch.rand(2, 3, 8, 8)),
    "small": lambda: (small(Adaptive(2)), torch.rand(2, 1, 8, 8)),
}


def twice(module: nn.Module, x: Tensor) -> Tensor:
    """The gradient of a gradient."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
    found: Tensor = torch.autograd.grad(slope.square().sum(), x)[0]
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_the_advice_about_second_derivatives_works(name: str) -> None:
    if not bitspike.native.available_isas():
        pytest.skip("not run: no native library")
    module, x = NETWORKS[name]()
    with pytest.raises(ValueError, match="differentiated once") as caught:
        twice(module, x)
    found = re.search(r"; run inside (bitspike\.ops\.using\(.*\))\.$", str(caught.value))
    assert found, caught.value
    with eval(found[1]):
        assert torch.isfinite(twice(module, x)).all()


def test_the_advice_to_use_the_reference_works() -> None:
    facts = ScanFacts("no kernel", torch.float64, torch.float64)
    for kernel in table():
        if kernel.name == "reference":
            continue
        with using(kernel.name, kernel.operation), pytest.raises(ValueError, match="use 'reference'"):
            choose(kernel.operation, kernel.home(), facts)
        with using("reference", kernel.operation):
            assert choose(kernel.operation, kernel.home(), facts).name == "reference"


@pytest.mark.parametrize("neuron", [Ternary(train_amplitude="channel"), Adaptive(2, sharing="channel")])
def test_the_advice_to_replicate_works(neuron: Neuron) -> None:
    x = torch.randn(3, 2, 7, 5)
    with pytest.raises(ValueError, match=r"Emission: .*call neuron\.replicate\(channels, channel_dim=-1\) for tokens"):
        neuron.replicate(4)(x)
    assert neuron.replicate(5, channel_dim=-1)(x).shape == neuron.replicate(7, channel_dim=1)(x).shape == x.shape


def test_the_advice_to_call_contiguous_works() -> None:
    s = torch.tensor([0.0, 1.0]).repeat(6).reshape(3, 4)[:, ::2].expand(5, 3, 2)
    with pytest.raises(ValueError, match=r"call contiguous\(\)"):
        pack_spikes(s, 0, 1, 1.0)
    assert torch.equal(unpack_spikes(pack_spikes(s.contiguous(), 0, 1, 1.0)), s)


@pytest.mark.parametrize("operation", sorted({kernel.operation for kernel in table()}))
def test_explain_needs_no_facts(operation: str) -> None:
    assert explain(operation, "cpu").splitlines()[-1].endswith("taken")


def test_all_is_every_operation_that_has_the_kernel() -> None:
    operations = {kernel.operation for kernel in table()}
    with using("reference", "all"):
        assert {choose(op, "cpu").name for op in operations} == {"reference"}
        with using("adaptive"):
            assert dispatch._OVERRIDE["scan"] == "adaptive"
        assert dict.fromkeys(operations, "reference") == dispatch._OVERRIDE
    assert dispatch._OVERRIDE == {}
    with using("adaptive", "all"):
        assert dispatch._OVERRIDE == {"scan": "adaptive"}
    with pytest.raises(ValueError, match=r"using\(all\): the kernel must be one of .*got 'nothing'"):
        using("nothing", "all").__enter__()
