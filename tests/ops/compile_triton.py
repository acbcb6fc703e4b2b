"""Compile the Triton kernels as `scan_triton` launches them, for GPUs that need not be there; one JSON line a kernel.

A script, to be run without ``TRITON_INTERPRET``: the launch is caught and its arguments compiled ahead of time.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.insert(0, str(Path(__file__).parents[1]))

from bitspike.ops import scan_triton_kernels
from ops.test_scan import arm

TARGETS = {80: ("lif", "ternary"), 90: ()}  # for these arms; none: for all
ARMS = (
    *(("lif", 4), ("lif", 32), ("multibit", 4), ("real", 2)),  # class M
    *(("lif-soft-open", 2), ("ternary", 4), ("ternary-channels", 9), ("integer-hard", 4), ("real-surrogate", 8)),
)
scan_triton = import_module("bitspike.ops.scan_triton")  # the package's name of this name is the function
NAMES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.uint8: "*u8"}


def signature(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return NAMES[value.dtype]
    return "i32" if isinstance(value, int) else "fp32"


class Launch:
    """Stands in for a kernel: ``launch[grid](...)`` compiles it."""

    def __init__(self, name: str, about: dict[str, Any], target: int) -> None:
        self.name, self.about, self.target = name, about, target
        self.kernel = getattr(scan_triton_kernels, name)

    def __getitem__(self, grid: tuple[int, ...]) -> Launch:
        return self

    def __call__(self, *args: Any, num_warps: int, enable_fp_fusion: bool, **named: Any) -> None:
        kernel = self.kernel
        given = dict(zip(kernel.arg_names, args, strict=False)) | named
        constant = {p.name for p in kernel.params if p.is_constexpr} | {k for k, v in given.items() if v is None}
        types = {name: "constexpr" if name in constant else signature(given[name]) for name in kernel.arg_names}
        aligned = [
            i for i, name in enumerate(kernel.arg_names) if types[name][0] == "*" or name in ("size", "row_bytes")
        ]
        source = ASTSource(
            fn=kernel,
            signature=types,
            constexprs={(kernel.arg_names.index(name),): given[name] for name in constant},
            attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
        )
        options = {"num_warps": num_warps, "enable_fp_fusion": enable_fp_fusion}
        made = triton.compile(source, target=GPUTarget("cuda", self.target, 32), options=options)
        code = made.asm["ptx"]
        found = {
            "machine_code": len(made.asm["cubin"]),
            "contracted": len(re.findall(r"\bfma\.rn(?:\.ftz)?\.f32", code)),
            "wide_loads": len(re.findall(r"ld\.global\S*\.v4\.b32", code)),
            "wide_stores": len(re.findall(r"st\.global\S*\.v4\.b32", code)),
        }
        print(json.dumps({"kernel": self.name, "target": self.target, **self.about, **found}))


def main() -> None:
    real = scan_triton._kernels()
    for name, T in ARMS:
        spec = arm(name, 8).fused()
        x = torch.zeros(T, 4, 8, 32, 32, dtype=torch.bfloat16)
        learned = [t if t is None else t.detach() for t in (spec.decay, spec.amplitude)]
        given = x, None, *learned, list(spec.codes), list(spec.numbers)
        for target, only in TARGETS.items():
            if only and name not in only:
                continue
            about = {"arm": name, "steps": min(T, scan_triton.segments(T)[1])}
            for kernel in ("forward", "backward_bits", "backward_again"):
                setattr(Stand, kernel, Launch(kernel, about, target))
            scan_triton._kernels = lambda: Stand
            _, _, bits, marks = scan_triton._forward(*given, False, True)
            scan_triton._backward(x, None, *given[:4], bits, *given[4:], x.shape, False, False, marks)
            scan_triton._kernels = lambda: real


class Stand:
    """Where the kernels would be."""


if __name__ == "__main__":
    main()
