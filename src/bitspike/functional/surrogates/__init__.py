"""Surrogate gradients: what stands for the derivative of the staircase in training. One file each."""

from bitspike.functional.surrogates.atan import ATan
from bitspike.functional.surrogates.fast_sigmoid import FastSigmoid
from bitspike.functional.surrogates.rectangle import Rectangle
from bitspike.functional.surrogates.sigmoid import Sigmoid
from bitspike.functional.surrogates.triangle import Triangle

__all__ = ["ATan", "FastSigmoid", "Rectangle", "Sigmoid", "Triangle"]
