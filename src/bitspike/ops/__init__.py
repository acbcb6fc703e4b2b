"""Operations: the reference and fast kernels, chosen at one point."""

from bitspike.ops.dispatch import Kernel, choose, explain, register, table, using
from bitspike.ops.lean import lean, saver
from bitspike.ops.norm_native import norm_scan_native
from bitspike.ops.norm_scan import NormParts, norm_scan_reference
from bitspike.ops.packing import PackedSpikes, pack_spikes, stored_bits, unpack_spikes
from bitspike.ops.scan import scan
from bitspike.ops.scan_native import scan_native
from bitspike.ops.scan_triton import scan_triton
from bitspike.ops.spec import MembraneState, ScanFacts, ScanSpec, spec_of

__all__ = [
    "Kernel",
    "MembraneState",
    "NormParts",
    "PackedSpikes",
    "ScanFacts",
    "ScanSpec",
    "choose",
    "explain",
    "lean",
    "norm_scan_native",
    "norm_scan_reference",
    "pack_spikes",
    "register",
    "saver",
    "scan",
    "scan_native",
    "scan_triton",
    "spec_of",
    "stored_bits",
    "table",
    "unpack_spikes",
    "using",
]
