"""Weight quantizers: latent weights become integers times a scale, with gradients that pass. One file each."""

from bitspike.quantizers.base import QUANTIZERS, Factor, Quantizer
from bitspike.quantizers.fixed import Fixed
from bitspike.quantizers.float import Float
from bitspike.quantizers.learned_bits import LearnedBits
from bitspike.quantizers.power_of_two import PowerOfTwo
from bitspike.quantizers.sign import Sign
from bitspike.quantizers.ternary import TernaryWeight
from bitspike.quantizers.uniform import Uniform

__all__ = [
    "QUANTIZERS",
    "Factor",
    "Fixed",
    "Float",
    "LearnedBits",
    "PowerOfTwo",
    "Quantizer",
    "Sign",
    "TernaryWeight",
    "Uniform",
]
