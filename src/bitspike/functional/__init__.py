"""Pure tensor functions that everything above is made of: charge, reset, firing and its surrogates, rounding."""

from bitspike.functional.dynamics import charge, reset_hard, reset_soft
from bitspike.functional.learned import (
    Widths,
    asked,
    follow,
    greatest_level,
    learns_bits,
    lsq_gain,
    processes,
    rounded,
    scale_gradient,
)
from bitspike.functional.quantize import (
    bit_planes,
    popcount,
    round_half,
    round_ste,
    sign_pm1,
    signs,
    unary_expand,
    unhidden,
)
from bitspike.functional.steps import LEAST_STEP, bounded, weight_bounds
from bitspike.functional.still import held, once, repeats, still
from bitspike.functional.surrogate import SURROGATES, Stairs, Surrogate, fire, fire_scaled
from bitspike.functional.surrogates import ATan, FastSigmoid, Rectangle, Sigmoid, Triangle

__all__ = [
    "LEAST_STEP",
    "SURROGATES",
    "ATan",
    "FastSigmoid",
    "Rectangle",
    "Sigmoid",
    "Stairs",
    "Surrogate",
    "Triangle",
    "Widths",
    "asked",
    "bit_planes",
    "bounded",
    "charge",
    "fire",
    "fire_scaled",
    "follow",
    "greatest_level",
    "held",
    "learns_bits",
    "lsq_gain",
    "once",
    "popcount",
    "processes",
    "repeats",
    "reset_hard",
    "reset_soft",
    "round_half",
    "round_ste",
    "rounded",
    "scale_gradient",
    "sign_pm1",
    "signs",
    "still",
    "unary_expand",
    "unhidden",
    "weight_bounds",
]
