"""Compiled in one graph and exported with a dynamic batch, a neuron or quantizer gives what it gives in eager mode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bitspike.checks import message
from bitspike.testing.expectations import ConformanceError, expect_same, gradients


def expect_compiles(module: nn.Module, x: Tensor, other: Tensor | None, where: str) -> None:
    """Fail unless compiled and exported outputs, and compiled gradients, have the bits of eager mode.

    Args:
        module: called with one tensor.
        x: example.
        other: an input that differs in its batch (axis 1), for the exported program; None where there is no batch.
    """
    torch.compiler.reset()
    todo = "keep to tensor operations that do not depend on values"
    leaves = [x.detach().clone().requires_grad_(), *module.parameters()]
    shapes = None if other is None else ({1: torch.export.Dim("batch")},)
    try:
        found = torch.compile(module, backend="aot_eager", fullgraph=True)(leaves[0])
        program = torch.export.export(module, (x.detach(),), dynamic_shapes=shapes).module()
        exported = [program(example.detach()) for example in (x, x if other is None else other)]
    except Exception as error:
        must = "compiling in one graph and exporting with a dynamic batch must work"
        raise ConformanceError(message(where, must, f"{type(error).__name__}: {str(error)[:200]}", todo)) from error
    finally:
        torch.compiler.reset()
    wanted = module(leaves[0])
    expect_same(found.detach(), wanted.detach(), where, "compiled and eager outputs must have equal bits", todo)
    for one, reference in zip(gradients(found, leaves), gradients(wanted, leaves), strict=True):
        if one is not None and reference is not None:
            expect_same(one, reference, where, "compiled and eager gradients must have equal bits", todo)
    for got, example in zip(exported, (x, x if other is None else other), strict=True):
        must = "exported and eager outputs must have equal bits"
        expect_same(got.detach(), module(example.detach()).detach(), where, must, todo)
