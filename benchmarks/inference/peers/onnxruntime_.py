"""ONNX Runtime on the unrolled graph."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import onnxruntime
from graphs import Form, Unrolled, forms
from network import read

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

    settings = {form.name: setting(form) for form in forms("int8" in order.peer, exported.T)}
    chosen, found = fastest(order, settings, x)
    return Ready(settings[chosen](), {"setting": chosen, "contest_ms": found})
