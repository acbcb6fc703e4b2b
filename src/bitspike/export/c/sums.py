"""Weighted sums: what a window holds is looked at once, then every output goes through what is not silent."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitspike.runtime.arithmetic import Array
from bitspike.runtime.spec import Value

from .choice import kernel_for
from .kernels import Kernel
from .names import scalar
from .pools import sides_of, two
from .schedule import Task
from .writing import Function


def constant_of(f: Function, made: Any, role: str) -> Any:
    """The constant of the spec that plays a role."""
    return f.unit.program.spec.constants[made.op.tensors[role]]


def convolution(f: Function, task: Task, made: Any) -> None:
    """Output places, then groups, then outputs; a window lies place by place, channels innermost."""
    at, (x,), (y,) = made.attributes, made.read, made.written
    weight = made.constants["weight"]
    groups = at["groups"]
    kernel = two(weight.shape[2:], 1)
    stride, dilation, before = two(at["stride"], 1), two(at["dilation"], 1), two(at["before"], 0)
    (height, width), (rows, columns) = sides_of(x.shape), sides_of(y.shape)
    outputs, inputs = len(weight) // groups, weight.shape[1]
    flat = np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
    chosen = kernel_for(f, constant_of(f, made, "weight"), flat, x, y, task.reads[0], outputs)
    pixel = f"{'g * ' + str(inputs) + 'u * ' + str(height * width) + 'u + ' if groups > 1 else ''}iy * {width}u + ix"
    gather = [
        *chosen.begin(),
        "uint32_t j = 0;",
        f"for (uint32_t ky = 0; ky < {kernel[0]}u; ky++) {{",
        f"const uint32_t iy = qy * {stride[0]}u + ky * {dilation[0]}u - {before[0]}u;",
        f"if (iy >= {height}u) {{ j += {kernel[1] * inputs}u; continue; }}",
        f"for (uint32_t kx = 0; kx < {kernel[1]}u; kx++) {{",
        f"const uint32_t ix = qx * {stride[1]}u + kx * {dilation[1]}u - {before[1]}u;",
        f"if (ix >= {width}u) {{ j += {inputs}u; continue; }}",
        f"uint32_t e = {pixel};",
        f"for (uint32_t k = 0; k < {inputs}u; k++, j++, e += {height * width}u) {{",
        *chosen.each(f.load(task.reads[0], "e")),
        "}",
        "}",
        "}",
        *chosen.end(),
    ]
    f.body += [
        f"for (uint32_t qy = 0; qy < {rows}u; qy++) {{",
        f"for (uint32_t qx = 0; qx < {columns}u; qx++) {{",
        *([f"for (uint32_t g = 0; g < {groups}u; g++) {{"] if groups > 1 else []),
        *gather,
    ]
    f.tail = ["}"] * (3 if groups > 1 else 2) + f.tail
    _summed(f, made, chosen, y, groups, f"o * {rows * columns}u + qy * {columns}u + qx")


def linear(f: Function, task: Task, made: Any) -> None:
    """One window, the whole input."""
    (x,), (y,) = made.read, made.written
    weight = made.constants["weight"]
    chosen = kernel_for(f, constant_of(f, made, "weight"), weight, x, y, task.reads[0], len(weight))
    f.body += [
        *chosen.begin(),
        f"for (uint32_t j = 0; j < {x.size}u; j++) {{",
        *chosen.each(f.load(task.reads[0], "j")),
        "}",
        *chosen.end(),
    ]
    _summed(f, made, chosen, y, 1, "o")


def _summed(f: Function, made: Any, chosen: Kernel, y: Value, groups: int, index: str) -> None:
    """Blocks of outputs, and what follows for each of them."""
    outputs, block = chosen.outputs, chosen.block
    first = f"g * {outputs}u + n" if groups > 1 else "n"
    number = f"n / {block}u" if block > 1 else "n"
    if groups > 1:
        number = f"g * {-(-outputs // block)}u + {number}"
    f.body += [
        f"for (uint32_t n = 0; n < {outputs}u; n += {block}u) {{",
        f"uint32_t o = {first};",
        f"{chosen.sum} sums[{block}];",
        chosen.sums(number),
        f"for (uint32_t r = 0; r < {block}u{f' && n + r < {outputs}u' if outputs % block else ''}; r++, o++) {{",
        f"const uint32_t i = {index};",
        "(void)i;",
    ]
    f.tail = ["}", "}", *f.tail]
    total = "sums[r]"
    bias: Array | None = made.constants.get("bias")
    if bias is not None:
        total += f" + {f.constant(bias.reshape(1, -1))}"
    name = f"t{f.unit.numbers[made.op.outputs[0]]}"
    f.body.append(f"{scalar(y.low, y.high)} {name} = {total};")
    f.result(made.op.outputs[0], name)
