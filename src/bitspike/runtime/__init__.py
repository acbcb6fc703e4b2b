"""Runs integer programs: what a folded network means on a device, without torch and without floating point."""

from .autotune import autotune
from .builder import Builder
from .errors import ProgramError
from .file import load, save
from .interpreter import State
from .plan import Plan
from .program import Program, Result
from .spec import INPUT, Constant, Grid, Input, Op, Output, Spec, Value
from .verifier import verify

__all__ = [
    "INPUT",
    "Builder",
    "Constant",
    "Grid",
    "Input",
    "Op",
    "Output",
    "Plan",
    "Program",
    "ProgramError",
    "Result",
    "Spec",
    "State",
    "Value",
    "autotune",
    "load",
    "save",
    "verify",
]
