"""Nodes, constants and files of ONNX: the same graph gives the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from bitspike.checks import message
from bitspike.runtime.arithmetic import Array

OPSET = 18
IR_VERSION = 9
"""What ONNX Runtime 1.14 and later read; newer ones of the package write versions that runtimes do not know yet."""


def need_onnx() -> ModuleType:
    """The onnx package.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        todo = "run `pip install bitspike[onnx]`"
        raise ImportError(message("export to onnx", "the onnx package must be installed", error, todo)) from error
    return onnx


def need_onnxruntime() -> ModuleType:
    """The onnxruntime package.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        must, todo = "onnxruntime must be installed", "run `pip install bitspike[onnx]`"
        raise ImportError(message("export to onnx-float", must, error, todo)) from error
    return onnxruntime


class Nodes:
    """Collects the nodes of one graph or of the body of a loop; equal nodes and equal constants are made once.

    Args:
        prefix: of the names made here; a body needs another one than the graph around it.

    Attributes:
        alone: names of tensors without a batch axis: constants, and what is made of them only.
    """

    def __init__(self, prefix: str = "") -> None:
        self.onnx: ModuleType = need_onnx()
        self.prefix: str = prefix
        self.nodes: list[Any] = []
        self.constants: dict[tuple[Any, ...], str] = {}
        self.initial: list[Any] = []
        self.made: dict[tuple[Any, ...], tuple[str, ...]] = {}
        self.alone: set[str] = set()

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node with one output (the first of several); its name."""
        return self.several(kind, *inputs, outputs=outputs, **attributes)[0]

    def several(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> tuple[str, ...]:
        """A node with so many outputs; their names."""
        key = (kind, inputs, outputs, repr(sorted(attributes.items())))
        if key not in self.made:
            names = tuple(
                f"{self.prefix}{kind}_{len(self.nodes)}_{i}"[: -2 if outputs == 1 else None] for i in range(outputs)
            )
            self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), list(names), names[0], **attributes))
            self.made[key] = names
            if inputs and self.alone.issuperset(inputs):
                self.alone.update(names)
        return self.made[key]

    def named(self, source: str, name: str) -> None:
        """Another name for a value: that of an output."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [source], [name], f"{self.prefix}Name_{name}"))

    def const(self, array: Any, dtype: Any = np.float32) -> str:
        """A constant; its name."""
        exact = np.asarray(array)
        stored = np.array(exact, dtype, order="C")
        if not np.array_equal(stored.astype(exact.dtype), exact):
            raise ArithmeticError(f"a constant does not fit {np.dtype(dtype)}")  # a fault of the exporter
        key = (stored.dtype.str, exact.shape, stored.tobytes())
        if key not in self.constants:
            self.constants[key] = f"{self.prefix}constant_{len(self.constants)}"
            self.initial.append(self.onnx.numpy_helper.from_array(stored, self.constants[key]))
            self.alone.add(self.constants[key])
        return self.constants[key]

    def cast(self, x: str, dtype: Any) -> str:
        """x as another type."""
        return self.add("Cast", x, to=self.type_of(dtype))

    def type_of(self, dtype: Any) -> int:
        """ONNX's number of a NumPy type."""
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def info(self, name: str, dtype: Any, shape: Sequence[Any]) -> Any:
        """What is declared of an input or output; None and texts are free axes."""
        return self.onnx.helper.make_tensor_value_info(name, self.type_of(dtype), list(shape))

    def graph(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """The graph of what was collected."""
        return self.onnx.helper.make_graph(self._settled(), name, list(inputs), list(outputs), self.initial)

    def _settled(self) -> list[Any]:
        """The nodes; what is an output and is made here bears its name from the start.

        ONNX Runtime 1.32 refuses some graphs in which a value goes into an output by an Identity and elsewhere into a
        node that it fuses ("is not a graph input, initializer, or output of a previous node").
        """
        taken = {
            name for node in self.nodes for part in node.attribute for inner in part.g.node for name in inner.input
        }
        renamed: dict[str, str] = {}
        made: set[str] = set()
        kept = []
        for node in self.nodes:
            source = node.input[0] if node.input else ""
            if node.op_type == "Identity" and source in made - taken - renamed.keys():
                renamed[source] = node.output[0]
            else:
                made.update(node.output)
                kept.append(node)
        found = []
        for node in kept:
            copied = self.onnx.NodeProto.FromString(node.SerializeToString())
            for names in (copied.input, copied.output):
                names[:] = [renamed.get(name, name) for name in names]
            found.append(copied)
        return found

    def file(self, graph: Any, facts: Mapping[str, Any], domains: Mapping[str, int] | None = None) -> bytes:
        """The bytes of a model file, checked."""
        opsets = {"": OPSET, **(domains or {})}
        model = self.onnx.helper.make_model(
            graph,
            producer_name="bitspike",
            ir_version=IR_VERSION,
            opset_imports=[self.onnx.helper.make_opsetid(*pair) for pair in opsets.items()],
        )
        for key, value in facts.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = f"bitspike.{key}", json.dumps(value)
        if not domains:
            self.onnx.checker.check_model(model)
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def spread(array: Array, axes: int) -> Array:
    """[C] or [1] (or rows of them) to broadcast over [B, C, ...] of so many axes from C on."""
    return array.reshape(*array.shape, *[1] * (axes - 1))
