"""What no neuron can take over: operations that stay analog, where they send spikes on, and a softmax at the end."""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.dropout import _DropoutNd

from bitspike.ann2snn.rectifier import WHERE, Rectifier, check_slope, limits
from bitspike.checks import bad_value
from bitspike.graph.moves import kind_of, summands
from bitspike.graph.surgery import Surgery
from bitspike.layers import Affine, Detach, Encoder, Gain, MeanReadout, Restimulate, Synapse, TallyMap, TimeLayer
from bitspike.neurons import Neuron
from bitspike.upgrade.layers import Merged
from bitspike.upgrade.parts import MOVES, OTHER, name_of, nature
from bitspike.upgrade.translate import MAXIMA

Shapes = dict[str, tuple[int, ...]]
_SOFTMAX = ("Softmax", "LogSoftmax", "Softmax2d")
_ABOVE_0 = ("Sigmoid", "Hardsigmoid", "Softplus", "Softmax", "Softmax2d", "ReLU", "ReLU6")  # nothing below 0
_MOVED = ("concat", "split", "select")
_AXES = ("Softmax", "LogSoftmax", "GLU")  # they name axes, so they cannot be run over time as they are
_OVERSHOOTS = ("bicubic",)


class OneStep(nn.Module):
    """A layer over time on the samples of one step, [B, ...] → [B, ...]."""

    def __init__(self, layer: TimeLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """What the layer makes of a sequence of one step."""
        return self.layer(x.unsqueeze(0))[0]  # type: ignore[no-any-return]


class Analog:
    """The operations of a network that stay as they are, found and replaced one after the other, in order.

    Args:
        surgery: edited. neuron: prototype. shapes: node → shape [T, B, C, ...]; completed.
        positive: names of gains that are above 0.

    Attributes:
        kept: the user's name → what it is. outside: a softmax that was left out. unsent: the first operation that could
            send spikes if they could be below 0.
    """

    def __init__(self, surgery: Surgery, neuron: Neuron, shapes: Shapes, positive: set[str]) -> None:
        self.surgery: Surgery = surgery
        self.neuron: Neuron = neuron
        self.shapes: Shapes = shapes
        self.positive: set[str] = positive
        self.kept: dict[str, str] = {}
        self.outside: str = ""
        self.unsent: str = ""
        self.above: dict[str, bool] = {}  # operation → whether it sends nothing below 0

    def is_operation(self, item: fx.Node) -> bool:
        """Whether a node is a user's operation that is neither linear nor a maximum."""
        module = self.surgery.get(item)
        if isinstance(module, Restimulate):
            return module.scaling == "none"
        if not isinstance(module, Merged) or isinstance(module.body, (*MAXIMA, nn.Dropout, _DropoutNd)):
            return False
        return nature(module.body) == OTHER

    def keep(self, item: fx.Node, path: str, kind: str) -> fx.Node | None:
        """Let an operation work on means over time; leave a softmax at the end out of the network.

        Args:
            item: its node. path: the user's name. kind: class of the activation; "" for another operation.

        Returns:
            The node for a neuron that sends its values to the layers behind, if one must be put there.

        Raises:
            ValueError: an activation with values below 0 that a format without them would have to send.
        """
        module = self.surgery.get(item)
        body = OneStep(module) if isinstance(module, Restimulate) else module
        body = module.body if isinstance(module, Merged) else body
        assert body is not None
        what = kind or _what(body)
        source = item.all_input_nodes[0].name
        if (
            what in _SOFTMAX
            and _is_last(self.surgery, item, self.shapes)
            and _keeps_order(body, self.shapes.get(source))
        ):
            self.outside = f"{what} ({path or item.name})"
            self.surgery.remove(item)
            return None
        if not isinstance(module, Merged) and kind in _AXES:
            raise _refused(path or item.name, kind)
        self.above[item.name] = self._is_above(item, body, what)
        self.surgery.put(item, TallyMap(body, what))
        self.kept[path or item.name] = what
        if not any(_leads_to_weights(self.surgery, user) for user in item.users):
            return None
        if not self.above[item.name] and not self.neuron.format.signed:
            if kind:
                check_slope(self.neuron, kind, True, path)
            self.unsent = self.unsent or path or item.name
            return None  # a product, say: its values are read as they are
        return self._send(item)

    def no_spikes(self) -> ValueError:
        """What to raise for a network in which nothing sends spikes."""
        label = self.neuron.format.label()
        if self.unsent:
            must = "its values may lie below 0, so the format must be signed"
            return bad_value(f"{WHERE} {self.unsent}", must, label, "take Signed(D, decay=1.0)")
        only = f"only {', '.join(self.kept)}, behind which there are none" if self.kept else "none"
        must = "the model must have activations" + (" in front of weights" if self.kept else "")
        return bad_value(WHERE, must, only, "a network without any needs no conversion")

    def rectifier(self, item: fx.Node) -> Rectifier:
        """What the neuron behind an operation is to send."""
        module = self.surgery.get(item)
        assert isinstance(module, TallyMap)
        return Rectifier(module.what, slope=float(not self.above[item.name]))

    def check(self, item: fx.Node, path: str) -> None:
        """Raise `ValueError` unless a mean over time passes through a layer unchanged; note what is kept as it is."""
        module, surgery = self.surgery.get(item), self.surgery
        if item.op in ("placeholder", "output") or isinstance(module, (Encoder, Synapse, Affine, nn.Identity)):
            return
        dropped = isinstance(module, Merged) and isinstance(module.body, (nn.Dropout, _DropoutNd))
        if dropped or isinstance(module, Detach):
            surgery.remove(item)
        elif isinstance(module, Merged):
            if nature(module.body) != MOVES:
                self.kept[path or item.name] = _what(module.body)
        elif isinstance(module, nn.Dropout) or (isinstance(module, TimeLayer) and module.scaling == "linear"):
            return
        elif module is not None or not (len(summands(item)) > 1 or kind_of(item) in _MOVED):
            raise _refused(path or item.name, type(module).__name__ if module is not None else name_of(item))

    def _send(self, item: fx.Node) -> fx.Node:
        """A node between an operation and all that reads it."""
        name = self.surgery.free(f"{item.name}_spikes")
        self.surgery.module.add_module(name, nn.Identity())
        with self.surgery.module.graph.inserting_after(item):
            made = self.surgery.module.graph.call_module(name, (item,))
        item.replace_all_uses_with(made, delete_user_cb=lambda user: user is not made)
        self.shapes[made.name] = self.shapes[item.name]
        return made

    def _is_above(self, item: fx.Node, body: nn.Module, what: str) -> bool:
        """Whether an operation sends nothing below 0, from the code alone."""
        if what in _ABOVE_0:
            return True
        calls = [n for n in body.graph.nodes if n.op.startswith("call")] if isinstance(body, fx.GraphModule) else []
        if len(calls) > 1:
            return False
        if what == "Hardtanh":
            return limits(None if calls else body, calls[0] if calls else None)[0] >= 0
        return what == "mul" and not calls[0].kwargs and self._all_above(item.all_input_nodes)

    def _all_above(self, nodes: list[fx.Node]) -> bool:
        return bool(nodes) and all(self._carries_above(node) for node in nodes)

    def _carries_above(self, item: fx.Node) -> bool:
        module = self.surgery.get(item)
        if isinstance(module, Neuron):
            return module.format.slope == 1 and (not module.format.signed or bool(getattr(module, "cancels_only", 0)))
        if isinstance(module, TallyMap):
            return self.above.get(item.name, False)
        if isinstance(module, Gain):
            return item.name in self.positive and self._all_above(item.all_input_nodes)
        if isinstance(module, (Synapse, Affine, Encoder)):
            return False
        if isinstance(module, Merged) and not module.keeps_format:
            resizes = isinstance(module.body, nn.Upsample) and module.body.mode not in _OVERSHOOTS
            if not resizes and "Pool" not in type(module.body).__name__:
                return False
        elif isinstance(module, TimeLayer):
            if module.scaling not in ("linear", "positive"):
                return False
        elif module is None and not summands(item) and kind_of(item) not in _MOVED:
            return False
        return self._all_above(item.all_input_nodes)


def mixes(surgery: Surgery, item: fx.Node, shapes: Shapes) -> bool:
    """Whether a layer that reads a node's spikes makes one channel of several, so that they must share a range."""
    for user in item.users:
        module = surgery.get(user)
        if not _passes_spikes(surgery, user):
            continue
        shape = shapes.get(item.name)
        if shape is not None and isinstance(module, TimeLayer) and module.mixes(shape):
            return True
        if mixes(surgery, user, shapes):
            return True
    return False


def _leads_to_weights(surgery: Surgery, item: fx.Node) -> bool:
    """Whether a node is a synapse, or what it passes on reaches one."""
    if isinstance(surgery.get(item), Synapse):
        return True
    return _passes_spikes(surgery, item) and any(_leads_to_weights(surgery, user) for user in item.users)


def _passes_spikes(surgery: Surgery, item: fx.Node) -> bool:
    """Whether a node hands on what it reads: moved, pooled, resized or multiplied by a constant."""
    module = surgery.get(item)
    if module is None:
        return kind_of(item) in _MOVED
    if isinstance(module, Merged) and isinstance(module.body, MAXIMA):
        return True
    linear = isinstance(module, TimeLayer) and module.scaling in ("linear", "positive")
    return (linear and not isinstance(module, MeanReadout)) or isinstance(module, (nn.Identity, nn.Dropout))


def _is_last(surgery: Surgery, item: fx.Node, shapes: Shapes) -> bool:
    """Whether nothing that changes the order of the classes is between a node and the end of the network."""
    one_place = math.prod(shapes.get(item.all_input_nodes[0].name, (0,) * 4)[3:]) == 1  # moves only drop axes
    for user in item.users:
        module = surgery.get(user)
        moved = isinstance(module, TimeLayer) and module.keeps_format and not isinstance(module, Synapse)
        same = isinstance(module, (nn.Identity, nn.Dropout)) or (moved and one_place)
        if (
            user.op != "output"
            and not isinstance(module, MeanReadout)
            and not (same and _is_last(surgery, user, shapes))
        ):
            return False
    return True


@torch.no_grad()
def _keeps_order(body: nn.Module, shape: tuple[int, ...] | None) -> bool:
    """Whether a softmax runs over axis 1 of [B, K, ...], so that the greatest logit stays the greatest."""
    if shape is None or len(shape) < 3:
        return False
    x = torch.randn(4, *shape[2:], generator=torch.Generator().manual_seed(0)).double()
    try:
        return bool((body(x).argmax(1) == x.argmax(1)).all())
    except RuntimeError:
        return False


def _what(body: nn.Module) -> str:
    """A name for people: the class of a module, or what the last call of a piece of a graph calls."""
    if isinstance(body, OneStep):
        return type(body.layer).__name__
    if not isinstance(body, fx.GraphModule):
        return type(body).__name__
    last = next(node for node in reversed(body.graph.nodes) if node.op.startswith("call"))
    while name_of(last) == "getitem" and last.all_input_nodes[0].op.startswith("call"):
        last = last.all_input_nodes[0]
    return type(body.get_submodule(str(last.target))).__name__ if last.op == "call_module" else name_of(last)


def _refused(where: str, what: str) -> ValueError:
    must = "a network of bitspike's own layers must be made of synapses, norms, pools, modules of activations and sums"
    todo = "pass a network of torch's layers over [B, ...], in which any operation may stand"
    return bad_value(f"{WHERE} {where}", must, what, todo)
