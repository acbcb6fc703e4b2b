"""What people write in a forward is taken, in any spelling; what is refused names its place and a remedy that works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import bitspike
from bitspike.cost import cost
from bitspike.neurons import Integer, Signed
from networks import rng

PLAIN, BOTH = Integer(255, decay=1.0), Signed(255, decay=1.0)
Forward = Callable[[Any, Tensor], Tensor]


class Brought(nn.Module):
    """Convolutions a and b (8 channels), c (4 → 8), a head, what else is named, and any forward of them."""

    def __init__(self, what: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(i, 8, 3, padding=1) for i in (3, 8, 4))
        self.head, self.what = nn.Linear(8, 5), what
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.what(self, x)


def brought(what: Callable[..., Any], layers: Callable[[], dict[str, Any]] = dict) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Brought(what, **layers()).double().eval()


def images(count: int = 24) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=rng(3), dtype=torch.float64)


def pooled(s: Any, x: Tensor) -> Tensor:
    return s.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def first(s: Any, x: Tensor) -> Tensor:
    return F.relu(s.a(x))


def _gate_by_mask(s: Any, x: Tensor) -> Tensor:
    y = s.a(x)
    return pooled(s, F.relu(s.b(y * (y > 0))))


def _resized_to(s: Any, x: Tensor) -> Tensor:
    y = first(s, x)
    return pooled(s, F.relu(s.b(F.interpolate(F.max_pool2d(y, 2), size=y.shape[-2:]))))


def _cached(s: Any, x: Tensor) -> Tensor:
    s.features = first(s, x)
    s.seen = {"again": s.features}
    return pooled(s, F.relu(s.b(s.features)))


def _transformer(s: Any, x: Tensor) -> Tensor:
    x = s.patch(x).flatten(2).transpose(1, 2)
    x = torch.cat([s.token.expand(x.shape[0], -1, -1), x], 1) + s.place
    b, n, d = x.shape
    q, k, v = s.qkv(s.norm1(x)).reshape(b, n, 3, 2, d // 2).permute(2, 0, 3, 1, 4).unbind(0)
    share = (q @ k.transpose(-2, -1) * 0.5).softmax(-1)
    x = x + s.out((share @ v).transpose(1, 2).reshape(b, n, d))
    x = x + s.up2(F.gelu(s.up1(s.norm2(x))))
    return s.head(x[:, 0])  # type: ignore[no-any-return]


def _transformer_layers() -> dict[str, Any]:
    return {
        **{"patch": nn.Conv2d(3, 8, 4, 4), "qkv": nn.Linear(8, 24), "out": nn.Linear(8, 8)},
        **{"norm1": nn.LayerNorm(8), "norm2": nn.LayerNorm(8), "up1": nn.Linear(8, 16), "up2": nn.Linear(16, 8)},
        **{"token": nn.Parameter(torch.randn(1, 1, 8)), "place": nn.Parameter(torch.randn(1, 5, 8))},
    }


def _convnext(s: Any, x: Tensor) -> Tensor:
    x = first(s, x)
    y = s.norm(s.deep(x).permute(0, 2, 3, 1))
    return pooled(s, x + (s.share * s.up2(F.gelu(s.up1(y)))).permute(0, 3, 1, 2))


def _convnext_layers() -> dict[str, Any]:
    deep = {
        "deep": nn.Conv2d(8, 8, 3, padding=1, groups=8),
        "norm": nn.LayerNorm(8),
        "share": nn.Parameter(torch.rand(8)),
    }
    return {**deep, "up1": nn.Linear(8, 16), "up2": nn.Linear(16, 8)}


# name → (forward, its further layers, signed spikes, operations that stay analog)
TAKEN: dict[str, tuple[Forward, Callable[[], dict[str, Any]], bool, set[str]]] = {
    "channels of the input": (
        lambda s, x: pooled(s, F.relu(s.w(torch.cat([x, first(s, x)], 1)))),
        lambda: {"w": nn.Conv2d(11, 8, 3)},
        False,
        set(),
    ),
    "concatenated relu": (
        lambda s, x: pooled(s, F.relu(s.w(torch.cat([F.relu(s.a(x)), F.relu(-s.a(x))], 1)))),
        lambda: {"w": nn.Conv2d(16, 8, 3)},
        False,
        set(),
    ),
    "mask": (_gate_by_mask, dict, False, {"mul"}),
    "where": (
        lambda s, x: pooled(s, F.relu(s.b(torch.where(s.a(x) > 0, s.a(x), 0.1 * s.a(x))))),
        dict,
        False,
        {"where"},
    ),
    "maxout": (lambda s, x: pooled(s, F.relu(s.c(s.a(x).view(-1, 4, 2, 8, 8).max(2)[0]))), dict, False, {"getitem"}),
    "glu": (lambda s, x: pooled(s, F.relu(s.c(F.glu(s.b(first(s, x)), 1)))), dict, True, {"glu"}),
    "swish by hand": (
        lambda s, x: pooled(s, s.b(first(s, x)) * s.b(first(s, x)).sigmoid()),
        dict,
        True,
        {"sigmoid", "mul"},
    ),
    "sigmoids": (
        lambda s, x: pooled(s, torch.sigmoid(s.b(torch.sigmoid(s.a(x))))),
        dict,
        False,
        {"sigmoid", "sigmoid_1"},
    ),
    "softplus": (lambda s, x: pooled(s, F.softplus(s.a(x))), dict, False, {"softplus"}),
    "clamp on both sides": (lambda s, x: pooled(s, s.b(s.a(x).clamp(-1, 1))), dict, True, set()),
    "clamp, lopsided": (lambda s, x: pooled(s, s.b(torch.clamp(s.a(x), -1, 2))), dict, True, {"clamp"}),
    "clamp above 0": (lambda s, x: pooled(s, s.b(s.a(x).clip(0.1, 2))), dict, False, {"clip"}),
    "hardtanh from 0": (lambda s, x: pooled(s, F.hardtanh(s.a(x), 0.0, 0.5)), dict, False, set()),
    "a maximum of spikes and GELU": (
        lambda s, x: pooled(s, F.gelu(s.b(F.max_pool2d(F.gelu(s.a(x)), 2)))),
        dict,
        True,
        {"gelu", "gelu_1"},
    ),
    "instance norm": (
        lambda s, x: pooled(s, F.relu(s.norm(s.b(first(s, x))))),
        lambda: {"norm": nn.InstanceNorm2d(8)},
        False,
        {"norm"},
    ),
    "group norm of spikes": (
        lambda s, x: pooled(s, F.relu(s.b(s.norm(first(s, x))))),
        lambda: {"norm": nn.GroupNorm(2, 8)},
        True,
        {"norm"},
    ),
    "inverse": (lambda s, x: pooled(s, F.relu(s.b(1 / (1 + first(s, x))))), dict, False, {"truediv"}),
    "difference of spikes": (
        lambda s, x: pooled(s, F.relu(s.b(first(s, x) - F.relu(s.b(first(s, x)))))),
        dict,
        False,
        set(),
    ),
    "turned": (lambda s, x: pooled(s, F.relu(s.b(5 - first(s, x)) / 4 + 0.1)), dict, False, set()),
    "list of sums": (lambda s, x: pooled(s, F.relu(sum([s.b(first(s, x)), s.a(x)]))), dict, False, set()),
    "position": (
        lambda s, x: pooled(s, F.relu(s.b(first(s, x)) + s.p)),
        lambda: {"p": nn.Parameter(torch.randn(1, 8, 8, 8))},
        False,
        {"add"},
    ),
    "means of a stack": (
        lambda s, x: pooled(s, F.relu(torch.stack([s.b(first(s, x)), s.a(x)]).mean(0))),
        dict,
        False,
        {"mean"},
    ),
    "squeezed": (lambda s, x: s.head(F.adaptive_avg_pool2d(first(s, x), 1).squeeze(3).squeeze(2)), dict, False, set()),
    "resized to another": (_resized_to, dict, False, set()),
    "bicubic": (
        lambda s, x: pooled(s, F.relu(s.b(F.interpolate(first(s, x), scale_factor=2, mode="bicubic")))),
        dict,
        False,
        {"interpolate"},
    ),
    "unshuffled": (
        lambda s, x: pooled(s, F.relu(s.w(F.pixel_unshuffle(first(s, x), 2)))),
        lambda: {"w": nn.Conv2d(32, 8, 1)},
        False,
        set(),
    ),
    "features kept": (_cached, dict, False, set()),
    "dropout of channels": (
        lambda s, x: pooled(s, F.relu(s.b(s.drop(first(s, x))))),
        lambda: {"drop": nn.Dropout2d(0.4)},
        False,
        set(),
    ),
    "weight norm": (
        lambda s, x: pooled(s, F.relu(s.w(first(s, x)))),
        lambda: {"w": nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3))},
        False,
        set(),
    ),
    "old weight norm": (
        lambda s, x: pooled(s, F.relu(s.w(first(s, x)))),
        lambda: {"w": nn.utils.weight_norm(nn.Conv2d(8, 8, 3))},
        False,
        set(),
    ),
    "spectral norm": (
        lambda s, x: pooled(s, F.relu(s.w(first(s, x)))),
        lambda: {"w": nn.utils.spectral_norm(nn.Conv2d(8, 8, 3))},
        False,
        set(),
    ),
    "pruned": (
        lambda s, x: pooled(s, F.relu(s.w(first(s, x)))),
        lambda: {"w": nn.utils.prune.l1_unstructured(nn.Conv2d(8, 8, 3), "weight", 0.5)},
        False,
        set(),
    ),
    "a hook that looks": (
        lambda s, x: pooled(s, F.relu(s.w(first(s, x)))),
        lambda: {"w": _hooked(nn.Conv2d(8, 8, 3))},
        False,
        {"w"},
    ),
    "recurrent": (
        lambda s, x: s.head(F.relu(s.gru(first(s, x).mean(3).transpose(1, 2))[0][:, -1])),
        lambda: {"gru": nn.GRU(8, 8, batch_first=True)},
        False,
        {"mean", "getitem"},
    ),
    "transformer": (
        _transformer,
        _transformer_layers,
        True,
        {"cat", "add", "norm1", "matmul", "softmax", "matmul_1", "norm2", "gelu"},
    ),
    "channels last": (_convnext, _convnext_layers, True, {"norm", "gelu"}),
    "sigmoid at the end": (lambda s, x: torch.sigmoid(pooled(s, first(s, x))), dict, False, {"sigmoid"}),
    "logarithm of a softmax": (
        lambda s, x: torch.log(F.softmax(pooled(s, first(s, x)), 1)),
        dict,
        False,
        {"softmax", "log"},
    ),
    "another way in training": (
        lambda s, x: pooled(s, F.relu(s.b(first(s, x)))) if s.training else pooled(s, first(s, x)),
        dict,
        False,
        set(),
    ),
}  # fmt: skip


def _hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, args, value: None)
    return layer


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.filterwarnings("error:upgrade. hooks")
def test_it_is_taken(name: str, T: int) -> None:
    forward, layers, signed, analog = TAKEN[name]
    net, x = brought(forward, layers), images()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    snn = bitspike.ann2snn(net, BOTH if signed else PLAIN, x, T, "max")
    report = snn.report
    with torch.no_grad():
        wanted, got = net(x), snn(x)
    assert float((got - wanted).norm() / wanted.norm()) < 0.01
    assert report is not None and set(report.analog) == analog and len(report.layers) >= 1
    folded = bitspike.fold(snn, x)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), got, rtol=1e-9, atol=1e-9)
    uncounted = {each.split(" ")[0].removeprefix("net_body_") for each in cost(folded.graph, x).uncounted}
    assert analog <= {each.removesuffix("_") for each in uncounted}
    parts, states = None, None
    sequence = x.unsqueeze(0).expand(T, *x.shape)
    for step in sequence.split(1):
        parts, states = bitspike.stream(folded.graph, step, states)
    with torch.no_grad():
        assert torch.equal(parts, bitspike.stream(folded.graph, sequence)[0])
        torch.testing.assert_close(parts, folded(x), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_softmax_of_groups_stays_for_the_classes_change_their_order_without_it() -> None:
    torch.manual_seed(0)
    layers = nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 6), nn.Unflatten(1, (2, 3)), nn.LogSoftmax(2), nn.Flatten(1)
    model, x = nn.Sequential(*layers).eval(), torch.randn(64, 8)
    snn = bitspike.ann2snn(model, Signed(255, decay=1.0), x, 1)
    with torch.no_grad():
        assert snn.report.outside == "" and (snn(x).argmax(1) == model(x).argmax(1)).double().mean() > 0.98


@pytest.mark.parametrize("last", [nn.Softmax(dim=1), nn.LogSoftmax(dim=1), nn.Softmax2d()])
def test_a_softmax_at_the_end_of_a_map(last: nn.Module) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1), last).double().eval()
    snn, x = bitspike.ann2snn(net, PLAIN, images(), 2, fine_tune=1), images()
    assert snn.report is not None and "oftmax" in snn.report.outside and snn.report.analog == {}
    with torch.no_grad():
        got = snn(x).reshape(len(x), 4, 6, 6)
        assert float((last(got) - net(x)).abs().max()) < 0.02 * float(net(x).abs().max())
    assert snn.report.as_dict()["outside"] == snn.report.outside


def _branches(s: Any, x: Tensor) -> Tensor:
    return pooled(s, s.odd(s.b(first(s, x))))


class Branching(nn.Module):
    """Code that looks at values."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) if float(x.abs().max()) > 0 else x


