"""Random networks for fold → compile → program: plans of options, networks on a dyadic grid, and what they cover."""

from random_networks.plan import Plan, draw
from random_networks.tuned import random_network, rounded, tuned

__all__ = ["Plan", "draw", "random_network", "rounded", "tuned"]
