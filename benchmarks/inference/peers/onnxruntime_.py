"""ONNX Runtime on the unrolled graph."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import onnxruntime
from graphs import Form, Unrolled, forms
from network import Exported, read

from .base import Array, Call, Order, Ready
from .contest import fastest

VERSIONS = {name: version(name) for name in ("onnxruntime", "onnx")}


def ready(order: Order, x: Array) -> Ready:
    """The fastest form of the graph."""
    exported = read(order.folder)

    def setting(form: Form) -> Callable[[], Call]:
        def make() -> Call:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = order.threads, 1
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
            model = Unrolled(exported, order.batch, form).model().SerializeToString()
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            return lambda images: session.run(None, {"images": images})[0]  # type: ignore[no-any-return]

        return make

    kinds = forms("int8" in order.peer, exported.T)
    if order.peer.endswith("int8") and exported.T == 1 and _narrow(exported):
        # its optimizer takes the limit before a quantization away, and spikes beyond their greatest level appear
        kinds = [form for form in kinds if not form.rounding]
    settings = {form.name: setting(form) for form in kinds}
    chosen, found = fastest(order, settings, x)
    return Ready(settings[chosen](), {"setting": chosen, "contest_ms": found})


def _narrow(exported: Exported) -> bool:
    """Whether a neuron has fewer levels than 8 bits."""
    return any(layer["kind"] == "neuron" and layer["count"] < 255 for layer in exported.layers)
