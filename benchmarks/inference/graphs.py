"""An exported network as an ONNX graph, unrolled over its steps: float32, or 8-bit synapses between quantized spikes.

8-bit: every spike leaves its neuron through QuantizeLinear and DequantizeLinear whose scale is the neuron's spacing, so
rounding is firing; weights are the program's int8 levels behind DequantizeLinear. Membranes stay float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from network import Exported, Layer
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Form:
    """How the graph is written; all forms mean the same.

    Args:
        int8: quantized synapses. merged: layers without memory see all steps as one batch, else step by step.
        rounding: spikes are the rounded membrane (one quantization), else comparisons and floors.
    """

    int8: bool
    merged: bool
    rounding: bool

    @property
    def name(self) -> str:
        """For the record."""
        order = "time merged into the batch" if self.merged else "step by step"
        return f"{order}, {'rounded' if self.rounding else 'compared'}"


def forms(int8: bool, T: int) -> list[Form]:
    """All that may be fastest."""
    return [
        Form(int8, merged, rounding) for merged in ((False,) if T == 1 else (True, False)) for rounding in (True, False)
    ]


class Unrolled:
    """Writes the graph of a network for a fixed batch."""

    def __init__(self, exported: Exported, batch: int, form: Form) -> None:
        self.exported, self.batch, self.form, self.T = exported, batch, form, exported.T
        self.nodes: list[Any] = []
        self.initial: dict[str, Any] = {}
        self.count = 0

    def model(self) -> onnx.ModelProto:
        """The graph: "images" [B, 3, H, W] → "logits" [B, K]."""
        values: dict[str, list[str]] = {}
        shape = [self.batch, 3, 32, 32]
        for layer in self.exported.layers:
            values[layer["name"]] = self._layer(layer, [values[name] for name in layer["inputs"]])
        self._add("Identity", [values[self.exported.layers[-1]["name"]][0]], "logits")
        graph = helper.make_graph(
            self.nodes,
            "unrolled",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [self.batch, None])],
            [numpy_helper.from_array(array, name) for name, array in self.initial.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        return model

    def _add(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        self.count += 1
        output = output or f"{kind}_{self.count}"
        self.nodes.append(helper.make_node(kind, inputs, [output], f"node_{self.count}", **attributes))
        return output

    def _constant(self, array: Any, dtype: Any = np.float32) -> str:
        name = f"constant_{len(self.initial)}"
        self.initial[name] = np.asarray(array, dtype)
        return name

    def _quantized(self, x: str, scale: float, signed: bool) -> str:
        """x rounded to multiples of a scale in 8 bits, as a real number again."""
        pair = [self._constant(scale), self._constant(0, np.int8 if signed else np.uint8)]
        return self._add("DequantizeLinear", [self._add("QuantizeLinear", [x, *pair]), *pair])

    def _layer(self, layer: Layer, inputs: list[list[str]]) -> list[str]:
        """Names of a layer's values: one a step, or one where all steps are equal or merged."""
        kind = layer["kind"]
        if kind == "input":
            given = self.exported.given
            if self.form.int8:
                return [self._quantized("images", given["step"], True)]
            x = self._add("Div", ["images", self._constant(given["step"])])
            x = self._add(
                "Clip", [self._add("Round", [x]), self._constant(given["low"]), self._constant(given["high"])]
            )
            return [self._add("Mul", [x, self._constant(given["step"])])]
        if kind in ("repeat", "output"):
            return inputs[0]
        if kind == "neuron":
            return self._neuron(layer, inputs[0])
        if kind == "readout":
            return [self._readout(layer, inputs[0])]
        count = max(map(len, inputs))
        return [self._apply(layer, [x[min(t, len(x) - 1)] for x in inputs]) for t in range(count)]

    def _apply(self, layer: Layer, x: list[str]) -> str:
        """A layer without memory."""
        kind, scaled = layer["kind"], self.form.int8
        if kind in ("conv", "linear"):
            return self._synapse(layer, x[0])
        if kind == "gain":
            return self._add("Mul", [x[0], self._constant(self.exported.factor(layer, scaled))])
        if kind == "add":
            return self._add("Add", x)
        if kind == "pad":
            y = x[0]
            if layer["stride"] > 1:
                ends = [np.iinfo(np.int64).max] * 2
                pair = [self._constant(part, np.int64) for part in ([0, 0], ends, [2, 3], [layer["stride"]] * 2)]
                y = self._add("Slice", [y, *pair])
            pads = [0, layer["before"], 0, 0, 0, layer["behind"], 0, 0]
            return self._add("Pad", [y, self._constant(pads, np.int64)])
        if kind == "pool":
            side = [layer["kernel"]] * 2
            y = self._add("AveragePool", x, kernel_shape=side, strides=[layer["stride"]] * 2)
            y = self._add("Mul", [y, self._constant(layer["factor"])])
            # sums of spikes, multiples of their unit too: said so, or a runtime rounds their mean to a spike
            return self._quantized(y, self.exported.units[layer["name"]], True) if scaled else y
        assert kind == "average", kind
        y = self._add("ReduceMean", x, axes=[2, 3], keepdims=0)
        return self._add("Mul", [y, self._constant(layer["divisor"])]) if layer["divisor"] else y

    def _synapse(self, layer: Layer, x: str) -> str:
        levels, scale, bias = self.exported.weights(layer, self.form.int8)
        if layer["kind"] == "linear":  # the classifier stays float32 in every form: 640 multiplications
            weight = levels.astype(np.float32) * scale[:, None]
            return self._add("Gemm", [x, self._constant(weight), self._constant(bias)], transB=1)
        if self.form.int8:
            pair = [self._constant(scale), self._constant(np.zeros(len(scale)), np.int8)]
            weight = self._add("DequantizeLinear", [self._constant(levels, np.int8), *pair], axis=0)
        else:
            weight = self._constant(levels.astype(np.float32) * scale[:, None, None, None])
        place = {"strides": [layer["stride"]] * 2, "pads": [layer["padding"]] * 4, "kernel_shape": levels.shape[2:]}
        return self._add("Conv", [x, weight, self._constant(bias)], **place)

    def _neuron(self, layer: Layer, currents: list[str]) -> list[str]:
        steps = self._steps(currents)
        v = sent = ""
        found = []
        offset = layer["first"] - layer["spacing"] / 2 if self.form.rounding else 0.0  # of rounding against floor
        start = layer["initial"] - offset
        for t, current in enumerate(steps):
            u = self._add("Add", [current, v]) if v else current
            if not v and start:
                u = self._add("Add", [u, self._constant(start)])
            k = self._rounded(layer, u, sent) if self.form.rounding else self._compared(layer, u, sent)
            found.append(k)
            if t + 1 < len(steps):
                charge = layer["charge"] / (layer["spacing"] if self.form.int8 else 1.0)
                taken = k if charge == 1 else self._add("Mul", [k, self._constant(charge)])
                v = self._add("Sub", [u, taken])
                if layer["cancels"]:
                    sent = self._add("Add", [sent, k]) if sent else k
        return [self._add("Concat", found, axis=0)] if self.form.merged and len(found) > 1 else found

    def _rounded(self, layer: Layer, u: str, sent: str) -> str:
        """One quantization whose scale is the spacing, between the least and the greatest level."""
        unit, low = layer["spacing"], 0.0
        if layer["signed"] and (sent or not layer["cancels"]):
            low = -unit * layer["count"]
        u = self._add("Clip", [u, self._constant(low), self._constant(unit * layer["count"])])
        if sent:
            u = self._add("Max", [u, self._add("Neg", [sent])])
        if self.form.int8:
            return self._quantized(u, unit, layer["signed"])
        return self._add("Round", [u if unit == 1 else self._add("Div", [u, self._constant(unit)])])

    def _compared(self, layer: Layer, u: str, sent: str) -> str:
        """Comparisons, or a floor."""
        unit, count = layer["spacing"], layer["count"]
        if count == 1:
            up = self._add("GreaterOrEqual", [u, self._constant(layer["first"])])
            k = self._add("Cast", [up], to=TensorProto.FLOAT)
            if layer["signed"] and (sent or not layer["cancels"]):
                down = self._add("LessOrEqual", [u, self._constant(-layer["first"])])
                k = self._add("Sub", [k, self._add("Cast", [down], to=TensorProto.FLOAT)])
        else:
            if layer["signed"]:
                raise ValueError("graphs: graded signed spikes must be written by rounding, got comparisons")
            y = self._add("Mul", [u, self._constant(1 / unit)])
            if layer["first"] != unit:
                y = self._add("Add", [y, self._constant(1 - layer["first"] / unit)])
            k = self._add("Clip", [self._add("Floor", [y]), self._constant(0.0), self._constant(count)])
        if sent:
            known = sent if not self.form.int8 or unit == 1 else self._add("Div", [sent, self._constant(unit)])
            k = self._add("Max", [k, self._add("Neg", [known])])
        if not self.form.int8:
            return k
        k = k if unit == 1 else self._add("Mul", [k, self._constant(unit)])
        return self._quantized(k, unit, layer["signed"])

    def _steps(self, x: list[str]) -> list[str]:
        """One value a step."""
        if len(x) == self.T:
            return x
        if not self._is_merged(x[0]):
            return x * self.T
        self.count += 1
        names = [f"step_{self.count}_{t}" for t in range(self.T)]
        sizes = self._constant([self.batch] * self.T, np.int64)
        self.nodes.append(helper.make_node("Split", [x[0], sizes], names, f"node_{self.count}", axis=0))
        return names

    def _is_merged(self, name: str) -> bool:
        """Whether a value depends on something concatenated over time."""
        made = {output: node for node in self.nodes for output in node.output}
        todo, seen = [name], set()
        while todo:
            node = made.get(todo.pop())
            if node is None or node.name in seen:
                continue
            if node.op_type == "Concat":
                return True
            seen.add(node.name)
            todo += node.input
        return False

    def _readout(self, layer: Layer, x: list[str]) -> str:
        kept = [step for step, weight in zip(self._steps(x), layer["keep"], strict=True) if weight]
        total = self._add("Sum", kept) if len(kept) > 1 else kept[0]
        return total if len(kept) == 1 else self._add("Mul", [total, self._constant(1 / len(kept))])
