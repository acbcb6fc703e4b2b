"""ExecuTorch with XNNPACK's kernels: the unrolled network in float32, or quantized to 8 bits by XNNPACK's quantizer.

The quantizer gives currents 8 bits too, since XNNPACK's 8-bit convolutions write 8 bits: that network is another one,
and its own accuracy stands beside it.
"""

from __future__ import annotations

import os
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("LOG_LEVEL", "ERROR")

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Runtime
from network import read
from plain import Plain

from .base import Array, Order, Ready

VERSIONS = {name: version(name) for name in ("executorch", "torchao", "torch")}
CALIBRATED = 64
"""Training images by which observers find ranges."""


def ready(order: Order, x: Array) -> Ready:
    """XNNPACK where it takes an operator, ExecuTorch's portable operators elsewhere."""
    portable_lib._unsafe_reset_threadpool(order.threads)
    if portable_lib._threadpool_get_thread_count() != order.threads:
        raise RuntimeError(f"ExecuTorch must have {order.threads} threads")
    int8 = order.peer.endswith("int8")
    path = order.cache / "executorch" / f"{order.folder.name}-b{order.batch}-{'int8' if int8 else 'fp32'}.pte"
    parts = path.with_suffix(".txt")
    if not parts.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, parts, Plain(read(order.folder)).eval(), torch.from_numpy(x), order.cache if int8 else None)
    program = Runtime.get().load_program(path)
    method = program.load_method("forward")

    def call(images: Array, program: Any = program) -> Array:
        return method.execute([torch.from_numpy(images)])[0].numpy().copy()  # type: ignore[no-any-return]

    return Ready(call, {"setting": parts.read_text()}, exact=not int8)


def _write(path: Path, parts: Path, network: Any, x: Any, calibration: Path | None) -> None:
    """The lowered program, and what runs where."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if calibration is not None:
            network = _quantized(network, x, calibration)
        edge = to_edge_transform_and_lower(torch.export.export(network, (x,)), partitioner=[XnnpackPartitioner()])
        nodes = [node for node in edge.exported_program().graph.nodes if node.op == "call_function"]
        delegated = sum("delegate" in str(node.target) for node in nodes)
        others = sum("getitem" not in str(node.target) for node in nodes) - delegated
        path.write_bytes(edge.to_executorch().buffer)
    parts.write_text(f"{delegated} parts by XNNPACK, {others} portable operators")


def _quantized(network: Any, x: Any, cache: Path) -> Any:
    """By the recipe of ExecuTorch's own documentation: observe, then convert."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.export(network, (x,)).module(), quantizer)
    with np.load(cache / "ann" / "calibration.npz") as file:
        images = torch.from_numpy(np.ascontiguousarray(file["images"][:CALIBRATED]))
    for i in range(0, len(images) - len(x) + 1, len(x)):
        prepared(images[i : i + len(x)])
    return convert_pt2e(prepared)
