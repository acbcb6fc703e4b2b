"""NIR, the exchange format of spiking networks: written from a folded network, and read as one of bitspike."""

from bitspike.export.nir.reading import read_nir
from bitspike.export.nir.target import Nir

__all__ = ["Nir", "read_nir"]
