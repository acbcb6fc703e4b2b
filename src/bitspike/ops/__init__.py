"""Heavy operations, each with a plain reference and fast kernels beside it; one dispatch table chooses among them."""

from bitspike.ops.adaptive_native import adaptive_native
from bitspike.ops.convolve import ConvolveFacts, Levels, Place, convolve_reference
from bitspike.ops.convolve_int8 import convolve_int8
from bitspike.ops.dispatch import Kernel, choose, explain, register, table, using
from bitspike.ops.int8 import Int8, int8, integer_forward
from bitspike.ops.lean import lean, saver
from bitspike.ops.norm_native import norm_scan_native
from bitspike.ops.norm_scan import NormParts, norm_scan_reference
from bitspike.ops.packing import PackedSpikes, pack_spikes, stored_bits, unpack_spikes
from bitspike.ops.refined import refined_reference, squeeze_reference
from bitspike.ops.scan import scan
from bitspike.ops.scan_native import scan_native
from bitspike.ops.scan_triton import scan_triton
from bitspike.ops.spec import AdaptiveSpec, MembraneState, ScanFacts, ScanSpec, TimedState, spec_of
from bitspike.ops.squeeze_native import squeeze_native

__all__ = [
    "AdaptiveSpec",
    "ConvolveFacts",
    "Int8",
    "Kernel",
    "Levels",
    "MembraneState",
    "NormParts",
    "PackedSpikes",
    "Place",
    "ScanFacts",
    "ScanSpec",
    "TimedState",
    "adaptive_native",
    "choose",
    "convolve_int8",
    "convolve_reference",
    "explain",
    "int8",
    "integer_forward",
    "lean",
    "norm_scan_native",
    "norm_scan_reference",
    "pack_spikes",
    "refined_reference",
    "register",
    "saver",
    "scan",
    "scan_native",
    "scan_triton",
    "spec_of",
    "squeeze_native",
    "squeeze_reference",
    "stored_bits",
    "table",
    "unpack_spikes",
    "using",
]
