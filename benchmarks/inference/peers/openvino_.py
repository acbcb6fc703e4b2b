"""OpenVINO on the unrolled graph, or on the ReLU network quantized by NNCF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import openvino as ov
from graphs import Form, Unrolled, forms
from network import read

from .base import Array, Call, Order, Ready
from .contest import fastest

VERSIONS = {name: version(name) for name in ("openvino", "nncf", "onnx")}
PRECISIONS: dict[str, dict[str, Any]] = {"default precision": {}, "float32": {"INFERENCE_PRECISION_HINT": "f32"}}


def ready(order: Order, x: Array) -> Ready:
    """The fastest form and setting of what the peer's name says."""
    core = ov.Core()
    ann = order.peer == "openvino-ann-int8"
    only_f32 = order.peer.endswith("f32") or order.peer.endswith("fp32")
    precisions = {k: v for k, v in PRECISIONS.items() if v or not only_f32}
    exported = read(order.folder)
    compiled: dict[str, Any] = {}

    def setting(name: str, form: Form | None, options: dict[str, Any]) -> Callable[[], Call]:
        def make() -> Call:
            if name not in compiled:
                model = _ann(core, order) if form is None else _model(exported, order, form)
                compiled[name] = core.compile_model(model, "CPU", _options(order) | options)
            request = compiled[name].create_infer_request()

            def call(images: Array) -> Array:
                request.infer([images], share_inputs=True)
                return request.get_output_tensor(0).data.copy()  # type: ignore[no-any-return]

            return call

        return make

    kinds = [None] if ann else forms("int8" in order.peer, exported.T)
    pairs = {
        f"{'NNCF' if form is None else form.name}; {hint}": (form, options)
        for form in kinds
        for hint, options in precisions.items()
    }
    settings = {name: setting(name, *pair) for name, pair in pairs.items()}
    chosen, found = fastest(order, settings, x)
    call = settings[chosen]()
    facts = {"setting": chosen, "contest_ms": found, "kernels": _kernels(compiled[chosen])}
    return Ready(call, facts, exact=not ann and bool(pairs[chosen][1]))  # the default computes in bf16


def _options(order: Order) -> dict[str, Any]:
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": order.threads, "NUM_STREAMS": 1}


def _model(exported: Any, order: Order, form: Form) -> Any:
    path = (
        order.cache
        / "graphs"
        / f"{order.folder.name}-b{order.batch}-{form.int8:d}{form.merged:d}{form.rounding:d}.onnx"
    )
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Unrolled(exported, order.batch, form).model().SerializeToString())
    return ov.Core().read_model(path)


def _ann(core: Any, order: Order) -> Any:
    """The ReLU network with its batch norm folded, 8 bits by NNCF on training images."""
    import nncf
    import numpy as np
    import torch

    folder = order.cache / "ann"
    path = folder / "int8.xml"
    if not path.exists():
        with np.load(folder / "calibration.npz") as file:
            images = file["images"]
        with torch.no_grad():
            network = torch.jit.load(folder / "ann.pt").eval()
            model = ov.convert_model(network, example_input=torch.from_numpy(images[:1]), input=[[-1, 3, 32, 32]])
        data = nncf.Dataset([images[i : i + 1] for i in range(len(images))])
        quantized = nncf.quantize(model, data, subset_size=len(images), preset=nncf.QuantizationPreset.PERFORMANCE)
        ov.save_model(quantized, path, compress_to_fp16=False)
    model = core.read_model(path)
    model.reshape([order.batch, 3, 32, 32])
    return model


def _kernels(compiled: Any) -> dict[str, int]:
    """Precision and kind of what runs convolutions: how many."""
    found: Counter[str] = Counter()
    for op in compiled.get_runtime_model().get_ops():
        info = {
            key: str(op.rt_info[key].value if hasattr(op.rt_info[key], "value") else op.rt_info[key])
            for key in op.rt_info
        }
        if "Conv" in info.get("layerType", ""):
            found[f"{info.get('runtimePrecision', '?')} {info.get('primitiveType', '?')}"] += 1
    return dict(found)
