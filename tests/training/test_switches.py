"""The switches of training: bfloat16, `torch.compile`, channels-last."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike.data import ImageSet, Splits
from bitspike.layers import AvgPool2d, BatchNorm, Conv2d, MaxPool2d
from bitspike.models.pad import PadShortcut
from bitspike.neurons import MultiBit, Neuron, Ternary
from bitspike.quantizers import Sign, Uniform
from bitspike.training import loop
from bitspike.training.job import load_data
from bitspike.training.loop import fit
from bitspike.training.penalty import SpikePenalty, WithPenalty
from bitspike.training.recipe import Recipe, recipe_from_mapping
from builders import images, tiny
from networks import pool_net, rng, samples, small_cnn


def recipe(**tables: Any) -> Recipe:
    base: dict[str, Any] = {
        "name": "switch",
        "data": {"batch_size": 32},
        "model": {"options": {"width": 8, "stem_stride": 1}},
        "neuron": {"name": "multibit", "train_amplitude": "channel", "learn_decay": True},
        "weight": {"name": "float"},
        "train": {"epochs": 3, "threads": 1, "lr": 0.1},
    }
    for name, table in tables.items():
        base[name] = {**base.get(name, {}), **table}
    return recipe_from_mapping(base)


def coloured(count: int, seed: int) -> ImageSet:
    """8×8 images of three classes: one of three channels is bright."""
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 60, (count, 3, 8, 8), generator=rng(seed))
    pixels[torch.arange(count), labels] += 150
    return ImageSet(pixels.to(torch.uint8), labels, tuple("rgb"), 255, (0.3,) * 3, (0.3,) * 3, "coloured")


COLOURED = Splits(coloured(96, 0), coloured(30, 1), coloured(30, 2))


def passed(network: nn.Module, x: Tensor, parameters: nn.Module) -> list[Tensor]:
    """Output and every gradient of one pass in training mode."""
    parameters.zero_grad()
    output = network(x)
    output, extra = output if isinstance(output, tuple) else (output, output.new_zeros(()))
    (output.square().sum() + extra).backward()
    gradients = [p.grad.clone() for p in parameters.parameters() if p.grad is not None]
    assert len(gradients) == len(list(parameters.parameters()))
    return [output.detach(), *gradients]


# bfloat16


@pytest.fixture
def digits() -> Splits:
    splits = load_data(recipe())
    parts = {"train": 640, "validation": 144, "test": 1}
    return Splits(**{name: getattr(splits, name).subset(list(range(n)), name) for name, n in parts.items()})


@pytest.mark.parametrize("regulariser", [{}, {"kind": "rate", "weight": 0.1, "target": 0.2}])
def test_bfloat16_keeps_membranes_norms_and_weights_in_float32(
    monkeypatch: pytest.MonkeyPatch, regulariser: dict[str, Any]
) -> None:
    currents, membranes, outputs, statistics = set(), set(), set(), set()

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, Neuron):
            with torch.no_grad():
                membranes.add(module.run(inputs[0])[1].v.dtype)
            currents.add(inputs[0].dtype)
        elif isinstance(module, Conv2d):
            outputs.add(output.dtype)
        elif isinstance(module, BatchNorm):
            statistics.add(module.running_mean.dtype)

    honest = loop.build_model

    def watched(*given: Any) -> nn.Module:
        model = honest(*given)
        for module in model.modules():
            module.register_forward_hook(lambda m, i, o: watch(m, i, o) if model.training else None)
        return model

    monkeypatch.setattr(loop, "build_model", watched)
    chosen = recipe(train={"precision": "bf16", "epochs": 1}, regulariser=regulariser)
    run = fit(chosen, COLOURED)
    assert torch.bfloat16 in currents and outputs == {torch.bfloat16}
    assert membranes == {torch.float32} and statistics == {torch.float32}
    assert all(value.dtype == torch.float32 for value in run.model.state_dict().values())
    assert math.isfinite(run.history[0]["loss"])


def test_bfloat16_learns_as_float32_does(digits: Splits) -> None:
    runs = [fit(recipe(train={"precision": precision}), digits) for precision in ("float32", "bf16")]
    for run in runs:
        assert all(math.isfinite(record["loss"]) for record in run.history)
    plain, half = (run.history[-1]["validation_accuracy"] for run in runs)
    assert plain > 0.8 and abs(plain - half) < 0.1, (plain, half)
    assert runs[0].history[0]["loss"] != runs[1].history[0]["loss"]  # the switch did something


def test_the_penalty_reads_rounded_spikes_as_levels() -> None:
    """bfloat16 stores 0.731·k wrongly by up to 0.4 %; the activity is that of k."""
    neuron = MultiBit(1, 1, amplitude=0.731)
    spikes = neuron(torch.tensor([[[0.1, 0.5, 1.0, 1.7]]]))
    for kind in ("rate", "bits"):
        penalty = SpikePenalty(kind, 1.0, 0.0, False)
        assert penalty([neuron], [spikes.bfloat16()]).item() == penalty([neuron], [spikes]).item() > 0


# torch.compile


ARMS: dict[str, Callable[[], nn.Module]] = {
    "multibit": lambda: small_cnn(MultiBit(1, 1, train_amplitude="channel", learn_decay=True), Uniform(4), width=4),
    "ternary": lambda: small_cnn(Ternary(train_amplitude="layer"), Sign("input"), width=4, norm="per_step"),
}


def expect_compiled(arm: str, penalty: SpikePenalty | None, backend: str, tolerance: float) -> None:
    net, x = ARMS[arm](), samples(4, dtype=torch.float32)
    network = WithPenalty(net, penalty)
    torch.compiler.reset()
    try:
        found = passed(torch.compile(network, backend=backend, fullgraph=True), x, net)
    finally:
        torch.compiler.reset()
    wanted = passed(network, x, net)
    for one, other in zip(found, wanted, strict=True):
        scale = max(float(other.abs().max()), 0.1)  # the gradient of an inert amplitude is rounding alone
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * scale)
    assert max(float(g.abs().max()) for g in wanted[1:]) > 1e-2


def test_a_network_and_its_penalty_compile_in_one_graph() -> None:
    expect_compiled("multibit", SpikePenalty("bits", 0.1, 0.1, True), "aot_eager", 0.0)


needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="not run: torch.compile needs a C++ compiler"
)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("arm", ARMS)
def test_what_inductor_compiles_equals_eager(arm: str) -> None:
    expect_compiled(arm, None, "inductor", 1e-4)


@pytest.mark.slow
@needs_compiler
def test_a_compiled_run_is_the_eager_run() -> None:
    model = {"name": "mlp", "options": {"hidden": [12]}}
    kind = {"kind": "rate", "weight": 0.1, "target": 0.2}
    chosen = [recipe(model=model, regulariser=kind, train={"epochs": 2, "compile": on}) for on in (False, True)]
    torch.compiler.reset()
    try:
        eager, compiled = (fit(r, COLOURED).history for r in chosen)
    finally:
        torch.compiler.reset()
    for one, other in zip(eager, compiled, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-2)
        assert one["validation_accuracy"] == pytest.approx(other["validation_accuracy"], abs=0.1)


# Channels-last

NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "study_cnn": (lambda: small_cnn(MultiBit(1, 1, train_amplitude="channel"), Uniform(4)), (2, 8, 8)),
    "per_step": (lambda: small_cnn(Ternary(learn_decay=True), norm="per_step", T=3), (2, 8, 8)),
    "pool_net": (lambda: pool_net(MultiBit(1, 1)).train(), (2, 8, 8)),
    "average shortcut": (lambda: tiny("resnet20", Ternary()), (3, 16, 16)),
    "pad shortcut": (lambda: tiny("he_resnet20", Ternary(), shortcut="pad"), (3, 8, 8)),
    "sew": (lambda: tiny("resnet18", MultiBit(1, 1), sew=True), (3, 64, 64)),
    "input": (lambda: tiny("resnet18_cifar", MultiBit(1, 1), wiring="input"), (3, 16, 16)),
}


def lies_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", NETS)
def test_channels_last_gives_the_gradients_of_the_plain_order(name: str) -> None:
    build, shape = NETS[name]
    plain, x = build().double(), images(3, shape)
    for module in plain.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    other = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    found = passed(other, x.contiguous(memory_format=torch.channels_last), other)
    for one, wanted in zip(found, passed(plain, x, plain), strict=True):
        torch.testing.assert_close(one, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NETS)
def test_frames_stay_channels_last_from_layer_to_layer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer between the encoder and flattening takes [T·B, C, H, W] as a view, and gives the same; of steps that
    are one, the frames of one."""
    build, shape = NETS[name]
    net = build().to(memory_format=torch.channels_last)
    seen, convolved, inputs = set(), [], []
    honest = F.conv2d

    def conv2d(x: Tensor, *given: Any) -> Tensor:
        convolved.append(x)
        return honest(x, *given)

    def watch(path: str) -> Callable[..., None]:
        def check(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, Conv2d):
                inputs.append(given[0])
            seen.add(type(module))
            for side, value in (("input", given[0]), ("output", output)):
                value = value[0].unsqueeze(0) if value.stride(0) == 0 else value
                if value.dim() == 5 and min(value.shape[2:]) > 1:
                    frames = value.view(-1, *value.shape[2:])  # raises where merging would copy
                    assert lies_channels_last(frames), f"{side} of {path} {list(value.shape)} {value.stride()}"

        return check

    kinds = (Conv2d, BatchNorm, Neuron, AvgPool2d, MaxPool2d, PadShortcut, nn.ReLU)
    for path, module in net.named_modules():
        if isinstance(module, kinds):
            module.register_forward_hook(watch(path))
    monkeypatch.setattr(F, "conv2d", conv2d)
    net(images(3, shape, torch.float32).contiguous(memory_format=torch.channels_last))
    assert len(convolved) == len(inputs) > 2 and all(map(lies_channels_last, convolved))
    copied = [a.data_ptr() != b.data_ptr() for a, b in zip(convolved, inputs, strict=True)]
    assert not any(copied)
    assert {"pool_net": MaxPool2d, "pad shortcut": PadShortcut, "input": nn.ReLU}.get(name, Conv2d) in seen


def test_the_switch_brings_images_and_weights_into_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    orders, honest = [], F.conv2d

    def conv2d(x: Tensor, weight: Tensor, *given: Any) -> Tensor:
        if torch.is_grad_enabled():  # evaluation reads plain images
            orders.append((lies_channels_last(x), lies_channels_last(weight)))
        return honest(x, weight, *given)

    monkeypatch.setattr(F, "conv2d", conv2d)
    run = fit(recipe(train={"channels_last": True, "epochs": 2}), COLOURED)
    assert orders and all(map(all, orders))
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    wanted = fit(recipe(train={"epochs": 2}), COLOURED)
    assert run.history[0]["loss"] == pytest.approx(wanted.history[0]["loss"], rel=0.05)