# name → (forward, neuron, message, what makes it work)
REFUSED: dict[str, tuple[Callable[..., Any], Any, str, dict[str, Any]]] = {
    "GELU": (
        lambda s, x: pooled(s, F.gelu(s.a(x))),
        PLAIN,
        r"ann2snn gelu: GELU sends values below 0, so the format must be signed, got \{0\.\.255\}; take Signed",
        {"neuron": BOTH},
    ),
    "PReLU": (
        lambda s, x: pooled(s, F.prelu(s.a(x), s.head.weight[0, 0].reshape(1))),
        PLAIN,
        r"ann2snn prelu: PReLU sends values below 0, so the format must be signed",
        {"neuron": BOTH},
    ),
    "a product alone": (
        lambda s, x: pooled(s, s.a(x) * s.b(s.w(x))),
        PLAIN,
        r"ann2snn mul: its values may lie below 0, so the format must be signed",
        {"neuron": BOTH},
    ),
    "values": (
        _branches,
        PLAIN,
        r"upgrade: the forward must be traceable, or run .* __float__ makes a float .*test_taken.py:\d+\); .* leaves",
        {"leaves": (Branching,)},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_a_remedy_that_works(name: str) -> None:
    forward, neuron, words, remedy = REFUSED[name]
    net, x = brought(forward, lambda: {"odd": Branching(), "w": nn.Conv2d(3, 8, 1)}), images()
    with pytest.raises(ValueError, match=words) as raised:
        bitspike.ann2snn(net, neuron, x)
    assert "\n" not in str(raised.value)
    snn = bitspike.ann2snn(net, remedy.get("neuron", neuron), x, 2, "max", leaves=remedy.get("leaves", ()))
    with torch.no_grad():
        assert float((snn(x) - net(x)).norm() / net(x).norm()) < 0.01


def test_gradients_that_end_put_nothing_between() -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = first(s, x)
        return pooled(s, F.relu(s.b(x.detach()).detach()))

    net, x = brought(forward), images()
    snn = bitspike.ann2snn(net, PLAIN, x, 2, "max")
    kinds = [type(node.module).__name__ for node in snn.graph if node.module is not None]
    assert kinds == ["Repeat", "Conv2d", "Integer", "Conv2d", "Integer", "GlobalAvgPool", "Linear", "MeanReadout"]
    with torch.no_grad():
        assert float((snn(x) - net(x)).norm() / net(x).norm()) < 0.01


def test_words() -> None:
    """Indices are no inputs of an encoder; the network behind the embedding is converted on what that gives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        embedding, behind = nn.Embedding(20, 6), nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    words = torch.randint(20, (32, 5), generator=rng(0))
    with pytest.raises(TypeError, match=r"ann2snn: the inputs must be floating-point .* torch.int64; .* behind its"):
        bitspike.ann2snn(nn.Sequential(embedding, behind), PLAIN, words)
    with torch.no_grad():
        x = embedding(words)
        assert float((bitspike.ann2snn(behind, PLAIN, x, 1, "max")(x) - behind(x)).abs().max()) < 0.02


@pytest.mark.parametrize("kind", ["shape", "len", "dict", "tuple"])
def test_shapes_are_read_and_every_output_is_converted(kind: str) -> None:
    def forward(s: Any, x: Tensor) -> Any:
        batch = len(x) if kind == "len" else x.shape[0]
        y = first(s, x.view(batch, 3, 8, 8))
        logits = pooled(s, y)
        return {"shape": logits, "len": logits, "dict": {"out": logits}, "tuple": (logits, y)}[kind]

    net, x = brought(forward), images()
    snn = bitspike.ann2snn(net, PLAIN, x)
    with torch.no_grad():
        pairs = list(zip(tree_leaves(snn(x)), tree_leaves(net(x)), strict=True))
    assert all(float((ours - theirs).abs().max()) < 0.02 for ours, theirs in pairs)
    ours, theirs = (torch.cat([value.flatten() for value in values]) for values in zip(*pairs, strict=True))
    assert snn.report.logit_error == pytest.approx(float((ours - theirs).norm() / theirs.norm()), rel=1e-3)
    if len(pairs) > 1:
        with pytest.raises(
            ValueError, match=r"several outputs must be read out by \"mean\" and not be fine-tuned, got 2"
        ):
            bitspike.ann2snn(net, PLAIN, x, fine_tune=1)


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda s, x: pooled(s, s.a(x)), r"ann2snn: the model must have activations, got none; a network without any"),
        (
            lambda s, x: torch.sigmoid(pooled(s, s.a(x))),
            r"ann2snn: the model must have activations in front of weights, got only sigmoid, behind",
        ),
        (
            lambda s, x: pooled(s, first(s, x - x.mean(0))),
            r"upgrade: no sample may depend on the others .* at sub in the",
        ),
        (
            lambda s, x: pooled(s, first(s, x + torch.rand_like(x))),
            r"upgrade: the model must give the same result twice",
        ),
    ],
)
def test_what_no_conversion_can_do(forward: Forward, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bitspike.ann2snn(brought(forward), BOTH, images())


def test_a_model_that_reads_what_an_earlier_call_kept() -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        s.memory = s.memory / 2 + first(s, x)
        return pooled(s, F.relu(s.b(s.memory)))

    net = brought(forward, lambda: {"memory": 0.0})
    with pytest.raises(
        ValueError, match=r"upgrade: the traced code must .*; read nothing that an earlier call has kept"
    ):
        bitspike.ann2snn(net, PLAIN, images())


def test_an_activation_without_channels() -> None:
    """One value a sample, squeezed to [B], has no axis for channels; squeezed behind the activation it is taken."""
    layers: Callable[[], dict[str, Any]] = lambda: {"one": nn.Linear(8, 1), "last": nn.Linear(1, 3)}  # noqa: E731
    early = brought(lambda s, x: s.last(F.relu(s.one(first(s, x).mean((2, 3))).squeeze(1)).unsqueeze(1)), layers)
    late = brought(lambda s, x: s.last(F.relu(s.one(first(s, x).mean((2, 3)))).squeeze(1).unsqueeze(1)), layers)
    x = images()
    with pytest.raises(ValueError, match=r"ann2snn relu_1: what becomes spikes must have channels, .* got \[B\]"):
        bitspike.ann2snn(early, PLAIN, x)
    snn = bitspike.ann2snn(late, PLAIN, x, 2, "max")
    with torch.no_grad():
        assert float((snn(x) - late(x)).norm() / late(x).norm()) < 0.01


def test_batches_of_one_and_views() -> None:
    """Steps that an encoder repeats have no memory of their own, which a view of one sample does not take."""
    net = brought(lambda s, x: pooled(s, F.relu(s.a(x.view(-1, 3 * 8, 8).view(-1, 3, 8, 8)))))
    snn, x = bitspike.ann2snn(net, PLAIN, images(1), 3, "max"), images(1)
    with torch.no_grad():
        assert snn(x).shape == (1, 5) and float((snn(x) - net(x)).abs().max()) < 0.01
